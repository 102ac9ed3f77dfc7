"""Keys of the playground, by REST and at the data plane: bound to a target, the app's own, gone after minutes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx2
import pytest
import sqlalchemy

from gateway.store.playground import LIFETIME, MOST_AT_ONCE
from tests.support import live
from tests.support.live import Live
from tests.support.provider import Provider

CONFIGURATION = """
providers:
  - {{name: first, dialect: openai, base_url: "{url}/v1", credentials: [{{name: main, value: sk-of-the-provider}}]}}
  - {{name: second, dialect: openai, base_url: "{url}/v1", credentials: [{{name: main, value: sk-of-the-provider}}]}}
routes:
  - {{name: chat, targets: [{{provider: first, model: one}}, {{provider: second, model: two}}]}}
  - {{name: other, targets: [{{provider: first, model: three}}]}}
teams:
  - name: search
    apps: [{{name: indexer, routes: [chat]}}]
  - name: ads
    apps: [{{name: bids, routes: [chat]}}]
limits:
  - {{name: few, scope: {{app: bids}}, metric: requests, window: hour, at_most: 1}}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with (
        Provider() as provider,
        live.gateway(tmp_path_factory.mktemp("playground"), CONFIGURATION.format(url=provider.url)) as gateway,
    ):
        yield gateway


def make(running: Live, **wanted: str) -> httpx2.Response:
    return running.api.post("/api/v1/playground/keys", json=wanted)


def call(running: Live, key: str, model: str = "chat", *, within_s: float = 3) -> httpx2.Response:
    """One chat, once the workers know the key."""
    answers: list[httpx2.Response] = []

    def known() -> bool:
        answers.append(
            httpx2.post(
                running.url + "/v1/chat/completions",
                headers={"authorization": f"Bearer {key}"},
                json={"model": model, "max_tokens": 16, "messages": [{"role": "user", "content": "Hello"}]},
            )
        )
        return answers[-1].status_code != 401

    running.until(known, within_s)
    return answers[-1]


def test_calls_go_to_the_keys_target_and_to_no_other(running: Live) -> None:
    for target in ("first/one", "second/two", "second/two", "first/one"):
        made = make(running, app="indexer", route="chat", target=target)
        assert made.status_code == 201, made.text
        for _ in range(3):
            answer = call(running, made.json()["key"])
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-sluicegate-target"] == target
            row = running.row(answer.headers["x-request-id"])
            assert (row["app"], row["team"], row["key"], row["target"]) == ("indexer", "search", "playground", target)


def test_each_route_is_told_with_its_dialects_and_targets(running: Live) -> None:
    told = running.api.get("/api/v1/playground").json()
    assert told["here"] is True
    assert told["data_plane"] == f"127.0.0.1:{running.port}"
    chat = {"first/one", "second/two"}
    assert [route["name"] for route in told["routes"]] == ["chat", "other"]
    assert {each["dialect"]: set(each["targets"]) for each in told["routes"][0]["dialects"]} == {
        "openai": chat,
        "mistral": chat,
    }


def test_without_a_target_the_routes_strategy_decides(running: Live) -> None:
    made = make(running, app="indexer").json()
    assert made["target"] is None
    assert call(running, made["key"]).headers["x-sluicegate-target"] == "first/one"


def test_it_may_call_what_the_app_may_call_and_its_limits_hold(running: Live) -> None:
    refused = call(running, make(running, app="indexer").json()["key"], "other")
    assert refused.status_code == 403
    key = make(running, app="bids").json()["key"]
    assert call(running, key).status_code == 200
    too_many = call(running, key)
    assert too_many.status_code == 429
    assert "few" in too_many.text


def test_a_target_must_be_one_of_the_route(running: Live) -> None:
    for wanted, said in (
        ({"app": "indexer", "route": "chat", "target": "first/three"}, "first/one, second/two"),
        ({"app": "indexer", "target": "first/one"}, "no route is named"),
    ):
        answer = make(running, **wanted)
        assert answer.status_code == 400
        assert said in answer.text
    assert make(running, app="nobody").status_code == 404
    # Bound to a target of one route, a key calls no other route.
    key = make(running, app="indexer", route="chat", target="second/two").json()["key"]
    running.api.patch("/api/v1/apps/indexer", json={"routes": ["chat", "other"]})
    try:
        running.until(lambda: call(running, key, "other").json()["error"]["message"].startswith("key playground"), 3)
    finally:
        running.api.patch("/api/v1/apps/indexer", json={"routes": ["chat"]})


def test_it_is_audited_and_in_no_list_export_or_version(running: Live) -> None:
    before = running.api.get("/api/v1/export").text
    made = make(running, app="indexer", route="chat", target="first/one").json()
    assert timedelta() < datetime.fromisoformat(made["expires_at"]) - datetime.now(UTC) <= LIFETIME
    assert running.api.get("/api/v1/keys").json()["items"] == []
    assert running.api.get("/api/v1/export").text == before
    told = running.api.get("/api/v1/audit?limit=1").json()["items"][0]
    assert (told["action"], told["kind"], told["name"]) == ("create", "playground key", "indexer")
    assert told["after"]["target"] == "first/one"
    assert made["key"] not in str(told)


def test_what_has_ended_goes_and_nobody_has_many(running: Live) -> None:
    engine = sqlalchemy.create_engine(f"sqlite:///{running.data / 'sluicegate.sqlite'}")
    ended = make(running, app="indexer").json()["key"]
    assert call(running, ended).status_code == 200
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE playground_key SET expires_at = 1"))
    for _ in range(MOST_AT_ONCE + 3):
        last = make(running, app="indexer").json()["key"]
    with engine.connect() as connection:
        count = connection.execute(sqlalchemy.text("SELECT count(*), min(expires_at) FROM playground_key")).one()
    engine.dispose()
    assert count[0] == MOST_AT_ONCE
    assert count[1] > 1
    assert call(running, last).status_code == 200
    gone = httpx2.get(running.url + "/v1/models", headers={"authorization": f"Bearer {ended}"})
    assert gone.status_code == 401


def test_team_members_make_them_for_their_own_apps_alone(running: Live) -> None:
    token = running.api.post("/api/v1/tokens", json={"name": "m", "role": "team-member", "team": "search"}).json()[
        "token"
    ]
    headers = {"authorization": f"Bearer {token}"}
    url = running.url + "/api/v1/playground/keys"
    assert httpx2.post(url, headers=headers, json={"app": "indexer"}).status_code == 201
    assert httpx2.post(url, headers=headers, json={"app": "bids"}).status_code == 404
    assert (
        httpx2.post(
            url, headers=headers, json={"app": "indexer", "route": "other", "target": "first/three"}
        ).status_code
        == 404
    )
