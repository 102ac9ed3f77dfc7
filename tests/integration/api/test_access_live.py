"""Access that is asked for, where a gateway serves: in force within a second, refused at its end, told by the feed."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from tests.integration.api.test_live import Feed
from tests.support import live
from tests.support.provider import Provider

KEY = "sk-test-access-0123456789"
PROMPT_S = 1.0
SLACK_S = 2.0
"""The machine does other things, too."""


def yaml_for(provider_url: str) -> str:
    return f"""
providers:
  - {{name: vendor, dialect: openai, base_url: "{provider_url}/v1"}}
routes:
  - {{name: chat, targets: [{{provider: vendor, model: m}}], service: {{access: open}}}}
  - {{name: draft, targets: [{{provider: vendor, model: n}}]}}
teams:
  - {{name: search, apps: [{{name: indexer, keys: [{{name: ci, value: {KEY}}}]}}]}}
  - {{name: ads}}
prices:
  - {{provider: vendor, model: m, input: 1000000, output: 4000000}}
"""


@pytest.fixture
def running(tmp_path: Path, database_url: str) -> Iterator[live.Live]:
    with (
        Provider() as provider,
        live.gateway(tmp_path, yaml_for(provider.url), workers=2, database_url=database_url) as gateway,
    ):
        yield gateway


def member_of(running: live.Live, team: str, role: str = "team-member") -> str:
    made = running.api.post("/api/v1/tokens", json={"role": role, "team": team}).json()
    return str(made["token"])


def status(running: live.Live, model: str, key: str = KEY) -> int:
    """Of a call over a connection of its own: workers take turns."""
    return httpx2.post(
        f"{running.url}/v1/chat/completions",
        json={"model": model, "messages": [{"role": "user", "content": "hello"}]},
        headers={"authorization": f"Bearer {key}"},
        timeout=10,
    ).status_code


def lasting(running: live.Live, question: Callable[[], bool], within_s: float = PROMPT_S + SLACK_S) -> None:
    """True within this time, in every worker."""
    running.until(lambda: all(question() for _ in range(6)), within_s)


def test_access_from_the_wish_to_its_end(running: live.Live) -> None:
    ours, others = member_of(running, "search"), member_of(running, "ads")
    feeds = {name: Feed(running.url, token) for name, token in (("all", running.token), ("us", ours), ("ads", others))}
    member = httpx2.Client(base_url=running.url, headers={"authorization": f"Bearer {ours}"}, timeout=10)
    with member:
        item = member.get("/api/v1/catalogue/chat").json()
        assert item["models"] == [
            {
                "model": "m",
                "price": {
                    "input": 1000000, "output": 4000000, "cached_input": None, "cache_write": None, "reasoning": None,
                    "per_request": 0,
                },
            }
        ]  # fmt: skip
        assert {status(running, "chat"), status(running, "draft")} == {403}
        body = {"app": "indexer", "routes": ["draft"], "reason": "a test"}
        request = member.post("/api/v1/access-requests", json=body).json()
        for name in ("all", "us"):
            seen = feeds[name].next("notice")
            assert (seen["kind"], seen["request"], seen["team"]) == ("access-requested", request["id"], "search")
        until = datetime.now(UTC) + timedelta(seconds=8)
        approval = {"expires_at": until.isoformat(), "reason": "go ahead"}
        running.api.post(f"/api/v1/access-requests/{request['id']}/approve", json=approval).raise_for_status()
        lasting(running, lambda: status(running, "draft") == 200)
        assert feeds["us"].next("notice")["kind"] == "access-approved"
        assert status(running, "chat") == 403
        assert member.post("/api/v1/access-requests", json=body | {"routes": ["chat"]}).json()["state"] == "approved"
        lasting(running, lambda: status(running, "chat") == 200)
        # The end comes by itself.
        time.sleep(max(0.0, (until - datetime.now(UTC)).total_seconds()))
        lasting(running, lambda: status(running, "draft") == 403)
        running.until(
            lambda: member.get(f"/api/v1/access-requests/{request['id']}").json()["version"] > 2, PROMPT_S + SLACK_S
        )
        told = [feeds["us"].next("notice")["kind"] for _ in range(2)]
        assert told == ["access-approved", "access-expired"]
        assert status(running, "chat") == 200
    assert feeds["ads"].nothing("notice", 0.3)


def test_both_texts_of_a_rotated_key_work_within_the_overlap(running: live.Live) -> None:
    running.api.patch("/api/v1/apps/indexer", json={"routes": ["chat"]}).raise_for_status()
    with httpx2.Client(
        base_url=running.url, headers={"authorization": f"Bearer {member_of(running, 'search')}"}, timeout=10
    ) as member:
        new = member.post("/api/v1/keys/indexer%2Fci/rotate", json={"overlap": "1h"}).json()["key"]
        lasting(running, lambda: (status(running, "chat"), status(running, "chat", new)) == (200, 200))
        member.post("/api/v1/keys/indexer%2Fci/retire").raise_for_status()
        lasting(running, lambda: (status(running, "chat"), status(running, "chat", new)) == (401, 200))
