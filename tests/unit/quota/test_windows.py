"""Calendar windows against the calendar of the standard library."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.model import Window
from gateway.policy.windows import NEVER_S, rfc3339, window_end_s, window_start_s

CASES = [
    (Window.SECOND, "2026-11-23T18:05:07.9Z", "2026-11-23T18:05:07Z", "2026-11-23T18:05:08Z"),
    (Window.MINUTE, "2026-11-23T18:05:59.999Z", "2026-11-23T18:05:00Z", "2026-11-23T18:06:00Z"),
    (Window.HOUR, "2026-11-23T18:05:07Z", "2026-11-23T18:00:00Z", "2026-11-23T19:00:00Z"),
    (Window.DAY, "2026-12-31T23:59:59Z", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"),
    (Window.WEEK, "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"),
    (Window.WEEK, "2026-11-22T23:59:59Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z"),
    (Window.MONTH, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
    (Window.MONTH, "2026-12-05T12:00:00Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
]


def unix_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize(("window", "now", "start", "end"), CASES)
def test_window(window: Window, now: str, start: str, end: str) -> None:
    found = window_start_s(window, unix_s(now))
    assert rfc3339(found) == start
    assert rfc3339(window_end_s(window, found)) == end


def test_lifetime_never_ends() -> None:
    assert window_start_s(Window.LIFETIME, unix_s("2026-11-23T18:05:07Z")) == 0
    assert window_end_s(Window.LIFETIME, 0) == NEVER_S


@given(
    window=st.sampled_from([window for window in Window if window is not Window.LIFETIME]),
    now_s=st.floats(0, 4_102_444_800),
)
def test_windows_tile_time(window: Window, now_s: float) -> None:
    start = window_start_s(window, now_s)
    end = window_end_s(window, start)
    assert start <= now_s < end
    assert window_start_s(window, start) == start
    assert window_start_s(window, end) == end
    assert window_start_s(window, end - 0.001) == start


@given(now_s=st.integers(0, 4_102_444_800))
def test_weeks_begin_on_monday_at_midnight(now_s: int) -> None:
    start = datetime.fromtimestamp(window_start_s(Window.WEEK, now_s), UTC)
    now = datetime.fromtimestamp(now_s, UTC)
    assert start.date() == now.date() - timedelta(days=now.weekday())
    assert (start.hour, start.minute, start.second) == (0, 0, 0)
