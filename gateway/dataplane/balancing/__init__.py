"""Strategies: in which order the targets of a route are tried. One file a strategy, registered here.

What no strategy decides: targets that are not ready stand behind all others, and within the ready ones those that the
route prefers (`prefer: [TAG]`) and those of the worker's own zone stand first.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from gateway.dataplane.balancing import cheapest, fastest, least_busy, ordered, round_robin, weighted
from gateway.dataplane.balancing.asked import Asked
from gateway.dataplane.health import Health
from gateway.policy.model import Route, Strategy, Target

Order: TypeAlias = Callable[[Route, Sequence[Target], Health, Asked], list[Target]]
"""First choice, then fallbacks; no target twice."""

STRATEGIES: Final[dict[Strategy, Order]] = {
    Strategy.ORDERED: ordered.order,
    Strategy.WEIGHTED: weighted.order,
    Strategy.ROUND_ROBIN: round_robin.order,
    Strategy.LEAST_BUSY: least_busy.order,
    Strategy.FASTEST: fastest.order,
    Strategy.CHEAPEST: cheapest.order,
}


def order(
    route: Route,
    targets: Sequence[Target],
    health: Health,
    now_s: float,
    cost_of: Callable[[Target], int | None] | None = None,
) -> list[Target]:
    """All targets. `cost_of`: the most that this request may cost there, in micro-USD; None = not known."""
    if len(targets) == 1:
        return list(targets)
    asked = Asked(now_s, cost_of)
    ready = [target for target in targets if health.of(target).ready(now_s)]
    fallback: list[Target] = []
    if ready and (route.prefer or health.zone is not None):
        ranks = {target.id: preference(route, target, health.zone) for target in ready}
        ready.sort(key=lambda target: ranks[target.id])  # stable: as written within each
        best = ranks[ready[0].id]
        fallback = [target for target in ready if ranks[target.id] != best]
        ready = ready[: len(ready) - len(fallback)]
    chosen = STRATEGIES[route.strategy](route, ready, health, asked) if ready else []
    chosen += fallback
    if len(chosen) < len(targets):
        there = {target.id for target in chosen}
        behind = [target for target in targets if target.id not in there]
        behind.sort(key=lambda target: (health.of(target).down, health.of(target).cooling_until_s))
        return [*chosen, *behind]
    return chosen


def preference(route: Route, target: Target, zone: str | None) -> tuple[int, bool]:
    """Smaller comes first: the place of its first tag in the route's `prefer`, then whether it is of another zone."""
    provider = target.provider
    place = next((at for at, tag in enumerate(route.prefer) if tag in provider.tags), len(route.prefer))
    return place, zone is not None and provider.zone != zone
