"""What passes untouched, what is changed and what is taken out, byte for byte."""

import gzip
import json

import pytest

from tests.integration.dataplane.conftest import ANTHROPIC_SECRET, KEY, OPENAI_SECRET
from tests.support.live import Live
from tests.support.provider import Provider
from tests.support.raw import RawClient

AUTH = f"authorization: Bearer {KEY}"
JSON = "content-type: application/json"
ODD_BODIES = {  # @ stands for the model's name
    "spaces": b'{ "model" : @ ,\n "messages":[ {"role":"user","content":"hi"} ] , "temperature":0.10 }',
    "unknown fields": b'{"model":@,"messages":[],"x_new":{"deep":[1,2.50,1e3,null]},"zeta":"\\u00e9\\/"}',
    "model last": b'{"messages":[{"role":"user","content":"\\"model\\":\\"chat\\""}],"model":@}',
    "model in content": b'{"messages":[{"role":"user","model":"chat","content":"model"}],"model":@,"n":1}',
    "escaped name": b'{"messages":[],"mod\\u0065l":@}',
    "big numbers": b'{"model":@,"messages":[],"seed":123456789012345678901234567890,"logit_bias":{"1":-0.0}}',
    "not ASCII": '{"model":@,"messages":[{"role":"user","content":"žluťoučký 🐎 \u202e"}]}'.encode(),
}


@pytest.mark.parametrize("body", ODD_BODIES.values(), ids=ODD_BODIES.keys())
@pytest.mark.parametrize("model", [b'"chat"', b'"ch\\u0061t"'], ids=["plain", "escaped"])
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "byte by byte"])
def test_only_the_model_changes(sluice: Live, provider: Provider, body: bytes, model: bytes, whole: bool) -> None:
    """The upstream gets every byte of the body as it was sent, but for the model's name."""
    sent = body.replace(b"@", model)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n{AUTH}\r\n{JSON}\r\ncontent-length: {len(sent)}\r\n\r\n"
    message = head.encode() + sent
    with RawClient(sluice.port) as client:
        client.send(*([message] if whole else (bytes([byte]) for byte in message)))
        assert client.answer().status == 200
    assert provider.last.body == body.replace(b"@", b'"up-model"')


def test_same_name_passes_identically(sluice: Live, provider: Provider) -> None:
    body = b'{"model": "up-model",   "messages": [], "stream": false}'
    with RawClient(sluice.port) as client:
        assert client.post("/v1/chat/completions", body, AUTH, JSON).status == 200
    assert provider.last.body == body


def test_plain_answer_passes_byte_for_byte(sluice: Live, provider: Provider) -> None:
    body = b'{"id":"x", "choices" : [ ],\n"usage":{"prompt_tokens":3,"completion_tokens":4},"odd":1.50,"e":"\\u00e9"}\n'
    provider.behave(body=body, headers=((b"X-Ratelimit-Remaining", b"7"), (b"openai-processing-ms", b"5")))
    with RawClient(sluice.port) as client:
        answer = client.post("/v1/chat/completions", b'{"model":"chat","messages":[]}', AUTH, JSON)
    assert answer.body == body
    assert (answer.header("x-ratelimit-remaining"), answer.header("openai-processing-ms")) == ("7", "5")
    row = sluice.row(answer.header("x-request-id"))
    assert (row["input_tokens"], row["output_tokens"]) == (3, 4)


def test_stream_passes_byte_for_byte_where_usage_was_asked_for(sluice: Live, provider: Provider) -> None:
    ask = {"model": "chat", "messages": [], "stream": True, "stream_options": {"include_usage": True}}
    with RawClient(provider.port) as direct:
        expected = direct.post("/v1/chat/completions", json.dumps({**ask, "model": "up-model"}).encode(), JSON).body
    with RawClient(sluice.port) as client:
        answer = client.post("/v1/chat/completions", json.dumps(ask).encode(), AUTH, JSON)
    assert answer.body == expected
    assert answer.header("content-type") == "text/event-stream"


