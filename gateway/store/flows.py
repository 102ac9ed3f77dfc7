"""Questions about flows: sums of any time as weeks, the days and hours at its ends, and rows within the first and the
last hour."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, TypeAlias

from sqlalchemy import BigInteger, ColumnElement, Engine, Integer, Select, Table, cast, false, func, or_, select
from sqlalchemy.sql.elements import NamedColumn

from gateway.errors import BadRequest
from gateway.policy.discovery import State
from gateway.policy.usage import Outcome
from gateway.store.config.discoveries import state_now
from gateway.store.discovery_models import Discovery
from gateway.store.flow_models import DAY_S, EVERY_TEAM, STEPS_S, WEEK_S
from gateway.store.flow_report import FirstTokenQuestion, FlowQuestion
from gateway.store.flow_rollup import (
    ANSWERED,
    FIRST_TOKEN_SUM,
    FLOW_SUM,
    PAST_SUM,
    PAST_SUMS,
    PATH,
    PATH_SUMS,
    ROUTE_BYTES,
    WHO,
)
from gateway.store.ingest import LEDGER
from gateway.store.ledger import HOUR_NS, unix_ns, written_out
from gateway.store.ledger_models import HOUR_S
from gateway.store.report import Statement, rfc3339
from gateway.store.rollup import FAILED

Only: TypeAlias = Mapping[str, str | None]
"""What is asked for, by name; None = all, '' = where there is none."""
Column: TypeAlias = NamedColumn[Any]

LONGEST_NS: Final = STEPS_S[-1] * 1_000_000_000
TIMES: Final = {"hour": HOUR_S, "day": DAY_S}
FIRST_TOKEN_GROUPS: Final = (*ANSWERED, *TIMES)
_PAST_FIELDS: Final = {
    "finding": Discovery.id,
    "process": func.coalesce(Discovery.process, Discovery.executable),
    "user": Discovery.user,
    "container": Discovery.container,
    "unit": Discovery.unit,
    "client": Discovery.client,
    "provider": Discovery.provider,
    "host": Discovery.host,
    "state": state_now,
}
PAST_FIELDS: Final = tuple(_PAST_FIELDS)


@dataclass(frozen=True, slots=True)
class Span:
    """`[begin, end)` in Unix nanoseconds."""

    begin: int
    end: int

    @classmethod
    def of(cls, since: datetime, until: datetime) -> "Span":
        return cls(unix_ns(since), unix_ns(until))

    def summed(self, now: datetime) -> "Span":
        """The same, to the end of a week if it reaches to now: today's own sum then stands for its hours until now.
        What begins in the future is nothing."""
        return self if self.end < unix_ns(now) else Span(self.begin, (self.end // LONGEST_NS + 2) * LONGEST_NS)

    @property
    def ends_s(self) -> int:
        """What the ends of histograms are rounded to: hours, of a week and more days."""
        return HOUR_S if self.end - self.begin < WEEK_S * 1_000_000_000 else DAY_S

    def before(self) -> "Span":
        """As much time, up to this one's beginning."""
        return Span(self.begin - (self.end - self.begin), self.begin)


def flow_question(
    engine: Engine,
    since: datetime,
    until: datetime,
    only: Only,
    *,
    measure: str,
    limit: int,
    denials: Sequence[dict[str, Any]] | None,
    kernel: str | None,
    now: datetime,
) -> FlowQuestion:
    """What asks for the picture as JSON. `denials` None: this caller sees nothing of what goes past the gateway, nor
    the kernel's bytes, which are of all teams together."""
    asked = Span.of(since, until)
    span = asked.summed(now)
    firsts = ("route", "target", "provider")
    return FlowQuestion(
        since=rfc3339(asked.begin),
        until=rfc3339(asked.end),
        paths=[written_out(engine, query) for query in _paths(span, only)],
        names=PATH,
        sums=PATH_SUMS,
        measure=measure,
        limit=limit,
        first_tokens=_first_tokens(engine, firsts, span, only, asked.ends_s),
        first_tokens_before=_first_tokens(engine, firsts, asked.before(), only, asked.ends_s),
        carried=[] if denials is None else [written_out(engine, _carried(span, only))],
        past=[] if denials is None else [written_out(engine, _past(span, only))],
        past_fields=PAST_FIELDS,
        past_sums=PAST_SUMS,
        denials=[one for one in denials or () if all(one.get(name) == value for name, value in _who(only))],
        kernel=kernel,
    )


