"""Decode the chunked transfer coding (RFC 9112 7.1), with the common case first: a read that holds whole chunks.

Stricter than the grammar where leniency has been abused for smuggling: a size is bare hexadecimal digits, no extension
is longer than `MAX_LINE_BYTES`, every line ends in CRLF.
"""

import re
from typing import ClassVar, Final

from gateway.wire.errors import WireError

MAX_LINE_BYTES: Final = 4096
MAX_BARE_BYTES: Final = 17
MAX_TRAILER_BYTES: Final = 16 * 1024
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_SIZE_LINE: Final = re.compile(rb"([0-9a-fA-F]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_STRICT_SIZE_LINE: Final = re.compile(
    rb"([0-9a-fA-F]{1,15})(?:;[ \t]*%b(?:=(?:%b|\"(?:[\t\x20!#-\[\]-\x7e\x80-\xff]|\\[\t\x20-\x7e])*\"))?)*"
    % (_TOKEN, _TOKEN)
)
"""With extensions as RFC 9112 7.1.1 has them, but for the white space that it calls bad."""
_TRAILER_LINE: Final = re.compile(rb"(%b):[\t\x20-\x7e\x80-\xff]*" % _TOKEN)
_FRAMING: Final = frozenset((b"content-length", b"transfer-encoding", b"host"))
MAX_EXTENSION_BYTES: Final = 16 * 1024
FREE_EXTENSION_BYTES: Final = 32
"""Of each chunk: a signature of AWS is longer, but its chunks are few."""
_MEMO_ENTRIES: Final = 4096


_SIZES: Final[dict[bytes, int]] = {}
"""Size lines seen, bare ones only: a look-up costs less than a conversion and its checks."""


def one_chunk(data: bytes) -> bytes | None:
    """The payload of bytes that are one whole chunk and nothing else; None: ask the decoder.

    Only of use where a size line is due (`ChunkedDecoder.between`)."""
    line_end = data.find(b"\r\n", 0, MAX_BARE_BYTES)
    length = _SIZES.get(data[:line_end])
    if length and line_end + length + 4 == len(data) and data.endswith(b"\r\n"):
        return data[line_end + 2 : -2]
    return None


