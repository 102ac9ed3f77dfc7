"""A request that is held until it is decided whose it is: its bytes as they came, and what its body says on the way."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Final

from gateway.dialects.base import LargeCall, Operation
from gateway.dialects.registry import HANDLERS
from gateway.wire.cutting import RequestCutter, RequestHead

PIECE_BYTES: Final = 256 * 1024


class Hold:
    """Beyond `memory_bytes` it lies in an unlinked temporary file."""

    def __init__(self, head: RequestHead, operation: Operation | None, folder: Path, memory_bytes: int) -> None:
        self._raw = SpooledTemporaryFile(max_size=memory_bytes, dir=str(folder))  # noqa: SIM115 - closed by `close`
        self._head = head
        self._operation = operation
        self._memory_bytes = memory_bytes
        self._payload: list[bytes] = []
        self._large: LargeCall | None = None
        self.size = 0

    def feed(self, raw: bytes, payload: bytes) -> None:
        self.size += len(raw)
        self._raw.write(raw)
        if not payload or self._operation is None:
            return
        if self._large is None and self.size > self._memory_bytes:
            kind = self._head.header(b"content-type") or b""
            self._large = HANDLERS[self._operation.dialect].large_call(self._operation, kind)
            for piece in self._payload:
                self._large.feed(piece)
            self._payload = []
        if self._large is not None:
            self._large.feed(payload)
        else:
            self._payload.append(payload)

    def body(self) -> bytes | LargeCall:
        """What `claims.names_route` reads."""
        return b"".join(self._payload) if self._large is None else self._large

    def pieces(self) -> Iterator[bytes]:
        """All that came, in order; before `close`."""
        self._raw.seek(0)
        return iter(lambda: self._raw.read(PIECE_BYTES), b"")

    def refeed(self, other: "Hold") -> None:
        """Take over what another one held, which was made before the operation was known. That one is closed."""
        cutter = RequestCutter()
        for piece in other.pieces():
            cutter.feed(piece)
            self.feed(cutter.taken, cutter.payload)
        other.close()

    def close(self) -> None:
        self._raw.close()