def first_token_question(
    engine: Engine, groups: Sequence[str], since: datetime, until: datetime, only: Only, *, now: datetime
) -> FirstTokenQuestion:
    """What asks for percentiles by group. Raises BadRequest on a group that does not exist."""
    for name in groups:
        if name not in FIRST_TOKEN_GROUPS:
            raise BadRequest(f"cannot group by {name!r}", fix=f"use some of {', '.join(FIRST_TOKEN_GROUPS)}")
    asked = Span.of(since, until)
    ends_s = HOUR_S if "hour" in groups else asked.ends_s
    return FirstTokenQuestion(statements=_first_tokens(engine, groups, asked.summed(now), only, ends_s), groups=groups)


def _paths(span: Span, only: Only) -> Iterator[Select[Any]]:
    if span.begin >= span.end:
        return
    columns = [FLOW_SUM.c[name] for name in PATH]
    sums = [_sum(FLOW_SUM.c[name]) for name in PATH_SUMS]
    # What tells paths apart soonest comes first: hardly any has a process, and sorting looks at one name after another.
    by = [FLOW_SUM.c[name] for name in sorted(PATH, key=lambda name: name in WHO)]
    yield select(*columns, *sums).where(_steps(FLOW_SUM, span), *_equal(FLOW_SUM, only)).group_by(*by)
    row = LEDGER.c
    failed = (row.outcome.in_(FAILED)) | (row.status >= 400)
    used = (func.coalesce(row.input_tokens, 0) + func.coalesce(row.output_tokens, 0)) > 0
    figures = {
        "requests": func.count(),
        "errors": _sum(cast(failed, Integer)),
        "refused": _sum(cast(row.outcome == Outcome.REFUSED, Integer)),
        "unpriced": _sum(cast(row.cost_usd_micros.is_(None) & used, Integer)),
        "bytes": _sum(func.coalesce(row.bytes_in, 0) + func.coalesce(row.bytes_out, 0)),
    }
    names = [func.coalesce(row[name], "").label(name) for name in PATH]
    sums = [figures[name] if name in figures else _sum(row[name]) for name in PATH_SUMS]
    for begin, end in _edges(span):
        yield select(*names, *sums).where(*_within(begin, end), *_equal(LEDGER, only)).group_by(*names)


def _first_tokens(engine: Engine, groups: Sequence[str], span: Span, only: Only, ends_s: int) -> list[Statement]:
    """Rows: the groups, bucket, answers. The steps of `ends_s` at the ends count as whole ones: a percentile hardly
    moves, and buckets are not made of rows in SQL."""
    ends_ns = ends_s * 1_000_000_000
    begin, end = span.begin // ends_ns * ends_ns, -(-span.end // ends_ns) * ends_ns
    if begin >= end:
        return []
    table = FIRST_TOKEN_SUM
    columns: list[ColumnElement[Any]] = [
        table.c.at_s - table.c.at_s % TIMES[name] if name in TIMES else table.c[name] for name in groups
    ]
    wanted = {name: value for name, value in only.items() if name in ANSWERED}
    if "team" not in groups:
        wanted["team"] = EVERY_TEAM if only.get("team") is None else only["team"]
    longest_s = min([TIMES[name] for name in groups if name in TIMES], default=STEPS_S[-1])
    steps = _steps(table, Span(begin, end), [step_s for step_s in STEPS_S if step_s <= longest_s])
    query = (
        select(*columns, table.c.bucket, _sum(table.c.answers))
        .where(steps, *_equal(table, wanted))
        .group_by(*columns, table.c.bucket)
    )
    if "team" in groups:
        query = query.where(table.c.team != EVERY_TEAM)
    return [written_out(engine, query)]


def _carried(span: Span, only: Only) -> Select[Any]:
    table = ROUTE_BYTES
    wanted = {name: value for name, value in only.items() if name in ("route", "target")}
    return (
        select(table.c.route, table.c.target, _sum(table.c.bytes))
        .where(_steps(table, _whole_hours(span)), *_equal(table, wanted))
        .group_by(table.c.route, table.c.target)
    )


