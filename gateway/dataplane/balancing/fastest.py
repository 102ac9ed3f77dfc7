"""`fastest`: the target with the shortest moving average of the time to its first byte.

What is not known has to be tried: a target without a figure (new, or well again) gets one request at a time until it
has one. And what is known gets old: of `EXPLORE_EACH` requests one goes to the target that was asked longest ago, if
that is `STALE_S` ago.
"""

from collections.abc import Sequence
from typing import Final

from gateway.dataplane.balancing.asked import Asked
from gateway.dataplane.health import Health
from gateway.policy.model import Route, Target

EXPLORE_EACH: Final = 20
STALE_S: Final = 10.0


def order(route: Route, targets: Sequence[Target], health: Health, asked: Asked) -> list[Target]:
    def key(target: Target) -> tuple[int, float]:
        state = health.of(target)
        if state.ttft_s is not None:
            return 1, state.ttft_s
        return (2, state.in_flight) if state.in_flight else (0, 0.0)

    chosen = sorted(targets, key=key)
    state = health.route(route.name)
    state.requests += 1
    if state.requests % EXPLORE_EACH == 0:
        stalest = min(chosen, key=lambda target: health.of(target).begun_at_s)
        if asked.now_s - health.of(stalest).begun_at_s >= STALE_S:
            chosen.remove(stalest)
            chosen.insert(0, stalest)
    return chosen
