"""Calls after the first on a connection go the express way: what they do, answer and record is what the first did, and
whatever goes wrong with one of them ends as it would have on the ordinary way."""

import json
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support import live
from tests.support.live import Live
from tests.support.provider import Behaviour, Provider
from tests.support.raw import RawAnswer, RawClient

KEY = "sk-test-express-0123456789"
SECOND_KEY = "sk-test-express-second-0123456789"
CONFIGURATION = f"""
providers:
  - {{name: up, dialect: openai, base_url: UP/v1, credentials: [{{name: main, value: sk-express-provider-1}}]}}
  - {{name: other, dialect: openai, base_url: OTHER/v1}}
routes:
  - {{name: chat, retries: 0, timeout: {{first_byte: 700ms}}, targets: [{{provider: up, model: up-model}}]}}
  - {{name: unpriced, retries: 0, targets: [{{provider: other, model: unpriced}}]}}
  - {{name: two, retries: 1, targets: [{{provider: up, model: two}}, {{provider: other, model: two}}]}}
  - {{name: tight, retries: 0, targets: [{{provider: up, model: tight}}]}}
  - name: spread
    strategy: round-robin
    targets: [{{provider: up, model: spread}}, {{provider: other, model: spread}}]
teams:
  - name: t
    apps:
      - {{name: a, routes: "*", keys: [{{name: k, value: {KEY}}}]}}
      - {{name: b, routes: "*", keys: [{{name: k2, value: {SECOND_KEY}}}]}}
prices:
  - {{provider: up, model: "*", input: 1000000, output: 2000000, cached_input: 500000, reasoning: 3000000}}
limits:
  - {{name: many, scope: {{app: a}}, metric: requests, window: month, at_most: 1000000}}
  - {{name: tokens, scope: {{team: t}}, metric: total_tokens, window: month, at_most: 1000000000}}
  - {{name: parallel, scope: {{app: a}}, metric: concurrent_requests, at_most: 50}}
  - {{name: few, scope: {{route: tight}}, metric: requests, window: lifetime, at_most: 3}}
"""
SAME = (
    "team", "app", "key", "route", "target", "dialect", "model", "status", "input_tokens", "cached_tokens",
    "cache_write_tokens", "output_tokens", "reasoning_tokens", "cost_usd_micros", "upstream_status", "attempts",
    "outcome", "error_code", "estimated", "overrun", "stream", "client_request_id", "client_ip",
)  # fmt: skip


@pytest.fixture(scope="module")
def providers() -> Iterator[tuple[Provider, Provider]]:
    with Provider() as up, Provider() as other:
        yield up, other


@pytest.fixture(scope="module")
def sluice(tmp_path_factory: pytest.TempPathFactory, providers: tuple[Provider, Provider]) -> Iterator[Live]:
    folder: Path = tmp_path_factory.mktemp("express")
    yaml = CONFIGURATION.replace("UP", providers[0].url).replace("OTHER", providers[1].url)
    with live.gateway(folder, yaml) as running:
        yield running


@pytest.fixture
def up(providers: tuple[Provider, Provider]) -> Provider:
    for each in providers:
        each.forget()
    return providers[0]


def call(
    client: RawClient,
    route: str = "chat",
    *,
    key: str = KEY,
    request_id: str = "mine-1",
    in_pieces: bool = False,
    **fields: Any,
) -> RawAnswer:
    body = json.dumps(
        {"model": route, "max_tokens": 20, "messages": [{"role": "user", "content": "Say hello."}], **fields}
    ).encode()
    headers = (f"authorization: Bearer {key}", "content-type: application/json", f"x-request-id: {request_id}")
    if not in_pieces:
        return client.post("/v1/chat/completions", body, *headers)
    lines = ("POST /v1/chat/completions HTTP/1.1", "host: gateway", f"content-length: {len(body)}", *headers, "", "")
    client.send("\r\n".join(lines).encode() + body[:9], body[9:], gap_s=0.05)
    return client.answer()


def names_of(answer: RawAnswer) -> list[str]:
    return [line.partition(":")[0].lower() for line in answer.head.decode("latin-1").split("\r\n")[1:] if line]


@pytest.fixture
def client(sluice: Live, up: Provider) -> Iterator[RawClient]:
    """A connection whose next call goes the express way."""
    with RawClient(sluice.port) as connection:
        for route in ("chat", "two", "unpriced"):
            assert call(connection, route).status == 200
            assert call(connection, route).status == 200
        up.forget()
        yield connection


def rows_of(sluice: Live, *answers: RawAnswer) -> list[dict[str, Any]]:
    return [dict(sluice.row(answer.header("x-request-id"))) for answer in answers]


