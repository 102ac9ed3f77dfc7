"""Keep-alive connections to a provider: used again, and safe when they have died in the pool (RFC 9112 9.3.1)."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.support import live
from tests.support.live import Live
from tests.support.provider import Provider
from tests.support.raw import RawAnswer, RawClient

KEY = "sk-test-pool-0123456789"


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
  - {{name: chat, retries: 0, targets: [{{provider: up, model: chat}}]}}
  - {{name: retried, retries: 1, targets: [{{provider: up, model: retried}}]}}
  - {{name: web, retries: 0, match: {{path: /web/}}, targets: [{{provider: web}}]}}
teams: [{{name: t, apps: [{{name: a, routes: "*", keys: [{{name: k, value: {KEY}}}]}}]}}]
"""
    with live.gateway(tmp_path_factory.mktemp("pool"), yaml) as running:
        yield running


@pytest.fixture(autouse=True)
def _clean(provider: Provider) -> None:
    provider.drop_connections()
    provider.forget()
    time.sleep(0.05)


def chat(sluice: Live, model: str = "chat", stream: bool = False) -> RawAnswer:
    with RawClient(sluice.port) as client:
        body = json.dumps({"model": model, "messages": [], "stream": stream}).encode()
        return client.post("/v1/chat/completions", body, f"authorization: Bearer {KEY}")


def web(sluice: Live, method: str, body: bytes = b"") -> RawAnswer:
    with RawClient(sluice.port) as client:
        head = f"{method} /web/x HTTP/1.1\r\nhost: g\r\nx-api-key: {KEY}\r\n"
        client.send(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        return client.answer()


def test_connections_are_used_again(sluice: Live, provider: Provider) -> None:
    opened = provider.connections
    assert [chat(sluice, stream=bool(number % 2)).status for number in range(20)] == [200] * 20
    assert provider.connections == opened + 1


def test_close_is_obeyed(sluice: Live, provider: Provider) -> None:
    opened = provider.connections
    provider.behave(close_after=True)
    assert [chat(sluice).status for _ in range(3)] == [200] * 3
    assert provider.connections == opened + 3


def test_connections_closed_while_idle_cost_nothing(sluice: Live, provider: Provider) -> None:
    """A provider that closes after each answer without saying so: no error even with no retries."""
    provider.behave(close_silently=True)
    for _ in range(30):
        answer = chat(sluice)
        assert answer.status == 200
    assert sluice.row(answer.header("x-request-id"))["attempts"] == 1


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_idempotent_requests_survive_a_connection_that_dies(sluice: Live, provider: Provider, method: str) -> None:
    """It was alive in the pool and died with the request on it: sent once more on a fresh one, which is no retry."""
    assert web(sluice, "GET").status == 200
    provider.behave(path="/web/x", drop=True, times=1)
    answer = web(sluice, method) if method != "HEAD" else None
    if answer is not None:
        assert answer.status == 200
    else:
        with RawClient(sluice.port) as client:
            client.send(f"HEAD /web/x HTTP/1.1\r\nhost: g\r\nx-api-key: {KEY}\r\n\r\n".encode())
            assert client.answer(to_head=True).status == 200
    assert [request.method for request in provider.requests[1:]] == [method] * 2
    assert provider.requests[-1].connection != provider.requests[-2].connection


def test_posts_on_http_routes_are_never_sent_twice(sluice: Live, provider: Provider) -> None:
    """The upstream may have acted on it: the caller must decide."""
    assert web(sluice, "GET").status == 200
    provider.behave(path="/web/x", drop=True, times=1)
    assert web(sluice, "POST", b"pay=1").status == 502
    assert [request.method for request in provider.requests] == ["GET", "POST"]


def test_a_stray_answer_never_reaches_the_next_caller(sluice: Live, provider: Provider) -> None:
    """A provider that writes a second answer behind the first poisons its connection; it must not be used again."""
    stray = b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nstolen"
    good = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
    provider.behave(model="chat", raw=good + stray, times=1)
    assert chat(sluice).body == b"{}"
    assert b"stolen" not in chat(sluice).body


def test_an_unfinished_upload_does_not_poison_the_pool(sluice: Live, provider: Provider) -> None:
    """The backend answers before it has the whole body: that connection is not used again."""
    provider.behave(path="/web/early", raw=b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")
    with RawClient(sluice.port) as client:
        head = f"POST /web/early HTTP/1.1\r\nhost: g\r\nx-api-key: {KEY}\r\ncontent-length: 10\r\n\r\n"
        client.send(head.encode(), b"0123456789")
        assert client.answer().status == 413
    assert web(sluice, "GET").status == 200
