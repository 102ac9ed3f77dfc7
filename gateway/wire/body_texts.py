r"""The texts within a body as its reader sees them, and where each of their bytes stands in it.

`"bob\u0040example.com"` is an address to whoever reads the JSON, and so is one whose pieces come in three events of a
stream. Whoever looks for something in a body looks at the decoded texts, at those of a stream joined as they belong
together, and changes the body at the places that they came from. Works on what is cut off or malformed, too.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, TypeAlias

_STRING_OR_SIGN: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|[{}\[\],:]|\d+', re.DOTALL)
_JSON_ESCAPE: Final = re.compile(
    rb'\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|(["\\/bfnrt]))'
)
_FORM_ESCAPE: Final = re.compile(rb"%([0-9a-fA-F]{2})|(\+)")
_FORM_FIELD: Final = re.compile(rb"[^&=]+")
_LINE: Final = re.compile(rb"[^\r\n]+")
_CONTROLS: Final = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}
_ORDINALS: Final = frozenset((b"index", b"output_index", b"content_index"))
"""Members by which a stream tells pieces of several texts apart."""
_NAMES: Final = frozenset((b"id", b"object", b"model", b"type", b"role", b"item_id", b"system_fingerprint", b"status"))
"""Members whose values repeat from event to event: they are no pieces of one text."""
_DEEPEST: Final = 64
_SHORTEST_GAP: Final = 6
"""Signs between strings that are worth a look: bare numbers, and what is no JSON."""

Channel: TypeAlias = tuple[object, ...]
"""The place in each event at which pieces of one text stand."""


class Kind(Enum):
    """How a body is written."""

    PLAIN = auto()
    JSON = auto()
    EVENTS = auto()
    """Server-sent events (WHATWG HTML 9.2)."""
    LINES = auto()
    """A JSON document a line."""
    FORM = auto()
    """application/x-www-form-urlencoded."""


@dataclass(slots=True)
class Text:
    """A run of a body. `in_string`: within a JSON string, where any text may stand."""

    start: int
    decoded: bytes
    channels: tuple[Channel, ...] = ()
    """Which longer texts of a stream it is a piece of; more than one where that can be read in two ways."""
    place: Channel | None = None
    """The same by its place alone: for a piece that is the only one of its channels."""
    in_string: bool = False
    steps: list[tuple[int, int]] = field(default_factory=list)
    """After each escape: offset in `decoded`, offset in the body."""

    def at(self, offset: int) -> int:
        """Where in the body a byte of `decoded` stands, or its end."""
        low, high = 0, len(self.steps)
        while low < high:
            middle = (low + high) // 2
            if self.steps[middle][0] <= offset:
                low = middle + 1
            else:
                high = middle
        if low == 0:
            return self.start + offset
        decoded_at, raw_at = self.steps[low - 1]
        return raw_at + offset - decoded_at


def texts_of(body: bytes, kind: Kind) -> Iterator[Text]:
    """All texts of a body; those of one channel in order."""
    match kind:
        case Kind.PLAIN:
            yield Text(0, body)
        case Kind.JSON:
            yield from _json(body, 0, len(body), stream=body.lstrip()[:1] == b"[")
        case Kind.EVENTS | Kind.LINES:
            for line in _LINE.finditer(body):
                start, end = line.span()
                if body.startswith(b"data:", start):
                    start += 6 if body[start + 5 : start + 6] == b" " else 5
                if body[start : start + 1] in (b"{", b"["):
                    yield from _json(body, start, end, stream=True)
                else:
                    yield Text(start, body[start:end], channels=((),), place=())
        case Kind.FORM:
            for found in _FORM_FIELD.finditer(body):
                yield _decoded(body, *found.span(), _FORM_ESCAPE)


def _decoded(body: bytes, start: int, end: int, escapes: "re.Pattern[bytes]") -> Text:
    raw = body[start:end]
    in_string = escapes is _JSON_ESCAPE
    text = Text(start, raw, in_string=in_string)
    if (b"\\" if in_string else b"%") not in raw and (in_string or b"+" not in raw):
        return text
    pieces: list[bytes] = []
    size = last = 0
    for found in escapes.finditer(raw):
        sign = _sign(found) if in_string else _form_sign(found)
        pieces += (raw[last : found.start()], sign)
        size += found.start() - last + len(sign)
        last = found.end()
        text.steps.append((size, start + last))
    pieces.append(raw[last:])
    text.decoded = b"".join(pieces)
    return text


def _sign(found: "re.Match[bytes]") -> bytes:
    high, low, single, control = found.groups()
    if control is not None:
        return _CONTROLS.get(control, control)
    code = int(single, 16) if high is None else 0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF)
    return chr(code).encode("utf-8", "surrogatepass")


def _form_sign(found: "re.Match[bytes]") -> bytes:
    return b" " if found[1] is None else bytes((int(found[1], 16),))


class _Frame:
    """An object or array that is being read."""

    __slots__ = ("is_object", "key", "naming", "ordinals", "place")

    def __init__(self, *, is_object: bool) -> None:
        self.is_object = is_object
        self.naming = is_object
        """The next string is a member's name."""
        self.key = b""
        self.place = 0
        self.ordinals: dict[bytes, int] | None = None
        """What tells this object apart. It may come behind the texts that it is about."""


