"""Strategies: in which order the targets of a route are tried. One file a strategy, registered here."""

from collections.abc import Callable, Sequence
from typing import Final

from gateway.dataplane.balancing import cheapest, fastest, least_busy, ordered, round_robin, weighted
from gateway.dataplane.health import Health
from gateway.policy.model import Route, Strategy, Target

Order = Callable[[Route, Sequence[Target], Health], list[Target]]
"""First choice, then fallbacks; no target twice."""

STRATEGIES: Final[dict[Strategy, Order]] = {
    Strategy.ORDERED: ordered.order,
    Strategy.WEIGHTED: weighted.order,
    Strategy.ROUND_ROBIN: round_robin.order,
    Strategy.LEAST_BUSY: least_busy.order,
    Strategy.FASTEST: fastest.order,
    Strategy.CHEAPEST: cheapest.order,
}


def order(route: Route, targets: Sequence[Target], health: Health, now_s: float) -> list[Target]:
    """The strategy's order, with targets that cool moved behind the healthy ones."""
    if len(targets) == 1:
        return list(targets)
    chosen = STRATEGIES[route.strategy](route, targets, health)
    chosen.sort(key=lambda target: health.cooling(target, now_s))  # stable: the order within each part stays
    return chosen
