"""The head of an upstream's answer (RFC 9112 4, 5), read strictly and by lines.

Servers repeat themselves: of the lines of a head most were seen before, to the byte. A line is checked and understood
once and then recognised; only what changes from answer to answer (a date, an id) is read anew.
"""

import re
from collections.abc import Collection
from enum import IntEnum
from typing import Final, NamedTuple

from gateway.wire.errors import WireError

MOST_LINES: Final = 4096
"""Lines that are remembered; then all are forgotten."""
LONGEST_LINE: Final = 256
"""A longer line is not remembered."""

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2})(?: [\t\x20-\x7e\x80-\xff]*)?")
_FIELD: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*"  # a token, with nothing between it and the colon
    rb"([\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?[ \t]*"
)


_JSON: Final = b"application/json"


class Role(IntEnum):
    """What a field means to whoever relays the answer."""

    ORDINARY = 0
    CONTENT_LENGTH = 1
    TRANSFER_ENCODING = 2
    CONNECTION = 3
    CONTENT_TYPE = 4
    CONTENT_ENCODING = 5


_ROLES: Final = {
    b"content-length": Role.CONTENT_LENGTH,
    b"transfer-encoding": Role.TRANSFER_ENCODING,
    b"connection": Role.CONNECTION,
    b"content-type": Role.CONTENT_TYPE,
    b"content-encoding": Role.CONTENT_ENCODING,
}
_CONNECTION, _CODING, _LENGTH = Role.CONNECTION, Role.TRANSFER_ENCODING, Role.CONTENT_LENGTH
_TYPE, _ENCODING = Role.CONTENT_TYPE, Role.CONTENT_ENCODING


class Field(NamedTuple):
    """One header line. `line` is what goes on of it, CRLF included: b"" if nothing does."""

    line: bytes
    role: Role
    name: bytes
    """In lower case."""
    value: bytes


class AnswerHead:
    """Status and fields of one answer, and what they say of its body (RFC 9112 6.3). Never changed once it was read."""

    __slots__ = ("chunked", "encoding", "fields", "keep", "kind", "length", "lines", "names_more", "plain", "status")

    def __init__(self, status: int, fields: list[Field], *, keep: bool) -> None:
        self.status = status
        self.fields = fields
        self.keep = keep
        """Whether the connection may serve another request after this answer."""
        self.kind = b""
        """The media type without parameters, in lower case."""
        self.length: int | None = None
        self.chunked = False
        self.encoding: bytes | None = None
        """Content-Encoding, in lower case; None = identity."""
        self.names_more = False
        """`Connection` names fields beyond the usual ones: they are hop-by-hop too (RFC 9110 7.6.1)."""
        self.plain = False
        """Status 200, JSON, not encoded, with nothing hop-by-hop but the usual."""
        self.lines = b"".join([field.line for field in fields])
        """The lines that go on to the client."""

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """All fields: (name in lower case, value)."""
        return [(field.name, field.value) for field in self.fields]


class AnswerHeads:
    """Reads heads. `dropped`: the names of fields that do not go on, in lower case."""

    __slots__ = ("_dropped", "_fields", "_last", "_last_text", "_status_lines")

    def __init__(self, dropped: Collection[bytes]) -> None:
        self._dropped = frozenset(dropped)
        self._fields: dict[bytes, Field] = {}
        self._status_lines: dict[bytes, tuple[int, bool]] = {}
        self._last_text = b""
        self._last: AnswerHead | None = None

    def read(self, head: bytes) -> AnswerHead:
        """`head` without the empty line at its end. Raises WireError(502) for what could be read in two ways."""
        if head == self._last_text and self._last is not None:
            return self._last
        lines = head.split(b"\r\n")
        known = self._fields
        first = self._status_lines.get(lines[0]) or self._learn_status(lines[0])
        del lines[0]
        try:
            fields = [known[line] for line in lines]
        except KeyError:
            fields = [known.get(line) or self._learn(line) for line in lines]
        status, modern = first
        made = AnswerHead(status, fields, keep=modern)
        for field in fields:
            role = field[1]
            if role:
                if role is _TYPE:
                    made.kind = field[3].partition(b";")[0].rstrip().lower()
                elif role is _LENGTH:
                    length = int(field[3])
                    if made.length is not None and made.length != length:
                        raise WireError(502, "two lengths")
                    made.length = length
                elif role is _CODING:
                    if made.chunked or field[3].lower() != b"chunked":
                        raise WireError(502, "an answer whose length is ambiguous")
                    made.chunked = True
                elif role is _CONNECTION:
                    self._read_connection(made, field[3], modern=modern)
                else:
                    encoding = field[3].lower()
                    made.encoding = None if encoding == b"identity" else encoding
        if made.chunked and (made.length is not None or not modern):
            raise WireError(502, "an answer whose length is ambiguous")
        made.plain = status == 200 and made.kind == _JSON and made.encoding is None and not made.names_more
        self._last_text, self._last = head, made
        return made

    def _read_connection(self, head: AnswerHead, value: bytes, *, modern: bool) -> None:
        options = {option.strip() for option in value.lower().split(b",")}
        if b"close" in options:
            head.keep = False
        elif not modern and b"keep-alive" in options:
            head.keep = True
        if not options <= self._dropped and not options <= {b"close", b"keep-alive", b""}:
            head.names_more = True

    def _learn_status(self, line: bytes) -> tuple[int, bool]:
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise WireError(502, "a status line that is none")
        understood = (int(match[2]), match[1] == b"1")
        if len(line) <= LONGEST_LINE:
            if len(self._status_lines) >= MOST_LINES:
                self._status_lines.clear()
            self._status_lines[line] = understood
        return understood

    def _learn(self, line: bytes) -> Field:
        match = _FIELD.fullmatch(line)
        if match is None:
            raise WireError(502, "a header line that is none")
        name, value = match[1].lower(), match[2] or b""
        role = _ROLES.get(name, Role.ORDINARY)
        if role is _LENGTH and (not value.isdigit() or len(value) > 18):
            raise WireError(502, "a length that is no number")
        field = Field(b"" if name in self._dropped else b"%b: %b\r\n" % (name, value), role, name, value)
        if len(line) <= LONGEST_LINE:
            if len(self._fields) >= MOST_LINES:
                self._fields.clear()
            self._fields[line] = field
        return field
