"""What would have become of past requests under another configuration."""

from dataclasses import replace
from typing import Any

from gateway.policy.model import (
    App,
    AppId,
    Dialect,
    Key,
    KeyId,
    Limit,
    LimitId,
    Match,
    Metric,
    Price,
    Provider,
    ProviderId,
    Route,
    RouteId,
    Scope,
    Strategy,
    Target,
    TargetId,
    TeamId,
    Window,
)
from gateway.policy.replay import Effect, Past, Replay, replay
from gateway.policy.snapshot import Snapshot
from gateway.policy.usage import Usage

MIDNIGHT_S = 1_764_201_600.0
"""2025-11-27T00:00:00Z: all windows up to a day begin with it."""
OPENAI = Provider(id=ProviderId(1), name="openai", dialect=Dialect.OPENAI, base_url="http://a")
NEAR = Target(id=TargetId(1), provider=OPENAI, model="near", price=Price(input=1_000_000, output=1_000_000))
FAR = Target(id=TargetId(2), provider=OPENAI, model="far", price=None)
CHAT = Route(id=RouteId(1), name="chat", strategy=Strategy.ORDERED, targets=(NEAR, FAR))
INDEXER = App(id=AppId(1), name="indexer", team_id=TeamId(1), team="search", routes=frozenset({"chat"}))
CI = Key(id=KeyId(1), name="ci", app=INDEXER)
BUDGET = Limit(
    id=LimitId(1), name="burst", scope=Scope(app_id=AppId(1)), metric=Metric.REQUESTS, window=Window.DAY, at_most=100
)


def snapshot(
    routes: tuple[Route, ...] = (CHAT,), app: App | None = INDEXER, key: Key | None = CI, *limits: Limit
) -> Snapshot:
    return Snapshot(
        generation=1,
        keys={b"1": replace(key, app=app)} if key and app else {},
        routes={route.name: route for route in routes},
        apps={app.name: app} if app else {},
        providers={},
        limits=limits,
    )


NOW = snapshot((CHAT,), INDEXER, CI, BUDGET)


def past(number: int = 0, **fields: Any) -> Past:
    usual: dict[str, Any] = {
        "id": f"r{number}", "at_s": MIDNIGHT_S + number, "lasted_s": 0.5, "app": "indexer", "key": "ci",
        "route": "chat", "target": "openai/near", "dialect": "openai", "outcome": "completed", "error_code": None,
        "usage": Usage(100, 0, 0, 50, 0),
    }  # fmt: skip
    return Past(**{**usual, **fields})


def told(found: Replay) -> list[tuple[Effect, int, bool]]:
    return [(one.effect, one.requests, one.certain) for one in found.findings]


def try_(after: Snapshot, rows: list[Past], before: Snapshot = NOW, used: dict[int, int] | None = None) -> Replay:
    return replay(rows, before, after, used or {})


def test_the_same_configuration_changes_nothing() -> None:
    found = try_(NOW, [past(number) for number in range(50)])
    assert (found.requests, found.judged, found.refused, found.rerouted, found.findings) == (50, 50, 0, 0, [])


def test_access_that_is_taken_away() -> None:
    rows = [past(1), past(2), past(3, outcome="refused", target=None)]
    for after, effect in (
        (snapshot((), INDEXER, CI), Effect.NO_ROUTE),
        (snapshot((CHAT,), replace(INDEXER, routes=frozenset()), CI), Effect.NO_ACCESS),
        (snapshot((CHAT,), INDEXER, None), Effect.NO_ACCESS),
        (snapshot((CHAT,), None, None), Effect.NO_ACCESS),
    ):
        found = try_(after, rows)
        assert (told(found), found.refused) == ([(effect, 2, True)], 2)
        assert found.findings[0].example == "r1"


def test_a_key_that_has_been_revoked_meanwhile_is_not_the_drafts_doing() -> None:
    rows = [past(1, key="former")]
    assert try_(NOW, rows).findings == []