@pytest.mark.parametrize("route", ["chat", "unpriced", "two"])
def test_answers_and_rows_are_those_of_the_first_call(sluice: Live, up: Provider, route: str) -> None:
    with RawClient(sluice.port) as connection:
        answers = [call(connection, route) for _ in range(4)]
    first, *others = answers
    rows = rows_of(sluice, *answers)
    assert len({row["id"] for row in rows}) == 4
    for answer, row in zip(others, rows[1:], strict=True):
        assert answer.status == first.status == 200
        assert names_of(answer) == names_of(first)
        for name in ("x-sluicegate-route", "x-sluicegate-target", "x-sluicegate-cost-usd", "content-type"):
            assert answer.header(name) == first.header(name)
        assert {name: row[name] for name in SAME} == {name: rows[0][name] for name in SAME}
        assert row["latency_ms"] >= row["ttft_ms"] > 0


@pytest.mark.parametrize("stream", [False, True])
def test_the_first_call_on_another_connection_is_as_the_very_first(sluice: Live, up: Provider, stream: bool) -> None:
    """What was worked out for a head is at hand for all connections that send it."""
    answers = []
    for in_pieces in (True, False, False, True):
        with RawClient(sluice.port) as connection:
            how = {"request_id": f"first-{stream}", "in_pieces": in_pieces, "stream": stream}
            answers += [call(connection, **how), call(connection, **how)]
    rows = rows_of(sluice, *answers)
    assert len({row["id"] for row in rows}) == len(answers)
    for answer, row in zip(answers, rows, strict=True):
        assert answer.status == 200
        assert answer.body == answers[0].body
        assert names_of(answer) == names_of(answers[0])
        assert {name: row[name] for name in SAME} == {name: rows[0][name] for name in SAME}


def test_a_known_head_does_not_outlive_its_key(sluice: Live, up: Provider) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=3)
    wanted = {"app": "a", "name": "short", "expires_at": ends.isoformat()}
    key = sluice.api.post("/api/v1/keys", json=wanted).raise_for_status().json()["key"]
    with RawClient(sluice.port) as connection:
        sluice.until(lambda: call(connection, key=key).status == 200, within_s=2.5)
        with RawClient(sluice.port) as other:
            assert call(other, key=key).status == 200
        sluice.until(lambda: datetime.now(UTC) > ends, within_s=5)
        assert call(connection, key=key).status == 401
        for in_pieces in (False, True):
            with RawClient(sluice.port) as other:
                assert call(other, key=key, in_pieces=in_pieces).status == 401


def test_the_upstream_sees_the_same_request(client: RawClient, providers: tuple[Provider, Provider]) -> None:
    up = providers[0]
    call(client)
    call(client, temperature=0.5)
    first, second = up.requests[-2:]
    length = b"content-length"
    assert [pair for pair in first.headers if pair[0] != length] == [
        pair for pair in second.headers if pair[0] != length
    ]
    assert second.json["temperature"] == 0.5
    assert first.json["model"] == second.json["model"] == "up-model"
    assert KEY not in repr((first, second))


@pytest.mark.parametrize(("status", "seen"), [(400, 400), (404, 404), (500, 502), (503, 502), (401, 502)])
def test_refusals_of_the_upstream(sluice: Live, up: Provider, status: int, seen: int) -> None:
    with RawClient(sluice.port) as connection:
        assert call(connection, "two").status == call(connection, "two").status == 200
        up.behave(Behaviour(status=status), model="two", times=1)
        answer = call(connection, "two")
        if status < 500 and status != 401:
            assert answer.status == seen
        else:
            assert answer.status == 200  # the other target answered
            assert answer.header("x-sluicegate-target") == "other/two"
        [row] = rows_of(sluice, answer)
        assert row["attempts"] == (1 if answer.status == seen else 2)


def test_a_stream_after_plain_calls(sluice: Live, client: RawClient) -> None:
    answer = call(client, stream=True)
    assert answer.status == 200
    assert answer.body.rstrip().endswith(b"data: [DONE]")
    [row] = rows_of(sluice, answer)
    assert row["stream"]
    assert row["output_tokens"] > 0
    assert call(client).status == 200


def test_no_answer_in_time(sluice: Live, client: RawClient, up: Provider) -> None:
    up.behave(Behaviour(head_delay_s=5.0), model="up-model", times=1)
    answer = call(client)
    assert answer.status == 504
    [row] = rows_of(sluice, answer)
    assert (row["outcome"], row["attempts"]) == ("upstream_failed", 1)
    assert call(client).status == 200


