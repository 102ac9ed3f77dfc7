"""`round-robin`: each target in turn, the following ones as fallback."""

from collections.abc import Sequence

from gateway.dataplane.balancing.asked import Asked
from gateway.dataplane.health import Health
from gateway.policy.model import Route, Target


def order(route: Route, targets: Sequence[Target], health: Health, _asked: Asked) -> list[Target]:
    state = health.route(route.name)
    turn = state.turns % len(targets)
    state.turns += 1
    return [*targets[turn:], *targets[:turn]]
