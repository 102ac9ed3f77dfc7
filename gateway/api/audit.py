"""`GET /api/v1/audit`: who changed what, newest first, with the hashes that chain the entries."""

import json
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel

from gateway.api.caller import Desk, permit
from gateway.api.paging import DEFAULT_LIMIT, Cursor, ListLimit, Page, id_after
from gateway.policy.roles import Permission
from gateway.store import audit
from gateway.store.models import AuditEntry

router = APIRouter(prefix="/api/v1", tags=["audit"])


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
    previous_hash: str
    hash: str
    """SHA-256 over the entry and the hash before it, hex."""


@router.get("/audit")
def list_audit_entries(
    desk: Annotated[Desk, permit(Permission.AUDIT_READ)],
    limit: ListLimit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    kind: Annotated[str | None, Query(max_length=32, description="E.g. `route`, `key`, `user`")] = None,
    name: Annotated[str | None, Query(max_length=256, description="Of the thing that was changed")] = None,
) -> Page[AuditView]:
    """Newest first."""
    before_seq = id_after(cursor) if cursor is not None else None
    with desk.read() as session:
        found = audit.entries(session, before_seq=before_seq, limit=limit + 1, kind=kind, name=name)
        items = [_view(entry) for entry in found[:limit]]
    return Page(items=items, next_cursor=str(items[-1].seq) if len(found) > limit else None)


def _view(entry: AuditEntry) -> AuditView:
    return AuditView(
        seq=entry.seq,
        at=entry.at,
        actor=entry.actor,
        action=entry.action,
        kind=entry.kind,
        name=entry.name,
        before=json.loads(entry.before) if entry.before is not None else None,
        after=json.loads(entry.after) if entry.after is not None else None,
        previous_hash=entry.previous_hash.hex(),
        hash=entry.hash.hex(),
    )
