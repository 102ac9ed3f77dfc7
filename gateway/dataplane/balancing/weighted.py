"""`weighted`: each request draws its order, chances in proportion to the weights; weight 0 only as fallback."""

import random
from collections.abc import Sequence

from gateway.dataplane.health import Health
from gateway.policy.model import Route, Target


def order(_route: Route, targets: Sequence[Target], _health: Health) -> list[Target]:
    # Efraimidis & Spirakis (2006): sorting by u^(1/w) draws without replacement with probabilities by weight.
    def draw(target: Target) -> float:
        return random.random() ** (1 / target.weight) if target.weight else -1.0  # noqa: S311 - load, not secrets

    return sorted(targets, key=draw, reverse=True)
