"""Server-sent events as bytes (WHATWG HTML 9.2): cut a stream into events, whatever the chunking."""

import re
from dataclasses import dataclass
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_EVENT_END: Final = re.compile(rb"(?:\r\n|\n|\r(?!\n)){2}")
_BOM: Final = b"\xef\xbb\xbf"

PLAIN_ENDS: Final = (b"\n\n", b"\r\n\r\n")
"""How practically every server ends an event: a piece with this end ends with an event."""


@dataclass(frozen=True, slots=True)
class SseEvent:
    data: bytes
    """The data lines, joined by line feeds."""
    event: bytes = b""
    """b"" = `message`, the default."""
    id: bytes | None = None
    retry_ms: int | None = None


def last_event_end(buffer: bytes) -> int:
    """Index past the last event that is whole in `buffer`; 0 if none is. A lone CR at the very end may be half a CRLF:
    that event counts as whole only once the next byte is there."""
    if b"\r" not in buffer:
        return buffer.rfind(b"\n\n") + 2 if b"\n\n" in buffer else 0
    end = 0
    for found in _EVENT_END.finditer(buffer):
        if buffer[found.end() - 1] != 0x0D or found.end() < len(buffer):
            end = found.end()
    return end


def first_event_end(buffer: bytes) -> int:
    """Index past the first whole event; 0 if there is none."""
    if b"\r" not in buffer:
        return buffer.find(b"\n\n") + 2 if b"\n\n" in buffer else 0
    found = _EVENT_END.search(buffer)
    if found is None or (buffer[found.end() - 1] == 0x0D and found.end() == len(buffer)):
        return 0
    return found.end()


def split_events(block: bytes) -> list[bytes]:
    """The raw events of a block of whole events, blank lines included: joined they are the block."""
    if b"\r" not in block:
        events = [part + b"\n\n" for part in block.split(b"\n\n")]
        last = events.pop()[:-2]
        return [*events, last] if last else events
    events, start = [], 0
    for found in _EVENT_END.finditer(block):
        events.append(block[start : found.end()])
        start = found.end()
    if start < len(block):
        events.append(block[start:])
    return events


def data_of(event: bytes) -> bytes:
    """The data of one raw event; b"" if it has none (a comment)."""
    if event.startswith(b"data: ") and event.find(b"\n") == len(event) - 2 and event.find(b"\r") < 0:
        return event[6:-2]  # one line, as nearly all are
    lines = [line for line in _LINE_END.split(event) if line.startswith(b"data:") or line == b"data"]
    return b"\n".join(line[6:] if line[5:6] == b" " else line[5:] for line in lines)


class SseScanner:
    """Cut a text/event-stream body into events. `max_event_bytes` bounds what one event may hold: a longer one raises
    ValueError, since nothing after it can be trusted to be whole."""

    __slots__ = ("_data", "_event", "_held", "_id", "_max_event_bytes", "_retry_ms", "_size", "_started")

    def __init__(self, max_event_bytes: int = 1024 * 1024) -> None:
        self._max_event_bytes = max_event_bytes
        self._held = b""  # a line whose end has not come
        self._started = False
        self._id: bytes | None = None
        self._reset()

    def _reset(self) -> None:
        self._data: list[bytes] = []
        self._event = b""
        self._retry_ms: int | None = None
        self._size = 0

    def feed(self, chunk: bytes) -> list[SseEvent]:
        """The events that this chunk completes."""
        buffer = self._held + chunk
        if not self._started:
            if len(buffer) < 3 and _BOM.startswith(buffer):
                self._held = buffer
                return []
            buffer = buffer.removeprefix(_BOM)
            self._started = True
        events: list[SseEvent] = []
        start = 0
        for found in _LINE_END.finditer(buffer):
            if found.end() == len(buffer) and buffer.endswith(b"\r"):
                break  # perhaps half a CRLF
            self._line(buffer[start : found.start()], events)
            start = found.end()
        self._held = buffer[start:]
        if len(self._held) + self._size > self._max_event_bytes:
            raise ValueError(f"an event is longer than {self._max_event_bytes} bytes")
        return events

    def close(self) -> bytes:
        """Return what an early end left unfinished: the specification discards it."""
        return b"\n".join([*self._data, self._held]) if self._data else self._held

    def _line(self, line: bytes, events: list[SseEvent]) -> None:
        if not line:
            if self._data:
                events.append(SseEvent(b"\n".join(self._data), self._event, self._id, self._retry_ms))
            self._reset()
            return
        self._size += len(line)
        name, colon, value = line.partition(b":")
        if colon and not name:
            return  # a comment
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value
        elif name == b"id" and b"\0" not in value:
            self._id = value
        elif name == b"retry" and value.isdigit():
            self._retry_ms = int(value)
