"""`GET /api/v1/ledger`: one row a request, newest first, paged by key."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Final

import orjson
from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BeforeValidator
from starlette.responses import Response

from gateway.api.caller import Desk, permit
from gateway.api.ledger_rows import LedgerRowView
from gateway.api.paging import DEFAULT_LIMIT, Cursor, ListLimit, Page
from gateway.errors import NotFound
from gateway.policy.roles import Permission
from gateway.policy.usage import LEDGER_FIELDS, LedgerRow, Outcome, row_from_mapping
from gateway.store import ledger
from gateway.store.documents import no_number
from gateway.store.ledger import LedgerFilter
from gateway.store.report import row_json

router = APIRouter(prefix="/api/v1", tags=["ledger"])

Reading = Annotated[Desk, permit(Permission.USAGE_READ)]

EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2261, 1, 1, tzinfo=UTC)
"""Unix nanoseconds fit into 64 bits until 2262."""


def within_the_ledger(value: datetime) -> datetime:
    """In UTC, which a time without a zone is taken for, and within what the ledger can hold."""
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    if value.year >= LATEST.year:
        return LATEST
    return EARLIEST if value.year < EARLIEST.year else max(EARLIEST, value.astimezone(UTC))


Time = Annotated[datetime, BeforeValidator(no_number), AfterValidator(within_the_ledger)]
Since = Annotated[Time | None, Query(alias="from", description="Begun at this time or later")]
Until = Annotated[Time | None, Query(alias="to", description="Begun before this time")]
Name = Annotated[str | None, Query(max_length=1024)]


class Order(StrEnum):
    ASC = "asc"
    DESC = "desc"


def wanted_rows(
    desk: Reading,
    since: Since = None,
    until: Until = None,
    team: Name = None,
    app: Name = None,
    key: Name = None,
    route: Name = None,
    target: Name = None,
    provider: Name = None,
    model: Name = None,
    dialect: Name = None,
    outcome: Outcome | None = None,
    status: Annotated[int | None, Query(ge=0, le=999)] = None,
    error_code: Name = None,
    client_request_id: Name = None,
    process: Name = None,
    user: Name = None,
    container: Name = None,
    status_class: Annotated[int | None, Query(ge=1, le=5, description="The status' first digit")] = None,
    min_latency_ms: Annotated[float | None, Query(ge=0)] = None,
    min_cost_usd_micros: Annotated[int | None, Query(ge=0, le=1 << 62)] = None,
    id_prefix: Annotated[
        str | None, Query(max_length=32, pattern="^[0-9a-f]+$", description="How the request's id begins")
    ] = None,
) -> LedgerFilter:
    """Dependency: the filters of the query string, confined to the caller's team."""
    return LedgerFilter(
        since=since,
        until=until,
        team=own_team(desk, team),
        app=app,
        key=key,
        route=route,
        target=target,
        provider=provider,
        model=model,
        dialect=dialect,
        outcome=outcome,
        status=status,
        error_code=error_code,
        client_request_id=client_request_id,
        process=process,
        user=user,
        container=container,
        status_class=status_class,
        min_latency_ms=min_latency_ms,
        min_cost_usd_micros=min_cost_usd_micros,
        id_prefix=id_prefix,
    )


NO_TEAM: Final = "\N{REPLACEMENT CHARACTER}"
"""The name of no team: what asks for another team's rows finds none."""


def own_team(desk: Desk, asked: str | None) -> str | None:
    """The team whose figures the caller gets: what was asked for, or, for team roles, their own at most."""
    if desk.team_id is None:
        return asked
    return desk.caller.team if asked in (None, desk.caller.team) else NO_TEAM


@router.get("/ledger", response_model=Page[LedgerRowView])
def list_ledger(
    desk: Reading,
    wanted: Annotated[LedgerFilter, Depends(wanted_rows)],
    limit: ListLimit = DEFAULT_LIMIT,
    cursor: Cursor = None,
    order: Order = Order.DESC,
    open: Annotated[bool, Query(description="Also list requests in flight")] = False,  # noqa: A002  the contract's word
) -> Response:
    """Requests that have ended, newest first; with `open=true` also those in flight on this node."""
    ascending = order is Order.ASC
    in_flight = [] if not open else [row_from_mapping(row) for row in desk.services.open_rows()]
    services = desk.services
    fitting = [row for row in in_flight if fits(row, wanted, cursor, ascending)]
    question = ledger.ledger_question(
        services.engine, wanted, cursor=cursor, limit=limit, ascending=ascending, in_flight=fitting
    )
    others = replace(wanted, since=None, until=None)
    return services.reports.respond(question, repr((others, hours_between(wanted.since, wanted.until), limit, order)))


def hours_between(since: datetime | None, until: datetime | None) -> int | None:
    """How much time a question is about: a page that is read again a minute later asks for as much. None = for all."""
    return None if since is None else round(((until or datetime.now(UTC)) - since) / timedelta(hours=1))


@router.get("/ledger/{id}", response_model=LedgerRowView)
def get_ledger_row(id: str, desk: Reading) -> Response:  # noqa: A002  as in the row
    """One request by the `x-request-id` of its answer."""
    with desk.read() as session:
        row = ledger.get_row(session, id)
    if own_team(desk, row.team) == NO_TEAM:
        raise NotFound(f"no request {id} in the ledger", fix="rows appear within 2 s of a request's end")
    shown = row_json(LEDGER_FIELDS, [getattr(row, name) for name in LEDGER_FIELDS])
    return Response(orjson.dumps(shown), media_type="application/json")


def position(row: LedgerRow) -> tuple[int, str]:
    return row.started_at_ns, row.id


def fits(row: LedgerRow, wanted: LedgerFilter, cursor: str | None, ascending: bool) -> bool:
    """Whether a request in flight belongs to this page or a later one: what SQL decides for those that have ended."""
    if cursor is not None:
        last = ledger.position_of(cursor)
        if position(row) <= last if ascending else position(row) >= last:
            return False
    if wanted.since is not None and row.started_at_ns < ledger.unix_ns(wanted.since):
        return False
    if wanted.until is not None and row.started_at_ns >= ledger.unix_ns(wanted.until):
        return False
    if wanted.status_class is not None and row.status // 100 != wanted.status_class:
        return False
    if wanted.min_latency_ms is not None or wanted.min_cost_usd_micros is not None:
        return False  # neither is known yet
    if wanted.id_prefix is not None and not row.id.startswith(wanted.id_prefix):
        return False
    return all(getattr(row, name) == value for name, value in wanted.equal().items())
