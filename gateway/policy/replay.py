"""What would have become of requests that have been, under another configuration: a dry run of a draft.

Judged is what the ledger tells: who called which route, which target answered, what was used, when. It does not tell
bodies, paths and hosts, nor what was reserved, nor which credential was shown. So access, routes and targets are
certain where `certain` says so; limits are counted by what was really used, which is less than what was reserved.
"""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from gateway.policy.model import App, Dialect, Key, Limit, LimitId, Match, Metric, Route, Strategy, Target, WhenUnknown
from gateway.policy.quota import METRIC_INDEX, Amounts
from gateway.policy.snapshot import Snapshot
from gateway.policy.usage import Outcome, Usage, cost_microusd
from gateway.policy.windows import window_start_s

MOST_NAMES: Final = 5
_BY_THE_MOMENT: Final = frozenset({Strategy.LEAST_BUSY, Strategy.FASTEST, Strategy.CHEAPEST})


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """One request as the ledger has it. Times are Unix seconds."""

    id: str
    at_s: float
    lasted_s: float
    app: str
    key: str | None
    route: str | None
    target: str | None
    dialect: str
    outcome: str
    error_code: str | None
    usage: Usage


class Effect(StrEnum):
    NO_ACCESS = "no_access"
    """Its app or key is not there, or may not call the route."""
    NO_ROUTE = "no_route"
    LIMITED = "limited"
    """A limit has no room."""
    OTHER_TARGET = "other_target"
    OTHER_ROUTE = "other_route"
    """It may come to another route."""


REFUSALS: Final = frozenset({Effect.NO_ACCESS, Effect.NO_ROUTE, Effect.LIMITED})


@dataclass(slots=True, kw_only=True)
class Finding:
    """Requests that would fare differently, in the same way."""

    effect: Effect
    what: str
    certain: bool
    """False: it depends on what the ledger does not tell, or is an expectation."""
    requests: int = 0
    apps: Counter[str] = field(default_factory=Counter)
    example: str | None = None
    """A request's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    requests: int
    judged: int
    refused: int
    """Were served, and would now be refused."""
    rerouted: int
    """Were served, and would go to another target or route."""
    findings: Sequence[Finding]
    unjudged: Mapping[str, int]
    """Why → how many."""
    notes: Sequence[str]
    """What cannot be known from the ledger, where it matters here."""


def replay(rows: Sequence[Past], before: Snapshot, after: Snapshot, used: Mapping[int, int]) -> Replay:
    """`rows` in the order of their start. `used`: what limits in force have been charged in their present window, all
    of `rows` included, by id and in the metric's unit."""
    return _Replay(before, after).run(rows, used)


