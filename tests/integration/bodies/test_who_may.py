"""Who reads recorded bodies: owners and admins, and a team's own people where the route shows them; nobody else."""

import json
import uuid
from collections.abc import Iterator

import httpx2
import pytest

from tests.support import live
from tests.support.live import Live
from tests.support.provider import Provider

KEYS = {"ours": "sk-test-bodies-ours-0123456789", "theirs": "sk-test-bodies-theirs-0123456789"}
YAML = f"""
providers: [{{name: up, dialect: openai, base_url: UP/v1}}]
routes:
  - {{name: shown, targets: [{{provider: up, model: m}}], capture: {{visible_to_team: true}}}}
  - {{name: hidden, targets: [{{provider: up, model: m}}], capture: {{}}}}
teams:
  - {{name: ours, apps: [{{name: a, routes: "*", keys: [{{name: k, value: {KEYS["ours"]}}}]}}]}}
  - {{name: theirs, apps: [{{name: b, routes: "*", keys: [{{name: k, value: {KEYS["theirs"]}}}]}}]}}
"""


@pytest.fixture(scope="module")
def sluice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with Provider() as up, live.gateway(tmp_path_factory.mktemp("who"), YAML.replace("UP", up.url)) as running:
        yield running


@pytest.fixture(scope="module")
def requests(sluice: Live) -> dict[tuple[str, str], str]:
    """Ids by team and route, all recorded."""
    ids = {}
    for team, key in KEYS.items():
        for route in ("shown", "hidden"):
            body = json.dumps({"model": route, "messages": [{"role": "user", "content": "hi"}]})
            answer = httpx2.post(
                sluice.url + "/v1/chat/completions",
                content=body,
                headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
            )
            ids[team, route] = answer.headers["x-request-id"]
    for each in ids.values():
        path = f"/api/v1/ledger/{each}/bodies"
        sluice.until(lambda path=path: sluice.api.get(path).status_code == 200, 10)  # type: ignore[misc]
    return ids


def ask(sluice: Live, role: str, request_id: str, method: str = "GET") -> httpx2.Response:
    team = {"team": "ours"} if role.startswith("team") else {}
    made = sluice.api.post("/api/v1/tokens", json={"name": f"{role}-{uuid.uuid4()}", "role": role, **team})
    assert made.status_code == 201, made.text
    headers = {"authorization": f"Bearer {made.json()['token']}"}
    params = {"dry_run": "true"} if method == "DELETE" else {}
    return httpx2.request(method, f"{sluice.url}/api/v1/ledger/{request_id}/bodies", headers=headers, params=params)


@pytest.mark.parametrize("role", ["owner", "admin", "operator", "viewer", "team-admin", "team-member"])
def test_each_role_reads_what_it_may(sluice: Live, requests: dict[tuple[str, str], str], role: str) -> None:
    found = {}
    for which, request_id in requests.items():
        answer = ask(sluice, role, request_id)
        found[which] = (answer.status_code, answer.json().get("reason"))
        if answer.status_code != 200:
            assert "hi" not in json.dumps(answer.json().get("request", ""))
    if role in ("owner", "admin"):
        assert set(found.values()) == {(200, None)}
    elif role in ("operator", "viewer"):
        assert set(found.values()) == {(403, None)}
    else:
        assert found == {
            ("ours", "shown"): (200, None),
            ("ours", "hidden"): (404, "not_shown"),
            ("theirs", "shown"): (404, None),
            ("theirs", "hidden"): (404, None),
        }
    expected = 204 if role == "owner" else 403
    assert ask(sluice, role, requests["theirs", "hidden"], "DELETE").status_code == expected


def test_shown_later_is_not_shown_before(sluice: Live, requests: dict[tuple[str, str], str]) -> None:
    """What was recorded while the route hid it stays hidden; what it shows, it may hide at any time."""
    change = sluice.api.patch("/api/v1/routes/hidden", json={"capture": {"visible_to_team": True}})
    assert change.json()["capture"] == {
        "request": True, "response": True, "sample": 1.0, "max_bytes": 65536, "keep": "7d", "redact": [],
        "visible_to_team": True,
    }  # fmt: skip
    assert ask(sluice, "team-member", requests["ours", "hidden"]).json()["reason"] == "not_shown"
    assert sluice.api.patch("/api/v1/routes/shown", json={"capture": None}).json()["capture"] is None
    assert ask(sluice, "team-admin", requests["ours", "shown"]).json()["reason"] == "not_shown"
    assert ask(sluice, "admin", requests["ours", "shown"]).status_code == 200  # off: what there is stays its time
