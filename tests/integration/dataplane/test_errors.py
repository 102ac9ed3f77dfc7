"""Errors in the caller's dialect: what the official SDKs make of them, and what the ledger keeps."""

import json
import re
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.support import live
from tests.support.live import Live
from tests.support.ports import free_port
from tests.support.provider import Provider
from tests.support.raw import RawClient

KEY = "sk-test-errors-0123456789"
POOR_KEY = "sk-test-poor-0123456789"
EXPIRED_KEY = "sk-test-expired-0123456789"
MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture(scope="module")
def sluice(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Live]:
    yaml = f"""
providers:
  - {{name: up, dialect: openai, base_url: {provider.url}}}
  - {{name: claude, dialect: anthropic, base_url: {provider.url}}}
  - {{name: dead, dialect: openai, base_url: "http://127.0.0.1:{free_port()}"}}
  - {{name: dead-claude, dialect: anthropic, base_url: "http://127.0.0.1:{free_port()}"}}
routes:
  - {{name: both, targets: [{{provider: up, model: a}}, {{provider: claude, model: a}}]}}
  - {{name: openai-only, targets: [{{provider: up, model: a}}]}}
  - {{name: forbidden, targets: [{{provider: up, model: a}}]}}
  - {{name: dead, targets: [{{provider: dead, model: a}}, {{provider: dead-claude, model: a}}]}}
  - {{name: broken, retries: 0, targets: [{{provider: up, model: b}}, {{provider: claude, model: b}}]}}
  - name: slow
    retries: 0
    timeout: {{first_byte: 200ms}}
    targets: [{{provider: up, model: s}}, {{provider: claude, model: s}}]
teams:
  - name: t
    apps:
      - {{name: a, routes: [both, openai-only, dead, broken, slow], keys: [{{name: k, value: {KEY}}}, {{name: old,
          value: {EXPIRED_KEY}, expires_at: "2020-01-01T00:00:00Z"}}]}}
      - {{name: poor, routes: "*", keys: [{{name: p, value: {POOR_KEY}}}]}}
limits:
  - {{name: one-a-month, scope: {{app: poor}}, metric: requests, window: month, at_most: 1}}
  - {{name: small, scope: {{app: a}}, metric: output_tokens, window: minute, at_most: 5000}}
"""
    env = {"SLUICEGATE_MAX_BODY_BYTES": "100000"}
    with live.gateway(tmp_path_factory.mktemp("errors"), yaml, env=env) as running:
        yield running


@pytest.fixture(autouse=True)
def _clean(provider: Provider) -> None:
    provider.forget()


class OpenAi:
    """The error that the openai SDK raises for one call."""

    name = "openai"

    @staticmethod
    def call(sluice: Live, route: str, key: str = KEY, **more: Any) -> openai.APIStatusError:
        with openai.OpenAI(base_url=sluice.url + "/v1", api_key=key, max_retries=0) as client:
            with pytest.raises(openai.APIStatusError) as caught:
                client.chat.completions.create(model=route, messages=MESSAGES, **{"max_tokens": 10, **more})
            return caught.value

    @staticmethod
    def message(error: Any) -> str:
        return str(error.response.json()["error"]["message"])


class Anthropic:
    """The error that the anthropic SDK raises for one call."""

    name = "anthropic"

    @staticmethod
    def call(sluice: Live, route: str, key: str = KEY, **more: Any) -> anthropic.APIStatusError:
        with anthropic.Anthropic(base_url=sluice.url, api_key=key, max_retries=0) as client:
            with pytest.raises(anthropic.APIStatusError) as caught:
                client.messages.create(model=route, messages=MESSAGES, **{"max_tokens": 10, **more})
            return caught.value

    @staticmethod
    def message(error: Any) -> str:
        body = error.response.json()
        assert body["type"] == "error"
        return str(body["error"]["message"])


@pytest.fixture(params=[OpenAi, Anthropic], ids=lambda sdk: sdk.name)
def sdk(request: pytest.FixtureRequest) -> Any:
    return request.param


