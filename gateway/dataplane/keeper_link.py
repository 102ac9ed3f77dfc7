"""A worker's connection to the keeper: snapshots and grants come in, asks and nudges go out (docs/quotas.md).

It reconnects for ever. Which worker speaks is its `incarnation`: random, new at each start, and the name of its spool
files, so that the keeper can tell a worker that died from one that lost its connection.
"""

import asyncio
import logging
import os
import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, NewType, Protocol

from gateway.dataplane.event_reader import EventReader, gap, number_of
from gateway.dataplane.leases import ASK_TIMEOUT_S, LeaseBook
from gateway.dataplane.spool import Spool
from gateway.errors import Unavailable
from gateway.policy.quota import LimitState
from gateway.settings import Settings
from gateway.wire.frames import SNAPSHOT_MARK, TEXT_MARK, FrameError, FrameReader, frame, message_of, text_of

log = logging.getLogger(__name__)

Incarnation = NewType("Incarnation", str)

FIRST_DELAY_S: Final = 0.02
LONGEST_DELAY_S: Final = 0.25
REQUEST_TIMEOUT_S: Final = 2.0
MOST_UNREAD_BYTES: Final = 8 * 1024 * 1024


class HealthChecks(Protocol):
    """The worker's active checks (`dataplane.checks`)."""

    def appoint(self, *, on: bool) -> None: ...

    def obey(self, down: list[str]) -> None: ...