def test_a_pooled_connection_that_died_costs_no_retry(sluice: Live, client: RawClient, up: Provider) -> None:
    up.drop_connections()
    answer = call(client)
    assert answer.status == 200
    assert rows_of(sluice, answer)[0]["attempts"] == 1


def test_a_caller_that_leaves_cancels_the_upstream(sluice: Live, up: Provider) -> None:
    with RawClient(sluice.port) as connection:
        call(connection)
        sluice.row(call(connection).header("x-request-id"))
        up.behave(Behaviour(head_delay_s=5.0), model="up-model", times=1)
        before = len(sluice.ledger())
        body = json.dumps({"model": "chat", "max_tokens": 20, "messages": [{"role": "user", "content": "x"}]}).encode()
        connection.send(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
            + f"authorization: Bearer {KEY}\r\ncontent-type: application/json\r\n".encode()
            + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        time.sleep(0.2)
    rows = sluice.wait_for_rows(before + 1)
    newest = max(rows, key=lambda row: row["started_at_ns"])
    assert newest["outcome"] == "client_gone"


def test_limits_refuse_on_the_express_way_too(sluice: Live, up: Provider) -> None:
    with RawClient(sluice.port) as connection:
        statuses = [call(connection, "tight", key=SECOND_KEY).status for _ in range(6)]
    assert statuses == [200, 200, 200, 429, 429, 429]
    state = sluice.api.get("/api/v1/limits/few/state").json()
    assert (state["used"], state["reserved"]) == (3, 0)


def test_strategies_have_their_say(sluice: Live, providers: tuple[Provider, Provider], up: Provider) -> None:
    with RawClient(sluice.port) as connection:
        targets = [call(connection, "spread").header("x-sluicegate-target") for _ in range(8)]
    assert targets[:2] * 4 == targets
    assert set(targets) == {"up/spread", "other/spread"}


def test_slots_come_back(sluice: Live, client: RawClient) -> None:
    for _ in range(120):  # more than the limit on parallel requests has slots
        assert call(client).status == 200
    assert sluice.api.get("/api/v1/limits/parallel/state").json()["reserved"] == 0


def test_a_caller_that_reads_late_gets_each_answer_once(sluice: Live, up: Provider) -> None:
    """Answers add up until the client's connection takes no more: the one that fills it has been settled by then."""
    text = json.dumps("y" * 60_000)
    body = f"""{{"id": "c", "object": "chat.completion", "created": 1, "model": "up-model", "choices": [{{"index": 0,
        "message": {{"role": "assistant", "content": {text}}}, "finish_reason": "stop"}}],
        "usage": {{"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}}}}"""
    up.behave(path="/v1/chat/completions", body=body.encode())
    asked = json.dumps({"model": "chat", "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n".encode()
    request = head + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(asked) + asked
    with RawClient(sluice.port, receive_buffer_bytes=4096) as late:
        for _ in range(90):
            late.send(request)
            time.sleep(0.01)
        answers = [late.answer() for _ in range(90)]
    assert {answer.status for answer in answers} == {200}
    assert len(up.requests) == 90
    rows = rows_of(sluice, *answers)
    assert len({row["id"] for row in rows}) == 90
    assert {(row["status"], row["outcome"], row["output_tokens"]) for row in rows} == {(200, "completed", 4)}
    sluice.until(lambda: sluice.api.get("/api/v1/limits/parallel/state").json()["reserved"] == 0, 5)


def test_a_head_that_differs_is_looked_at(sluice: Live, client: RawClient) -> None:
    assert call(client, key="sk-nobody-knows-0123456789").status == 401
    assert call(client).status == 200
    assert rows_of(sluice, call(client, key=SECOND_KEY))[0]["app"] == "b"
    assert rows_of(sluice, call(client))[0]["app"] == "a"


def test_drained_in_mid_call(tmp_path: Path, up: Provider) -> None:
    yaml = CONFIGURATION.replace("UP", up.url).replace("OTHER", up.url)
    with live.gateway(tmp_path, yaml) as running:
        with RawClient(running.port) as connection:
            assert call(connection).status == call(connection).status == 200
            up.behave(Behaviour(head_delay_s=0.4), model="up-model", times=1)
            body = b'{"model":"chat","max_tokens":9,"messages":[]}'
            connection.send(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
                + f"authorization: Bearer {KEY}\r\ncontent-type: application/json\r\n".encode()
                + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            time.sleep(0.1)
            running.signal(signal.SIGTERM)
            answer = connection.answer()
            assert answer.status == 200
            assert connection.read_to_end() == b""
