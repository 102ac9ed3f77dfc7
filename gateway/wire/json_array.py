"""Find the elements of a JSON array that arrives in pieces, without decoding it (RFC 8259)."""

import re
from dataclasses import dataclass
from typing import Final

_STRUCTURE: Final = re.compile(rb'["{}\[\]]')
_SPACE_OR_COMMA: Final = re.compile(rb"[ \t\r\n,]*+")
_IN_STRING: Final = re.compile(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Span:
    """`chunk[start:end]` belongs to one element."""

    start: int
    end: int
    ends: bool
    """The element is complete with it."""


class JsonArrayScanner:
    """Where the objects of an array lie, whatever the chunking. It never raises: what turns out to be no array of
    objects is `lost`, and nothing more is found in it."""

    __slots__ = ("_depth", "_escaped", "_in_string", "count", "ended", "lost")

    def __init__(self) -> None:
        self._depth = 0  # of brackets: 1 = within the array, between its elements
        self._in_string = False
        self._escaped = False  # the chunk before ended in a backslash
        self.count = 0
        """Elements that have begun."""
        self.ended = False
        self.lost = False

    @property
    def opened(self) -> bool:
        """The array has begun."""
        return self._depth > 0 or self.ended

    @property
    def between(self) -> bool:
        """Within the array, and within none of its elements."""
        return self._depth == 1 and not self.lost

    def feed(self, chunk: bytes) -> list[Span]:
        spans: list[Span] = []
        position, begun = 0, 0
        while position < len(chunk) and not self.ended and not self.lost:
            if self._depth <= 1:
                begun = self._between(chunk, position)
                position = begun + 1 if self._depth > 1 else begun  # an element's brace belongs to it
            elif self._in_string:
                position = self._skip_string(chunk, position)
            else:
                found = _STRUCTURE.search(chunk, position)
                if found is None:
                    break
                position = found.end()
                byte = chunk[position - 1]
                if byte == 0x22:
                    self._in_string = True
                elif byte in b"{[":
                    self._depth += 1
                else:
                    self._depth -= 1
                    if self._depth == 1:
                        spans.append(Span(begun, position, True))
        if self._depth > 1 and begun < len(chunk):
            spans.append(Span(begun, len(chunk), False))
        return spans

    def _between(self, chunk: bytes, position: int) -> int:
        """Before the array or between two elements: look for what begins or ends here."""
        space = _SPACE_OR_COMMA.match(chunk, position)
        position = space.end() if space else position
        if position == len(chunk):
            return position
        byte = chunk[position]
        if self._depth == 0 and byte == 0x5B:
            self._depth = 1
            return position + 1
        if self._depth == 1 and byte == 0x7B:
            self._depth = 2
            self.count += 1
            return position
        if self._depth == 1 and byte == 0x5D:
            self._depth = 0
            self.ended = True
            return position + 1
        self.lost = True
        return position

    def _skip_string(self, chunk: bytes, position: int) -> int:
        if self._escaped:
            self._escaped = False
            position += 1
        inside = _IN_STRING.match(chunk, position)
        position = inside.end() if inside else position
        if position >= len(chunk):
            return len(chunk)
        if chunk[position] == 0x22:
            self._in_string = False
        else:
            self._escaped = True  # a lone backslash ends the chunk
        return position + 1
