"""`least-busy`: the target with the fewest requests of this worker in flight; equals are drawn."""

import random
from collections.abc import Sequence

from gateway.dataplane.health import Health
from gateway.policy.model import Route, Target


def order(_route: Route, targets: Sequence[Target], health: Health) -> list[Target]:
    drawn = random.sample(targets, len(targets))
    return sorted(drawn, key=lambda target: health.of(target).in_flight)  # stable: equals stay as drawn
