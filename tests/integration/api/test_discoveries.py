"""Findings and denials from end to end: a gateway that serves, and an agent that finds and obeys without a kernel."""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.integration.api.test_live import Feed
from tests.support import live
from tests.support.fake_agent import FakeAgent, finding

YAML = """
providers:
  - {name: vendor, dialect: openai, base_url: "http://127.0.0.1:9/v1"}
routes:
  - {name: chat, targets: [{provider: vendor, model: m}]}
teams:
  - {name: search, apps: [{name: indexer, routes: [chat]}]}
"""
CONTRACT = {
    "id", "process", "executable", "user", "container", "client", "provider", "host", "evidence", "first_seen",
    "last_seen", "connections", "bytes", "state",
}  # fmt: skip


@pytest.fixture
def running(tmp_path: Path, database_url: str) -> Iterator[live.Live]:
    with live.gateway(tmp_path, YAML, database_url=database_url) as gateway:
        yield gateway


@pytest.fixture
def sqlite_running(tmp_path: Path) -> Iterator[live.Live]:
    with live.gateway(tmp_path, YAML) as gateway:
        yield gateway


def agent_of(running: live.Live) -> FakeAgent:
    return FakeAgent(running.data / "agent.sock")


def discoveries(running: live.Live, **query: Any) -> list[dict[str, Any]]:
    answer = running.api.get("/api/v1/discoveries", params=query)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


def found(running: live.Live, agent: FakeAgent, *items: dict[str, Any]) -> list[dict[str, Any]]:
    """Have these found, and wait until they are there; the first found first."""
    there = len(discoveries(running))
    agent.find(*items)
    running.until(lambda: len(discoveries(running)) == there + len(items), 4)
    return discoveries(running)[: len(items)][::-1]


def act(running: live.Live, number: int, action: str, **body: Any) -> dict[str, Any]:
    answer = running.api.post(f"/api/v1/discoveries/{number}/action", json={"action": action, **body})
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()
    return shown


def audited(running: live.Live, kind: str) -> list[tuple[str, str]]:
    entries = running.api.get("/api/v1/audit", params={"kind": kind}).json()["items"]
    return [(entry["action"], entry["name"]) for entry in reversed(entries)]


def test_a_finding_is_denied_let_go_governed_and_let_go(running: live.Live) -> None:
    with agent_of(running) as agent:
        feed = Feed(running.url, running.token)
        (one,) = found(running, agent, finding())
        assert set(one) >= CONTRACT
        assert one["state"] == "new"
        assert (one["process"], one["user"], one["provider"]) == ("curl", "mia", "openai")
        assert one["first_seen"].endswith("Z")
        told = feed.next("discovery")
        assert (told["discovery"], told["state"], told["process"]) == (one["id"], "new", "curl")

        begun_s = time.monotonic()
        denied = act(running, one["id"], "deny")
        assert (denied["state"], denied["denial"]) == ("deny", f"discovery-{one['id']}")
        agent.until(lambda: agent.denials, 1.0)
        assert agent.told_s[-1] - begun_s < 1.0
        item = agent.denials[0]
        assert (item["executable"], item["provider"], item["hosts"]) == ("/usr/bin/curl", "openai", ["api.openai.com"])
        assert (item["uid"], item["container"], item["cidrs"], item["ports"]) == (None, None, ["192.0.2.7/32"], [])
        assert (item["expires_at_s"], item["on_failure"]) == (None, "open")
        assert feed.next("discovery")["state"] == "deny"
        agent.refused(item["id"], 3)
        running.until(lambda: discoveries(running)[0]["denied"] == 3, 2)
        assert discoveries(running)[0]["in_force"] is True

        act(running, one["id"], "observe")
        agent.until(lambda: not agent.denials, 1.0)
        assert running.api.get("/api/v1/denials").json()["items"] == []

        governed = act(running, one["id"], "govern")
        rule = running.api.get(f"/api/v1/interception-rules/{governed['rule']}").json()
        assert rule["destinations"] == {"hosts": ["api.openai.com"], "cidrs": ["192.0.2.7/32"], "ports": [80, 443]}
        assert rule["sources"] == {"cidrs": [], "users": ["1001"], "cgroups": [], "local": False}
        assert (rule["mode"], rule["app"]) == ("govern", "indexer")
        agent.armed = {governed["rule"]: "names nobody"}
        shown = running.api.get(f"/api/v1/discoveries/{one['id']}").json()
        assert (shown["in_force"], shown["reason"]) == (False, "names nobody")

        ignored = act(running, one["id"], "ignore")
        assert (ignored["state"], ignored["rule"], ignored["denial"]) == ("ignore", None, None)
        assert running.api.get(f"/api/v1/interception-rules/{governed['rule']}").status_code == 404
        name = str(one["id"])
        actions = ("deny", "observe", "govern", "ignore")
        assert audited(running, "discovery") == [(action, name) for action in actions]
        made = f"discovery-{name}"
        assert audited(running, "denial") == [("create", made), ("delete", made)]
        assert audited(running, "interception rule") == [("create", made), ("delete", made)]


