"""Realtime sessions: OpenAI's SDK and bare WebSockets through the gateway, limits that hold within a session."""

import asyncio
import json
import signal
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import openai
import pytest
import websockets
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.support import live
from tests.support.live import Live, Row
from tests.support.raw import RawClient
from tests.support.realtime import USUAL, RealtimeProvider
from tests.support.shapes import Tokens

KEY = "sk-test-realtime-ci-0123456789"
TIGHT_KEY = "sk-test-realtime-tight-0123456789"
FEW_KEY = "sk-test-realtime-few-0123456789"
SECRET = "sk-realtime-secret-of-the-gateway"
COST = (132 - 64) * 4 + 64 * 0.4 + 121 * 16


@pytest.fixture(scope="module")
def upstream() -> Iterator[RealtimeProvider]:
    with RealtimeProvider() as running:
        yield running


@pytest.fixture(scope="module")
def sluice(tmp_path_factory: pytest.TempPathFactory, upstream: RealtimeProvider) -> Iterator[Live]:
    yaml = f"""
providers:
  - {{name: up, dialect: openai, base_url: "{upstream.url}", credentials: [{{name: main, value: {SECRET}}}]}}
  - {{name: claude, dialect: anthropic, base_url: "{upstream.url}"}}
routes:
  - {{name: voice, targets: [{{provider: up, model: gpt-realtime}}], max_output_tokens: 200}}
  - {{name: sonnet, targets: [{{provider: claude, model: sonnet}}]}}
teams:
  - name: t
    apps:
      - {{name: a, routes: "*", keys: [{{name: k, value: {KEY}}}]}}
      - {{name: tight, routes: "*", keys: [{{name: l, value: {TIGHT_KEY}}}]}}
      - {{name: few, routes: [sonnet], keys: [{{name: f, value: {FEW_KEY}}}]}}
prices:
  - {{provider: up, model: "*", input: 4000000, output: 16000000, cached_input: 400000}}
limits:
  - {{name: all, scope: {{app: a}}, metric: total_tokens, window: month, at_most: 100000000}}
  - {{name: spend, scope: {{app: a}}, metric: cost_usd, window: month, at_most: 1000}}
  - {{name: seats, scope: {{app: a}}, metric: concurrent_requests, at_most: 3}}
  - {{name: few-tokens, scope: {{app: tight}}, metric: total_tokens, window: lifetime, at_most: 1000}}
"""
    with live.gateway(tmp_path_factory.mktemp("realtime"), yaml) as running:
        yield running


@pytest.fixture(autouse=True)
def _clean(upstream: RealtimeProvider) -> None:
    upstream.forget()


def dial(sluice: Live, query: str = "model=voice", key: str | None = KEY, **options: Any) -> ClientConnection:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    url = sluice.url.replace("http", "ws") + "/v1/realtime?" + query
    return connect(url, additional_headers=headers, max_size=None, **options)


def say(session: ClientConnection, kind: str, **more: Any) -> None:
    session.send(json.dumps({"type": kind, **more}))


def hear_until(session: ClientConnection, kind: str) -> list[dict[str, Any]]:
    heard = [json.loads(session.recv(10))]
    while heard[-1]["type"] != kind:
        heard.append(json.loads(session.recv(10)))
    return heard


def row_of(sluice: Live, session: ClientConnection) -> Row:
    assert session.response is not None
    return sluice.row(session.response.headers["x-request-id"])


def test_the_sdk(sluice: Live, upstream: RealtimeProvider) -> None:
    with openai.OpenAI(base_url=sluice.url + "/v1", api_key=KEY).realtime.connect(model="voice") as session:
        session.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        texts = []
        for _ in range(2):
            session.response.create()
            for event in session:
                if event.type == "response.output_text.delta":
                    texts.append(event.delta)
                if event.type == "response.done":
                    assert event.response.usage is not None
                    assert event.response.usage.output_tokens == USUAL.output
                    break
    assert texts == [' "response.done" '] * 6
    assert upstream.last.path == "/v1/realtime?model=gpt-realtime"
    assert upstream.last.headers["authorization"] == f"Bearer {SECRET}"
    assert "sec-websocket-extensions" not in upstream.last.headers
    assert [event["type"] for event in upstream.last.events] == ["session.update", "response.create", "response.create"]
    row = sluice.wait_for_rows(1)[0]
    assert (row["input_tokens"], row["output_tokens"]) == (upstream.input_tokens, upstream.output_tokens)
    assert row["cached_tokens"] == 2 * USUAL.cached
    assert row["cost_usd_micros"] == round(2 * COST)
    assert (row["route"], row["target"], row["dialect"], row["status"]) == ("voice", "up/gpt-realtime", "openai", 101)
    assert (row["outcome"], row["stream"], row["attempts"], row["estimated"]) == ("completed", True, 1, False)
    assert row["overrun"] == 0 + max(0, 132 + 121 - 200)  # the first response's input could not be known


