"""Reading the ledger: lists page by key and never by offset, sums come from the hourly roll-up."""

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    ColumnExpressionArgument,
    Connection,
    CursorResult,
    Engine,
    Integer,
    Select,
    and_,
    cast,
    func,
    select,
    tuple_,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql.compiler import SQLCompiler

from gateway.errors import BadRequest, NotFound
from gateway.policy.usage import LEDGER_FIELDS, LedgerRow, Outcome
from gateway.store.database import read_session
from gateway.store.ingest import LEDGER
from gateway.store.ledger_models import DAY_S, HOUR_S, NOT_COMPLETED
from gateway.store.report import (
    EPOCH,
    LedgerQuestion,
    Statement,
    UsageQuestion,
    cursor_after,
    usage_items,
)
from gateway.store.rollup import FAILED, NAMES, SUMS, USAGE_DAY, USAGE_HOUR

HOUR_NS: Final = HOUR_S * 1_000_000_000
SCAN_ROWS: Final = 5_000
"""Of one read: some 30 ms and 10 MB."""
GROUPS: Final = (*NAMES, "day", "hour")
"""What usage can be grouped by."""

_TRUTHS: Final = tuple(name for name in LEDGER_FIELDS if isinstance(LEDGER.c[name].type, Boolean))
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
    process: str | None = None
    user: str | None = None
    container: str | None = None
    status_class: int | None = None
    """The status' first digit."""
    min_latency_ms: float | None = None
    min_cost_usd_micros: int | None = None
    id_prefix: str | None = None
    """How the id begins; ids begin with when the request did."""

    def equal(self) -> dict[str, str | int]:
        """What a field of a row has to be, by its name."""
        named = {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in RANGED}
        return {name: value for name, value in named.items() if value is not None}


RANGED: Final = ("since", "until", "status_class", "min_latency_ms", "min_cost_usd_micros", "id_prefix")
"""Filters that more than one value fits."""


@dataclass(frozen=True, slots=True)
class LedgerPage:
    rows: list[LedgerRow]
    next_cursor: str | None
    """None: this is the last page."""


def list_ledger(
    session: Session, wanted: LedgerFilter, *, cursor: str | None = None, limit: int = 100, ascending: bool = False
) -> LedgerPage:
    """One page, newest first unless `ascending`. Raises BadRequest on a cursor that is not ours."""
    query = _page(wanted, cursor, limit, ascending)
    rows = [LedgerRow(**row) for row in session.execute(query).mappings()]
    more = len(rows) > limit
    rows = rows[:limit]
    return LedgerPage(rows, cursor_after(rows[-1].started_at_ns, rows[-1].id) if more else None)


def ledger_question(
    engine: Engine,
    wanted: LedgerFilter,
    *,
    cursor: str | None = None,
    limit: int = 100,
    ascending: bool = False,
    in_flight: Sequence[LedgerRow] = (),
) -> LedgerQuestion:
    """What asks for the same page as JSON, with those rows in flight that belong to it or to later ones."""
    nearest = sorted(in_flight, key=lambda row: (row.started_at_ns, row.id), reverse=not ascending)[: limit + 1]
    return LedgerQuestion(
        statement=written_out(engine, _page(wanted, cursor, limit, ascending)),
        fields=LEDGER_FIELDS,
        truths=_TRUTHS,
        limit=limit,
        ascending=ascending,
        in_flight=[[getattr(row, name) for name in LEDGER_FIELDS] for row in nearest],
    )


def _page(wanted: LedgerFilter, cursor: str | None, limit: int, ascending: bool) -> Select[Any]:
    """One row more than the page has, which says that there is another."""
    position = tuple_(LEDGER.c.started_at_ns, LEDGER.c.id)
    query = select(*_COLUMNS).where(*_conditions(wanted)).limit(limit + 1)
    if cursor is not None:
        last = tuple_(*position_of(cursor))
        query = query.where(position > last if ascending else position < last)
    if ascending:
        return query.order_by(LEDGER.c.started_at_ns, LEDGER.c.id)
    return query.order_by(LEDGER.c.started_at_ns.desc(), LEDGER.c.id.desc())


def written_out(engine: Engine, query: Select[Any]) -> Statement:
    """As text with its values, for whoever has no SQLAlchemy."""
    compiled = query.compile(engine, compile_kwargs={"render_postcompile": True})
    if not isinstance(compiled, SQLCompiler):
        raise TypeError("a select is compiled by a SQLCompiler")
    if compiled.positiontup is None:
        return Statement(compiled.string, compiled.params)
    return Statement(compiled.string, [compiled.params[name] for name in compiled.positiontup])


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


def export_order(database_url: str, wanted: LedgerFilter, format_: str) -> bytes:
    """What tells a reporter (`store.reporter_main`) to write all rows that fit as a file."""
    named = {name: getattr(wanted, name) for name in LedgerFilter.__dataclass_fields__}
    return orjson.dumps({"kind": "export", "url": database_url, "format": format_, "wanted": named})


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
    connection = session.connection()
    statements = [written_out(connection.engine, query) for query in _sums(group_by, since, until, only)]
    return [shown for _, shown in usage_items(statements, group_by, SUMS, fetching(connection))]


def usage_question(
    engine: Engine,
    group_by: Sequence[str],
    since: datetime | None,
    until: datetime | None,
    only: Mapping[str, str | None],
    *,
    cursor: str | None,
    limit: int,
) -> UsageQuestion:
    """What asks for one page of the same as JSON. Raises BadRequest, also on a cursor that is not ours."""
    return UsageQuestion(
        statements=[written_out(engine, query) for query in _sums(group_by, since, until, only)],
        groups=group_by,
        sums=SUMS,
        limit=limit,
        after=None if cursor is None else _group_of(cursor, len(group_by)),
    )


