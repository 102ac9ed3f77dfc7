"""The worker's side of `store.reporter_main`: processes that answer what would keep its calls waiting.

They are started when first asked, kept for a while for the next question, and ended when nobody asks. Whoever leaves
before the answer ends the process that works on it, and with it what runs in SQL.
"""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

import anyio
import anyio.to_thread
import orjson

from gateway.errors import BadRequest, SluicegateError, Unavailable
from gateway.serve_settings import HANDED_DOWN
from gateway.store.reporter_main import HEAD, SHARE, WITHIN_S, Failure, Frame

REPORTS_AT_ONCE: Final = 2
"""In one worker; others wait for their turn."""
WAITING: Final = 32
EXPORTS_AT_ONCE: Final = 2
"""In one worker: each is a process that reads SQL as fast as its reader takes it."""
IDLE_S: Final = 30.0
PATIENCE_S: Final = 20.0
"""How long a report may find no time on a core that is full of calls. It is then begun again with a share of it."""
PIECE_BYTES: Final = 64 * 1024


class ReportFailed(SluicegateError):
    code = "report_failed"


class ReportTimedOut(SluicegateError):
    status, code, retryable = 503, "report_timed_out", True


class Reporter:
    """One process and the socket to it. It answers one question at a time."""

    def __init__(
        self, process: "subprocess.Popen[bytes]", reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._process = process
        self._reader = reader
        self._writer = writer
        self._left = 0
        """Of the frame that is being read."""

    @classmethod
    async def start(cls, *, share: bool) -> "Reporter":
        """`share`: it has a small share of its core even where calls want all of it."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = await anyio.to_thread.run_sync(_start, theirs, share)
            reader, writer = await asyncio.open_unix_connection(sock=ours, limit=PIECE_BYTES)
        except BaseException:
            ours.close()  # which ends it
            raise
        return cls(process, reader, writer)

    @property
    def alive(self) -> bool:
        return not self._reader.at_eof()

    async def ask(self, question: bytes) -> None:
        self._writer.write(question + b"\n")
        with suppress(ConnectionError):  # it has died, which reading will tell
            await self._writer.drain()

    async def piece(self) -> bytes:
        """Some of the answer, empty at its end. Raises Unavailable, BadRequest, ReportFailed."""
        try:
            if not self._left:
                kind, length = HEAD.unpack(await self._reader.readexactly(HEAD.size))
                if kind == Frame.END:
                    return b""
                if kind == Frame.FAILED:
                    raise failure(await self._reader.readexactly(length))
                self._left = length
            piece = await self._reader.read(min(self._left, PIECE_BYTES))
        except (asyncio.IncompleteReadError, ConnectionError):
            piece = b""
        if not piece:
            raise failure(Failure.FAULT)
        self._left -= len(piece)
        return piece

    async def whole(self, question: bytes) -> bytes:
        """The answer. Raises what `piece` does."""
        await self.ask(question)
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)

    async def end(self) -> None:
        """At once, whatever it is doing."""
        self._process.kill()
        self._writer.close()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._process.wait)


def _start(theirs: socket.socket, share: bool) -> "subprocess.Popen[bytes]":
    environment = {name: value for name, value in os.environ.items() if name != HANDED_DOWN}  # no use for its secrets
    return subprocess.Popen(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "gateway.store.reporter_main", *([SHARE] if share else [])],
        stdin=theirs.fileno(),
        stdout=subprocess.DEVNULL,
        env=environment,
    )


def failure(word: bytes) -> SluicegateError:
    match word:
        case Failure.AWAY:
            return Unavailable(
                "the database does not answer", fix="try again; `sluicegate doctor` says more", retry_after_s=2
            )
        case Failure.VALUE:
            return BadRequest("a value of the request cannot be stored", fix="send text without NUL characters")
        case _:
            return ReportFailed("the report could not be finished", fix="try again; the gateway's log says more")


@asynccontextmanager
async def _with_a_share() -> AsyncIterator[Reporter]:
    """One that lives for one question."""
    reporter = await Reporter.start(share=True)
    try:
        yield reporter
    finally:
        await reporter.end()


class Reporters:
    """Of one worker. To be used on its event loop."""

    def __init__(self) -> None:
        self._idle: list[Reporter] = []
        self._turns = asyncio.Semaphore(REPORTS_AT_ONCE)
        self._asked = 0
        self._exports = 0
        self._ending: asyncio.Task[None] | None = None

    async def report(self, question: Mapping[str, Any]) -> bytes:
        """The answer, whole. Cancelling ends the work on it.

        Raises Unavailable where too many are asked, ReportTimedOut, and what `Reporter.piece` does."""
        if self._asked >= REPORTS_AT_ONCE + WAITING:
            raise Unavailable("too many reports are being made", fix="try again", retry_after_s=10)
        self._asked += 1
        try:
            with anyio.fail_after(WITHIN_S - 1):
                async with self._turns:
                    return await self._answer(orjson.dumps(question))
        except TimeoutError as error:
            raise ReportTimedOut(
                f"the report has taken longer than {WITHIN_S} s",
                fix="ask for a shorter time or fewer groups, or when fewer calls are being served",
                retry_after_s=30,
            ) from error
        finally:
            self._asked -= 1

    @asynccontextmanager
    async def apart(self) -> AsyncIterator[Reporter]:
        """A process that lives for one export. Raises Unavailable where there are enough of them."""
        if self._exports >= EXPORTS_AT_ONCE:
            raise Unavailable(
                f"{EXPORTS_AT_ONCE} exports are being written by this worker", fix="try again", retry_after_s=10
            )
        self._exports += 1
        try:
            async with _with_a_share() as reporter:
                yield reporter
        finally:
            self._exports -= 1

    async def close(self) -> None:
        if self._ending is not None:
            self._ending.cancel()
        while self._idle:
            await self._idle.pop().end()

    async def _answer(self, question: bytes) -> bytes:
        with anyio.move_on_after(PATIENCE_S):
            async with self._kept() as reporter:
                return await reporter.whole(question)
        async with _with_a_share() as reporter:
            return await reporter.whole(question)

    @asynccontextmanager
    async def _kept(self) -> AsyncIterator[Reporter]:
        """An idle one, else a new one. It is kept if it came to the end of its answer."""
        while self._idle and not self._idle[-1].alive:
            await self._idle.pop().end()
        reporter = self._idle.pop() if self._idle else await Reporter.start(share=False)
        try:
            yield reporter
        except BaseException:
            await reporter.end()
            raise
        self._idle.append(reporter)
        if self._ending is not None:
            self._ending.cancel()
        self._ending = asyncio.get_running_loop().create_task(self._end_idle())

    async def _end_idle(self) -> None:
        await asyncio.sleep(IDLE_S)
        self._ending = None
        while self._idle:
            await self._idle.pop().end()
