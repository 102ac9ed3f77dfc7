"""What a connection may do to the next request on it, to others, and to nobody: repeated heads that differ by a hair,
cuts at
every byte, half-closed and slow clients, forms of the target that are allowed."""

import contextlib
import json
import socket
import time

import pytest

from tests.integration.hostile.conftest import KEY, SECOND_KEY
from tests.integration.hostile.requests_table import BODY
from tests.integration.hostile.test_requests import BEHIND, KEY_LINE, say, status_of, still_serves
from tests.support.live import Live
from tests.support.raw import RawClient
from tests.support.raw_upstream import RawUpstream

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n" + KEY_LINE + b"content-length: %d\r\nx: y\r\n\r\n"
CALL = HEAD % len(BODY) + BODY
LONGER = BODY.replace(b"hi", b"a longer text")

SECONDS = {
    "the same": (CALL, [200], [BODY]),
    "another length": (HEAD % len(LONGER) + LONGER, [200], [LONGER]),
    "zeros before the length": ((HEAD % len(BODY)).replace(b"length: ", b"length: 000") + BODY, [200], [BODY]),
    "capitals": ((HEAD % len(BODY)).replace(b"content-length", b"Content-Length") + BODY, [200], [BODY]),
    "pipelined": (CALL + HEAD % len(LONGER) + LONGER, [200, 200], [BODY, LONGER]),
    "three pipelined": (CALL * 3, [200] * 3, [BODY] * 3),
    "bytes behind": (CALL + b"{}", [200, 400], [BODY]),
    "an empty line behind": (CALL + b"\r\n", [200], [BODY]),
    "an empty line before": (b"\r\n" + CALL, [200], [BODY]),
    "a NUL behind": (CALL + b"\0", [200, 400], [BODY]),
    "one byte too few": (HEAD % (len(BODY) - 1) + BODY, [400, 400], []),
    "length twice": (CALL.replace(b"x: y", b"content-length: %d" % len(BODY)), [400], []),
    "length twice, differing": (CALL.replace(b"x: y", b"content-length: 0"), [400], []),
    "length and coding": (CALL.replace(b"x: y", b"transfer-encoding: chunked"), [400], []),
    "length with a sign": (CALL.replace(b"length: ", b"length: +"), [400], []),
    "length with a space in it": (CALL.replace(b"length: %d" % len(BODY), b"length: 6 0"), [400], []),
    "no digits": (CALL.replace(b"length: %d" % len(BODY), b"length: "), [400], []),
    "digits of another alphabet": (CALL.replace(b"length: %d" % len(BODY), "length: ٦٠".encode()), [400], []),
    "another key": (CALL.replace(KEY.encode(), SECOND_KEY.encode()), [200], [BODY]),
    "an unknown key": (CALL.replace(KEY.encode(), KEY[:-1].encode() + b"X"), [401], []),
    "a space before the colon": (CALL.replace(b"x: y", b"x : y"), [400], []),
    "a bare LF": (CALL.replace(b"x: y\r\n", b"x: y\n"), [400], []),
    "a folded line": (CALL.replace(b"x: y", b"x: y\r\n z"), [400], []),
    "two hosts": (CALL.replace(b"x: y", b"host: g"), [400], []),
    "another route": (CALL.replace(b"chat/completions", b"nothing/completions"), [404], []),
    "another model": (HEAD % len(BODY.replace(b"chat", b"none")) + BODY.replace(b"chat", b"none"), [404], []),
    "HTTP/1.0": (CALL.replace(b"HTTP/1.1", b"HTTP/1.0"), [200], [BODY]),
}


