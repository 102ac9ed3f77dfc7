"""Rows of `alert`: what the probes sent, checked, written, and read again."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Final

from sqlalchemy import Connection, delete, func, insert, select
from sqlalchemy.orm import Session
from sqlalchemy.sql import ColumnElement

from gateway.store.alert_models import Alert
from gateway.store.views import View

MOST_KEPT: Final = 20_000
"""Rows of all nodes together; the oldest go."""
LONGEST_TEXT: Final = 1_024
MOST_ARGUMENTS: Final = 32
GREATEST: Final = 2**62
LATEST_S: Final = 7_258_118_400.0
"""The year 2200: a time beyond it is an error, and would not fit."""
TEXTS: Final = ("process", "executable", "user", "cgroup", "container")


class AlertView(View):
    """One alert."""

    id: int
    at: datetime
    node: str
    kind: str
    reason: str
    count: int
    refused: bool
    pid: int | None
    process: str | None
    executable: str | None
    argv: list[str] | None
    parent: int | None
    uid: int | None
    user: str | None
    cgroup: str | None
    container: str | None
    destination: str | None
    port: int | None


def columns_of(node: str, item: Mapping[str, Any]) -> dict[str, Any]:
    """What the probes sent as a row. Texts are whatever a process chose: cut, and without what a database refuses.
    Raises KeyError, TypeError, ValueError for what is no alert."""
    kind = item["kind"]
    if kind not in ("exec", "connect"):
        raise ValueError(f"{kind!r} is no kind of alert")
    at_s = float(item["at_s"])
    if not 0 <= at_s < LATEST_S:
        raise ValueError("no time")
    argv, destination = item.get("argv"), item.get("destination")
    return {
        "at": datetime.fromtimestamp(at_s, UTC),
        "node": node,
        "kind": kind,
        "reason": _text(item["reason"]) or "",
        "count": _number(item["count"]) or 1,
        "refused": item.get("refused") is True,
        "argv": None if argv is None else [_text(each) or "" for each in argv[:MOST_ARGUMENTS]],
        "destination": None if destination is None else str(ip_address(destination)),
        **{name: _number(item.get(name)) for name in ("pid", "parent", "uid", "port")},
        **{name: _text(item.get(name)) for name in TEXTS},
    }


def _text(value: Any) -> str | None:
    return None if value is None else str(value)[:LONGEST_TEXT].replace("\0", "�").encode("utf-8", "replace").decode()


def _number(value: Any) -> int | None:
    return None if value is None else max(0, min(GREATEST, int(value)))


def write(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> list[int]:
    """Ids of the new rows, in order, in the caller's transaction."""
    query = insert(Alert).returning(Alert.id)
    return [connection.execute(query.values(**row)).scalar_one() for row in rows]


def forget_oldest(connection: Connection, most: int = MOST_KEPT) -> None:
    last = connection.execute(select(func.max(Alert.id))).scalar()
    if last is not None and last > most:
        connection.execute(delete(Alert).where(Alert.id <= last - most))


@dataclass(frozen=True, slots=True)
class AlertFilter:
    kind: str | None = None
    process: str | None = None
    user: str | None = None
    container: str | None = None
    refused: bool | None = None
    since: datetime | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        found: list[ColumnElement[bool]] = [
            getattr(Alert, name) == wanted
            for name in ("kind", "process", "user", "container", "refused")
            if (wanted := getattr(self, name)) is not None
        ]
        if self.since is not None:
            found.append(Alert.at >= self.since)
        return found


def read(session: Session, wanted: AlertFilter, *, before_id: int | None, limit: int) -> list[AlertView]:
    """The newest first."""
    query = select(Alert).where(*wanted.conditions()).order_by(Alert.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(Alert.id < before_id)
    return [AlertView.model_validate(row, from_attributes=True) for row in session.scalars(query)]
