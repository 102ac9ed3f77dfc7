"""HTTP/2 field lists as HTTP/1.1 text and back: nothing is lost, nothing reads differently, nothing is smuggled."""

from dataclasses import dataclass
from operator import attrgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.cutting import RequestCutter, read_request_head
from gateway.wire.errors import WireError
from gateway.wire.h2_text import AnswerReader, Body, End, Event, Head, body_text, end_text, request_text

Fields = list[tuple[bytes, bytes]]
GET: Fields = [(b":method", b"GET"), (b":scheme", b"https"), (b":authority", b"a.example"), (b":path", b"/v1?x=1")]
POST: Fields = [(b":method", b"POST"), *GET[1:]]


def but(name: bytes, value: bytes | None) -> Fields:
    """GET with another pseudo-header; None: without it."""
    return [(key, old if key != name else value) for key, old in GET if key != name or value is not None]  # type: ignore[misc]


@dataclass(frozen=True)
class Malformed:
    name: str
    fields: Fields
    ended: bool = True


MALFORMED = [
    Malformed("no method", but(b":method", None)),
    Malformed("no path", but(b":path", None)),
    Malformed("no scheme", but(b":scheme", None)),
    Malformed("no host", but(b":authority", None)),
    Malformed("empty path", but(b":path", b"")),
    Malformed("relative path", but(b":path", b"v1")),
    Malformed("space in the path", but(b":path", b"/ HTTP/1.1")),
    Malformed("line end in the path", but(b":path", b"/ HTTP/1.1\r\nhost: b\r\n\r\nGET /admin")),
    Malformed("space in the method", but(b":method", b"GET / HTTP/1.1\r\nx:")),
    Malformed("line end in the host", but(b":authority", b"a\r\nx: y")),
    Malformed("userinfo", but(b":authority", b"u@a.example")),
    Malformed("empty host", but(b":authority", b"")),
    Malformed("another host", [*GET, (b"host", b"b.example")]),
    Malformed("two hosts", [*but(b":authority", None), (b"host", b"a"), (b"host", b"b")]),
    Malformed("pseudo twice", [*GET, (b":path", b"/")]),
    Malformed("pseudo late", [*GET[:3], (b"x", b"y"), GET[3]]),
    Malformed("pseudo unknown", [(b":protocol", b"websocket"), *GET]),
    Malformed("upper case", [*GET, (b"X-Own", b"y")]),
    Malformed("space in a name", [*GET, (b"x y", b"z")]),
    Malformed("colon in a name", [*GET, (b"x:", b"z")]),
    Malformed("empty name", [*GET, (b"", b"z")]),
    Malformed("line end in a name", [*GET, (b"x\r\ntransfer-encoding", b"chunked")]),
    Malformed("CR in a value", [*GET, (b"x", b"a\rb")]),
    Malformed("LF in a value", [*GET, (b"x", b"a\nb")]),
    Malformed("NUL in a value", [*GET, (b"x", b"a\0b")]),
    Malformed("space before a value", [*GET, (b"x", b" a")]),
    Malformed("tab behind a value", [*GET, (b"x", b"a\t")]),
    Malformed("connection", [*GET, (b"connection", b"close")]),
    Malformed("keep-alive", [*GET, (b"keep-alive", b"1")]),
    Malformed("proxy-connection", [*GET, (b"proxy-connection", b"close")]),
    Malformed("transfer-encoding", [*POST, (b"transfer-encoding", b"chunked")], ended=False),
    Malformed("upgrade", [*GET, (b"upgrade", b"h2c")]),
    Malformed("te", [*GET, (b"te", b"gzip")]),
    Malformed("two lengths", [*POST, (b"content-length", b"1"), (b"content-length", b"2")], ended=False),
    Malformed("signed length", [*POST, (b"content-length", b"+1")], ended=False),
    Malformed("empty length", [*POST, (b"content-length", b"")], ended=False),
    Malformed("length without body", [*POST, (b"content-length", b"1")]),
]


@pytest.mark.parametrize("case", MALFORMED, ids=attrgetter("name"))
def test_what_is_malformed_becomes_no_text(case: Malformed) -> None:
    with pytest.raises(WireError):
        request_text(case.fields, ended=case.ended)


def test_a_request_is_the_same_in_text() -> None:
    fields = [*POST, (b"cookie", b"a=1"), (b"te", b"trailers"), (b"x", b""), (b"cookie", b"b=2"), (b"x", b"\xe4 b")]
    head = read_request_head(request_text(fields, ended=False).head)
    assert (head.method, head.path, head.query, head.chunked) == (b"POST", b"/v1", b"x=1", True)
    assert head.headers == [
        (b"host", b"a.example"), (b"te", b"trailers"), (b"connection", b"te"), (b"x", b""), (b"x", b"\xe4 b"),
        (b"cookie", b"a=1; b=2"), (b"transfer-encoding", b"chunked"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "ended", "length", "chunked"),
    [(GET, True, None, False), (POST, True, b"0", False), ([*POST, (b"content-length", b"7")], False, b"7", False),
     (POST, False, None, True), (GET, False, None, True)],
)  # fmt: skip
def test_how_the_body_is_framed(fields: Fields, ended: bool, length: bytes | None, chunked: bool) -> None:
    head = read_request_head(request_text(fields, ended=ended).head)
    assert (head.header(b"content-length"), head.chunked) == (length, chunked)


