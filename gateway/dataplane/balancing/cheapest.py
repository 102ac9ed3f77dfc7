"""`cheapest`: by what this request may cost at most there (its input and output bound); unknown prices come last."""

from collections.abc import Sequence

from gateway.dataplane.balancing.asked import Asked
from gateway.dataplane.health import Health
from gateway.policy.model import Route, Target


def order(_route: Route, targets: Sequence[Target], _health: Health, asked: Asked) -> list[Target]:
    cost_of = asked.cost_of or _list_price

    def key(target: Target) -> tuple[bool, int]:
        cost = cost_of(target)
        return cost is None, cost or 0

    return sorted(targets, key=key)  # stable: equals stay as written


def _list_price(target: Target) -> int | None:
    """Where the request says nothing of its size: a token in and a token out."""
    price = target.price
    return None if price is None else price.input + price.output
