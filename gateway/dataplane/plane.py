"""What all connections and exchanges of one worker share."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from gateway.dataplane.bodies.recorder import Recorder
from gateway.dataplane.egress import EgressBook
from gateway.dataplane.head_memo import HeadMemos
from gateway.dataplane.health import Health
from gateway.dataplane.leases import LeaseBook
from gateway.dataplane.spool import Spool
from gateway.dataplane.upstream import OriginPool, Upstreams
from gateway.policy.matching import HttpRoutes
from gateway.policy.model import Provider
from gateway.policy.snapshot import EMPTY, Snapshot
from gateway.settings import Settings

if TYPE_CHECKING:
    from gateway.dataplane.exchange import Exchange
    from gateway.dataplane.express import ExpressCall
    from gateway.dataplane.protocol import ClientConnection

SWEEP_SECONDS = 0.1


class RequestIds:
    """26 hex digits that sort by time: milliseconds since the epoch (12), worker's nonce (7), running number (7)."""

    __slots__ = ("_beginning", "_ms", "_next", "_nonce")

    def __init__(self) -> None:
        self._nonce = os.urandom(4).hex()[:7].encode()
        self._next = 0
        self._ms = 0
        self._beginning = b""

    @property
    def writer(self) -> str:
        """What all of them share."""
        return self._nonce.decode()

    def make(self, now_ns: int) -> str:
        return self.make_bytes(now_ns).decode()

    def make_bytes(self, now_ns: int) -> bytes:
        self._next = number = (self._next + 1) & 0xFFFFFFF
        ms = now_ns // 1_000_000
        if ms != self._ms:
            self._ms = ms
            self._beginning = b"%012x%b" % (ms, self._nonce)
        return b"%b%07x" % (self._beginning, number)


class Plane:
    """One worker's data plane. `snapshot` is swapped by `use`; an exchange reads it once and keeps it."""

    def __init__(
        self,
        settings: Settings,
        book: LeaseBook,
        spool: Spool,
        upstreams: Upstreams,
    ) -> None:
        self.settings = settings
        self.book = book
        self.spool = spool
        self.upstreams = upstreams
        self.turn = upstreams.turn
        self.dialer = upstreams.dialer
        self.tags = upstreams.dialer.tags
        self.health = Health(settings.zone)
        self.ids = RequestIds()
        self.recorder = Recorder(
            settings.bodies_folder, self.ids.writer, settings.bodies_max_bytes, settings.spool_max_bytes
        )
        self.heads = HeadMemos()
        self.snapshot: Snapshot = EMPTY
        self.http_routes = HttpRoutes(())
        self.exchanges: set[Exchange | ExpressCall] = set()
        self.turn.going_on = self.exchanges
        self.turn.before_writing = spool.commit
        self.connections: set[ClientConnection] = set()
        self.counted: Counter[str] = Counter()
        """What never reaches the ledger: unauthenticated and malformed requests, by error code."""
        self._egress = EgressBook(EMPTY)
        self.draining = False
        self.idle_grace_s = 0.2
        """While draining: how long a kept-alive connection may wait for one more request, whose answer then says that
        it is the last. A client that has just sent one would otherwise see its connection reset."""
        self.own_addresses: tuple[tuple[str, int], ...] = ()
        """What this worker listens on."""

    def use(self, snapshot: Snapshot) -> None:
        """From now on new requests are decided by this snapshot."""
        self.http_routes = HttpRoutes(snapshot.routes.values())
        self.snapshot = snapshot
        self.heads.clear()
        self.upstreams.keep(snapshot.providers.values())

    @property
    def spool_full(self) -> bool:
        """Whether the last request had to be refused for want of room in the spool, and not long ago."""
        return self.spool.had_no_room()

    def egress(self, snapshot: Snapshot) -> EgressBook:
        """Where apps may go through the forward proxy under this snapshot."""
        if self._egress.snapshot is not snapshot:
            self._egress = EgressBook(snapshot)
        return self._egress

    def pool_of(self, provider: Provider) -> OriginPool:
        return self.upstreams.of(provider)

    async def sweep(self, stopped: Callable[[], bool] = lambda: False) -> None:
        """Deadlines of all exchanges and connections, ten times a second: one timer instead of several a request."""
        loop = asyncio.get_running_loop()
        last_slow = 0.0
        while not stopped():
            await asyncio.sleep(SWEEP_SECONDS)
            self.turn.work()  # what has arrived in time is not late
            now = loop.time()
            for exchange in tuple(self.exchanges):
                exchange.check_deadlines(now)
            if now - last_slow >= 1.0 or self.draining:
                last_slow = now
                self.upstreams.expire(now)
                for connection in tuple(self.connections):
                    connection.check_deadlines(now)
