"""contract.md, "Limits": every metric, window and scope; 400 or 429; what a state shows."""

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.integration.contract.conftest import METRICS, SCOPES, WINDOWS, Caller, limit_key
from tests.support.live import Live
from tests.support.provider import Provider
from tests.support.shapes import Tokens

FULL = Tokens(input=50, output=10)


def end_of(window: str, now: datetime) -> datetime | None:
    """When the calendar window that holds `now` ends (UTC)."""
    day = now.replace(hour=0, minute=0, second=0, microsecond=0)
    match window:
        case "second":
            return now.replace(microsecond=0) + timedelta(seconds=1)
        case "minute":
            return now.replace(second=0, microsecond=0) + timedelta(minutes=1)
        case "hour":
            return now.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
        case "day":
            return day + timedelta(days=1)
        case "week":
            return day + timedelta(days=7 - day.weekday())
        case "month":
            return (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    return None


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("metric", METRICS)
def test_each_metric_in_each_window(ask: Caller, sluice: Live, provider: Provider, metric: str, window: str) -> None:
    name = f"{metric}-{window}".replace("_", "-")
    provider.behave(tokens=FULL)
    for _ in range(20):
        began = datetime.now(UTC)
        first = ask.chat(key=limit_key(name), max_tokens=10)
        second = ask.chat(key=limit_key(name), max_tokens=10)
        ended = datetime.now(UTC)
        if window != "second" or began.replace(microsecond=0) == ended.replace(microsecond=0):
            break
        time.sleep(1.02 - datetime.now(UTC).microsecond / 1e6)
    assert first.status_code == 200, first.text
    assert second.status_code == 429, second.text
    told = second.json()["error"]["sluicegate"]
    assert told["limit"] == name
    assert told["metric"] == metric
    assert told["at_most"] == {"requests": 1, "input_tokens": 50, "output_tokens": 10, "total_tokens": 60,
                               "cost_usd": 0.00007}[metric]  # fmt: skip
    assert told["used"] == told["at_most"]
    assert name in second.json()["error"]["message"]
    reset = end_of(window, ended)
    if reset is None:
        assert told["resets_at"] is None
        assert "retry-after" not in second.headers
        return
    assert datetime.fromisoformat(told["resets_at"]) == reset
    wait_s = int(second.headers["retry-after"])
    assert 1 <= wait_s <= (reset - began).total_seconds() + 1
    assert wait_s >= (reset - ended).total_seconds() - 1
    if window == "second":
        time.sleep(1.1)
        assert ask.chat(key=limit_key(name), max_tokens=10).status_code == 200
        return
    sluice.until(lambda: ask.state(name)["used"] == told["at_most"], 2)
    state = ask.state(name)
    assert {"used", "reserved", "at_most", "resets_at"} <= set(state)
    assert state["reserved"] == 0
    assert state["at_most"] == told["at_most"]
    assert datetime.fromisoformat(state["resets_at"]) == reset


@pytest.mark.parametrize("scope", SCOPES)
def test_each_scope(ask: Caller, provider: Provider, scope: str) -> None:
    key, route = limit_key(f"a-{scope}"), f"r-{scope}"
    other = "chat" if scope in ("route", "provider", "credential", "target") else route
    assert ask.chat(route, key).status_code == 200
    refused = ask.chat(route, key)
    assert refused.status_code == 429, refused.text
    assert refused.json()["error"]["sluicegate"]["limit"] == f"by-{scope}"
    if other == "chat":  # the limit is of the route, provider, credential or target alone
        assert ask.chat("chat", key).status_code == 200
    else:
        assert ask.chat(route).status_code == 200  # another caller's


def test_a_state_shows_a_request_within_a_second_of_its_end(ask: Caller, sluice: Live, provider: Provider) -> None:
    before = ask.state("by-global")["used"]
    row = ask.row(ask.chat())
    sluice.until(lambda: ask.state("by-global")["used"] == before + 1, 1.0)
    assert row["outcome"] == "completed"


def test_larger_than_the_whole_limit_is_400_not_429(ask: Caller, provider: Provider) -> None:
    refused = ask.chat(key=limit_key("small"), max_tokens=101)
    assert refused.status_code == 400
    assert refused.json()["error"]["code"] == "request_exceeds_limit"
    assert refused.json()["error"]["sluicegate"]["limit"] == "small"
    assert "retry-after" not in refused.headers
    assert not provider.requests
    assert ask.row(refused)["outcome"] == "refused"
    in_anthropic = ask.message(key=limit_key("small"), max_tokens=101)
    assert in_anthropic.status_code == 400
    assert in_anthropic.json()["type"] == "error"
    assert in_anthropic.json()["error"]["type"] == "invalid_request_error"
    assert ask.chat(key=limit_key("small"), max_tokens=20, n=6).status_code == 400  # max_tokens × n
    assert ask.chat(key=limit_key("small"), max_tokens=20, n=2).status_code == 200


def test_a_reservation_is_input_plus_max_tokens_and_returns(ask: Caller, sluice: Live, provider: Provider) -> None:
    """In a state cost is USD, a decimal number; `reserved` is of requests in flight."""
    used = ask.state("reserving")["used"]
    provider.behave(head_delay_s=1.5)
    answers = []
    caller = threading.Thread(target=lambda: answers.append(ask.chat(key=limit_key("reserving"), max_tokens=1000, n=2)))
    caller.start()
    sluice.until(lambda: len(provider.requests) == 1, 5)
    sluice.until(lambda: ask.state("reserving")["reserved"] == 2000, 1)
    money = ask.state("money")
    assert money["at_most"] == 12.5
    assert 0.006 <= money["reserved"] <= 0.0061  # 2 × 1000 at the dearest price of output, and a few of input
    caller.join()
    assert answers[0].status_code == 200
    sluice.until(lambda: ask.state("reserving")["reserved"] == 0, 1)
    assert ask.state("reserving")["used"] == used + 7
    assert b"max_output_tokens" not in provider.last.body


def test_without_max_tokens_the_routes_bound_is_reserved_and_the_body_kept(
    ask: Caller, sluice: Live, provider: Provider
) -> None:
    for route, reserved in (("chat", 4096), ("tight", 100)):
        provider.forget()
        provider.behave(head_delay_s=1.5)
        caller = threading.Thread(target=lambda route=route: ask.chat(route, limit_key("reserving")))
        caller.start()
        sluice.until(lambda: len(provider.requests) == 1, 5)
        sluice.until(lambda reserved=reserved: ask.state("reserving")["reserved"] == reserved, 1)
        assert "max_tokens" not in provider.last.json
        caller.join()


def test_what_an_answer_uses_beyond_is_recorded_as_overrun(ask: Caller, provider: Provider) -> None:
    provider.behave(tokens=Tokens(input=900, output=300))
    row = ask.row(ask.chat(max_tokens=10))
    assert (row["input_tokens"], row["output_tokens"]) == (900, 300)
    assert 1200 - 10 - 40 <= row["overrun"] <= 1200 - 10


def test_concurrent_requests(ask: Caller, sluice: Live, provider: Provider) -> None:
    provider.behave(head_delay_s=1.5)
    waiting = [threading.Thread(target=lambda: ask.chat(key=limit_key("parallel"))) for _ in range(2)]
    for one in waiting:
        one.start()
    sluice.until(lambda: len(provider.requests) == 2, 5)
    refused = ask.chat(key=limit_key("parallel"))
    assert refused.status_code == 429
    told = refused.json()["error"]["sluicegate"]
    assert (told["limit"], told["at_most"], told["resets_at"]) == ("parallel", 2, None)
    assert int(refused.headers["retry-after"]) >= 1
    state = ask.state("parallel")
    assert (state["used"] + state["reserved"], state["at_most"], state["resets_at"]) == (2, 2, None)
    for one in waiting:
        one.join()
    provider.forget()
    sluice.until(lambda: ask.state("parallel")["reserved"] == 0, 1)
    assert ask.chat(key=limit_key("parallel")).status_code == 200


def test_an_unknown_price_with_a_cost_limit(ask: Caller, provider: Provider) -> None:
    refused = ask.chat("unpriced", limit_key("unpriced"))
    assert refused.status_code in (400, 403, 503), refused.text
    assert refused.status_code == 400
    assert "price" in refused.json()["error"]["message"]
    assert not provider.requests
    admitted = ask.chat("unpriced", limit_key("admitting"))
    assert admitted.status_code == 200
    assert "x-sluicegate-cost-usd" not in admitted.headers
    assert ask.row(admitted)["cost_usd_micros"] is None


def test_a_full_limit_of_a_target_moves_to_the_next_without_a_retry(ask: Caller, provider: Provider) -> None:
    key = limit_key("spill")
    assert ask.chat("spill", key).headers["x-sluicegate-target"] == "up/spill-a"
    assert ask.chat("spill", key).headers["x-sluicegate-target"] == "up/spill-b"
    assert [request.json["model"] for request in provider.requests] == ["spill-a", "spill-b"]


def test_a_refused_request_has_its_row_and_takes_nothing(ask: Caller, sluice: Live, provider: Provider) -> None:
    refused = ask.chat(key=limit_key("spent-month"))
    if refused.status_code == 200:  # run alone
        refused = ask.chat(key=limit_key("spent-month"))
    row = ask.row(refused)
    assert (row["status"], row["outcome"], row["app"]) == (429, "refused", "spent-month")
    assert row["cost_usd_micros"] in (0, None)
    assert ask.state("spent-month")["used"] == 1


def test_in_the_anthropic_dialect_429_says_the_same(ask: Caller, provider: Provider) -> None:
    ask.message(key=limit_key("spent-day"))
    refused = ask.message(key=limit_key("spent-day"))
    assert refused.status_code == 429
    told = refused.json()
    assert told["type"] == "error"
    assert told["error"]["type"] == "rate_limit_error"
    assert told["error"]["sluicegate"]["limit"] == "spent-day"
    assert told["error"]["sluicegate"]["resets_at"]
    assert int(refused.headers["retry-after"]) >= 1


@pytest.mark.parametrize("host", ["hosted.internal", "open.internal"])
def test_limits_hold_on_http_routes(ask: Caller, sluice: Live, provider: Provider, host: str) -> None:
    """Those that ask for no key too."""
    name = host.removesuffix(".internal")
    limit = {"name": f"of-{name}", "scope": {"route": name}, "metric": "requests", "window": "month", "at_most": 1}
    assert sluice.api.post("/api/v1/limits", json=limit).status_code == 201
    try:
        time.sleep(1)
        assert ask.get("/x", host=host).status_code == 200
        refused = ask.get("/x", host=host)
        assert refused.status_code == 429
        assert refused.json()["error"]["limit"] == f"of-{name}"
        assert int(refused.headers["retry-after"]) > 1
        assert len(provider.requests) == 1
        assert ask.row(refused)["outcome"] == "refused"
    finally:
        sluice.api.delete(f"/api/v1/limits/of-{name}")


def test_a_scope_of_several_counts_their_meeting_only(ask: Caller, sluice: Live, provider: Provider) -> None:
    limit = {"name": "meeting", "scope": {"app": "indexer", "route": "tight"}, "metric": "requests",
             "window": "month", "at_most": 1}  # fmt: skip
    assert sluice.api.post("/api/v1/limits", json=limit).status_code == 201
    try:
        time.sleep(1)
        assert ask.chat("tight").status_code == 200
        assert ask.chat("tight").status_code == 429
        assert ask.chat("chat").status_code == 200
        assert ask.chat("tight", limit_key("admitting")).status_code in (200, 400)
        assert ask.state("meeting")["used"] == 1
    finally:
        sluice.api.delete("/api/v1/limits/meeting")


def test_the_target_of_an_http_route_may_have_its_own_limit(ask: Caller, sluice: Live, provider: Provider) -> None:
    made = [
        sluice.api.post("/api/v1/providers", json={"name": "second", "dialect": "http", "base_url": provider.url}),
        sluice.api.post("/api/v1/routes", json={"name": "pair", "match": {"host": "pair.internal"}, "retries": 0,
                                                "targets": [{"provider": "second"}, {"provider": "backend"}]}),
        sluice.api.post("/api/v1/limits", json={"name": "second-once", "scope": {"target": "second"},
                                                "metric": "requests", "window": "month", "at_most": 1}),
    ]  # fmt: skip
    assert [one.status_code for one in made] == [201] * 3, [one.text for one in made]
    time.sleep(1)
    assert ask.get("/y", host="pair.internal").headers["x-sluicegate-target"] == "second"
    assert ask.get("/y", host="pair.internal").headers["x-sluicegate-target"] == "backend"
    for path in ("limits/second-once", "routes/pair", "providers/second"):
        assert sluice.api.delete(f"/api/v1/{path}").status_code == 204
