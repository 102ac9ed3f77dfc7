"""HTTP/1.1 in what a TLS connection carried: which model was called and what the answer says that it used.

Nothing of the text is kept beyond the call that it belongs to, and nothing but names and counts leaves here. A gap in
the bytes is passed over where a length says how far; elsewhere the rest of the connection is not read.
"""

import time
import zlib
from collections import deque
from typing import Any, Final

from gateway.dialects.base import Call, Meter, Operation
from gateway.dialects.registry import HANDLERS, classify
from gateway.errors import SluicegateError
from gateway.wire.answer_head import AnswerHead, AnswerHeads
from gateway.wire.chunked import ChunkedDecoder
from gateway.wire.errors import WireError

MOST_HEAD_BYTES: Final = 64 * 1024
MOST_BODY_BYTES: Final = 256 * 1024
"""Of a request, to read its model from."""
MOST_UNANSWERED: Final = 16
MOST_INFLATED: Final = 1024 * 1024
H2: Final = b"PRI * HTTP/2.0"
Found = dict[str, Any]


class Unread(Exception):
    """The rest of the connection cannot be read."""


class _Body:
    """Where a message's body ends."""

    def __init__(self, length: int | None, *, chunked: bool) -> None:
        self._left = length
        self._chunks = ChunkedDecoder() if chunked else None
        self.done = length == 0 and not chunked

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What is of the body, and what comes after it. Raises WireError."""
        if self._chunks is not None:
            payload = self._chunks.feed(data)
            self.done = self._chunks.done
            return payload, self._chunks.rest if self.done else b""
        if self._left is None:
            return data, b""
        payload, rest = data[: self._left], data[self._left :]
        self._left -= len(payload)
        self.done = not self._left
        return payload, rest

    def skip(self, missing: int) -> None:
        if self._chunks is not None or self._left is None or missing > self._left:
            raise Unread
        self._left -= missing
        self.done = not self._left


class _Request:
    def __init__(self, head: bytes) -> None:
        lines = head.split(b"\r\n")
        words = lines[0].split(b" ")
        if len(words) != 3 or not words[2].startswith(b"HTTP/1."):
            raise Unread
        pairs = [line.partition(b":") for line in lines[1:]]
        headers = [(name.lower(), value.strip()) for name, _, value in pairs]
        fields = dict(headers)
        self.method = words[0]
        self.host = fields.get(b"host", b"").decode("latin-1")[:255]
        self.kind = fields.get(b"content-type", b"").partition(b";")[0].strip().lower()
        path, _, query = words[1].partition(b"?")
        at = path.find(b"/v1")
        self.operation: Operation | None = classify(words[0], path, query, headers)
        if self.operation is None and at > 0:  # a base URL with a path of its own
            self.operation = classify(words[0], path[at:], query, headers)
        length = fields.get(b"content-length", b"0")
        self.body = _Body(int(length) if length.isdigit() else 0, chunked=b"transfer-encoding" in fields)
        self.text = bytearray()

    def call(self) -> Call:
        """As far as it could be read."""
        assert self.operation is not None
        try:
            return HANDLERS[self.operation.dialect].read_call(self.operation, self.kind, bytes(self.text))
        except SluicegateError:
            return Call(route="")


class Conversation:
    """One TLS connection. `feed` never raises."""

    def __init__(self) -> None:
        self.http2 = False
        self.unread = False
        self._heads = AnswerHeads(())
        self._positions = [0, 0]
        self._held = [b"", b""]
        self._request: _Request | None = None
        self._waiting: deque[_Request] = deque()
        self._answer: AnswerHead | None = None
        self._body: _Body | None = None
        self._meter: Meter | None = None
        self._called: Call | None = None
        self._inflate: Any = None
        self._found: list[Found] = []

    def feed(self, outgoing: bool, position: int, data: bytes) -> list[Found]:
        """Calls whose answers have ended by this."""
        if self.unread:
            return []
        try:
            missing = position - self._positions[outgoing]
            self._positions[outgoing] = position + len(data)
            if missing:
                self._skip(outgoing=outgoing, missing=missing)
            if outgoing:
                self._written(self._held[1] + data)
            else:
                self._read(self._held[0] + data)
        except (Unread, WireError, ValueError, zlib.error):
            self.unread = True
            self._held = [b"", b""]
            self._waiting.clear()
        found, self._found = self._found, []
        return found

    def close(self) -> list[Found]:
        """It is over: so is an answer that lasts as long as it."""
        if self._body is not None and not self.unread:
            self._end()
        found, self._found = self._found, []
        return found

    def _skip(self, *, outgoing: bool, missing: int) -> None:
        body = (self._request.body if self._request is not None else None) if outgoing else self._body
        if missing < 0 or body is None:
            raise Unread
        body.skip(missing)

    def _written(self, data: bytes) -> None:
        self._held[1] = b""
        while data:
            if self._request is None:
                if data.startswith(H2):
                    self.http2 = True
                    raise Unread
                head, found, rest = data.partition(b"\r\n\r\n")
                if not found:
                    if len(data) > MOST_HEAD_BYTES:
                        raise Unread
                    self._held[1] = data
                    return
                self._request, data = _Request(head), rest
                self._waiting.append(self._request)
                if len(self._waiting) > MOST_UNANSWERED:
                    raise Unread
            if not self._request.body.done:
                payload, data = self._request.body.feed(data)
                if self._request.operation is not None and len(self._request.text) < MOST_BODY_BYTES:
                    self._request.text += payload
            if self._request.body.done:
                self._request = None

    def _read(self, data: bytes) -> None:
        self._held[0] = b""
        while data:
            if self._body is None:
                head, found, rest = data.partition(b"\r\n\r\n")
                if not found:
                    if len(data) > MOST_HEAD_BYTES:
                        raise Unread
                    self._held[0] = data
                    return
                data = rest
                self._begin(self._heads.read(head))
            else:
                payload, data = self._body.feed(data)
                self._measure(payload)
            if self._body is not None and self._body.done:
                self._end()

    def _begin(self, head: AnswerHead) -> None:
        if 100 <= head.status < 200 and head.status != 101:
            return
        if not self._waiting or head.status == 101:
            raise Unread
        request = self._waiting[0]
        empty = request.method == b"HEAD" or head.status in (204, 304)
        self._answer = head
        self._body = _Body(0 if empty else head.length, chunked=head.chunked and not empty)
        self._meter = self._called = self._inflate = None
        operation = request.operation
        if operation is None or operation.listing:
            return
        self._called = request.call()
        if head.encoding in (b"gzip", b"x-gzip"):
            self._inflate = zlib.decompressobj(31)
        if head.encoding is None or self._inflate is not None:
            self._meter = HANDLERS[operation.dialect].meter(operation, self._called, head.status, head.kind)

    def _measure(self, payload: bytes) -> None:
        if self._inflate is not None and payload:
            payload = self._inflate.decompress(payload, MOST_INFLATED)
        if self._meter is not None and payload:
            self._meter.feed(payload)

    def _end(self) -> None:
        request, answer = self._waiting.popleft(), self._answer
        meter, called = self._meter, self._called
        self._body = self._answer = self._meter = self._called = self._inflate = None
        if called is None or answer is None or request.operation is None:
            return
        if meter is not None:
            meter.end()
        usage = meter.usage if meter is not None else None
        self._found.append(
            {
                "host": request.host,
                "dialect": request.operation.dialect.value,
                "model": (meter.model if meter is not None else None) or called.route or None,
                "input_tokens": usage.input_tokens if usage is not None else None,
                "output_tokens": usage.output_tokens if usage is not None else None,
                "status": answer.status,
                "at_s": time.time(),
            }
        )