def test_the_async_sdk_under_the_prefix(sluice: Live, upstream: RealtimeProvider) -> None:
    async def talk() -> str:
        client = openai.AsyncOpenAI(base_url=sluice.url + "/openai/v1", api_key=KEY)
        async with client.realtime.connect(model="voice") as session:
            await session.response.create()
            async for event in session:
                if event.type == "response.done":
                    return event.response.status or ""
        return ""

    assert asyncio.run(talk()) == "completed"
    assert upstream.last.closed.wait(5)
    assert upstream.last.close_code == 1000


def test_the_key_as_a_subprotocol(sluice: Live, upstream: RealtimeProvider) -> None:
    """As browsers must send it: it stays here."""
    with dial(sluice, key=None, subprotocols=["realtime", f"openai-insecure-api-key.{KEY}"]) as session:  # type: ignore[list-item]
        assert session.subprotocol == "realtime"
    assert upstream.last.headers["sec-websocket-protocol"] == "realtime"
    assert upstream.last.headers["authorization"] == f"Bearer {SECRET}"
    assert KEY not in str(upstream.last.headers)


def test_frames_pass_untouched_and_closes_too(sluice: Live, upstream: RealtimeProvider) -> None:
    with dial(sluice) as session:
        say(session, "response.create", response={"metadata": {"pad": "300000"}})
        done = hear_until(session, "response.done")[-1]
        assert len(done["response"]["output"][0]["pad"]) == 300_000
        say(session, "input_audio_buffer.commit")
        assert hear_until(session, "conversation.item.input_audio_transcription.completed")
        say(session, "conversation.item.create")
        with pytest.raises(ConnectionClosed):
            session.recv(10)
        assert (session.close_code, session.close_reason) == (4000, "you asked me to go")
    row = row_of(sluice, session)
    assert (row["input_tokens"], row["output_tokens"]) == (132 + 22, 121 + 13)
    assert (row["outcome"], row["estimated"]) == ("completed", False)


def test_the_clients_close_reaches_the_provider(sluice: Live, upstream: RealtimeProvider) -> None:
    session = dial(sluice)
    session.close(4001, "enough")
    assert upstream.last.closed.wait(5)
    assert (upstream.last.close_code, upstream.last.close_reason) == (4001, "enough")
    assert row_of(sluice, session)["outcome"] == "completed"


def test_a_limit_reached_within_a_session_ends_it(sluice: Live, upstream: RealtimeProvider) -> None:
    """1000 tokens: the first response reserves 200, each next one what was said before and 200 more."""
    upstream.tokens = Tokens(input=150, output=100)
    responses = 0
    with dial(sluice, key=TIGHT_KEY) as session:
        while True:
            try:
                say(session, "response.create")
                events = []
                while not events or events[-1]["type"] not in ("response.done", "error"):
                    events.append(json.loads(session.recv(10)))
            except ConnectionClosed:
                break
            if events[-1]["type"] == "response.done":
                responses += 1
                continue
            assert events[-1]["error"]["code"] == "limit_exceeded"
            assert "few-tokens" in events[-1]["error"]["message"]
        assert session.close_code == 1008
        assert session.close_reason.startswith("limit_exceeded: limit few-tokens")
    assert upstream.last.closed.wait(5)
    row = row_of(sluice, session)
    assert (row["input_tokens"], row["output_tokens"]) == (upstream.input_tokens, upstream.output_tokens)
    assert (row["outcome"], row["error_code"], row["status"]) == ("refused", "limit_exceeded", 101)
    assert responses == 3
    used = 3 * 250
    sluice.until(lambda: sluice.api.get("/api/v1/limits/few-tokens/state").json()["used"] == used, 3)
    assert sluice.api.get("/api/v1/limits/few-tokens/state").json()["reserved"] == 0

    upstream.tokens = Tokens(input=10, output=60)
    with dial(sluice, key=TIGHT_KEY) as session:  # 200 of the 250 left
        say(session, "response.create")
        hear_until(session, "error")
    with pytest.raises(InvalidStatus) as refused:
        dial(sluice, key=TIGHT_KEY)
    assert refused.value.response.status_code == 429
    told = json.loads(refused.value.response.body or b"")
    assert (told["error"]["code"], told["error"]["sluicegate"]["limit"]) == ("limit_exceeded", "few-tokens")


def test_each_response_is_charged_as_it_passes(sluice: Live, upstream: RealtimeProvider) -> None:
    state = lambda: sluice.api.get("/api/v1/limits/all/state").json()  # noqa: E731
    sluice.until(lambda: state()["reserved"] == 0, 3)
    before = state()["used"]
    with dial(sluice) as session:
        say(session, "response.create")
        hear_until(session, "response.done")
        taken = lambda: state()["used"] + state()["reserved"] - before  # noqa: E731
        sluice.until(lambda: taken() == 253 + (253 + 200), 3)  # used, and what the next one may
    sluice.until(lambda: (state()["used"], state()["reserved"]) == (before + 253, 0), 3)


