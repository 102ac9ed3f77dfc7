"""Recognise a head that was sent before: SDKs repeat theirs to the byte, but for the length of the body. What was
parsed and checked once need not be parsed and checked again, and what was worked out for it stays."""

import re
from typing import Final, TypeAlias

from gateway.dataplane.request import Known, Request
from gateway.dialects import body_memo
from gateway.dialects.base import Call, Operation
from gateway.dialects.body_memo import BodyMemo
from gateway.dialects.registry import HANDLERS, PLAIN_READERS
from gateway.policy.snapshot import Snapshot

MAX_HEAD_BYTES: Final = 8 * 1024
MOST_DIGITS: Final = 7
"""Longer bodies take the ordinary way, where they can go to a file."""
MOST_BODY_BYTES: Final = 10**MOST_DIGITS
MOST_HEADS: Final = 512
BODIES: Final = 4
MOST_BODIES_BYTES: Final = 8 * 1024
"""So many bodies with one head are remembered, and no more than this of all of them."""
BODY_MISSES: Final = 64
"""Where so many in a row were like none before, no more are remembered."""
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)

Key: TypeAlias = tuple[bytes, bytes, str, str]
"""The head before and behind those digits, and what else decides what becomes of it: the client's address, and
the scope: what its connection came in by."""


class HeadMemo(Known):
    """A head, cut at the digits of its Content-Length."""

    __slots__ = (
        "_after", "_after_bytes", "_before", "_before_bytes", "_body_memos", "_body_misses", "_most_bytes", "handler",
        "key", "operation", "plain", "shared",
    )  # fmt: skip

    def __init__(self, key: Key, request: Request, operation: Operation, snapshot: Snapshot) -> None:
        super().__init__(snapshot)
        self.key = key
        self.shared = False
        """Among all connections."""
        self._before, self._after = key[:2]
        self._before_bytes = len(self._before)
        self._after_bytes = len(self._after)
        self._most_bytes = self._before_bytes + MOST_DIGITS + self._after_bytes
        self.operation = operation
        self.handler = HANDLERS[operation.dialect]
        self.plain = PLAIN_READERS.get(operation.dialect) if _is_json(request) else None
        """The quick way through calls with this head; None: they have none."""
        self._body_memos: list[BodyMemo] = []
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

    def call_of(self, body: bytes) -> tuple[Call, int] | None:
        """What a body asks for that can be read the quick way; None: it has to be read with care. The number is the
        bound of its input: in this the call may be that of another body."""
        for memo in self._body_memos:
            bound = memo.bound_of(body)
            if bound is not None:
                self._body_misses = 0
                return memo.call, bound
        call = None if self.plain is None else self.plain.plain_call(self.operation, body)
        if call is None:
            return None
        if self._body_misses < BODY_MISSES:
            self._body_misses += 1
            self._remember(body_memo.memo_of(body, call))
        return call, call.input_bound

    def _remember(self, made: BodyMemo | None) -> None:
        if made is None or made.kept_bytes > MOST_BODIES_BYTES:
            return
        if any(made.before == memo.before and made.after == memo.after for memo in self._body_memos):
            return  # a text of characters that no memo can vouch for
        kept, room = [made], MOST_BODIES_BYTES - made.kept_bytes
        for memo in self._body_memos[: BODIES - 1]:
            if memo.kept_bytes <= room:
                kept.append(memo)
                room -= memo.kept_bytes
        self._body_memos = kept


class HeadMemos:
    """Of all connections of a worker, of the present snapshot: many of them send the same head from one address."""

    def __init__(self) -> None:
        self._memos: dict[Key, HeadMemo] = {}

    def memo_of(
        self, data: bytes, request: Request, operation: Operation, snapshot: Snapshot, client_ip: str, scope: str
    ) -> HeadMemo | None:
        """The memo of the head that `data` begins with, once parsed and found good; None where it is not worth one."""
        head_end = data.find(b"\r\n\r\n") + 4
        if not 4 < head_end <= MAX_HEAD_BYTES or not request.has_body or request.expect_continue or request.upgrade:
            return None
        lengths = [found.span(1) for found in _LENGTH.finditer(data, 0, head_end)]
        if len(lengths) != 1:
            return None
        begin, end = lengths[0]
        key = (data[:begin], data[end:head_end], client_ip, scope)
        known = self._memos.pop(key, None)
        if known is None:
            return HeadMemo(key, request, operation, snapshot)
        self._memos[key] = known  # behind all that were not wanted since
        return known

    def share(self, memo: HeadMemo) -> HeadMemo:
        """From now on other connections find what was worked out for this head. Returns the memo that they find, which
        may be another one's."""
        if not memo.plans:
            return memo  # no call with it has been let in yet
        found = self._memos.setdefault(memo.key, memo)
        if found is memo:
            memo.shared = True
            if len(self._memos) > MOST_HEADS:
                del self._memos[next(iter(self._memos))]
        return found

    def clear(self) -> None:
        """There is a new snapshot."""
        self._memos.clear()


def _is_json(request: Request) -> bool:
    """Whether calls with this head may go the express way, and the connection lives on after them."""
    return (
        request.header(b"content-type") == b"application/json"
        and request.method == b"POST"
        and request.version == "1.1"
        and request.keep_alive
    )
