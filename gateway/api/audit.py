"""`/api/v1/audit`: who changed what, and from where; whether the log is as it was written; all of it as JSON lines."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Final, TypeVar

import anyio
import anyio.to_thread
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse

from gateway.api.caller import Desk, permit
from gateway.api.ledger import Since, Until
from gateway.api.paging import DEFAULT_LIMIT, Cursor, ListLimit, Page, id_after
from gateway.policy.roles import Permission
from gateway.store import audit_trail
from gateway.store.audit_trail import AuditFilter, Chain, Verdict, mark_from

router = APIRouter(prefix="/api/v1", tags=["audit"])

JSON_LINES: Final = "application/jsonl"
BREATH_S: Final = 0.002
"""Between two pieces: the worker's calls go on meanwhile."""

Result = TypeVar("Result")
Reading = Annotated[Desk, permit(Permission.AUDIT_READ)]


class AuditView(BaseModel):
    seq: int
    at: datetime
    actor: str
    """`user:NAME`, `token:NAME`, `cli:UNIX-USER` or `system`."""
    action: str
    kind: str
    name: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    origin: str | None
    """The address that it was asked from; null = on the gateway's host, or not known."""
    previous_hash: str
    hash: str
    """SHA-256 over the entry and the hash before it, hex."""


class AuditVerdict(BaseModel):
    intact: bool
    entries: int
    """Checked, up to the first that is wrong."""
    head: str | None
    """`SEQ:HASH` of the last good entry. Noted elsewhere, it proves later that nothing up to it was rewritten."""
    broken_at: int | None
    """The first entry that is not as it was written, or is missing."""
    problem: str | None


def wanted_entries(
    since: Since = None,
    until: Until = None,
    actor: Annotated[str | None, Query(max_length=256, description="E.g. `user:admin`")] = None,
    action: Annotated[str | None, Query(max_length=32, description="E.g. `create`, `sign-in`")] = None,
    kind: Annotated[str | None, Query(max_length=32, description="E.g. `route`, `key`, `user`")] = None,
    name: Annotated[str | None, Query(max_length=256, description="Of the thing that was changed")] = None,
) -> AuditFilter:
    """Dependency: the filters of the query string."""
    return AuditFilter(actor=actor, action=action, kind=kind, name=name, since=since, until=until)


Wanted = Annotated[AuditFilter, Depends(wanted_entries)]


@router.get("/audit")
def list_audit_entries(
    desk: Reading, wanted: Wanted, limit: ListLimit = DEFAULT_LIMIT, cursor: Cursor = None
) -> Page[AuditView]:
    """Newest first."""
    before_seq = id_after(cursor) if cursor is not None else None
    with desk.read() as session:
        found = audit_trail.entries(session, wanted, before_seq=before_seq, limit=limit + 1)
        items = [AuditView(**audit_trail.shown(entry)) for entry in found[:limit]]
    return Page(items=items, next_cursor=str(items[-1].seq) if len(found) > limit else None)


@router.get("/audit/verify")
async def verify_audit(
    desk: Reading,
    noted: Annotated[str | None, Query(max_length=128, description="`head` of an earlier verification")] = None,
) -> AuditVerdict:
    """Compute every hash again: whether no entry was altered, removed or put in, and none is missing at the end."""
    chain = Chain(None if noted is None else mark_from(noted))
    while (verdict := await _in_turn(partial(_check_some, desk, chain))) is None:
        pass
    return AuditVerdict(**verdict.as_item())


@router.get(
    "/audit/export",
    response_class=Response,
    responses={200: {"description": "JSON lines", "content": {JSON_LINES: {"schema": {"type": "string"}}}}},
)
async def export_audit(desk: Reading, wanted: Wanted) -> StreamingResponse:
    """Every entry that fits as JSON lines, oldest first, with the hashes that chain them."""
    name = f"audit-{datetime.now(UTC):%Y%m%d-%H%M%S}.jsonl"
    return StreamingResponse(
        _lines(desk, wanted),
        media_type=JSON_LINES,
        headers={"content-disposition": f'attachment; filename="{name}"'},
    )


async def _in_turn(work: Callable[[], Result]) -> Result:
    """A piece of work in a thread, and then some time for the worker's calls."""
    done = await anyio.to_thread.run_sync(work)
    await anyio.sleep(BREATH_S)
    return done


def _check_some(desk: Desk, chain: Chain) -> Verdict | None:
    with desk.read() as session:
        return audit_trail.verify_piece(session, chain)


async def _lines(desk: Desk, wanted: AuditFilter) -> AsyncIterator[bytes]:
    after: int | None = 0
    while after is not None:
        lines, after = await _in_turn(partial(_export_some, desk, wanted, after))
        yield lines


def _export_some(desk: Desk, wanted: AuditFilter, after: int) -> tuple[bytes, int | None]:
    with desk.read() as session:
        return audit_trail.export_piece(session, wanted, after)
