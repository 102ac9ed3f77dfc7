"""Any time is put together from weeks, days and hours that neither overlap nor leave a gap."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.store.flow_models import DAY_S, STEPS_S, WEEK_S
from gateway.store.flows import in_longest
from gateway.store.ledger_models import HOUR_S

HOURS = st.integers(min_value=480_000, max_value=480_000 + 24 * 90)


@given(HOURS, HOURS)
def test_steps_cover_the_time_and_nothing_twice(one: int, other: int) -> None:
    begin, end = sorted((one * HOUR_S, other * HOUR_S))
    parts = sorted(in_longest(STEPS_S, begin, end), key=lambda part: part[1])
    assert all(first % step == last % step == 0 and first < last for step, first, last in parts)
    edges = [begin, *itertools.chain.from_iterable(part[1:] for part in parts), end]
    assert edges[::2] == edges[1::2]


@given(HOURS)
def test_a_month_is_a_few_steps(hour: int) -> None:
    parts = list(in_longest(STEPS_S, hour * HOUR_S, hour * HOUR_S + 30 * DAY_S))
    steps = {step: sum((last - first) // step for s, first, last in parts if s == step) for step in STEPS_S}
    assert steps[WEEK_S] >= 3
    assert steps[DAY_S] <= 12
    assert steps[HOUR_S] <= 46
