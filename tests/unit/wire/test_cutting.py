"""Requests and answers are cut where they end, and not a byte of them is changed, wherever the reads fall."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.cutting import AnswerCutter, RequestCutter
from gateway.wire.errors import WireError
from gateway.wire.opening import Kind, is_surely, read_opening
from tests.unit.wire.cutting import cut_at

REQUESTS = [
    b"GET /a HTTP/1.1\r\nHost:  x \r\nX-Odd: \xff\r\n\r\n",
    b"POST /v1/chat/completions?x=1 HTTP/1.1\r\nhost: a:8\r\ncontent-length: 5\r\n\r\nhello",
    b"POST /b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3;e=1\r\nabc\r\n0\r\nT: 1\r\n\r\n",
    b"\r\nOPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET http://y/z HTTP/1.0\r\n\r\n",
]
BODIES = [b"", b"hello", b"abc", b"", b""]
EARLY = b"HTTP/1.1 103 Early\r\nlink: x\r\n\r\n"
ANSWERS = [
    (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", False),
    (b"HTTP/1.1 204 No Content\r\n\r\n", False),
    (EARLY + b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", False),
    (b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", True),
]


@given(st.lists(st.integers(0, 2000), max_size=12))
def test_requests_wherever_the_reads_fall(places: list[int]) -> None:
    stream = b"".join(REQUESTS)
    cutter, taken, payload, found = RequestCutter(), b"", b"", []
    for piece in cut_at(stream, places):
        rest = piece
        while rest:
            rest = cutter.feed(rest)
            taken += cutter.taken
            payload += cutter.payload
            if cutter.ended:
                found.append((taken, payload))
                cutter, taken, payload = RequestCutter(), b"", b""
            else:
                assert rest == b""
    assert found == list(zip(REQUESTS, BODIES, strict=True))


@given(st.lists(st.integers(0, 2000), max_size=12))
def test_answers_wherever_the_reads_fall(places: list[int]) -> None:
    stream = b"".join(answer for answer, _ in ANSWERS)
    left = [AnswerCutter(bodiless=bodiless) for _, bodiless in ANSWERS]
    for piece in cut_at(stream, places):
        rest = piece
        while rest and left:
            rest = left[0].feed(rest)
            if left[0].ended:
                left.pop(0)
            else:
                assert rest == b""
    assert left == []


@pytest.mark.parametrize(
    "bad",
    [
        b"QUIT\r\n",
        b"EHLO mail.example\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    ],
)
def test_what_could_be_understood_in_two_ways_is_no_request_and_stays_whole(bad: bytes) -> None:
    cutter = RequestCutter()
    with pytest.raises(WireError):
        cutter.feed(bad)
    assert cutter.head is not None or cutter.held == bad


def test_an_answer_that_ends_with_its_connection_only() -> None:
    cutter = AnswerCutter(bodiless=False)
    assert cutter.feed(b"HTTP/1.1 200 OK\r\n\r\nbody") == b""
    assert cutter.endless
    assert not cutter.ended


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"GET / HTTP/1.1\r\n", Kind.HTTP1),
        (b"\r\nPOST /x HTTP/1.0\r\n", Kind.HTTP1),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Kind.HTTP2),
        (b"GET / HTTQ/1.1\r\n", Kind.OTHER),
        (b"\x00\x01", Kind.OTHER),
        (b"SSH-2.0-x\r\n", Kind.OTHER),
        (b"\x16\x03\x01\x00\x00", Kind.OTHER),
        (b"\x17\x03", Kind.OTHER),
    ],
)
def test_what_a_connection_begins_with(data: bytes, kind: Kind) -> None:
    opening = read_opening(data)
    assert opening is not None
    assert opening.kind is kind


@pytest.mark.parametrize("data", [b"", b"G", b"GET /lon", b"PRI * HT", b"\x16\x03\x01", b"HELO", b"\r"])
def test_a_beginning_that_does_not_tell_yet(data: bytes) -> None:
    assert read_opening(data) is None
    assert is_surely(data) is (data == b"GET /lon")
