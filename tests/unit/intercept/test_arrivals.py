from hypothesis import given
from hypothesis import strategies as st

from gateway.intercept.arrivals import FEWEST, Arrivals

STEP = st.tuples(st.integers(0, 5), st.integers(0, 5))
"""What was captured and what arrived between two looks."""


def test_what_was_captured_just_now_is_not_lost_yet() -> None:
    arrivals = Arrivals()
    arrivals.look("r", 10, 10)
    arrivals.look("r", 14, 10)
    assert arrivals.lost("r") == 0
    arrivals.look("r", 14, 10)
    assert arrivals.lost("r") == 4
    arrivals.look("r", 15, 11)
    assert arrivals.lost("r") == 0


def test_what_was_captured_before_the_first_look_counts_where_nothing_ever_came() -> None:
    arrivals = Arrivals()
    for _ in range(2):
        arrivals.look("r", 6, 0)
        arrivals.look("s", 6, 1)
    assert (arrivals.lost("r"), arrivals.lost("s")) == (6, 0)


def test_rules_that_are_gone_are_forgotten() -> None:
    arrivals = Arrivals()
    for captured in (0, 5, 5):
        arrivals.look("r", captured, 0)
    assert arrivals.lost("r") == 5
    arrivals.forget_others({"s"})
    assert arrivals.lost("r") == 0


@given(st.lists(STEP, max_size=30))
def test_never_alarmed_while_something_arrives_and_always_when_nothing_does(steps: list[tuple[int, int]]) -> None:
    arrivals = Arrivals()
    captured = arrived = 0
    arrivals.look("r", 0, 0)
    since: list[int] = []  # captured from look to look, since something arrived last
    for caught, came in steps:
        captured, arrived = captured + caught, arrived + came
        arrivals.look("r", captured, arrived)
        since = [] if came else [*since, caught]
        settled = sum(since[:-1])
        assert arrivals.lost("r") == (settled if settled >= FEWEST else 0)