def test_unknown_key_is_401(sluice: Live, sdk: Any) -> None:
    before = len(sluice.ledger())
    error = sdk.call(sluice, "both", key="sk-nobody-knows-this-key")
    assert isinstance(error, openai.AuthenticationError | anthropic.AuthenticationError)
    assert "sk-nobody" not in error.response.text
    assert error.response.headers["x-should-retry"] == "false"
    time.sleep(0.3)
    assert len(sluice.ledger()) == before  # 401s are only counted


def test_expired_key_is_401(sluice: Live, sdk: Any) -> None:
    assert "expired" in sdk.message(sdk.call(sluice, "both", key=EXPIRED_KEY))


def test_route_not_allowed_is_403_and_recorded(sluice: Live, sdk: Any) -> None:
    error = sdk.call(sluice, "forbidden")
    assert isinstance(error, openai.PermissionDeniedError | anthropic.PermissionDeniedError)
    row = sluice.row(error.response.headers["x-request-id"])
    assert (row["status"], row["outcome"], row["app"], row["attempts"]) == (403, "refused", "a", 0)


def test_no_such_route_is_404_with_the_names_allowed(sluice: Live, sdk: Any) -> None:
    error = sdk.call(sluice, "gpt-17")
    assert isinstance(error, openai.NotFoundError | anthropic.NotFoundError)
    assert "gpt-17" in sdk.message(error)
    assert "openai-only" in error.response.text
    assert "forbidden" not in error.response.text  # what it may not call is not told
    assert sluice.row(error.response.headers["x-request-id"])["status"] == 404


def test_dialect_without_a_target_is_400(sluice: Live) -> None:
    error = Anthropic.call(sluice, "openai-only")
    assert error.status_code == 400
    assert "openai" in Anthropic.message(error)


def test_too_large_is_413(sluice: Live, sdk: Any) -> None:
    huge = [{"role": "user", "content": "x" * 200_000}]
    client: Any = (
        openai.OpenAI(base_url=sluice.url + "/v1", api_key=KEY, max_retries=0).chat.completions
        if sdk is OpenAi
        else anthropic.Anthropic(base_url=sluice.url, api_key=KEY, max_retries=0).messages
    )
    with pytest.raises((openai.APIStatusError, anthropic.APIStatusError)) as caught:
        client.create(model="both", messages=huge, max_tokens=10)
    assert caught.value.status_code == 413
    assert sluice.row(caught.value.response.headers["x-request-id"])["status"] == 413
    client._client.close()


def test_exhausted_limit_is_429_and_says_when_it_ends(sluice: Live, sdk: Any, provider: Provider) -> None:
    with RawClient(sluice.port) as client:  # the one request of this month, whichever test comes first
        client.post("/v1/chat/completions", b'{"model":"both","messages":[]}', f"authorization: Bearer {POOR_KEY}")
    provider.forget()
    error = sdk.call(sluice, "both", key=POOR_KEY)
    assert isinstance(error, openai.RateLimitError | anthropic.RateLimitError)
    assert int(error.response.headers["retry-after"]) > 0
    said = error.response.text
    assert "one-a-month" in said
    assert "resets_at" in said
    assert provider.requests == []
    row = sluice.row(error.response.headers["x-request-id"])
    assert (row["status"], row["outcome"], row["error_code"]) == (429, "refused", "limit_exceeded")


def test_a_request_larger_than_its_limit_is_400(sluice: Live, sdk: Any) -> None:
    error = sdk.call(sluice, "both", max_tokens=6000)
    assert error.status_code == 400
    assert "small" in error.response.text
    assert "retry-after" not in error.response.headers


def test_dead_upstreams_are_502(sluice: Live, sdk: Any) -> None:
    error = sdk.call(sluice, "dead")
    assert error.status_code in (502, 503)
    assert error.response.headers["x-should-retry"] == "true"
    assert sluice.row(error.response.headers["x-request-id"])["outcome"] in ("upstream_failed", "refused")


def test_failing_upstream_is_502(sluice: Live, sdk: Any, provider: Provider) -> None:
    provider.behave(model="b", status=500, body=b'{"error":{"message":"out of memory on node 7"}}')
    assert sdk.call(sluice, "broken").status_code == 502


def test_silent_upstream_is_504(sluice: Live, sdk: Any, provider: Provider) -> None:
    provider.behave(model="s", hang=True)
    assert sdk.call(sluice, "slow").status_code == 504


