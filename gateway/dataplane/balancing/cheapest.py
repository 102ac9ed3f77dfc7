"""`cheapest`: by the price of a token in and a token out; a target whose price is not known comes last."""

from collections.abc import Sequence

from gateway.dataplane.health import Health
from gateway.policy.model import Route, Target


def order(_route: Route, targets: Sequence[Target], _health: Health) -> list[Target]:
    def price_of(target: Target) -> float:
        price = target.price
        return float("inf") if price is None else price.input + price.output

    return sorted(targets, key=price_of)
