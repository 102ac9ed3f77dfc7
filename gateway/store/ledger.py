"""Reading the ledger: lists page by key and never by offset, sums come from the hourly roll-up."""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Engine, Integer, Select, and_, cast, func, select, tuple_
from sqlalchemy.orm import Session

from gateway.errors import BadRequest, NotFound
from gateway.policy.usage import LEDGER_FIELDS, LedgerRow
from gateway.store.database import read_session
from gateway.store.ingest import LEDGER
from gateway.store.ledger_models import HOUR_S
from gateway.store.rollup import FAILED, NAMES, SUMS, USAGE_HOUR

HOUR_NS: Final = HOUR_S * 1_000_000_000
DAY_S: Final = 24 * HOUR_S
SCAN_ROWS: Final = 5_000
"""Of one read: some 30 ms and 10 MB."""
GROUPS: Final = (*NAMES, "day", "hour")
"""What usage can be grouped by."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS: Final = [LEDGER.c[name] for name in LEDGER_FIELDS]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFilter:
    """What rows to list; None = all. `since` is inclusive, `until` is not."""

    since: datetime | None = None
    until: datetime | None = None
    team: str | None = None
    app: str | None = None
    key: str | None = None
    route: str | None = None
    target: str | None = None
    provider: str | None = None
    model: str | None = None
    dialect: str | None = None
    outcome: str | None = None
    status: int | None = None
    error_code: str | None = None
    client_request_id: str | None = None


@dataclass(frozen=True, slots=True)
class LedgerPage:
    rows: list[LedgerRow]
    next_cursor: str | None
    """None: this is the last page."""


def list_ledger(
    session: Session, wanted: LedgerFilter, *, cursor: str | None = None, limit: int = 100, ascending: bool = False
) -> LedgerPage:
    """One page, newest first unless `ascending`. Raises BadRequest on a cursor that is not ours."""
    position = tuple_(LEDGER.c.started_at_ns, LEDGER.c.id)
    query = select(*_COLUMNS).where(*_conditions(wanted)).limit(limit + 1)
    if cursor is not None:
        last = tuple_(*position_of(cursor))
        query = query.where(position > last if ascending else position < last)
    if ascending:
        query = query.order_by(LEDGER.c.started_at_ns, LEDGER.c.id)
    else:
        query = query.order_by(LEDGER.c.started_at_ns.desc(), LEDGER.c.id.desc())
    rows = [LedgerRow(**row) for row in session.execute(query).mappings()]
    more = len(rows) > limit
    rows = rows[:limit]
    return LedgerPage(rows, cursor_after(rows[-1]) if more else None)


def scan(engine: Engine, wanted: LedgerFilter, *, rows_a_read: int = SCAN_ROWS) -> Iterator[list[Sequence[Any]]]:
    """All rows that fit, oldest first, in chunks of values in the order of LEDGER_FIELDS.

    Each chunk is a transaction of its own that begins where the one before ended: no matter how slow the reader is, no
    snapshot is held open, which would keep SQLite's log and PostgreSQL's dead rows from being cleared. A row that is
    recorded behind the reader's back with an earlier start is therefore not in it."""
    position = tuple_(LEDGER.c.started_at_ns, LEDGER.c.id)
    query = select(*_COLUMNS).where(*_conditions(wanted)).limit(rows_a_read)
    query = query.order_by(LEDGER.c.started_at_ns, LEDGER.c.id)
    reached: tuple[int, str] | None = None
    while True:
        with read_session(engine) as session:
            chunk = session.execute(query if reached is None else query.where(position > tuple_(*reached))).all()
        if chunk:
            reached = (chunk[-1].started_at_ns, chunk[-1].id)
            yield [tuple(row) for row in chunk]
        if len(chunk) < rows_a_read:
            return


def get_row(session: Session, request_id: str) -> LedgerRow:
    """One request by its `x-request-id`. Raises NotFound."""
    row = session.execute(select(*_COLUMNS).where(LEDGER.c.id == request_id)).mappings().first()
    if row is None:
        raise NotFound(f"no request {request_id} in the ledger", fix="rows appear within 2 s of a request's end")
    return LedgerRow(**row)


