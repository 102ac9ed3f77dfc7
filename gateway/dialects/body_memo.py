"""Recognise the body that a caller sent before but for the text of its last message: a program asks the same of ever
new texts. What was read of it with care once holds again, then, and only the text has to be looked at."""

from typing import Final

import orjson

from gateway.dialects.base import Call
from gateway.dialects.input_bound import BYTES_PER_TOKEN, text_bytes

_ORDINARY: Final = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
"""Bytes that mean themselves within a JSON text, a byte each."""
_LINE_FEED: Final = rb"\n"
"""As a JSON text spells it: the one escape that is looked at."""


class BodyMemo:
    """A body, cut at the text of its last message, with the call that it was."""

    __slots__ = ("_after_bytes", "_before_bytes", "_bound", "after", "before", "call", "kept_bytes")

    def __init__(self, before: bytes, after: bytes, call: Call, bound: int) -> None:
        """`bound`: of the input tokens, without the text."""
        self.before = before
        self._before_bytes = len(before)
        self.after = after
        self._after_bytes = len(after)
        self.kept_bytes = len(before) + len(after)
        self.call = call
        self._bound = bound

    def bound_of(self, body: bytes) -> int | None:
        """The bound of the input of `body`, which asks for what `call` does but for that; None: it is another body,
        or its text needs a closer look."""
        if not body.startswith(self.before) or not body.endswith(self.after) or len(body) < self.kept_bytes:
            return None
        text = body[self._before_bytes : len(body) - self._after_bytes]
        bound = self._bound + len(text)
        unusual = text.translate(None, _ORDINARY)
        if unusual:
            if text.count(_LINE_FEED) != len(unusual) or unusual.strip(b"\\"):
                return None
            bound -= len(unusual)
        return bound


def with_bound(call: Call, bound: int) -> Call:
    """The call that reading a body would find of which a memo told this bound."""
    estimate = -(-bound // BYTES_PER_TOKEN)
    return Call(call.route, call.stream, bound, estimate, call.output_bound, call.choices, call.tells_usage)


def memo_of(body: bytes, call: Call) -> BodyMemo | None:
    """A memo of a body that was read the quick way (`dialects.plain`); None where none can be sure."""
    if body.count(b"\\") != body.count(_LINE_FEED):
        return None  # another escape: a text may be spelled in several ways
    try:
        text = orjson.loads(body)["messages"][-1]["content"]
    except (LookupError, TypeError):
        return None
    quoted = b'"%b"' % text.replace("\n", "\\n").encode()
    at = body.find(quoted)
    if not text or at < 0 or body.rfind(quoted) != at:
        return None  # nothing to cut at, or no telling where
    before, after = body[: at + 1], body[at + len(quoted) - 1 :]
    return BodyMemo(before, after, call, call.input_bound - text_bytes(text))
