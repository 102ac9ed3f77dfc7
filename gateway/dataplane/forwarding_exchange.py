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
from typing import TYPE_CHECKING, Final

from gateway.dataplane.balancing import order
from gateway.dataplane.exchange import ClientGone, Exchange
from gateway.dataplane.forwarding import retry_after_s
from gateway.dataplane.plane import Plane
from gateway.dataplane.request import Headers, Request
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

if TYPE_CHECKING:
    from gateway.dataplane.protocol import ClientConnection

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

    def __init__(self, plane: Plane, client: "ClientConnection", request: Request, dialect: Dialect) -> None:
        super().__init__(plane, client, request, dialect)
        self.route: Route | None = None
        self.target: Target | None = None
        self.upstream: UpstreamConnection | None = None
        self.active = False
        """Bytes have passed since the idle deadline was last looked at."""
        self.total_deadline_s = float("inf")
        self._verdict: asyncio.Future[Failure | None] | None = None

    # -- what subclasses decide

    @abstractmethod
    def amounts(self, target: Target) -> Amounts:
        """What is reserved for an attempt on this target."""

    @abstractmethod
    async def send(self, connection: UpstreamConnection, target: Target, credential: Credential | None) -> None:
        """Write the request to the upstream."""

    @abstractmethod
    def may_repeat(self, failure: Failure) -> bool:
        """Whether the request can and may be sent once more after this failure."""

    @abstractmethod
    def deliver(self, failure: Failure) -> None:
        """Pass an upstream's refusal on to the client as it is."""

    # -- attempts

    async def attempt_all(self, route: Route, targets: Sequence[Target]) -> None:
        """Try targets in the strategy's order until one answers or the route's retries are used up."""
        health = self.plane.health
        now = self.loop.time()
        self.total_deadline_s = now + route.timeouts.total_s
        candidates = order(route, targets, health, now)
        left = 1 + route.retries
        at = 0
        last: Failure | None = None
        last_target: Target | None = None
        refusal: LimitExceeded | None = None
        while left > 0 and candidates:
            target = candidates[at % len(candidates)]
            now = self.loop.time()
            if not health.available(target, now):
                candidates.remove(target)
                continue
            if target is last_target:
                await asyncio.sleep(AGAIN_DELAY_S * random.uniform(0.5, 1.5))  # noqa: S311 - jitter
            credential = health.credential(target.provider, now)
            try:
                await self._reserve(route, target, credential)
            except LimitExceeded as error:
                # A provider's own limit is full: another target may have room. A caller's limit refuses everywhere.
                refusal = error
                candidates.remove(target)
                continue
            self._check_gone()
            last, last_target = await self._attempt(route, target, credential), target
            if last is None:
                return
            if not self.may_repeat(last):
                break
            others = self._note_failure(target, credential, last)
            if others:
                continue  # the same provider with its next credential; bounded, each refusal sets one aside
            left -= 1
            at = (candidates.index(target) + 1) if target in candidates else at
        if last is None:
            if refusal is not None:
                raise refusal
            raise NoHealthyTarget(
                f"no target of route {route.name} is healthy",
                fix="try again shortly",
                retry_after_s=max(1.0, health.soonest_s(targets, self.loop.time())),
                targets_tried=self.row.attempts,
            )
        self._give_up(route, last)

    async def _reserve(self, route: Route, target: Target, credential: Credential | None) -> None:
        app = self.app or ANONYMOUS
        book, row = self.plane.book, self.row
        limits = self.snapshot.limits_for(self.key, app, route, target, credential)
        need = self.amounts(target)
        if self.reservation is None:
            self.reservation = book.try_reserve(limits, need, self.now_s) or await book.reserve(
                limits, need, self.now_s
            )
        else:
            self.reservation = await book.move(self.reservation, limits, need, self.now_s)
        self.target = target
        row.target, row.provider, row.model = target.name, target.provider.name, target.model
        self.plane.spool.open(row, self.reservation.charges())

    def _note_failure(self, target: Target, credential: Credential | None, failure: Failure) -> bool:
        """Let health know; True where the same provider has another credential to try."""
        health, now = self.plane.health, self.loop.time()
        if failure.status in (401, 403, 429) and credential is not None:
            wait = retry_after_s(failure.headers, self.now_s) if failure.status == 429 else None
            health.set_aside(target.provider, credential, now, 60.0 if wait is None else wait)
            if health.usable_credentials(target.provider, now) > 0:
                return True
            if failure.status == 429:
                health.failed(target, now, wait)
            return False
        health.failed(target, now, retry_after_s(failure.headers, self.now_s))
        return False

    async def _attempt(self, route: Route, target: Target, credential: Credential | None) -> Failure | None:
        """One attempt on one target; None = an answer went to the client."""
        plane, row = self.plane, self.row
        row.attempts += 1
        row.upstream_status = None
        origin = plane.origin(target.provider)
        plane.health.started(target, self.loop.time())
        connection = plane.pool.take(origin)
        try:
            while True:
                if connection is None:
                    try:
                        connection = await plane.pool.connect(origin, route.timeouts.connect_s)
                    except TimeoutError:
                        return Failure(Fault.TIMEOUT, f"{target.name}: no connection in time", sent=False)
                    except OSError as error:
                        return Failure(Fault.CONNECT, f"{target.name}: cannot connect ({_reason(error)})", sent=False)
                    self._check_gone(connection)
                failure = await self._converse(route, target, credential, connection)
                died_idle = failure is not None and failure.fault is Fault.BROKEN and not connection.fresh
                if died_idle and not connection.answered and self.request.method in SAFE_TO_REPEAT:
                    connection = None  # RFC 9112 9.3.1: it died in the pool, so a fresh connection costs no retry
                    continue
                return failure
        finally:
            plane.health.ended(target)

    async def _converse(
        self, route: Route, target: Target, credential: Credential | None, connection: UpstreamConnection
    ) -> Failure | None:
        self._verdict = self.loop.create_future()
        self.upstream = connection
        connection.begin(self, bodiless=self.request.method == b"HEAD")
        self.sent = True
        self.enter_phase("first byte", route.timeouts.first_byte_s)
        await self.send(connection, target, credential)
        failure = await self._verdict
        if self.upstream is connection:
            self.upstream = None
        if failure is None:
            ttft_s = (self.first_byte_ns - self.request.arrived_ns) / 1e9 if self.first_byte_ns else None
            self.plane.health.succeeded(target, ttft_s)
        return failure

    def _give_up(self, route: Route, last: Failure) -> None:
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
                f"the upstream of route {route.name} answered {last.status}, {times}",
                fix="try again shortly",
                upstream_error=said,
                **facts,
            )
        self.row.outcome = Outcome.UPSTREAM_FAILED
        self.deliver(last)

    def settle_verdict(self, failure: Failure | None) -> None:
        if self._verdict is not None and not self._verdict.done():
            self._verdict.set_result(failure)

    def fail_attempt(self, error: SluicegateError) -> None:
        """End the task with this error from within a callback, e.g. when an answer breaks off in the middle."""
        if self._verdict is not None and not self._verdict.done():
            self._verdict.set_exception(error)

    # -- deadlines (looked at by the plane's sweep)

    def enter_phase(self, name: str, allowed_s: float) -> None:
        super().enter_phase(name, allowed_s)
        self.active = False

    def check_deadlines(self, now_s: float) -> None:
        if now_s < self.phase_deadline_s and now_s < self.total_deadline_s:
            return
        if self.phase_deadline_s == 0.0 and now_s < self.total_deadline_s:
            return
        if self.active and now_s < self.total_deadline_s and self.route is not None:
            self.enter_phase("idle", self.route.timeouts.idle_s)
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
        if self.upstream is not None and not (self.route and self.route.read_to_end and self.answer.started):
            upstream, self.upstream = self.upstream, None
            upstream.abort()
            if self._verdict is not None and not self._verdict.done():
                self._verdict.set_exception(ClientGone())

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
    def on_body(self, payload: bytes) -> None: ...

    @abstractmethod
    def on_end(self) -> None: ...

    def on_broken(self, reason: str) -> None:
        self.upstream = None
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
