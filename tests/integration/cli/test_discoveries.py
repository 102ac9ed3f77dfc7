"""`sluicegate discoveries` and `denials`: on the gateway's host and over the network, against an agent that finds."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.cli.discovery_commands import FailureName, PerName, StateName, TlsName
from gateway.policy.discovery import Per, State
from gateway.policy.interception import OnFailure, Tls
from tests.support import live
from tests.support.cli import Cli
from tests.support.fake_agent import FakeAgent, finding

YAML = """
providers:
  - {name: vendor, dialect: openai, base_url: "http://127.0.0.1:9/v1"}
routes:
  - {name: chat, targets: [{provider: vendor, model: m}]}
teams:
  - {name: search, apps: [{name: indexer, routes: [chat]}, {name: other, routes: [chat]}]}
"""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[live.Live]:
    with live.gateway(tmp_path, YAML) as gateway:
        yield gateway


@pytest.fixture(params=["host", "network"])
def cli(request: pytest.FixtureRequest, running: live.Live, tmp_path: Path) -> Cli:
    if request.param == "host":
        return Cli(running.data)
    return Cli(tmp_path / "none", env={"SLUICEGATE_URL": running.url, "SLUICEGATE_TOKEN": running.token})


def test_a_finding_from_the_list_to_the_kernel_and_back(running: live.Live, cli: Cli) -> None:
    with FakeAgent(running.data / "agent.sock") as agent:
        agent.find(finding(), finding(process="node", executable="/opt/node", host="eu.api.openai.com"))
        running.until(lambda: len(running.api.get("/api/v1/discoveries").json()["items"]) == 2, 4)
        listed = cli("discoveries", "list", "--state", "new", "--since", "1h").ok()
        assert "curl\tmia" in listed.out
        items = json.loads(cli("discoveries", "list", "--process", "curl", "--json").ok().out)
        assert [item["host"] for item in items] == ["api.openai.com"]
        number = str(items[0]["id"])

        said = cli("discoveries", "deny", number, "--expires", "2h").ok()
        assert f"denied by the denial discovery-{number} until" in said.out
        assert f"sluicegate discoveries observe {number}" in said.err
        agent.until(lambda: agent.denials, 1.0)
        running.until(lambda: running.api.get("/api/v1/denials").json()["items"][0]["in_force"] is True, 2)
        assert "/usr/bin/curl\tprovider openai, api.openai.com, 192.0.2.7/32\tyes\t0" in cli("denials", "list").ok().out
        assert "in_force\tyes" in cli("discoveries", "show", number).ok().out

        undone = json.loads(cli("discoveries", "observe", number, "--json").ok().out)
        assert undone["state"] == "observe"
        agent.until(lambda: not agent.denials, 1.0)

        refused = cli("discoveries", "govern", number)
        assert refused.code == 1
        assert "--app" in refused.err
        assert "indexer, other" in refused.err
        governed = cli("discoveries", "govern", number, "--app", "indexer").ok()
        assert f"interception rule discovery-{number}" in governed.out
        cli("discoveries", "ignore", number).ok()
        assert running.api.get("/api/v1/interception-rules").json()["items"] == []


def test_denials_are_added_and_removed(running: live.Live, cli: Cli) -> None:
    with FakeAgent(running.data / "agent.sock") as agent:
        words = ["--user", "0", "--host", "a.example", "--host", "b.example", "--cidr", "192.0.2.0/24", "--port", "443"]
        said = cli("denials", "add", "--name", "block", *words, "--on-failure", "closed", "--note", "why").ok()
        assert "user 0 may not reach a.example, b.example, 192.0.2.0/24 (ports 443): denial block" in said.out
        agent.until(lambda: agent.denials, 1.0)
        assert agent.denials[0]["hosts"] == ["a.example", "b.example"]
        assert json.loads(cli("denials", "list", "--json").ok().out)[0]["note"] == "why"
        cli("denials", "remove", "block").ok()
        agent.until(lambda: not agent.denials, 1.0)
        for wrong, word in (
            (["add", "--user", "mia"], "provider, hosts or cidrs"),
            (["add", "--provider", "openai"], "executable"),
            (["add", "--user", "mia", "--provider", "openai", "--expires", "yesterday"], "point in time"),
            (["remove", "nothing"], "nothing"),
        ):
            refused = cli("denials", *wrong)
            assert refused.code == 1
            assert word in refused.err
            assert "fix:" in refused.err


def test_limits_are_given_and_listed(running: live.Live, cli: Cli) -> None:
    with FakeAgent(running.data / "agent.sock") as agent:
        who = ["--user", "0", "--cidr", "192.0.2.0/24"]
        said = cli("denials", "add", "--name", "few", *who, "--connections", "100", "--per", "minute").ok()
        assert "may reach 192.0.2.0/24 within 100 connections per minute: denial few" in said.out
        cli("denials", "add", "--name", "slow", *who, "--bytes", "1.5 MB", "--per", "hour").ok()
        agent.until(lambda: len(agent.denials) == 2, 2.0)
        limits = [item["limit"] for item in agent.denials]
        assert limits == [{"connections": 100, "per": "minute"}, {"bytes": 1_500_000, "per": "hour"}]
        agent.refused(agent.denials[0]["id"], 3, used=100, dropped_bytes=0, resets_at_s=1_900_000_000.0)
        running.until(lambda: running.api.get("/api/v1/denials/few").json()["used"] == 100, 2)
        assert "3\t100 connections per minute\t100" in cli("denials", "list").ok().out
        for wrong in (["--bytes", "1MB"], ["--per", "hour"], ["--bytes", "some", "--per", "hour"],
                      ["--bytes", "1", "--connections", "1", "--per", "hour"]):  # fmt: skip
            refused = cli("denials", "add", *who, *wrong)
            assert refused.code == 1
            assert "10MB" in refused.err


def test_without_a_gateway_the_list_says_why_it_is_empty(sqlite_cli: Cli) -> None:
    said = sqlite_cli("discoveries", "list").ok()
    assert "keeper" in said.err
    assert sqlite_cli("discoveries", "deny", "7").code == 1


def test_words_are_those_of_the_policy() -> None:
    assert [*map(str, StateName)] == [*map(str, State)]
    assert [*map(str, FailureName)] == [*map(str, OnFailure)]
    assert [*map(str, TlsName)] == [*map(str, Tls)]
    assert [*map(str, PerName)] == [*map(str, Per)]
