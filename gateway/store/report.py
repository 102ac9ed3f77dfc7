"""Reports: pages of usage and of the ledger, from SQL to the finished JSON.

A question holds its SQL as text with its values, so that whoever answers needs neither SQLAlchemy nor models: a
worker's thread where little is to be read, else the reporter (`store.reporter_main`), a process that must start at once
and stay small. Both call `questions.answer`, so both say the same. Pure: what runs the SQL is given.
"""

import base64
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, Final, TypeAlias

import orjson

from gateway.policy.attempts import told

Values: TypeAlias = Sequence[Any] | dict[str, Any]
"""Of a statement, as its driver takes them: a sequence for SQLite, by name for PostgreSQL."""
Row: TypeAlias = Sequence[Any]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_TIMES: Final = {"day": "%Y-%m-%d", "hour": "%Y-%m-%dT%H:%M:%SZ"}


@dataclass(frozen=True, slots=True)
class Statement:
    sql: str
    values: Values


Fetch: TypeAlias = Callable[[Statement], Iterable[Row]]


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageQuestion:
    statements: Sequence[Statement]
    """Each row: the groups, then the sums. Groups that several of them give are added up."""
    groups: Sequence[str]
    sums: Sequence[str]
    """The first says how many requests: a group without any is left out."""
    limit: int
    after: Sequence[str] | None
    """The group that the page before ended with."""
    kind: str = "usage"


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerQuestion:
    statement: Statement
    """In the page's order, and one row more than the page has where there are more."""
    fields: Sequence[str]
    truths: Sequence[str]
    """Those of them that are true or false, which SQLite holds as numbers."""
    limit: int
    ascending: bool
    in_flight: Sequence[Row]
    """Rows of requests that may not have ended, of this page or a later one: the next `limit` + 1 of them at least."""
    kind: str = "ledger"


def usage_items(
    statements: Iterable[Statement], groups: Sequence[str], sums: Sequence[str], fetch: Fetch
) -> list[tuple[list[str], dict[str, Any]]]:
    """All groups in order, each as its place in the order and as it is shown."""
    found: dict[tuple[Any, ...], list[int]] = {}
    names = len(groups)
    for statement in statements:
        for row in fetch(statement):
            into = found.setdefault(tuple(row[:names]), [0] * len(sums))
            for i, amount in enumerate(row[names:]):
                into[i] += int(amount)
    items = []
    for group, added in sorted(found.items()):
        if added[0]:
            item = {name: shown_group(name, value) for name, value in zip(groups, group, strict=True)}
            items.append(([value or "" for value in item.values()], item | dict(zip(sums, added, strict=True))))
    return items


def usage_page(question: UsageQuestion, fetch: Fetch) -> bytes:
    """`{items, next_cursor}`. Raises what `fetch` raises."""
    items = usage_items(question.statements, question.groups, question.sums, fetch)
    if question.after is not None:
        last = list(question.after)
        items = [item for item in items if item[0] > last]
    next_cursor = coded(orjson.dumps(items[question.limit - 1][0])) if len(items) > question.limit else None
    return orjson.dumps({"items": [shown for _, shown in items[: question.limit]], "next_cursor": next_cursor})


def shown_group(name: str, value: Any) -> Any:
    """A value that was grouped by, as the API has it."""
    return _time(_TIMES[name], value) if name in _TIMES else value or None


@lru_cache(1 << 12)
def _time(form: str, at_s: int) -> str:
    """Each stands in many groups."""
    return datetime.fromtimestamp(at_s, UTC).strftime(form)


def ledger_page(question: LedgerQuestion, fetch: Fetch) -> bytes:
    """`{items, next_cursor}`. Raises what `fetch` raises."""
    at, id_at = question.fields.index("started_at_ns"), question.fields.index("id")

    def position(row: Row) -> tuple[int, str]:
        return row[at], row[id_at]

    rows = list(fetch(question.statement))
    more = len(rows) > question.limit
    rows = rows[: question.limit]
    if question.in_flight:
        ended = {row[id_at] for row in rows}
        rows += [row for row in question.in_flight if row[id_at] not in ended]
        rows.sort(key=position, reverse=not question.ascending)
        more = more or len(rows) > question.limit
        rows = rows[: question.limit]
    items = [row_json(question.fields, row) for row in rows]
    for item in items:
        for name in question.truths:
            item[name] = bool(item[name])
    next_cursor = cursor_after(*position(rows[-1])) if rows and more else None
    return orjson.dumps({"items": items, "next_cursor": next_cursor})


def row_json(fields: Sequence[str], row: Row) -> dict[str, Any]:
    """A row of the ledger as the API shows it: its attempts as a list; its time in words, at the end."""
    item = told(dict(zip(fields, row, strict=True)))
    item["started_at"] = rfc3339(item.pop("started_at_ns"))
    return item


def cursor_after(started_at_ns: int, request_id: str) -> str:
    """What asks for the page behind this row of the ledger."""
    return coded(f"{started_at_ns}.{request_id}".encode())


def coded(cursor: bytes) -> str:
    return base64.urlsafe_b64encode(cursor).decode().rstrip("=")


def rfc3339(at_ns: int) -> str:
    """To the microsecond, UTC."""
    at = EPOCH + timedelta(microseconds=at_ns // 1_000)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
