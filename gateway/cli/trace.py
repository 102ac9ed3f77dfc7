"""`sluicegate trace`: lines as things happen, or at the end a count or a histogram of them.

Ends after a time or a number of events, by Ctrl-C, by SIGTERM, or when nobody reads on; with the connection to the
agent go the probes.
"""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import orjson

from gateway.cli.agent_client import Trace
from gateway.cli.output import note, say, table
from gateway.errors import BadRequest

Event: TypeAlias = dict[str, Any]

COLUMNS: Final[dict[str, dict[str, int]]] = {
    "exec": {"time": 12, "user": 10, "parent": 7, "parent_process": 15, "pid": 7, "result": 7, "command": 0},
    "connect": {"time": 12, "user": 10, "pid": 7, "process": 15, "container": 12, "destination": 39, "port": 5,
                "result": 11, "ms": 9},
    "dns": {"time": 12, "pid": 7, "process": 15, "server": 15, "type": 5, "name": 40, "result": 9, "ms": 9,
            "answers": 0},
    "http": {"time": 12, "pid": 7, "process": 15, "role": 6, "peer": 15, "port": 5, "method": 7, "result": 9, "ms": 9,
             "url": 0},
}  # fmt: skip
"""Field and width, 0 = whatever is left. What is no field of an event is made in `_cell`."""
RIGHT: Final = ("pid", "parent", "port", "ms")
FIELDS: Final = {
    "exec": ("pid", "process", "uid", "user", "cgroup", "container", "parent", "parent_process", "executable",
             "result"),
    "connect": ("pid", "process", "uid", "user", "cgroup", "container", "protocol", "destination", "port", "source",
                "result"),
    "dns": ("pid", "process", "uid", "user", "cgroup", "container", "server", "name", "type", "result"),
    "http": ("pid", "process", "uid", "user", "cgroup", "container", "role", "peer", "port", "method", "host", "path",
             "result"),
}  # fmt: skip
"""What can be counted by."""
MOST_GROUPS: Final = 10_000
BAR: Final = 40


class Summary(Protocol):
    """What is printed at the end instead of each event."""

    def add(self, event: Event) -> None: ...

    def show(self) -> None: ...


def summary_of(kind: str, count: str | None, *, histogram: bool, by: str | None, as_json: bool) -> Summary | None:
    """Raises BadRequest."""
    fields = [each.strip() for each in count.split(",")] if count else [by] if by else []
    wrong = [each for each in fields if each not in FIELDS[kind]]
    if wrong:
        raise BadRequest(f"{kind} has no field {wrong[0]!r}", fix=f"use one of {', '.join(FIELDS[kind])}")
    if count:
        if histogram:
            raise BadRequest("--count and --histogram are two things", fix="use one of them")
        return _Counts(fields, as_json=as_json)
    if by and not histogram:
        raise BadRequest("--by is for histograms", fix="add --histogram, or use --count")
    return _Latencies(by, as_json=as_json) if histogram else None


def run(
    path: Path, kind: str, filters: dict[str, Any], summary: Summary | None, *, duration_s: float | None,
    limit: int | None, as_json: bool,
) -> int:  # fmt: skip
    """Returns the exit code. Raises AgentAway, SluicegateError."""
    lost = 0
    try:
        with _ends_cleanly(), Trace(path, kind, filters) as trace:
            printed = _lines(kind, as_json=as_json) if summary is None else summary.add
            note(f"tracing {kind}; Ctrl-C ends it")
            until_s = None if duration_s is None else time.monotonic() + duration_s
            while (news := trace.next(until_s, sys.stdout.fileno())) is not None:
                if news["lost"] != lost:
                    note(f"{news['lost'] - lost} events were lost: more happened than can be told")
                    lost = news["lost"]
                events = news["events"] if limit is None else news["events"][:limit]
                for event in events:
                    printed(event)
                if limit is not None:
                    limit -= len(events)
                    if limit == 0:
                        break
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        _abandon_stdout()
        return 0
    try:
        if summary is not None:
            summary.show()
    except BrokenPipeError:
        _abandon_stdout()
    return 0


