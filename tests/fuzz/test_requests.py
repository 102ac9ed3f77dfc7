"""What a client sends, through the reader of requests: ours against h11. Only WireError is raised, nothing depends on
how the
bytes were cut, and each request that we take is one that h11 takes too, with the same head and body."""

from pathlib import Path
from typing import Any

import h11
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.dataplane.request import Request, RequestBody
from gateway.dataplane.request_reader import RequestReader
from gateway.wire.errors import WireError
from tests.fuzz.mutations import mutated
from tests.unit.wire.cutting import cut_at

SEEDS = [
    b"GET /files/a?b=c HTTP/1.1\r\nhost: g\r\nx: y\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\nhost: g\r\n\r\n",
    b"PUT / HTTP/1.1\r\nhost: g\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nx:\r\n\r\nGET / HTTP/1.0\r\n\r\n",
    b"\r\nGET http://g/a HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\nGET /evil HTTP/1.1\r\nhost: g\r\n\r\n",
    b"PUT / HTTP/1.1\r\nhost:g\r\nconnection:upgrade\r\nupgrade:x\r\ncontent-length: 1\r\n\r\naGET / HTTP/1.0\r\n\r\n",
]  # fmt: skip
TOKENS = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b" : ", b"\0", b"\x0b", b"\xff", b"content-length: 3\r\n",
    b"Content-Length: 0\r\n", b"transfer-encoding: chunked\r\n", b"transfer-encoding: identity\r\n", b"host: evil\r\n",
    b"HTTP/1.0", b"HTTP/2.0", b"..", b"%2e", b"%00", b"+5", b"0x5", b",5", b"chunked", b"\r\n\r\n", b"\r\n x",
    b"upgrade: websocket\r\nconnection: upgrade\r\n",
]  # fmt: skip


class Control:
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


Taken = list[tuple[bytes, bytes, tuple[tuple[bytes, bytes], ...], bytes]]


def read(pieces: list[bytes]) -> tuple[Taken, int]:
    """Complete requests (method, target, headers, body), and the status of what was refused, or 0."""
    requests: list[Request] = []
    reader = RequestReader(
        lambda: Request(RequestBody(Control(), Path(), 1 << 20, 1 << 20), 0),
        requests.append, max_head_bytes=4096, max_body_bytes=1 << 20,
    )  # fmt: skip
    refused = 0
    try:
        for piece in pieces:
            reader.feed(piece)
    except WireError as refusal:
        refused = refusal.status
        assert 400 <= refused < 600
    complete = [one for one in requests if one.body.complete]
    return [(one.method, one.target, tuple(one.headers), one.body.whole()) for one in complete], refused


def read_by_h11(wire: bytes) -> Taken:
    """As far as h11 gets, responses to all of it assumed."""
    connection = h11.Connection(h11.SERVER)
    taken: Taken = []
    head: Any = None
    body = b""
    try:
        connection.receive_data(wire)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                head, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                taken.append((head.method, head.target, tuple(head.headers), body))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    return taken
                connection.start_next_cycle()
            else:
                return taken
    except (h11.RemoteProtocolError, h11.LocalProtocolError):
        return taken


@settings(max_examples=400)
@given(wire=mutated(SEEDS, TOKENS) | st.binary(max_size=80), places=st.lists(st.integers(0, 250), max_size=8))
@example(wire=b"GET /a\r\n\r\n", places=[7])  # a line of HTTP/0.9, cut within its end
@example(wire=b"GET / HTTP/11.1\r\n\r\n", places=[16])
@example(wire=b"G" * 40 + b" / HTTP/2.0\r\n\r\n", places=[38])
def test_requests(wire: bytes, places: list[int]) -> None:
    taken, refused = read([wire])
    assert read(cut_at(wire, places)) == (taken, refused)
    assert read([wire[at : at + 1] for at in range(len(wire))])[0] == taken
    stripped = wire
    while stripped.startswith(b"\r\n"):  # h11 bears no empty lines
        stripped = stripped[2:]
    theirs = read_by_h11(stripped)
    for ours, other in zip(taken, theirs, strict=False):
        assert (ours[0], ours[1], ours[3]) == (other[0], other[1], other[3])
        assert sorted(ours[2]) == sorted((name, value) for name, value in other[2])
