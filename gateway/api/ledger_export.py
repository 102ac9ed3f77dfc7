"""`GET /api/v1/ledger/export`: the ledger as a file, streamed from a process of its own (`store.reporter_main`).

A slow reader slows that process down and nothing else; one that leaves ends it. A file that could not be finished ends
in a broken connection, never in what looks like a whole one.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

import anyio
from fastapi import APIRouter, Depends, Query
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api.caller import Desk, permit
from gateway.api.ledger import wanted_rows
from gateway.api.reporters import Reporters
from gateway.api.reports import cancel_when_gone
from gateway.errors import SluicegateError
from gateway.policy.roles import Permission
from gateway.store.ledger import LedgerFilter, export_order
from gateway.store.ledger_files import MEDIA_TYPES, Format

router = APIRouter(prefix="/api/v1", tags=["ledger"])


class ExportFailed(SluicegateError):
    code = "export_failed"


class ExportStream(Response):
    """The file, at its reader's pace. What fails before its first piece is answered as any other error."""

    def __init__(self, reporters: Reporters, order: bytes, format_: Format) -> None:
        name = f"ledger-{datetime.now(UTC):%Y%m%d-%H%M%S}.{format_}"
        super().__init__(
            media_type=MEDIA_TYPES[format_], headers={"content-disposition": f'attachment; filename="{name}"'}
        )
        del self.headers["content-length"]
        self._reporters = reporters
        self._order = order

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        failure: ExportFailed | None = None
        async with self._reporters.apart() as reporter, anyio.create_task_group() as tasks:
            tasks.start_soon(cancel_when_gone, receive, tasks.cancel_scope)
            try:
                await reporter.ask(self._order)
                piece = await reporter.piece()
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                while piece:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    piece = await reporter.piece()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            except SluicegateError:
                failure = ExportFailed("the export could not be finished", fix="is the database there? try again")
            tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure


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
    order = export_order(desk.services.settings.database_url, wanted, format)
    return ExportStream(desk.services.reports.reporters, order, format)
