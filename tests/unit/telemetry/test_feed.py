"""The live feed's numbers, memory and readers; bounded joins of the exporter; trace headers; local callers."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from fastapi import Request

from gateway.api.caller import client_is_local
from gateway.dataplane import event_reader
from gateway.dataplane.event_reader import EventReader
from gateway.store.keeper_events import KEPT, ROWS_A_BATCH, EventFeed
from gateway.store.keeper_sessions import Session, Sessions
from gateway.telemetry.otel_main import MOST_WAITING, Joiner
from gateway.wire.frames import FrameReader, message_of, text_frame, text_of
from gateway.wire.traceparent import read_traceparent
from tests.unit.telemetry.test_ledger_metrics import record

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Wire:
    """A writer that keeps what was written."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.behind = 0
        self._reader = FrameReader()
        self.transport = SimpleNamespace(get_write_buffer_size=lambda: self.behind)

    def is_closing(self) -> bool:
        return False

    def write(self, piece: bytes) -> None:
        self.frames += [message_of(payload) for payload in self._reader.feed(piece)]


def subscribed(feed_sessions: Sessions, **wants: bool) -> Wire:
    wire = Wire()
    feed_sessions.all.add(Session(wire, **wants))  # type: ignore[arg-type]  # the part of a StreamWriter that is used
    return wire


def test_a_reader_goes_on_where_it_was() -> None:
    sessions = Sessions()
    feed = EventFeed(sessions)
    wire = subscribed(sessions, wants_events=True)
    feed.add_rows([record(1), record(2)])
    feed.add([{"type": "configuration", "generation": 3}])
    told = [message["event"] for message in wire.frames]
    assert [event["type"] for event in told] == ["request", "request", "configuration"]
    missed = feed.since(told[0]["id"])
    assert missed.complete
    assert missed.events == told[1:]
    assert feed.since(told[-1]["id"]).events == []


@pytest.mark.parametrize("unknown", ["", "x", "00000000-1", "{epoch}-99", "{epoch}-x", "{epoch}--1"])
def test_an_id_that_is_not_known_is_a_gap(unknown: str) -> None:
    feed = EventFeed(Sessions())
    feed.add([{"type": "configuration", "generation": 3}])
    missed = feed.since(unknown.replace("{epoch}", feed.epoch))
    assert (missed.events, missed.complete) == ([], False)


def test_what_is_no_longer_kept_is_a_gap() -> None:
    feed = EventFeed(Sessions())
    for number in range(KEPT // ROWS_A_BATCH + 2):
        feed.add_rows([record(number)] * ROWS_A_BATCH)
    missed = feed.since(f"{feed.epoch}-1")
    assert not missed.complete
    assert len(missed.events) == KEPT


def test_more_rows_than_the_feed_shows_are_said_to_be_missing() -> None:
    sessions = Sessions()
    wire = subscribed(sessions, wants_events=True)
    EventFeed(sessions).add_rows([record(number) for number in range(ROWS_A_BATCH + 1)])
    kinds = [message["event"]["type"] for message in wire.frames]
    assert kinds == ["gap", *["request"] * ROWS_A_BATCH]


def test_an_exporter_that_is_behind_gets_nothing_more_and_is_counted() -> None:
    sessions = Sessions()
    wire = subscribed(sessions, wants_rows=True)
    feed = EventFeed(sessions)
    feed.add_rows([record(1)])
    wire.behind = 1 << 30
    feed.add_rows([record(2), record(3)])
    assert [len(message["rows"]) for message in wire.frames] == [1]
    assert feed.rows_missed == 2


def test_a_slow_reader_loses_the_oldest_and_is_told() -> None:
    async def read() -> list[dict[str, Any]]:
        reader = EventReader()
        for number in range(event_reader.HELD + 5):
            reader.put({"type": "x", "id": f"e-{number}"})
        return [await reader.next() for _ in range(3)]

    first, second, _ = asyncio.run(read())
    assert first["type"] == "gap"
    assert second["id"] == "e-5"


def test_rows_wait_for_their_notes_and_both_are_bounded() -> None:
    recorded: list[tuple[list[Any], Any]] = []
    joiner = Joiner(SimpleNamespace(record=lambda row, note: recorded.append((row, note))))  # type: ignore[arg-type]
    joiner.take_rows([["a"], ["b"]], 0.0)
    joiner.work(0.4)
    assert recorded == []
    joiner.take_note({"id": "b", "operation": "chat"})
    joiner.work(0.6)
    assert recorded == [(["a"], {}), (["b"], {"id": "b", "operation": "chat"})]
    joiner.take_rows([["c"]] * (MOST_WAITING + 7), 1.0)
    assert joiner.dropped == 7


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (f"00-{TRACE}-{SPAN}-01", (TRACE, SPAN, "01")),
        (f" 00-{TRACE}-{SPAN}-00 ", (TRACE, SPAN, "00")),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-brings", (TRACE, SPAN, "01")),
        (f"00-{TRACE}-{SPAN}-01-more", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}", None),
        ("", None),
    ],
)
def test_traceparent(value: str, read: tuple[str, str, str] | None) -> None:
    found = read_traceparent(value.encode())
    assert (None if found is None else (found.trace_id, found.span_id, found.flags)) == read
    if found is not None:
        assert found.child("1" * 16) == f"00-{TRACE}-{'1' * 16}-{found.flags}".encode()


@pytest.mark.parametrize("size", [1, 7, 65536])
def test_text_frames(size: int) -> None:
    piece = text_frame(7, b"one\ntwo") + text_frame(1 << 40, b"")
    reader = FrameReader()
    payloads = [each for at in range(0, len(piece), size) for each in reader.feed(piece[at : at + size])]
    assert [text_of(payload) for payload in payloads] == [(7, b"one\ntwo"), (1 << 40, b"")]


@pytest.mark.parametrize(
    ("peer", "client", "headers", "local"),
    [
        ("127.0.0.1", "127.0.0.1", {}, True),
        ("::1", "::1", {}, True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", {}, True),
        ("10.0.0.9", "10.0.0.9", {}, False),
        ("10.0.0.9", "127.0.0.1", {}, False),  # a PROXY preamble that claims to be us
        ("127.0.0.1", "10.0.0.9", {}, False),  # a load balancer on this host
        ("127.0.0.1", "127.0.0.1", {"x-forwarded-for": "127.0.0.1"}, False),
        ("127.0.0.1", "127.0.0.1", {"forwarded": "for=127.0.0.1"}, False),
        ("127.0.0.1", "127.0.0.1", {"via": "1.1 varnish"}, False),
        ("127.0.0.1", "127.0.0.1", {"x-forwarded-proto": "https"}, False),
        ("", "", {}, False),
    ],
)
def test_who_counts_as_this_host(peer: str, client: str, headers: dict[str, str], local: bool) -> None:
    scope = {
        "type": "http",
        "client": (client, 1),
        "sluicegate.peer": peer,
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    assert client_is_local(Request(scope)) is local
