"""HTTP as an HTTP route passes it: expectations, interim answers, trailers, framing, HEAD, over raw sockets."""

import time

import pytest

from tests.integration.clientside.conftest import KEY
from tests.support.live import Live
from tests.support.raw import RawClient
from tests.support.scripted_upstream import Conversation, Script, ScriptedUpstream

AUTH = f"host: raw.internal\r\nx-api-key: {KEY}\r\n".encode()
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def answering(payload: bytes, *, after: bytes = b"\r\n\r\n") -> Script:
    def script(upstream: Conversation) -> None:
        upstream.read_until(after)
        upstream.send(payload)

    return script


# ---- Expect: 100-continue


def test_the_upstreams_continue_passes(sluice: Live, raw: ScriptedUpstream) -> None:
    """The body is asked for when the upstream asks for it, not before."""
    order: list[str] = []

    def script(upstream: Conversation) -> None:
        head = upstream.read_until(b"\r\n\r\n")
        assert b"expect: 100-continue" in head
        time.sleep(0.3)
        order.append("upstream")
        upstream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        upstream.read_until(b"hello")
        upstream.send(OK)

    raw.serve(script)
    with RawClient(sluice.port) as client:
        client.send(b"PUT /x HTTP/1.1\r\n" + AUTH + b"expect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        assert client.read_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
        order.append("client")
        client.send(b"hello")
        assert client.answer().body == b"ok"
    assert order == ["upstream", "client"]
    assert not raw.errors


def test_a_final_answer_spares_the_body(sluice: Live, raw: ScriptedUpstream) -> None:
    raw.serve(answering(b"HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n"))
    with RawClient(sluice.port) as client:
        client.send(b"PUT /x HTTP/1.1\r\n" + AUTH + b"expect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        received = client.read_to_end()
    assert received.startswith(b"HTTP/1.1 417 ")
    assert b"100 Continue" not in received
    assert b"connection: close" in received


def test_an_upstream_that_knows_no_expectation(sluice: Live, raw: ScriptedUpstream) -> None:
    raw.serve(answering(OK, after=b"hello"))
    with RawClient(sluice.port) as client:
        client.send(b"PUT /x HTTP/1.1\r\n" + AUTH + b"expect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        begun = time.monotonic()
        assert client.read_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert time.monotonic() - begun < 5
        client.send(b"hello")
        assert client.answer().status == 200


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/x", "host: raw.internal", 401),
        ("/x", f"host: raw.internal\r\nx-api-key: {KEY}x", 401),
        ("/v1/chat/completions", "host: g", 401),
        ("/v1/nothing", f"host: g\r\nx-api-key: {KEY}", 404),
    ],
)
def test_a_refusal_asks_for_no_body(sluice: Live, path: str, headers: str, status: int) -> None:
    with RawClient(sluice.port) as client:
        head = f"POST {path} HTTP/1.1\r\n{headers}\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n"
        client.send(head.encode())
        received = client.read_to_end()
    assert received.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"100 Continue" not in received


def test_a_call_with_a_model_is_asked_to_continue(sluice: Live) -> None:
    body = b'{"model":"chat","messages":[]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nx-api-key: {KEY}\r\nexpect: 100-continue\r\n"
    with RawClient(sluice.port) as client:
        client.send(head.encode() + b"content-length: %d\r\n\r\n" % len(body))
        assert client.read_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.send(body)
        assert client.answer().status == 200


def test_http_10_hears_no_interim_answer(sluice: Live, raw: ScriptedUpstream) -> None:
    raw.serve(answering(b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n" + OK, after=b"hello"))
    with RawClient(sluice.port) as client:
        client.send(b"POST /x HTTP/1.0\r\n" + AUTH + b"expect: 100-continue\r\ncontent-length: 5\r\n\r\n")
        time.sleep(0.2)
        client.send(b"hello")
        received = client.read_to_end()
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"ok")


# ---- interim answers


def test_early_hints_pass(sluice: Live, raw: ScriptedUpstream) -> None:
    hint = b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n"
    raw.serve(answering(hint + hint + OK))
    with RawClient(sluice.port) as client:
        client.send(b"GET /x HTTP/1.1\r\n" + AUTH + b"connection: close\r\n\r\n")
        received = client.read_to_end()
    assert received.count(b"HTTP/1.1 103 ") == 2
    assert received.count(b"link: </style.css>; rel=preload\r\n") == 2
    assert b"x-hop" not in received
    assert received.endswith(b"\r\n\r\nok")


def test_a_flood_of_interim_answers_ends(sluice: Live, raw: ScriptedUpstream) -> None:
    raw.serve(answering(b"HTTP/1.1 102 Processing\r\n\r\n" * 5000 + OK))
    with RawClient(sluice.port) as client:
        client.send(b"GET /x HTTP/1.1\r\n" + AUTH + b"connection: close\r\n\r\n")
        received = client.read_to_end()
    assert received.count(b"HTTP/1.1 102 ") == 64
    assert b"HTTP/1.1 502 " in received


# ---- trailers


CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
TRAILED = CHUNKED + b"2\r\nab\r\n0\r\nX-Sum: 42\r\nContent-Type: a/b\r\nset-cookie: a=b\r\nx-request-id: evil\r\n\r\n"


def test_trailers_pass_to_who_takes_them(sluice: Live, raw: ScriptedUpstream) -> None:
    raw.serve(answering(TRAILED))
    with RawClient(sluice.port) as client:
        client.send(b"GET /x HTTP/1.1\r\n" + AUTH + b"te: trailers\r\nconnection: te, close\r\n\r\n")
        received = client.read_to_end()
    head, _, body = received.partition(b"\r\n\r\n")
    assert b"\r\ntrailer: x-sum" in head
    assert body == b"2\r\nab\r\n0\r\nx-sum: 42\r\n\r\n"
    assert b"te: trailers" in raw.last.received


@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_trailers_are_dropped_for_who_does_not(sluice: Live, raw: ScriptedUpstream, version: bytes) -> None:
    raw.serve(answering(TRAILED))
    with RawClient(sluice.port) as client:
        client.send(b"GET /x HTTP/" + version + b"\r\n" + AUTH + b"connection: close\r\n\r\n")
        received = client.read_to_end()
    assert b"x-sum" not in received.lower()
    assert b"trailer" not in received.lower()
    assert received.endswith(b"2\r\nab\r\n0\r\n\r\n" if version == b"1.1" else b"\r\n\r\nab")


@pytest.mark.parametrize("size", [1, 1000])
def test_trailers_of_a_request_pass_and_are_no_headers(sluice: Live, raw: ScriptedUpstream, size: int) -> None:
    raw.serve(answering(OK, after=b"x-sum: 7\r\n\r\n"))
    message = (
        b"POST /x HTTP/1.1\r\n" + AUTH + b"transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n"
        b"5\r\nhello\r\n0\r\nCookie: evil\r\nx-unannounced: evil\r\nx-api-key: nonsense\r\nX-Sum: 7\r\n\r\n"
    )
    with RawClient(sluice.port) as client:
        for at in range(0, len(message), size):
            client.send(message[at : at + size])
        assert client.answer().status == 200
    head, _, body = raw.last.received.partition(b"\r\n\r\n")
    assert body.endswith(b"0\r\nx-sum: 7\r\n\r\n")
    assert b"evil" not in raw.last.received
    assert b"nonsense" not in raw.last.received
    assert b"trailer: x-sum" in head


def test_a_trailer_shows_no_key(sluice: Live) -> None:
    """Fields behind the body are not the head's: a key there is none."""
    message = b"POST /x HTTP/1.1\r\nhost: raw.internal\r\ntransfer-encoding: chunked\r\n\r\n"
    with RawClient(sluice.port) as client:
        client.send(message + b"5\r\nhello\r\n0\r\nx-api-key: " + KEY.encode() + b"\r\n\r\n")
        assert client.answer().status == 401


def test_an_endless_trailer_section_ends(sluice: Live) -> None:
    with RawClient(sluice.port) as client:
        client.send(b"POST /x HTTP/1.1\r\n" + AUTH + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n")
        client.send((b"x-endless: " + b"a" * 1000 + b"\r\n") * 20)
        answer = client.answer()
        assert (answer.status, answer.header("connection")) == (400, "close")


# ---- framing


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", b"hello"),
        (b"HTTP/1.0 200 OK\r\n\r\nhello", b"hello"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b'HTTP/1.1 304 Not Modified\r\netag: "a"\r\ncontent-length: 5\r\n\r\n', b""),
    ],
    ids=["length", "chunked", "until close", "204", "304"],
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_bodies_of_answers(sluice: Live, raw: ScriptedUpstream, version: bytes, answer: bytes, body: bytes) -> None:
    def script(upstream: Conversation) -> None:
        upstream.read_until(b"\r\n\r\n")
        upstream.send(answer)

    raw.serve(script)
    with RawClient(sluice.port) as client:
        client.send(b"GET /x HTTP/" + version + b"\r\n" + AUTH + b"\r\n")
        got = client.answer()
        assert got.body == body
        if version == b"1.1":  # the connection goes on behind it
            client.send(b"GET /x HTTP/1.1\r\n" + AUTH + b"\r\n")
            assert client.answer().body == body
        else:
            assert client.read_to_end() == b""


@pytest.mark.parametrize(
    ("sent", "arrived"),
    [
        (b"content-length: 5\r\n\r\nhello", b"content-length: 5\r\n\r\nhello"),
        (b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n", b"transfer-encoding: chunked"),
    ],
    ids=["length", "chunked"],
)
def test_bodies_of_requests(sluice: Live, raw: ScriptedUpstream, sent: bytes, arrived: bytes) -> None:
    raw.serve(answering(OK, after=b"llo"))
    with RawClient(sluice.port) as client:
        client.send(b"POST /x HTTP/1.1\r\n" + AUTH + sent)
        assert client.answer().body == b"ok"
    assert arrived in raw.last.received


def test_head_has_the_length_and_no_body(sluice: Live, raw: ScriptedUpstream) -> None:
    raw.serve(answering(b"HTTP/1.1 200 OK\r\ncontent-length: 12345\r\netag: x\r\n\r\n"))
    with RawClient(sluice.port) as client:
        for _ in range(2):
            client.send(b"HEAD /x HTTP/1.1\r\n" + AUTH + b"\r\n")
            answer = client.answer(to_head=True)
            assert (answer.status, answer.header("content-length")) == (200, "12345")


@pytest.mark.parametrize("path", ["/v1/models", "/healthz", "/v1/none"])
def test_head_of_our_own_pages(sluice: Live, path: str) -> None:
    with RawClient(sluice.port) as client:
        client.send(f"HEAD {path} HTTP/1.1\r\nhost: g\r\nx-api-key: {KEY}\r\nconnection: close\r\n\r\n".encode())
        head, _, body = client.read_to_end().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 ")
    assert body == b""


def test_compression_and_ranges_are_left_alone(sluice: Live, raw: ScriptedUpstream) -> None:
    packed = b"\x1f\x8b\x08\x00 not really gzip \x00\xff"
    head = b"HTTP/1.1 206 Partial Content\r\ncontent-encoding: gzip\r\ncontent-range: bytes 0-9/100\r\ncontent-length: "
    raw.serve(answering(head + b"%d\r\n\r\n" % len(packed) + packed))
    with RawClient(sluice.port) as client:
        client.send(b"GET /x HTTP/1.1\r\n" + AUTH + b"accept-encoding: br, gzip\r\nrange: bytes=0-9\r\n\r\n")
        answer = client.answer()
    assert (answer.status, answer.body) == (206, packed)
    assert (answer.header("content-encoding"), answer.header("content-range")) == ("gzip", "bytes 0-9/100")
    assert b"accept-encoding: br, gzip\r\n" in raw.last.received
    assert b"range: bytes=0-9\r\n" in raw.last.received


def test_absolute_form_is_the_same_request(sluice: Live, raw: ScriptedUpstream) -> None:
    raw.serve(answering(OK))
    with RawClient(sluice.port) as client:
        client.send(b"GET http://raw.internal/a?b=c HTTP/1.1\r\n" + AUTH + b"\r\n")
        assert client.answer().body == b"ok"
        client.send(b"GET http://raw.internal HTTP/1.0\r\nx-api-key: " + KEY.encode() + b"\r\n\r\n")
        assert client.answer().body == b"ok"
    assert raw.conversations[0].received.startswith(b"GET /a?b=c HTTP/1.1\r\n")


# ---- deadlines


def test_a_body_that_stalls_is_408(sluice: Live, raw: ScriptedUpstream) -> None:
    def script(upstream: Conversation) -> None:
        upstream.socket.settimeout(60)
        upstream.read_to_end()

    raw.serve(script)
    with RawClient(sluice.port, timeout_s=60) as client:
        host = AUTH.replace(b"raw.internal", b"ruled.internal")  # whose idle timeout is longer
        client.send(b"POST /x HTTP/1.1\r\n" + host + b"content-length: 100\r\n\r\nhello")
        received = client.read_to_end()
    assert received.startswith(b"HTTP/1.1 408 ")


def test_a_long_upload_is_not_cut_while_it_goes_on(sluice: Live, raw: ScriptedUpstream) -> None:
    """Longer than the first byte may take, with pauses shorter than that."""
    raw.serve(answering(OK, after=b"x" * 70))
    with RawClient(sluice.port, timeout_s=30) as client:
        client.send(b"POST /x HTTP/1.1\r\n" + AUTH + b"content-length: 70\r\n\r\n")
        for _ in range(7):
            time.sleep(1)
            client.send(b"x" * 10)
        assert client.answer().body == b"ok"