class _Replay:
    def __init__(self, before: Snapshot, after: Snapshot) -> None:
        self._before, self._after = before, after
        self._keys = {(key.app.name, key.name): key for key in after.keys.values()}
        self._keys_before = {(key.app.name, key.name): key for key in before.keys.values()}
        self._found: dict[tuple[Effect, str], Finding] = {}
        self._unjudged: Counter[str] = Counter()
        self._matches_change = _matches(before) != _matches(after)

    def run(self, rows: Sequence[Past], used: Mapping[int, int]) -> Replay:
        judged = [row for row in rows if self._is_judged(row)]
        refused: set[str] = set()
        rerouted: set[str] = set()
        admitted: list[tuple[Past, Route, Target | None]] = []
        for row in judged:
            denied = self._denied(row)
            if denied is not None:
                if row.outcome != Outcome.REFUSED and self._was_possible(row):
                    self._note(denied[0], denied[1], row)
                    refused.add(row.id)
                continue
            route = self._after.routes[str(row.route)]
            target, moved = self._target(row, route)
            if moved is not None and row.outcome != Outcome.REFUSED:
                self._note(Effect.OTHER_TARGET, moved, row)
                rerouted.add(row.id)
            if route.match is not None and self._matches_change and self._may_be_claimed_by_another(row, route):
                self._note(Effect.OTHER_ROUTE, f"{route.name}: hosts and paths of routes change", row, certain=False)
                rerouted.add(row.id)
            admitted.append((row, route, target))
        self._expect_shifts(admitted)
        limited = self._limits(admitted, used)
        refused |= limited
        return Replay(
            requests=len(rows),
            judged=len(judged),
            refused=len(refused),
            rerouted=len(rerouted - refused),
            findings=sorted(self._found.values(), key=lambda one: (one.effect not in REFUSALS, -one.requests)),
            unjudged=dict(self._unjudged),
            notes=self._notes(),
        )

    # ---- what is certain

    def _is_judged(self, row: Past) -> bool:
        reason = None
        if row.route is None:
            reason = "refused before a route was known"
        elif row.route.startswith("direct:") or row.dialect == "connect":
            reason = "intercepted or forwarded, and claimed by no route"
        elif row.route not in self._before.routes:
            reason = "of a route that is not in force any more"
        if reason is not None:
            self._unjudged[reason] += 1
        return reason is None

    def _denied(self, row: Past) -> tuple[Effect, str] | None:
        app = self._after.apps.get(row.app)
        if app is None:
            return Effect.NO_ACCESS, f"the app {row.app} is gone"
        if row.key is not None and (row.app, row.key) not in self._keys:
            return Effect.NO_ACCESS, f"the key {row.app}/{row.key} is gone"
        route = self._after.routes.get(str(row.route))
        if route is None:
            return Effect.NO_ROUTE, f"the route {row.route} is gone"
        if app.routes is not None and route.name not in app.routes and not self._is_open(row):
            return Effect.NO_ACCESS, f"the app {row.app} may not call {row.route}"
        return None

    def _was_possible(self, row: Past) -> bool:
        """A key that has been revoked meanwhile is no matter of the draft."""
        return (
            row.app in self._before.apps
            and (row.key is None or (row.app, row.key) in self._keys_before)
        )  # fmt: skip

    def _is_open(self, row: Past) -> bool:
        """The app may not call the route now either, and it was served: a route that asks nobody."""
        app = self._before.apps.get(row.app)
        return app is not None and app.routes is not None and row.route not in app.routes

    def _target(self, row: Past, route: Route) -> tuple[Target | None, str | None]:
        """Where it would go, and what to say if that is elsewhere."""
        targets = _fitting(route, row)
        present = next((each for each in targets if each.name == row.target), None)
        was = self._before.routes[route.name]
        if row.target is None:
            return (targets[0] if targets else None), None
        if present is None:
            if not any(each.name == row.target for each in was.targets):
                return (targets[0] if targets else None), None
            to = targets[0].name if targets and route.strategy is Strategy.ORDERED else "another target"
            return (targets[0] if targets else None), f"{route.name}: {row.target} is gone, {to} in its place"
        if route.strategy is Strategy.ORDERED and targets[0] is not present:
            firsts = _fitting(was, row)
            if was.strategy is not Strategy.ORDERED or (firsts and firsts[0].name == row.target):
                return targets[0], f"{route.name}: {targets[0].name} comes first, no longer {row.target}"
        return present, None

    def _expect_shifts(self, admitted: Iterable[tuple[Past, Route, Target | None]]) -> None:
        """Weights share requests out: how many move is an expectation."""
        counts: Counter[str] = Counter()
        for row, route, target in admitted:
            if target is not None and target.name == row.target:
                counts[route.name] += 1
        for name, count in counts.items():
            now, then = _shares(self._before.routes[name]), _shares(self._after.routes[name])
            if now is None or then is None:
                continue
            moved = round(count * sum(max(0.0, share - then.get(target, 0.0)) for target, share in now.items()))
            if moved:
                what = f"{name}: other weights"
                self._found[Effect.OTHER_TARGET, what] = Finding(
                    effect=Effect.OTHER_TARGET, what=what, certain=False, requests=moved
                )

    def _may_be_claimed_by_another(self, row: Past, route: Route) -> bool:
        was = self._before.routes[route.name]
        if was.match != route.match:
            return True
        old = _matches(self._before)
        return any(
            (other.host is None or route.match is None or other.host == route.match.host or route.match.host is None)
            for name, other in ((each.name, each.match) for each in self._after.routes.values())
            if other is not None and name != route.name and old.get(name) != other
        )

    # ---- limits

    def _limits(self, admitted: Sequence[tuple[Past, Route, Target | None]], used: Mapping[int, int]) -> set[str]:
        """Ids of the requests that limits would refuse which now do not."""
        old = _Counters(self._before, self._keys_before, used, admitted)
        new = _Counters(self._after, self._keys, used, admitted)
        refused: set[str] = set()
        for row, route, target in admitted:
            was_route = self._before.routes[route.name]
            was_target = next((each for each in was_route.targets if each.name == row.target), None)
            before = old.admit(row, was_route, was_target)
            after = new.admit(row, route, target)
            if after is not None and before is None and row.outcome != Outcome.REFUSED:
                self._note(Effect.LIMITED, f"limit {after}", row, certain=False)
                refused.add(row.id)
        return refused

    # ---- what is told

    def _note(self, effect: Effect, what: str, row: Past, *, certain: bool = True) -> None:
        finding = self._found.get((effect, what))
        if finding is None:
            finding = self._found[effect, what] = Finding(effect=effect, what=what, certain=certain, example=row.id)
        finding.requests += 1
        finding.apps[row.app] += 1

    def _notes(self) -> list[str]:
        notes = []
        changed = {limit.name for limit in self._after.limits} - {
            limit.name for limit in self._before.limits if limit in self._after.limits
        }
        if changed:
            notes.append(
                "Limits are counted by what requests have used. Each reserves more than that while it runs, so that "
                "more may be refused when many run at once."
            )
        if any(limit.scope.credential_id is not None for limit in self._after.limits if limit.name in changed):
            notes.append("Limits of a credential are not judged: the ledger does not say which one was shown.")
        moment = sorted(
            name
            for name, route in self._after.routes.items()
            if route.strategy in _BY_THE_MOMENT and route != self._before.routes.get(name)
        )
        if moment:
            notes.append(
                f"Which target {', '.join(moment[:MOST_NAMES])} would choose depends on load, speed or price at the "
                "moment: only targets that are gone are counted."
            )
        if self._matches_change:
            notes.append("Hosts and paths of requests are not in the ledger: who claims them is told as a possibility.")
        return notes


