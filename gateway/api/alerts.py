"""`/api/v1/alerts`: what the gateway's own processes, and watched ones, did that they should not."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query

from gateway.api.caller import Desk, permit
from gateway.api.ledger import Time
from gateway.api.paging import DEFAULT_LIMIT, Cursor, ListLimit, Page, id_after
from gateway.policy.roles import Permission
from gateway.store.alerts import AlertFilter, AlertView, read

router = APIRouter(prefix="/api/v1", tags=["interception"])

Reading = Annotated[Desk, permit(Permission.CONFIGURATION_READ)]
Text = Annotated[str | None, Query(max_length=1024)]


@router.get("/alerts")
def list_alerts(
    desk: Reading,
    kind: Literal["exec", "connect"] | None = None,
    process: Text = None,
    user: Text = None,
    container: Text = None,
    refused: Annotated[bool | None, Query(description="Whether the kernel refused it")] = None,
    since: Annotated[Time | None, Query(description="At this time or later")] = None,
    limit: ListLimit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[AlertView]:
    """The newest first."""
    wanted = AlertFilter(kind=kind, process=process, user=user, container=container, refused=refused, since=since)
    before_id = id_after(cursor) if cursor is not None else None
    with desk.reading() as editing:
        found = read(editing.session, wanted, before_id=before_id, limit=limit + 1)
    items = found[:limit]
    return Page(items=items, next_cursor=str(items[-1].id) if len(found) > limit else None)
