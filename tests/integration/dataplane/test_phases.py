"""Where a request's time went, as the worker that served it saw it: the ledger's phases, over a live server."""

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
from tests.support.provider import Behaviour, Provider
from tests.support.raw import RawAnswer, RawClient

KEY = "sk-test-phases-0123456789"
PHASES = ("admit_ms", "connect_ms", "longest_gap_ms", "events", "attempt_log")


@dataclass(frozen=True, slots=True)
class Rig:
    sluice: Live
    first: Provider
    second: Provider

    def row(self, answer: RawAnswer) -> dict[str, Any]:
        request_id = answer.header("x-request-id")
        self.sluice.row(request_id)
        return dict(self.sluice.api.get(f"/api/v1/ledger/{request_id}").raise_for_status().json())

    def row_of(self, route: str) -> dict[str, Any]:
        """Of the only request on it."""
        found: list[dict[str, Any]] = []

        def there() -> bool:
            found[:] = self.sluice.api.get("/api/v1/ledger", params={"route": route}).raise_for_status().json()["items"]
            return bool(found)

        self.sluice.until(there, 5)
        (row,) = found
        return row


def configuration(first: str, second: str) -> str:
    def targets(model: str) -> str:
        return f"[{{provider: first, model: {model}}}, {{provider: second, model: {model}}}]"

    names = ("over-two", "over-two-streams", "all-fail", "once", "plain", "stream", "cut", "gone", "listed")
    routes = "\n".join(
        f"  - {{name: {name}, retries: 1, timeout: {{first_byte: 400ms}}, targets: {targets(name)}}}" for name in names
    )
    return f"""
providers:
  - {{name: first, dialect: openai, base_url: {first}/v1}}
  - {{name: second, dialect: openai, base_url: {second}/v1}}
  - {{name: dead, dialect: openai, base_url: "http://127.0.0.1:{free_port()}/v1"}}
  - {{name: backend, dialect: http, base_url: "{second}/base"}}
routes:
{routes}
  - {{name: dead-first, retries: 1, targets: [{{provider: dead, model: m}}, {{provider: second, model: dead-first}}]}}
  - {{name: files, match: {{path: /files/}}, strip_prefix: true, targets: [{{provider: backend}}]}}
teams: [{{name: t, apps: [{{name: a, routes: "*", keys: [{{name: k, value: {KEY}}}]}}]}}]
limits:
  - {{name: none-left, scope: {{route: once}}, metric: requests, window: lifetime, at_most: 1}}
"""


@pytest.fixture(scope="module")
def shared_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with Provider() as first, Provider() as second:
        folder: Path = tmp_path_factory.mktemp("phases")
        with live.gateway(folder, configuration(first.url, second.url)) as sluice:
            yield Rig(sluice, first, second)


@pytest.fixture
def rig(shared_rig: Rig) -> Rig:
    for provider in (shared_rig.first, shared_rig.second):
        provider.forget()
    return shared_rig


