"""An exchange that asks an upstream: targets in turn, attempts, deadlines, the verdict of each.

The upstream connection calls back (`on_*`); these callbacks are synchronous and end by resolving the verdict that the
attempt awaits.
"""

import asyncio
import enum
import random
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from gateway.dataplane.balancing import order
from gateway.dataplane.exchange import ClientGone, Exchange
from gateway.dataplane.forwarding import retry_after_s
from gateway.dataplane.health import REFUSED_CREDENTIAL_S, TargetState
from gateway.dataplane.request import Headers
from gateway.dataplane.upstream import UpstreamConnection
from gateway.errors import (
    CredentialsRefused,
    LimitExceeded,
    NoHealthyTarget,
    SluicegateError,
    UpstreamFailed,
    UpstreamTimeout,
)
from gateway.policy.model import App, AppId, Credential, Dialect, Route, Target, TeamId
from gateway.policy.quota import Amounts
from gateway.policy.usage import Outcome

SAFE_TO_REPEAT: Final = frozenset((b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE", b"TRACE"))
"""Idempotent methods (RFC 9110 9.2.2)."""
AGAIN_DELAY_S: Final = 0.05
ANONYMOUS: Final = App(id=AppId(0), name="", team_id=TeamId(0), team="", routes=None)
"""Whoever calls an HTTP route that asks for no identity."""


class Fault(enum.Enum):
    CONNECT = enum.auto()
    STATUS = enum.auto()
    BROKEN = enum.auto()
    TIMEOUT = enum.auto()


@dataclass(slots=True)
class Failure:
    """How an attempt failed before the client had seen a byte of its answer."""

    fault: Fault
    reason: str
    sent: bool
    """Whether the upstream may have seen the request."""
    status: int | None = None
    headers: Headers = field(default_factory=list)
    body: bytes = b""


class ForwardingExchange(Exchange):
    """Base of model calls and HTTP routes. Subclasses say what is sent and how the answer is relayed."""

    route: Route
    """Set before the first attempt."""
    target: Target | None = None
    credential: Credential | None = None
    upstream: UpstreamConnection | None = None
    active = False
    """Bytes have passed since the sweep last looked: the idle deadline moves on."""
    total_deadline_s = float("inf")
    _candidates: Sequence[Target] = ()
    _attempts_left = 0
    _at = 0
    _last: Failure | None = None
    _refusal: LimitExceeded | None = None
    _state: TargetState | None = None
    """Of the target under way."""
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

    @abstractmethod
    def send_at_once(self, connection: UpstreamConnection, target: Target, credential: Credential | None) -> bool:
        """Write the whole request if it is at hand; False, with nothing written, if it has to be waited for."""

    @abstractmethod
    async def send(self, connection: UpstreamConnection, target: Target, credential: Credential | None) -> None:
        """Write the request to the upstream as it becomes available."""

    @abstractmethod
    def may_repeat(self, failure: Failure) -> bool:
        """Whether the request can and may be sent once more after this failure."""

    @abstractmethod
    def deliver(self, failure: Failure) -> None:
        """Pass an upstream's refusal on to the client as it is."""

    # -- attempts

    def plan_attempts(self, targets: Sequence[Target]) -> None:
        """Put the targets into the strategy's order; to be called once, with `route` known."""
        now = self.loop.time()
        self.total_deadline_s = now + self.route.timeouts.total_s
        self._candidates = order(self.route, targets, self.plane.health, now)
        self._attempts_left = 1 + self.route.retries

    def attempt_at_once(self) -> bool:
        """Make the first attempt without a task, where leases and a pooled connection are at hand."""
        plane = self.plane
        target = self._choose()
        if target is None:
            return False
        connection = plane.pool.take(plane.origin(target.provider))
        if connection is None:
            return False
        now = self.loop.time()
        credential = plane.health.credential(target.provider, now)
        limits = self.snapshot.limits_for(self.key, self.app or ANONYMOUS, self.route, target, credential)
        try:
            self.reservation = plane.book.try_reserve(limits, self.amounts(target), self.now_s)
            if self.reservation is None:
                plane.pool.give_back(connection)
                return False
            self._admitted(target, credential)
        except SluicegateError:
            plane.pool.give_back(connection)
            raise
        self._without_task = True
        self._begin(target, now)
        self._connect_to(connection)
        if not self.send_at_once(connection, target, credential):
            raise AssertionError("at_once() lets only requests through that are at hand")
        return True

    async def attempt_all(self) -> None:
        """Try targets until one answers or the route's retries are used up."""
        plane, health = self.plane, self.plane.health
        if self._last is not None:
            if self._died_idle:
                self._last = None
                self.row.attempts -= 1
            elif not self._digest(self._last):
                self._give_up(self._last)
                return
        while (target := self._choose()) is not None:
            if target is self.target and self._last is not None and self._last.status not in (401, 403):
                await asyncio.sleep(AGAIN_DELAY_S * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            credential = health.credential(target.provider, self.loop.time())
            limits = self.snapshot.limits_for(self.key, self.app or ANONYMOUS, self.route, target, credential)
            need = self.amounts(target)
            try:
                if self.reservation is None:
                    self.reservation = await plane.book.reserve(limits, need, self.now_s)
                else:
                    self.reservation = await plane.book.move(self.reservation, limits, need, self.now_s)
            except LimitExceeded as error:
                # A provider's own limit is full: another target may have room. A caller's limit refuses everywhere.
                self._refusal = error
                self._candidates = [one for one in self._candidates if one is not target]
                continue
            self._admitted(target, credential)
            self._check_gone()
            self._last = await self._attempt(target, credential)
            if self._last is None:
                return
            if not self._digest(self._last):
                break
        if self._last is not None:
            self._give_up(self._last)
        elif self._refusal is not None:
            raise self._refusal
        else:
            raise NoHealthyTarget(
                f"no target of route {self.route.name} is healthy",
                fix="try again shortly",
                retry_after_s=max(1.0, health.soonest_s(self.route.targets, self.loop.time())),
                targets_tried=self.row.attempts,
            )

    def _choose(self) -> Target | None:
        """The target of the next attempt: each in turn, one that cools only as a single trial."""
        candidates = self._candidates
        if self._attempts_left <= 0 or not candidates:
            return None
        health, now = self.plane.health, self.loop.time()
        for step in range(len(candidates)):
            target = candidates[(self._at + step) % len(candidates)]
            if health.of(target).available(now):
                self._at = (self._at + step) % len(candidates)
                return target
        return None

    def _admitted(self, target: Target, credential: Credential | None) -> None:
        """The reservation stands: the request may go to this target, and the spool knows it first."""
        self.target, self.credential = target, credential
        row = self.row
        row.target, row.provider, row.model = target.name, target.provider.name, target.model
        assert self.reservation is not None
        self.plane.spool.open(row, self.reservation.charges())

    def _begin(self, target: Target, now_s: float) -> None:
        self.row.attempts += 1
        self.row.upstream_status = None
        self._state = self.plane.health.of(target)
        self._state.begin(now_s)

    def _connect_to(self, connection: UpstreamConnection) -> None:
        self.upstream = self._connection = connection
        self._died_idle = False
        connection.begin(self, bodiless=self.request.method == b"HEAD")
        self.sent = True
        self.enter_phase("first byte", self.route.timeouts.first_byte_s)

    async def _attempt(self, target: Target, credential: Credential | None) -> Failure | None:
        """One attempt on one target; None = an answer went to the client."""
        plane, timeouts = self.plane, self.route.timeouts
        origin = plane.origin(target.provider)
        self._begin(target, self.loop.time())
        try:
            connection = plane.pool.take(origin)
            while True:
                if connection is None:
                    try:
                        connection = await plane.pool.connect(origin, timeouts.connect_s)
                    except TimeoutError:
                        return Failure(Fault.TIMEOUT, f"{target.name}: no connection in time", sent=False)
                    except OSError as error:
                        return Failure(Fault.CONNECT, f"{target.name}: cannot connect ({_reason(error)})", sent=False)
                    self._check_gone(connection)
                self._verdict = self.loop.create_future()
                self._connect_to(connection)
                if not self.send_at_once(connection, target, credential):
                    await self.send(connection, target, credential)
                failure = await self._verdict
                if failure is None or not self._died_idle:
                    return failure
                connection = None
        finally:
            self._attempt_ended(self._verdict is not None and self._verdict.done())

    def _attempt_ended(self, answered: bool) -> None:
        state, self._state = self._state, None
        if state is not None:
            state.end()
            if answered and self.answer.started:
                ttft_s = (self.first_byte_ns - self.request.arrived_ns) / 1e9 if self.first_byte_ns else None
                state.succeed(ttft_s)

    def _digest(self, failure: Failure) -> bool:
        """Learn from a failure; whether the next attempt is to be made."""
        target, credential, now = self.target, self.credential, self.loop.time()
        if target is None:
            return False
        health, state = self.plane.health, self.plane.health.of(target)
        wait_s = retry_after_s(failure.headers, self.now_s)
        again_here = False
        if failure.status in (401, 403, 429) and credential is not None:
            aside_s = REFUSED_CREDENTIAL_S if failure.status != 429 or wait_s is None else wait_s
            health.set_aside(target.provider, credential, now, aside_s)
            again_here = health.usable_credentials(target.provider, now) > 0
            if failure.status == 429 and not again_here:
                state.fail(now, wait_s)
        elif failure.status not in (401, 403):
            state.fail(now, wait_s)
        if not self.may_repeat(failure):
            return False
        if again_here:
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
        if last.status == 401 and self.target is not None and self.target.provider.credentials:
            raise CredentialsRefused(
                f"provider {self.target.provider.name} refused the gateway's credential",
                fix="the operator must renew it under Providers",
                **facts,
            )
        if last.status >= 500 and self.handler.dialect is not Dialect.HTTP:
            said = last.body[:300].decode("utf-8", "replace")
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
            self._attempt_ended(answered=failure is None)
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
            self._attempt_ended(answered=False)
            self.end_with(error)
        elif self._verdict is not None and not self._verdict.done():
            self._verdict.set_exception(error)

    # -- deadlines (looked at by the plane's sweep)

    def enter_phase(self, name: str, allowed_s: float) -> None:
        self.phase = name
        self.phase_deadline_s = self.loop.time() + allowed_s
        self.active = False

    def check_deadlines(self, now_s: float) -> None:
        if self.active and self.phase == "idle":
            self.active = False
            self.phase_deadline_s = now_s + self.route.timeouts.idle_s
        if now_s < self.total_deadline_s and (not self.phase_deadline_s or now_s < self.phase_deadline_s):
            return
        name = "total" if now_s >= self.total_deadline_s else self.phase
        self.phase_deadline_s = 0.0
        if self.upstream is not None:
            self._time_out(name)
        elif name == "request body":
            self.client.abort()

    def _time_out(self, name: str) -> None:
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.abort()
        target = self.target.name if self.target else "upstream"
        reason = f"{target}: the {name} timeout ran out"
        if self.answer.started:
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
            upstream, self.upstream = self.upstream, None
            upstream.abort()
            self.fail_attempt(ClientGone())

    def client_paused(self) -> None:
        """The client reads slower than the upstream sends: stop reading there until it has caught up."""
        if self.upstream is not None:
            self.upstream.transport.pause_reading()

    def client_resumed(self) -> None:
        self.active = True
        if self.upstream is not None:
            self.upstream.transport.resume_reading()

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

    @abstractmethod
    def on_head(self, status: int, headers: Headers) -> None: ...

    @abstractmethod
    def on_body(self, payload: bytes, framed: bytes | None) -> None: ...

    @abstractmethod
    def on_end(self) -> None: ...

    def on_broken(self, reason: str) -> None:
        self.upstream = None
        connection = self._connection
        if connection is not None and not connection.fresh and not connection.answered:
            self._died_idle = self.repeatable or self.request.method in SAFE_TO_REPEAT
        target = self.target.name if self.target else "upstream"
        if self.answer.started:
            self.row.outcome = Outcome.UPSTREAM_FAILED
            self.fail_attempt(UpstreamFailed(f"{target} {reason}", fix="send the request again"))
        else:
            self.settle_verdict(Failure(Fault.BROKEN, f"{target} {reason}", sent=True))

    def on_tunnel(self, rest: bytes) -> None:
        self.on_broken("switched protocols unasked")

    def on_writable(self) -> None:
        return


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
