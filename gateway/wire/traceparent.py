"""The `traceparent` header (W3C Trace Context, version 00; higher versions are read as 00, as the standard asks)."""

import re
from dataclasses import dataclass
from typing import Final

_HEADER: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16


@dataclass(frozen=True, slots=True)
class TraceParent:
    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits: the caller's span."""
    flags: str
    """Two hex digits; the lowest bit says that the caller records its trace."""

    def child(self, span_id: str) -> bytes:
        """The header for whom we call, within our own span of this trace."""
        return f"00-{self.trace_id}-{span_id}-{self.flags}".encode()


def read_traceparent(value: bytes) -> TraceParent | None:
    """None for what is not valid: it is then as if there were none."""
    found = _HEADER.fullmatch(value.strip())
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more) or trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return TraceParent(trace_id.decode(), span_id.decode(), flags.decode())
