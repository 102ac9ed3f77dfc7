"""Prometheus figures of all workers, counted from ledger rows as they reach SQL.

The data plane itself counts nothing: a row says all that a metric wants to know, and the keeper sees every row of its
node exactly once, whichever worker wrote it and whatever became of that worker. Names and labels: contract "Metric
names".
"""

from collections import Counter as Tally
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.policy.usage import LEDGER_FIELDS, Outcome

SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
INDEX: Final = {name: at for at, name in enumerate(LEDGER_FIELDS)}
FAILED: Final = frozenset((Outcome.UPSTREAM_FAILED, Outcome.REFUSED, Outcome.INTERRUPTED))
MICROS_PER_USD: Final = 1_000_000
WHO: Final = ("route", "target", "app", "team")


class _Series:
    """The children of one combination of labels, looked up once."""

    __slots__ = ("attempts", "cost", "errors", "input_tokens", "output_tokens", "requests", "seconds", "ttft")

    def __init__(self, metrics: "LedgerMetrics", who: tuple[str, str, str, str], status: str) -> None:
        route, target = who[:2]
        self.requests = metrics.requests.labels(*who, status)
        self.errors = metrics.errors.labels(*who, status)
        self.input_tokens = metrics.tokens.labels(*who, "input")
        self.output_tokens = metrics.tokens.labels(*who, "output")
        self.cost = metrics.cost.labels(*who)
        self.attempts = metrics.attempts.labels(route, target)
        self.seconds = metrics.seconds.labels(route, target)
        self.ttft = metrics.ttft.labels(route, target)


class LedgerMetrics:
    """One node's figures since its keeper started. Labels hold configured names only, so their number is bounded."""

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        self.requests = Counter(
            "sluicegate_requests", "Requests with a ledger row.", (*WHO, "status"), registry=registry
        )
        self.errors = Counter(
            "sluicegate_errors",
            "Requests that were refused, failed or were interrupted.",
            (*WHO, "status"),
            registry=registry,
        )
        self.tokens = Counter("sluicegate_tokens", "Tokens used.", (*WHO, "direction"), registry=registry)
        self.cost = Counter("sluicegate_cost_usd", "Cost of priced requests in USD.", WHO, registry=registry)
        self.seconds = Histogram(
            "sluicegate_request_seconds",
            "From the request's head to its end.",
            WHO[:2],
            buckets=SECONDS,
            registry=registry,
        )
        self.ttft = Histogram(
            "sluicegate_ttft_seconds",
            "From the request's head to the first token.",
            WHO[:2],
            buckets=SECONDS,
            registry=registry,
        )
        self.attempts = Counter("sluicegate_upstream_attempts", "Attempts on upstreams.", WHO[:2], registry=registry)
        self.rejected = Counter(
            "sluicegate_rejected",
            "Requests without a ledger row: no valid key, or not HTTP.",
            ("code",),
            registry=registry,
        )
        self.in_flight = Gauge(
            "sluicegate_in_flight", "Requests admitted and not ended.", ("route",), registry=registry
        )
        self.limit_used = Gauge(
            "sluicegate_limit_used_ratio", "Settled share of a limit's window.", ("limit",), registry=registry
        )
        self.pending = Gauge(
            "sluicegate_ledger_pending_rows", "Rows read from spools and not yet in SQL.", registry=registry
        )
        self._series: dict[tuple[str, str, str, str, int], _Series] = {}

    def observe(self, values: Sequence[Any]) -> None:
        """Count one row; `values` in the order of LEDGER_FIELDS."""
        route, target, app, team = [values[INDEX[name]] or "" for name in WHO]
        status = values[INDEX["status"]]
        series = self._series.get((route, target, app, team, status))
        if series is None:
            series = _Series(self, (route, target, app, team), str(status))
            self._series[route, target, app, team, status] = series
        series.requests.inc()
        if values[INDEX["outcome"]] in FAILED:
            series.errors.inc()
        series.input_tokens.inc(values[INDEX["input_tokens"]] or 0)
        series.output_tokens.inc(values[INDEX["output_tokens"]] or 0)
        series.cost.inc((values[INDEX["cost_usd_micros"]] or 0) / MICROS_PER_USD)
        series.attempts.inc(values[INDEX["attempts"]] or 0)
        if values[INDEX["latency_ms"]] is not None:
            series.seconds.observe(values[INDEX["latency_ms"]] / 1000)
        if values[INDEX["ttft_ms"]] is not None:
            series.ttft.observe(values[INDEX["ttft_ms"]] / 1000)

    def reject(self, counts: Mapping[str, int]) -> None:
        """Count requests that have no row, by error code."""
        for code, count in counts.items():
            self.rejected.labels(code).inc(count)

    def render(self, open_routes: Iterable[str], limits: Mapping[str, float], pending: int) -> str:
        """The exposition text. `open_routes`: one entry a request in flight; `limits`: name → used ratio."""
        self.in_flight.clear()
        for route, count in Tally(open_routes).items():
            self.in_flight.labels(route).set(count)
        self.limit_used.clear()
        for name, ratio in limits.items():
            self.limit_used.labels(name).set(ratio)
        self.pending.set(pending)
        return generate_latest(self.registry).decode()