def test_stream_loses_only_the_usage_that_we_asked_for(sluice: Live, provider: Provider) -> None:
    """A caller who did not ask sees what the provider says to one who did not ask."""
    ask = {"model": "chat", "messages": [], "stream": True}
    with RawClient(sluice.port) as client:
        events = client.post("/v1/chat/completions", json.dumps(ask).encode(), AUTH, JSON).body.split(b"\n\n")
    assert events[-2:] == [b"data: [DONE]", b""]
    parsed = [json.loads(event.removeprefix(b"data: ")) for event in events[:-2]]
    assert all(event["choices"] for event in parsed)
    assert not any(event.get("usage") for event in parsed)


def test_our_key_never_goes_upstream(sluice: Live, provider: Provider) -> None:
    """Wherever the caller shows it: header, other header, query."""
    ways = [
        ("/v1/chat/completions", AUTH),
        ("/v1/chat/completions", f"x-api-key: {KEY}"),
        ("/v1/chat/completions", f"authorization: bearer {KEY}"),
        ("/v1/chat/completions", AUTH, f"x-api-key: {KEY}", f"x-goog-api-key: {KEY}"),
    ]
    for path, *headers in ways:
        with RawClient(sluice.port) as client:
            assert client.post(path, b'{"model":"chat","messages":[]}', *headers, JSON).status == 200
        request = provider.last
        assert KEY.encode() not in request.head + request.body
        assert request.header("authorization") == f"Bearer {OPENAI_SECRET}"


def test_providers_secret_never_reaches_the_caller(sluice: Live, provider: Provider) -> None:
    with RawClient(sluice.port) as client:
        for route in ("chat", "sonnet"):
            path = "/v1/messages" if route == "sonnet" else "/v1/chat/completions"
            body = json.dumps({"model": route, "messages": [], "max_tokens": 9}).encode()
            answer = client.post(path, body, AUTH, JSON)
            assert OPENAI_SECRET.encode() not in answer.head + answer.body
            assert ANTHROPIC_SECRET.encode() not in answer.head + answer.body


def test_hop_by_hop_headers_stay_on_their_hop(sluice: Live, provider: Provider) -> None:
    provider.behave(headers=((b"Keep-Alive", b"timeout=9"), (b"X-Once", b"a"), (b"Connection", b"x-once"),
                             (b"Proxy-Authenticate", b"Basic"), (b"X-Request-Id", b"theirs")))  # fmt: skip
    with RawClient(sluice.port) as client:
        answer = client.post(
            "/v1/chat/completions",
            b'{"model":"chat","messages":[]}',
            *(AUTH, JSON, "connection: keep-alive, x-private", "x-private: 1", "te: trailers", "keep-alive: timeout=5"),
            *("proxy-authorization: Basic eA==", "x-public: 2", "cookie: session=1", "user-agent: test/1"),
        )
    sent = provider.last
    gone = ("x-private", "te", "keep-alive", "proxy-authorization", "cookie", "connection")
    assert [name for name in gone if sent.header(name)] == []
    assert (sent.header("x-public"), sent.header("user-agent")) == ("2", "test/1")
    assert [name for name in ("keep-alive", "x-once", "proxy-authenticate", "connection") if answer.header(name)] == []
    assert answer.header("x-request-id") != "theirs"


def test_forwarded_headers_tell_the_truth(sluice: Live, provider: Provider) -> None:
    """No proxy is trusted: what the caller claims is replaced."""
    with RawClient(sluice.port) as client:
        client.post(
            "/v1/chat/completions",
            b'{"model":"chat","messages":[]}',
            *(AUTH, JSON, "x-forwarded-for: 6.6.6.6", "x-real-ip: 6.6.6.6", "forwarded: for=6.6.6.6"),
            *("x-forwarded-host: evil", "x-forwarded-proto: https"),
        )
    sent = provider.last
    assert sent.header("x-forwarded-for") == "127.0.0.1"
    assert sent.header("x-real-ip") == "127.0.0.1"
    assert sent.header("x-forwarded-proto") == "http"
    assert sent.header("x-forwarded-host") == "gateway"
    assert sent.header("forwarded") == "for=127.0.0.1;proto=http"
    assert sent.header("host") == f"127.0.0.1:{provider.port}"


