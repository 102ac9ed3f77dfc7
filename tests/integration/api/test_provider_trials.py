"""`POST /api/v1/providers/{ref}/test` against a live gateway: what it says of a credential is so."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import live
from tests.support.live import Live
from tests.support.ports import free_port
from tests.support.provider import Provider

GOOD, BAD = "sk-good-secret-0001", "sk-bad-secret-0002"
CONFIGURATION = f"""
providers:
  - name: several
    dialect: openai
    base_url: URL/v1
    credentials: [{{name: good, value: {GOOD}}}, {{name: bad, value: {BAD}}}]
  - {{name: claude, dialect: anthropic, base_url: URL, credentials: [{{name: main, value: {GOOD}}}]}}
  - {{name: google, dialect: gemini, base_url: URL, credentials: [{{name: main, value: {GOOD}}}]}}
  - {{name: keyless, dialect: ollama, base_url: URL}}
  - {{name: crm, dialect: http, base_url: URL/crm}}
  - {{name: away, dialect: openai, base_url: "http://127.0.0.1:GONE/v1", credentials: [{{name: main, value: {GOOD}}}]}}
routes:
  - {{name: chat, targets: [{{provider: several, model: listed}}, {{provider: several, model: forgotten}}]}}
"""


@dataclass(frozen=True, slots=True)
class Rig:
    sluice: Live
    provider: Provider

    def ask(self, name: str, **body: Any) -> dict[str, Any]:
        answer = self.sluice.api.post(f"/api/v1/providers/{name}/test", json=body)
        assert answer.status_code == 200, answer.text
        assert GOOD not in answer.text
        assert BAD not in answer.text
        found: dict[str, Any] = answer.json()
        return found

    def verdict(self, name: str) -> str:
        (one,) = self.ask(name)["credentials"]
        return str(one["verdict"])


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Live, Provider]]:
    folder: Path = tmp_path_factory.mktemp("trials")
    with Provider() as provider:
        yaml = CONFIGURATION.replace("URL", provider.url).replace("GONE", str(free_port()))
        with live.gateway(folder, yaml) as sluice:
            yield sluice, provider


@pytest.fixture
def rig(gateway: tuple[Live, Provider]) -> Rig:
    gateway[1].forget()
    return Rig(*gateway)


def listing(*names: str) -> bytes:
    return json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in names]}).encode()


def test_each_credential_has_its_verdict_and_models_that_are_missing_are_named(rig: Rig) -> None:
    rig.provider.behave(path="/v1/models", body=listing("listed", "another"))
    rig.provider.demand_authorization("authorization", f"Bearer {GOOD}", "/v1/models")
    found = rig.ask("several")
    good, bad = found["credentials"]
    assert (good["credential"], good["verdict"], good["status"], good["fix"]) == ("good", "accepted", 200, "")
    assert (bad["credential"], bad["verdict"], bad["status"]) == ("bad", "refused", 401)
    assert bad["fix"]
    assert found["models"] == ["listed", "another"]
    assert found["missing_models"] == ["forgotten"]
    assert found["url"] == rig.provider.url + "/v1/models"


def test_one_credential_alone(rig: Rig) -> None:
    rig.provider.demand_authorization("authorization", f"Bearer {GOOD}", "/v1/models")
    assert [one["credential"] for one in rig.ask("several", credential="bad")["credentials"]] == ["bad"]
    assert {request.header("authorization") for request in rig.provider.requests} == {f"Bearer {BAD}"}
    assert rig.sluice.api.post("/api/v1/providers/several/test", json={"credential": "no"}).status_code == 404


def test_what_answers_anyone_proves_nothing(rig: Rig) -> None:
    rig.provider.behave(path="/v1/models", body=listing("listed"))
    assert [one["verdict"] for one in rig.ask("several")["credentials"]] == ["unproven", "unproven"]


def test_each_dialect_is_asked_in_its_own_words(rig: Rig) -> None:
    rig.provider.behave(path="/v1/models", body=listing("claude-x"))
    rig.provider.demand_authorization("x-api-key", GOOD, "/v1/models")
    claude = rig.ask("claude")
    assert (claude["credentials"][0]["verdict"], claude["models"]) == ("accepted", ["claude-x"])
    assert rig.provider.requests[0].header("anthropic-version")
    rig.provider.forget()
    rig.provider.behave(path="/v1beta/models", body=b'{"models": [{"name": "models/gemini-x"}]}')
    rig.provider.demand_authorization("x-goog-api-key", GOOD, "/v1beta/models")
    google = rig.ask("google")
    assert (google["credentials"][0]["verdict"], google["models"]) == ("accepted", ["gemini-x"])
    rig.provider.behave(path="/api/tags", body=b'{"models": [{"name": "llama:latest"}]}')
    keyless = rig.ask("keyless")
    (only,) = keyless["credentials"]
    assert (only["credential"], only["verdict"], keyless["models"]) == (None, "unproven", ["llama:latest"])
    assert rig.verdict("crm") == "unproven"
    assert rig.provider.last.path == "/crm"


def test_what_is_no_answer_is_told_apart(rig: Rig) -> None:
    assert rig.verdict("away") == "unreachable"
    rig.provider.behave(path="/v1/models", status=429)
    assert rig.verdict("claude") == "limited"
    rig.provider.behave(path="/v1/models", status=404)
    (only,) = rig.ask("claude")["credentials"]
    assert only["verdict"] == "failed"
    assert "base URL" in only["fix"]
    rig.provider.behave(path="/v1/models", body=b"<html>")
    assert rig.verdict("claude") == "failed"
    rig.provider.behave(path="/v1/models", drop=True)
    assert rig.verdict("claude") == "unreachable"


def test_a_redirect_is_not_followed(rig: Rig) -> None:
    elsewhere = (b"location", b"/elsewhere")
    rig.provider.behave(path="/v1/models", status=302, headers=(elsewhere,))
    assert rig.verdict("claude") == "failed"
    assert {request.path for request in rig.provider.requests} == {"/v1/models"}


def test_it_takes_a_bounded_time(rig: Rig) -> None:
    rig.provider.behave(path="/v1/models", hang=True)
    begun = time.monotonic()
    assert {one["verdict"] for one in rig.ask("several")["credentials"]} == {"unreachable"}
    assert time.monotonic() - begun < 12


def test_a_secret_that_was_just_stored_is_the_one_that_is_tested(rig: Rig) -> None:
    rig.provider.behave(path="/v1/models", body=listing("claude-x"))
    rig.provider.demand_authorization("x-api-key", "sk-newer-secret-3", "/v1/models")
    assert rig.verdict("claude") == "refused"
    for secret, verdict in (("sk-newer-secret-3", "accepted"), (GOOD, "refused")):
        change = {"credentials": [{"name": "main", "value": secret}]}
        assert rig.sluice.api.patch("/api/v1/providers/claude", json=change).status_code == 200
        assert rig.verdict("claude") == verdict
