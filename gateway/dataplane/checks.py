"""Active health checks of providers: one worker of the node asks, all of them obey (decision 0009).

The keeper appoints the worker, hears the results, and tells every worker who is down. So a provider is asked once an
interval, however many workers there are; while the keeper is away the appointed one goes on for itself.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gateway.dataplane.upstream import UpstreamConnection
from gateway.dialects.registry import HANDLERS
from gateway.policy.model import HealthCheck, Provider
from gateway.wire.answer_head import AnswerHead

if TYPE_CHECKING:
    from gateway.dataplane.plane import Plane

TICK_S: Final = 0.1
SPREAD: Final = 0.1
"""Intervals differ by so much, lest the checks of all nodes come at once."""


@dataclass(slots=True)
class Result:
    """What one check has found. `reason` is empty where all is well."""

    status: int | None
    reason: str
    latency_ms: float


class _Watched:
    """One provider and what its checks have shown."""

    __slots__ = ("at_s", "bad", "busy", "good", "healthy", "last", "last_at_s", "provider", "since_s")

    def __init__(self, provider: Provider, *, healthy: bool) -> None:
        self.provider = provider
        self.healthy = healthy
        self.good = self.bad = 0
        """In a row."""
        self.at_s = 0.0
        """Event-loop time of the next check."""
        self.busy = False
        self.since_s = time.time()
        self.last: Result | None = None
        self.last_at_s: float | None = None

    def take(self, result: Result, check: HealthCheck) -> None:
        self.last, self.last_at_s = result, time.time()
        if result.reason:
            self.good, self.bad = 0, self.bad + 1
            changed = self.healthy and self.bad >= check.unhealthy_after
        else:
            self.good, self.bad = self.good + 1, 0
            changed = not self.healthy and self.good >= check.healthy_after
        if changed:
            self.healthy, self.since_s = not self.healthy, self.last_at_s

    def told(self) -> dict[str, Any]:
        last = self.last
        return {
            "provider": self.provider.name,
            "healthy": self.healthy,
            "since": self.since_s,
            "checked_at": self.last_at_s,
            "status": last.status if last else None,
            "latency_ms": last.latency_ms if last else None,
            "reason": last.reason if last else "",
        }


class Checks:
    """Of one worker; idle until it is appointed."""

    def __init__(self, plane: "Plane", send: Callable[[dict[str, Any]], None]) -> None:
        """`send`: a message to the keeper."""
        self._plane = plane
        self._send = send
        self._appointed = False
        self._watched: dict[str, _Watched] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = False

    def appoint(self, *, on: bool) -> None:
        """The keeper says who checks."""
        self._appointed = on
        self._news = on
        if not on:
            self._watched.clear()

    def obey(self, down: list[str]) -> None:
        """The keeper says who is down."""
        self._plane.health.set_down(down)

    async def run(self) -> None:
        """For ever."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                await asyncio.sleep(TICK_S)
                if self._appointed:
                    self._begin_due(loop)
                    self._tell()
        finally:
            for task in self._tasks:
                task.cancel()

    def _begin_due(self, loop: asyncio.AbstractEventLoop) -> None:
        now_s = loop.time()
        wanted = {name: one for name, one in self._plane.snapshot.providers.items() if one.check is not None}
        for name in self._watched.keys() - wanted.keys():
            del self._watched[name]
            self._news = True
        for name, provider in wanted.items():
            watched = self._watched.get(name)
            if watched is None:
                watched = self._watched[name] = _Watched(provider, healthy=name not in self._plane.health.down)
                self._news = True
            watched.provider = provider
            if now_s >= watched.at_s and not watched.busy and provider.check is not None:
                spread = random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 - jitter
                watched.at_s = now_s + provider.check.interval_s * spread
                watched.busy = True
                task = loop.create_task(self._check(watched, provider.check))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _check(self, watched: _Watched, check: HealthCheck) -> None:
        try:
            watched.take(await ask(self._plane, watched.provider, check), check)
            self._news = True
        finally:
            watched.busy = False

    def _tell(self) -> None:
        if self._news:
            self._news = False
            self._send({"type": "checks", "providers": [one.told() for one in self._watched.values()]})
            self.obey([name for name, one in self._watched.items() if not one.healthy])


async def ask(plane: "Plane", provider: Provider, check: HealthCheck) -> Result:
    """One check, on a connection of its own and with a credential of the provider's."""
    loop = asyncio.get_running_loop()
    begun_s = loop.time()

    def result(reason: str, status: int | None = None) -> Result:
        return Result(status, reason, round((loop.time() - begun_s) * 1000, 3))

    answer = _Answer(loop.create_future())
    connection: UpstreamConnection | None = None
    try:
        async with asyncio.timeout(check.timeout_s):
            pool = plane.pool_of(provider)
            connection = await pool.connect(check.timeout_s)
            connection.begin(answer)
            connection.write(_request(plane, provider, check))
            status = await answer.status
    except TimeoutError:
        return result(f"no answer within {check.timeout_s:g} s")
    except OSError as error:
        return result(error.strerror or str(error))
    finally:
        if connection is not None:
            connection.abort()
    return result("" if 200 <= status < 400 else f"answered {status}", status)


def _request(plane: "Plane", provider: Provider, check: HealthCheck) -> bytes:
    pool = plane.pool_of(provider)
    lines = [
        b"GET %b%b HTTP/1.1\r\nhost: %b\r\n%b" % (pool.absolute, check.path.encode(), pool.origin.authority, pool.lines)
    ]
    credential = plane.health.credential(provider, asyncio.get_running_loop().time())
    if credential is not None:
        lines += [
            b"%b: %b\r\n" % pair for pair in HANDLERS[provider.dialect].credential_headers(credential.secret)
        ]  # fmt: skip
    lines.append(b"user-agent: sluicegate-health\r\naccept: */*\r\nconnection: close\r\n\r\n")
    return b"".join(lines)


class _Answer:
    """Takes the status and does not care for the rest."""

    def __init__(self, status: "asyncio.Future[int]") -> None:
        self.status = status

    def on_interim(self, head: AnswerHead) -> None:
        return

    def on_head(self, head: AnswerHead) -> None:
        if not self.status.done():
            self.status.set_result(head.status)

    def on_whole(self, head: AnswerHead, body: bytes) -> None:
        self.on_head(head)

    def on_body(self, payload: bytes, framed: bytes | None) -> None:
        return

    def on_end(self) -> None:
        return

    def on_broken(self, reason: str) -> None:
        if not self.status.done():
            self.status.set_exception(OSError(0, reason))

    def on_tunnel(self, rest: bytes) -> None:
        return

    def on_writable(self) -> None:
        return