BAD_BODIES = {
    "empty": b"",
    "half": b"{",
    "a list": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "no model": b'{"messages":[]}',
    "model is a number": b'{"model":7,"messages":[]}',
    "model is empty": b'{"model":"","messages":[]}',
    "two models": b'{"model":"both","model":"forbidden","messages":[]}',
    "stream is a string": b'{"model":"both","messages":[],"stream":"yes"}',
    "deep list": b"[" * 10_000,
    "deep object": b'{"model":"both","a":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
    "not UTF-8": b"\xff\xfe",
    "more behind": b'{"model":"both"}x',
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_bad_bodies_are_400_in_the_dialect(sluice: Live, provider: Provider, path: str, body: bytes) -> None:
    with RawClient(sluice.port) as client:
        answer = client.post(path, body, f"authorization: Bearer {KEY}", "content-type: application/json")
        assert answer.status == 400, answer
        error = json.loads(answer.body)
        assert error["error"]["message"]
        assert (error.get("type") == "error") is (path == "/v1/messages")
        assert client.post(path, b'{"model":"nobody","messages":[],"max_tokens":1}', f"x-api-key: {KEY}").status == 404
    assert provider.requests == []


@pytest.mark.parametrize(
    ("path", "anthropic_shape"),
    [("/v1/nonsense", False), ("/v1/messages/nonsense", True), ("/anthropic/v1/nonsense", True), ("/openai/x", False)],
)
def test_unlisted_paths_are_404_in_the_dialect(sluice: Live, path: str, anthropic_shape: bool) -> None:
    with RawClient(sluice.port) as client:
        answer = client.post(path, b"{}", f"authorization: Bearer {KEY}")
    assert answer.status == 404
    error = json.loads(answer.body)
    assert path in error["error"]["message"]
    assert (error.get("type") == "error") is anthropic_shape


HOSTILE_HEADS = {
    "no host": b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
    "two hosts": b"GET /v1/models HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    "two lengths": b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
    "length and chunks": b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n"
    b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "odd coding": b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n",
    "chunks in 1.0": b"POST /v1/chat/completions HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "space before colon": b"GET /v1/models HTTP/1.1\r\nhost : a\r\n\r\n",
    "folded line": b"GET /v1/models HTTP/1.1\r\nhost: a\r\nx: 1\r\n 2\r\n\r\n",
    "NUL in a value": b"GET /v1/models HTTP/1.1\r\nhost: a\r\nx: 1\x002\r\n\r\n",
    "control in the target": b"GET /v1/mod\x01els HTTP/1.1\r\nhost: a\r\n\r\n",
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "negative length": b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
    "huge head": b"GET /v1/models HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
    "huge target": b"GET /" + b"y" * 70_000 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
    "bad chunk": f"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n".encode()
    + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
    "CONNECT": b"CONNECT 169.254.169.254:80 HTTP/1.1\r\nhost: a\r\n\r\n",
}


@pytest.mark.parametrize("message", HOSTILE_HEADS.values(), ids=HOSTILE_HEADS.keys())
def test_hostile_heads_are_refused_and_end_the_connection(sluice: Live, provider: Provider, message: bytes) -> None:
    """Nothing behind such a head is read as a request of its own: no smuggling."""
    follower = f"GET /v1/models HTTP/1.1\r\nhost: a\r\nx-api-key: {KEY}\r\n\r\n".encode()
    with RawClient(sluice.port) as client:
        try:
            client.send(message + follower)
        except OSError:
            return
        said = client.read_to_end()
    assert len(re.findall(rb"HTTP/1.1 \d{3} ", said)) <= 1
    if said:
        assert 400 <= int(said.split(b" ", 2)[1]) < 506, said
    assert b'"object":"list"' not in said
    assert provider.requests == []


@pytest.mark.parametrize("target", ["/v1/../v1/models", "/v1/%2e%2e/api/v1/providers", "/v1/models%00", "//v1/models"])
def test_crooked_paths_reach_nothing(sluice: Live, target: str) -> None:
    with RawClient(sluice.port) as client:
        client.send(f"GET {target} HTTP/1.1\r\nhost: g\r\nx-api-key: {KEY}\r\n\r\n".encode())
        assert client.answer().status in (400, 404)
