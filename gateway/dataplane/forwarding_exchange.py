"""An exchange that asks an upstream: targets in turn, attempts, deadlines, the verdict of each.

The upstream connection calls back (`on_*`); these callbacks are synchronous and end by resolving the verdict that the
attempt awaits.
"""

import asyncio
import random
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from gateway.dataplane.balancing import order
from gateway.dataplane.exchange import ClientGone, Exchange
from gateway.dataplane.failure import CODES, Failure, Fault, reason_of
from gateway.dataplane.forwarding import retry_after_s, without_secret
from gateway.dataplane.health import LIMITED_CREDENTIAL_S, REFUSED_CREDENTIAL_S
from gateway.dataplane.refusals import MOVES_ON, Refusals
from gateway.dataplane.target_plan import CallPlan, TargetPlan
from gateway.dataplane.trail import NONE_YET, Trail
from gateway.dataplane.upstream import UpstreamConnection
from gateway.errors import (
    CredentialsRefused,
    NoHealthyTarget,
    SluicegateError,
    UpstreamFailed,
    UpstreamTimeout,
)
from gateway.policy.attempts import attempts_text
from gateway.policy.model import App, AppId, Dialect, Route, Target, TeamId
from gateway.policy.quota import Amounts
from gateway.policy.usage import Outcome
from gateway.wire.answer_head import AnswerHead

if TYPE_CHECKING:
    from gateway.dataplane.lease import Reservation

SAFE_TO_REPEAT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))
"""Idempotent methods (RFC 9110 9.2.2)."""
AGAIN_DELAY_S: Final = 0.05
"""Before the same target is tried again; doubled each time, drawn from half to one and a half of it."""
LONGEST_AGAIN_S: Final = 1.0
"""A target that asks for a longer pause is not tried again by the same request."""
ANONYMOUS: Final = App(id=AppId(0), name="", team_id=TeamId(0), team="", routes=None)
"""Whoever calls an HTTP route that asks for no identity."""


