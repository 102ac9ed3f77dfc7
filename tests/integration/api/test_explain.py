"""`POST /api/v1/routes/{route}/explain` against a live gateway: what it says is what then happens."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support import live
from tests.support.live import Live
from tests.support.provider import Provider
from tests.support.raw import RawClient

KEYS = {"indexer": "sk-test-explain-indexer-01", "other": "sk-test-explain-other-012"}

CONFIGURATION = """
providers:
  - name: near
    dialect: openai
    base_url: URL/v1
    zone: here
    credentials: [{name: a, value: sk-near-secret-a1}, {name: b, value: sk-near-secret-b1}]
  - {name: far, dialect: openai, base_url: URL/v1, zone: there, tags: [gpu]}
  - {name: claude, dialect: anthropic, base_url: URL}
  - {name: backend, dialect: http, base_url: URL}
routes:
  - name: chat
    retries: 2
    targets: [{provider: far, model: m}, {provider: near, model: m}, {provider: claude, model: m}]
  - {name: tagged, prefer: [gpu], targets: [{provider: near, model: t}, {provider: far, model: t}]}
  - {name: cheapest, strategy: cheapest, targets: [{provider: far, model: m}, {provider: near, model: m}]}
  - {name: lone, targets: [{provider: far, model: lone}]}
  - {name: team/crm, match: {host: crm.internal, path: /v2/}, targets: [{provider: backend}]}
teams:
  - name: search
    apps:
      - {name: indexer, routes: [chat, cheapest, lone, tagged], keys: [{name: ci, value: sk-test-explain-indexer-01}]}
  - name: sales
    apps: [{name: other, routes: [lone], keys: [{name: ci, value: sk-test-explain-other-012}]}]
prices:
  - {provider: near, model: "*", input: 1000000, output: 2000000}
  - {provider: far, model: "*", input: 2000000, output: 1000000}
limits:
  - {name: slow-down, scope: {target: near/m}, metric: requests, window: day, at_most: 2}
  - {name: budget, scope: {app: indexer}, metric: cost_usd, window: month, at_most: 5}
  - {name: house, scope: {}, metric: total_tokens, window: day, at_most: 100000}
