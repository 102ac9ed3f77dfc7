"""`GET /api/v1/usage`: sums of the ledger by any of its names and by day or hour."""

import base64
import binascii
from datetime import date, datetime
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.responses import Response

from gateway.api.caller import Desk, permit
from gateway.api.ledger import Name, Since, Until, own_team
from gateway.api.paging import DEFAULT_LIMIT, Cursor, ListLimit, Page
from gateway.errors import BadRequest
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
    with desk.read() as session:
        items = ledger.usage(
            session,
            groups,
            since,
            until,
            team=own_team(desk, team),
            app=app,
            key=key,
            route=route,
            target=target,
            provider=provider,
            model=model,
        )
    if cursor is not None:
        last = _group_of(cursor, len(groups))
        items = [item for item in items if _group(item, groups) > last]
    next_cursor = _cursor(_group(items[limit - 1], groups)) if len(items) > limit else None
    return Response(orjson.dumps({"items": items[:limit], "next_cursor": next_cursor}), media_type="application/json")


def _group(item: dict[str, Any], groups: list[str]) -> list[str]:
    return [item[name] or "" for name in groups]


def _cursor(group: list[str]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(group)).decode().rstrip("=")


def _group_of(cursor: str, length: int) -> list[str]:
    try:
        group = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        group = None
    if not isinstance(group, list) or len(group) != length or not all(isinstance(name, str) for name in group):
        raise BadRequest("the cursor is not one that this list gave", fix="leave `cursor` out to begin anew")
    return group
