"""What probes report, gathered and written to `discovery`: one row for each who × what, on each node.

Reports are deltas, and come from several places at once; they are added up in memory (`Gathered`, bounded) and written
in batches. Findings that nobody decided to act on go, the longest unseen first, when there are too many.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from gateway.policy.discovery import State
from gateway.store.discovery_models import Discovery
from gateway.store.flow_rollup import add_past

MOST_KEPT: Final = 10_000
"""Rows of all nodes together."""
MOST_WAITING: Final = 5_000
"""Findings in memory while the database is away; more are counted as lost."""
LONGEST_TEXT: Final = 1_024
GREATEST_COUNT: Final = 2**62
EVIDENCE: Final = frozenset(("sni", "dns", "address", "http", "ech"))
UNACTED: Final = (State.NEW.value, State.OBSERVE.value, State.IGNORE.value)
LATEST_S: Final = 7_258_118_400.0
"""The year 2200: a time beyond it is an error, and would not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One item of a report. Times are Unix seconds; counts are since the report before."""

    process: str | None
    executable: str | None
    uid: int | None
    user: str | None
    cgroup: str | None
    unit: str | None
    container: str | None
    client: str | None
    provider: str
    host: str
    address: str | None
    port: int | None
    evidence: str
    first_seen_s: float
    last_seen_s: float
    connections: int
    bytes: int


def finding_of(item: Mapping[str, Any]) -> Finding:
    """What the probes sent. Texts in it are whatever a process or client chose: cut, and without what a database
    refuses. Raises KeyError, TypeError and ValueError for what is no finding."""
    first_s, last_s = _time(item["first_seen_s"]), _time(item["last_seen_s"])
    evidence = str(item["evidence"])
    if evidence not in EVIDENCE:
        raise ValueError(f"{evidence!r} is no evidence")
    provider, host = text_of(item["provider"]), text_of(item["host"])
    if not provider or not host:
        raise ValueError("a finding names provider and host")
    client, address, port, uid = (item.get(name) for name in ("client", "address", "port", "uid"))
    return Finding(
        process=text_of(item.get("process")),
        executable=text_of(item.get("executable")),
        uid=None if uid is None else count_of(uid),
        user=text_of(item.get("user")),
        cgroup=text_of(item.get("cgroup")),
        unit=text_of(item.get("unit")),
        container=text_of(item.get("container")),
        client=None if client is None else str(ip_address(client)),
        provider=provider,
        host=host,
        address=None if address is None else str(ip_address(address)),
        port=None if port is None else min(count_of(port), 65_535),
        evidence=evidence,
        first_seen_s=min(first_s, last_s),
        last_seen_s=last_s,
        connections=count_of(item["connections"]),
        bytes=count_of(item["bytes"]),
    )


def fingerprint(node: str, found: Finding) -> str:
    """The same for the same program of the same user, in the same container or unit, and the same host asked for."""
    program = found.executable or found.process
    who = (node, program, found.uid, found.user, found.unit, found.container, found.client)
    return hashlib.sha256(json.dumps([*who, found.provider, found.host]).encode()).hexdigest()


class Gathered:
    """Findings that are not written yet, by fingerprint."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._waiting: dict[str, Finding] = {}
        self.lost = 0
        """Findings that found no room."""
        self.refused = 0
        """Items that were no findings."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, items: Iterable[Any]) -> None:
        for item in items:
            try:
                self._put(finding_of(item))
            except (KeyError, TypeError, ValueError, AttributeError):
                self.refused += 1

    def take(self, most: int = MOST_WAITING) -> dict[str, Finding]:
        """Those that wait longest; `put_back` them when they cannot be written."""
        keys = list(itertools.islice(self._waiting, most))
        return {key: self._waiting.pop(key) for key in keys}

    def put_back(self, taken: Mapping[str, Finding]) -> None:
        for found in taken.values():
            self._put(found)

    def _put(self, found: Finding) -> None:
        key = fingerprint(self._node, found)
        before = self._waiting.get(key)
        if before is not None:
            self._waiting[key] = _sum(before, found)
        elif len(self._waiting) < MOST_WAITING:
            self._waiting[key] = found
        else:
            self.lost += 1


@dataclass(frozen=True, slots=True)
class Written:
    """A finding that is new in the table."""

    id: int
    found: Finding


_ADD = (
    update(Discovery)
    .where(Discovery.id == bindparam("row"))
    .values(
        first_seen=bindparam("first"),
        last_seen=bindparam("last"),
        connections=bindparam("more_connections"),
        bytes=bindparam("more_bytes"),
        address=bindparam("new_address"),
        port=bindparam("new_port"),
        evidence=bindparam("new_evidence"),
        process=bindparam("new_process"),
        cgroup=bindparam("new_cgroup"),
    )
)


def write(connection: Connection, node: str, batch: Mapping[str, Finding]) -> list[Written]:
    """Add the batch (some hundreds at most) to the table, in the caller's transaction. Returns what is new. Only this
    node's keeper writes this node's rows, so that nobody inserts the same meanwhile."""
    columns = (
        Discovery.fingerprint, Discovery.id, Discovery.first_seen, Discovery.last_seen, Discovery.connections,
        Discovery.bytes,
    )  # fmt: skip
    rows = connection.execute(select(*columns).where(Discovery.fingerprint.in_(list(batch))))
    present = {row.fingerprint: row for row in rows}
    changes, missing = [], []
    for key, found in batch.items():
        row = present.get(key)
        if row is None:
            missing.append(_columns(node, key, found))
            continue
        changes.append(
            {
                "row": row.id,
                "first": min(row.first_seen, _moment(found.first_seen_s)),
                "last": max(row.last_seen, _moment(found.last_seen_s)),
                "more_connections": min(GREATEST_COUNT, row.connections + found.connections),
                "more_bytes": min(GREATEST_COUNT, row.bytes + found.bytes),
                "new_address": found.address,
                "new_port": found.port,
                "new_evidence": found.evidence,
                "new_process": found.process,
                "new_cgroup": found.cgroup,
            }
        )
    if changes:
        connection.execute(_ADD, changes)
    ids = {key: int(row.id) for key, row in present.items()}
    made: list[Any] = []
    if missing:
        made = [*connection.execute(insert(Discovery).returning(Discovery.id, Discovery.fingerprint), missing)]
        ids |= {row.fingerprint: row.id for row in made}
    carried = [(ids[key], one.last_seen_s, (one.connections, one.bytes, 0, 0, 0)) for key, one in batch.items()]
    add_past(connection, carried)
    return sorted((Written(row.id, batch[row.fingerprint]) for row in made), key=lambda one: one.id)


def forget_oldest(connection: Connection, most: int = MOST_KEPT) -> list[int]:
    """Remove what is more than `most`, the longest unseen first, ignored ones before others; never what a rule or
    denial was made for. Returns the ids."""
    surplus = (connection.execute(select(func.count()).select_from(Discovery)).scalar_one()) - most
    if surplus <= 0:
        return []
    ids = list(
        connection.scalars(
            select(Discovery.id)
            .where(Discovery.state.in_(UNACTED))
            .order_by(Discovery.state != State.IGNORE.value, Discovery.last_seen, Discovery.id)
            .limit(surplus)
        )
    )
    for start in range(0, len(ids), 500):
        connection.execute(delete(Discovery).where(Discovery.id.in_(ids[start : start + 500])))
    return ids


def _columns(node: str, key: str, found: Finding) -> dict[str, Any]:
    return {
        "fingerprint": key, "node": node, "process": found.process, "executable": found.executable, "uid": found.uid,
        "user_name": found.user, "cgroup": found.cgroup, "unit": found.unit, "container": found.container,
        "client": found.client, "provider": found.provider, "host": found.host, "address": found.address,
        "port": found.port, "evidence": found.evidence, "first_seen": _moment(found.first_seen_s),
        "last_seen": _moment(found.last_seen_s), "connections": found.connections, "bytes": found.bytes,
        "state": State.NEW.value,
    }  # fmt: skip


def _sum(before: Finding, found: Finding) -> Finding:
    """The later one's words, both one's counts."""
    later = found if found.last_seen_s >= before.last_seen_s else before
    return replace(
        later,
        first_seen_s=min(before.first_seen_s, found.first_seen_s),
        last_seen_s=max(before.last_seen_s, found.last_seen_s),
        connections=min(GREATEST_COUNT, before.connections + found.connections),
        bytes=min(GREATEST_COUNT, before.bytes + found.bytes),
    )


def text_of(given: Any) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str):
        raise TypeError("no text")
    cleaned = given.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
    return cleaned[:LONGEST_TEXT] or None


def count_of(given: Any) -> int:
    if type(given) is not int or given < 0:
        raise ValueError(f"{given!r} is no count")
    return min(given, GREATEST_COUNT)


def _time(given: Any) -> float:
    seconds = float(given)
    if not 0 <= seconds <= LATEST_S:
        raise ValueError(f"{given!r} is no time")
    return seconds


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
