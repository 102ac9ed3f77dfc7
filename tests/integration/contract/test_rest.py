"""contract.md, "REST API, console, monitoring", "Names", "Roles", "Promptness", "Lists", "Ledger"."""

import json
import re
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

import gateway
from tests.integration.contract.conftest import KEY, MESSAGES, Caller
from tests.support.live import Live
from tests.support.provider import Provider

KINDS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "providers": ({"name": "new-provider", "dialect": "openai", "base_url": "http://127.0.0.1:9/v1",
                   "credentials": [{"name": "main", "value": "sk-hidden-secret-value"}]},
                  {"base_url": "http://127.0.0.1:10/v1"}),
    "routes": ({"name": "new-route", "targets": [{"provider": "up", "model": "x"}]}, {"retries": 3}),
    "teams": ({"name": "new-team"}, {"name": "newer-team"}),
    "apps": ({"name": "new-app", "team": "search", "routes": ["chat"]}, {"routes": "*"}),
    "keys": ({"name": "new-key", "app": "indexer"}, {"expires_at": "2099-01-01T00:00:00Z"}),
    "limits": ({"name": "new-limit", "scope": {"team": "search"}, "metric": "cost_usd", "window": "month",
                "at_most": 50.25}, {"at_most": 60.5}),
    "interception-rules": ({"name": "new-rule", "destinations": {"hosts": ["api.openai.com"], "ports": [443]}},
                           {"mode": "observe"}),
    "users": ({"name": "new-user", "role": "viewer", "password": "a-Long-Enough-passw0rd"}, {"role": "operator"}),
    "tokens": ({"name": "new-token", "role": "viewer"}, {"expires_at": "2099-01-01T00:00:00Z"}),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_can_be_made_read_changed_and_removed(sluice: Live, kind: str) -> None:
    document, change = KINDS[kind]
    api, path = sluice.api, f"/api/v1/{kind}"
    made = api.post(path, json=document)
    assert made.status_code == 201, made.text
    number, name = made.json()["id"], document["name"]
    try:
        by_id, by_name = api.get(f"{path}/{number}"), api.get(f"{path}/{name}")
        assert by_id.status_code == by_name.status_code == 200
        assert by_id.json() == by_name.json()
        etag = by_id.headers["etag"]
        assert made.headers["etag"] == etag
        assert "sk-hidden-secret-value" not in by_id.text
        assert api.post(path, json=document).status_code == 409
        stale = api.patch(f"{path}/{number}", json=change, headers={"if-match": '"99999"'})
        assert stale.status_code == 412
        assert stale.headers["content-type"] == "application/problem+json"
        changed = api.patch(f"{path}/{name}", json=change, headers={"if-match": etag})
        assert changed.status_code == 200, changed.text
        assert changed.headers["etag"] != etag
        for field, value in change.items():
            assert changed.json()[field] == value
        assert api.patch(f"{path}/{number}", json=change, headers={"if-match": etag}).status_code == 412
        listed = api.get(path, params={"limit": 1000}).json()
        assert set(listed) == {"items", "next_cursor"}
        assert number in [item["id"] for item in listed["items"]]
        assert api.post(path, json={**document, "name": "x", "nonsense": 1}).status_code == 422
    finally:
        assert api.delete(f"{path}/{number}").status_code == 204
    assert api.get(f"{path}/{number}").status_code == 404
    assert api.delete(f"{path}/{number}").status_code == 404


def test_errors_are_rfc_9457(sluice: Live) -> None:
    answers = [
        sluice.api.get("/api/v1/routes/nobody"),
        sluice.api.get("/api/v1/nothing"),
        sluice.api.put("/api/v1/routes"),
        sluice.api.post("/api/v1/routes", content=b"{", headers={"content-type": "application/json"}),
        sluice.api.post("/api/v1/routes", json={"name": 1}),
        sluice.api.get("/api/v1/ledger", params={"limit": 1001}),
        sluice.api.get("/api/v1/ledger", params={"limit": 0}),
        sluice.api.get("/api/v1/ledger", params={"cursor": "%%"}),
        sluice.api.get("/api/v1/usage", params={"group_by": "colour"}),
        httpx2.get(sluice.url + "/api/v1/routes"),
        httpx2.get(sluice.url + "/api/v1/routes", headers={"authorization": f"Bearer {KEY}"}),
    ]
    for answer, status in zip(answers, (404, 404, 405, 400, 422, 422, 422, 400, 400, 401, 401), strict=True):
        assert answer.status_code == status, f"{answer.request.url} {answer.text}"
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert {"type", "title", "status", "detail", "instance"} <= set(problem)
        assert problem["status"] == status


