"""One JSON object of a stream, collected from its pieces: kept while short, scanned at its top level once long."""

from collections.abc import Sequence
from typing import Any, Final

from gateway.dialects.metering import MAX_EVENT_BYTES, decode, decode_members, last_finish
from gateway.wire.errors import WireError
from gateway.wire.json_scan import TopLevelScanner

_TAIL_BYTES: Final = 4096


class PartialDocument:
    """`members`: what is read of an object that is too long to keep."""

    __slots__ = ("_held", "_lost", "_members", "_scanner", "_size", "tail")

    def __init__(self, members: Sequence[str]) -> None:
        self._members = members
        self._held: list[bytes] | None = []
        self._size = 0
        self._scanner: TopLevelScanner | None = None
        self._lost = False
        self.tail = b""
        """The last bytes of an object that is too long to keep."""

    def feed(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._held is not None:
            self._held.append(piece)
            if self._size <= MAX_EVENT_BYTES:
                return
            piece, self._held = b"".join(self._held), None
            self._scanner = TopLevelScanner(self._members)
        self.tail = (self.tail + piece)[-_TAIL_BYTES:]
        if self._scanner is not None and not self._lost:
            try:
                self._scanner.feed(piece)
            except WireError:
                self._lost = True

    @property
    def whole(self) -> bytes | None:
        """What was fed; None where it was too long to keep."""
        return None if self._held is None else b"".join(self._held)

    def close(self) -> dict[str, Any] | None:
        """The object, or of one that is too long its `members`; None where it is none."""
        whole = self.whole
        if whole is not None:
            return decode(whole)
        assert self._scanner is not None
        return decode_members(self._members, self._scanner.members)

    @property
    def finish(self) -> str | None:
        """Why the answer ended, of an object that is too long to keep."""
        return last_finish(self.tail)
