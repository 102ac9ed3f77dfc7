"""Find the fields of a multipart/form-data body that is never held whole (RFC 7578, RFC 2046 5.1)."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from gateway.wire.errors import WireError

MAX_PART_HEAD_BYTES: Final = 16 * 1024
MAX_PARTS: Final = 1000

_BOUNDARY: Final = re.compile(rb';[ \t]*boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70}))', re.IGNORECASE)
_NAME: Final = re.compile(rb';[ \t]*name=(?:"((?:[^"\\\r\n]|\\.)*)"|([^\s;"]+))', re.IGNORECASE)
_FILE_NAME: Final = re.compile(rb";[ \t]*filename\*?=", re.IGNORECASE)
_DISPOSITION: Final = re.compile(rb"(?:^|\r\n)content-disposition:[ \t]*form-data([^\r\n]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its content is `body[start:end]`."""

    name: str
    is_file: bool
    start: int
    end: int
    content: bytes
    """b"" unless it was wanted and is no file."""


class _State(Enum):
    CONTENT = auto()
    """Between delimiters: the preamble (no part yet) or a part's content."""
    DELIMITED = auto()
    HEAD = auto()
    EPILOGUE = auto()


def boundary_of(content_type: bytes) -> bytes:
    """Raises WireError(400) if the header names none."""
    found = _BOUNDARY.search(content_type)
    if found is None:
        raise WireError(400, "the content-type of the form names no boundary")
    return found.group(1) or found.group(2)


class MultipartScanner:
    """Feed it the body; read `parts` after `close()`. Raises WireError(400)."""

    __slots__ = (
        "_buffer", "_content", "_delimiter", "_is_file", "_max_content_bytes", "_name", "_offset", "_start", "_state",
        "_wanted", "parts",
    )  # fmt: skip

    def __init__(self, boundary: bytes, wanted: Collection[str], *, max_content_bytes: int = 65_536) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._wanted = frozenset(wanted)
        self._max_content_bytes = max_content_bytes
        self.parts: list[Part] = []
        self._state = _State.CONTENT
        self._buffer = b"\r\n"  # so that a delimiter at the very start is one like the others
        self._offset = -2  # of the buffer in the body
        # of the part under way
        self._name: str | None = None
        self._is_file = False
        self._start = 0
        self._content = bytearray()

    def feed(self, chunk: bytes) -> None:
        """Linear in its length: what was searched is not searched again, but for a delimiter's length."""
        self._buffer += chunk
        while self._advance():
            pass

    def close(self) -> None:
        """The body ended. Raises WireError if the form did not."""
        if self._state is not _State.EPILOGUE:
            raise WireError(400, "the multipart form breaks off before its closing delimiter")

    def _consume(self, size: int) -> None:
        self._buffer = self._buffer[size:]
        self._offset += size

    def _advance(self) -> bool:
        """One step. False: more bytes are needed."""
        match self._state:
            case _State.CONTENT:
                return self._skip_content()
            case _State.DELIMITED:
                return self._read_delimiter()
            case _State.HEAD:
                return self._read_head()
            case _State.EPILOGUE:
                self._consume(len(self._buffer))
                return False

    def _skip_content(self) -> bool:
        at = self._buffer.find(self._delimiter)
        passed = at if at >= 0 else max(0, len(self._buffer) - len(self._delimiter) + 1)
        self._keep(self._buffer[:passed])
        self._consume(passed)
        if at < 0:
            return False
        self._state = _State.DELIMITED
        return True

    def _read_delimiter(self) -> bool:
        """The buffer begins with a delimiter; what follows it says which kind, or that it is content after all."""
        after = self._buffer[len(self._delimiter) : len(self._delimiter) + 80]
        padding = after.lstrip(b" \t")
        if after.startswith(b"--"):
            self._end_part()
            self._state = _State.EPILOGUE
        elif padding.startswith(b"\r\n"):
            self._end_part()
            self._consume(len(self._delimiter) + len(after) - len(padding) + 2)
            self._buffer = b"\r\n" + self._buffer  # a head may be empty: its end is then this line's
            self._offset -= 2
            self._state = _State.HEAD
        elif len(after) < 80 and padding in (b"", b"\r", b"-"):
            return False
        else:
            self._keep(self._buffer[:2])
            self._consume(2)
            self._state = _State.CONTENT
        return True

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if max(end, len(self._buffer) if end < 0 else 0) > MAX_PART_HEAD_BYTES:
            raise WireError(400, f"a part's head in the form is longer than {MAX_PART_HEAD_BYTES} bytes")
        if end < 0:
            return False
        head = self._buffer[:end]
        found = _DISPOSITION.search(head)
        name = _NAME.search(found.group(1)) if found else None
        if found is None or name is None:
            raise WireError(400, "a part of the form has no name (content-disposition: form-data; name=…)")
        raw_name: bytes = name.group(1) if name.group(1) is not None else name.group(2)
        self._name = raw_name.decode(errors="replace")
        self._is_file = _FILE_NAME.search(found.group(1)) is not None
        self._consume(end + 4)
        self._start = self._offset
        self._content.clear()
        self._state = _State.CONTENT
        return True

    def _keep(self, piece: bytes) -> None:
        if self._name in self._wanted and not self._is_file:
            self._content += piece
            if len(self._content) > self._max_content_bytes:
                raise WireError(400, f'the form\'s field "{self._name}" is longer than {self._max_content_bytes} bytes')

    def _end_part(self) -> None:
        if self._name is None:
            return
        if len(self.parts) >= MAX_PARTS:
            raise WireError(400, f"the form has more than {MAX_PARTS} parts")
        if self._name in self._wanted and any(part.name == self._name for part in self.parts):
            raise WireError(400, f'the form has two fields "{self._name}": send it once')
        self.parts.append(Part(self._name, self._is_file, self._start, self._offset, bytes(self._content)))
        self._name = None
