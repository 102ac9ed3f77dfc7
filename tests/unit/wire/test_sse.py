from dataclasses import dataclass
from operator import attrgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.sse import SseEvent, SseScanner, data_of, first_event_end, last_event_end, split_events
from tests.unit.wire.cutting import SIZES, cut, cut_at


@dataclass(frozen=True)
class Case:
    name: str
    wire: bytes
    events: tuple[SseEvent, ...]
    rest: bytes = b""


CASES = (
    Case("one line feed style", b"data: a\n\ndata: b\n\n", (SseEvent(b"a"), SseEvent(b"b"))),
    Case("CRLF", b"data: a\r\n\r\ndata: b\r\n\r\n", (SseEvent(b"a"), SseEvent(b"b"))),
    Case("CR, ended by a comment", b"data: a\r\rdata: b\r\r:\n", (SseEvent(b"a"), SseEvent(b"b"))),
    Case("mixed line ends", b"data: a\r\n\ndata: b\n\r\n", (SseEvent(b"a"), SseEvent(b"b"))),
    Case("several data lines", b"data: a\ndata:b\ndata\n\n", (SseEvent(b"a\nb\n"),)),
    Case("only one space is cut", b"data:  a\n\n", (SseEvent(b" a"),)),
    Case("named, with id and retry", b"event: x\nid: 7\nretry: 250\ndata: a\n\n", (SseEvent(b"a", b"x", b"7", 250),)),
    Case("the id stays", b"id: 7\ndata: a\n\ndata: b\n\n", (SseEvent(b"a", b"", b"7"), SseEvent(b"b", b"", b"7"))),
    Case("id with NUL is ignored", b"id: 7\0\ndata: a\n\n", (SseEvent(b"a"),)),
    Case("retry that is no number", b"retry: 1s\ndata: a\n\n", (SseEvent(b"a"),)),
    Case("comments and unknown fields", b": hi\n\nfoo: bar\ndata: a\n\n", (SseEvent(b"a"),)),
    Case("no data, no event", b"event: x\n\ndata: a\n\n", (SseEvent(b"a"),)),
    Case("byte order mark", b"\xef\xbb\xbfdata: a\n\n", (SseEvent(b"a"),)),
    Case("early end", b"data: a\n\ndata: b\ndata: c", (SseEvent(b"a"),), rest=b"b\ndata: c"),
)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", CASES, ids=attrgetter("name"))
def test_events(case: Case, size: int) -> None:
    scanner = SseScanner()
    events = [event for piece in cut(case.wire, size) for event in scanner.feed(piece)]
    assert tuple(events) == case.events
    assert scanner.close() == case.rest


def test_an_endless_event_is_refused() -> None:
    scanner = SseScanner(max_event_bytes=1000)
    lines = [b"data: " + b"x" * 50 + b"\n"] * 100
    with pytest.raises(ValueError, match="1000"):
        [scanner.feed(line) for line in lines]


_PIECES = st.lists(st.sampled_from([b"data: a", b"event: e", b":c", b"\n", b"\r\n", b"\r", b"\n\n", b"x"]), max_size=30)


@given(parts=_PIECES, places=st.lists(st.integers(0, 500), max_size=8))
def test_chunking_changes_nothing(parts: list[bytes], places: list[int]) -> None:
    wire = b"".join(parts)
    whole, pieces = SseScanner(), SseScanner()
    expected = whole.feed(wire)
    got = [event for piece in cut_at(wire, places) for event in pieces.feed(piece)]
    assert got == expected
    assert pieces.close() == whole.close()


@given(parts=_PIECES)
def test_split_events_loses_nothing(parts: list[bytes]) -> None:
    wire = b"".join(parts)
    end = last_event_end(wire)
    events = split_events(wire[:end])
    assert b"".join(events) == wire[:end]
    assert last_event_end(wire[end:] + b"x") in (0, len(wire[end:])) or b"\r" in wire
    if end:
        assert 0 < first_event_end(wire) <= end


def test_raw_data_of_an_event() -> None:
    assert data_of(b"event: x\ndata: {\ndata:}\n\n") == b"{\n}"
    assert data_of(b": comment\n\n") == b""
