"""What `sluicegate top` works out of rows, and how it looks at any size of terminal."""

import io
from typing import Any

import pytest
from rich.console import Console

from gateway.cli.top_figures import Kernel, Window, as_json, in_order, kernel_by, percentile, total
from gateway.cli.top_screen import Choice, screen


def row(**values: Any) -> dict[str, Any]:
    return {
        "started_at": "2026-11-26T19:00:00.000000Z", "route": "chat", "app": "indexer", "team": "search", "key": "ci",
        "target": "openai/gpt-5-mini", "model": "gpt-5-mini", "status": 200, "outcome": "completed",
        "input_tokens": 100,
        "output_tokens": 20, "cost_usd_micros": 1_000, "ttft_ms": 50.0, "latency_ms": 400.0,
    } | values  # fmt: skip


def test_rates_are_of_the_window_and_of_what_it_covers() -> None:
    window = Window(10.0, begun_s=100.0)
    window.add(row(), 101.0)
    window.add(row(status=502, outcome="upstream_failed", cost_usd_micros=None, ttft_ms=None), 104.0)
    window.add(row(route="other", cost_usd_micros=None), 104.5)
    found = {each.name: each for each in window.figures("route", 105.0, [row()])}
    assert window.covered_s(105.0) == 5.0
    chat = as_json(found["chat"], "route", 5.0)
    assert (chat["requests"], chat["requests_per_s"], chat["errors"], chat["in_flight"]) == (2, 0.4, 1, 1)
    assert (chat["tokens_per_s"], chat["cost_usd_micros"], chat["ttft_ms_p50"]) == (48.0, 1_000, 50.0)
    assert total(found.values()).unpriced == 2
    later = window.figures("route", 112.0)
    assert [each.name for each in later] == ["chat", "other"]
    assert sum(each.requests for each in later) == 2
    assert window.covered_s(200.0) == 10.0
    assert (window.seen, window.failed) == (3, 1)


@pytest.mark.parametrize(
    ("sort", "first"),
    [("requests", "a"), ("cost", "b"), ("errors", "c"), ("ttft", "c"), ("name", "a"), ("tokens", "b")],
)
def test_order(sort: str, first: str) -> None:
    window = Window(10.0, begun_s=0.0)
    for _ in range(3):
        window.add(row(app="a", cost_usd_micros=1, input_tokens=1), 1.0)
    window.add(row(app="b", cost_usd_micros=9_000, input_tokens=900), 1.0)
    window.add(row(app="c", status=500, ttft_ms=900.0, input_tokens=1, cost_usd_micros=0), 1.0)
    assert in_order(window.figures("app", 2.0), sort)[0].name == first


def test_percentile_of_nothing_is_not_zero() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0


def measured(route: str, target: str, rtt_ms: float | None, count: int, retransmits: int | None) -> dict[str, Any]:
    """As `GET /api/v1/telemetry/routes` has it; `retransmits` None: the kernel knows nothing of it."""
    found = None if rtt_ms is None else {"p50": rtt_ms, "p95": rtt_ms, "p99": rtt_ms, "count": count}
    return {
        "route": route, "target": target, "rtt_ms": found, "first_byte_ms": found, "token_gap_ms": None,
        "retransmits": retransmits, "client_retransmits": retransmits, "open_connections": retransmits,
    }  # fmt: skip


def test_the_kernels_figures_are_those_of_the_group() -> None:
    """Of two targets of a route: the median of the one with most to tell, sums of both; unknown is not 0."""
    items = [measured("chat", "a", 3.0, 10, 1), measured("chat", "b", 9.0, 2, 2), measured("other", "c", None, 0, None)]
    found = kernel_by("route", items)
    assert found == {"chat": Kernel(3.0, 3.0, None, 6, 3)}
    assert kernel_by("target", items)["b"].rtt_ms == 9.0
    assert kernel_by("app", items) == {}
    window = Window(10.0, begun_s=0.0)
    window.add(row(process="python3"), 1.0)
    window.add(row(), 1.0)
    told = as_json(window.figures("route", 2.0)[0], "route", 2.0, found["chat"])
    assert (told["rtt_ms_p50"], told["token_gap_ms_p50"], told["retransmits"]) == (3.0, None, 6)
    assert told["callers"] == {"python3": 1, "indexer": 1}


@pytest.mark.parametrize(("width", "height"), [(80, 24), (200, 60), (60, 12)])
@pytest.mark.parametrize("count", [0, 1, 300])
def test_the_picture_fits_the_terminal(width: int, height: int, count: int) -> None:
    window = Window(10.0, begun_s=0.0)
    for number in range(count):
        window.add(row(app=f"app-{number % 40}", status=200 if number % 9 else 502), 1.0)
    window.gaps = count // 300
    console = Console(width=width, height=height, record=True, file=io.StringIO())
    kernel = {f"app-{number}": Kernel(1.5, 40.0, 20.25, number, 3) for number in range(40)}
    open_rows = [row()] if count else []
    console.print(
        screen(window, Choice("app", "requests"), open_rows, kernel, "none: the agent is not connected",
               "http://127.0.0.1:8080", 2.0, width, height)
    )  # fmt: skip
    text = console.export_text()
    assert "req/s" in text
    assert all(len(line) <= width for line in text.splitlines())
    if height >= 24:
        assert len(text.splitlines()) <= height
        assert ("app-0" in text) == (count > 0)
