"""Slow readers, slow providers and large bodies: memory stays bounded, and nothing is lost."""

import hashlib
import json
import socket
import time
from collections.abc import Iterator

import pytest

from tests.support import live
from tests.support.live import Live
from tests.support.processes import Process
from tests.support.provider import Provider
from tests.support.raw import RawAnswer, RawClient

KEY = "sk-test-pressure-0123456789"
MB = 1024 * 1024
GROWTH_BYTES = 24 * MB
"""What a worker may grow by while 20 to 64 MB pass: buffers and allocator slack, not the payload."""

pytestmark = pytest.mark.serial


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture(scope="module")
def sluice(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Live]:
    yaml = f"""
providers:
  - {{name: up, dialect: openai, base_url: {provider.url}}}
  - {{name: web, dialect: http, base_url: {provider.url}}}
routes:
  - {{name: chat, targets: [{{provider: up, model: chat}}]}}
  - {{name: long-model-name, targets: [{{provider: up, model: m}}]}}
  - {{name: web, match: {{path: /web/}}, targets: [{{provider: web}}]}}
teams: [{{name: t, apps: [{{name: a, routes: "*", keys: [{{name: k, value: {KEY}}}]}}]}}]
"""
    env = {"SLUICEGATE_MAX_BODY_BYTES": str(40 * MB)}
    with live.gateway(tmp_path_factory.mktemp("pressure"), yaml, env=env) as running:
        yield running


@pytest.fixture(autouse=True)
def _clean(provider: Provider) -> None:
    provider.forget()
    provider.read_gap_s = 0.0


@pytest.fixture
def worker(sluice: Live) -> Process:
    return sluice.workers()[0]


def chat(sluice: Live, body: bytes) -> RawAnswer:
    with RawClient(sluice.port, timeout_s=60) as client:
        return client.post("/v1/chat/completions", body, f"authorization: Bearer {KEY}")


