"""`GET /api/v1/ledger/export`: the ledger as a file, streamed from a process of its own (`store.export_main`).

A slow reader slows that process down and nothing else; one that leaves ends it. A file that could not be finished ends
in a broken connection, never in what looks like a whole one.
"""

import os
import subprocess
import sys
import threading
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import anyio
import anyio.to_thread
from fastapi import APIRouter, Depends, Query
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api.caller import Desk, permit
from gateway.api.ledger import wanted_rows
from gateway.errors import SluicegateError, Unavailable
from gateway.policy.roles import Permission
from gateway.store.export_main import order_of
from gateway.store.ledger import LedgerFilter
from gateway.store.ledger_files import MEDIA_TYPES, Format

router = APIRouter(prefix="/api/v1", tags=["ledger"])

PIECE_BYTES: Final = 64 * 1024
EXPORTS_AT_ONCE: Final = 2
"""In one worker: each is a process that reads SQL as fast as its reader takes it."""


class ExportFailed(SluicegateError):
    code = "export_failed"


class Export:
    """One running process. Its blocking calls are made in threads of their own, not in those of the API's handlers."""

    running = 0

    def __init__(self, desk: Desk, wanted: LedgerFilter, format_: Format) -> None:
        self._command = [sys.executable, "-m", "gateway.store.export_main", order_of(wanted, format_)]
        self._environment = {**os.environ, **desk.services.settings.to_hand_down()}
        self._threads = anyio.CapacityLimiter(2)
        self._process: subprocess.Popen[bytes] | None = None
        self._reading = threading.Lock()

    async def __aenter__(self) -> "Export":
        """Raises Unavailable where there are enough of them."""
        if Export.running >= EXPORTS_AT_ONCE:
            raise Unavailable(
                f"{EXPORTS_AT_ONCE} exports are being written by this worker", fix="try again", retry_after_s=10
            )
        Export.running += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        with anyio.CancelScope(shield=True):
            try:
                await anyio.to_thread.run_sync(self._end, limiter=self._threads)
            finally:
                Export.running -= 1

    async def read(self) -> bytes:
        """The next piece, empty at the end. Raises ExportFailed where the process did not come to its end."""
        piece = await anyio.to_thread.run_sync(self._read, limiter=self._threads, abandon_on_cancel=True)
        if not piece and self._process is not None and self._process.returncode != 0:
            raise ExportFailed("the export could not be finished", fix="is the database there? try again")
        return piece

    def _read(self) -> bytes:
        with self._reading:
            if self._process is None:
                self._process = subprocess.Popen(  # noqa: S603 - our own interpreter
                    self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=self._environment, bufsize=0
                )
            assert self._process.stdout is not None
            piece = self._process.stdout.read(PIECE_BYTES)
            if not piece:
                self._process.wait()
            return piece

    def _end(self) -> None:
        process = self._process
        if process is not None:
            process.kill()  # a read that an abandoned thread waits in ends with it
        with self._reading:
            if self._process is not None and self._process.stdout is not None:
                self._process.kill()
                self._process.wait()
                self._process.stdout.close()


class ExportStream(Response):
    """The file, at its reader's pace. What fails before its first piece is answered as any other error."""

    def __init__(self, export: Export, format_: Format) -> None:
        name = f"ledger-{datetime.now(UTC):%Y%m%d-%H%M%S}.{format_}"
        super().__init__(
            media_type=MEDIA_TYPES[format_], headers={"content-disposition": f'attachment; filename="{name}"'}
        )
        del self.headers["content-length"]
        self._export = export

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        failure: ExportFailed | None = None
        async with self._export as export, anyio.create_task_group() as tasks:
            tasks.start_soon(self._leave, receive, tasks.cancel_scope)
            try:
                piece = await export.read()
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                while piece:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    piece = await export.read()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            except ExportFailed as error:
                failure = error
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    @staticmethod
    async def _leave(receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()


CONTENT: Final[dict[str, Any]] = {
    media.partition(";")[0]: {"schema": {"type": "string", "format": "binary"}} for media in MEDIA_TYPES.values()
}


@router.get(
    "/ledger/export",
    response_class=Response,
    responses={200: {"description": "All rows that fit, oldest first", "content": CONTENT}},
)
async def export_ledger(
    desk: Annotated[Desk, permit(Permission.USAGE_READ)],
    wanted: Annotated[LedgerFilter, Depends(wanted_rows)],
    format: Annotated[Format, Query(description="`csv`, `jsonl` or `parquet`")] = Format.CSV,  # noqa: A002
) -> ExportStream:
    """The ledger as a file: every row that fits, oldest first, streamed at the reader's pace. Team roles get their own
    team's rows. In CSV a text that a spreadsheet would run as a formula has an apostrophe in front."""
    return ExportStream(Export(desk, wanted, format), format)
