"""Limits of a provider, a credential, a target; active health checks; zones: where a request goes instead."""

import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support import live
from tests.support.live import Live
from tests.support.provider import Provider, Request
from tests.support.raw import RawAnswer, RawClient
from tests.support.shapes import Tokens

KEY = "sk-test-moves-0123456789"


@dataclass(frozen=True, slots=True)
class Rig:
    sluice: Live
    first: Provider
    second: Provider

    def post(self, route: str, **fields: Any) -> RawAnswer:
        body = json.dumps({"model": route, "messages": [], "max_tokens": 20, **fields}).encode()
        with RawClient(self.sluice.port, timeout_s=30) as client:
            return client.post("/v1/chat/completions", body, f"authorization: Bearer {KEY}")

    def target(self, route: str, **fields: Any) -> str | None:
        answer = self.post(route, **fields)
        assert answer.status == 200, answer
        return answer.header("x-sluicegate-target")

    def calls(self) -> list[Request]:
        """What the first provider was asked, its health checks left out."""
        return [request for request in self.first.requests if request.path != "/up"]

    def health(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = self.sluice.api.get("/api/v1/telemetry/health").raise_for_status().json()
        except httpx2.TransportError:  # the worker that answered before was killed
            return self.health()
        return found


def limit(name: str, scope: str, metric: str = "requests", at_most: str = "2", window: str = "lifetime") -> str:
    window = "" if metric == "concurrent_requests" else f"window: {window}, "
    return f"  - {{name: {name}, scope: {{{scope}}}, metric: {metric}, {window}at_most: {at_most}}}\n"


def configuration(first: str, second: str) -> str:
    def route(name: str, targets: str, more: str = "retries: 0") -> str:
        return f"  - {{name: {name}, {more}, targets: [{targets}]}}\n"

    def pair(name: str) -> str:
        return f"{{provider: first, model: {name}}}, {{provider: second, model: {name}}}"

    routes = "".join(
        [
            route("by-target", pair("by-target")),
            route("by-tokens", pair("by-tokens")),
            route("by-slots", pair("by-slots")),
            route(
                "by-provider", "{provider: small, model: a}, {provider: small, model: b}, {provider: second, model: c}"
            ),
            route("by-key", "{provider: keyed, model: m}"),
            route("by-cost", "{provider: dear, model: m}, {provider: cheap, model: m}"),
            route("unpriced", "{provider: first, model: no-price}, {provider: cheap, model: m}"),
            route("too-large", pair("too-large")),
            route("after-failure", pair("after-failure"), "retries: 2"),
            route("cheapest", "{provider: reader, model: m}, {provider: writer, model: m}", "strategy: cheapest"),
            route("checked", "{provider: checked, model: m}, {provider: second, model: m}"),
            route("checked-alone", "{provider: checked, model: alone}"),
            route("near", "{provider: far, model: m}, {provider: close, model: m}", "retries: 1"),
            route("tagged", "{provider: far, model: t}, {provider: close, model: t}", "retries: 0, prefer: [blue]"),
        ]
    )
    limits = "".join(
        [
            limit("l-target", "target: first/by-target"),
            limit("l-tokens", "target: first/by-tokens", "total_tokens", "70", "day"),
            limit("l-slots", "target: first/by-slots", "concurrent_requests", "1"),
            limit("l-provider", "provider: small"),
            limit("l-key-a", "credential: keyed/a"),
            limit("l-key-b", "credential: keyed/b", at_most="3", window="day"),
            limit("l-cost", "route: by-cost", "cost_usd", "0.0005", "day"),
            limit("l-unpriced", "route: unpriced", "cost_usd", "5", "day"),
            limit("l-too-large", "target: first/too-large", "total_tokens", "10", "day"),
            limit("l-after", "target: second/after-failure", at_most="1"),
        ]
    )
    return f"""
providers:
  - {{name: first, dialect: openai, base_url: {first}/v1}}
  - {{name: second, dialect: openai, base_url: {second}/v1}}
  - {{name: small, dialect: openai, base_url: {first}/v1}}
  - {{name: dear, dialect: openai, base_url: {first}/v1}}
  - {{name: cheap, dialect: openai, base_url: {second}/v1}}
  - {{name: reader, dialect: openai, base_url: {first}/v1}}
  - {{name: writer, dialect: openai, base_url: {second}/v1}}
  - {{name: far, dialect: openai, base_url: {first}/v1, zone: far, tags: [blue]}}
  - {{name: close, dialect: openai, base_url: {second}/v1, zone: here}}
  - name: keyed
    dialect: openai
    base_url: {first}/v1
    credentials: [{{name: a, value: sk-keyed-secret-a}}, {{name: b, value: sk-keyed-secret-b}}]
  - name: checked
    dialect: openai
    base_url: {first}/v1
    credentials: [{{name: main, value: sk-checked-secret}}]
    health: {{path: "/up?x=1", interval: 500ms, timeout: 2s, healthy_after: 2, unhealthy_after: 2}}
routes:
{routes}
teams: [{{name: t, apps: [{{name: a, routes: "*", keys: [{{name: k, value: {KEY}}}]}}]}}]
prices:
  - {{provider: dear, model: "*", input: 0, output: 100000000}}
  - {{provider: cheap, model: "*", input: 0, output: 1000000}}
  - {{provider: reader, model: "*", input: 1, output: 1000000}}
  - {{provider: writer, model: "*", input: 1000000, output: 1}}
limits:
{limits}"""


@pytest.fixture(scope="module")
def shared_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Provider() as first, Provider() as second:
        folder: Path = tmp_path_factory.mktemp("moves")
        with live.gateway(
            folder, configuration(first.url, second.url), workers=2, env={"SLUICEGATE_ZONE": "here"}
        ) as sluice:
            yield Rig(sluice, first, second)


@pytest.fixture
def rig(shared_rig: Rig) -> Rig:
    shared_rig.first.forget()
    shared_rig.second.forget()
    return shared_rig


def test_a_spent_target_sends_requests_on_without_asking_it(rig: Rig) -> None:
    """Two of six fit, whichever worker they come to; the others go to the next target, and no retry is spent."""
    targets = Counter(rig.target("by-target") for _ in range(6))
    assert targets == {"first/by-target": 2, "second/by-target": 4}
    assert len(rig.calls()) == 2


def test_tokens_of_a_target(rig: Rig) -> None:
    """32 are reserved each time (12 bytes of messages, 20 out) and 15 used: three fit into 70, a fourth would not."""
    rig.first.behave(tokens=Tokens(input=5, output=10))
    assert Counter(rig.target("by-tokens") for _ in range(5)) == {"first/by-tokens": 3, "second/by-tokens": 2}


def test_slots_of_a_target_under_load(rig: Rig) -> None:
    """One at a time on the first, all others at once on the second; none is refused."""
    rig.first.behave(head_delay_s=0.5)
    rig.second.behave(head_delay_s=0.5)
    with ThreadPoolExecutor(8) as pool:
        targets = Counter(pool.map(lambda _: rig.target("by-slots"), range(8)))
    assert targets["first/by-slots"] >= 1
    assert targets["second/by-slots"] >= 6


def test_a_spent_provider_is_left_with_all_its_targets(rig: Rig) -> None:
    assert Counter(rig.target("by-provider") for _ in range(5)) == {"small/a": 2, "second/c": 3}


def test_a_spent_credential_leaves_the_others_and_429_comes_when_none_is_left(rig: Rig) -> None:
    answers = [rig.post("by-key") for _ in range(7)]
    assert [answer.status for answer in answers] == [200] * 5 + [429] * 2
    used = Counter(request.header("authorization") for request in rig.calls())
    assert used == {"Bearer sk-keyed-secret-a": 2, "Bearer sk-keyed-secret-b": 3}
    error = json.loads(answers[-1].body)["error"]["sluicegate"]
    assert error["limit"] == "l-key-b", "the one that waiting helps against"
    assert int(answers[-1].header("retry-after") or 0) > 0
    row = rig.sluice.row(answers[-1].header("x-request-id"))
    assert (row["status"], row["attempts"], row["outcome"]) == (429, 0, "refused")


def test_a_cost_limit_that_is_too_small_for_a_dear_target_may_do_for_a_cheap_one(rig: Rig) -> None:
    rig.second.behave(tokens=Tokens(input=5, output=10))
    assert rig.target("by-cost") == "cheap/m"  # 2000 micro-USD at most on the dear one, 20 on the cheap
    assert not rig.calls()
    refused = rig.post("by-cost", max_tokens=1000)
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (400, "request_exceeds_limit")


def test_a_target_without_a_price_is_passed_over_by_a_cost_limit(rig: Rig) -> None:
    assert rig.target("unpriced") == "cheap/m"


def test_a_request_too_large_for_a_targets_limit_goes_on(rig: Rig) -> None:
    assert rig.target("too-large") == "second/too-large"


def test_limits_hold_for_retries_too(rig: Rig) -> None:
    """The second target serves one request of the first's failures; then the first's own failure is told."""
    rig.first.behave(status=500, model="after-failure")
    assert rig.target("after-failure") == "second/after-failure"
    refused = rig.post("after-failure")
    assert (refused.status, json.loads(refused.body)["error"]["code"]) == (502, "upstream_failed")
    assert len(rig.second.requests) == 1


def test_cheapest_is_by_this_request(rig: Rig) -> None:
    """Cheap to read or cheap to write: a long question goes to the one, a long answer to the other."""
    long_question = [{"role": "user", "content": "word " * 2000}]
    assert rig.target("cheapest", messages=long_question, max_tokens=5) == "reader/m"
    assert rig.target("cheapest", max_tokens=5000) == "writer/m"


def test_the_workers_zone_and_the_routes_tags(rig: Rig) -> None:
    assert rig.target("near") == "close/m"
    assert rig.target("tagged") == "far/t"
    rig.second.behave(status=500, model="m")
    assert rig.target("near") == "far/m"


def test_a_checked_provider_goes_down_and_comes_back(rig: Rig) -> None:
    """Found out without a request of anybody's; every worker obeys; a lone target is then 503."""
    rig.sluice.until(lambda: any(request.path == "/up" for request in rig.first.requests), 10)
    check = next(request for request in rig.first.requests if request.path == "/up")
    assert check.target == "/up?x=1"
    assert check.header("authorization") == "Bearer sk-checked-secret"
    assert rig.target("checked") == "checked/m"
    rig.first.behave(path="/up", status=500)
    rig.sluice.until(lambda: not rig.health()["providers"][0]["healthy"], 10)
    shown = rig.health()
    assert (shown["providers"][0]["provider"], shown["providers"][0]["status"]) == ("checked", 500)
    assert shown["providers"][0]["reason"] == "answered 500"
    assert shown["checked_by"] in {worker["worker"] for worker in shown["workers"]}
    assert len(shown["workers"]) == 2
    rig.sluice.until(lambda: all("checked/m" in worker["cooling"] for worker in rig.health()["workers"]), 5)
    before = len(rig.calls())
    for _ in range(6):
        assert rig.target("checked") == "second/m"
        refused = rig.post("checked-alone")
        assert (refused.status, json.loads(refused.body)["error"]["code"]) == (503, "no_healthy_target")
    assert len(rig.calls()) == before
    metrics = httpx2.get(rig.sluice.url + "/metrics").text
    assert 'sluicegate_provider_healthy{provider="checked"} 0.0' in metrics
    rig.first.forget()
    rig.sluice.until(lambda: rig.post("checked-alone").status == 200, 10)
    rig.sluice.until(lambda: bool(rig.health()["providers"][0]["healthy"]), 5)


def test_one_worker_checks_and_another_takes_over(rig: Rig) -> None:
    rig.first.forget()
    time.sleep(3)
    checks = [request for request in rig.first.requests if request.path == "/up"]
    assert 1 <= len(checks) <= 8, "one worker asks, twice a second"
    checker = next(one for one in rig.health()["workers"] if one["worker"] == rig.health()["checked_by"])
    next(process for process in rig.sluice.workers() if process.pid == checker["pid"]).kill()
    rig.sluice.until(lambda: rig.health()["checked_by"] not in (None, ""), 10)
    seen = len(rig.first.requests)
    rig.sluice.until(lambda: len(rig.first.requests) >= seen + 2, 10)
    rig.sluice.wait_ready()


def test_a_check_that_is_configured_away_leaves_nobody_down(rig: Rig) -> None:
    rig.first.behave(path="/up", hang=True)
    rig.sluice.until(lambda: rig.post("checked-alone").status == 503, 20)
    assert rig.health()["providers"][0]["reason"] == "no answer within 2 s"
    rig.sluice.api.patch("/api/v1/providers/checked", json={"health": None}).raise_for_status()
    rig.sluice.until(lambda: rig.post("checked-alone").status == 200, 3)
    assert rig.health()["providers"] == []
