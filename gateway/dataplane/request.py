"""One inbound request as its bytes arrive: head and body, the body bounded in memory."""

import asyncio
import os
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from gateway.errors import BodyTooLarge, MalformedRequest, SluicegateError

if TYPE_CHECKING:
    from gateway.dataplane.identity import Caller
    from gateway.dataplane.target_plan import CallPlan
    from gateway.policy.model import Target
    from gateway.policy.snapshot import Snapshot

STREAM_HIGH_WATER_BYTES = 256 * 1024
FILE_CHUNK_BYTES = 256 * 1024

Headers = list[tuple[bytes, bytes]]
"""Names in lower case, values as received, in order."""


NO_TRAILERS: Final[Headers] = []
"""Of all requests whose body is not chunked; never changed."""


class BodyWatcher(Protocol):
    """Looks at a body's bytes on their way to the temporary file (the JSON scanner of a dialect)."""

    def feed(self, chunk: bytes) -> None: ...


class ReadControl(Protocol):
    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class BodySink(Protocol):
    """What the parser feeds with a request's body."""

    complete: bool

    def feed(self, chunk: bytes) -> None: ...

    def end(self) -> None: ...

    def refuse(self, error: MalformedRequest) -> None:
        """The rest of the body will not come: it is malformed, or too slow."""

    def abandon(self) -> None:
        """The client has gone."""

    def close(self) -> None: ...


