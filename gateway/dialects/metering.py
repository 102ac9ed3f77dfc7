"""Meters: read an answer as it passes, without parsing what need not be parsed.

A streamed answer is hundreds of events that differ in one word. Each piece that is made of ordinary content events
alone is recognised by counting: as many marks of an ordinary event as its line feeds promise. Only other pieces are
cut into events, and only those that may tell usage or an end are decoded.
"""

import re
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import orjson

from gateway.dialects.base import Call
from gateway.policy.usage import Usage
from gateway.wire.errors import WireError
from gateway.wire.json_scan import Member, TopLevelScanner
from gateway.wire.sse import PLAIN_ENDS, data_of, first_event_end, last_event_end, split_events

WHOLE_BYTES: Final = 65_536
"""A plain answer up to this size is decoded at its end; a longer one is scanned as it passes."""
MAX_EVENT_BYTES: Final = 262_144
"""What is kept of one event. A longer one (`response.completed` repeats the whole answer, with the caller's tools) is
searched by its end."""
MAX_HELD_BYTES: Final = 65_536
"""What is held back of one event that may have to be taken out: those are short."""
EVENT_NAME_BYTES: Final = 64
MAX_TOKENS: Final = 1 << 40
"""More than any answer has: a figure above is a fault of the upstream and read as 0."""

_EDGE_BYTES: Final = 3
_NOTHING: Final[Mapping[str, Any]] = {}
_NEVER: Final = b"\xff\xfe\xff\xfe"
"""A mark that no text holds."""
QUOTED_USAGE: Final = b'"usage"'
_LAST_USAGE: Final = re.compile(
    rb'"usage"[ \t\r\n]*:[ \t\r\n]*(\{[^{}"]*+(?:"[^"\\]*+"[^{}"]*+|\{[^{}]*+\}[^{}"]*+)*+\})'
    rb'[ \t\r\n]*(?:,[ \t\r\n]*"[^"\\]*+"[ \t\r\n]*:[ \t\r\n]*(?:"[^"\\]*+"|[-+.0-9a-zA-Z]++)[ \t\r\n]*)*+\}[ \t\r\n]*'
)
"""A flat report, or one with flat details, and what may stand behind it."""
USAGE_NAME: Final = b'"usage":'
_NULL_USAGE: Final = (b',"usage":null', b', "usage": null')
"""What OpenAI writes into all other events where usage was asked for. In JSON it is a member wherever it stands:
within a text its quotes are escaped."""
_OPENS_OBJECT: Final = re.compile(rb'"[a-zA-Z]+"[ \t\r\n]*:[ \t\r\n]*\{')
_FINISH: Final = re.compile(
    rb'"(?:finish_reason|stop_reason|finishReason|done_reason)"[ \t\r\n]*:[ \t\r\n]*"([a-z_A-Z]{1,40})"'
)


def as_count(value: object) -> int | None:
    """A count of a usage report; None if it is none. Never raises, whatever the upstream wrote."""
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= MAX_TOKENS else None


def as_report(value: object) -> Mapping[str, Any]:
    """A part of a usage report; empty if it is none."""
    return value if isinstance(value, dict) else _NOTHING


def decode(data: bytes) -> dict[str, Any] | None:
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def decode_members(names: Sequence[str], members: Mapping[str, Member]) -> dict[str, Any]:
    """These members of an object that was scanned; those that are no JSON left out."""
    found = (decode(b'{"v":%b}' % members[name].raw) for name in names if name in members)
    given = [name for name in names if name in members]
    return {name: value["v"] for name, value in zip(given, found, strict=True) if value is not None}


def last_finish(tail: bytes) -> str | None:
    """Why an answer ended, by its last bytes: those of an answer that is too long to be kept."""
    found = _FINISH.findall(tail)
    return found[-1].decode() if found else None


def usage_at_end(body: bytes) -> Mapping[str, Any] | None:
    """The top-level `usage` of a whole JSON answer, without reading the rest; None: look for it with care.

    Behind it there are only plain members and the brace that ends the answer: so that brace closes the object in which
    `usage` stands. Within a text its quotes would be escaped."""
    at = body.rfind(QUOTED_USAGE)
    found = _LAST_USAGE.fullmatch(body, at) if at >= 0 else None
    return None if found is None else decode(found[1])


def without_null_usage(events: bytes) -> bytes:
    for member in _NULL_USAGE:
        events = events.replace(member, b"")
    return events


def as_text(value: object) -> str | None:
    return value if isinstance(value, str) else None


class NullMeter:
    """Answers that use no tokens or tell nothing of them: counts that a body began, no more."""

    __slots__ = ("events", "finish_reason", "model", "usage")

    def __init__(self, usage: Usage | None = None) -> None:
        self.usage = usage
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.events = 0

    def feed(self, piece: bytes) -> bytes | None:
        self.events = 1
        return None

    def end(self) -> bytes:
        return b""

    def estimate(self) -> Usage:
        return Usage()