"""


@dataclass(frozen=True, slots=True)
class Rig:
    sluice: Live
    provider: Provider

    def ask(self, route: str, client: httpx2.Client | None = None, **body: Any) -> dict[str, Any]:
        answer = (client or self.sluice.api).post(f"/api/v1/routes/{route}/explain", json=body)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def call(self, route: str, app: str = "indexer", **fields: Any) -> tuple[int, str | None]:
        body = json.dumps({"model": route, "messages": [], "max_tokens": 20, **fields}).encode()
        with RawClient(self.sluice.port, timeout_s=30) as client:
            answer = client.post("/v1/chat/completions", body, f"authorization: Bearer {KEYS[app]}")
        return answer.status, answer.header("x-sluicegate-target")

    def client(self, role: str, team: str) -> httpx2.Client:
        made = self.sluice.api.post("/api/v1/tokens", json={"role": role, "team": team, "name": f"{role}-{team}"})
        token = made.raise_for_status().json()["token"]
        return httpx2.Client(base_url=self.sluice.url, headers={"authorization": f"Bearer {token}"}, timeout=20)


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("explain")
    with Provider() as provider:
        yaml = CONFIGURATION.replace("URL", provider.url)
        with live.gateway(folder, yaml, env={"SLUICEGATE_ZONE": "here"}) as sluice:
            yield Rig(sluice, provider)


def names(found: dict[str, Any]) -> list[str]:
    return [target["target"] for target in found["targets"]]


def test_it_says_what_then_happens_and_does_nothing_itself(rig: Rig) -> None:
    found = rig.ask("chat", key="indexer/ci", input_tokens=100, output_tokens=50)
    assert (found["route"], found["dialect"], found["claimed"], found["allowed"]) == ("chat", "openai", True, True)
    assert names(found) == ["near/m", "far/m"]
    assert found["skipped"] == [{"target": "claude/m", "reason": "speaks anthropic, not openai"}]
    assert found["attempts"] == 3
    near, far = found["targets"]
    assert (near["state"], near["zone"], near["credential"] in ("a", "b")) == ("ready", "here", True)
    assert "of zone here, this worker's" in near["reasons"]
    assert "of zone there, not this worker's" in far["reasons"]
    assert near["cost_bound_usd"] == 0.0002
    by_name = {limit["limit"]: limit for limit in near["limits"]}
    assert set(by_name) == {"slow-down", "budget", "house"}
    assert (by_name["slow-down"]["at_most"], by_name["slow-down"]["need"], by_name["slow-down"]["admits"]) == (
        2,
        1,
        True,
    )
    assert by_name["budget"]["need"] == 0.0002
    assert by_name["house"]["need"] == 150
    assert found["outcome"]["status"] == 200
    assert found["outcome"]["target"] == "near/m"
    assert found["worker"]["pid"] in [worker.pid for worker in rig.sluice.workers()]
    assert found["worker"]["workers"] == ["worker-0"]
    assert not rig.provider.requests
    assert rig.sluice.ledger() == []
    assert rig.call("chat") == (200, "near/m")


def test_a_spent_limit_shows_and_moves_the_outcome(rig: Rig) -> None:
    while rig.call("chat")[1] == "near/m":
        pass
    rig.sluice.until(lambda: rig.ask("chat", app="indexer")["outcome"]["target"] == "far/m", 3)
    near = rig.ask("chat", app="indexer")["targets"][0]
    spent = next(limit for limit in near["limits"] if limit["limit"] == "slow-down")
    assert (spent["used"], spent["admits"], near["admits"]) == (2, False, False)
    found = rig.ask("lone", app="indexer", input_tokens=200_000)
    assert (found["outcome"]["status"], found["outcome"]["code"]) == (400, "request_exceeds_limit")
    assert rig.call("chat") == (200, "far/m")


def test_bounds_come_from_a_sample_and_decide_what_is_cheapest(rig: Rig) -> None:
    question = {"model": "cheapest", "messages": [{"role": "user", "content": "word " * 400}], "max_tokens": 5}
    found = rig.ask("cheapest", app="indexer", body=question)
    assert found["input_tokens"] > 100
    assert found["output_tokens"] == 5
    assert names(found) == ["near/m", "far/m"]
    answer = rig.ask("cheapest", app="indexer", input_tokens=5, output_tokens=1000)
    assert names(answer)[0] == "near/m"  # its zone comes before its price
    assert rig.ask("cheapest", app="indexer", input_tokens=5)["output_tokens"] == 4096


def test_tags_come_first(rig: Rig) -> None:
    found = rig.ask("tagged")
    assert names(found) == ["far/t", "near/t"]
    assert found["targets"][0]["reasons"][0] == "preferred for its tag gpu"
    assert (found["allowed"], found["access"]) == (None, "no app was named")


def test_access_and_match(rig: Rig) -> None:
    found = rig.ask("chat", app="other")
    assert (found["allowed"], found["outcome"]["status"], found["outcome"]["code"]) == (False, 403, "route_not_allowed")
    assert rig.call("chat", "other")[0] == 403
    claimed = rig.ask("team/crm", host="crm.internal", path="/v2/x?y=1", method="GET")
    assert (claimed["claimed"], claimed["dialect"], names(claimed)) == (True, "http", ["backend"])
    elsewhere = rig.ask("team/crm", host="crm.internal", path="/v3/x")
    assert (elsewhere["claimed"], elsewhere["outcome"]["status"]) == (False, 404)
    other_dialect = rig.ask("chat", dialect="anthropic")
    assert names(other_dialect) == ["claude/m"]


def test_a_failing_target_shows_with_its_reason(rig: Rig) -> None:
    rig.provider.behave(status=500, model="lone")
    for _ in range(2):
        assert rig.call("lone")[0] == 502
    (lone,) = rig.ask("lone", app="indexer")["targets"]
    assert lone["state"] in ("cooling", "half_open")
    assert "failures in a row" in lone["reasons"][0]
    rig.sluice.until(lambda: rig.ask("lone")["targets"][0]["cooling_in"] == ["worker-0"], 4)
    rig.provider.forget()


def test_team_roles_ask_about_their_own_and_see_no_limits_of_others(rig: Rig) -> None:
    with rig.client("team-member", "sales") as member:
        found = rig.ask("lone", member, app="other")
        assert found["allowed"] is True
        (target,) = found["targets"]
        (house,) = target["limits"]
        assert (house["limit"], house["used"], house["at_most"], house["admits"]) == (None, None, None, True)
        assert target["credential"] is None
        for route, body in (("chat", {}), ("lone", {"app": "indexer"}), ("lone", {"key": "indexer/ci"})):
            refused = member.post(f"/api/v1/routes/{route}/explain", json=body)
            assert refused.status_code == 404, refused.text
            assert refused.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"colour": "red"}, 422),
        ({"input_tokens": -1}, 422),
        ({"path": "/v1/no-such-call"}, 400),
        ({"body": {"messages": "junk"}}, 400),
        ({"app": "nobody"}, 404),
    ],
)
def test_bad_questions_are_problems(rig: Rig, body: dict[str, Any], status: int) -> None:
    answer = rig.sluice.api.post("/api/v1/routes/chat/explain", json=body)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["title"]


def test_the_command_says_the_same(rig: Rig) -> None:
    place = ["--url", rig.sluice.url, "--token", rig.sluice.token]
    command = [str(Path(sys.executable).parent / "sluicegate"), "explain"]
    shown = subprocess.run([*command, "tagged", "--app", "indexer", *place], capture_output=True, text=True, check=True)
    lines = shown.stdout.splitlines()
    assert lines[1] == "answer: 200 from far/t"
    assert [line.split("\t")[:2] for line in lines[3:5]] == [["far/t", "ready"], ["near/t", "ready"]]
    assert "preferred for its tag gpu" in lines[3]
    refused = subprocess.run([*command, "nowhere", *place], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert "no route 'nowhere'" in refused.stderr
