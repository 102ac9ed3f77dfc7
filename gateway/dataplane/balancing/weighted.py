"""`weighted`: in exact proportion to the weights, evenly mixed; weight 0 only as fallback.

nginx's smooth weighted round-robin: each turn every target gains its weight, the richest is chosen and pays the sum of
all. 5, 1, 1 gives a a b a c a a. Whatever stands behind the first is in the order in which it would be chosen next.
"""

from collections.abc import Sequence

from gateway.dataplane.balancing.asked import Asked
from gateway.dataplane.health import Health
from gateway.policy.model import Route, Target


def order(route: Route, targets: Sequence[Target], health: Health, _asked: Asked) -> list[Target]:
    current = health.route(route.name).weights
    total = 0
    for target in targets:
        total += target.weight
        current[target.name] = current.get(target.name, 0) + target.weight
    chosen = sorted(targets, key=lambda target: (target.weight > 0, current[target.name]), reverse=True)
    current[chosen[0].name] -= total
    return chosen
