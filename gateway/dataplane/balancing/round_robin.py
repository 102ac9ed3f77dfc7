"""`round-robin`: each target in turn, the following ones as fallback."""

from collections.abc import Sequence

from gateway.dataplane.health import Health
from gateway.policy.model import Route, Target


def order(route: Route, targets: Sequence[Target], health: Health) -> list[Target]:
    turn = health.next_turn(route.name) % len(targets)
    return [*targets[turn:], *targets[:turn]]