def test_reports_add_up_and_stay_apart(running: live.Live) -> None:
    with agent_of(running) as agent:
        agent.find(finding(), finding(connections=4, bytes=500, evidence="dns", last_seen_s=time.time() + 1))
        running.until(lambda: bool(discoveries(running)), 4)
        agent.find(finding(user="root", uid=0), finding(), finding(host="eu.api.openai.com"))
        running.until(lambda: len(discoveries(running)) == 3, 4)
        first = discoveries(running)[-1]
        assert (first["connections"], first["bytes"]) == (6, 2500)
        assert first["first_seen"] < first["last_seen"]


def test_an_action_ends_by_itself(running: live.Live) -> None:
    with agent_of(running) as agent:
        feed = Feed(running.url, running.token)
        one, two, three = found(
            running, agent, finding(), finding(process="node", executable="/opt/node"), finding(host="b.openai.com")
        )
        until = act(running, one["id"], "deny", expires_in=2)["state_until"]
        assert until is not None
        act(running, two["id"], "govern", expires_in="2s")
        act(running, three["id"], "ignore", expires_in="2s")
        agent.until(lambda: len(agent.denials) == 1, 1.0)
        assert agent.denials[0]["expires_at_s"] is not None
        agent.until(lambda: not agent.denials, 4.0)
        now = {item["id"]: item for item in discoveries(running)}
        assert [now[each["id"]]["state"] for each in (one, two, three)] == ["observe", "observe", "new"]
        assert now[one["id"]]["decided_by"] == "system"
        assert now[one["id"]]["state_until"] is None
        assert running.api.get("/api/v1/interception-rules").json()["items"] == []
        assert ("observe", str(one["id"])) in audited(running, "discovery")
        states = [str(feed.next("denial")["state"]) for _ in range(3)]
        assert sorted(states) == ["added", "expired", "in_force"]


def test_a_denial_by_itself(running: live.Live) -> None:
    with agent_of(running) as agent:
        body = {"user": "root", "hosts": ["api.openai.com"], "cidrs": ["192.0.2.0/24"], "ports": [443]}
        body |= {"expires_in": "1h", "on_failure": "closed"}
        answer = running.api.post("/api/v1/denials", json=body)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        agent.until(lambda: agent.denials, 1.0)
        assert (agent.denials[0]["uid"], agent.denials[0]["cidrs"]) == (0, ["192.0.2.0/24"])
        assert agent.denials[0]["on_failure"] == "closed"
        running.until(lambda: running.api.get(f"/api/v1/denials/{made['name']}").json()["in_force"] is True, 2)
        stranger = running.api.post("/api/v1/denials", json={"user": "no-such", "provider": "openai", "name": "lost"})
        assert stranger.status_code == 201
        running.until(lambda: len(running.api.get("/api/v1/denials").json()["items"]) == 2, 2)

        def said() -> bool:
            shown = running.api.get("/api/v1/denials/lost").json()
            return shown["in_force"] is False and "no user" in str(shown["reason"])

        running.until(said, 2)
        assert [item["id"] for item in agent.denials] == [made["id"]]
        assert running.api.delete(f"/api/v1/denials/{made['id']}").status_code == 204
        agent.until(lambda: not agent.denials, 1.0)


def test_an_agent_that_returns_is_told_again_and_its_absence_is_said(sqlite_running: live.Live) -> None:
    running = sqlite_running
    page = running.api.get("/api/v1/discoveries").json()
    assert page["items"] == []
    assert "agent" in page["reason"]
    with agent_of(running) as agent:
        (one,) = found(running, agent, finding())
        act(running, one["id"], "deny")
        agent.until(lambda: agent.denials, 1.0)
        assert running.api.get("/api/v1/discoveries").json()["reason"] is None
    running.until(lambda: discoveries(running)[0]["in_force"] is False, 2)
    assert "agent" in discoveries(running)[0]["reason"]
    with agent_of(running) as agent:
        agent.until(lambda: agent.denials, 2.0)
        running.until(lambda: discoveries(running)[0]["in_force"] is True, 2)
        agent.send({"type": "probes", "state": "away", "reason": "no bcc", "features": {}})
        running.until(lambda: "no bcc" in str(discoveries(running)[0]["reason"]), 2)


