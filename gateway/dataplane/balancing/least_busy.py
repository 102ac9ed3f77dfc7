"""`least-busy`: the target with the fewest requests of this worker in flight; equals are drawn.

Of many targets two are drawn and the less busy one is taken (Mitzenmacher 2001, "The power of two choices"): almost as
even as looking at all of them, at the price of two.
"""

import random
from collections.abc import Sequence
from typing import Final

from gateway.dataplane.balancing.asked import Asked
from gateway.dataplane.health import Health
from gateway.policy.model import Route, Target

LOOK_AT_ALL: Final = 8


def order(_route: Route, targets: Sequence[Target], health: Health, _asked: Asked) -> list[Target]:
    drawn = random.sample(targets, len(targets))
    if len(drawn) <= LOOK_AT_ALL:
        drawn.sort(key=lambda target: health.of(target).in_flight)  # stable: equals stay as drawn
    elif health.of(drawn[1]).in_flight < health.of(drawn[0]).in_flight:
        drawn[0], drawn[1] = drawn[1], drawn[0]
    return drawn
