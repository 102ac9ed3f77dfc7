"""When a budget will be gone: linear, and silent while it is too early to tell."""

import pytest

from gateway.policy.forecast import Forecast, forecast

START, END = 1_000_000, 1_100_000
"""A window of 100,000 s."""


@pytest.mark.parametrize(
    ("used", "passed_s", "expected"),
    [
        (30, 50_000, Forecast(60, None)),
        (60, 50_000, Forecast(120, START + 83_333)),
        (50, 50_000, Forecast(100, None)),  # just enough
        (0, 50_000, Forecast(0, None)),
        (100, 50_000, Forecast(200, START + 50_000)),
        (130, 99_999, Forecast(130, START + 99_999)),
        (90, 1_999, None),
        (1, 2_000, Forecast(50, None)),
    ],
)
def test_forecast_goes_on_as_it_went(used: int, passed_s: int, expected: Forecast | None) -> None:
    assert forecast(used, 100, START, END, START + passed_s) == expected


def test_what_never_resets_has_no_forecast() -> None:
    assert forecast(50, 100, 0, 1 << 62, START) is None