def test_pages_and_filters(sqlite_running: live.Live) -> None:
    running = sqlite_running
    with agent_of(running) as agent:
        items = [finding(host=f"h{n}.openai.com", user="mia" if n % 2 else "root", uid=n % 2) for n in range(7)]
        items[0] |= {"process": "python3", "container": "web", "provider": "mistral", "last_seen_s": 1_700_000_000.0}
        found(running, agent, *items)
        pages: list[list[int]] = []
        cursor = None
        while True:
            query = {"limit": "3"} | ({"cursor": cursor} if cursor else {})
            answer = running.api.get("/api/v1/discoveries", params=query).json()
            pages.append([item["id"] for item in answer["items"]])
            cursor = answer["next_cursor"]
            if cursor is None:
                break
        assert [len(ids) for ids in pages] == [3, 3, 1]
        numbers = [number for page in pages for number in page]
        assert numbers == sorted(numbers, reverse=True)
        assert len(discoveries(running, user="mia")) == 3
        assert len(discoveries(running, user="1")) == 3
        assert len(discoveries(running, provider="mistral")) == 1
        assert len(discoveries(running, process="python3", container="web")) == 1
        assert len(discoveries(running, since="2025-01-01T00:00:00Z")) == 6
        act(running, pages[0][0], "deny")
        assert [item["id"] for item in discoveries(running, state="deny")] == [pages[0][0]]
        assert len(discoveries(running, state="new")) == 6
        running.api.delete(f"/api/v1/denials/discovery-{pages[0][0]}").raise_for_status()
        assert discoveries(running, state="deny") == []
        assert [item["id"] for item in discoveries(running, state="observe")] == [pages[0][0]]


def test_what_cannot_be_done_says_what_can(sqlite_running: live.Live) -> None:
    running = sqlite_running

    def refused(status: int, path: str, body: dict[str, Any], *words: str) -> None:
        answer = running.api.post(f"/api/v1/{path}", json=body)
        assert answer.status_code == status, answer.text
        assert answer.json()["fix"]
        assert all(word in answer.text for word in words), answer.text

    with agent_of(running) as agent:
        anonymous = finding(executable=None, process=None, uid=None, user=None, host="192.0.2.7", evidence="address")
        one, two = found(running, agent, finding(), anonymous)
        running.api.post("/api/v1/apps", json={"name": "second", "team": "search"}).raise_for_status()
        path = f"discoveries/{one['id']}/action"
        refused(400, path, {"action": "govern"}, "app", "indexer", "second")
        refused(422, path, {"action": "govern", "app": "nobody"}, "nobody")
        refused(422, path, {"action": "deny", "expires_in": "soon"}, "2h")
        refused(422, path, {"action": "explode"}, "ignore")
        refused(404, "discoveries/999999/action", {"action": "deny"})
        refused(400, f"discoveries/{two['id']}/action", {"action": "deny"}, "denials")
        refused(422, "denials", {"provider": "openai"}, "executable")
        refused(422, "denials", {"executable": "/usr/bin/curl"}, "hosts")
        refused(422, "denials", {"executable": "curl", "provider": "openai"}, "absolute")
        governed = act(running, two["id"], "govern", app="second", tls="terminate")
        rule = running.api.get(f"/api/v1/interception-rules/{governed['rule']}").json()
        assert rule["destinations"]["cidrs"] == ["192.0.2.7/32"]
        assert (rule["sources"]["local"], rule["tls"], rule["app"]) == (True, "terminate", "second")
        again = act(running, two["id"], "govern", app="indexer")
        assert again["rule"] == governed["rule"]
        assert running.api.get(f"/api/v1/interception-rules/{again['rule']}").json()["app"] == "indexer"


