"""What a request takes from its limits, and the words of a refusal (docs/quotas.md).

Pure: amounts are integers in the metric's unit (requests, tokens, slots, micro-USD), times are Unix seconds.
"""

from dataclasses import dataclass
from typing import Final

from gateway.errors import BadRequest, LimitExceeded, RequestExceedsLimit, SluicegateError
from gateway.policy.model import Limit, Metric, Window
from gateway.policy.windows import NEVER_S, rfc3339

MICROS_PER_USD: Final = 1_000_000

AmountVector = tuple[int, int, int, int, int, int]
"""One request's amount of each metric, in the order of `METRIC_INDEX`."""

METRIC_INDEX: Final = {
    Metric.REQUESTS: 0,
    Metric.INPUT_TOKENS: 1,
    Metric.OUTPUT_TOKENS: 2,
    Metric.TOTAL_TOKENS: 3,
    Metric.COST_USD: 4,
    Metric.CONCURRENT_REQUESTS: 5,
}
METRICS_KEPT: Final = 8
"""Account numbers a limit has: room for metrics to come."""
COST_INDEX: Final = METRIC_INDEX[Metric.COST_USD]
SLOT_INDEX: Final = METRIC_INDEX[Metric.CONCURRENT_REQUESTS]


def account_of(limit_id: int, metric: Metric) -> int:
    """The number under which a limit's use is kept: limit and metric in one, so that a limit whose metric is changed
    starts from nothing instead of going on in another unit."""
    return limit_id * METRICS_KEPT + METRIC_INDEX[metric]


def limit_of(account: int) -> int:
    """The limit that an account belongs to."""
    return account // METRICS_KEPT


@dataclass(slots=True)  # not frozen: two are made a request, and a frozen one is set field by field through object
class Amounts:
    """What one request needs at most, or what it has used. `cost_microusd` None = unknown, never 0.

    `requests` matters at settlement only: 0 says that the request does not count (no upstream was asked).
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cost_microusd: int | None = None
    requests: int = 1

    def needed(self) -> AmountVector:
        """Amounts to reserve: one request, one slot; an unknown cost reserves nothing (`unpriced: admit`)."""
        tokens_in, tokens_out = self.input_tokens, self.output_tokens
        return (1, tokens_in, tokens_out, tokens_in + tokens_out, self.cost_microusd or 0, 1)

    def settled(self) -> AmountVector:
        """Amounts to charge at the end: a slot is given back."""
        tokens_in, tokens_out = self.input_tokens, self.output_tokens
        return (self.requests, tokens_in, tokens_out, tokens_in + tokens_out, self.cost_microusd or 0, 0)

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens


NOTHING: Final = Amounts(0, 0, 0, 0)
"""What a request has used that no upstream was asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitState:
    """A limit in its present window over all workers. `reserved` counts requests in flight, not idle leases."""

    used: int
    reserved: int
    at_most: int
    resets_at_s: int
    """`NEVER_S` for lifetime limits and for concurrent requests."""

    @property
    def resets_at(self) -> str | None:
        return None if self.resets_at_s >= NEVER_S else rfc3339(self.resets_at_s)


def shown(metric: Metric, amount: int) -> int | float:
    """An amount as callers read it: cost in USD, all else as it is counted."""
    return amount / MICROS_PER_USD if metric is Metric.COST_USD else amount


def request_exceeds_limit(limit: Limit, need: int) -> RequestExceedsLimit:
    """The request alone is larger than the limit."""
    at_most, asked = shown(limit.metric, limit.at_most), shown(limit.metric, need)
    return RequestExceedsLimit(
        f"this request may use {asked} {limit.metric}, limit {limit.name} allows {at_most} in all",
        fix="ask for less (max_tokens, a shorter prompt), or raise the limit",
        limit=limit.name,
        metric=str(limit.metric),
        need=asked,
        at_most=at_most,
    )


def price_unknown(limit: Limit) -> SluicegateError:
    """The limit counts money, and the target's price is not known."""
    error = BadRequest(
        f"limit {limit.name} counts cost, and the price of this model is unknown",
        fix="add a price (prices:) for the provider's model, or set the limit's `unpriced: admit`",
        limit=limit.name,
    )
    error.code = "price_unknown"
    return error


def limit_exceeded(limit: Limit, state: LimitState, need: int, now_s: float) -> LimitExceeded:
    """The refusal, with when to try again: at the window's end where what is used blocks, soon where only requests in
    flight do, never (`retryable` False) where a lifetime limit is used up."""
    until_reset_s = max(0.0, state.resets_at_s - now_s) if state.resets_at_s < NEVER_S else None
    used_up = state.used + need > state.at_most
    soon_s = 1.0 if until_reset_s is None else min(1.0, until_reset_s)
    retry_after_s = until_reset_s if used_up else soon_s
    metric = limit.metric
    used, reserved, at_most = (shown(metric, amount) for amount in (state.used, state.reserved, state.at_most))
    span = "" if limit.window is Window.LIFETIME else f" this {limit.window}"
    if metric is Metric.CONCURRENT_REQUESTS:
        what = f"limit {limit.name}: {reserved} of {at_most} concurrent requests are in flight"
    else:
        what = (
            f"limit {limit.name}: {used} of {at_most} {metric} used{span}, {reserved} reserved by requests in flight, "
            f"{shown(metric, need)} needed"
        )
    if retry_after_s is None:
        fix = "raise the limit: it has no window that would reset it"
    else:
        fix = f"retry in {retry_after_s:.0f} s, or raise the limit" if retry_after_s >= 1 else "retry shortly"
    error = LimitExceeded(
        what,
        fix=fix,
        retry_after_s=retry_after_s,
        limit=limit.name,
        metric=str(metric),
        used=used,
        reserved=reserved,
        at_most=at_most,
        need=shown(metric, need),
        resets_at=state.resets_at,
    )
    if retry_after_s is None:
        error.retryable = False
    return error
