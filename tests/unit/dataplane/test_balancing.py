"""In which order each strategy tries the targets of a route."""

import itertools
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis.strategies import booleans, integers, lists, sampled_from

from gateway.dataplane.balancing import STRATEGIES, order
from gateway.dataplane.balancing.fastest import EXPLORE_EACH, STALE_S
from gateway.dataplane.balancing.least_busy import LOOK_AT_ALL
from gateway.dataplane.health import FAILURES_BEFORE_COOLDOWN, FIRST_COOLDOWN_S, Health
from gateway.policy.model import Dialect, Price, Provider, ProviderId, Route, RouteId, Strategy, Target, TargetId


def target(number: int, *, weight: int = 1, price: int | None = None, zone: str = "", tags: str = "") -> Target:
    provider = Provider(
        id=ProviderId(number),
        name=f"p{number}",
        dialect=Dialect.OPENAI,
        base_url="http://127.0.0.1:1",
        zone=zone or None,
        tags=frozenset(tags.split()),
    )
    return Target(
        id=TargetId(number),
        provider=provider,
        model=f"m{number}",
        weight=weight,
        price=None if price is None else Price(input=price, output=price),
    )


def route(strategy: Strategy, *targets: Target, prefer: tuple[str, ...] = ()) -> Route:
    return Route(id=RouteId(1), name="r", strategy=strategy, targets=targets, prefer=prefer)


def names(targets: list[Target]) -> str:
    return " ".join(one.model or "" for one in targets)


def trip(health: Health, one: Target, now_s: float = 0.0) -> None:
    for _ in range(FAILURES_BEFORE_COOLDOWN):
        state = health.of(one)
        state.end(answered=False, ttft_s=None, trial=state.begin(now_s))
        state.fail(now_s)


def answer(health: Health, one: Target, ttft_s: float, now_s: float = 0.0) -> None:
    state = health.of(one)
    state.end(answered=True, ttft_s=ttft_s, trial=state.begin(now_s))


@settings(deadline=None)
@given(
    strategy=sampled_from(list(Strategy)),
    weights=lists(integers(0, 5), min_size=2, max_size=12),
    zones=lists(sampled_from(["", "here", "there"]), min_size=12, max_size=12),
    tripped=lists(booleans(), min_size=12, max_size=12),
    zone=sampled_from([None, "here"]),
    rounds=integers(1, 4),
)
def test_every_strategy_names_each_target_once_and_what_is_ready_first(
    strategy: Strategy, weights: list[int], zones: list[str], tripped: list[bool], zone: str | None, rounds: int
) -> None:
    targets = [target(n, weight=weight, price=n, zone=zones[n]) for n, weight in enumerate(weights)]
    health = Health(zone)
    for one, is_tripped in zip(targets, tripped, strict=False):
        if is_tripped:
            trip(health, one)
    for _ in range(rounds):
        chosen = order(route(strategy, *targets), targets, health, 0.1)
        assert sorted(one.id for one in chosen) == [one.id for one in targets]
        ready = [health.of(one).ready(0.1) for one in chosen]
        assert ready == sorted(ready, reverse=True)
        if zone is not None:
            near = [one.provider.zone == zone for one in chosen if health.of(one).ready(0.1)]
            assert near == sorted(near, reverse=True)


def test_ordered_keeps_the_order_and_moves_cooling_targets_back() -> None:
    targets, health = [target(1), target(2), target(3)], Health()
    ordered = route(Strategy.ORDERED, *targets)
    assert names(order(ordered, targets, health, 0.0)) == "m1 m2 m3"
    trip(health, targets[0])
    assert names(order(ordered, targets, health, 0.1)) == "m2 m3 m1"
    # Half open: the next request tries it, and meanwhile the others do not.
    after_s = FIRST_COOLDOWN_S
    assert names(order(ordered, targets, health, after_s)) == "m1 m2 m3"
    assert health.of(targets[0]).begin(after_s)
    assert names(order(ordered, targets, health, after_s)) == "m2 m3 m1"
    health.of(targets[0]).end(answered=True, ttft_s=None, trial=True)
    assert names(order(ordered, targets, health, after_s)) == "m1 m2 m3"