def fetching(connection: Connection) -> Callable[[Statement], CursorResult[Any]]:
    """What runs a statement that was written out."""

    def fetch(statement: Statement) -> CursorResult[Any]:
        values = statement.values if isinstance(statement.values, dict) else tuple(statement.values)
        return connection.exec_driver_sql(statement.sql, values)

    return fetch


def _sums(
    group_by: Sequence[str], since: datetime | None, until: datetime | None, only: Mapping[str, str | None]
) -> Iterator[Select[Any]]:
    for name in group_by:
        if name not in GROUPS:
            raise BadRequest(f"cannot group by {name!r}", fix=f"use some of {', '.join(GROUPS)}")
    since_ns = None if since is None else unix_ns(since)
    until_ns = None if until is None else unix_ns(until)
    first_hour = None if since_ns is None else -(-since_ns // HOUR_NS)
    end_hour = None if until_ns is None else until_ns // HOUR_NS
    if first_hour is None or end_hour is None or first_hour <= end_hour:
        yield from _whole_hours(group_by, first_hour, end_hour, only)
        if since_ns is not None and first_hour is not None and since_ns < first_hour * HOUR_NS:
            yield _from_rows(group_by, since_ns, first_hour * HOUR_NS, only)
        if until_ns is not None and end_hour is not None and end_hour * HOUR_NS < until_ns:
            yield _from_rows(group_by, end_hour * HOUR_NS, until_ns, only)
    elif since_ns is not None and until_ns is not None and since_ns < until_ns:
        yield _from_rows(group_by, since_ns, until_ns, only)


def _whole_hours(
    group_by: Sequence[str], first: int | None, end: int | None, only: Mapping[str, str | None]
) -> Iterator[Select[Any]]:
    """Sums of the hours from `first` to before `end` (hours of Unix time): of whole days by day, unless the hours
    themselves are asked for."""
    hours_a_day = DAY_S // HOUR_S
    first_day = None if first is None else -(-first // hours_a_day)
    end_day = None if end is None else end // hours_a_day
    if "hour" in group_by or (first_day is not None and end_day is not None and first_day >= end_day):
        yield _from_sums(USAGE_HOUR.c.hour_s, group_by, first, end, HOUR_S, only)
        return
    yield _from_sums(USAGE_DAY.c.day_s, group_by, first_day, end_day, DAY_S, only)
    if first is not None and first_day is not None and first < first_day * hours_a_day:
        yield _from_sums(USAGE_HOUR.c.hour_s, group_by, first, first_day * hours_a_day, HOUR_S, only)
    if end is not None and end_day is not None and end_day * hours_a_day < end:
        yield _from_sums(USAGE_HOUR.c.hour_s, group_by, end_day * hours_a_day, end, HOUR_S, only)


def unix_ns(moment: datetime) -> int:
    """Exact nanoseconds of an aware datetime."""
    return (moment - EPOCH) // timedelta(microseconds=1) * 1_000


def _conditions(wanted: LedgerFilter) -> list[ColumnExpressionArgument[bool]]:
    conditions: list[ColumnExpressionArgument[bool]] = []
    if wanted.since is not None:
        conditions.append(LEDGER.c.started_at_ns >= unix_ns(wanted.since))
    if wanted.until is not None:
        conditions.append(LEDGER.c.started_at_ns < unix_ns(wanted.until))
    conditions += [LEDGER.c[name] == value for name, value in wanted.equal().items()]
    if wanted.status_class is not None:
        conditions.append(LEDGER.c.status.between(wanted.status_class * 100, wanted.status_class * 100 + 99))
    if wanted.min_latency_ms is not None:
        conditions.append(LEDGER.c.latency_ms >= wanted.min_latency_ms)
    if wanted.min_cost_usd_micros is not None:
        conditions.append(LEDGER.c.cost_usd_micros >= wanted.min_cost_usd_micros)
    if wanted.id_prefix is not None:
        # Ids are hex digits: `g` comes after all that begin so, and the primary key finds them.
        conditions += [LEDGER.c.id >= wanted.id_prefix, LEDGER.c.id < wanted.id_prefix + "g"]
    if wanted.outcome is not None and wanted.outcome != Outcome.COMPLETED:
        conditions.append(NOT_COMPLETED)  # written out, so that the database knows the index to hold all that is wanted
    return conditions


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


def _group_of(cursor: str, length: int) -> list[str]:
    """The group that the page before ended with. Raises BadRequest."""
    try:
        group = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        group = None
    if not isinstance(group, list) or len(group) != length or not all(isinstance(name, str) for name in group):
        raise BadRequest("the cursor is not one that this list gave", fix="leave `cursor` out to begin anew")
    return group


def _from_sums(
    at: Column[Any],
    group_by: Sequence[str],
    first: int | None,
    end: int | None,
    step_s: int,
    only: Mapping[str, str | None],
) -> Select[Any]:
    """Sums of a roll-up, whose column `at` says when its steps of time begin."""
    columns = at.table.c
    conditions = [columns[name] == value for name, value in only.items() if value is not None]
    if first is not None:
        conditions.append(at >= first * step_s)
    if end is not None:
        conditions.append(at < end * step_s)
    times: Mapping[str, ColumnElement[Any]] = {"hour": at, "day": at - at % DAY_S}
    groups = [times[name] if name in times else columns[name] for name in group_by]
    sums = [cast(func.coalesce(func.sum(columns[name]), 0), BigInteger) for name in SUMS]
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
