"""`/api/v1/limits` and the live state of each."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Response
from pydantic import BaseModel

from gateway.api.caller import Desk, permit, permit_change
from gateway.api.paging import DEFAULT_LIMIT, Cursor, ExpectedVersion, ListLimit, Page, id_after, page_by_id, set_etag
from gateway.errors import Unavailable
from gateway.policy.model import Metric, Window
from gateway.policy.quota import shown
from gateway.policy.roles import Permission
from gateway.store.config.limits import Limits
from gateway.store.documents import LimitDocument
from gateway.store.patches import LimitPatch
from gateway.store.views import LimitView

router = APIRouter(prefix="/api/v1")

Reading = Annotated[Desk, permit(Permission.SERVICES_READ)]
Changing = Annotated[Desk, permit_change(Permission.CONFIGURATION_WRITE)]


@router.get("/limits", tags=["limits"])
def list_limits(desk: Reading, limit: ListLimit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[LimitView]:
    """Quotas and budgets. Team roles see those that narrow to their team."""
    with desk.reading() as editing:
        return page_by_id(Limits(editing).list(after_id=id_after(cursor), limit=limit + 1), limit)


@router.post("/limits", tags=["limits"], status_code=201)
def create_limit(body: LimitDocument, desk: Changing, response: Response) -> LimitView:
    """An empty `scope` limits the whole gateway."""
    with desk.changing() as editing:
        created = Limits(editing).create(body)
    set_etag(response, created)
    return created


@router.get("/limits/{ref}", tags=["limits"])
def get_limit(ref: str, desk: Reading, response: Response) -> LimitView:
    with desk.reading() as editing:
        found = Limits(editing).get(ref)
    set_etag(response, found)
    return found


@router.patch("/limits/{ref}", tags=["limits"])
def update_limit(ref: str, body: LimitPatch, desk: Changing, version: ExpectedVersion, response: Response) -> LimitView:
    """A new `at_most` is in force at once, and what was used in this window stays used."""
    with desk.changing() as editing:
        changed = Limits(editing).update(ref, body, version)
    set_etag(response, changed)
    return changed


@router.delete("/limits/{ref}", tags=["limits"], status_code=204)
def delete_limit(ref: str, desk: Changing, version: ExpectedVersion) -> None:
    """What it counted is forgotten."""
    with desk.changing() as editing:
        Limits(editing).delete(ref, version)


class LimitStateView(BaseModel):
    """One limit in its present window over all workers. Amounts in the metric's unit; cost in USD."""

    limit: str
    metric: Metric
    window: Window | None
    used: int | float
    reserved: int | float
    """Of requests in flight; returned or charged when they end."""
    at_most: int | float
    resets_at: datetime | None
    """null = never: lifetime limits and concurrent requests."""


@router.get("/limits/{ref}/state", tags=["limits"])
def get_limit_state(ref: str, desk: Reading) -> LimitStateView:
    """At this moment, requests in flight included. 503 while the keeper is away."""
    with desk.reading() as editing:
        limit = Limits(editing).get(ref)
    state = desk.services.limit_state(limit.id)
    if state is None:
        raise Unavailable("the limit has just been made", fix="try again", retry_after_s=1)
    return LimitStateView(
        limit=limit.name,
        metric=limit.metric,
        window=limit.window,
        used=shown(limit.metric, state.used),
        reserved=shown(limit.metric, state.reserved),
        at_most=shown(limit.metric, state.at_most),
        resets_at=datetime.fromisoformat(state.resets_at) if state.resets_at else None,
    )