class AnswerMeter(ABC):
    """A plain JSON answer; `learn` and `read_usage` of the subclass know the dialect.

    What most answers never set stands on the class: setting ten fields for each would cost half a microsecond.
    """

    usage: Usage | None = None
    finish_reason: str | None = None
    model: str | None = None
    events = 0
    _whole = b""
    """The first piece, mostly all there is."""
    _held: list[bytes] | None = None
    """Those after it."""
    _size = 0
    """Bytes that came, but for `_whole`."""
    _lost = False
    """It is no JSON object: nothing is to be learnt."""
    _scanner: TopLevelScanner | None = None
    _tail = b""
    members: ClassVar[tuple[str, ...]] = ("usage", "model")
    """What is read of an answer that is too long to be decoded."""

    def __init__(self, call: Call) -> None:
        self._call = call

    @abstractmethod
    def learn(self, document: dict[str, Any]) -> None:
        """Take model, usage and why it ended from the answer, or from its `members` alone where it is too long."""

    def feed(self, piece: bytes) -> bytes | None:
        if self.events or len(piece) > WHOLE_BYTES:
            self._feed_more(piece)
        else:
            self._whole = piece
        self.events = 1
        return None

    def _feed_more(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._lost:
            return
        if self._scanner is None:
            if self._held is None:
                self._held = []
            self._held.append(piece)
            if len(self._whole) + self._size <= WHOLE_BYTES:
                return
            self._size += len(self._whole)
            piece = b"".join((self._whole, *self._held))
            self._whole, self._held = b"", None
            self._scanner = TopLevelScanner(self.members)
        self._tail = (self._tail + piece)[-4096:]
        try:
            self._scanner.feed(piece)
        except WireError:
            self._lost = True

    def end(self) -> bytes:
        if self._scanner is not None:
            self._end_scanned(self._scanner.members)
            return b""
        try:
            document = orjson.loads(self._whole if self._held is None else b"".join((self._whole, *self._held)))
        except orjson.JSONDecodeError:
            return b""
        if type(document) is dict:
            self.learn(document)
        return b""

    def _end_scanned(self, members: Mapping[str, Member]) -> None:
        self.learn(decode_members(self.members, members))
        self.finish_reason = last_finish(self._tail)

    def estimate(self) -> Usage:
        """A token per four bytes of what came, envelope included: nothing better is known of a plain answer."""
        if self.events == 0:
            return Usage()
        output = 0 if self._call.output_bound == 0 else -(-(len(self._whole) + self._size) // 4)
        return Usage(input_tokens=self._call.input_estimate, output_tokens=output)


class StreamMeter(ABC):
    """A stream of server-sent events. The subclass says what an ordinary event looks like, and reads the others.

    `_mark` and `_lines`: each ordinary event holds the mark once and this many line feeds. `_start` and `_end`: a piece
    with these ends and no line feed between them is one ordinary event, which is seen in half the time. With `drops`
    set, what the caller had not asked for is taken out: whole events, and `"usage":null` of others (but for one longer
    than may be held). So a piece's unfinished last event is held back until it is whole.
    """

    __slots__ = (
        "_call",
        "_drops",
        "_edge",
        "_end",
        "_held",
        "_held_bytes",
        "_lines",
        "_mark",
        "_overlong",
        "_overlong_head",
        "_start",
        "events",
        "finish_reason",
        "model",
        "usage",
    )

    usage_member: ClassVar[str] = "usage"

    def __init__(self, call: Call, *, lines: int, mark: bytes = _NEVER, drops: bool = False) -> None:
        self.usage: Usage | None = None
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.events = 0
        self._call = call
        self._mark = mark
        self._start = _NEVER
        self._end = b"\n\n"
        self._lines = lines
        self._drops = drops
        self._held: deque[bytes] | None = None
        """The event whose end has not come yet; of an overlong one its last bytes. Made when needed: it takes 700
        bytes, and ten thousand streams may be open."""
        self._held_bytes = 0
        self._edge = b""
        """The last bytes of what is held: an event's end may have begun in them."""
        self._overlong = False
        self._overlong_head = b""

    @property
    def within_event(self) -> bool:
        """What came last is the beginning of an event."""
        return self._held is not None

    @abstractmethod
    def read_event(self, event: bytes) -> bool:
        """Learn from one raw event that may be out of the ordinary. True: it is to be taken out."""

    @abstractmethod
    def read_usage(self, report: Mapping[str, Any]) -> Usage | None:
        """What the `usage_member` of an event says, in the dialect's own words; None where it says nothing."""

    def finish_of_overlong(self, head: bytes) -> str | None:
        """What the first bytes of an event that is too long to keep tell of the answer's end."""
        return None

    def feed(self, piece: bytes) -> bytes | None:
        if self._held is None:
            # In CPython 3.11 cutting costs half of asking (`startswith`, `count`), and a third of `in`.
            rest = piece.removeprefix(self._start)
            if len(rest) < len(piece):
                inner = rest.removesuffix(self._end)
                if len(inner) < len(rest) and not inner.partition(b"\n")[1]:
                    self.events += 1
                    return self._edited(piece) if self._drops and inner.partition(USAGE_NAME)[1] else None
            if piece.endswith(PLAIN_ENDS):
                ordinary = piece.count(self._mark)
                if ordinary * self._lines == piece.count(b"\n"):
                    self.events += ordinary
                    return self._edited(piece) if self._drops and piece.rpartition(USAGE_NAME)[1] else None
                return self._read_block(piece)
        return self._feed_broken(piece)

    def _read_block(self, block: bytes) -> bytes | None:
        """Whole events. None: they pass as they are."""
        events = split_events(block)
        dropped = []
        for index, event in enumerate(events):
            if event.find(self._mark) >= 0 and event.count(b"\n") == self._lines:
                self.events += 1  # the mark may have been learnt from an event before it in this block
            elif self.read_event(event):
                dropped.append(index)
        if not self._drops:
            return None
        if not dropped:
            return self._edited(block)
        return without_null_usage(b"".join(event for index, event in enumerate(events) if index not in dropped))

    def _edited(self, events: bytes) -> bytes | None:
        """Whole events that stay. None: they pass as they are."""
        edited = without_null_usage(events)
        return None if len(edited) == len(events) else edited

    def _feed_broken(self, piece: bytes) -> bytes | None:
        """The piece begins or ends within an event. Linear: what was searched is not searched again."""
        edge = self._edge
        end = last_event_end(edge + piece)
        if self._overlong:
            return self._end_overlong(piece) if end else self._hold(piece)
        if not end:
            return self._hold(piece)
        nothing_held = self._held is None
        buffer = b"".join((*self._held, piece)) if self._held else piece
        cut = len(buffer) - len(piece) - len(edge) + end
        block, rest = buffer[:cut], buffer[cut:]
        self._let_go()
        passed = self._read_block(block)
        released = self._hold(rest) if rest else b""
        if not self._drops:
            return None
        out = block if passed is None else passed
        if released != b"":
            out += rest
        return None if nothing_held and len(out) == len(piece) else out

    def _hold(self, piece: bytes) -> bytes | None:
        """Keep a piece of an event whose end has not come. The answer is `feed`'s."""
        if self._held is None:
            self._held = deque()
        self._held.append(piece)
        self._held_bytes += len(piece)
        self._edge = (self._edge + piece)[-_EDGE_BYTES:]
        limit = MAX_HELD_BYTES if self._drops else MAX_EVENT_BYTES
        if self._held_bytes <= limit and not self._overlong:
            return b"" if self._drops else None
        released: bytes | None = None
        if not self._overlong:
            whole = b"".join(self._held)
            self._overlong = True
            self._overlong_head = whole[:EVENT_NAME_BYTES]
            released = whole if self._drops else None  # too long to be the event that is taken out
        while self._held_bytes - len(self._held[0]) >= limit:
            self._held_bytes -= len(self._held.popleft())
        return released

    def _let_go(self) -> None:
        self._held = None
        self._held_bytes = 0
        self._edge = b""
        self._overlong = False

    def _end_overlong(self, piece: bytes) -> bytes | None:
        """The event that is too long to keep ends in this piece; its beginning was passed on."""
        end = first_event_end(self._edge + piece) - len(self._edge)
        self._read_overlong(b"".join((*(self._held or ()), piece[:end])))
        self._let_go()
        after = self.feed(piece[end:]) if end < len(piece) else None
        return None if after is None else piece[:end] + after

    def _read_overlong(self, tail: bytes) -> None:
        """Only the end of the event is known: its usage is the last that it names."""
        start = tail.rfind(b'"%b"' % self.usage_member.encode())
        while start >= 0 and not _OPENS_OBJECT.match(tail, start):
            start = tail.rfind(b'"%b"' % self.usage_member.encode(), 0, start)
        if start < 0:
            self.events += 1
            return
        self.finish_reason = self.finish_of_overlong(self._overlong_head) or self.finish_reason
        scanner = TopLevelScanner((self.usage_member,))
        try:
            scanner.feed(b"{" + tail[start:])
        except WireError:
            pass  # the members after it close objects that began before the tail
        member = scanner.members.get(self.usage_member)
        report = decode(member.raw) if member is not None else None
        if report is not None:
            self.usage = self.read_usage(report) or self.usage

    def end(self) -> bytes:
        held, overlong = b"".join(self._held or ()), self._overlong
        self._let_go()
        if overlong or not held:
            return b""
        dropped = held.rstrip(b"\r\n").endswith(b"}") and self.read_event(held)
        return without_null_usage(held) if self._drops and not dropped else b""

    def estimate(self) -> Usage:
        """Providers send about one token an event; where nothing was delivered nothing is charged."""
        if self.events == 0:
            return Usage()
        return Usage(input_tokens=self._call.input_estimate, output_tokens=self.events)


def event_document(event: bytes) -> dict[str, Any] | None:
    return decode(data_of(event))