def test_lists_are_paged_by_cursor(sluice: Live) -> None:
    seen: list[int] = []
    cursor = None
    while True:
        query = {"limit": "7"} | ({"cursor": cursor} if cursor else {})
        page = sluice.api.get("/api/v1/apps", params=query).json()
        assert len(page["items"]) <= 7
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    everything = sluice.api.get("/api/v1/apps", params={"limit": 1000}).json()
    assert seen == [item["id"] for item in everything["items"]]
    assert everything["next_cursor"] is None


def test_the_ledgers_pages_order_and_filters(ask: Caller, sluice: Live, provider: Provider) -> None:
    """Newest first, `order=asc` turns it; each filter narrows."""
    began = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    answers = [ask.chat() for _ in range(4)] + [ask.message(), ask.chat("nobody")]
    ids = [answer.headers["x-request-id"] for answer in answers]
    ask.row(answers[-1])
    for answer in answers:
        ask.row(answer)

    def listed(**query: Any) -> list[str]:
        found: list[str] = []
        cursor = None
        while True:
            more = {"cursor": cursor} if cursor else {}
            page = sluice.api.get("/api/v1/ledger", params={"from": began, "limit": 2, **query, **more})
            assert page.status_code == 200, page.text
            found += [item["id"] for item in page.json()["items"]]
            cursor = page.json()["next_cursor"]
            if cursor is None:
                return found

    assert listed() == ids[::-1]
    assert listed(order="asc") == ids
    assert listed(route="chat", order="asc") == ids[:4]
    assert listed(dialect="anthropic") == [ids[4]]
    assert listed(outcome="refused") == [ids[5]]
    assert listed(status=404) == [ids[5]]
    assert listed(target="claude/claude-model") == [ids[4]]
    assert listed(model="up-model", order="asc") == ids[:4]
    assert listed(app="indexer", key="ci", team="search", order="asc") == ids
    assert listed(app="narrow") == []
    assert listed(to=began) == []


def test_open_records_only_when_asked_for(ask: Caller, sluice: Live, provider: Provider) -> None:
    provider.behave(head_delay_s=2)
    done: list[httpx2.Response] = []
    caller = threading.Thread(target=lambda: done.append(ask.chat(headers={"x-request-id": "open-one"})))
    caller.start()

    def listed(**query: str) -> list[Any]:
        asked = {"client_request_id": "open-one", **query}
        return list(sluice.api.get("/api/v1/ledger", params=asked).json()["items"])

    sluice.until(lambda: len(listed(open="true")) == 1, 1.9)
    assert listed(open="true")[0]["outcome"] == "open"
    assert listed() == []
    caller.join()
    ended = time.monotonic()
    sluice.until(lambda: len(listed()) == 1, 2)
    assert time.monotonic() - ended < 2
    assert listed(open="true")[0]["outcome"] == "completed"


@pytest.mark.parametrize("groups", ["", "app", "team,app,route,model,day", "model", "day", "route,day", "day,team"])
def test_usage_sums_the_ledger(ask: Caller, sluice: Live, provider: Provider, groups: str) -> None:
    ask.row(ask.chat())
    ask.row(ask.message())
    names = [name for name in groups.split(",") if name]
    sums = ("requests", "input_tokens", "output_tokens", "cost_usd_micros")

    def figures() -> tuple[Any, Any]:
        wanted: dict[tuple[Any, ...], list[int]] = {}
        cursor = None
        while True:
            more = {"cursor": cursor} if cursor else {}
            page = sluice.api.get("/api/v1/ledger", params={"limit": 1000, **more}).json()
            for row in page["items"]:
                row["day"] = row["started_at"][:10]
                group = wanted.setdefault(tuple(row[name] or None for name in names), [0, 0, 0, 0])
                group[0] += 1
                for at, name in enumerate(sums[1:], 1):
                    group[at] += row[name] or 0
            cursor = page["next_cursor"]
            if cursor is None:
                break
        items = sluice.api.get("/api/v1/usage", params={"group_by": groups, "limit": 1000}).json()["items"]
        return wanted, {tuple(item[name] for name in names): [item[name] for name in sums] for item in items}

    def agree() -> bool:
        ledger, usage = figures()
        return bool(ledger == usage)

    sluice.until(agree, 2, lambda: str(figures()))


