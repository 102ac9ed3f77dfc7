"""Each timeout of a route, alone: connect, first byte, idle, total. All end in 504, or in an error event."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support import live
from tests.support.live import Live
from tests.support.provider import Provider
from tests.support.raw import RawClient
from tests.support.shapes import Tokens

KEY = "sk-test-timeouts-0123456789"
MARGIN_S = 1.5
"""How much later than its timeout an answer may come on a busy machine."""


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture(scope="module")
def deaf_port() -> Iterator[int]:
    """A port whose backlog is full: SYNs are dropped, as behind a firewall."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        held = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            held.append(filler)
        yield port
        for filler in held:
            filler.close()


@pytest.fixture(scope="module")
def full_port() -> Iterator[int]:
    """A port where connections are accepted and nothing is ever read: an upload stalls once the buffers are full."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        yield listener.getsockname()[1]


@pytest.fixture(scope="module")
def sluice(
    tmp_path_factory: pytest.TempPathFactory, provider: Provider, deaf_port: int, full_port: int
) -> Iterator[Live]:
    yaml = f"""
providers:
  - {{name: up, dialect: openai, base_url: {provider.url}}}
  - {{name: deaf, dialect: openai, base_url: "http://127.0.0.1:{deaf_port}"}}
  - {{name: web, dialect: http, base_url: {provider.url}}}
  - {{name: full, dialect: openai, base_url: "http://127.0.0.1:{full_port}"}}
  - {{name: full-web, dialect: http, base_url: "http://127.0.0.1:{full_port}"}}
routes:
  - {{name: connect, retries: 0, timeout: {{connect: 300ms}}, targets: [{{provider: deaf, model: m}}]}}
  - {{name: first-byte, retries: 0, timeout: {{first_byte: 300ms}}, targets: [{{provider: up, model: first-byte}}]}}
  - {{name: idle, retries: 0, timeout: {{idle: 300ms}}, targets: [{{provider: up, model: idle}}]}}
  - {{name: total, retries: 5, timeout: {{total: 600ms}}, targets: [{{provider: up, model: total}}]}}
  - {{name: web, match: {{path: /web/}}, retries: 0, timeout: {{first_byte: 300ms}}, targets: [{{provider: web}}]}}
  - {{name: full, retries: 0, timeout: {{idle: 500ms, first_byte: 60s}}, targets: [{{provider: full, model: m}}]}}
  - name: full-web
    match: {{path: /full/}}
    retries: 0
    timeout: {{idle: 500ms, first_byte: 60s}}
    targets: [{{provider: full-web}}]
  - name: connect-total
    retries: 5
    timeout: {{connect: 30s, total: 600ms}}
    targets: [{{provider: deaf, model: n}}]
  - name: full-first
    timeout: {{idle: 500ms, first_byte: 60s}}
    targets: [{{provider: full, model: o}}, {{provider: up, model: o}}]
