"""Where the values of members of one name lie, deep within a JSON text that arrives in pieces."""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from gateway.wire.errors import WireError

MOST_FOUND: Final = 10_000
MOST_STRING_BYTES: Final = 2048
"""A name or value that is longer is not the one that is looked for."""
_PUNCTUATION: Final = re.compile(rb'["{}\[\]:,]')
_IN_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Found:
    """A member's value is `text[start:end]`, quotes included."""

    start: int
    end: int
    value: str | None
    """None: it is no string, or too long a one."""


class NamedValues:
    """Feed it the text; read `found` afterwards. `depths`: at how many open brackets the member may stand (1: at the
    top of an object). It checks no grammar: the text is decoded elsewhere. Raises WireError(400) for too many."""

    __slots__ = (
        "_depth", "_depths", "_escaped", "_in_string", "_name", "_offset", "_start", "_text", "_wanted", "found",
    )  # fmt: skip

    def __init__(self, name: str, depths: Collection[int]) -> None:
        self._name = name
        self._depths = frozenset(depths)
        self.found: list[Found] = []
        self._depth = 0
        self._in_string = False
        self._escaped = False  # the chunk before ended in a backslash
        self._offset = 0
        self._start = 0  # of the string under way
        self._text = bytearray()
        self._wanted = False  # the next value is the member's

    def feed(self, chunk: bytes) -> None:
        position, size = 0, len(chunk)
        while position < size:
            if self._in_string:
                position = self._read_string(chunk, position)
                continue
            punctuation = _PUNCTUATION.search(chunk, position)
            if punctuation is None:
                break
            position = punctuation.end()
            byte = chunk[position - 1]
            if byte == 0x22:
                self._in_string = True
                self._start = self._offset + position - 1
                self._text.clear()
                continue
            if byte == 0x3A:
                self._wanted = self._depth in self._depths and self._string() == self._name
                continue
            if self._wanted:
                self._keep(self._offset + position - 1, None)
            if byte in b"{[":
                self._depth += 1
            elif byte in b"}]":
                self._depth -= 1
        self._offset += size

    def _read_string(self, chunk: bytes, position: int) -> int:
        begun = position
        if self._escaped:
            self._escaped = False
            position += 1
        inside = _IN_STRING.match(chunk, position)
        position = inside.end() if inside else position
        closed = position < len(chunk) and chunk[position] == 0x22
        self._escaped = position < len(chunk) and not closed
        end = position if closed else len(chunk)
        if len(self._text) <= MOST_STRING_BYTES:
            self._text += chunk[begun : min(end, begun + MOST_STRING_BYTES + 1)]
        if not closed:
            return len(chunk)
        self._in_string = False
        if self._wanted:
            self._keep(self._offset + end + 1, self._string())
        return end + 1

    def _string(self) -> str | None:
        """The string that was read last."""
        if len(self._text) > MOST_STRING_BYTES:
            return None
        try:
            return str(json.loads(b'"%b"' % bytes(self._text)))
        except ValueError:
            return None

    def _keep(self, end: int, value: str | None) -> None:
        self._wanted = False
        if len(self.found) == MOST_FOUND:
            raise WireError(400, f'the body names "{self._name}" more than {MOST_FOUND} times')
        self.found.append(Found(self._start, end, value))
