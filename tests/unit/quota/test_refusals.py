"""What a refusal says, and when it tells the caller to come back."""

from dataclasses import dataclass

import pytest

from gateway.policy.model import Limit, LimitId, Metric, Scope, Window
from gateway.policy.quota import Amounts, LimitState, limit_exceeded, request_exceeds_limit
from gateway.policy.windows import NEVER_S

NOW_S = 1_000.0


@dataclass(frozen=True, kw_only=True)
class Case:
    name: str
    metric: Metric
    window: Window
    used: int
    reserved: int
    need: int
    resets_at_s: int
    retry_after_s: float | None


CASES = [
    Case(
        name="used up this minute",
        metric=Metric.TOTAL_TOKENS,
        window=Window.MINUTE,
        used=95,
        reserved=0,
        need=10,
        resets_at_s=1_020,
        retry_after_s=20.0,
    ),
    Case(
        name="only requests in flight are in the way",
        metric=Metric.TOTAL_TOKENS,
        window=Window.MINUTE,
        used=50,
        reserved=45,
        need=10,
        resets_at_s=1_020,
        retry_after_s=1.0,
    ),
    Case(
        name="the window ends before a second has passed",
        metric=Metric.REQUESTS,
        window=Window.SECOND,
        used=50,
        reserved=50,
        need=1,
        resets_at_s=1_000,
        retry_after_s=0.0,
    ),
    Case(
        name="slots",
        metric=Metric.CONCURRENT_REQUESTS,
        window=Window.LIFETIME,
        used=0,
        reserved=100,
        need=1,
        resets_at_s=NEVER_S,
        retry_after_s=1.0,
    ),
    Case(
        name="used up for ever",
        metric=Metric.COST_USD,
        window=Window.LIFETIME,
        used=100,
        reserved=0,
        need=1,
        resets_at_s=NEVER_S,
        retry_after_s=None,
    ),
]


def limit_of(metric: Metric, window: Window, at_most: int = 100) -> Limit:
    return Limit(id=LimitId(1), name="burst", scope=Scope(), metric=metric, window=window, at_most=at_most)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refusal(case: Case) -> None:
    state = LimitState(used=case.used, reserved=case.reserved, at_most=100, resets_at_s=case.resets_at_s)
    error = limit_exceeded(limit_of(case.metric, case.window), state, case.need, NOW_S)
    assert error.status == 429
    assert error.retry_after_s == case.retry_after_s
    assert error.retryable is (case.retry_after_s is not None)
    assert error.fields["limit"] == "burst"
    assert (error.fields["resets_at"] is None) is (case.resets_at_s == NEVER_S)
    assert "burst" in str(error)


def test_cost_is_told_in_usd_and_counts_as_whole_numbers() -> None:
    state = LimitState(used=1_250_000, reserved=0, at_most=1_500_000, resets_at_s=NEVER_S)
    error = limit_exceeded(limit_of(Metric.COST_USD, Window.MONTH, 1_500_000), state, 300_000, NOW_S)
    assert [error.fields[name] for name in ("used", "reserved", "at_most", "need")] == [1.25, 0, 1.5, 0.3]
    tokens = request_exceeds_limit(limit_of(Metric.TOTAL_TOKENS, Window.DAY), 101)
    assert (tokens.status, tokens.fields["need"], tokens.fields["at_most"]) == (400, 101, 100)


def test_amounts_by_metric() -> None:
    amounts = Amounts(10, 20, 30)
    assert amounts.needed() == (1, 10, 20, 30, 30, 1)
    assert amounts.settled() == (1, 10, 20, 30, 30, 0)
    assert Amounts(10, 20, None).needed()[4] == 0
    assert Amounts(0, 0, 0, 0).settled() == (0, 0, 0, 0, 0, 0)