teams: [{{name: t, apps: [{{name: a, routes: "*", keys: [{{name: k, value: {KEY}}}]}}]}}]
"""
    with live.gateway(tmp_path_factory.mktemp("timeouts"), yaml) as running:
        yield running


@pytest.fixture(autouse=True)
def _clean(provider: Provider) -> None:
    provider.forget()


def ask(sluice: Live, route: str, stream: bool = False) -> RawClient:
    client = RawClient(sluice.port)
    body = json.dumps({"model": route, "messages": [], "stream": stream}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n"
    client.send(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
    return client


@pytest.mark.parametrize(
    ("route", "behaviour", "timeout_s"),
    [
        ("connect", {}, 0.3),
        ("first-byte", {"hang": True}, 0.3),
        ("connect-total", {}, 0.6),
        ("total", {"hang": True}, 0.6),
        ("total", {"head_delay_s": 5.0}, 0.6),
    ],
)
def test_no_answer_in_time_is_504(
    sluice: Live, provider: Provider, route: str, behaviour: dict[str, object], timeout_s: float
) -> None:
    provider.behave(**behaviour)
    begun = time.monotonic()
    with ask(sluice, route) as client:
        answer = client.answer()
    took_s = time.monotonic() - begun
    error = json.loads(answer.body)["error"]
    assert (answer.status, error["code"]) == (504, "upstream_timeout")
    assert timeout_s <= took_s < timeout_s + MARGIN_S
    row = sluice.row(answer.header("x-request-id"))
    assert (row["status"], row["outcome"], row["attempts"]) == (504, "upstream_failed", 1)
    if provider.requests:
        assert provider.last.aborted.wait(2), "the upstream connection stays open"


def test_idle_stream_is_ended(sluice: Live, provider: Provider) -> None:
    provider.behave(hang_after_pieces=5, tokens=Tokens(output=10))
    begun = time.monotonic()
    with ask(sluice, "idle", stream=True) as client:
        head = client.answer(to_head=True)
        rest = client.read_to_end()
    assert 0.3 <= time.monotonic() - begun < 0.3 + MARGIN_S
    assert rest.count(b'"content":" token"') == 4
    assert b"upstream_timeout" in rest
    row = sluice.row(head.header("x-request-id"))
    assert (row["outcome"], row["error_code"], row["output_tokens"]) == ("upstream_failed", "upstream_timeout", 4)


def test_a_steady_stream_outlives_the_idle_timeout(sluice: Live, provider: Provider) -> None:
    """0.1 s between events, 0.3 s idle timeout, 1.2 s in all."""
    provider.behave(gap_s=0.1, tokens=Tokens(output=10))
    with ask(sluice, "idle", stream=True) as client:
        assert client.answer().body.endswith(b"data: [DONE]\n\n")


def test_a_stream_ends_at_the_total_timeout(sluice: Live, provider: Provider) -> None:
    provider.behave(gap_s=0.05, tokens=Tokens(output=100))
    begun = time.monotonic()
    with ask(sluice, "total", stream=True) as client:
        client.answer(to_head=True)
        rest = client.read_to_end()
    assert 0.6 <= time.monotonic() - begun < 0.6 + MARGIN_S
    assert b"[DONE]" not in rest
    assert provider.last.aborted.wait(2)


def test_http_routes_time_out_too(sluice: Live, provider: Provider) -> None:
    provider.behave(hang=True)
    with RawClient(sluice.port) as client:
        client.send(f"GET /web/x HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n\r\n".encode())
        assert client.answer().status == 504


def large_call(route: str) -> bytes:
    filler = "word " * (8 * 1024 * 1024 // 5)
    return json.dumps({"model": route, "messages": [{"role": "user", "content": filler}], "max_tokens": 5}).encode()


def test_an_upload_that_the_upstream_does_not_take_is_504_or_moves_on(sluice: Live) -> None:
    """Eight megabytes; the upstream reads none of them. The first byte's own minute does not matter."""
    for route, wanted in (("full", 504), ("full-first", 200)):
        begun = time.monotonic()
        with RawClient(sluice.port, timeout_s=60) as client:
            answer = client.post("/v1/chat/completions", large_call(route), f"authorization: Bearer {KEY}")
        assert answer.status == wanted, answer.body[:300]
        assert time.monotonic() - begun < 45
    assert answer.header("x-sluicegate-target") == "up/o"


def test_an_upload_through_an_http_route_stalls_and_is_504(sluice: Live) -> None:
    """Streamed as it comes: what the upstream does not take, the client cannot send."""
    with RawClient(sluice.port, timeout_s=60) as client:
        client.send(f"PUT /full/x HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n".encode())
        client.send(b"content-length: 50000000\r\n\r\n")
        sender = threading.Thread(target=_send_quietly, args=(client, bytes(50_000_000)), daemon=True)
        sender.start()
        assert client.answer().status == 504
    sender.join(10)


def _send_quietly(client: RawClient, payload: bytes) -> None:
    with contextlib.suppress(OSError):
        client.send(payload)


def test_slow_heads_do_not_hold_a_connection_for_ever(sluice: Live) -> None:
    """The head must be whole within the gateway's own bound; a trickle does not extend it."""
    begun = time.monotonic()
    with RawClient(sluice.port, timeout_s=40) as client:
        client.send(b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n")
        said = client.read_to_end()
    assert said.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - begun < 35