class RequestBody:
    """The body of one request, in one of two ways of reading.

    *whole* (calls with a model): kept until complete, so that it can be routed, rewritten and sent again; what exceeds
    `memory_bytes` lies in an unlinked temporary file. *streamed* (HTTP routes): taken chunk by chunk while it arrives,
    the sender paused while more than STREAM_HIGH_WATER_BYTES wait.
    """

    __slots__ = (
        "_arrived", "_chunks", "_control", "_file", "_folder", "_max_bytes", "_memory_bytes", "_paused", "_waiter",
        "complete", "gone", "kept_bytes", "refusal", "size", "watcher",
    )  # fmt: skip

    def __init__(self, control: ReadControl, folder: Path, memory_bytes: int, max_bytes: int) -> None:
        self._arrived: deque[bytes] | None = None
        """Of a streamed body what was not taken yet."""
        self._chunks: list[bytes] = []
        """Of any other the part that is in memory."""
        self._control = control
        self._file: BinaryIO | None = None
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._max_bytes = max_bytes
        self._paused = False
        self._waiter: asyncio.Future[None] | None = None
        self.complete = False
        self.gone = False
        """The client left before the body was complete."""
        self.kept_bytes = 0
        self.size = 0
        self.refusal: SluicegateError | None = None
        """What is wrong with the body: too large, malformed, or too slow. No more of it is taken."""
        self.watcher: BodyWatcher | None = None

    @classmethod
    def of(cls, body: bytes) -> "RequestBody":
        """A body that arrived whole, in one read."""
        made = cls.__new__(cls)
        made._arrived = None  # noqa: SLF001
        made._chunks = [body]  # noqa: SLF001 - our own
        made._file = None  # noqa: SLF001
        made._waiter = None  # noqa: SLF001
        made.complete = True
        made.gone = False
        made.refusal = None
        made.size = len(body)
        return made

    # -- written by the connection

    def declare(self, size: int) -> None:
        """What `Content-Length` says: too much is refused before it is sent."""
        if size > self._max_bytes:
            self.refusal = self._too_large()

    def allow(self, max_bytes: int, headers: Headers) -> None:
        """What is passed on as it comes may be larger than what must be read first. Called before it is taken."""
        if self.size <= self._max_bytes < max_bytes:
            self._max_bytes = max_bytes
            announced = any(name == b"content-length" and int(value) > max_bytes for name, value in headers)
            self.refusal = self._too_large() if announced else None

    def feed(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size > self._max_bytes and self.refusal is None:
            self.refuse(self._too_large())
        if self.refusal is not None:
            return
        if self._arrived is not None:
            self._arrived.append(chunk)
            self.kept_bytes += len(chunk)
            if self.kept_bytes > STREAM_HIGH_WATER_BYTES and not self._paused:
                self._paused = True
                self._control.pause_reading()
            self._wake()
            return
        if self._file is None and self.size > self._memory_bytes:
            self._spill()
        if self._file is None:
            self._chunks.append(chunk)
        else:
            self._file.write(chunk)
            if self.watcher is not None:
                self.watcher.feed(chunk)

    def end(self) -> None:
        self.complete = True
        self._wake()

    def refuse(self, error: SluicegateError) -> None:
        """Whoever waits for the body gets this error instead."""
        if not self.complete and self.refusal is None:
            self.refusal = error
            self._forget()
            self._wake()

    def abandon(self) -> None:
        """The client is gone: whoever waits is woken and finds `gone` set."""
        self.gone = not self.complete
        self._wake()

    def close(self) -> None:
        """Nobody reads or writes it any more."""
        self._forget()
        self.refusal = None  # by its traceback it knows who has raised it: us
        if self._file is not None:
            self._file.close()
            self._file = None

    # -- read by the exchange

    @property
    def in_file(self) -> bool:
        return self._file is not None

    def whole(self) -> bytes:
        """The complete body where it is in memory."""
        if self._arrived is not None:
            return b"".join(self._arrived)
        if len(self._chunks) == 1:
            return self._chunks[0]
        joined = b"".join(self._chunks)
        self._chunks = [joined]
        return joined

    def lend_file(self) -> int:
        """A descriptor of the temporary file, for a thread that reads it at its own pace (`os.pread`): it outlives the
        body, and whoever has it closes it. Raises OSError where no more files can be opened."""
        if self._file is None:
            raise ValueError("the body is in memory")
        return os.dup(self._file.fileno())

    def beginning(self, most_bytes: int) -> bytes:
        """The first bytes of what lies in memory: all of a body that was neither streamed nor is in the file."""
        found: list[bytes] = []
        for chunk in self._chunks:
            found.append(chunk[:most_bytes])
            most_bytes -= len(found[-1])
            if most_bytes <= 0:
                break
        return found[0] if len(found) == 1 else b"".join(found)

    async def wait_complete(self) -> None:
        """Raises what the body is refused for; returns early with `gone` set when the client leaves."""
        while not self.complete and not self.gone and self.refusal is None:
            await self._wait()
        if self.refusal is not None:
            raise self.refusal

    def spill_on(self) -> None:
        """A watcher has come after the body began to lie in the file: let it see what is there already."""
        if self._file is not None and self.watcher is not None:
            for offset in range(0, self._file.seek(0, 2), FILE_CHUNK_BYTES):
                self.watcher.feed(self.read_file(offset, FILE_CHUNK_BYTES))
            self._file.seek(0, 2)

    def stream(self) -> None:
        """Turn to chunk-by-chunk reading; what has arrived so far comes first."""
        if self._arrived is None:
            self._arrived, self._chunks = deque(self._chunks), []
            self.kept_bytes = sum(map(len, self._arrived))

    async def next_chunk(self) -> bytes:
        """The next bytes of a streamed body; b"" at its end or when the client has gone.

        Raises what it is refused for.
        """
        arrived = self._arrived
        assert arrived is not None, "stream() comes first"
        while not arrived and not self.complete and not self.gone and self.refusal is None:
            await self._wait()
        if self.refusal is not None:
            raise self.refusal
        if not arrived:
            return b""
        chunk = arrived.popleft()
        self.kept_bytes -= len(chunk)
        if self._paused and self.kept_bytes < STREAM_HIGH_WATER_BYTES // 2:
            self._paused = False
            self._control.resume_reading()
        return chunk

    def read_file(self, offset: int, length: int) -> bytes:
        """Bytes of a body that lies in the temporary file."""
        if self._file is None:
            raise ValueError("the body is in memory")
        self._file.seek(offset)
        return self._file.read(length)

    # -- within

    def _forget(self) -> None:
        self._chunks.clear()
        if self._arrived is not None:
            self._arrived.clear()

    def _spill(self) -> None:
        # The page cache takes these writes; the file is unlinked at once, so that no crash leaves it behind.
        self._file = tempfile.TemporaryFile(dir=self._folder, buffering=0)  # noqa: SIM115 - closed by close()
        for chunk in self._chunks:
            self._file.write(chunk)
            if self.watcher is not None:
                self.watcher.feed(chunk)
        self._chunks.clear()

    async def _wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _too_large(self) -> BodyTooLarge:
        return BodyTooLarge(
            f"the request body is larger than {self._max_bytes} bytes",
            fix="send less, or let the operator raise max_body_bytes",
            max_body_bytes=self._max_bytes,
        )


class Known:
    """What was worked out for a head under one snapshot: shared by all requests that show it."""

    __slots__ = ("caller", "plans", "snapshot")

    def __init__(self, snapshot: "Snapshot") -> None:
        self.snapshot = snapshot
        self.caller: Caller | None = None
        """Whose key it shows."""
        self.plans: dict[str, CallPlan] = {}
        """What has been worked out for calls, by the route they name."""


class Request:
    """Head and body of one inbound request. `target` is the request target as sent, `path` and `query` its parts."""

    __slots__ = (
        "_ordered", "arrived_ns", "body", "client_request_id", "expect_continue", "has_body", "headers", "keep_alive",
        "known", "method", "path", "query", "sink", "target", "trailers", "upgrade", "version",
    )  # fmt: skip

    def __init__(self, body: RequestBody, arrived_ns: int) -> None:
        self.arrived_ns = arrived_ns
        self.body = body
        self.client_request_id: str | None = None
        """The caller's own `x-request-id`."""
        self.expect_continue = False
        self.has_body = False
        self.headers: Headers = []
        self.keep_alive = True
        self.method = b""
        self.known: Known | None = None
        self._ordered: tuple[CallPlan, Sequence[Target]] | None = None
        self.path = b""
        self.query = b""
        self.sink: BodySink = body
        """Where the parser puts the body: `body`, or FastAPI's cycle."""
        self.target = b""
        self.trailers: Headers = NO_TRAILERS
        """Fields behind a chunked body, complete when it is."""
        self.upgrade = b""
        """The protocol of an upgrade that is asked for (`websocket`), or b""."""
        self.version = "1.1"

    def caller_in(self, snapshot: "Snapshot") -> "Caller | None":
        """Who showed the key of this head, if that was found out under the same snapshot."""
        known = self.known
        return known.caller if known is not None and known.snapshot is snapshot else None

    def remember(self, snapshot: "Snapshot", caller: "Caller") -> None:
        if self.known is None or self.known.snapshot is not snapshot:
            self.known = Known(snapshot)
        self.known.caller = caller

    def keep_order(self, plan: "CallPlan", candidates: "Sequence[Target]") -> None:
        """The strategy has put the targets into order for this very request: who serves it must not ask it again."""
        self._ordered = (plan, candidates)

    def order_for(self, plan: "CallPlan") -> "Sequence[Target] | None":
        """What `keep_order` kept, once; None: nobody has asked the strategy."""
        ordered, self._ordered = self._ordered, None
        return ordered[1] if ordered is not None and ordered[0] is plan else None

    def renew(self, body: RequestBody, arrived_ns: int) -> None:
        """The same head once more, with another body."""
        self.body = self.sink = body
        self.arrived_ns = arrived_ns

    def header(self, name: bytes) -> bytes | None:
        """The first value of a header, or None."""
        for found, value in self.headers:
            if found == name:
                return value
        return None
