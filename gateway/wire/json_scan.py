"""Find the top-level members of a JSON object that is never held whole.

A 20 MB body may name its model in its last line. The scanner walks the object chunk by chunk, remembers where each
wanted member's value lies and what it says, and skips everything else at the speed of `bytes.find`. It checks the
grammar of the top level and the nesting depth only: what lies deeper is the upstream's to validate.
"""

import json
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from gateway.wire.errors import WireError

MAX_DEPTH: Final = 1000
MAX_MEMBERS: Final = 1000
MAX_KEY_BYTES: Final = 1024
HEAD_BYTES: Final = 512
"""How much of a long string its judge is shown."""

_SPACE: Final = re.compile(rb"[ \t\r\n]*+")
_SCALAR: Final = re.compile(rb"[^ \t\r\n,}\]{\[\":]*+")
_SCALAR_VALUE: Final = re.compile(rb"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_STRUCTURE: Final = re.compile(rb'["{}\[\]]')
_ESCAPED_RUN: Final = re.compile(rb'(?:\\.[^"\\]*+)*+', re.DOTALL)
_NAMED: Final = re.compile(rb'"([A-Za-z0-9_]{1,32})"[ \t\r\n]*:[ \t\r\n]*(\[[ \t\r\n]*)?$')
_NEXT_ITEM: Final = re.compile(rb"[ \t\r\n]*,[ \t\r\n]*$")
_LOOK_BEHIND_BYTES: Final = 64
_WINDOW_BYTES: Final = 16 * 1024
"""What is skipped at once; shorter than any opaque string, so that none is skipped unseen."""
_LEAST_WINDOW_BYTES: Final = 256
"""Windows shrink by fours towards the end of a value; what this one cannot skip is stepped through token by token."""
_WORTH_BYTES: Final = 64
_NESTED_PASSES: Final = 32
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"{}[]"))
_UNMATCHED: Final = re.compile(rb"[}\]]*[{\[]*")


@dataclass(frozen=True, slots=True)
class Member:
    """One top-level member: its value is `body[start:end]`."""

    start: int
    end: int
    raw: bytes
    """The value as written; b"" unless it was wanted."""
    opaque_excess: int
    """By how many bytes its opaque strings (media in base64) exceed what each may count."""


class _State(IntEnum):
    BEGIN = 0
    FIRST_KEY = 1
    KEY = 2
    IN_KEY = 3
    COLON = 4
    VALUE = 5
    IN_STRING = 6
    IN_SCALAR = 7
    NESTED = 8
    NESTED_STRING = 9
    AFTER_VALUE = 10
    DONE = 11