def test_a_change_is_in_force_within_a_second(ask: Caller, sluice: Live) -> None:
    """In every worker: each connection is a new one, so that both are asked."""
    made = sluice.api.post("/api/v1/routes", json={"name": "prompt", "targets": [{"provider": "up", "model": "p"}]})
    time.sleep(1)
    with_prompt = [
        httpx2.get(sluice.url + "/v1/models/prompt", headers={"x-api-key": KEY}).status_code for _ in range(10)
    ]
    assert set(with_prompt) == {200}
    sluice.api.delete(f"/api/v1/routes/{made.json()['id']}")
    time.sleep(1)
    without = [httpx2.get(sluice.url + "/v1/models/prompt", headers={"x-api-key": KEY}).status_code for _ in range(10)]
    assert set(without) == {404}


def test_keys_are_made_rotated_and_revoked(ask: Caller, sluice: Live) -> None:
    made = sluice.api.post("/api/v1/keys", json={"name": "rest", "app": "indexer"}).json()
    assert made["key"]
    time.sleep(1)
    assert ask.get("/v1/models", made["key"]).status_code == 200
    assert "key" not in sluice.api.get(f"/api/v1/keys/{made['id']}").json()
    fresh = sluice.api.post(f"/api/v1/keys/{made['id']}/rotate").json()["key"]
    time.sleep(1)
    assert ask.get("/v1/models", made["key"]).status_code == 401
    assert ask.get("/v1/models", fresh).status_code == 200
    assert sluice.api.delete(f"/api/v1/keys/{made['id']}").status_code == 204
    time.sleep(1)
    assert ask.get("/v1/models", fresh).status_code == 401


def test_what_each_role_may(sluice: Live) -> None:
    allowed = {
        "owner": (200, 200, 201, 200), "admin": (200, 200, 201, 200), "operator": (200, 200, 201, 403),
        "viewer": (200, 200, 403, 403), "team-admin": (200, 403, 403, 403), "team-member": (200, 403, 403, 403),
    }  # fmt: skip
    for role, statuses in allowed.items():
        team = {"team": "search"} if role.startswith("team") else {}
        made = sluice.api.post("/api/v1/tokens", json={"name": f"of-{role}", "role": role, **team})
        assert made.status_code == 201, made.text
        with httpx2.Client(
            base_url=sluice.url, headers={"authorization": f"Bearer {made.json()['token']}"}, timeout=10
        ) as api:
            told = [api.get("/api/v1/routes"), api.get("/api/v1/providers"),
                    api.post("/api/v1/teams", json={"name": f"made-by-{role}"}), api.get("/api/v1/audit")]  # fmt: skip
            assert tuple(answer.status_code for answer in told) == statuses, role
            if team:
                teams = {item["team"] for item in api.get("/api/v1/apps?limit=1000").json()["items"]}
                assert teams == {"search"}
                assert {row["team"] for row in api.get("/api/v1/ledger").json()["items"]} <= {"search"}
                assert api.get("/api/v1/apps/small").status_code == 404
                assert api.get("/api/v1/limits/by-team").status_code == 404
        sluice.api.delete(f"/api/v1/tokens/of-{role}")
        sluice.api.delete(f"/api/v1/teams/made-by-{role}")


def test_monitoring(ask: Caller, sluice: Live, provider: Provider) -> None:
    ask.row(ask.chat())
    root = httpx2.get(sluice.url + "/", follow_redirects=False)
    assert root.status_code in (301, 302, 303, 307, 308)
    assert root.headers["location"].endswith("/console/")
    for path in ("/healthz", "/readyz", "/api/docs"):
        assert httpx2.get(sluice.url + path).status_code == 200, path
    console_built = (Path(gateway.__file__).parent / "console" / "index.html").exists()  # tests/browser builds it
    assert httpx2.get(sluice.url + "/console/").status_code == (200 if console_built else 503)
    paths = httpx2.get(sluice.url + "/api/openapi.json").json()["paths"]
    for kind in KINDS:
        assert {"get", "post"} <= set(paths[f"/api/v1/{kind}"])
    text = httpx2.get(sluice.url + "/metrics").text
    for name in ("requests_total", "errors_total", "tokens_total", "cost_usd_total", "request_seconds", "ttft_seconds",
                 "upstream_attempts_total", "in_flight", "limit_used_ratio", "ledger_pending_rows"):  # fmt: skip
        assert re.search(rf"(?m)^# TYPE sluicegate_{name.removesuffix('_total')}", text), name
    labels = set(re.findall(r"(?m)^sluicegate_(?:requests|tokens|cost_usd)_total\{.*$", text))
    assert any('route="chat"' in line and 'app="indexer"' in line and 'team="search"' in line for line in labels)