@pytest.mark.parametrize("name", SECONDS)
def test_a_second_request_that_differs_by_a_hair(sluice: Live, upstream: RawUpstream, name: str) -> None:
    """Heads are remembered per connection: only the very same one may be taken for it."""
    wire, statuses, bodies = SECONDS[name]
    for way in ("whole", "split", "bytes"):
        upstream.forget()
        with RawClient(sluice.port) as client:
            for _ in range(2):
                client.send(CALL)
                assert client.answer().status == 200
            if way == "split":
                client.send(wire[: len(wire) // 2], wire[len(wire) // 2 :], gap_s=0.02)
            else:
                client.send(*([wire] if way == "whole" else (wire[at : at + 1] for at in range(len(wire)))))
            assert [client.answer().status for _ in statuses] == statuses, way
        still_serves(sluice, upstream)
        models = [seen for seen in upstream.seen if seen.target == "/v1/chat/completions"]
        assert [seen.body for seen in models[2:]] == [body.replace(b'"chat"', b'"m"') for body in bodies], way
    if name == "another key":
        sluice.until(lambda: any(row["app"] == "second" for row in sluice.ledger()), 5)


@pytest.mark.parametrize(
    "request_", [CALL, b"POST /files/a HTTP/1.1\r\nhost: g\r\ncontent-length: 4\r\n" + KEY_LINE + b"\r\nbody"]
)
def test_cut_at_every_byte(sluice: Live, upstream: RawUpstream, request_: bytes) -> None:
    """A client that leaves in mid-request leaves nothing behind: no whole request upstream, no exchange, no
    complaint."""
    for at in range(len(request_)):
        client = RawClient(sluice.port)
        client.send(request_[:at])
        client.reset() if at % 2 else client.close()
    still_serves(sluice, upstream)
    assert [seen.target for seen in upstream.seen] == ["/base/fence"]


def test_a_half_closed_client_is_not_kept_waiting(sluice: Live, upstream: RawUpstream) -> None:
    for wire in (CALL, CALL[:-5], CALL[:30], BEHIND, b""):
        with socket.create_connection(("127.0.0.1", sluice.port), timeout=4) as client:
            client.sendall(wire)
            client.shutdown(socket.SHUT_WR)
            with contextlib.suppress(ConnectionResetError):
                while client.recv(65536):
                    pass
    still_serves(sluice, upstream)


def test_slow_heads_and_bodies_are_told_so(sluice: Live, upstream: RawUpstream) -> None:
    """All at once, since each takes its time: what stalls is answered 408 and closed."""
    bodies = b"content-length: 100\r\n\r\n{"
    stalled = {
        "head": b"POST /v1/chat/completions HTTP/1.1\r\nhost:",
        "request line": b"POST /v1/chat/com",
        "call": b"POST /v1/messages HTTP/1.1\r\nhost: g\r\n" + KEY_LINE + bodies,
        "chunk": b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\n" + KEY_LINE
        + b"transfer-encoding: chunked\r\n\r\n5\r\nhe",
        "route": b"POST /files/a HTTP/1.1\r\nhost: g\r\n" + KEY_LINE + bodies,
        "API": b"POST /api/v1/teams HTTP/1.1\r\nhost: g\r\nauthorization: Bearer %b\r\n" % sluice.token.encode()
        + b"content-type: application/json\r\n" + bodies,
    }  # fmt: skip
    began = time.monotonic()
    with contextlib.ExitStack() as open_ones:
        clients = {name: open_ones.enter_context(RawClient(sluice.port, timeout_s=45)) for name in stalled}
        for name, client in clients.items():
            client.send(stalled[name])
        for name, client in clients.items():
            said = client.read_to_end()
            assert status_of(said) in ((408, 504) if name == "route" else (408,)), name
            if name == "call":
                assert json.loads(said.partition(b"\r\n\r\n")[2])["type"] == "error"  # as Anthropic's callers expect
            assert time.monotonic() - began < 45
    assert not upstream.seen


FINE = {
    "an empty line before": b"\r\n" + BEHIND,
    "a URL": BEHIND.replace(b"GET /", b"GET http://g/"),
    "a URL in capitals": BEHIND.replace(b"GET /", b"GET HTTP://G/"),
    "a URL in HTTP/1.0 without a host": BEHIND.replace(b"GET /", b"GET http://g/").replace(b"HTTP/1.1\r\nhost: g",
        b"HTTP/1.0"),
    "a host with a port": BEHIND.replace(b"host: g", b"host: g:8080"),
    "an IPv6 host": BEHIND.replace(b"host: g", b"host: [::1]:80"),
    "tabs around a value": BEHIND.replace(b"host: g", b"host:\t g \t"),
    "no space behind the colon": BEHIND.replace(b"host: g", b"host:g"),
    "an empty value": BEHIND.replace(b"host: g", b"x:\r\nhost: g"),
    "a value beyond ASCII": BEHIND.replace(b"host: g", b"x: \xc3\xa9\r\nhost: g"),
    "an odd method": BEHIND.replace(b"GET", b"PROPFIND"),
}  # fmt: skip


@pytest.mark.parametrize("name", FINE)
def test_what_is_allowed_is_served(sluice: Live, upstream: RawUpstream, name: str) -> None:
    with RawClient(sluice.port) as client:
        client.send(FINE[name])
        assert client.answer().status == 200
    assert [seen.target for seen in upstream.seen] == ["/base/smuggled"]


def test_a_call_by_url(sluice: Live, upstream: RawUpstream) -> None:
    with RawClient(sluice.port) as client:
        client.send(CALL.replace(b"POST /", b"POST http://g/"))
        assert client.answer().status == 200
        client.send(b"GET http://g/healthz HTTP/1.1\r\nhost: g\r\n\r\n")
        assert client.answer().status == 200
        client.send(b"OPTIONS * HTTP/1.1\r\nhost: g\r\n\r\n")
        assert client.answer().status < 500


def test_chunks_as_they_may_be(sluice: Live, upstream: RawUpstream) -> None:
    """Trailers end here: they must not be taken for headers."""
    head = b"POST %b HTTP/1.1\r\nhost: g\r\n" + KEY_LINE + b"Transfer-Encoding:\tChunked \r\n\r\n"
    wire = b'1;a\r\n{\r\n00%X;a=b;c="d;e\\"f"\r\n%b\r\n000\r\nx-evil: 1\r\nx-api-key: evil\r\n\r\n' % (
        len(BODY) - 1,
        BODY[1:],
    )
    for path in (b"/v1/chat/completions", b"/files/a"):
        with RawClient(sluice.port) as client:
            client.send(head % path + wire + BEHIND)
            assert [client.answer().status for _ in range(2)] == [200, 200]
        call = upstream.seen[-2]
        assert call.body == (BODY if path == b"/files/a" else BODY.replace(b'"chat"', b'"m"'))
        assert b"evil" not in call.wire


def test_chunks_that_break_on_a_route(sluice: Live, upstream: RawUpstream) -> None:
    """The upload streams: the upstream may have seen its beginning, never a whole request."""
    head = b"POST /files/a HTTP/1.1\r\nhost: g\r\n" + KEY_LINE + b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
    for broken in (
        b"g\r\n",
        b"5\nhello\r\n",
        b"5\r\nhelloX\r\n",
        b"ffffffffffffffff\r\n",
        b"0\r\ncontent-length: 5\r\n\r\n",
    ):
        for gap_s in (0.0, 0.05):
            with RawClient(sluice.port, timeout_s=4) as client:
                client.send(head, broken + BEHIND, gap_s=gap_s)
                assert status_of(client.read_to_end()) in (400, 413)
    still_serves(sluice, upstream)
    assert [seen.target for seen in upstream.seen] == ["/base/fence"]


CROSSINGS = [
    "//api/v1/providers", "/api%2fv1/providers", "/api%2Fv1%2Fproviders", "/%61pi/v1/providers", "/api//v1/providers",
    "/API/v1/providers", "/api;/v1/providers", "/api/v1;x/providers", "/v1/api/v1/providers",
    "/files//api/v1/providers",
    "/files/%2fapi/v1/providers", "/openai/api/v1/providers", "/v1/%2fapi/v1/providers",
    "/console%2f..%2fapi/v1/providers",
    "/./api/v1/providers", "/files/./../api/v1/providers", "/api%5cv1/providers",
    "/v1//../api/v1/providers",
]  # fmt: skip


@pytest.mark.parametrize("path", CROSSINGS)
def test_no_way_from_the_data_plane_to_the_api(sluice: Live, upstream: RawUpstream, path: str) -> None:
    with RawClient(sluice.port) as client:
        client.send(
            f"GET {path} HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {sluice.token}\r\n".encode() + KEY_LINE + b"\r\n"
        )
        got = client.answer()
    assert b'"items"' not in got.body
    assert got.status < 500
    for seen in upstream.seen:
        assert seen.target.startswith("/base/")
        assert not seen.target.startswith("/base//")


def test_the_prefix_of_a_provider_holds(sluice: Live, upstream: RawUpstream) -> None:
    for path in (
        "/files//evil.example/x",
        "/files/%2fevil",
        "/files/http://evil",
        "/files/@evil",
        "/files",
        "/files/?a=../b",
    ):
        with RawClient(sluice.port) as client:
            client.send(f"GET {path} HTTP/1.1\r\nhost: g\r\n".encode() + KEY_LINE + b"\r\n")
            assert client.answer().status == 200
        assert upstream.seen[-1].target.startswith("/base/")
        assert not upstream.seen[-1].target.startswith("/base//")
        assert upstream.seen[-1].header("host") == f"127.0.0.1:{upstream.port}"


def test_say_is_what_it_says(sluice: Live) -> None:
    assert status_of(say(sluice, b"GET /healthz HTTP/1.0\r\n\r\n", "whole")) == 200
