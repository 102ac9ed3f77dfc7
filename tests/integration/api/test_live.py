"""The API of a gateway that serves: readiness, live feed, limits' state, promptness, drain."""

import contextlib
import json
import queue
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support import live
from tests.support.provider import Provider

KEY = "sk-test-live-0123456789"


def yaml_for(provider_url: str) -> str:
    return f"""
providers:
  - name: vendor
    dialect: openai
    base_url: "{provider_url}/v1"
    credentials: [{{name: main, value: sk-upstream-1}}]
routes:
  - {{name: chat, targets: [{{provider: vendor, model: m}}]}}
teams:
  - {{name: search, apps: [{{name: indexer, routes: [chat], keys: [{{name: ci, value: {KEY}}}]}}]}}
  - {{name: ads}}
limits:
  - {{name: daily, scope: {{app: indexer}}, metric: requests, window: day, at_most: 3}}
"""


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as found:
        yield found


@pytest.fixture
def running(tmp_path: Path, provider: Provider) -> Iterator[live.Live]:
    with live.gateway(tmp_path, yaml_for(provider.url), workers=2) as gateway:
        yield gateway


def chat(gateway: live.Live, key: str = KEY, model: str = "chat") -> httpx2.Response:
    return httpx2.post(
        f"{gateway.url}/v1/chat/completions",
        json={"model": model, "messages": [{"role": "user", "content": "hello"}]},
        headers={"authorization": f"Bearer {key}"},
        timeout=10,
    )


class Feed:
    """Reads the live feed in a thread: `next` gives the next event of a kind."""

    def __init__(self, url: str, token: str) -> None:
        self._events: queue.Queue[tuple[str, dict[str, object]]] = queue.Queue()
        self.ended = threading.Event()
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._read, args=(url, token), daemon=True)
        self._thread.start()
        assert self._opened.wait(10), "the feed did not open"

    def _read(self, url: str, token: str) -> None:
        headers = {"authorization": f"Bearer {token}"}
        with (
            contextlib.suppress(httpx2.TransportError),
            httpx2.stream("GET", f"{url}/api/v1/events", headers=headers, timeout=60) as answer,
        ):
            assert answer.headers["content-type"].startswith("text/event-stream")
            kind = ""
            for line in answer.iter_lines():
                self._opened.set()
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    self._events.put((kind, json.loads(line.removeprefix("data: "))))
        self.ended.set()

    def next(self, kind: str, within_s: float = 5.0) -> dict[str, object]:
        deadline = time.monotonic() + within_s
        while True:
            found, event = self._events.get(timeout=max(0.01, deadline - time.monotonic()))
            if found == kind:
                return event

    def nothing(self, kind: str, for_s: float) -> bool:
        try:
            self.next(kind, for_s)
        except queue.Empty:
            return True
        return False


def test_who_may_read_no_more_hears_nothing_more(running: live.Live) -> None:
    """Half a second after it was settled, in whichever worker the feed is; it does not wait for a keep-alive."""
    made = running.api.post("/api/v1/tokens", json={"role": "viewer", "name": "passing"}).json()
    feeds = [Feed(running.url, str(made["token"])) for _ in range(4)]
    assert chat(running).status_code == 200
    for feed in feeds:
        feed.next("request")
    running.api.delete("/api/v1/tokens/passing").raise_for_status()
    time.sleep(0.7)
    assert chat(running).status_code == 200
    for feed in feeds:
        assert feed.ended.wait(5)
        assert feed.nothing("request", 0)


def test_requests_and_changes_appear_in_the_feed_of_those_who_may_see_them(running: live.Live) -> None:
    def token(team: str) -> str:
        made = running.api.post("/api/v1/tokens", json={"role": "team-member", "team": team})
        return str(made.json()["token"])

    everyone, ours, others = (Feed(running.url, each) for each in (running.token, token("search"), token("ads")))
    answer = chat(running)
    assert answer.status_code == 200
    for feed in (everyone, ours):
        seen = feed.next("request")
        assert seen["id"] == answer.headers["x-request-id"]
        assert seen["app"] == "indexer"
        assert str(seen["started_at"]).endswith("Z")
        assert "started_at_ns" not in seen
    running.api.post("/api/v1/teams", json={"name": "new"}).raise_for_status()
    assert int(str(everyone.next("configuration")["generation"])) > 1
    assert others.nothing("request", 0.5)
    assert others.nothing("configuration", 0.2)


def test_the_feeds_end_when_the_gateway_drains(running: live.Live) -> None:
    feed = Feed(running.url, running.token)
    begun = time.monotonic()
    assert running.stop() == 0
    assert feed.ended.wait(2)
    assert time.monotonic() - begun < live.DRAIN_S  # an open console does not hold a restart up


def test_a_limits_state_follows_within_a_second(running: live.Live) -> None:
    def state() -> dict[str, object]:
        answer = running.api.get("/api/v1/limits/daily/state")
        assert answer.status_code == 200, answer.text
        found: dict[str, object] = answer.json()
        return found

    assert (state()["used"], state()["at_most"]) == (0, 3)
    assert str(state()["resets_at"]).endswith("T00:00:00Z")
    for used in (1, 2, 3):
        assert chat(running).status_code == 200
        running.until(lambda used=used: state()["used"] == used, 1.0, lambda: str(state()))  # type: ignore[misc]
    refused = chat(running)
    assert refused.status_code == 429
    running.api.patch("/api/v1/limits/daily", json={"at_most": 4}).raise_for_status()
    running.until(lambda: chat(running).status_code == 200, 2.0)


def test_a_change_is_in_force_in_every_worker_within_a_second(running: live.Live) -> None:
    running.api.patch("/api/v1/limits/daily", json={"at_most": 100000}).raise_for_status()
    made = running.api.post("/api/v1/keys", json={"app": "indexer", "name": "fresh"}).json()["key"]
    running.until(lambda: all(chat(running, made).status_code == 200 for _ in range(8)), 1.5)
    running.api.delete("/api/v1/keys/fresh").raise_for_status()
    running.until(lambda: all(chat(running, made).status_code == 401 for _ in range(8)), 1.5)


def test_ledger_and_usage_follow_within_two_seconds(running: live.Live) -> None:
    answer = chat(running)
    request_id = answer.headers["x-request-id"]
    running.until(lambda: running.api.get(f"/api/v1/ledger/{request_id}").status_code == 200, 2.0)
    shown = running.api.get(f"/api/v1/ledger/{request_id}").json()
    assert shown["outcome"] == "completed"
    assert shown["input_tokens"] == answer.json()["usage"]["prompt_tokens"]
    used = running.api.get("/api/v1/usage", params={"group_by": "app"}).json()["items"]
    assert used[0]["app"] == "indexer"
    assert used[0]["requests"] == 1
    assert running.api.get("/api/v1/ledger", params={"open": "true"}).json()["items"][0]["id"] == request_id


def test_readiness_and_metrics_of_a_gateway_that_serves(running: live.Live) -> None:
    assert chat(running).status_code == 200
    ready = httpx2.get(f"{running.url}/readyz")
    assert ready.status_code == 200
    assert ready.json()["generation"] >= 1
    assert httpx2.get(f"{running.url}/metrics").status_code == 200
