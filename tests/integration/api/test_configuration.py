"""Providers, routes, teams, apps, keys, limits, prices and rules by REST: life cycle, versions, references, secrets."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from gateway.store.compiler import generation
from gateway.store.database import read_session
from tests.integration.api.served import ServedApi

SECRET = "sk-live-0123456789abcdef"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of thing: what makes it, what changes it, and what must be refused."""

    path: str
    body: dict[str, Any]
    patch: dict[str, Any]
    refused: dict[str, Any]
    refused_field: str
    name: str


KINDS = [
    Kind(
        "providers",
        {"name": "spare", "dialect": "openai", "base_url": "http://127.0.0.1:9/v1"},
        {"base_url": "http://127.0.0.1:10/v1"},
        {"name": "bad", "dialect": "openai", "base_url": "ftp://x"},
        "base_url",
        "spare",
    ),
    Kind(
        "prices",
        {"provider": "openai", "model": "gpt-5-*", "input": 100, "output": 400},
        {"output": 500},
        {"provider": "nobody", "model": "*", "input": 1, "output": 1},
        "provider",
        "openai/gpt-5-*",
    ),
    Kind(
        "routes",
        {"name": "chat/fast", "targets": [{"provider": "openai", "model": "gpt-5-nano"}]},
        {"retries": 3, "timeout": {"total": "5m"}},
        {"name": "bad", "targets": [{"provider": "nobody", "model": "m"}]},
        "targets.0.provider",
        "chat/fast",
    ),
    Kind("teams", {"name": "ops"}, {"name": "ops"}, {"name": ""}, "name", "ops"),
    Kind(
        "apps",
        {"name": "crawler", "team": "search", "routes": ["chat"]},
        {"routes": "*"},
        {"name": "bad", "team": "nobody", "routes": []},
        "team",
        "crawler",
    ),
    Kind(
        "keys",
        {"name": "laptop", "app": "indexer", "expires_at": "2040-01-01T00:00:00Z"},
        {"expires_at": None},
        {"name": "bad", "app": "nobody"},
        "app",
        "indexer/laptop",
    ),
    Kind(
        "limits",
        {"name": "budget", "scope": {"team": "search"}, "metric": "cost_usd", "window": "month", "at_most": 12.5},
        {"at_most": 25},
        {"name": "bad", "scope": {"app": "nobody"}, "metric": "requests", "window": "day", "at_most": 1},
        "scope.app",
        "budget",
    ),
    Kind(
        "interception-rules",
        {"name": "direct", "destinations": {"hosts": ["api.openai.com"]}, "app": "indexer"},
        {"mode": "deny"},
        {"name": "bad", "destinations": {"hosts": ["api.openai.com"]}, "app": "nobody"},
        "app",
        "direct",
    ),
]


@pytest.fixture
def owner(api: ServedApi) -> Iterator[httpx2.Client]:
    """A gateway with a provider, a route, a team and an app."""
    with api.client() as client:
        for path, body in [
            (
                "providers",
                {
                    "name": "openai",
                    "dialect": "openai",
                    "base_url": "https://api.openai.com/v1",
                    "credentials": [{"name": "main", "value": SECRET}],
                },
            ),
            ("routes", {"name": "chat", "targets": [{"provider": "openai", "model": "gpt-5-mini"}]}),
            ("teams", {"name": "search"}),
            ("apps", {"name": "indexer", "team": "search", "routes": ["chat"]}),
        ]:
            client.post(f"/api/v1/{path}", json=body).raise_for_status()
        yield client


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.path))
def test_the_life_of_a_thing(owner: httpx2.Client, kind: Kind) -> None:
    path = f"/api/v1/{kind.path}"
    made = owner.post(path, json=kind.body)
    assert made.status_code == 201, made.text
    assert made.headers["etag"] == '"1"'
    number = made.json()["id"]
    by_name = owner.get(f"{path}/{kind.name.replace('/', '%2F')}")
    by_id = owner.get(f"{path}/{number}")
    assert by_name.json() == by_id.json()
    assert by_id.headers["etag"] == '"1"'
    assert number in [item["id"] for item in owner.get(path).json()["items"]]
    assert owner.post(path, json=kind.body).status_code == 409

    stale = owner.patch(f"{path}/{number}", json=kind.patch, headers={"if-match": '"7"'})
    assert stale.status_code == 412
    changed = owner.patch(f"{path}/{number}", json=kind.patch, headers={"if-match": '"1"'})
    assert changed.status_code == 200, changed.text
    for field, value in kind.patch.items():
        if not isinstance(value, dict):
            assert changed.json()[field] == value
    same_again = owner.patch(f"{path}/{number}", json=kind.patch)
    assert same_again.headers["etag"] == changed.headers["etag"]  # nothing changed: no new version

    assert owner.delete(f"{path}/{number}", headers={"if-match": '"7"'}).status_code == 412
    gone = owner.delete(f"{path}/{number}", headers={"if-match": changed.headers["etag"]})
    assert gone.status_code == 204
    assert gone.content == b""
    for method in ("GET", "PATCH", "DELETE"):
        answer = owner.request(method, f"{path}/{number}", json={} if method == "PATCH" else None)
        assert answer.status_code == 404


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.path))
def test_what_cannot_be_is_refused_by_field_and_changes_nothing(owner: httpx2.Client, kind: Kind) -> None:
    path = f"/api/v1/{kind.path}"
    before = owner.get(path).json()
    answer = owner.post(path, json=kind.refused)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [kind.refused_field]
    assert answer.json()["errors"][0]["remedy"]
    misspelt = owner.post(path, json=kind.body | {"colour": "red"})
    assert misspelt.status_code == 422
    assert misspelt.json()["errors"][0]["field"] == "colour"
    assert owner.get(path).json() == before


