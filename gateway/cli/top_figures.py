"""What `sluicegate top` shows, worked out from rows of the live feed: pure, time is an argument."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

Row = Mapping[str, Any]

GROUPS: Final = ("route", "app", "target", "team", "key", "model")
SORTS: Final = ("requests", "in-flight", "tokens", "cost", "errors", "ttft", "name")
CALLERS: Final = 10
FAILED: Final = frozenset(("upstream_failed", "refused", "interrupted"))


@dataclass(slots=True)
class Figures:
    """One group within the window. Rates are by second, cost by minute; None = nothing to tell it from."""

    name: str
    requests: int = 0
    errors: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_microusd: int = 0
    unpriced: int = 0
    """Requests that used tokens whose cost is not known."""
    in_flight: int = 0
    ttft_ms: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)
    callers: Counter[str] = field(default_factory=Counter)
    """Requests by process where the kernel tells it, else by app."""

    def add(self, row: Row) -> None:
        self.requests += 1
        self.callers[str(row.get("process") or row.get("app") or "-")] += 1
        self.errors += is_error(row)
        used = (row["input_tokens"] or 0, row["output_tokens"] or 0)
        self.input_tokens += used[0]
        self.output_tokens += used[1]
        self.cost_microusd += row["cost_usd_micros"] or 0
        self.unpriced += row["cost_usd_micros"] is None and any(used)
        if row["ttft_ms"] is not None:
            self.ttft_ms.append(row["ttft_ms"])
        if row["latency_ms"] is not None:
            self.latency_ms.append(row["latency_ms"])

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens

    @property
    def error_share(self) -> float | None:
        return self.errors / self.requests if self.requests else None


@dataclass(slots=True)
class Window:
    """Rows that ended within the last `length_s` seconds, and all that were seen."""

    length_s: float
    begun_s: float
    rows: deque[tuple[float, Row]] = field(default_factory=deque)
    """When each arrived, oldest first."""
    seen: int = 0
    failed: int = 0
    gaps: int = 0
    """How often the feed said that something is missing."""

    def add(self, row: Row, now_s: float) -> None:
        self.rows.append((now_s, row))
        self.seen += 1
        self.failed += is_error(row)

    def covered_s(self, now_s: float) -> float:
        """What the window really spans: less than its length in the beginning."""
        return max(0.001, min(self.length_s, now_s - self.begun_s))

    def figures(self, group_by: str, now_s: float, in_flight: Iterable[Row] = ()) -> list[Figures]:
        """By name; rows that have left the window are dropped."""
        while self.rows and now_s - self.rows[0][0] > self.length_s:
            self.rows.popleft()
        found: dict[str, Figures] = {}
        for _, row in self.rows:
            name = str(row.get(group_by) or "-")
            found.setdefault(name, Figures(name)).add(row)
        for row in in_flight:
            name = str(row.get(group_by) or "-")
            found.setdefault(name, Figures(name)).in_flight += 1
        return [found[name] for name in sorted(found)]


def is_error(row: Row) -> bool:
    """As the usage report counts them: refused, failed, interrupted, or answered 400 and above."""
    return row["outcome"] in FAILED or (row["status"] or 0) >= 400


def total(parts: Iterable[Figures]) -> Figures:
    whole = Figures("total")
    for part in parts:
        whole.requests += part.requests
        whole.errors += part.errors
        whole.input_tokens += part.input_tokens
        whole.output_tokens += part.output_tokens
        whole.cost_microusd += part.cost_microusd
        whole.unpriced += part.unpriced
        whole.in_flight += part.in_flight
        whole.ttft_ms += part.ttft_ms
        whole.callers += part.callers
        whole.latency_ms += part.latency_ms
    return whole


def in_order(parts: list[Figures], sort: str) -> list[Figures]:
    """Most first; by name where `sort` says so, or as the second key."""
    keys: Mapping[str, Any] = {
        "requests": lambda each: -each.requests,
        "in-flight": lambda each: -each.in_flight,
        "tokens": lambda each: -each.tokens,
        "cost": lambda each: -each.cost_microusd,
        "errors": lambda each: -each.errors,
        "ttft": lambda each: -(percentile(each.ttft_ms, 0.5) or 0.0),
        "name": lambda each: each.name,
    }
    return sorted(parts, key=lambda each: (keys[sort](each), each.name))


def percentile(values: list[float], share: float) -> float | None:
    """The nearest-rank percentile, None of nothing."""
    if not values:
        return None
    ascending = sorted(values)
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]


@dataclass(frozen=True, slots=True)
class Kernel:
    """What the kernel says of a group: medians in milliseconds, counts of the window; None = not measured."""

    rtt_ms: float | None = None
    first_byte_ms: float | None = None
    token_gap_ms: float | None = None
    retransmits: int | None = None
    open_connections: int | None = None


NO_KERNEL: Final = Kernel()


def kernel_by(group_by: str, items: Iterable[Mapping[str, Any]]) -> dict[str, Kernel]:
    """From `GET /api/v1/telemetry/routes`, where it tells these groups apart. Of several targets of a route: the median
    of the one that has most to tell, and sums."""
    if group_by not in ("route", "target"):
        return {}
    parts: dict[str, list[Mapping[str, Any]]] = {}
    for item in items:
        if item["retransmits"] is not None:
            parts.setdefault(str(item[group_by] or "-"), []).append(item)
    return {
        name: Kernel(
            _median(found, "rtt_ms"),
            _median(found, "first_byte_ms"),
            _median(found, "token_gap_ms"),
            sum(item["retransmits"] + item["client_retransmits"] for item in found),
            sum(item["open_connections"] for item in found),
        )
        for name, found in parts.items()
    }


def _median(items: Iterable[Mapping[str, Any]], name: str) -> float | None:
    measured = [item[name] for item in items if item[name] is not None]
    return max(measured, key=lambda each: each["count"])["p50"] if measured else None


def as_json(figures: Figures, group_by: str, covered_s: float, kernel: Kernel = NO_KERNEL) -> dict[str, Any]:
    """For scripts: counts of the window and what follows from them; null = not known."""
    return {
        group_by: figures.name,
        "window_s": round(covered_s, 3),
        "requests": figures.requests,
        "requests_per_s": round(figures.requests / covered_s, 3),
        "errors": figures.errors,
        "in_flight": figures.in_flight,
        "input_tokens": figures.input_tokens,
        "output_tokens": figures.output_tokens,
        "tokens_per_s": round(figures.tokens / covered_s, 3),
        "cost_usd_micros": figures.cost_microusd,
        "unpriced": figures.unpriced,
        "ttft_ms_p50": percentile(figures.ttft_ms, 0.5),
        "ttft_ms_p95": percentile(figures.ttft_ms, 0.95),
        "latency_ms_p50": percentile(figures.latency_ms, 0.5),
        "latency_ms_p95": percentile(figures.latency_ms, 0.95),
        "rtt_ms_p50": kernel.rtt_ms,
        "first_byte_ms_p50": kernel.first_byte_ms,
        "token_gap_ms_p50": kernel.token_gap_ms,
        "retransmits": kernel.retransmits,
        "open_connections": kernel.open_connections,
        "callers": dict(figures.callers.most_common(CALLERS)),
    }
