"""Recognise the head that a client sent before: SDKs repeat theirs to the byte on a kept-alive connection, but for the
length of the body. What was parsed and checked once need not be parsed and checked again."""

import re
from typing import Final

from gateway.dataplane.request import Request
from gateway.dialects import body_memo
from gateway.dialects.base import Call, Operation
from gateway.dialects.registry import HANDLERS, PLAIN_READERS
from gateway.policy.snapshot import Snapshot

MAX_HEAD_BYTES: Final = 8 * 1024
MOST_DIGITS: Final = 7
"""Longer bodies take the ordinary way, where they can go to a file."""
MOST_BODY_BYTES: Final = 10**MOST_DIGITS
BODY_MISSES: Final = 16
"""Where so many bodies were like none before on this connection, no more are remembered."""
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)


class HeadMemo:
    """The last head of a connection, cut at the digits of its Content-Length, with the request that it made."""

    __slots__ = (
        "_after", "_after_bytes", "_before", "_before_bytes", "_body_memo", "_body_misses", "_most_bytes", "handler",
        "operation", "plain", "request", "snapshot",
    )  # fmt: skip

    def __init__(self, before: bytes, after: bytes, request: Request, operation: Operation, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        """Under which it was found whose the request is."""
        self._before = before
        self._before_bytes = len(before)
        self._after = after
        self._after_bytes = len(after)
        self._most_bytes = len(before) + MOST_DIGITS + len(after)
        self.request = request
        self.operation = operation
        self.handler = HANDLERS[operation.dialect]
        self.plain = PLAIN_READERS.get(operation.dialect) if _is_json(request) else None
        """The quick way through calls with this head; None: they have none."""
        self._body_memo: body_memo.BodyMemo | None = None
        self._body_misses = 0

    def body_of(self, data: bytes) -> bytes | None:
        """The body, where `data` is this very head and one whole body of the length it tells; else None."""
        if not data.startswith(self._before):
            return None
        begin = self._before_bytes
        end = data.find(self._after, begin, self._most_bytes)
        if end < 0:
            return None
        digits = data[begin:end]
        body = data[end + self._after_bytes :]
        return body if digits.isdigit() and int(digits) == len(body) else None

    def call_of(self, body: bytes) -> Call | None:
        """What a body asks for that can be read the quick way; None: it has to be read with care."""
        memo = self._body_memo
        if memo is not None:
            call = memo.call_of(body)
            if call is not None:
                return call
        if self.plain is None:
            return None
        call = self.plain.plain_call(self.operation, body)
        if call is not None and self._body_misses < BODY_MISSES:
            self._body_misses += 1
            self._body_memo = body_memo.memo_of(body, call)
        return call


def _is_json(request: Request) -> bool:
    """Whether calls with this head may go the express way, and the connection lives on after them."""
    return (
        request.header(b"content-type") == b"application/json"
        and request.method == b"POST"
        and request.version == "1.1"
        and request.keep_alive
    )


def memo_of(data: bytes, request: Request, operation: Operation, snapshot: Snapshot) -> HeadMemo | None:
    """A memo of the head that `data` begins with, once parsed and found good; None where it is not worth one."""
    head_end = data.find(b"\r\n\r\n") + 4
    if not 4 < head_end <= MAX_HEAD_BYTES or not request.has_body or request.expect_continue or request.upgrade:
        return None
    lengths = _LENGTH.findall(data, 0, head_end)
    if len(lengths) != 1:
        return None
    match = _LENGTH.search(data, 0, head_end)
    assert match is not None
    return HeadMemo(data[: match.start(1)], data[match.end(1) : head_end], request, operation, snapshot)