def test_callers_request_id_is_kept(sluice: Live, provider: Provider) -> None:
    with RawClient(sluice.port) as client:
        body = b'{"model":"chat","messages":[]}'
        answer = client.post("/v1/chat/completions", body, AUTH, JSON, "x-request-id: mine-42")
    assert answer.header("x-request-id") != "mine-42"
    assert sluice.row(answer.header("x-request-id"))["client_request_id"] == "mine-42"


@pytest.mark.parametrize("size", [1, 100, 65536])
def test_chunked_request_bodies(sluice: Live, provider: Provider, size: int) -> None:
    body = b'{"model":"up-model","messages":[{"role":"user","content":"' + b"x" * 5000 + b'"}]}'
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n{AUTH}\r\n{JSON}\r\ntransfer-encoding: chunked\r\n\r\n"
    with RawClient(sluice.port) as client:
        client.send(head.encode(), b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces))
        client.send(b"0\r\ntrailer: 1\r\n\r\n")
        assert client.answer().status == 200
    assert provider.last.body == body
    assert provider.last.header("content-length") == str(len(body))


def test_pipelined_requests_are_answered_in_order(sluice: Live, provider: Provider) -> None:
    provider.behave(path="/v1/chat/completions", times=1, head_delay_s=0.2)
    body = b'{"model":"chat","messages":[]}'
    chat = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n{AUTH}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        + body
    )
    models = f"GET /v1/models HTTP/1.1\r\nhost: g\r\n{AUTH}\r\n\r\n".encode()
    health = b"GET /healthz HTTP/1.1\r\nhost: g\r\n\r\n"
    with RawClient(sluice.port) as client:
        client.send(chat + models + health + chat)
        answers = [client.answer() for _ in range(4)]
    assert [answer.status for answer in answers] == [200] * 4
    assert json.loads(answers[0].body)["object"] == "chat.completion"
    assert json.loads(answers[1].body)["object"] == "list"
    assert json.loads(answers[2].body) == {"status": "alive"}
    assert json.loads(answers[3].body)["object"] == "chat.completion"


def test_head_arrives_byte_by_byte(sluice: Live, provider: Provider) -> None:
    body = b'{"model":"chat","messages":[]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n{AUTH}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    with RawClient(sluice.port) as client:
        client.send(*(bytes([byte]) for byte in head + body), gap_s=0.001)
        assert client.answer().status == 200


def test_expect_continue(sluice: Live, provider: Provider) -> None:
    body = b'{"model":"chat","messages":[]}'
    lines = [
        "POST /v1/chat/completions HTTP/1.1",
        "host: g",
        AUTH,
        f"content-length: {len(body)}",
        "expect: 100-continue",
    ]
    with RawClient(sluice.port) as client:
        client.send("\r\n".join(lines).encode() + b"\r\n\r\n")
        assert client.read_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(body)
        assert client.answer().status == 200
    assert provider.last.header("expect") is None


def test_compressed_answers_are_metered(sluice: Live, provider: Provider) -> None:
    """A provider that compresses although we asked it not to."""
    body = b'{"choices":[],"usage":{"prompt_tokens":31,"completion_tokens":4}}'
    packed = gzip.compress(body)
    provider.behave(body=packed, headers=((b"content-encoding", b"gzip"),))
    with RawClient(sluice.port) as client:
        answer = client.post(
            "/v1/chat/completions", b'{"model":"chat","messages":[]}', AUTH, JSON, "accept-encoding: gzip"
        )
    assert provider.last.header("accept-encoding") in (None, "identity")
    assert (answer.body, answer.header("content-encoding")) == (packed, "gzip")
    assert sluice.row(answer.header("x-request-id"))["input_tokens"] == 31