@pytest.mark.parametrize(
    ("kind", "grpc"),
    [(b"application/grpc", True), (b"application/grpc+proto", True), (b"Application/gRPC; x=y", True),
     (b"application/grpc-web+proto", True), (b"application/json", False), (b"application/grpcish", False)],
)  # fmt: skip
def test_grpc_is_known_by_its_media_type(kind: bytes, grpc: bool) -> None:
    assert request_text([*POST, (b"content-type", kind)], ended=False).is_grpc is grpc


@pytest.mark.parametrize("bad", [[(b":path", b"/")], [(b"x", b"a\r\nb")], [(b"Upper", b"a")], [(b"connection", b"x")]])
def test_trailers_that_are_none(bad: Fields) -> None:
    for chunked in (True, False):
        with pytest.raises(WireError):
            end_text(bad, chunked=chunked)


_names = st.from_regex(rb"[a-z][a-z0-9_.-]{0,12}", fullmatch=True)
_values = st.binary(max_size=24)
_anything = st.binary(max_size=12)


@given(
    fields=st.lists(st.tuples(_names | _anything, _values | _anything), max_size=6),
    path=_anything.map(lambda rest: b"/" + rest),
    pieces=st.lists(st.binary(min_size=1, max_size=40), max_size=5),
    trailers=st.lists(st.tuples(_names, _values), max_size=3),
    whole=st.booleans(),
    size=st.sampled_from((1, 7, 65536)),
)
def test_whatever_comes_is_one_request_or_none(
    fields: Fields, path: bytes, pieces: list[bytes], trailers: Fields, whole: bool, size: int
) -> None:
    """No list of fields and no body make a text that is cut into more, or less, than they were."""
    body = b"".join(pieces)
    given_fields = [*POST[:3], (b":path", path), *fields]
    if whole:
        given_fields.append((b"content-length", b"%d" % len(body)))
    try:
        text = request_text(given_fields, ended=False)
        end = end_text(trailers, chunked=text.chunked)
    except WireError:
        return
    sent = text.head + b"".join(body_text(piece, chunked=text.chunked) for piece in pieces) + end
    cutter = RequestCutter()
    payload = b""
    for at in range(0, len(sent), size):
        assert not cutter.ended
        try:
            rest = cutter.feed(sent[at : at + size])
        except WireError:
            return  # refused as it would be on HTTP/1.1
        assert rest == b""
        payload += cutter.payload
    assert cutter.ended
    assert cutter.head is not None
    assert payload == body
    own = [(name, value) for name, value in fields if name not in (b"cookie", b"host", b"te", b"content-length")]
    extra = (b"cookie", b"host", b"te", b"content-length", b"transfer-encoding", b"connection")
    assert [field for field in cutter.head.headers if field[0] not in extra] == own


@dataclass(frozen=True)
class Answer:
    name: str
    wire: bytes
    status: int
    fields: Fields
    body: bytes = b""
    trailers: Fields | None = None
    """None: it does not end by itself."""
    bodiless: bool = False
    interim: tuple[int, ...] = ()


ANSWERS = [
    Answer("length", b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX-A: b\r\nConnection: keep-alive\r\n\r\nabc", 200,
           [(b"content-length", b"3"), (b"x-a", b"b")], b"abc", []),
    Answer("empty", b"HTTP/1.1 204 No Content\r\n\r\n", 204, [], b"", []),
    Answer("head", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", 200, [(b"content-length", b"3")], b"", [],
           bodiless=True),
    Answer("chunked", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n", 200,
           [], b"abcde", []),
    Answer("trailers", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum:  7 \r\n\r\n", 200,
           [], b"a", [(b"x-sum", b"7")]),
    Answer("until close", b"HTTP/1.0 200 OK\r\nconnection: close\r\n\r\nabc", 200, [], b"abc"),
    Answer("named by connection",
           b"HTTP/1.1 200 OK\r\nconnection: x-hop, close\r\nx-hop: 1\r\ncontent-length: 0\r\n\r\n",
           200, [(b"content-length", b"0")], b"", []),
    Answer("interim", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
           b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na", 200, [(b"content-length", b"1")], b"a", [],
           interim=(100, 103)),
]  # fmt: skip


@pytest.mark.parametrize("size", [1, 7, 65536])
@pytest.mark.parametrize("case", ANSWERS, ids=attrgetter("name"))
def test_an_answer_in_events(case: Answer, size: int) -> None:
    reader = AnswerReader(bodiless=case.bodiless)
    events: list[Event] = []
    for at in range(0, len(case.wire), size):
        events += reader.feed(case.wire[at : at + size])
    assert reader.ended is (case.trailers is not None)
    events += reader.close()
    heads = [event for event in events if isinstance(event, Head)]
    assert tuple(head.status for head in heads) == (*case.interim, case.status)
    assert heads[-1].fields == [(b":status", b"%d" % case.status), *case.fields]
    assert b"".join(event.payload for event in events if isinstance(event, Body)) == case.body
    assert events[-1] == End(case.trailers or [])
    assert sum(isinstance(event, End) for event in events) == 1


@pytest.mark.parametrize(
    "wire",
    [b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab",
     b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n",
     b"HTTP/1.1 200 OK\r\n", b""],
)  # fmt: skip
def test_an_answer_that_ends_early_is_none(wire: bytes) -> None:
    reader = AnswerReader(bodiless=False)
    reader.feed(wire)
    with pytest.raises(WireError):
        reader.close()


@pytest.mark.parametrize("wire", [b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n", b"nonsense\r\n\r\n"])
def test_what_is_no_answer(wire: bytes) -> None:
    with pytest.raises(WireError):
        AnswerReader(bodiless=False).feed(wire)