def test_telemetry_without_the_agent(ask: Caller, sluice: Live, provider: Provider) -> None:
    ask.row(ask.chat())
    found = sluice.api.get("/api/v1/telemetry/routes", params={"window": "60s"}).json()["items"]
    named = """route target requests errors connect_ms rtt_ms client_rtt_ms ttft_ms token_gap_ms retransmits resets
        open_connections bytes_in bytes_out sources"""
    one = next(item for item in found if item["route"] == "chat")
    assert set(named.split()) <= set(one)
    assert one["rtt_ms"] is None or one["rtt_ms"]["count"] is None or one["rtt_ms"]["count"] == 0
    for path in ("interception", "discoveries"):
        assert sluice.api.get(f"/api/v1/{path}").status_code == 200


def test_the_live_feed(ask: Caller, sluice: Live, provider: Provider) -> None:
    with sluice.api.stream("GET", "/api/v1/events", timeout=10) as feed:
        assert feed.headers["content-type"].startswith("text/event-stream")
        lines = feed.iter_lines()
        next(lines)
        answer = ask.chat()
        kind = ""
        for line in lines:
            if line.startswith("event: "):
                kind = line.removeprefix("event: ")
            if line.startswith("data: ") and kind == "request":
                told = json.loads(line.removeprefix("data: "))
                if told["id"] == answer.headers["x-request-id"]:
                    break
        assert told["outcome"] == "completed"


def test_the_audit_says_who_changed_what(sluice: Live) -> None:
    sluice.api.post("/api/v1/teams", json={"name": "audited"})
    sluice.api.delete("/api/v1/teams/audited")
    entries = sluice.api.get("/api/v1/audit", params={"limit": 2}).json()["items"]
    assert [(entry["action"], entry["kind"], entry["name"]) for entry in entries] == [
        ("delete", "team", "audited"),
        ("create", "team", "audited"),
    ]
    assert entries[0]["actor"] == "token:tests"


def test_versions(sluice: Live) -> None:
    first = sluice.api.post("/api/v1/versions", json={"note": "before"})
    assert first.status_code == 201, first.text
    number = first.json()["number"]
    sluice.api.post("/api/v1/teams", json={"name": "later"})
    assert sluice.api.get("/api/v1/versions").json()["items"][0]["number"] == number
    restored = sluice.api.post(f"/api/v1/versions/{number}/restore")
    assert restored.status_code == 200, restored.text
    assert sluice.api.get("/api/v1/teams/later").status_code == 404
    draft = sluice.api.get("/api/v1/export").text
    published = sluice.api.post("/api/v1/versions", json={"note": "draft", "document": draft})
    assert published.status_code == 201, published.text
    assert published.json()["number"] == number + 1


def test_export_and_apply_over_rest_change_nothing(ask: Caller, sluice: Live, provider: Provider) -> None:
    exported = sluice.api.get("/api/v1/export")
    assert exported.status_code == 200
    for secret in ("sk-upstream-secret", "sk-ant-upstream", KEY):
        assert secret not in exported.text
    assert "sha256:" in exported.text
    applied = sluice.api.post("/api/v1/apply", content=exported.text, params={"prune": "true"})
    assert applied.status_code == 200, applied.text
    assert applied.json()["changes"] == []
    assert ask.chat().status_code == 200
    assert ask.client.post("/v1/chat/completions", json={"model": "chat", "messages": MESSAGES}).status_code == 401


def test_times_are_rfc_3339_utc_and_pages_hold_a_hundred(ask: Caller, sluice: Live, provider: Provider) -> None:
    for path in ("providers", "routes", "apps", "keys", "limits", "tokens", "versions", "audit", "ledger"):
        page = sluice.api.get(f"/api/v1/{path}").json()
        assert len(page["items"]) <= 100
        for item in page["items"]:
            for name, value in item.items():
                if name.endswith("_at") and name != "at" and value is not None:
                    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value), (path, name, value)
    answers = [ask.chat() for _ in range(101)]
    ask.row(answers[-1])
    page = sluice.api.get("/api/v1/ledger").json()
    assert len(page["items"]) == 100
    assert page["next_cursor"]


def test_a_key_expires(ask: Caller, sluice: Live) -> None:
    at = datetime.fromtimestamp(time.time() + 3, UTC).isoformat()
    made = sluice.api.post("/api/v1/keys", json={"name": "brief", "app": "indexer", "expires_at": at}).json()
    sluice.until(lambda: ask.get("/v1/models", made["key"]).status_code == 200, 1.5)
    sluice.until(lambda: ask.get("/v1/models", made["key"]).status_code == 401, 4)
    sluice.api.delete(f"/api/v1/keys/{made['id']}")
