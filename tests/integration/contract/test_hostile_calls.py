"""What a hostile or careless caller may try with the body of a call; what changes under a kept-alive connection."""

import concurrent.futures
import time

import httpx2
import pytest

from tests.integration.contract.conftest import KEY, MESSAGES, Caller, limit_key
from tests.support.live import Live
from tests.support.provider import Provider


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"chat","model":"hidden","messages":[]}',
        b'{"model":"hidden","mod\\u0065l":"chat","messages":[]}',
        b'{"model":"chat","max_tokens":1,"max_tokens":100000,"messages":[]}',
    ],
    ids=["twice", "escaped", "bound twice"],
)
def test_a_field_that_stands_twice_cannot_mean_two_things(ask: Caller, provider: Provider, body: bytes) -> None:
    """The provider must read what was checked: one meaning goes up, or nothing."""
    answer = ask.post("/v1/chat/completions", body)
    assert answer.status_code == 400, answer.text
    assert not provider.requests


@pytest.mark.parametrize(
    ("field", "value"),
    [("max_tokens", -2), ("max_tokens", "ten"), ("max_tokens", 10.5), ("max_tokens", True), ("max_tokens", 1e300),
     ("n", -1), ("n", 0), ("n", "2"), ("n", 10**9), ("stream", "yes"), ("model", None),
     ("model", ["chat"]), ("model", {"a": 1}), ("model", "")],
)  # fmt: skip
def test_nonsense_is_400_and_never_500(ask: Caller, provider: Provider, field: str, value: object) -> None:
    body = {"model": "chat", "messages": MESSAGES, field: value}
    answer = ask.post("/v1/chat/completions", body)
    assert 400 <= answer.status_code < 500, answer.text
    assert answer.json()["error"]["message"]


@pytest.mark.parametrize("depth", [100, 100_000])
def test_deep_nesting(ask: Caller, provider: Provider, depth: int) -> None:
    body = b'{"model":"chat","messages":[],"x":' + b"[" * depth + b"]" * depth + b"}"
    assert ask.post("/v1/chat/completions", body).status_code in (200, 400)
    assert ask.chat().status_code == 200


def test_null_bounds_are_no_bounds(ask: Caller, provider: Provider) -> None:
    assert ask.chat(max_tokens=None, n=None, stream=None, stream_options=None).status_code == 200


def test_a_model_name_may_hold_anything(ask: Caller, provider: Provider) -> None:
    for name in ("../../etc/passwd", "x\r\nset-cookie: a=b", "é" * 300, "\x00", "a" * 100_000, "\ud83d\ude00"):
        answer = ask.chat(name)
        assert answer.status_code in (400, 404), name[:50]
        assert "set-cookie" not in answer.headers


def test_what_changes_holds_on_connections_that_stay_open(ask: Caller, sluice: Live, provider: Provider) -> None:
    api = sluice.api
    made = [
        api.post("/api/v1/routes", json={"name": "moving", "targets": [{"provider": "up", "model": "before"}]}),
        api.post("/api/v1/apps", json={"name": "mover", "team": "search", "routes": ["moving"]}),
        api.post("/api/v1/keys", json={"name": "mover", "app": "mover"}),
    ]
    assert [one.status_code for one in made] == [201, 201, 201], [one.text for one in made]
    key = made[2].json()["key"]
    time.sleep(1)
    for _ in range(3):
        assert ask.chat("moving", key).headers["x-sluicegate-target"] == "up/before"
    api.patch("/api/v1/routes/moving", json={"targets": [{"provider": "up", "model": "after"}]})
    time.sleep(1)
    assert ask.chat("moving", key).headers["x-sluicegate-target"] == "up/after"
    limit = {"name": "moving", "scope": {"key": "mover/mover"}, "metric": "requests", "window": "month", "at_most": 2}
    assert api.post("/api/v1/limits", json=limit).status_code == 201
    time.sleep(1)
    assert [ask.chat("moving", key).status_code for _ in range(3)] == [200, 200, 429]
    assert api.patch("/api/v1/limits/moving", json={"at_most": 4}).status_code == 200
    time.sleep(1)
    assert [ask.chat("moving", key).status_code for _ in range(3)] == [200, 200, 429]
    state = api.get(f"/api/v1/limits/{api.get('/api/v1/limits/moving').json()['id']}/state").json()
    assert (state["at_most"], state["used"]) == (4, 4)
    api.delete("/api/v1/limits/moving")
    api.patch("/api/v1/providers/up", json={"credentials": [{"name": "main", "value": "sk-rotated"}]})
    time.sleep(1)
    assert ask.chat("moving", key).status_code == 200
    assert provider.last.header("authorization") == "Bearer sk-rotated"
    api.patch("/api/v1/providers/up", json={"credentials": [{"name": "main", "value": "sk-upstream-secret"}]})
    api.patch("/api/v1/apps/mover", json={"routes": ["chat"]})
    time.sleep(1)
    assert ask.chat("moving", key).status_code == 403
    api.delete("/api/v1/keys/mover")
    time.sleep(1)
    assert ask.chat("chat", key).status_code == 401
    api.delete("/api/v1/apps/mover")
    api.delete("/api/v1/routes/moving")


def test_a_burst_never_passes_more_than_the_limit_allows(ask: Caller, sluice: Live, provider: Provider) -> None:
    """Over both workers at once; and what fits is never refused."""

    limit = {"name": "burst", "scope": {"app": "bursting"}, "metric": "requests", "window": "month", "at_most": 30}
    assert sluice.api.post("/api/v1/limits", json=limit).status_code == 201
    time.sleep(1)
    body = {"model": "chat", "messages": MESSAGES, "max_tokens": 1}
    headers = {"authorization": f"Bearer {limit_key('bursting')}"}

    def call(_: int) -> int:
        return httpx2.post(sluice.url + "/v1/chat/completions", json=body, headers=headers, timeout=30).status_code

    try:
        time.sleep(1)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            statuses = list(pool.map(call, range(50)))
        assert statuses.count(200) == 30
        assert statuses.count(429) == 20
    finally:
        sluice.api.delete("/api/v1/limits/burst")


@pytest.mark.parametrize("moment", ["2020-01-01", "2020-01-01T00:00:00Z", "2020-01-01T02:00:00+02:00"])
def test_times_as_people_write_them(sluice: Live, moment: str) -> None:
    for path in ("ledger", "usage"):
        assert sluice.api.get(f"/api/v1/{path}", params={"from": moment}).status_code == 200
        assert sluice.api.get(f"/api/v1/{path}", params={"to": moment}).json()["items"] in ([], None) or path == "usage"


def test_json_without_its_content_type_is_415_with_the_remedy(sluice: Live) -> None:
    refused = sluice.api.post("/api/v1/teams", content=b'{"name": "untyped"}', headers={"content-type": "text/plain"})
    assert refused.status_code == 415
    assert "application/json" in refused.json()["fix"]
    assert KEY not in refused.text