def test_on_this_host_one_service_is_denied_and_not_all(tmp_path: Path) -> None:
    """The gateway itself is at 127.0.0.1, too."""
    with live.gateway(tmp_path, YAML, workers=1) as running, agent_of(running) as agent:
        (one,) = found(running, agent, finding(address="127.0.0.1", port=8443))
        act(running, one["id"], "deny")
        agent.until(lambda: agent.denials, 2.0)
        assert (agent.denials[0]["cidrs"], agent.denials[0]["ports"]) == (["127.0.0.1/32"], [8443])


def test_the_narrowest_source_is_chosen(sqlite_running: live.Live) -> None:
    running = sqlite_running
    with agent_of(running) as agent:
        service, forwarded, boxed = found(
            running,
            agent,
            finding(cgroup="/system.slice/indexer.service", unit="indexer.service", port=8443),
            finding(process=None, executable=None, uid=None, user=None, cgroup=None, client="10.9.0.7"),
            finding(executable="/usr/bin/node", container="web", cgroup="/docker/abc"),
        )

        def rule(number: int) -> dict[str, Any]:
            name = act(running, number, "govern")["rule"]
            shown: dict[str, Any] = running.api.get(f"/api/v1/interception-rules/{name}").json()
            return shown

        assert rule(service["id"])["sources"]["cgroups"] == ["system.slice/indexer.service"]
        assert rule(service["id"])["destinations"]["ports"] == [8443]
        assert rule(forwarded["id"])["sources"]["cidrs"] == ["10.9.0.7/32"]
        act(running, boxed["id"], "deny")
        agent.until(lambda: len(agent.denials) == 1, 1.0)
        assert (agent.denials[0]["container"], agent.denials[0]["executable"]) == ("web", "/usr/bin/node")
        denied = act(running, forwarded["id"], "deny")  # it has no cgroup here: nftables refuses it
        rule_made = running.api.get(f"/api/v1/interception-rules/{denied['rule']}").json()
        assert (rule_made["mode"], rule_made["sources"]["cidrs"]) == ("deny", ["10.9.0.7/32"])
        assert (denied["state"], denied["denial"]) == ("deny", None)
        assert [item["id"] for item in discoveries(running, state="deny")] == [boxed["id"], forwarded["id"]]
        running.api.delete(f"/api/v1/interception-rules/{denied['rule']}").raise_for_status()
        assert [item["id"] for item in discoveries(running, state="deny")] == [boxed["id"]]


def test_what_an_agent_says_wrongly_harms_nothing(sqlite_running: live.Live) -> None:
    running = sqlite_running
    with agent_of(running) as agent:
        wrong = [{}, {"process": 1}, finding(connections=-1), finding(client="x"), finding(evidence="guess"), "text"]
        odd = finding(process="\ufffd\0evil" + "x" * 5000, host="\ufffd.openai.com")
        (one,) = found_among(running, agent, [*wrong, odd])
        assert "\0" not in one["process"]
        assert len(one["process"]) <= 1024
        shown = act(running, one["id"], "deny")  # the name fits no rule: its address does
        assert shown["state"] == "deny"
        agent.until(lambda: agent.denials, 1.0)
        assert agent.denials[0]["cidrs"] == ["192.0.2.7/32"]


def found_among(running: live.Live, agent: FakeAgent, items: list[Any]) -> list[dict[str, Any]]:
    agent.find(*items)
    running.until(lambda: bool(discoveries(running)), 4)
    return discoveries(running)


def test_a_dry_run_changes_nothing(sqlite_running: live.Live) -> None:
    running = sqlite_running
    with agent_of(running) as agent:
        (one,) = found(running, agent, finding())
        answer: httpx2.Response = running.api.post(
            f"/api/v1/discoveries/{one['id']}/action", params={"dry_run": "true"}, json={"action": "deny"}
        )
        assert answer.json()["state"] == "deny"
        assert discoveries(running)[0]["state"] == "new"
        assert running.api.get("/api/v1/denials").json()["items"] == []


def test_findings_wait_for_a_database_that_is_away(sqlite_running: live.Live) -> None:
    running = sqlite_running
    with agent_of(running) as agent:
        (one,) = found(running, agent, finding())
        (file,) = running.data.glob("*.sqlite")
        away = sqlite3.connect(file, isolation_level=None)
        away.execute("BEGIN IMMEDIATE")
        agent.find(finding(connections=2), finding(host="b.openai.com"))
        time.sleep(2.5)  # the keeper tries, and gives up after a second
        agent.find(finding(connections=3))
        running.until(lambda: "discovery waits" in running.log(), 3)
        away.execute("ROLLBACK")
        away.close()
        running.until(lambda: len(discoveries(running)) == 2 and discoveries(running)[1]["connections"] == 6, 5)
        assert discoveries(running)[1]["id"] == one["id"]
        running.until(lambda: "discovery goes on" in running.log(), 3)


