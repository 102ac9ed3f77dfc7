"""In which order each strategy tries the targets of a route."""

from collections import Counter

import pytest

from gateway.dataplane.balancing import STRATEGIES, order
from gateway.dataplane.health import FAILURES_BEFORE_COOLDOWN, Health
from gateway.policy.model import Dialect, Price, Provider, ProviderId, Route, RouteId, Strategy, Target, TargetId

PROVIDER = Provider(id=ProviderId(1), name="p", dialect=Dialect.OPENAI, base_url="http://127.0.0.1:1")


def target(number: int, *, weight: int = 1, price: int | None = None) -> Target:
    return Target(
        id=TargetId(number),
        provider=PROVIDER,
        model=f"m{number}",
        weight=weight,
        price=None if price is None else Price(input=price, output=price),
    )


def route(strategy: Strategy, *targets: Target) -> Route:
    return Route(id=RouteId(1), name="r", strategy=strategy, targets=targets)


def names(targets: list[Target]) -> str:
    return " ".join(one.model or "" for one in targets)


@pytest.mark.parametrize("strategy", list(Strategy))
def test_every_strategy_names_each_target_once(strategy: Strategy) -> None:
    targets = [target(number, weight=number % 3, price=number) for number in range(5)]
    chosen = STRATEGIES[strategy](route(strategy, *targets), targets, Health())
    assert sorted(one.id for one in chosen) == [one.id for one in targets]


def test_ordered_keeps_the_order_and_moves_cooling_targets_back() -> None:
    targets, health = [target(1), target(2), target(3)], Health()
    ordered = route(Strategy.ORDERED, *targets)
    assert names(order(ordered, targets, health, 0.0)) == "m1 m2 m3"
    for _ in range(FAILURES_BEFORE_COOLDOWN):
        health.of(targets[0]).begin(0.0)
        health.of(targets[0]).end(answered=False, ttft_s=None)
        health.of(targets[0]).fail(0.0)
    assert names(order(ordered, targets, health, 0.1)) == "m2 m3 m1"
    assert names(order(ordered, targets, health, 1000.0)) == "m1 m2 m3"


def test_weighted_follows_the_weights() -> None:
    targets = [target(1, weight=3), target(2, weight=1), target(3, weight=0)]
    weighted = route(Strategy.WEIGHTED, *targets)
    first = Counter(STRATEGIES[Strategy.WEIGHTED](weighted, targets, Health())[0].model for _ in range(4000))
    assert first["m3"] == 0
    assert 2.4 < first["m1"] / first["m2"] < 3.8


def test_round_robin_takes_turns() -> None:
    targets, health = [target(1), target(2), target(3)], Health()
    turns = [names(STRATEGIES[Strategy.ROUND_ROBIN](route(Strategy.ROUND_ROBIN), targets, health)) for _ in range(4)]
    assert turns == ["m1 m2 m3", "m2 m3 m1", "m3 m1 m2", "m1 m2 m3"]


def test_least_busy_fastest_and_cheapest() -> None:
    targets, health = [target(1, price=9), target(2, price=1), target(3)], Health()
    health.of(targets[0]).begin(0.0)
    health.of(targets[1]).begin(0.0)
    health.of(targets[1]).begin(0.0)
    assert names(STRATEGIES[Strategy.LEAST_BUSY](route(Strategy.LEAST_BUSY), targets, health)) == "m3 m1 m2"
    health.of(targets[0]).end(answered=True, ttft_s=0.5)
    health.of(targets[1]).end(answered=True, ttft_s=0.1)
    assert names(STRATEGIES[Strategy.FASTEST](route(Strategy.FASTEST), targets, health)) == "m3 m2 m1"
    assert names(STRATEGIES[Strategy.CHEAPEST](route(Strategy.CHEAPEST), targets, health)) == "m2 m1 m3"
