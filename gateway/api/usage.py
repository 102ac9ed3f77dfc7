"""`GET /api/v1/usage`: sums of the ledger by any of its names and by day or hour."""

from datetime import date, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.responses import Response

from gateway.api.caller import Desk, permit
from gateway.api.ledger import Name, Since, Until, hours_between, own_team
from gateway.api.paging import DEFAULT_LIMIT, Cursor, ListLimit, Page
from gateway.policy.roles import Permission
from gateway.store import ledger

router = APIRouter(prefix="/api/v1", tags=["usage"])


class UsageItem(BaseModel):
    """The keys that were grouped by, and the sums. A key is null where requests had none."""

    team: str | None = None
    app: str | None = None
    key: str | None = None
    route: str | None = None
    target: str | None = None
    provider: str | None = None
    model: str | None = None
    day: date | None = None
    hour: datetime | None = None
    requests: int
    errors: int
    unpriced: int
    """Requests that used tokens whose cost is not known: `cost_usd_micros` lacks them."""
    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd_micros: int


@router.get("/usage", response_model=Page[UsageItem])
def get_usage(
    desk: Annotated[Desk, permit(Permission.USAGE_READ)],
    group_by: Annotated[str, Query(max_length=256, description=f"Comma list of {', '.join(ledger.GROUPS)}")] = "",
    since: Since = None,
    until: Until = None,
    team: Name = None,
    app: Name = None,
    key: Name = None,
    route: Name = None,
    target: Name = None,
    provider: Name = None,
    model: Name = None,
    limit: ListLimit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Response:
    """Sums by group, in the groups' order. Without `group_by` one item, the total."""
    groups = list(dict.fromkeys(name.strip() for name in group_by.split(",") if name.strip()))
    services = desk.services
    only = {
        "team": own_team(desk, team),
        "app": app,
        "key": key,
        "route": route,
        "target": target,
        "provider": provider,
        "model": model,
    }
    question = ledger.usage_question(services.engine, groups, since, until, only, cursor=cursor, limit=limit)
    return services.reports.respond(question, repr((groups, only, hours_between(since, until))))