def test_seats_are_held_for_the_session(sluice: Live, upstream: RealtimeProvider) -> None:
    sessions = [dial(sluice) for _ in range(3)]
    for session in sessions:
        say(session, "response.create")
        hear_until(session, "response.done")
    with pytest.raises(InvalidStatus) as refused:
        dial(sluice)
    assert refused.value.response.status_code == 429
    for session in sessions:
        session.close()
    sluice.until(lambda: sluice.api.get("/api/v1/limits/seats/state").json()["reserved"] == 0, 3)
    dial(sluice).close()


def test_a_response_cut_short_is_estimated(sluice: Live, upstream: RealtimeProvider) -> None:
    """Three pieces of text, two of speech with five tokens each."""
    session = dial(sluice)
    say(session, "response.create", response={"metadata": {"hang": "yes"}})
    for _ in range(7):
        session.recv(10)
    session.socket.close()
    row = row_of(sluice, session)
    assert (row["outcome"], row["estimated"]) == ("client_gone", True)
    assert row["output_tokens"] in range(3 + 10, 3 + 10 + 2)
    assert upstream.last.closed.wait(5)


def test_a_provider_that_drops(sluice: Live, upstream: RealtimeProvider) -> None:
    with dial(sluice) as session:
        say(session, "response.create", response={"metadata": {"drop": "yes"}})
        with pytest.raises(ConnectionClosed):
            hear_until(session, "response.done")
    assert row_of(sluice, session)["outcome"] == "upstream_failed"


@pytest.mark.parametrize(
    ("query", "key", "status", "code"),
    [
        ("model=voice", "sk-unknown", 401, "invalid_api_key"),
        ("model=voice", None, 401, "invalid_api_key"),
        ("model=voice", FEW_KEY, 403, "route_not_allowed"),
        ("model=nobody", KEY, 404, "route_not_found"),
        ("model=sonnet", KEY, 400, "dialect_unsupported"),
        ("", KEY, 400, "bad_request"),
        ("model=voice&model=voice", KEY, 400, "bad_request"),
    ],
)
def test_refusals_before_the_upgrade(
    sluice: Live, upstream: RealtimeProvider, query: str, key: str | None, status: int, code: str
) -> None:
    with pytest.raises(InvalidStatus) as refused:
        dial(sluice, query, key)
    assert refused.value.response.status_code == status
    assert json.loads(refused.value.response.body or b"")["error"]["code"] == code
    assert upstream.sessions == []


@pytest.mark.parametrize(("answers", "status"), [(401, 502), (503, 502), (404, 404), (429, 429)])
def test_refusals_of_the_provider(sluice: Live, upstream: RealtimeProvider, answers: int, status: int) -> None:
    upstream.refuse_with = answers
    try:
        with pytest.raises(InvalidStatus) as refused:
            dial(sluice)
        assert refused.value.response.status_code == status
        assert SECRET not in str(refused.value.response)
    finally:
        upstream.refuse_with = None


def test_without_an_upgrade(sluice: Live) -> None:
    answer = httpx2.get(sluice.url + "/v1/realtime?model=voice", headers={"authorization": f"Bearer {KEY}"})
    assert answer.status_code == 400
    assert "WebSocket" in answer.json()["error"]["message"]


def test_a_frame_that_is_none_ends_the_session(sluice: Live, upstream: RealtimeProvider) -> None:
    head = (
        "GET /v1/realtime?model=voice HTTP/1.1\r\nhost: g\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
        "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"authorization: Bearer {KEY}\r\n\r\n"
    )
    with RawClient(sluice.port) as client:
        client.send(head.encode() + b"\x81\x02hi")  # not masked
        received = client.read_to_end()
    assert b"\x03\xeaa WebSocket frame is not masked" in received


def test_a_killed_worker_leaves_what_was_used(sluice: Live, upstream: RealtimeProvider) -> None:
    with dial(sluice) as session:
        say(session, "response.create")
        hear_until(session, "response.done")
        time.sleep(0.2)
        sluice.workers()[0].kill(signal.SIGKILL)
        with pytest.raises(ConnectionClosed):
            session.recv(10)
    assert session.response is not None
    row = sluice.row(session.response.headers["x-request-id"], within_s=120)
    assert (row["outcome"], row["estimated"]) == ("interrupted", True)
    assert (row["input_tokens"], row["output_tokens"]) == (USUAL.input, USUAL.output)
    sluice.wait_ready(240)


def test_a_drain_says_goodbye(sluice: Live, upstream: RealtimeProvider) -> None:
    """The last test of this gateway: it stops it."""
    with dial(sluice) as session:
        session.recv(10)
        sluice.signal(signal.SIGTERM)
        with pytest.raises(websockets.ConnectionClosed):
            session.recv(30)
        assert session.close_code == 1001
    assert row_of(sluice, session)["outcome"] == "interrupted"