def test_many_findings_at_once(sqlite_running: live.Live) -> None:
    running = sqlite_running
    with agent_of(running) as agent:
        for batch in range(3):
            agent.find(*(finding(host=f"h{n}.example", connections=batch + 1) for n in range(900)))
        running.until(
            lambda: [item["connections"] for item in discoveries(running, limit=1000)] == [6] * 900, 8,
            lambda: str(len(discoveries(running, limit=1000))),
        )  # fmt: skip


def test_an_own_catalogue_is_told(sqlite_running: live.Live) -> None:
    running = sqlite_running
    file = running.data / "ai-providers.toml"

    def entries() -> dict[str, Any]:
        found: dict[str, Any] = agent.catalogues[-1]["providers"] if agent.catalogues else {}
        return found

    with agent_of(running) as agent:
        file.write_text('[own]\ntitle = "Our own"\nhosts = ["LLM.corp.example."]\n[openai]\nhosts = []\n')
        agent.until(lambda: "own" in entries(), 3)
        assert entries()["own"] == {"title": "Our own", "hosts": ["llm.corp.example"]}
        assert "openai" not in entries()
        assert "anthropic" in entries()
        file.write_text("[")
        running.until(lambda: "is not understood" in running.log(), 3)
        assert "own" in entries()
        file.unlink()
        agent.until(lambda: "own" not in entries() and "openai" in entries(), 3)


def test_configured_providers_are_in_the_catalogue(sqlite_running: live.Live) -> None:
    running = sqlite_running
    with agent_of(running) as agent:
        for name, url in (("inner", "https://llm.corp.example/v1"), ("openai", "https://api.openai.com/v1")):
            body = {"name": name, "dialect": "openai", "base_url": url}
            running.api.post("/api/v1/providers", json=body).raise_for_status()
        agent.until(lambda: agent.catalogues and "inner" in agent.catalogues[-1]["providers"], 3)
        providers = agent.catalogues[-1]["providers"]
        assert providers["inner"]["hosts"] == ["llm.corp.example"]
        assert "vendor" not in providers  # its URL names an address
        assert providers["openai"]["hosts"].count("api.openai.com") == 1


def test_a_denial_with_a_limit(running: live.Live) -> None:
    with agent_of(running) as agent:
        body: dict[str, Any] = {"name": "some", "user": "root", "cidrs": ["192.0.2.0/24"]}
        for limit, word in (
            ({"per": "minute"}, "bytes"), ({"connections": 1, "bytes": 1, "per": "minute"}, "bytes"),
            ({"connections": 0, "per": "minute"}, "connections"), ({"bytes": 1, "per": "week"}, "per"),
            ({"bytes": 1 << 39, "per": "day"}, "bytes"),
        ):  # fmt: skip
            answer = running.api.post("/api/v1/denials", json={**body, "limit": limit})
            assert answer.status_code == 422, answer.text
            assert word in answer.text
        limit = {"connections": None, "bytes": 10_000_000, "per": "minute"}
        answer = running.api.post("/api/v1/denials", json={**body, "limit": {"bytes": 10_000_000, "per": "minute"}})
        assert answer.status_code == 201, answer.text
        assert answer.json()["limit"] == limit
        agent.until(lambda: agent.denials, 1.0)
        assert agent.denials[0]["limit"] == {"bytes": 10_000_000, "per": "minute"}
        agent.refused(agent.denials[0]["id"], 2, used=9_000_000, dropped_bytes=17, resets_at_s=1_900_000_000.5)

        def shown() -> dict[str, Any]:
            found: dict[str, Any] = running.api.get("/api/v1/denials/some").json()
            return found

        running.until(lambda: shown()["used"] == 9_000_000, 2)
        assert (shown()["denied"], shown()["dropped_bytes"]) == (2, 17)
        assert shown()["resets_at"].startswith("2030-03-17T17:46:40.5")
        assert shown()["limit"] == limit
        whole = running.api.post("/api/v1/denials", json={**body, "name": "whole"}).json()
        assert (whole["limit"], whole["used"], whole["resets_at"]) == (None, None, None)
        agent.until(lambda: len(agent.denials) == 2, 1.0)
        assert agent.denials[1]["limit"] is None
