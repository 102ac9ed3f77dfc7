"""Calls that probes read within TLS, gathered and added to the findings of the same program, user, container and host.

A call may be known before its finding is written: it waits, bounded in number and time. One that gets no finding in
that time (its host is none of an AI provider's) is counted and forgotten.
"""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, func, select, update

from gateway.probes.container_ids import container_of
from gateway.store.discovery_models import Discovery
from gateway.store.findings import GREATEST_COUNT, count_of, text_of
from gateway.store.flow_rollup import add_past

MOST_WAITING: Final = 1_000
LONGEST_WAIT_S: Final = 15.0
MOST_MODELS: Final = 10
LONGEST_MODEL: Final = 128
WORST_FIRST: Final = ("refused", "http2", "covered", "no_libssl")
"""What is said of a finding of several processes: one without libssl has no calls to miss where another has it."""


class Caller(NamedTuple):
    """Whose calls, and where to."""

    program: str
    """Executable, or the process's name where that is not known."""
    user: str
    """Name, or number where there is none."""
    container: str | None
    """Its short id."""
    host: str


@dataclass(slots=True)
class Sum:
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    models: list[str] = field(default_factory=list)
    since_s: float = field(default_factory=time.monotonic)

    def add(self, other: "Sum") -> None:
        self.calls += other.calls
        self.input_tokens = min(GREATEST_COUNT, self.input_tokens + other.input_tokens)
        self.output_tokens = min(GREATEST_COUNT, self.output_tokens + other.output_tokens)
        self.models = joined(self.models, other.models)
        self.since_s = min(self.since_s, other.since_s)


class Calls:
    """Those that are not written yet."""

    def __init__(self) -> None:
        self._waiting: dict[Caller, Sum] = {}
        self.unplaced = 0
        """Calls that no finding was found for, or no room to wait."""
        self.refused = 0
        """Items that were no calls."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, items: Iterable[Any]) -> None:
        for item in items:
            try:
                self._put(*_read(item))
            except (KeyError, TypeError, ValueError, AttributeError):
                self.refused += 1

    def take(self) -> dict[Caller, Sum]:
        taken, self._waiting = self._waiting, {}
        return taken

    def put_back(self, taken: Mapping[Caller, Sum]) -> None:
        """To be tried again, unless they have waited for long."""
        now_s = time.monotonic()
        for caller, found in taken.items():
            if now_s - found.since_s > LONGEST_WAIT_S:
                self.unplaced += found.calls
            else:
                self._put(caller, found)

    def _put(self, caller: Caller, found: Sum) -> None:
        before = self._waiting.get(caller)
        if before is not None:
            before.add(found)
        elif len(self._waiting) < MOST_WAITING:
            self._waiting[caller] = found
        else:
            self.unplaced += found.calls


_ADD = (
    update(Discovery)
    .where(Discovery.id == bindparam("row"))
    .values(
        calls=bindparam("new_calls"),
        input_tokens=bindparam("new_input"),
        output_tokens=bindparam("new_output"),
        models=bindparam("new_models"),
    )
)


def write(connection: Connection, node: str, taken: Mapping[Caller, Sum]) -> dict[Caller, Sum]:
    """Add them to this node's findings, in the caller's transaction: of several that fit to the one seen last. Returns
    those that fit none."""
    program = func.coalesce(Discovery.executable, Discovery.process)
    columns = (
        Discovery.id, program.label("program"), Discovery.uid, Discovery.user.label("user"), Discovery.container,
        Discovery.cgroup, Discovery.host, Discovery.calls, Discovery.input_tokens, Discovery.output_tokens,
        Discovery.models,
    )  # fmt: skip
    rows = connection.execute(
        select(*columns)
        .where(Discovery.node == node, Discovery.client.is_(None))
        .where(Discovery.host.in_({caller.host for caller in taken}))
        .where(program.in_({caller.program for caller in taken}))
        .order_by(Discovery.last_seen, Discovery.id)
    )
    sums: dict[int, tuple[Any, Sum]] = {}
    left = dict(taken)
    asked: dict[tuple[str, str, str], list[Caller]] = {}
    for caller in taken:
        asked.setdefault((caller.program, caller.user, caller.host), []).append(caller)
    for row in reversed(rows.all()):
        user = row.user if row.user is not None else str(row.uid)
        for caller in asked.get((row.program, user, row.host), ()):
            if caller in left and same_container(caller.container, row.container, row.cgroup):
                sums.setdefault(row.id, (row, Sum()))[1].add(left.pop(caller))
    changes = [
        {
            "row": number,
            "new_calls": min(GREATEST_COUNT, row.calls + more.calls),
            "new_input": min(GREATEST_COUNT, row.input_tokens + more.input_tokens),
            "new_output": min(GREATEST_COUNT, row.output_tokens + more.output_tokens),
            "new_models": ",".join(joined(models_of(row.models), more.models)),
        }
        for number, (row, more) in sums.items()
    ]
    if changes:
        connection.execute(_ADD, changes)
        now_s = time.time()
        read = [(more.calls, more.input_tokens, more.output_tokens) for _, more in sums.values()]
        add_past(connection, [(number, now_s, (0, 0, *each)) for number, each in zip(sums, read, strict=True)])
    return left


def same_container(short_id: str | None, container: str | None, cgroup: str | None) -> bool:
    """Whether a process's container is that of a finding, which has a name where one is known."""
    return short_id in (container, container_of(cgroup)) if short_id is not None else container is None


def models_of(text: str) -> list[str]:
    """As the column holds them."""
    return text.split(",") if text else []


def joined(known: list[str], more: list[str]) -> list[str]:
    """The first ten."""
    return list(dict.fromkeys([*known, *more]))[:MOST_MODELS]


def coverage_of(items: Iterable[Mapping[str, Any]], found: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """How far a finding's processes are read, or were as long as they ran, and why no farther; twice None where nobody
    chose them. `items`: by `coverage_item`, `found`: `program`, `user`, `container`, `cgroup`."""
    fitting = [
        item
        for item in items
        if found["program"] == (item["executable"] or item["process"])
        and found["user"] == item["user"]
        and same_container(item["container"], found["container"], found["cgroup"])
    ]
    for state in WORST_FIRST:
        for item in [each for each in fitting if each["running"]] or fitting:
            if item["state"] == state:
                return state, item["reason"]
    return None, None


def coverage_item(item: Mapping[str, Any]) -> dict[str, Any]:
    """What the probes sent. Raises KeyError, TypeError and ValueError for what is none."""
    if item["state"] not in WORST_FIRST:
        raise ValueError(f"{item['state']!r} is no state")
    names = ("process", "executable", "user", "container", "reason")
    return {"state": item["state"], **{name: text_of(item[name]) for name in names}, "running": 1}


def _read(item: Mapping[str, Any]) -> tuple[Caller, Sum]:
    program, user, host = text_of(item["executable"]) or text_of(item["process"]), text_of(item["user"]), item["host"]
    if not program or not user or not host:
        raise ValueError("a call names program, user and host")
    model = (text_of(item["model"]) or "").replace(",", "")[:LONGEST_MODEL]
    tokens = [0 if item[name] is None else count_of(item[name]) for name in ("input_tokens", "output_tokens")]
    caller = Caller(program, user, text_of(item["container"]), _name(text_of(host) or ""))
    return caller, Sum(1, tokens[0], tokens[1], [model] if model else [])


def _name(host: str) -> str:
    """Of a Host header, as findings have it."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")