def large_body(megabytes: int, model: str, *, model_last: bool = True) -> bytes:
    image = b"data:image/png;base64," + b"iVBORw0KGgo" * (megabytes * MB // 11)
    name = json.dumps(model).encode()
    part = b'[{"role":"user","content":[{"type":"image_url","image_url":{"url":"' + image + b'"}}]}]'
    return b'{"messages":%b,"model":%b}' % (part, name) if model_last else b'{"model":%b,"messages":%b}' % (name, part)


@pytest.mark.parametrize("model_last", [True, False], ids=["model last", "model first"])
def test_large_bodies_are_routed_and_rewritten(
    sluice: Live, provider: Provider, worker: Process, model_last: bool
) -> None:
    body = large_body(20, "long-model-name", model_last=model_last)
    expected = large_body(20, "m", model_last=model_last)
    resident = worker.resident_bytes
    answer = chat(sluice, body)
    assert answer.status == 200, answer
    assert hashlib.sha256(provider.last.body).digest() == hashlib.sha256(expected).digest()
    assert worker.resident_bytes - resident < GROWTH_BYTES
    row = sluice.row(answer.header("x-request-id"))
    assert (row["route"], row["target"]) == ("long-model-name", "up/m")


def test_large_bodies_can_be_sent_again(sluice: Live, provider: Provider) -> None:
    provider.behave(status=503, times=1)
    body = large_body(5, "chat")
    assert chat(sluice, body).status == 200
    assert [len(request.body) for request in provider.requests] == [len(body)] * 2
    assert provider.requests[0].body == provider.requests[1].body == body


@pytest.mark.parametrize("announced", [True, False], ids=["content-length", "chunked"])
def test_too_large_a_body_is_413_and_not_swallowed(
    sluice: Live, provider: Provider, worker: Process, announced: bool
) -> None:
    resident = worker.resident_bytes
    with RawClient(sluice.port, timeout_s=30) as client:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n".encode()
        framing = b"content-length: %d\r\n\r\n" % (41 * MB) if announced else b"transfer-encoding: chunked\r\n\r\n"
        try:
            client.send(head + framing)
            for _ in range(42):
                client.send(b"x" * MB if announced else b"100000\r\n" + b"x" * MB + b"\r\n")
        except OSError:
            pass  # it stopped listening to us, as it may
        answer = client.answer()
    assert answer.status == 413
    assert json.loads(answer.body)["error"]["code"] == "body_too_large"
    assert provider.requests == []
    assert worker.resident_bytes - resident < GROWTH_BYTES


def test_slow_provider_slows_the_upload(sluice: Live, provider: Provider, worker: Process) -> None:
    """64 KiB every 5 ms: an HTTP route's 30 MB upload waits in the client, not in the worker."""
    provider.read_gap_s = 0.005
    resident, largest = worker.resident_bytes, 0
    with RawClient(sluice.port, timeout_s=60) as client:
        head = f"POST /web/upload HTTP/1.1\r\nhost: g\r\nx-api-key: {KEY}\r\ncontent-length: {30 * MB}\r\n\r\n"
        client.send(head.encode())
        for number in range(30):
            client.send(bytes([number]) * MB)
            largest = max(largest, worker.resident_bytes)
        answer = client.answer()
    assert answer.status == 200
    assert largest - resident < GROWTH_BYTES
    assert provider.last.body == b"".join(bytes([number]) * MB for number in range(30))


@pytest.mark.parametrize("path", ["/web/big", "/v1/chat/completions"])
def test_slow_client_slows_the_provider(sluice: Live, provider: Provider, worker: Process, path: str) -> None:
    """64 MB go to a client that reads nothing for a while: the provider waits, and then all of it arrives."""
    piece = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"y" * 65000 + b'"}}]}\n\n'
    whole = piece * 1000
    provider.behave(path=path, body=whole, piece_bytes=len(piece), headers=((b"x-kind", b"big"),))
    resident = worker.resident_bytes
    with RawClient(sluice.port, timeout_s=60, receive_buffer_bytes=64 * 1024) as client:
        body = b'{"model":"chat","messages":[],"stream":true}'
        lines = [f"POST {path} HTTP/1.1", "host: g", f"authorization: Bearer {KEY}", f"content-length: {len(body)}"]
        client.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        head = client.answer(to_head=True)
        time.sleep(1.0)
        assert not provider.last.answered, "somebody swallowed 64 MB"
        assert worker.resident_bytes - resident < GROWTH_BYTES
        client._buffer = head.head + client._buffer  # read it again, with its body
        answer = client.answer()
    assert hashlib.sha256(answer.body).digest() == hashlib.sha256(whole).digest()


def test_many_slow_streams_stay_small(sluice: Live, provider: Provider, worker: Process) -> None:
    """30 clients that stopped reading 32 MB each (kernels buffer up to 14 on both legs): each costs buffers only."""
    piece = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"y" * 16000 + b'"}}]}\n\n'
    provider.behave(path="/v1/chat/completions", body=piece * 2000, piece_bytes=len(piece))
    resident, open_files = worker.resident_bytes, worker.open_files
    body = b'{"model":"chat","messages":[],"stream":true}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n".encode()
    clients = [RawClient(sluice.port, receive_buffer_bytes=8192) for _ in range(30)]
    for client in clients:
        client.send(head + b"content-length: %d\r\n\r\n" % len(body) + body)
    time.sleep(3.0)
    grown = worker.resident_bytes - resident
    for client in clients:
        client.reset()
    assert grown < 30 * 512 * 1024, f"{grown / MB:.0f} MB for 30 streams"
    assert not any(request.answered for request in provider.requests)
    sluice.until(
        lambda: worker.open_files < open_files + 10, 5, lambda: f"{worker.open_files} files, {open_files} before"
    )


def test_a_stalled_client_does_not_stop_the_others(sluice: Live, provider: Provider) -> None:
    piece = b"z" * 65536
    provider.behave(path="/web/big", body=piece * 500, piece_bytes=len(piece))
    stalled = socket.create_connection(("127.0.0.1", sluice.port))
    stalled.sendall(f"GET /web/big HTTP/1.1\r\nhost: g\r\nx-api-key: {KEY}\r\n\r\n".encode())
    time.sleep(0.3)
    begun = time.monotonic()
    for _ in range(20):
        assert chat(sluice, b'{"model":"chat","messages":[]}').status == 200
    assert time.monotonic() - begun < 2
    stalled.close()


@pytest.mark.parametrize("path", ["/web/part", "/v1/chat/completions"])
def test_a_client_that_is_slow_to_the_end_does_not_stop_the_next(sluice: Live, provider: Provider, path: str) -> None:
    """Whatever an answer's size, its last piece may be the one that fills the buffers: the provider's connection, which
    waits then, is read again for whoever has it next."""
    body = b'{"model":"chat","messages":[],"stream":true}'
    head = f"POST {path} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    piece = b'data: {"choices":[{"index":0,"delta":{"content":"' + b"y" * 16000 + b'"}}]}\n\n'
    for pieces in range(1, 400, 6):
        provider.behave(path=path, body=piece * pieces, piece_bytes=len(piece), times=1)
        with RawClient(sluice.port, receive_buffer_bytes=4096) as client:
            client.send(head.encode() + body)
            time.sleep(0.03)
            assert len(client.answer().body) == len(piece) * pieces
        with RawClient(sluice.port, timeout_s=3) as client:
            assert client.post(path, body, f"authorization: Bearer {KEY}").status == 200, f"after {pieces} pieces"
    assert len({request.connection for request in provider.requests}) < 10, "connections are used again"


def test_a_client_that_hesitates_gets_the_end_of_its_answer(sluice: Live, provider: Provider) -> None:
    """An answer that is over for us while its last piece waits for the client: it may take its time."""
    piece = b"z" * 50_000
    waiting = []
    for pieces in range(5, 165, 4):  # in one of these the end finds all buffers full, but for the last one
        provider.behave(path="/web/part", body=piece * pieces, times=1)
        client = RawClient(sluice.port, receive_buffer_bytes=4096)
        client.send(f"GET /web/part HTTP/1.1\r\nhost: g\r\nx-api-key: {KEY}\r\n\r\n".encode())
        waiting.append((client, len(piece) * pieces))
        sluice.until(lambda: len(provider.requests) == len(waiting), 5)
    time.sleep(2.5)  # the connections are looked at once a second
    for client, expected in waiting:
        with client:
            assert len(client.answer().body) == expected