def test_targets_that_go_and_targets_that_come_first() -> None:
    rows = [past(1), past(2, target="openai/far")]
    gone = try_(snapshot((replace(CHAT, targets=(FAR,)),)), rows)
    assert told(gone) == [(Effect.OTHER_TARGET, 1, True)]
    assert "openai/near is gone, openai/far in its place" in gone.findings[0].what
    turned = try_(snapshot((replace(CHAT, targets=(FAR, NEAR)),)), rows)
    assert (told(turned), turned.rerouted) == ([(Effect.OTHER_TARGET, 1, True)], 1)


def test_weights_are_an_expectation() -> None:
    shared = replace(CHAT, strategy=Strategy.WEIGHTED, targets=(replace(NEAR, weight=1), replace(FAR, weight=1)))
    tilted = replace(shared, targets=(replace(NEAR, weight=1), replace(FAR, weight=3)))
    rows = [past(number, target=("openai/near", "openai/far")[number % 2]) for number in range(40)]
    found = try_(snapshot((tilted,)), rows, snapshot((shared,)))
    assert (told(found), found.rerouted) == ([(Effect.OTHER_TARGET, 10, False)], 0)


def test_limits_are_charged_request_by_request() -> None:
    rows = [past(number) for number in range(30)]
    tight = replace(BUDGET, at_most=13)
    found = try_(snapshot((CHAT,), INDEXER, CI, tight), rows, used={1: 30})
    assert (told(found), found.refused) == ([(Effect.LIMITED, 17, False)], 17)
    assert found.notes
    # what was used before these requests counts, too
    assert try_(snapshot((CHAT,), INDEXER, CI, tight), rows, used={1: 35}).refused == 22
    minute = replace(BUDGET, window=Window.MINUTE, at_most=10)
    assert try_(snapshot((CHAT,), INDEXER, CI, minute), [past(number * 10) for number in range(12)]).refused == 0


def test_tokens_cost_and_slots() -> None:
    rows = [past(number) for number in range(10)]
    tokens = replace(BUDGET, metric=Metric.TOTAL_TOKENS, at_most=450)
    assert try_(snapshot((CHAT,), INDEXER, CI, tokens), rows).refused == 7
    cost = replace(BUDGET, metric=Metric.COST_USD, at_most=600)  # 150 micro-USD each
    assert try_(snapshot((CHAT,), INDEXER, CI, cost), rows).refused == 6
    unpriced = try_(snapshot((CHAT,), INDEXER, CI, cost), [past(1, target="openai/far")])
    assert "price is not known" in unpriced.findings[0].what
    slots = replace(BUDGET, metric=Metric.CONCURRENT_REQUESTS, at_most=2)
    together = [past(number, lasted_s=2.5) for number in range(6)]
    assert try_(snapshot((CHAT,), INDEXER, CI, slots), together).refused == 2
    assert try_(snapshot((CHAT,), INDEXER, CI, slots), rows).refused == 0


def test_a_limit_that_refuses_already_refuses_nothing_new() -> None:
    full = replace(BUDGET, at_most=5)
    before = snapshot((CHAT,), INDEXER, CI, full)
    rows = [past(number) for number in range(9)]
    assert try_(before, rows, before).refused == 0


def test_http_routes_whose_matches_change_are_told_as_possibilities() -> None:
    backend = Provider(id=ProviderId(2), name="crm", dialect=Dialect.HTTP, base_url="http://b")
    crm = Route(
        id=RouteId(2), name="crm", strategy=Strategy.ORDERED, match=Match(path="/v2/"),
        targets=(Target(id=TargetId(3), provider=backend, model=None),),
    )  # fmt: skip
    app = replace(INDEXER, routes=None)
    rows = [past(1, route="crm", target="crm", dialect="http", usage=Usage())]
    other = replace(crm, id=RouteId(3), name="newer", match=Match(host="crm.internal"))
    found = try_(snapshot((crm, other), app), rows, snapshot((crm,), app))
    assert told(found) == [(Effect.OTHER_ROUTE, 1, False)]
    assert try_(snapshot((crm,), app), rows, snapshot((crm,), app)).findings == []


def test_what_cannot_be_judged_is_counted() -> None:
    rows = [past(1, route=None, outcome="refused"), past(2, route="direct:rule"), past(3, route="former"), past(4)]
    found = try_(NOW, rows)
    assert (found.judged, sum(found.unjudged.values())) == (1, 3)