def request(route: str, *, stream: bool = False) -> bytes:
    body = json.dumps({"model": route, "messages": [], "stream": stream, "max_tokens": 20}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def call(client: RawClient, route: str, *, stream: bool = False) -> RawAnswer:
    client.send(request(route, stream=stream))
    return client.answer()


def in_order(*times: float | None) -> None:
    """None of them unknown, and each no sooner than the one before."""
    known = [time for time in times if time is not None]
    assert len(known) == len(times), times
    assert known == sorted(known), times


def test_a_new_connection_and_then_pooled_ones(rig: Rig) -> None:
    """The first call dials; the second has the connection and is served the ordinary way, those after it by the express
    way: the same phases are told of all."""
    with RawClient(rig.sluice.port) as client:
        rows = [rig.row(call(client, "plain")) for _ in range(4)]
    first, *others = rows
    assert first["connect_ms"] > 0
    assert [row["connect_ms"] for row in others] == [0.0] * 3
    for row in rows:
        in_order(0, row["admit_ms"], row["ttft_ms"], row["latency_ms"])
        assert row["admit_ms"] > 0
        assert row["admit_ms"] + row["connect_ms"] <= row["latency_ms"]
        assert (row["attempts"], row["longest_gap_ms"], row["events"], row["attempt_log"]) == (1, None, None, None)


def test_what_the_provider_takes_is_not_ours(rig: Rig) -> None:
    rig.first.behave(Behaviour(head_delay_s=0.2))
    with RawClient(rig.sluice.port) as client:
        rows = [rig.row(call(client, "plain")) for _ in range(3)]
    for row in rows:
        assert row["ttft_ms"] >= 200
        assert row["admit_ms"] + row["connect_ms"] < 150, row


@pytest.mark.parametrize("nth", [1, 3], ids=["ordinary way", "express way"])
def test_a_stream_tells_its_longest_gap(rig: Rig, nth: int) -> None:
    rig.first.behave(Behaviour(gap_s=0.15))
    with RawClient(rig.sluice.port) as client:
        for _ in range(nth - 1):
            call(client, "stream")
        answer = call(client, "stream", stream=True)
    row = rig.row(answer)
    events = answer.body.count(b"data: ") - answer.body.count(b"data: [DONE]")
    assert 1 < row["events"] <= events
    assert 120 <= row["longest_gap_ms"] <= row["latency_ms"] - row["ttft_ms"] + 1
    in_order(0, row["admit_ms"], row["ttft_ms"], row["latency_ms"])
    assert row["attempt_log"] is None


def test_a_retry_over_two_targets(rig: Rig) -> None:
    rig.first.behave(Behaviour(status=503, head_delay_s=0.05))
    rig.second.behave(Behaviour(head_delay_s=0.1))
    with RawClient(rig.sluice.port) as client:
        answer = call(client, "over-two")
    assert answer.status == 200
    row = rig.row(answer)
    one, two = row["attempt_log"]
    assert (one["target"], one["status"], one["error_code"]) == ("first/over-two", 503, None)
    assert (two["target"], two["status"], two["error_code"]) == ("second/over-two", 200, None)
    in_order(0, one["started_ms"], one["first_byte_ms"], one["ended_ms"], two["started_ms"], two["first_byte_ms"])
    in_order(two["first_byte_ms"], two["ended_ms"], row["latency_ms"])
    assert one["ended_ms"] - one["started_ms"] >= 50
    assert two["first_byte_ms"] - two["started_ms"] >= 100
    assert row["admit_ms"] == one["started_ms"]
    assert row["connect_ms"] == two["connect_ms"]
    assert row["ttft_ms"] == two["first_byte_ms"], "of the answer that the caller got, not of the refusal before it"


def test_a_stream_that_a_second_target_gives(rig: Rig) -> None:
    rig.first.behave(Behaviour(hang=True))
    with RawClient(rig.sluice.port) as client:
        row = rig.row(call(client, "over-two-streams", stream=True))
    one, two = row["attempt_log"]
    assert (one["error_code"], one["status"], one["first_byte_ms"]) == ("upstream_timeout", None, None)
    assert one["ended_ms"] - one["started_ms"] >= 400
    assert (two["status"], two["error_code"]) == (200, None)
    assert row["ttft_ms"] == two["first_byte_ms"] >= 400
    assert row["events"] > 0
    assert row["longest_gap_ms"] is not None


def test_a_target_that_takes_no_connection(rig: Rig) -> None:
    with RawClient(rig.sluice.port) as client:
        row = rig.row(call(client, "dead-first"))
    one, two = row["attempt_log"]
    assert (one["target"], one["error_code"], one["status"]) == ("dead/m", "connect_failed", None)
    assert (one["connect_ms"], one["first_byte_ms"]) == (None, None)
    assert (two["target"], two["status"]) == ("second/dead-first", 200)
    assert row["connect_ms"] == two["connect_ms"] is not None


def test_all_attempts_failed(rig: Rig) -> None:
    for provider in (rig.first, rig.second):
        provider.behave(Behaviour(drop=True))
    with RawClient(rig.sluice.port) as client:
        answer = call(client, "all-fail")
    assert answer.status == 502
    row = rig.row(answer)
    assert [attempt["error_code"] for attempt in row["attempt_log"]] == ["upstream_failed"] * row["attempts"]
    assert {attempt["target"] for attempt in row["attempt_log"]} == {"first/all-fail", "second/all-fail"}


def test_a_stream_that_breaks_off_in_the_middle(rig: Rig) -> None:
    """Its only attempt was answered: what became of it the row says."""
    rig.first.behave(Behaviour(cut_after_pieces=3))
    with RawClient(rig.sluice.port) as client:
        client.send(request("cut", stream=True))
        client.read_to_end()
    row = rig.row_of("cut")
    assert (row["outcome"], row["error_code"], row["attempt_log"]) == ("upstream_failed", "upstream_failed", None)
    in_order(0, row["admit_ms"], row["ttft_ms"], row["latency_ms"])
    assert row["events"] > 0


def test_a_caller_that_leaves_during_the_second_attempt(rig: Rig) -> None:
    rig.first.behave(Behaviour(status=500))
    rig.second.behave(Behaviour(hang=True))
    with RawClient(rig.sluice.port) as client:
        client.send(request("gone"))
        rig.sluice.until(lambda: bool(rig.second.requests), 5)
        time.sleep(0.1)
    row = rig.row_of("gone")
    one, two = row["attempt_log"]
    assert (row["outcome"], row["attempts"]) == ("client_gone", 2)
    assert (one["status"], one["error_code"]) == (500, None)
    assert (two["status"], two["error_code"], two["first_byte_ms"]) == (None, "client_gone", None)
    assert two["ended_ms"] - two["started_ms"] >= 90


def test_what_never_went_upstream_has_no_phases(rig: Rig) -> None:
    with RawClient(rig.sluice.port) as client:
        served = rig.row(call(client, "once"))
        refused = rig.row(call(client, "once"))
    assert served["admit_ms"] is not None
    assert refused["outcome"] == "refused"
    assert {name: refused[name] for name in PHASES} == dict.fromkeys(PHASES)


def test_a_request_on_an_http_route(rig: Rig) -> None:
    with RawClient(rig.sluice.port) as client:
        rows = []
        for _ in range(2):
            client.send(f"GET /files/a HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {KEY}\r\n\r\n".encode())
            rows.append(rig.row(client.answer()))
    for row in rows:
        in_order(0, row["admit_ms"], row["ttft_ms"], row["latency_ms"])
    assert rows[1]["connect_ms"] == 0.0


def test_lists_and_single_rows_say_the_same(rig: Rig) -> None:
    rig.first.behave(Behaviour(status=503))
    with RawClient(rig.sluice.port) as client:
        row = rig.row(call(client, "listed"))
    assert len(row["attempt_log"]) == 2
    listed = rig.sluice.api.get("/api/v1/ledger", params={"id_prefix": row["id"]}).raise_for_status().json()["items"]
    assert listed == [row]
    exported = rig.sluice.api.get(
        "/api/v1/ledger/export", params={"id_prefix": row["id"], "format": "jsonl"}
    ).raise_for_status()
    assert [json.loads(line) for line in exported.text.splitlines()] == [row]