class ForwardingExchange(Exchange):
    """Base of model calls and HTTP routes. Subclasses say what is sent and how the answer is relayed."""

    __slots__ = ("plan", "route")

    route: Route
    """Set before the first attempt."""
    plan: CallPlan
    """Set with `route`."""
    chosen: TargetPlan | None = None
    """Target and credential of the attempt under way, or of the last one."""
    upstream: UpstreamConnection | None = None
    active = False
    """Bytes have passed since the sweep last looked: the idle deadline moves on."""
    total_deadline_s = float("inf")
    _candidates: Sequence[Target] = ()
    _attempts_left = 0
    _at = 0
    _last: Failure | None = None
    _tried: tuple[str, ...] = ()
    """Names of the targets of the failed attempts."""
    _asked: Mapping[str, float] = MappingProxyType({})
    """Target → event-loop time until which it has asked this request not to come again."""
    _refusals: Refusals | None = None
    """Limits that refused an attempt, once there are any."""
    uploading = False
    """The request's body is on its way: a connection that is answered meanwhile cannot be used again."""
    _client_slow = False
    """The client reads slower than the upstream sends, and reading there is paused."""
    _other_credential = False
    """The last failure was one credential's alone: the provider has another that is not set aside."""
    _trial = False
    """The attempt under way tries a target that does not count as well (`health`)."""
    _attempt_began_ns = 0
    """0 for the first attempt, if it began at once: it began with the request."""
    spoilt = False
    """The answer that goes to the client shows that the target is not well: it refuses us, is a 5xx, or breaks off."""
    spoilt_by: Failure | None = None
    """The refusal, where it is one."""
    _verdict: "asyncio.Future[Failure | None] | None" = None
    _connection: UpstreamConnection | None = None
    """Of the attempt under way, or the last one."""
    _died_idle = False
    """The last attempt found its connection dead before a byte of an answer: RFC 9112 9.3.1 lets a request that may be
    repeated go out again on a fresh one; that costs no retry."""
    repeatable = False
    """Whether the request changes nothing, whatever its method."""
    _without_task = False
    """The attempt under way was begun at once: its verdict ends the exchange, or starts the task."""

    # -- what subclasses decide

    @abstractmethod
    def amounts(self, target: Target) -> Amounts:
        """What is reserved for an attempt on this target."""

    def cost_bound(self, target: Target) -> int | None:
        """The most that the request may cost there, in micro-USD; None = not known."""
        return self.amounts(target).cost_microusd

    @abstractmethod
    def send_at_once(self, connection: UpstreamConnection, plan: TargetPlan) -> bool:
        """Write the whole request if it is at hand; False, with nothing written, if it has to be waited for."""

    @abstractmethod
    async def send(self, connection: UpstreamConnection, plan: TargetPlan) -> None:
        """Write the request to the upstream as it becomes available."""

    @abstractmethod
    def may_repeat(self, failure: Failure) -> bool:
        """Whether the request can and may be sent once more after this failure."""

    @abstractmethod
    def deliver(self, failure: Failure) -> None:
        """Pass an upstream's refusal on to the client as it is."""

    # -- attempts

    def plan_attempts(self, plan: CallPlan, now_s: float, candidates: Sequence[Target] | None = None) -> None:
        """Put the route's targets into the strategy's order (`candidates`: as they stand in it); to be called once."""
        self.plan = plan
        route = self.route = plan.route
        self.total_deadline_s = now_s + route.timeouts.total_s
        targets = plan.targets
        if candidates is None:
            candidates = (
                targets if len(targets) == 1 else order(route, targets, self.plane.health, now_s, self.cost_bound)
            )
        self._candidates = candidates
        self._attempts_left = 1 + route.retries
        if route.capture is not None:
            self.begin_capture(route)

    def attempt_at_once(self, now_s: float) -> bool:
        """Make the first attempt without a task, where leases and a pooled connection are at hand."""
        chosen = self._choose(now_s)
        if chosen is None:
            return False
        connection = chosen.pool.take()
        if connection is None:
            return False
        try:
            need = self.amounts(chosen.target)
            reservation = self.plane.book.try_reserve(chosen.limits, need, self.now_s)
            if reservation is None:
                chosen.pool.give_back(connection)
                return False
            self._admitted(chosen, reservation)
        except MOVES_ON:
            chosen.pool.give_back(connection)
            return False  # another target or credential may have room: `attempt_all` looks
        except SluicegateError:
            chosen.pool.give_back(connection)
            raise
        self._without_task = True
        self.admitted_ns = time.perf_counter_ns()
        self._trial = chosen.state.begin(now_s)
        self._converse(connection, chosen, now_s)
        if not self.send_at_once(connection, chosen):
            raise AssertionError("at_once() lets only requests through that are at hand")
        return True

    async def attempt_all(self) -> None:
        """Try targets until one answers or the route's retries are used up."""
        book = self.plane.book
        if self._last is not None:
            if self._died_idle:
                self._last = None
                self.row.attempts -= 1
            elif not self._digest(self._last):
                self._give_up(self._last)
                return
        while (choice := self._choose(self.loop.time())) is not None:
            if self._last is not None and not await self._may_retry(choice):
                break
            need = self.amounts(choice.target)
            try:
                if self.reservation is None:
                    reservation = await book.reserve(choice.limits, need, self.now_s)
                else:
                    reservation = await book.move(self.reservation, choice.limits, need, self.now_s)
            except MOVES_ON as error:
                if self._refusals is None:
                    self._refusals = Refusals()
                self._refusals.add(choice, need, error)
                continue
            self._admitted(choice, reservation)
            self._check_gone()
            self._last = await self._attempt(choice)
            if self._last is None:
                return
            if not self._digest(self._last):
                break
        if self._last is not None:
            self._give_up(self._last)
        elif self._refusals is not None:
            raise self._refusals.error
        else:
            raise NoHealthyTarget(
                f"no target of route {self.route.name} is healthy",
                fix="try again shortly",
                retry_after_s=max(1.0, self.plane.health.soonest_s(self.route.targets, self.loop.time())),
                targets_tried=self.row.attempts,
            )

    def _choose(self, now_s: float) -> TargetPlan | None:
        """Target and credential of the next attempt: each target in turn, one that cools only as a single trial."""
        candidates = self._candidates
        if self._attempts_left <= 0:
            return None
        if len(candidates) == 1 and self._last is None and self._refusals is None:
            target = candidates[0]
            choice = self.plan.of(target, self.plan.credential(target, now_s))
            return choice if choice.state.available(now_s) else None
        for step in range(len(candidates)):
            target = candidates[(self._at + step) % len(candidates)]
            if self._asked and self._asked.get(target.name, 0.0) - now_s > LONGEST_AGAIN_S:
                continue
            for_target = self._choose_credential(target, now_s)
            if for_target is not None and for_target.state.available(now_s):
                self._at = (self._at + step) % len(candidates)
                return for_target
        return None

    def _choose_credential(self, target: Target, now_s: float) -> TargetPlan | None:
        """The target with the next credential in turn that no limit has refused to this request."""
        plan, health = self.plan, self.plane.health
        if self._refusals is None:
            return plan.of(target, plan.credential(target, now_s))
        need = self.amounts(target)
        credentials = () if plan.own_lines is not None else health.credentials(target.provider, now_s)
        for credential in credentials or (None,):
            choice = plan.of(target, credential)
            if not self._refusals.cover(choice, need):
                return choice
        return None

    async def _may_retry(self, choice: TargetPlan) -> bool:
        """Whether the route can afford one more attempt on this target, after the pause that it is due."""
        name, now_s = choice.target.name, self.loop.time()
        again = self._tried.count(name)
        if again or choice.state.failures:
            attempts = sum(self.plane.health.of(target).begun for target in self.route.targets)
            if not self.plane.health.route(self.route.name).budget.take(now_s, attempts):
                return False
        if not again:
            return True
        pause_s = min(AGAIN_DELAY_S * 2 ** (again - 1), LONGEST_AGAIN_S) * random.uniform(0.5, 1.5)  # noqa: S311
        pause_s = max(pause_s, self._asked.get(name, 0.0) - now_s)
        if now_s + pause_s >= self.total_deadline_s:
            return False
        await asyncio.sleep(pause_s)
        self._check_gone()
        return True

    def _admitted(self, chosen: TargetPlan, reservation: "Reservation") -> None:
        """The reservation stands: the request may go to this target, and the spool knows it first."""
        self.chosen, self.reservation = chosen, reservation
        row = self.row
        row.__dict__.update(chosen.row_values)
        if chosen.row_sample is None and not row.attempts:
            chosen.row_sample = dict(row.__dict__)
        self.plane.spool.open(row, reservation.charges(), reservation.need)

    def _converse(self, connection: UpstreamConnection, choice: TargetPlan, now_s: float) -> None:
        """The attempt has its connection."""
        self.plane.tags.mark(
            choice.series, self.client.tag, connection.tag, connection.fresh and choice.pool.origin.tls
        )
        self.row.attempts += 1
        self.upstream = self._connection = connection
        self._died_idle = False
        connection.begin(self, bodiless=self.answer.head_only)
        self.sent = True
        self.phase = "first byte"
        self.phase_deadline_s = now_s + self.route.timeouts.first_byte_s

    async def _attempt(self, choice: TargetPlan) -> Failure | None:
        """One attempt on one target; None = an answer went to the client."""
        self.row.upstream_status = None
        self.first_byte_ns = 0
        self._attempt_began_ns = time.perf_counter_ns()
        self.admitted_ns = self.admitted_ns or self._attempt_began_ns
        if self.trail is not None:
            self.trail.connect_ns = 0
        self._trial = choice.state.begin(self.loop.time())
        failure: Failure | None = None
        try:
            connection = None if self._died_idle else choice.pool.take()  # one dead connection is enough
            self._died_idle = False
            while True:
                if connection is None:
                    opened = await self._connect(choice)
                    if isinstance(opened, Failure):
                        self.row.attempts += 1
                        failure = opened
                        return failure
                    connection = opened
                self._verdict = self.loop.create_future()
                self._converse(connection, choice, self.loop.time())
                if not self.send_at_once(connection, choice):
                    self.enter_phase("upload", self.route.timeouts.idle_s)
                    self.uploading = True
                    await self.send(connection, choice)
                    self.uploading = False
                    if self.phase == "upload" and self.upstream is connection:
                        self.enter_phase("first byte", self.route.timeouts.first_byte_s)
                failure = await self._verdict
                if failure is None or not self._died_idle:
                    return failure
                self.row.attempts -= 1
                self._died_idle = False
                connection = None
        finally:
            self._attempt_ended(choice, failure)

    async def _connect(self, choice: TargetPlan) -> UpstreamConnection | Failure:
        name = choice.target.name
        left_s = self.total_deadline_s - self.loop.time()
        trail = self.trail = self.trail or Trail()
        trail.connect_ns = NONE_YET
        began_ns = time.perf_counter_ns()
        try:
            connection = await choice.pool.connect(min(self.route.timeouts.connect_s, left_s), choice.series)
        except TimeoutError:
            if self.loop.time() >= self.total_deadline_s:
                self.row.attempts += 1
                raise UpstreamTimeout(
                    f"{name}: the total timeout ran out", fix="raise the route's total timeout"
                ) from None
            return Failure(Fault.TIMEOUT, f"{name}: no connection in time", sent=False)
        except OSError as error:
            return Failure(Fault.CONNECT, f"{name}: cannot connect ({reason_of(error)})", sent=False)
        trail.connect_ns = time.perf_counter_ns() - began_ns
        self._check_gone(connection)
        return connection

    def attempt_answered(self) -> None:
        """The first byte goes to the client: a trial has shown what it was for, however long the answer lasts."""
        if self._trial and self.chosen is not None:
            self._trial = False
            self.chosen.state.recover()

    def _attempt_ended(self, chosen: TargetPlan, failure: Failure | None) -> None:
        """Learn from it, before anybody else is tried."""
        first, state, trial = self.first_byte_ns, chosen.state, self._trial
        began_ns = self._attempt_began_ns or self.request.arrived_ns
        ttft_s = (first - began_ns) / 1e9 if first else None
        spoilt = self.spoilt
        state.end(answered=self.answer.started and not spoilt, ttft_s=ttft_s, trial=trial)
        if spoilt and self.spoilt_by is not None:
            self._learn(chosen, self.spoilt_by)
        elif spoilt:
            state.fail(self.loop.time(), trial=trial)
        elif failure is not None and not self._died_idle:
            self._learn(chosen, failure)
            trail = self.trail = self.trail or Trail()
            self._tell_attempt(trail, time.perf_counter_ns(), failure.status, CODES[failure.fault])

    def _tell_attempt(self, trail: Trail, ended_ns: int, status: int | None, error_code: str | None) -> None:
        began_ns = self._attempt_began_ns or self.admitted_ns
        trail.add(self.row, self.request.arrived_ns, began_ns, self.first_byte_ns, ended_ns, status, error_code)

    def note_phases(self, now_ns: int) -> None:
        row, trail = self.row, self.trail
        if trail is None:
            row.connect_ms = 0.0
            return
        row.connect_ms = trail.connect_ms
        if trail.attempts or trail.connect_ms is None:
            gone = "client_gone" if row.outcome == Outcome.CLIENT_GONE else None
            self._tell_attempt(trail, now_ns, row.upstream_status, gone or row.error_code)
        if trail.attempts:
            row.attempt_log = attempts_text(trail.attempts)

    def _learn(self, chosen: TargetPlan, failure: Failure) -> None:
        now_s, provider, credential = self.loop.time(), chosen.target.provider, chosen.credential
        health, name, status = self.plane.health, chosen.target.name, failure.status
        self._tried = (*self._tried, name)
        wait_s = retry_after_s(failure.headers, self.now_s) if failure.headers else None
        self._other_credential = False
        if status in (401, 403, 429) and credential is not None:
            unsaid_s = LIMITED_CREDENTIAL_S if status == 429 else REFUSED_CREDENTIAL_S
            health.set_aside(provider, credential, now_s, unsaid_s if status != 429 or wait_s is None else wait_s)
            self._other_credential = health.usable_credentials(provider, now_s) > 0
            if self._other_credential:
                self._tried = self._tried[:-1]  # the next credential needs no pause, and is no burden to the target
        if status not in (401, 403) and not self._other_credential:
            chosen.state.fail(now_s, wait_s, trial=self._trial)
            if wait_s is not None:
                self._asked = {**self._asked, name: now_s + wait_s}

    def _digest(self, failure: Failure) -> bool:
        """Whether the next attempt is to be made."""
        if self.chosen is None or not self.may_repeat(failure):
            return False
        if failure.status in (401, 403) and self.plan.own_lines is not None:
            return False  # it is the caller's own credential, and no other target would take it
        if self._other_credential:
            return True  # the same provider with its next credential; bounded: each refusal sets one aside
        self._attempts_left -= 1
        self._at += 1
        return True

    def _give_up(self, last: Failure) -> None:
        """All attempts failed: the last failure in the words of the contract ("Routing")."""
        tried = self.row.attempts
        times = f"after {tried} attempts" if tried > 1 else "on the only attempt"
        facts = {"targets_tried": tried, "upstream_status": last.status}
        if last.fault is Fault.TIMEOUT:
            raise UpstreamTimeout(f"{last.reason}, {times}", fix="try again, or raise the route's timeout", **facts)
        if last.fault is not Fault.STATUS or last.status is None:
            raise UpstreamFailed(f"{last.reason}, {times}", fix="try again shortly", **facts)
        with_model = self.handler.dialect is not Dialect.HTTP  # HTTP routes may pass the caller's own Authorization on
        if last.status in (401, 403) and self.plan.own_lines is not None:
            self.row.outcome = Outcome.UPSTREAM_FAILED
            self.deliver(last)
            return
        if last.status == 401 and self.chosen is not None and (with_model or self.chosen.credential is not None):
            had_one = self.chosen.credential is not None
            raise CredentialsRefused(
                f"provider {self.chosen.target.provider.name} refused the gateway's credential"
                if had_one
                else f"provider {self.chosen.target.provider.name} asks for a credential, and has none here",
                fix=f"the operator must {'renew' if had_one else 'add'} it under Providers",
                **facts,
            )
        if last.status < 400 and with_model:
            # Passed on, a caller's SDK would follow it, with the key of ours that no upstream may see.
            raise UpstreamFailed(
                f"provider {self.chosen.target.provider.name if self.chosen else ''} redirects ({last.status})",
                fix="the operator must set the provider's base_url to the address it is redirected to",
                **facts,
            )
        if last.status >= 500 and with_model:
            secret = self.chosen.credential.secret if self.chosen and self.chosen.credential else None
            said = without_secret(last.body, secret)[:300].decode("utf-8", "replace")
            raise UpstreamFailed(
                f"the upstream of route {self.route.name} answered {last.status}, {times}",
                fix="try again shortly",
                upstream_error=said,
                **facts,
            )
        self.row.outcome = Outcome.UPSTREAM_FAILED
        self.deliver(last)

    def settle_verdict(self, failure: Failure | None) -> None:
        """The attempt under way has ended: with an answer (None) or a failure."""
        if self._without_task:
            self._without_task = False
            if self.chosen is not None:
                self._attempt_ended(self.chosen, failure)
            if failure is None:
                self.finish()
            else:
                self._last = failure
                self.spawn()
        elif self._verdict is not None and not self._verdict.done():
            self._verdict.set_result(failure)

    def fail_attempt(self, error: Exception) -> None:
        """End the exchange from within a callback, e.g. when an answer breaks off in the middle."""
        if self._without_task:
            self._without_task = False
            if self.chosen is not None:
                self._attempt_ended(self.chosen, None)
            self.end_with(error)
        elif self._verdict is not None and not self._verdict.done():
            self._verdict.set_exception(error)

    def finish(self) -> None:
        # Errors kept here know by their tracebacks who raised them: us.
        self._refusals = self._verdict = None
        super().finish()

    # -- deadlines (looked at by the plane's sweep)

    def enter_phase(self, name: str, allowed_s: float) -> None:
        self.phase = name
        self.phase_deadline_s = self.loop.time() + allowed_s
        self.active = False

    def check_deadlines(self, now_s: float) -> None:
        upstream = self.upstream
        if upstream is not None and upstream.stirred:
            upstream.stirred, self.active = False, True
        if self.active and self.phase in ("idle", "upload"):
            self.active = False
            self.phase_deadline_s = now_s + self.route.timeouts.idle_s
        if now_s < self.total_deadline_s and (not self.phase_deadline_s or now_s < self.phase_deadline_s):
            return
        name = "total" if now_s >= self.total_deadline_s else self.phase
        self.phase_deadline_s = 0.0
        if upstream is not None:
            self._time_out(name)

    def _time_out(self, name: str) -> None:
        if name == "upload" and self.upstream is not None and not self.upstream.write_paused:
            self.client.abort()  # it sends its body too slowly: nobody is left to be told
            return
        self.drop_upstream()
        target = self.row.target or "upstream"
        reason = f"{target}: the {name} timeout ran out"
        if self.answer.started:
            # A tunnel may be quiet and an answer long: neither says that the target is not well.
            self.spoilt = name == "idle" and self.row.status != 101 and not self._client_slow
            self.fail_attempt(UpstreamTimeout(reason, fix="try again, or raise the route's timeout"))
        else:
            if name == "total":
                self.total_deadline_s = float("inf")
                self.fail_attempt(UpstreamTimeout(reason, fix="raise the route's total timeout"))
                return
            self.settle_verdict(Failure(Fault.TIMEOUT, reason, sent=True))

    # -- the client's side

    def client_gone(self) -> None:
        """The client's connection ended: cancel the upstream at once, or read its answer to the end (and pay it)."""
        super().client_gone()
        if self.upstream is not None and not (self.route.read_to_end and self.answer.started):
            self.drop_upstream()
            self.fail_attempt(ClientGone())

    def client_paused(self) -> None:
        """The client reads slower than the upstream sends: stop reading there until it has caught up."""
        self._client_slow = True
        if self.upstream is not None:
            self.upstream.pause_reading()

    def client_resumed(self) -> None:
        self.active = True
        self._client_slow = False
        if self.upstream is not None:
            self.upstream.resume_reading()

    def _check_gone(self, connection: UpstreamConnection | None = None) -> None:
        if self.gone:
            if connection is not None:
                connection.abort()
            raise ClientGone

    # -- the upstream's side (ResponseSink)

    def drop_upstream(self) -> None:
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.abort()
            self.on_writable()  # an upload that waits for room ends

    def on_whole(self, head: AnswerHead, body: bytes) -> None:
        self.on_head(head)
        if body and self.upstream is not None:
            self.on_body(body, None)
        if self.upstream is not None:
            self.on_end()

    def on_interim(self, head: AnswerHead) -> None:
        """Models have nothing to say before they answer."""
        return

    @abstractmethod
    def on_head(self, head: AnswerHead) -> None: ...

    @abstractmethod
    def on_body(self, payload: bytes, framed: bytes | None) -> None: ...

    @abstractmethod
    def on_end(self) -> None: ...

    def on_broken(self, reason: str) -> None:
        self.upstream = None
        self.on_writable()
        connection = self._connection
        if connection is not None and not connection.fresh and not connection.answered:
            self._died_idle = self.repeatable or self.request.method in SAFE_TO_REPEAT
        target = self.row.target or "upstream"
        if self.answer.started:
            self.spoilt = True
            self.row.outcome = Outcome.UPSTREAM_FAILED
            self.fail_attempt(UpstreamFailed(f"{target} {reason}", fix="send the request again"))
        else:
            self.settle_verdict(Failure(Fault.BROKEN, f"{target} {reason}", sent=True))

    def on_tunnel(self, rest: bytes) -> None:
        self.drop_upstream()  # nothing that follows may reach the client
        self.on_broken("switched protocols unasked")

    def on_writable(self) -> None:
        return