_Way: TypeAlias = list[tuple[_Frame, bytes | int]]
"""From an event down to a string of it: in each object a member's name, in each array a place."""


def _join(text: Text, way: _Way) -> None:
    """Say what the text is a piece of. To be called when its event has been read: `index` may come behind the text.

    Ordinals go before places in arrays: a choice comes alone as the first, or as the second of two. Where they count
    something else, events perhaps, there is the place alone."""
    by_place: list[object] = []
    by_ordinal: list[object] = ["ordinals"]
    by_both: list[object] = ["both"]
    for at, (frame, step) in enumerate(way):
        by_place.append(step)
        if frame.is_object:
            known = None if frame.ordinals is None else tuple(sorted(frame.ordinals.items()))
            by_ordinal += (known, step)
            by_both += (known, step)
        else:
            below = way[at + 1][0] if at + 1 < len(way) else None
            by_ordinal.append(None if below is not None and below.ordinals else step)
            by_both.append(step)
    text.place = tuple(by_place)
    has_ordinals = any(frame.ordinals for frame, _ in way)
    text.channels = (tuple(by_ordinal), tuple(by_both)) if has_ordinals else (text.place,)


def _json(body: bytes, start: int, end: int, *, stream: bool) -> Iterator[Text]:
    """Strings, names of members too, and what stands between them where it is more than JSON's signs."""
    frames: list[_Frame] = []
    pieces: list[tuple[Text, _Way]] = []
    last = start
    for found in _STRING_OR_SIGN.finditer(body, start, end):
        token = found[0]
        if token[:1] != b'"':
            _follow(frames, token)
            continue
        at, until = found.span()
        if at - last >= _SHORTEST_GAP:
            yield Text(last, body[last:at])
        last = until
        inner_end = until - 1 if until - at > 1 and token.endswith(b'"') else until
        frame = frames[-1] if frames else None
        text = _decoded(body, at + 1, inner_end, _JSON_ESCAPE)
        if frame is not None and frame.naming:
            frame.key = token[1:-1]
            yield text
        elif stream and len(frames) <= _DEEPEST and (frame is None or frame.key not in _NAMES):
            steps = frames if not frames or frames[0].is_object else frames[1:]  # events in one array
            pieces.append((text, [(each, each.key if each.is_object else each.place) for each in steps]))
        else:
            yield text
    if end - last >= _SHORTEST_GAP:
        yield Text(last, body[last:end])
    for text, way in pieces:
        _join(text, way)
        yield text


def _follow(frames: list[_Frame], token: bytes) -> None:
    frame = frames[-1] if frames else None
    match token:
        case b"{" | b"[":
            frames.append(_Frame(is_object=token == b"{"))
        case b"}" | b"]":
            if frames:
                frames.pop()
        case b",":
            if frame is not None:
                frame.naming = frame.is_object
                frame.place += 1
        case b":":
            if frame is not None:
                frame.naming = False
        case _:
            if frame is not None and frame.key in _ORDINALS and len(token) < 9:
                if frame.ordinals is None:
                    frame.ordinals = {}
                frame.ordinals[frame.key] = int(token)
