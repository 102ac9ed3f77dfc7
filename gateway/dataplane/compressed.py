"""Metering of an answer that came compressed although we asked for identity: a decoded copy is read, the bytes pass."""

import zlib
from typing import Final

from gateway.dialects.base import Meter
from gateway.policy.usage import Usage

WINDOW_BITS: Final = {b"gzip": 47, b"x-gzip": 47, b"deflate": 15}
MOST_DECODED_BYTES: Final = 64 * 1024 * 1024
"""Beyond this a decoded copy is no longer looked at: a compression bomb must not cost us."""


def decoding(meter: Meter, encoding: bytes | None) -> Meter:
    """The meter itself, or one that reads through the answer's Content-Encoding (lower case; None = identity)."""
    return meter if encoding is None else CompressedMeter(meter, WINDOW_BITS.get(encoding))


class CompressedMeter:
    """A `Meter` over a compressed body. An unknown coding (br, zstd) leaves usage unknown."""

    __slots__ = ("_decoded_bytes", "_inflate", "_inner")

    def __init__(self, inner: Meter, window_bits: int | None) -> None:
        self._inner = inner
        self._inflate = None if window_bits is None else zlib.decompressobj(window_bits)
        self._decoded_bytes = 0

    @property
    def usage(self) -> Usage | None:
        return self._inner.usage

    @property
    def finish_reason(self) -> str | None:
        return self._inner.finish_reason

    @property
    def model(self) -> str | None:
        return self._inner.model

    @property
    def events(self) -> int:
        return max(self._inner.events, 1)

    def feed(self, piece: bytes) -> bytes | None:
        if self._inflate is not None and self._decoded_bytes < MOST_DECODED_BYTES:
            try:
                decoded = self._inflate.decompress(piece, MOST_DECODED_BYTES)
            except zlib.error:
                self._inflate = None
                return None
            self._decoded_bytes += len(decoded)
            if decoded:
                self._inner.feed(decoded)
        return None

    def end(self) -> bytes:
        self._inner.end()
        return b""

    def estimate(self) -> Usage:
        return self._inner.estimate()