@settings(deadline=None)
@given(weights=lists(integers(0, 9), min_size=2, max_size=6).filter(any), rounds=integers(1, 5))
def test_weighted_is_exact_and_evenly_mixed(weights: list[int], rounds: int) -> None:
    """Over each `sum of weights` requests the proportions are exact; in between nobody is ahead by a whole turn."""
    targets, health, total = [target(n, weight=weight) for n, weight in enumerate(weights)], Health(), sum(weights)
    weighted, first = route(Strategy.WEIGHTED, *targets), Counter[int]()
    for turn in range(1, rounds * total + 1):
        first[order(weighted, targets, health, 0.0)[0].id] += 1
        for n, weight in enumerate(weights):
            assert abs(first[n] - turn * weight / total) < len(weights)
        if turn % total == 0:
            assert [first[n] for n in range(len(weights))] == [weight * turn // total for weight in weights]


def test_weighted_shares_what_a_cooling_target_leaves() -> None:
    targets, health = [target(1, weight=2), target(2, weight=3), target(3, weight=1)], Health()
    trip(health, targets[0])
    weighted = route(Strategy.WEIGHTED, *targets)
    first = Counter(order(weighted, targets, health, 0.1)[0].model for _ in range(40))
    assert first == {"m2": 30, "m3": 10}


@given(count=integers(2, 9), turns=integers(1, 50))
def test_round_robin_takes_turns(count: int, turns: int) -> None:
    targets, health = [target(n) for n in range(count)], Health()
    robin = route(Strategy.ROUND_ROBIN, *targets)
    assert [order(robin, targets, health, 0.0)[0].id for _ in range(turns)] == [n % count for n in range(turns)]


def test_round_robin_within_what_is_preferred() -> None:
    targets = [target(1, zone="there"), target(2, zone="here"), target(3, zone="here")]
    health = Health("here")
    robin = route(Strategy.ROUND_ROBIN, *targets)
    assert [names(order(robin, targets, health, 0.0)) for _ in range(3)] == ["m2 m3 m1", "m3 m2 m1", "m2 m3 m1"]


@given(busy=lists(integers(0, 5), min_size=2, max_size=20))
def test_least_busy_never_takes_the_busiest(busy: list[int]) -> None:
    """The least busy of all where they are few, else never one that is busier than all others."""
    targets, health = [target(n) for n in range(len(busy))], Health()
    for one, count in zip(targets, busy, strict=True):
        for _ in range(count):
            health.of(one).begin(0.0)
    chosen = order(route(Strategy.LEAST_BUSY, *targets), targets, health, 0.0)[0]
    if len(busy) <= LOOK_AT_ALL:
        assert busy[chosen.id] == min(busy)
    else:
        assert busy.count(max(busy)) > 1 or busy[chosen.id] < max(busy)


def test_two_choices_keep_the_load_even() -> None:
    """Requests that stay: two draws leave the fullest target within a few of the mean, one draw would not."""
    targets, health = [target(n) for n in range(50)], Health()
    least_busy = route(Strategy.LEAST_BUSY, *targets)
    for _ in range(1000):
        health.of(order(least_busy, targets, health, 0.0)[0]).begin(0.0)
    assert max(health.of(one).in_flight for one in targets) <= 20 + 4


def test_fastest_tries_the_unknown_one_at_a_time_then_takes_the_fastest() -> None:
    targets, health = [target(1), target(2), target(3)], Health()
    fastest = route(Strategy.FASTEST, *targets)
    tried = []
    for _ in targets:
        chosen = order(fastest, targets, health, 0.0)[0]
        tried.append(chosen.model)
        health.of(chosen).begin(0.0)
    assert sorted(tried) == ["m1", "m2", "m3"]
    for one, ttft_s in zip(targets, (0.3, 0.1, 0.2), strict=True):
        health.of(one).end(answered=True, ttft_s=ttft_s)
    assert names(order(fastest, targets, health, 0.0)) == "m2 m3 m1"
    trip(health, targets[1])
    assert names(order(fastest, targets, health, 0.1)) == "m3 m1 m2"
    # Well again, it is as good as unknown: one request finds out.
    answer(health, targets[1], 0.5, now_s=FIRST_COOLDOWN_S)
    assert names(order(fastest, targets, health, FIRST_COOLDOWN_S + 1)) == "m3 m1 m2"


@settings(deadline=None)
@given(requests=integers(1, 500), spacing_ms=integers(1, 5_000))
def test_fastest_explores_what_is_stale_and_no_more_than_its_share(requests: int, spacing_ms: int) -> None:
    targets, health = [target(1), target(2)], Health()
    answer(health, targets[0], 0.1)
    answer(health, targets[1], 9.0)
    slow = []
    for number in range(requests):
        now_s = number * spacing_ms / 1000
        chosen = order(route(Strategy.FASTEST, *targets), targets, health, now_s)[0]
        answer(health, chosen, 0.1 if chosen is targets[0] else 9.0, now_s)
        if chosen is targets[1]:
            slow.append(now_s)
    assert len(slow) <= requests // EXPLORE_EACH
    assert all(later - earlier >= STALE_S for earlier, later in itertools.pairwise(slow))
    # Nothing is forgotten: after as many requests as it takes, once it is stale, it was asked.
    due_s = STALE_S + EXPLORE_EACH * spacing_ms / 1000
    if requests * spacing_ms / 1000 > due_s + EXPLORE_EACH * spacing_ms / 1000:
        assert slow


def test_fastest_comes_back_to_a_target_that_has_become_fast() -> None:
    targets, health = [target(1), target(2)], Health()
    answer(health, targets[0], 0.2)
    answer(health, targets[1], 2.0)
    firsts = []
    for number in range(1000):
        chosen = order(route(Strategy.FASTEST, *targets), targets, health, number / 2)[0]
        answer(health, chosen, 0.2 if chosen is targets[0] else 0.01, number / 2)
        firsts.append(chosen.model)
    assert set(firsts[-100:]) <= {"m1", "m2"}
    assert firsts[-100:].count("m2") >= 90


@given(prices=lists(integers(0, 100) | sampled_from([None]), min_size=2, max_size=8), tokens=integers(1, 10_000))
def test_cheapest_sorts_by_what_this_request_may_cost(prices: list[int | None], tokens: int) -> None:
    targets = [target(n, price=price) for n, price in enumerate(prices)]
    chosen = order(
        route(Strategy.CHEAPEST, *targets), targets, Health(), 0.0,
        lambda one: None if one.price is None else one.price.input * tokens,
    )  # fmt: skip
    known = [one.price.input for one in chosen if one.price is not None]
    assert known == sorted(known)
    assert [one.price is None for one in chosen] == sorted(one.price is None for one in chosen)


def test_cheapest_depends_on_the_request_and_not_on_the_price_list_alone() -> None:
    """Cheap input and dear output, or the other way round: what is cheaper depends on how much of each."""
    reader, writer = target(1, price=0), target(2, price=0)
    costs = {"long input": {1: 100, 2: 500}, "long output": {1: 800, 2: 300}}
    by = {
        kind: names(
            order(
                route(Strategy.CHEAPEST, reader, writer),
                [reader, writer],
                Health(),
                0.0,
                lambda one, cost=cost: cost[one.id],
            )
        )
        for kind, cost in costs.items()
    }
    assert by == {"long input": "m1 m2", "long output": "m2 m1"}


def test_a_routes_tags_come_before_the_workers_zone() -> None:
    targets = [target(1, tags="us"), target(2, tags="eu", zone="far"), target(3, tags="eu", zone="here"), target(4)]
    preferring = route(Strategy.ORDERED, *targets, prefer=("eu", "us"))
    assert names(order(preferring, targets, Health("here"), 0.0)) == "m3 m2 m1 m4"
    assert names(order(preferring, targets, Health(), 0.0)) == "m2 m3 m1 m4"


@pytest.mark.parametrize("strategy", list(Strategy))
def test_what_a_check_found_down_is_never_available(strategy: Strategy) -> None:
    targets, health = [target(1), target(2)], Health()
    health.set_down({"p1"})
    assert not health.of(targets[0]).available(0.0)
    assert names(order(route(strategy, *targets), targets, health, 0.0)) == "m2 m1"
    health.set_down(())
    assert health.of(targets[0]).ready(0.0)
    assert set(STRATEGIES) == set(Strategy)
