"""Prometheus figures of all workers, counted from ledger rows as they reach SQL.

The data plane itself counts nothing: a row says all that a metric wants to know, and the keeper sees every row of its
node exactly once, whichever worker wrote it and whatever became of that worker. Names and labels: contract "Metric
names"; meanings: docs/observability.md.

The lines of a series are kept as text and made anew only after it changed, so that a scrape of ten thousand idle series
costs a few joins. The number of series is bounded: beyond `MOST_SERIES` everything new is counted under `other`.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from gateway.store.rollup import is_error
from gateway.store.row_groups import RowGroup
from gateway.telemetry.exposition import Family, Kind, labelled

REQUEST_SECONDS: Final = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
)
TTFT_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 30.0, 60.0)
MOST_SERIES: Final = 10_000
"""Combinations of route, target, app, team and status that have series of their own."""
OTHER: Final = "other"
MICROS_PER_USD: Final = 1_000_000
MOST_CODES: Final = 100

FAMILIES: Final = (
    Family("sluicegate_requests", Kind.COUNTER, "Requests with a ledger row, by the answer's status."),
    Family("sluicegate_errors", Kind.COUNTER, "Requests that failed: refused, interrupted, or answered 400 and above."),
    Family("sluicegate_tokens", Kind.COUNTER, "Tokens used, by direction."),
    Family("sluicegate_cost_usd", Kind.COUNTER, "Cost of priced requests in USD."),
    Family("sluicegate_request_seconds", Kind.HISTOGRAM, "From the request's head to the end of its answer."),
    Family("sluicegate_ttft_seconds", Kind.HISTOGRAM, "From the request's head to the answer's first token."),
    Family("sluicegate_upstream_attempts", Kind.COUNTER, "Attempts on upstreams, failed ones included."),
)
REJECTED: Final = Family(
    "sluicegate_rejected", Kind.COUNTER, "Requests without a ledger row: no valid key, or not proper HTTP."
)

Group = tuple[str, str, str, str]
"""route, target, app, team"""


class _Histogram:
    """Observations in seconds: how many in each bucket, and their sum."""

    __slots__ = ("_bounds_ms", "bounds", "counts", "total_s")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self._bounds_ms = [bound * 1000 for bound in bounds]
        self.counts = [0] * (len(bounds) + 1)
        self.total_s = 0.0

    def observe(self, ordered: Sequence[float]) -> None:
        """Milliseconds, ascending: how many come up to a bound is then looked up, not counted."""
        below, most = 0, len(ordered)
        for bucket, bound in enumerate(self._bounds_ms):
            if below == most:
                break
            up_to = bisect_right(ordered, bound, below)
            self.counts[bucket] += up_to - below
            below = up_to
        self.counts[-1] += most - below
        self.total_s += sum(ordered) / 1000

    def lines(self, name: str, labels: str) -> str:
        text = []
        below = 0
        for bound, count in zip(self.bounds, self.counts, strict=False):
            below += count
            text.append(f'{name}_bucket{{{labels},le="{bound}"}} {below}\n')
        below += self.counts[-1]
        text.append(f'{name}_bucket{{{labels},le="+Inf"}} {below}\n')
        text.append(f"{name}_sum{{{labels}}} {self.total_s!r}\n{name}_count{{{labels}}} {below}\n")
        return "".join(text)


class _PairSeries:
    """What is kept by route and target alone."""

    __slots__ = ("_labels", "attempts", "changed", "request_s", "text", "ttft_s")

    def __init__(self, route: str, target: str) -> None:
        self._labels = labelled(route=route, target=target)
        self.attempts = 0
        self.request_s = _Histogram(REQUEST_SECONDS)
        self.ttft_s = _Histogram(TTFT_SECONDS)
        self.changed = True
        self.text = ("", "", "")

    def render(self) -> tuple[str, str, str]:
        """Lines of request seconds, ttft seconds and attempts."""
        if self.changed:
            self.changed = False
            labels = self._labels
            self.text = (
                self.request_s.lines("sluicegate_request_seconds", labels),
                self.ttft_s.lines("sluicegate_ttft_seconds", labels) if any(self.ttft_s.counts) else "",
                f"sluicegate_upstream_attempts_total{{{labels}}} {self.attempts}\n",
            )
        return self.text

    def state(self) -> list[Any]:
        request, ttft = self.request_s, self.ttft_s
        return [self.attempts, request.counts, request.total_s, ttft.counts, ttft.total_s]

    def restore(self, state: list[Any]) -> None:
        """Raises ValueError where the state has other buckets than this release."""
        attempts, request_counts, request_total_s, ttft_counts, ttft_total_s = state
        if len(request_counts) != len(self.request_s.counts) or len(ttft_counts) != len(self.ttft_s.counts):
            raise ValueError("other buckets")
        self.attempts = attempts
        self.request_s.counts, self.request_s.total_s = request_counts, request_total_s
        self.ttft_s.counts, self.ttft_s.total_s = ttft_counts, ttft_total_s


class _GroupSeries:
    """What is kept by route, target, app and team."""

    __slots__ = ("_labels", "changed", "cost_micros", "input_tokens", "output_tokens", "statuses", "text")

    def __init__(self, group: Group) -> None:
        self._labels = labelled(**dict(zip(("route", "target", "app", "team"), group, strict=True)))
        self.input_tokens = 0
        self.output_tokens = 0
        self.cost_micros = 0
        self.statuses: dict[int, list[int]] = {}
        """By status: requests and errors."""
        self.changed = True
        self.text = ("", "", "", "")

    def render(self) -> tuple[str, str, str, str]:
        """Lines of requests, errors, tokens and cost."""
        if self.changed:
            self.changed = False
            labels = self._labels
            requests, errors = [], []
            for status, (count, failed) in self.statuses.items():
                requests.append(f'sluicegate_requests_total{{{labels},status="{status}"}} {count}\n')
                errors.append(f'sluicegate_errors_total{{{labels},status="{status}"}} {failed}\n')
            self.text = (
                "".join(requests),
                "".join(errors),
                (
                    f'sluicegate_tokens_total{{{labels},direction="input"}} {self.input_tokens}\n'
                    f'sluicegate_tokens_total{{{labels},direction="output"}} {self.output_tokens}\n'
                ),
                f"sluicegate_cost_usd_total{{{labels}}} {self.cost_micros / MICROS_PER_USD!r}\n",
            )
        return self.text

    def state(self) -> list[Any]:
        statuses = [[status, *counts] for status, counts in self.statuses.items()]
        return [self.input_tokens, self.output_tokens, self.cost_micros, statuses]

    def restore(self, state: list[Any]) -> None:
        self.input_tokens, self.output_tokens, self.cost_micros, statuses = state
        self.statuses = {status: [requests, errors] for status, requests, errors in statuses}


def _known(milliseconds: Sequence[float | None]) -> list[float]:
    """Without the unknown ones, ascending."""
    return sorted([each for each in milliseconds if each is not None])


class LedgerMetrics:
    """One node's figures, over restarts of its keeper (`metrics_journal`). Labels hold configured names only."""

    def __init__(self, most_series: int = MOST_SERIES) -> None:
        self._most_series = most_series
        self._series_made = 0
        self._groups: dict[Group, _GroupSeries] = {}
        self._pairs: dict[tuple[str, str], _PairSeries] = {}
        self._rejected: dict[str, int] = {}
        self._dirty_groups: set[Group] = set()
        self._dirty_pairs: set[tuple[str, str]] = set()
        self._dirty_codes: set[str] = set()

    # -- counting ---------------------------------------------------------------------------------------------------

    def observe(self, rows: Iterable[RowGroup]) -> None:
        """Count rows that have entered SQL."""
        for alike in rows:
            route, target, app, team = [alike.shared(name) or "" for name in ("route", "target", "app", "team")]
            group: Group = (route, target, app, team)
            count, status = len(alike.rows), alike.shared("status")
            series = self._groups.get(group)
            if series is None or status not in series.statuses:
                group, series = self._room_for(group, status)
            counts = series.statuses[status]
            counts[0] += count
            counts[1] += count * is_error(status, alike.shared("outcome"))
            series.input_tokens += alike.sum_of("input_tokens")
            series.output_tokens += alike.sum_of("output_tokens")
            series.cost_micros += alike.sum_of("cost_usd_micros")
            series.changed = True
            self._dirty_groups.add(group)
            pair_key = group[:2]
            pair = self._pairs[pair_key]
            pair.attempts += count * (alike.shared("attempts") or 0)
            latencies, ttfts = alike.column("latency_ms"), alike.column("ttft_ms")
            ordered = _known(latencies)
            pair.request_s.observe(ordered)
            pair.ttft_s.observe(ordered if ttfts == latencies else _known(ttfts))
            pair.changed = True
            self._dirty_pairs.add(pair_key)

    def reject(self, counts: Mapping[str, int]) -> None:
        """Count requests that have no row, by error code."""
        for code, count in counts.items():
            if code not in self._rejected and len(self._rejected) >= MOST_CODES:
                code = OTHER
            self._rejected[code] = self._rejected.get(code, 0) + count
            self._dirty_codes.add(code)

    def _room_for(self, group: Group, status: int) -> tuple[Group, _GroupSeries]:
        """The series to count under: the group's own while there is room, else `other`'s."""
        if self._series_made >= self._most_series:
            group = (OTHER, OTHER, OTHER, OTHER)
        return group, self._series(group, status)

    def _series(self, group: Group, status: int) -> _GroupSeries:
        series = self._groups.get(group)
        if series is None:
            series = self._groups[group] = _GroupSeries(group)
        if status not in series.statuses:
            series.statuses[status] = [0, 0]
            self._series_made += 1
        if group[:2] not in self._pairs:
            self._pairs[group[:2]] = _PairSeries(*group[:2])
        return series

    # -- showing ----------------------------------------------------------------------------------------------------

    def render(self, *, openmetrics: bool) -> str:
        """The exposition text of all that is counted here."""
        groups = [series.render() for series in self._groups.values()]
        pairs = [series.render() for series in self._pairs.values()]
        lines = [[text[at] for text in groups] for at in range(4)] + [[text[at] for text in pairs] for at in range(3)]
        parts: list[str] = []
        for family, found in zip(FAMILIES, lines, strict=True):
            parts.append(family.heading(openmetrics=openmetrics))
            parts += found
        parts.append(REJECTED.heading(openmetrics=openmetrics))
        parts += [
            f"sluicegate_rejected_total{{{labelled(code=code)}}} {count}\n" for code, count in self._rejected.items()
        ]
        return "".join(parts)

    # -- keeping ----------------------------------------------------------------------------------------------------

    def take_changes(self) -> list[Any] | None:
        """What changed since the last time, as it now stands; None where nothing did."""
        if not (self._dirty_groups or self._dirty_pairs or self._dirty_codes):
            return None
        changes = [
            [[group, self._groups[group].state()] for group in self._dirty_groups],
            [[pair, self._pairs[pair].state()] for pair in self._dirty_pairs],
            {code: self._rejected[code] for code in self._dirty_codes},
        ]
        self._dirty_groups.clear()
        self._dirty_pairs.clear()
        self._dirty_codes.clear()
        return changes

    def everything(self) -> Iterator[list[Any]]:
        """The whole state, as changes of a bounded size."""
        groups, pairs = list(self._groups), list(self._pairs)
        for at in range(0, len(groups), 500):
            yield [[[group, self._groups[group].state()] for group in groups[at : at + 500]], [], {}]
        for at in range(0, len(pairs), 500):
            yield [[], [[pair, self._pairs[pair].state()] for pair in pairs[at : at + 500]], {}]
        yield [[], [], dict(self._rejected)]

    def restore(self, changes: Sequence[Any]) -> None:
        """Take over changes that another keeper wrote down. Raises ValueError, TypeError where they are none."""
        groups, pairs, rejected = changes
        for name, state in groups:
            route, target, app, team = name
            for status, *_ in state[3]:
                self._series((route, target, app, team), status)
            self._groups[route, target, app, team].restore(state)
        for (route, target), state in pairs:
            self._pairs.setdefault((route, target), _PairSeries(route, target)).restore(state)
        self._rejected.update(rejected)