def _past(span: Span, only: Only) -> Select[Any]:
    """Findings with connections in these hours, and those that are denied. None where a part of the gateway is asked
    for: they pass none."""
    sums = select(PAST_SUM.c.discovery_id, *[_sum(PAST_SUM.c[name]).label(name) for name in PAST_SUMS])
    carried = sums.where(_steps(PAST_SUM, _whole_hours(span))).group_by(PAST_SUM.c.discovery_id).subquery()
    columns: list[Any] = [*_PAST_FIELDS.values(), *[func.coalesce(carried.c[name], 0) for name in PAST_SUMS]]
    query = (
        select(*columns)
        .select_from(Discovery)
        .outerjoin(carried, carried.c.discovery_id == Discovery.id)
        .where(or_(carried.c.discovery_id.is_not(None), state_now == State.DENY), state_now != State.IGNORE)
    )
    for name, value in _who(only):
        query = query.where(_PAST_FIELDS[name] == value)
    if any(value is not None for name, value in only.items() if name not in _PAST_FIELDS):
        query = query.where(Discovery.id < 0)
    return query


def _who(only: Only) -> list[tuple[str, str]]:
    """What of a question can be asked of a finding."""
    return [(name, value) for name, value in only.items() if value is not None and name in _PAST_FIELDS]


def _whole_hours(span: Span) -> Span:
    """All that it touches: there are no rows to cut them by."""
    return Span(span.begin // HOUR_NS * HOUR_NS, -(-span.end // HOUR_NS) * HOUR_NS)


def _steps(table: Table, span: Span, steps_s: Sequence[int] = STEPS_S) -> ColumnElement[bool]:
    """Whole hours within the time, in the longest of these steps that fit."""
    hours = in_longest(steps_s, -(-span.begin // HOUR_NS) * HOUR_S, span.end // HOUR_NS * HOUR_S)
    return or_(false(), *[_in_steps(table, *part) for part in hours])


def in_longest(steps_s: Sequence[int], begin_s: int, end_s: int) -> Iterator[tuple[int, int, int]]:
    """Step, begin, end: what a time (both multiples of the shortest step) is put together from."""
    *shorter, step_s = steps_s
    first, last = -(-begin_s // step_s) * step_s, end_s // step_s * step_s
    ends = [(begin_s, end_s)]
    if first < last:
        yield step_s, first, last
        ends = [(begin_s, first), (last, end_s)]
    for begin, end in ends:
        if shorter and begin < end:
            yield from in_longest(shorter, begin, end)


def _in_steps(table: Table, step_s: int, begin_s: int, end_s: int) -> ColumnElement[bool]:
    at = table.c.at_s
    return (table.c.step_s == step_s) & (at >= begin_s) & (at < end_s)


def _edges(span: Span) -> Iterator[tuple[int, int]]:
    """The parts of hours at both ends."""
    first, end = -(-span.begin // HOUR_NS) * HOUR_NS, span.end // HOUR_NS * HOUR_NS
    if first > end:  # within one hour
        yield span.begin, span.end
        return
    if span.begin < first:
        yield span.begin, first
    if end < span.end:
        yield end, span.end


def _within(begin: int, end: int) -> list[ColumnElement[bool]]:
    return [LEDGER.c.started_at_ns >= begin, LEDGER.c.started_at_ns < end]


def _equal(table: Table, only: Only) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    for name, value in only.items():
        if value is None:
            continue
        column = table.c[name]
        found.append(or_(column == "", column.is_(None)) if value == "" and table is LEDGER else column == value)
    return found


def _sum(column: ColumnElement[Any]) -> ColumnElement[int]:
    return cast(func.coalesce(func.sum(column), 0), BigInteger)


def default_span(since: datetime | None, until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """The last day where nothing was asked for. Raises BadRequest where it ends before it begins."""
    until = until or now
    since = since or until - timedelta(days=1)
    if since >= until:
        raise BadRequest("`from` is not before `to`", fix="ask for some time")
    return since, until
