"""`/api/v1/discoveries`: who talks to which AI provider past the gateway, and what is decided about it."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query
from pydantic import BaseModel

from gateway.api.caller import Desk, permit, permit_change
from gateway.api.ledger import Time
from gateway.api.paging import DEFAULT_LIMIT, Cursor, ListLimit, id_after
from gateway.policy.discovery import State
from gateway.policy.roles import Permission
from gateway.store.config.discoveries import Discoveries, DiscoveryFilter
from gateway.store.config.editing import GREATEST_ID
from gateway.store.discovery_documents import CoverageView, DecisionDocument, DiscoveryView

router = APIRouter(prefix="/api/v1", tags=["interception"])

Reading = Annotated[Desk, permit(Permission.CONFIGURATION_READ)]
Changing = Annotated[Desk, permit_change(Permission.CONFIGURATION_WRITE)]
Number = Annotated[int, Path(ge=1, le=GREATEST_ID)]
Text = Annotated[str | None, Query(max_length=1024)]


class DiscoveryPage(BaseModel):
    """One page of findings."""

    items: list[DiscoveryView]
    next_cursor: str | None
    reason: str | None
    """Why the list may be empty although somebody goes past the gateway; null = the probes are at work."""


def wanted_findings(
    provider: Text = None,
    process: Text = None,
    user: Annotated[str | None, Query(max_length=1024, description="Name or number")] = None,
    container: Text = None,
    state: State | None = None,
    since: Annotated[Time | None, Query(description="Seen at this time or later")] = None,
) -> DiscoveryFilter:
    """Dependency: the filters of the query string."""
    return DiscoveryFilter(provider=provider, process=process, user=user, container=container, state=state, since=since)


@router.get("/discoveries")
def list_discoveries(
    desk: Reading,
    wanted: Annotated[DiscoveryFilter, Depends(wanted_findings)],
    limit: ListLimit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> DiscoveryPage:
    """Who talks to which AI provider past the gateway, what was found last first."""
    before_id = id_after(cursor) if cursor is not None else None
    with desk.reading() as editing:
        found = Discoveries(editing).list(wanted, before_id=before_id, limit=limit + 1)
    items = found[:limit]
    standing = desk.services.enforcement(with_rules=any(item.rule is not None for item in items))
    return DiscoveryPage(
        items=[standing.of_discovery(item) for item in items],
        next_cursor=str(items[-1].id) if len(found) > limit else None,
        reason=standing.reason,
    )


@router.get("/discoveries/coverage")
def get_coverage(desk: Reading) -> CoverageView:
    """Whose calls are read within TLS, how far, and why no farther."""
    return desk.services.enforcement(with_rules=False).coverage()


@router.get("/discoveries/{id}")
def get_discovery(id: Number, desk: Reading) -> DiscoveryView:  # noqa: A002  as in the item
    with desk.reading() as editing:
        found = Discoveries(editing).get(id)
    return desk.services.enforcement(with_rules=found.rule is not None).of_discovery(found)


@router.post("/discoveries/{id}/action")
def decide_discovery(id: Number, body: DecisionDocument, desk: Changing) -> DiscoveryView:  # noqa: A002
    """`observe` leaves it alone, `govern` makes an interception rule for it, `deny` a denial, `ignore` has it not be
    mentioned. Each undoes what the one before made; in force within a second."""
    with desk.changing() as editing:
        return Discoveries(editing).decide(id, body, datetime.now(UTC))