class KeeperLink:
    """The worker's asyncio client of `settings.keeper_socket`. `run` is its one task."""

    def __init__(
        self,
        settings: Settings,
        on_snapshot: Callable[[bytes], None],
        on_event: Callable[[dict[str, Any]], None] | None = None,
        program: str = "worker",
    ) -> None:
        """`on_snapshot` gets each snapshot document; `on_event` each event of the live feed (None: not subscribed).
        `program`: which worker this is, as metrics and events name it."""
        self.incarnation = Incarnation(secrets.token_hex(8))
        self.connected = False
        self.database_up = True
        """As the keeper last said."""
        self.leases_ran_out = False
        """The keeper could not grant the last lease that was asked for, because the database does not answer."""
        self.recorded = 0
        """How many ended requests of this worker are in SQL, as the keeper last said."""
        self._spool: Spool | None = None
        self._program = program
        self._path = str(settings.keeper_socket)
        self._on_snapshot = on_snapshot
        self._on_event = on_event
        self._book: LeaseBook | None = None
        self._checks: HealthChecks | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._changed_state = asyncio.Event()
        self._away_since_s = 0.0
        self._replies: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next_request = 0
        self._feeds: set[EventReader] = set()
        self._outgoing: list[bytes] = []
        self._flushing = False

    # -- what the lease book uses -----------------------------------------------------------------------------------

    def attach(self, book: LeaseBook) -> None:
        self._book = book

    def watch(self, spool: Spool) -> None:
        """The spool whose rows `pending_rows` counts."""
        self._spool = spool

    def follow(self, checks: HealthChecks) -> None:
        """Who checks providers, and hears who is down."""
        self._checks = checks

    def send(self, message: dict[str, Any]) -> None:
        """Queue a frame: all of one turn of the event loop leave in one write."""
        if self._writer is None or not self.connected:
            return
        self._outgoing.append(frame(message))
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def wait_connected(self, deadline_s: float) -> bool:
        loop = asyncio.get_running_loop()
        while not self.connected:
            until_s = min(deadline_s, self._away_since_s + ASK_TIMEOUT_S)
            if loop.time() >= until_s:
                return False
            try:
                async with asyncio.timeout_at(until_s):
                    await self._changed_state.wait()
            except TimeoutError:
                return False
        return True

    # -- what worker and API use ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, serve the connection, connect again; ends only when cancelled."""
        delay_s = FIRST_DELAY_S
        self._away_since_s = asyncio.get_running_loop().time()
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path, limit=1 << 20)
            except OSError:
                await asyncio.sleep(delay_s)
                delay_s = min(LONGEST_DELAY_S, delay_s * 2)
                continue
            delay_s = FIRST_DELAY_S
            try:
                await self._serve(reader, writer)
            except (OSError, FrameError) as error:
                log.warning("keeper connection lost", extra={"error": str(error)})
            finally:
                self._disconnected(writer)

    async def changed(self) -> None:
        """Tell the keeper that the configuration in SQL has changed, so that it need not wait for its next look."""
        self.send({"type": "changed"})

    async def limit_state(self, limit_id: int) -> LimitState | None:
        """The limit over all workers at this moment; None when there is no such limit. Raises Unavailable."""
        reply = await self._request({"type": "state", "limit": limit_id})
        state = reply["state"]
        return None if state is None else LimitState(**state)

    async def open_rows(self) -> list[dict[str, Any]]:
        """Ledger rows (field → value) of this node's requests in flight, newest first. Raises Unavailable."""
        reply = await self._request({"type": "open"})
        rows: list[dict[str, Any]] = reply["rows"]
        return rows

    async def metrics(self, *, openmetrics: bool) -> bytes:
        """Prometheus text of this node: all workers' figures, as the keeper counts them. Raises Unavailable."""
        reply = await self._request({"type": "metrics", "openmetrics": openmetrics})
        text: bytes = reply["text"]
        return text

    async def health(self) -> dict[str, Any]:
        """What active checks have found, and what each worker of this node avoids. Raises Unavailable."""
        reply = await self._request({"type": "health"})
        health: dict[str, Any] = reply["health"]
        return health

    async def kernel(self, **asked: Any) -> dict[str, Any]:
        """What this node's probes have measured (`store.keeper_kernel.KernelBook.report`). Raises Unavailable."""
        reply = await self._request({"type": "kernel", **asked})
        kernel: dict[str, Any] = reply["kernel"]
        return kernel

    async def denials(self) -> dict[str, Any]:
        """What stands in this node's kernel (`store.keeper_discoveries.report`). Raises Unavailable."""
        reply = await self._request({"type": "denials"})
        report: dict[str, Any] = reply["denials"]
        return report

    def tell_rejected(self, counts: dict[str, int]) -> None:
        """Requests without a ledger row since the last time, by error code."""
        self.send({"type": "rejected", "counts": counts})

    def tell_leaving(self) -> None:
        """This worker has drained: the end of its connection is no death."""
        self.send({"type": "leaving"})

    async def subscribe_events(self, after: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """Events from now on, for ever, each with an `id`: `{"type": "request", "row": {…}}` as rows reach the ledger,
        changes of state by other types (`store.keeper_watch`), `gap` where some are missing. With `after`, what
        happened since the event of that id comes first. Raises Unavailable."""
        reader = EventReader()
        self._feeds.add(reader)
        if len(self._feeds) == 1:
            self.send({"type": "subscribe", "on": True})
        try:
            shown = ("", 0)
            if after is not None:
                reply = await self._request({"type": "missed", "after": after})
                if not reply["complete"]:
                    yield gap("what came after this id is no longer kept")
                for event in reply["events"]:
                    shown = number_of(event)
                    yield event
            while True:
                event = await reader.next()
                epoch, number = number_of(event)
                if epoch != shown[0] or number > shown[1]:
                    yield event
        finally:
            self._feeds.discard(reader)
            if not self._feeds and self._on_event is None:
                self.send({"type": "subscribe", "on": False})

    def pending_rows(self) -> int:
        """Rows of this worker that wait in its spool for SQL; what the keeper took is counted within 100 ms."""
        return 0 if self._spool is None else max(0, self._spool.closed - self.recorded)

    # -- within -----------------------------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        hello = {
            "type": "hello",
            "incarnation": self.incarnation,
            "pid": os.getpid(),
            "program": self._program,
            "leases": self._book.view() if self._book is not None else [],
            "events": self._on_event is not None or bool(self._feeds),
        }
        writer.write(frame(hello))
        self.connected = True
        for feed in self._feeds:
            feed.put(gap("the keeper was away"))
        self._changed_state.set()
        frames = FrameReader()
        while piece := await reader.read(1 << 18):
            for payload in frames.feed(piece):
                if payload[:1] == SNAPSHOT_MARK:
                    self._on_snapshot(payload[1:])
                elif payload[:1] == TEXT_MARK:
                    number, text = text_of(payload)
                    self._take_message({"type": "reply", "request": number, "text": text})
                else:
                    self._take_message(message_of(payload))

    def _take_message(self, message: dict[str, Any]) -> None:
        book = self._book
        kind = message["type"]
        if kind == "granted":
            self.leases_ran_out = message["unavailable"]
            if book is not None:
                book.on_granted(message)
        elif kind == "recall":
            leases = book.on_recall(message["keys"]) if book is not None else []
            self.send({"type": "recalled", "round": message["round"], "leases": leases})
        elif kind == "report":
            leases = book.on_report(message["keys"]) if book is not None else []
            self.send({"type": "reported", "round": message["round"], "leases": leases})
        elif kind == "database":
            self.database_up = message["up"]
            self.leases_ran_out = self.leases_ran_out and not self.database_up
        elif kind == "pending":
            self.recorded = message["recorded"]
        elif kind == "event":
            self._spread(message["event"])
        elif kind == "down":
            if self._checks is not None:
                self._checks.obey(message["providers"])
        elif kind == "appointed":
            if self._checks is not None:
                self._checks.appoint(on=message["on"])
        elif kind == "reply":
            reply = self._replies.pop(message["request"], None)
            if reply is not None and not reply.done():
                reply.set_result(message)

    def _spread(self, event: dict[str, Any]) -> None:
        if self._on_event is not None:
            self._on_event(event)
        for reader in self._feeds:
            reader.put(event)

    async def _request(self, message: dict[str, Any]) -> dict[str, Any]:
        loop = asyncio.get_running_loop()
        self._next_request += 1
        number = self._next_request
        reply = self._replies[number] = loop.create_future()
        try:
            deadline_s = loop.time() + REQUEST_TIMEOUT_S
            if not await self.wait_connected(deadline_s):
                raise TimeoutError
            self.send(message | {"request": number})
            async with asyncio.timeout_at(deadline_s):
                answer: dict[str, Any] = await reply
        except TimeoutError:
            raise Unavailable("the keeper does not answer", fix="retry shortly", retry_after_s=1.0) from None
        finally:
            self._replies.pop(number, None)
        if answer.get("error"):
            raise Unavailable(answer["error"], fix="see `sluicegate doctor`", retry_after_s=1.0)
        return answer

    def _flush(self) -> None:
        self._flushing = False
        outgoing, self._outgoing = self._outgoing, []
        if self._writer is not None and outgoing:
            self._writer.write(b"".join(outgoing))
            if self._writer.transport.get_write_buffer_size() > MOST_UNREAD_BYTES:
                self._writer.transport.abort()  # the keeper hangs: what it has not read is worth nothing any more

    def _disconnected(self, writer: asyncio.StreamWriter) -> None:
        self.connected = False
        self._changed_state.clear()
        self._away_since_s = asyncio.get_running_loop().time()
        self._writer = None
        self._outgoing.clear()
        writer.close()
        if self._book is not None:
            self._book.disconnected()
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(TimeoutError())