def test_what_is_in_use_stays_and_says_by_whom(owner: httpx2.Client) -> None:
    for path, user in [("providers/openai", "chat"), ("routes/chat", "indexer"), ("teams/search", "indexer")]:
        answer = owner.delete(f"/api/v1/{path}")
        assert answer.status_code == 409
        assert user in answer.json()["detail"]
        assert answer.json()["fix"]


def test_a_key_is_shown_once_rotated_and_revoked(owner: httpx2.Client) -> None:
    made = owner.post("/api/v1/keys", json={"app": "indexer", "name": "ci"})
    text = made.json()["key"]
    assert text.startswith("sk-sg-")
    rotated = owner.post("/api/v1/keys/indexer%2Fci/rotate")
    assert rotated.status_code == 200
    assert rotated.json()["key"] != text
    assert rotated.json()["id"] == made.json()["id"]
    for answer in (owner.get("/api/v1/keys"), owner.get("/api/v1/keys/ci"), owner.get("/api/v1/audit")):
        assert text not in answer.text
        assert rotated.json()["key"] not in answer.text
    assert owner.delete("/api/v1/keys/ci").status_code == 204
    assert owner.post("/api/v1/keys/ci/rotate").status_code == 404


def test_provider_secrets_never_come_back(owner: httpx2.Client) -> None:
    shown = owner.get("/api/v1/providers/openai")
    assert shown.json()["credentials"][0]["last_four"] == SECRET[-4:]
    kept = owner.patch("/api/v1/providers/openai", json={"credentials": [{"name": "main"}]})
    assert kept.status_code == 200
    bad = owner.patch("/api/v1/providers/openai", json={"credentials": [{"name": "main", "value": SECRET + "\n"}]})
    assert bad.status_code == 422
    for answer in (shown, kept, bad, owner.get("/api/v1/audit")):
        assert SECRET not in answer.text


def test_a_change_moves_the_generation_and_a_dry_run_does_not(api: ServedApi, owner: httpx2.Client) -> None:
    def now() -> int:
        with read_session(api.engine) as session:
            return generation(session)

    before = now()
    body = {"name": "ghost", "targets": [{"provider": "openai", "model": "m"}]}
    assert owner.post("/api/v1/routes", json=body, params={"dry_run": "true"}).status_code == 201
    assert now() == before
    assert owner.get("/api/v1/routes/ghost").status_code == 404
    assert owner.delete("/api/v1/apps/indexer", params={"dry_run": "true"}).status_code == 204
    assert owner.get("/api/v1/apps/indexer").status_code == 200
    owner.post("/api/v1/routes", json=body).raise_for_status()
    assert now() == before + 1


def test_the_state_of_a_limit_needs_the_keeper(owner: httpx2.Client) -> None:
    owner.post("/api/v1/limits", json=KINDS[6].body).raise_for_status()
    answer = owner.get("/api/v1/limits/budget/state")
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert owner.get("/api/v1/limits/nothing/state").status_code == 404


def test_interception_says_that_nothing_is_armed_and_why(owner: httpx2.Client) -> None:
    owner.post("/api/v1/interception-rules", json=KINDS[7].body).raise_for_status()
    state = owner.get("/api/v1/interception").json()
    assert state["agent"] is False
    assert state["rules"][0]["armed"] is False
    assert "agent" in state["rules"][0]["reason"]
    assert state["rules"][0]["captured"] is None
    found = owner.get("/api/v1/discoveries").json()
    assert found["items"] == []
    assert "agent" in found["reason"]