class ChunkedDecoder:
    """Feed it the bytes of a chunked body; it gives the payload.

    After each `feed`: `done` says that the body is complete, `rest` holds what came after it, and `whole` whether the
    bytes fed were complete chunks and nothing else, so that they may be passed on as they are.
    """

    __slots__ = ("_held", "_left", "_trailer", "between", "done", "rest", "trailers", "whole")

    status: ClassVar[int] = 502
    """Of the errors: whose fault a malformed body is."""

    _known: ClassVar[dict[bytes, int]] = _SIZES
    """Where size lines that were seen are looked up."""

    def __init__(self) -> None:
        self._held = b""
        """A line, or the CRLF after a chunk, of which only the beginning has arrived."""
        self._left = 0
        """Bytes of the chunk under way still to come, its CRLF included; 0 = a size line is next."""
        self._trailer = -1
        """Bytes of the trailer section read so far; -1 = not there yet."""
        self.between = True
        """The next byte begins a size line."""
        self.done = False
        self.rest = b""
        self.trailers: list[bytes] = []
        """Lines of the trailer section, without their ends."""
        self.whole = False

    def feed(self, data: bytes) -> bytes:
        """The payload in `data`. Raises WireError for what is not this coding."""
        payload = self._feed(data)
        self.between = not self._left and not self._held and self._trailer < 0
        return payload

    def _feed(self, data: bytes) -> bytes:
        self.whole = False
        if self._held:
            data = self._held + data
            self._held = b""
        if self._trailer >= 0:
            self._read_trailer(data, 0)
            return b""
        at, size = 0, len(data)
        payloads: list[bytes] = []
        if self._left:
            at = self._go_on(data, payloads)
        aligned = at == 0
        while at < size:
            line_end = data.find(b"\r\n", at, at + MAX_LINE_BYTES)
            if line_end < 0:
                if size - at >= MAX_LINE_BYTES or b"\n" in data[at:]:
                    raise WireError(self.status, "a chunk's size line is not one")
                self._held = data[at:]
                aligned = False
                break
            line = data[at:line_end]
            length = self._known.get(line)
            if length is None:
                length, bare = self._read_size(line)
                aligned = aligned and bare
            begin = line_end + 2
            if length == 0:
                self._trailer = 0
                self._read_trailer(data, begin)
                aligned = False
                break
            end = begin + length
            if end + 2 <= size:
                if data[end : end + 2] != b"\r\n":
                    raise WireError(self.status, "a chunk is longer than its size")
                payloads.append(data[begin:end])
                at = end + 2
                continue
            self._left = end + 2 - size
            payloads.append(data[begin : min(end, size)])
            if size > end and data[end:] != b"\r":
                raise WireError(self.status, "a chunk is longer than its size")
            aligned = False
            break
        self.whole = aligned
        return payloads[0] if len(payloads) == 1 else b"".join(payloads)

    def _go_on(self, data: bytes, payloads: list[bytes]) -> int:
        """The rest of a chunk that earlier reads began; returns where the next size line starts."""
        left, size = self._left, len(data)
        if size >= left:
            tail = data[max(0, left - 2) : left]
            if not b"\r\n".endswith(tail):
                raise WireError(self.status, "a chunk is longer than its size")
            payloads.append(data[: max(0, left - 2)])
            self._left = 0
            return left
        self._left = left - size
        payloads.append(data[: max(0, left - 2)])
        if left - 2 < size and data[max(0, left - 2) :] != b"\r":
            raise WireError(self.status, "a chunk is longer than its size")
        return size

    def _read_size(self, line: bytes) -> tuple[int, bool]:
        match = _SIZE_LINE.fullmatch(line)
        if match is None:
            raise WireError(self.status, "a chunk's size is no hexadecimal number")
        length = int(match[1], 16)
        bare = match[1] == line
        if bare and len(_SIZES) < _MEMO_ENTRIES:
            _SIZES[line] = length
        return length, bare

    def _read_trailer(self, data: bytes, at: int) -> None:
        """Trailer fields are only kept: which of them may pass is the relay's to say."""
        while True:
            line_end = data.find(b"\r\n", at)
            if line_end < 0:
                self._held = data[at:]
                if self._trailer + len(self._held) > MAX_TRAILER_BYTES or b"\n" in self._held:
                    raise WireError(self.status, "a trailer section is not one")
                return
            if line_end == at:
                self.done = True
                self.rest = data[at + 2 :]
                return
            field = _TRAILER_LINE.fullmatch(data, at, line_end)
            if field is None or field[1].lower() in _FRAMING:
                raise WireError(self.status, "a trailer section holds what no trailer may be")
            self._trailer += line_end - at + 2
            if self._trailer > MAX_TRAILER_BYTES:
                raise WireError(self.status, "an endless trailer section")
            self.trailers.append(data[at:line_end])
            at = line_end + 2


class RequestChunks(ChunkedDecoder):
    """The body of a request: nothing but the grammar, no chunk larger than a body may be, and few extensions."""

    __slots__ = ("_extension_bytes", "_max_body_bytes")

    status = 400
    _known: ClassVar[dict[bytes, int]] = {}  # a memory of its own: what answers may say is no measure

    def __init__(self, max_body_bytes: int) -> None:
        super().__init__()
        self._max_body_bytes = max_body_bytes
        self._extension_bytes = 0

    def _read_size(self, line: bytes) -> tuple[int, bool]:
        match = _STRICT_SIZE_LINE.fullmatch(line)
        if match is None:
            raise WireError(400, "a chunk's size is no hexadecimal number")
        length = int(match[1], 16)
        if length > self._max_body_bytes:
            raise WireError(413, f"the request body is larger than {self._max_body_bytes} bytes")
        self._extension_bytes += max(0, len(line) - len(match[1]) - FREE_EXTENSION_BYTES)
        if self._extension_bytes > MAX_EXTENSION_BYTES:
            raise WireError(400, "the chunks have endless extensions")
        return length, match[1] == line
