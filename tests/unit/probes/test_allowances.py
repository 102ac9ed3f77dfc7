"""Windows of a limit: what the kernel's word says, and which limits are none."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import booleans, integers

from gateway.policy.discovery import Per
from gateway.probes.allowances import AMOUNT_BITS, MOST, PERIODS_S, WINDOW_MASK, Allowance, allowance_of, spent_of
from gateway.store.discovery_documents import MOST_ALLOWED


@given(
    amount=integers(1, MOST), used=integers(0, MOST), in_bytes=booleans(), window_s=integers(1, 86_400),
    from_ns=integers(0, 1 << 60), passed_ns=integers(0, 1 << 60), later=integers(1, WINDOW_MASK),
)  # fmt: skip
def test_a_window_tells_its_own_and_the_next_begins_with_nothing(
    amount: int, used: int, in_bytes: bool, window_s: int, from_ns: int, passed_ns: int, later: int
) -> None:
    allowance = Allowance(amount=amount, in_bytes=in_bytes, window_s=window_s)
    window_ns = window_s * 1_000_000_000
    now_ns = from_ns + passed_ns
    word = (passed_ns // window_ns & WINDOW_MASK) << AMOUNT_BITS | used
    spent = spent_of(word, allowance, from_ns, now_ns)
    assert spent.used == (used if in_bytes else min(used, amount))
    assert now_ns < spent.ends_ns <= now_ns + window_ns
    assert (spent.ends_ns - from_ns) % window_ns == 0
    assert spent_of(word, allowance, from_ns, spent.ends_ns - 1) == spent
    assert spent_of(word, allowance, from_ns, now_ns + later * window_ns).used == 0


@pytest.mark.parametrize(
    "item",
    [
        {"per": "hour"}, {"bytes": 1, "connections": 1, "per": "hour"}, {"bytes": 0, "per": "hour"},
        {"bytes": MOST + 1, "per": "hour"}, {"bytes": 1, "per": "week"}, {"bytes": 1}, {"bytes": "x", "per": "hour"},
    ],
)  # fmt: skip
def test_what_is_no_limit(item: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        allowance_of(item)


def test_store_and_probes_say_the_same() -> None:
    assert [*map(str, Per)] == list(PERIODS_S)
    assert MOST_ALLOWED == MOST