@contextmanager
def _ends_cleanly() -> Iterator[None]:
    """SIGTERM ends a trace as Ctrl-C does: with its summary."""

    def end(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _abandon_stdout() -> None:
    """Python flushes it at its end, and would complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _lines(kind: str, *, as_json: bool) -> Callable[[Event], None]:
    if as_json:
        return lambda event: say(orjson.dumps(event).decode())
    columns = COLUMNS[kind]

    def line(texts: dict[str, str]) -> str:
        cells = [
            texts[name].rjust(width) if name in RIGHT else texts[name].ljust(width) for name, width in columns.items()
        ]
        return " ".join(cells).rstrip()

    say(line({name: name.replace("_process", "").upper() for name in columns}))
    return lambda event: say(line({name: _cell(name, event) for name in columns}))


def _cell(name: str, event: Event) -> str:
    match name:
        case "time":
            return datetime.fromtimestamp(event["at_s"], UTC).astimezone().strftime("%H:%M:%S.%f")[:12]
        case "ms":
            return "-" if event["latency_ms"] is None else f"{event['latency_ms']:.3f}"
        case "user":
            return str(event["user"] or event["uid"])
        case "command":
            return _plain(" ".join([event["executable"] or "?", *event["argv"][1:]]) + " …" * event["argv_cut"])
        case "answers":
            return _plain(", ".join(event["answers"]))
        case "url":
            return _plain(f"{event['host'] or ''}{event['path']}")
        case _:
            found = event[name]
            return "-" if found is None else _plain(str(found))


def _plain(text: str) -> str:
    """What strangers wrote must not steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


class _Counts:
    def __init__(self, fields: list[str], *, as_json: bool) -> None:
        self._fields = fields
        self._as_json = as_json
        self._counts: Counter[tuple[Any, ...]] = Counter()
        self._more = 0

    def add(self, event: Event) -> None:
        key = tuple(event[name] for name in self._fields)
        if key in self._counts or len(self._counts) < MOST_GROUPS:
            self._counts[key] += 1
        else:
            self._more += 1

    def show(self) -> None:
        ordered = self._counts.most_common()
        if self._as_json:
            for key, count in ordered:
                say(orjson.dumps({**dict(zip(self._fields, key, strict=True)), "count": count}).decode())
        else:
            rows = [[*(None if each is None else _plain(str(each)) for each in key), count] for key, count in ordered]
            table([*self._fields, "count"], rows, right=("count",))
        if self._more:
            note(f"{self._more} events were of more than {MOST_GROUPS} groups")


class _Latencies:
    """Buckets of powers of two, in microseconds, as bcc's tools print them."""

    def __init__(self, by: str | None, *, as_json: bool) -> None:
        self._by = by
        self._as_json = as_json
        self._histograms: dict[Any, Counter[int]] = {}
        self._more = 0

    def add(self, event: Event) -> None:
        if event["latency_ms"] is None:
            return
        key = event[self._by] if self._by else None
        if key not in self._histograms and len(self._histograms) >= MOST_GROUPS:
            self._more += 1
            return
        self._histograms.setdefault(key, Counter())[int(event["latency_ms"] * 1000).bit_length()] += 1

    def show(self) -> None:
        for key, counts in sorted(self._histograms.items(), key=lambda each: -each[1].total()):
            if self._as_json:
                buckets = [
                    {"from_us": _from_us(each), "to_us": (1 << each) - 1, "count": counts[each]}
                    for each in sorted(counts)
                ]
                say(orjson.dumps({**({self._by: key} if self._by else {}), "buckets": buckets}).decode())
                continue
            if self._by:
                say(f"{self._by} = {_plain(str(key))}")
            say(f"{'usecs':>21} : {'count':<8} distribution")
            most = max(counts.values())
            for each in range(min(counts), max(counts) + 1):
                bar = "*" * (counts[each] * BAR // most)
                say(f"{_from_us(each):>10} -> {(1 << each) - 1:<7} : {counts[each]:<8} |{bar:<{BAR}}|")
        if self._more:
            note(f"{self._more} events were of more than {MOST_GROUPS} groups")
        if not self._histograms:
            note("nothing was measured")


def _from_us(bucket: int) -> int:
    return 1 << bucket - 1 if bucket else 0