class _Counters:
    """The limits of one snapshot, charged request by request."""

    def __init__(
        self,
        snapshot: Snapshot,
        keys: Mapping[tuple[str, str], Key],
        used: Mapping[int, int],
        admitted: Sequence[tuple[Past, Route, Target | None]],
    ) -> None:
        self._snapshot, self._keys = snapshot, keys
        self._charged: dict[tuple[LimitId, int], int] = defaultdict(int)
        self._running: dict[LimitId, list[float]] = defaultdict(list)
        self._seed(used, admitted)

    def _seed(self, used: Mapping[int, int], admitted: Sequence[tuple[Past, Route, Target | None]]) -> None:
        """What had been charged in the present windows before the first of the requests."""
        if not admitted:
            return
        now_s = admitted[-1][0].at_s
        own: dict[LimitId, int] = defaultdict(int)
        for row, route, target in admitted:
            for limit in self._fitting(row, route, target):
                if window_start_s(limit.window, row.at_s) == window_start_s(limit.window, now_s):
                    own[limit.id] += _amount(limit, row, target)
        for limit in self._snapshot.limits:
            charged = used.get(limit.id)
            if charged is not None and limit.metric is not Metric.CONCURRENT_REQUESTS:
                start = window_start_s(limit.window, now_s)
                self._charged[limit.id, start] = max(0, charged - own[limit.id])

    def _fitting(self, row: Past, route: Route, target: Target | None) -> tuple[Limit, ...]:
        app: App | None = self._snapshot.apps.get(row.app)
        if app is None or target is None:
            return ()
        key = self._keys.get((row.app, row.key)) if row.key is not None else None
        return self._snapshot.limits_for(key, app, route, target, None)

    def admit(self, row: Past, route: Route, target: Target | None) -> str | None:
        """Charge a request, or name the limit that has no room for it."""
        limits = self._fitting(row, route, target)
        for limit in limits:
            if limit.metric is Metric.COST_USD and target is not None and target.price is None:
                if limit.unpriced is WhenUnknown.REFUSE and target.model is not None:
                    return f"{limit.name} (its target's price is not known)"
                continue
            if self._taken(limit, row) + _amount(limit, row, target) > limit.at_most:
                return limit.name
        for limit in limits:
            if limit.metric is Metric.CONCURRENT_REQUESTS:
                heapq.heappush(self._running[limit.id], row.at_s + row.lasted_s)
            else:
                self._charged[limit.id, window_start_s(limit.window, row.at_s)] += _amount(limit, row, target)
        return None

    def _taken(self, limit: Limit, row: Past) -> int:
        if limit.metric is not Metric.CONCURRENT_REQUESTS:
            return self._charged[limit.id, window_start_s(limit.window, row.at_s)]
        running = self._running[limit.id]
        while running and running[0] <= row.at_s:
            heapq.heappop(running)
        return len(running)


def _amount(limit: Limit, row: Past, target: Target | None) -> int:
    price = target.price if target is not None else None
    cost = None if price is None else cost_microusd(row.usage, price)
    return Amounts(row.usage.input_tokens, row.usage.output_tokens, cost).needed()[METRIC_INDEX[limit.metric]]


def _fitting(route: Route, row: Past) -> list[Target]:
    """Targets that speak what the request was answered in; of a dialect that none speaks, its twin's are meant."""
    fitting = [each for each in route.targets if each.provider.dialect == row.dialect]
    return fitting or [each for each in route.targets if each.provider.dialect is not Dialect.HTTP or route.match]


def _shares(route: Route) -> dict[str, float] | None:
    """Which part of its requests each target gets; None where that depends on the moment, or the first gets all."""
    if route.strategy is Strategy.ROUND_ROBIN:
        return {each.name: 1 / len(route.targets) for each in route.targets}
    if route.strategy is not Strategy.WEIGHTED:
        return None
    whole = sum(each.weight for each in route.targets)
    return {each.name: each.weight / whole for each in route.targets}


def _matches(snapshot: Snapshot) -> dict[str, Match]:
    return {route.name: route.match for route in snapshot.routes.values() if route.match is not None}