class TopLevelScanner:
    """Feed it the body; read `members` after `close()`.

    A wanted or `unique` key that comes twice, or in another spelling of its case, is refused: two parsers would
    disagree on which counts. Only wanted values are kept. `is_opaque(key, head)` judges strings longer than
    `opaque_bytes` by the name before them (in an array the array's, as long as all strings there are long; else b"")
    and their first bytes. Raises WireError(400).
    """

    __slots__ = (
        "_behind",
        "_capture",
        "_capturing",
        "_depth",
        "_escaped",
        "_excess",
        "_head",
        "_in_array",
        "_is_opaque",
        "_item_end",
        "_item_name",
        "_key",
        "_max_value_bytes",
        "_name",
        "_offset",
        "_opaque_bytes",
        "_state",
        "_string_start",
        "_token",
        "_unique",
        "_value_start",
        "_wanted",
        "_window_bytes",
        "members",
    )

    def __init__(
        self,
        wanted: Collection[str],
        *,
        unique: Collection[str] = (),
        max_value_bytes: int = 65_536,
        opaque_bytes: int = 50_000,
        is_opaque: Callable[[bytes, bytes], bool] | None = None,
    ) -> None:
        self._wanted = frozenset(wanted)
        self._unique = self._wanted.union(unique)
        self._max_value_bytes = max_value_bytes
        self._opaque_bytes = opaque_bytes
        self._is_opaque = is_opaque
        self.members: dict[str, Member] = {}
        self._state = _State.BEGIN
        self._offset = 0  # of the present chunk in the body
        self._behind = b""  # the end of the previous chunk
        self._depth = 0
        self._escaped = False  # the chunk ended in a backslash within a string
        self._token = bytearray()  # key or scalar under way
        # of the member under way
        self._key = ""
        self._value_start = 0
        self._capturing = False
        self._capture = bytearray()
        self._excess = 0
        self._window_bytes = _WINDOW_BYTES
        # of the string under way within the value
        self._string_start = 0
        self._name: bytes | None = None
        self._head = b""
        self._in_array = False
        # of the long string before it, where that is an item of a named array: the next item has the same name
        self._item_name = b""
        self._item_end = 0

    def feed(self, chunk: bytes) -> None:
        """Look at the next piece of the body. Linear in its length, whatever it holds."""
        position, size, begun = 0, len(chunk), 0
        while position < size:
            state = self._state
            if state is _State.NESTED:
                position = self._skip_structure(chunk, position)
            elif state is _State.NESTED_STRING or state is _State.IN_STRING:
                position = self._skip_string(chunk, position)
            elif state is _State.IN_KEY:
                position = self._read_key(chunk, position)
            elif state is _State.IN_SCALAR:
                position = self._read_scalar(chunk, position)
            else:
                space = _SPACE.match(chunk, position)
                position = space.end() if space else position
                if position < size:
                    begun = position if state is _State.VALUE else begun
                    position = self._step(chunk, position)
            if self._state is _State.AFTER_VALUE and state is not _State.AFTER_VALUE:
                self._end_value(chunk, begun, position)
                begun = 0
        if self._capturing:
            self._keep(chunk[begun:])
        if self._name is None and self._state in (_State.NESTED_STRING, _State.IN_STRING):
            self._name_string(chunk, size)
        self._behind = (self._behind + chunk[-_LOOK_BEHIND_BYTES:])[-_LOOK_BEHIND_BYTES:]
        self._offset += size

    def close(self) -> None:
        """The body ended. Raises WireError if the object did not."""
        if self._state is not _State.DONE:
            raise WireError(400, f"the JSON object breaks off at byte {self._offset}")

    def _fault(self, what: str, position: int) -> WireError:
        return WireError(400, f"the body is not a JSON object: {what} at byte {self._offset + position}")

    def _step(self, chunk: bytes, position: int) -> int:
        """One token of the top level; what is longer than a byte continues in a state of its own."""
        byte = chunk[position]
        state = self._state
        if state is _State.VALUE:
            self._value_start = self._offset + position
            self._capturing = self._key in self._wanted
            self._capture.clear()
            self._excess = 0
            if byte == 0x22:
                self._begin_string(_State.IN_STRING, position)
            elif byte in b"{[":
                self._state, self._depth = _State.NESTED, 1
            else:
                self._token.clear()
                self._state = _State.IN_SCALAR
                return position
        elif state is _State.KEY or state is _State.FIRST_KEY:
            if byte == 0x22:
                self._token.clear()
                self._state = _State.IN_KEY
            elif byte == 0x7D and state is _State.FIRST_KEY:
                self._state = _State.DONE
            else:
                raise self._fault("a member's name was expected", position)
        elif state is _State.COLON:
            if byte != 0x3A:
                raise self._fault('":" was expected', position)
            self._state = _State.VALUE
        elif state is _State.AFTER_VALUE:
            if byte == 0x2C:
                self._state = _State.KEY
            elif byte == 0x7D:
                self._state = _State.DONE
            else:
                raise self._fault('"," or "}" was expected', position)
        elif state is _State.BEGIN:
            if byte != 0x7B:
                raise self._fault('"{" was expected', position)
            self._state = _State.FIRST_KEY
        else:
            raise self._fault("more follows its end", position)
        return position + 1

    def _skip_structure(self, chunk: bytes, position: int) -> int:
        while position < len(chunk):
            end = self._skip_balanced(chunk, position)
            if end > position:
                self._window_bytes = min(_WINDOW_BYTES, self._window_bytes * 4)
                position = end
            elif self._window_bytes > _LEAST_WINDOW_BYTES:
                self._window_bytes //= 4
            else:
                return self._skip_tokens(chunk, position, position + _LEAST_WINDOW_BYTES)
        return position

    def _skip_balanced(self, chunk: bytes, position: int) -> int:
        """Skip a window in which the value cannot end, without a step of Python for each token: take its strings out,
        cancel the brackets that match, and see whether fewer close than are open. `position` itself = it may end."""
        window = chunk[position : position + self._window_bytes]
        if len(window) < _WORTH_BYTES:
            return position
        plain = window.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in window else window
        parts = plain.split(b'"')  # outside, inside, outside, …
        size = len(window)
        if not len(parts) & 1:  # it ends within a string: stop before that
            parts.pop()
            size = window.rfind(b'"')
            if size < _WORTH_BYTES or window[size - 1] == 0x5C:
                return position
        brackets = b"".join(parts[::2]).translate(None, _NO_BRACKETS)
        for _ in range(_NESTED_PASSES):  # each cancels the innermost level
            before = len(brackets)
            brackets = brackets.replace(b"{}", b"").replace(b"[]", b"")
            if len(brackets) == before:
                break
        opened = len(brackets.translate(None, b"}]"))
        closed = len(brackets) - opened
        if closed >= self._depth or not _UNMATCHED.fullmatch(brackets):
            return position
        self._depth += opened - closed
        if self._depth > MAX_DEPTH:
            raise _too_deep()
        return position + size

    def _skip_tokens(self, chunk: bytes, position: int, limit: int) -> int:
        search = _STRUCTURE.search
        depth = self._depth
        while position < limit:
            found = search(chunk, position)
            if found is None:
                position = len(chunk)
                break
            position = found.end()
            byte = chunk[position - 1]
            if byte == 0x22:
                # The common short string is skipped right here.
                quote = chunk.find(b'"', position, position + 256)
                if quote >= 0 and chunk.find(b"\\", position, quote) < 0:
                    position = quote + 1
                    continue
                self._begin_string(_State.NESTED_STRING, position - 1)
                break
            if byte in b"{[":
                depth += 1
                if depth > MAX_DEPTH:
                    raise _too_deep()
            else:
                depth -= 1
                if depth == 0:
                    self._state = _State.AFTER_VALUE
                    break
        self._depth = depth
        return position

    def _begin_string(self, state: _State, position: int) -> None:
        self._state = state
        self._string_start = self._offset + position + 1
        self._name = None
        self._head = b""

    def _string_end(self, chunk: bytes, position: int) -> int:
        """Index past the closing quote, or -1 where the chunk ends within the string."""
        if self._escaped:
            self._escaped = False
            position += 1
        quote = chunk.find(b'"', position)
        slash = chunk.find(b"\\", position, quote if quote >= 0 else len(chunk))
        if slash < 0:
            return quote + 1 if quote >= 0 else -1
        run = _ESCAPED_RUN.match(chunk, slash)
        position = run.end() if run else slash
        if position == len(chunk):
            return -1
        if chunk[position] == 0x22:
            return position + 1
        self._escaped = True  # a lone backslash ends the chunk
        return -1

    def _skip_string(self, chunk: bytes, position: int) -> int:
        end = self._string_end(chunk, position)
        if self._name is not None and len(self._head) < HEAD_BYTES:
            self._head += chunk[: HEAD_BYTES - len(self._head)]
        if end < 0:
            return len(chunk)
        length = self._offset + end - 1 - self._string_start
        if length > self._opaque_bytes and self._is_opaque is not None:
            if self._name is None:
                self._name_string(chunk, end)
            if self._is_opaque(self._name or b"", self._head):
                self._excess += length - self._opaque_bytes
        if self._in_array and self._name:
            self._item_name, self._item_end = self._name, self._offset + end
        self._name = None
        self._state = _State.NESTED if self._state is _State.NESTED_STRING else _State.AFTER_VALUE
        return end

    def _name_string(self, chunk: bytes, end: int) -> None:
        """Remember the name before the string that began in this chunk, and the string's first bytes."""
        start = self._string_start - self._offset
        before = (self._behind + chunk[max(0, start - 1 - _LOOK_BEHIND_BYTES) : start - 1])[-_LOOK_BEHIND_BYTES:]
        named = _NAMED.search(before)
        self._in_array = False
        if self._state is _State.IN_STRING:
            self._name = self._key.encode(errors="replace")
        elif named:
            self._name = named.group(1)
            self._in_array = named.group(2) is not None
        else:
            self._name = self._name_of_item(before)
        self._head = chunk[start : min(end, start + HEAD_BYTES)]

    def _name_of_item(self, before: bytes) -> bytes:
        """The name of the array whose items this string and the long one before it are; b"" if they are none."""
        comma = _NEXT_ITEM.search(before)
        if comma and self._item_name and self._string_start - 1 - len(comma.group()) == self._item_end:
            self._in_array = True
            return self._item_name
        return b""

    def _read_key(self, chunk: bytes, position: int) -> int:
        end = self._string_end(chunk, position)
        self._token += chunk[position : end - 1 if end >= 0 else len(chunk)]
        if len(self._token) > MAX_KEY_BYTES:
            raise self._fault(f"a member's name longer than {MAX_KEY_BYTES} bytes", position)
        if end < 0:
            return len(chunk)
        try:
            key = json.loads(b'"' + self._token + b'"')
        except ValueError:
            raise self._fault("a member's name that is no JSON string", position) from None
        self._check_key(key)
        self._key = key
        self._state = _State.COLON
        return end

    def _check_key(self, key: str) -> None:
        if key in self._unique:
            if key in self.members:
                raise WireError(400, f'"{key}" comes twice in the body: send it once')
        elif key.casefold() in self._unique:
            raise WireError(400, f'"{key}" differs from "{key.casefold()}" only in its spelling: send that one')
        elif len(self.members) >= MAX_MEMBERS:
            raise WireError(400, f"the JSON body has more than {MAX_MEMBERS} members")

    def _read_scalar(self, chunk: bytes, position: int) -> int:
        run = _SCALAR.match(chunk, position)
        end = run.end() if run else position
        self._token += chunk[position:end]
        if len(self._token) > MAX_KEY_BYTES:
            raise self._fault(f"a number longer than {MAX_KEY_BYTES} bytes", position)
        if end == len(chunk):
            return end
        if not _SCALAR_VALUE.fullmatch(self._token):
            raise self._fault("a value that is no JSON", position)
        self._state = _State.AFTER_VALUE
        return end

    def _keep(self, piece: bytes) -> None:
        self._capture += piece
        if len(self._capture) > self._max_value_bytes:
            raise WireError(400, f'"{self._key}" is longer than {self._max_value_bytes} bytes')

    def _end_value(self, chunk: bytes, begun: int, end: int) -> None:
        if self._capturing:
            self._keep(chunk[begun:end])
            self._capturing = False
        raw = bytes(self._capture)
        self._capture.clear()
        self.members[self._key] = Member(self._value_start, self._offset + end, raw, self._excess)


def _too_deep() -> WireError:
    return WireError(400, f"the JSON body is nested deeper than {MAX_DEPTH} levels")