def usage(
    session: Session,
    group_by: Sequence[str],
    since: datetime | None = None,
    until: datetime | None = None,
    **only: str | None,
) -> list[dict[str, Any]]:
    """Sums of `[since, until)` by group: whole hours from the roll-up, the hours at the edges from the rows.

    Each item holds its group's keys (`day` as a date, `hour` in RFC 3339; None where a request had none) and the sums.
    `only` narrows to one team, app, route, …. Raises BadRequest on a group that does not exist."""
    for name in group_by:
        if name not in GROUPS:
            raise BadRequest(f"cannot group by {name!r}", fix=f"use some of {', '.join(GROUPS)}")
    since_ns = None if since is None else unix_ns(since)
    until_ns = None if until is None else unix_ns(until)
    first_hour = None if since_ns is None else -(-since_ns // HOUR_NS)
    end_hour = None if until_ns is None else until_ns // HOUR_NS
    found: dict[tuple[Any, ...], list[int]] = {}
    if first_hour is None or end_hour is None or first_hour <= end_hour:
        conditions = [USAGE_HOUR.c[name] == value for name, value in only.items() if value is not None]
        if first_hour is not None:
            conditions.append(USAGE_HOUR.c.hour_s >= first_hour * HOUR_S)
        if end_hour is not None:
            conditions.append(USAGE_HOUR.c.hour_s < end_hour * HOUR_S)
        _add(session, _from_hours(group_by, conditions), len(group_by), found)
        if since_ns is not None and first_hour is not None and since_ns < first_hour * HOUR_NS:
            end_ns = first_hour * HOUR_NS
            _add(session, _from_rows(group_by, since_ns, end_ns, only), len(group_by), found)
        if until_ns is not None and end_hour is not None and end_hour * HOUR_NS < until_ns:
            start_ns = end_hour * HOUR_NS
            _add(session, _from_rows(group_by, start_ns, until_ns, only), len(group_by), found)
    elif since_ns is not None and until_ns is not None and since_ns < until_ns:
        _add(session, _from_rows(group_by, since_ns, until_ns, only), len(group_by), found)
    return [
        {name: _shown(name, value) for name, value in zip(group_by, group, strict=True)}
        | dict(zip(SUMS, sums, strict=True))
        for group, sums in sorted(found.items())
        if sums[0]
    ]


def unix_ns(moment: datetime) -> int:
    """Exact nanoseconds of an aware datetime."""
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1_000


def _conditions(wanted: LedgerFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        conditions.append(LEDGER.c.started_at_ns >= unix_ns(wanted.since))
    if wanted.until is not None:
        conditions.append(LEDGER.c.started_at_ns < unix_ns(wanted.until))
    for name in LedgerFilter.__dataclass_fields__:
        value = getattr(wanted, name)
        if value is not None and name not in ("since", "until"):
            conditions.append(LEDGER.c[name] == value)
    return conditions


def cursor_after(row: LedgerRow) -> str:
    """What asks for the page behind this row."""
    return base64.urlsafe_b64encode(f"{row.started_at_ns}.{row.id}".encode()).decode().rstrip("=")


def position_of(cursor: str) -> tuple[int, str]:
    """`(started_at_ns, id)` of the row that the page before ended with. Raises BadRequest."""
    try:
        plain = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        started, dot, request_id = plain.partition(".")
        if not dot or not 0 <= int(started) < 2**63:
            raise ValueError(plain)
        return int(started), request_id
    except (ValueError, binascii.Error) as error:
        raise BadRequest("the cursor is not one of ours", fix="use `next_cursor` of the page before") from error


def _from_hours(group_by: Sequence[str], conditions: Sequence[ColumnElement[bool]]) -> Select[Any]:
    hour = USAGE_HOUR.c.hour_s
    times: Mapping[str, ColumnElement[Any]] = {"hour": hour, "day": hour - hour % DAY_S}
    groups = [times[name] if name in times else USAGE_HOUR.c[name] for name in group_by]
    sums = [cast(func.coalesce(func.sum(USAGE_HOUR.c[name]), 0), BigInteger) for name in SUMS]
    return select(*groups, *sums).where(*conditions).group_by(*groups)


def _from_rows(group_by: Sequence[str], since_ns: int, until_ns: int, only: Mapping[str, str | None]) -> Select[Any]:
    """Sums of a part of one hour."""
    hour_s = since_ns // HOUR_NS * HOUR_S
    times = {"hour": hour_s, "day": hour_s - hour_s % DAY_S}
    groups = [func.coalesce(LEDGER.c[name], "").label(name) for name in group_by if name not in times]
    named = iter(groups)
    selected = [cast(times[name], BigInteger) if name in times else next(named) for name in group_by]
    row = LEDGER.c
    failed = (row.outcome.in_(FAILED)) | (row.status >= 400)
    used = and_(
        row.cost_usd_micros.is_(None), (func.coalesce(row.input_tokens, 0) + func.coalesce(row.output_tokens, 0)) > 0
    )
    sums = [
        func.count(),
        func.coalesce(func.sum(cast(failed, Integer)), 0),
        func.coalesce(func.sum(cast(used, Integer)), 0),
        *[cast(func.coalesce(func.sum(row[name]), 0), BigInteger) for name in SUMS[3:]],
    ]
    conditions = [row.started_at_ns >= since_ns, row.started_at_ns < until_ns]
    conditions += [row[name] == value for name, value in only.items() if value is not None]
    query = select(*selected, *sums).where(*conditions)
    return query.group_by(*groups) if groups else query


def _add(session: Session, query: Select[Any], names: int, found: dict[tuple[Any, ...], list[int]]) -> None:
    for row in session.execute(query):
        group, sums = tuple(row[:names]), row[names:]
        into = found.setdefault(group, [0] * len(SUMS))
        for i, amount in enumerate(sums):
            into[i] += int(amount)


def _shown(name: str, value: Any) -> Any:
    if name == "day":
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%d")
    if name == "hour":
        return datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return value or None
