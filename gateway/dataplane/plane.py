"""What all connections and exchanges of one worker share."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.dataplane.health import Health
from gateway.dataplane.leases import LeaseBook
from gateway.dataplane.spool import Spool
from gateway.dataplane.upstream import Origin, UpstreamPool, origin_of
from gateway.policy.matching import HttpRoutes
from gateway.policy.model import Provider
from gateway.policy.snapshot import EMPTY, Snapshot
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.dataplane.exchange import Exchange
    from gateway.dataplane.protocol import ClientConnection

SWEEP_SECONDS = 0.1


class RequestIds:
    """26 hex digits that sort by time: milliseconds since the epoch (12), worker's nonce (7), running number (7)."""

    __slots__ = ("_next", "_nonce")

    def __init__(self) -> None:
        self._nonce = os.urandom(4).hex()[:7]
        self._next = 0

    def make(self, now_ns: int) -> str:
        self._next = (self._next + 1) & 0xFFFFFFF
        return f"{now_ns // 1_000_000:012x}{self._nonce}{self._next:07x}"


class Plane:
    """One worker's data plane. `snapshot` is swapped by `use`; an exchange reads it once and keeps it."""

    def __init__(self, settings: Settings, book: LeaseBook, spool: Spool, pool: UpstreamPool) -> None:
        self.settings = settings
        self.book = book
        self.spool = spool
        self.pool = pool
        self.health = Health()
        self.ids = RequestIds()
        self.snapshot: Snapshot = EMPTY
        self.http_routes = HttpRoutes(())
        self.origins: dict[int, Origin] = {}
        """By provider id, of the present snapshot; an exchange that outlives it asks `origin`."""
        self.heads: dict[tuple[int, int, str], bytes] = {}
        """Upstream request heads by target, credential and path: what does not change from call to call."""
        self.exchanges: set[Exchange] = set()
        self.connections: set[ClientConnection] = set()
        self.counted: Counter[str] = Counter()
        """What never reaches the ledger: unauthenticated and malformed requests, by error code."""
        self.draining = False

    def use(self, snapshot: Snapshot) -> None:
        """From now on new requests are decided by this snapshot."""
        self.http_routes = HttpRoutes(snapshot.routes.values())
        self.origins = {provider.id: origin_of(provider.base_url) for provider in snapshot.providers.values()}
        self.heads = {}
        self.snapshot = snapshot

    def origin(self, provider: Provider) -> Origin:
        return self.origins.get(provider.id) or origin_of(provider.base_url)

    async def sweep(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Deadlines of all exchanges and connections, ten times a second: one timer instead of several a request."""
        loop = asyncio.get_running_loop()
        last_slow = 0.0
        while not stopped():
            await asyncio.sleep(SWEEP_SECONDS)
            now = loop.time()
            for exchange in tuple(self.exchanges):
                exchange.check_deadlines(now)
            if now - last_slow >= 1.0:
                last_slow = now
                self.pool.expire(now)
                for connection in tuple(self.connections):
                    connection.check_deadlines(now)


def elapsed_ms(since_ns: int) -> float:
    """Milliseconds since a `time.perf_counter_ns` reading, to the microsecond."""
    return (time.perf_counter_ns() - since_ns) // 1000 / 1000
