"""Read a JSON request body and edit it in place: what all JSON dialects share.

The body is decoded once to be understood and never encoded again: edits are splices into the bytes that the caller
sent, so that unknown fields, number formats and white space survive.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NoReturn

import orjson

from gateway.errors import BadRequest
from gateway.wire.errors import WireError
from gateway.wire.json_scan import TopLevelScanner

_ESCAPED_ASCII_LETTER: Final = re.compile(rb"\\u00[4-7]")
"""Only such an escape could spell the name of a field that matters in another way."""
_SHORT_BYTES: Final = 4096
"""Below it one `count` a field is quicker than one pass of the expression."""
_MODEL: Final = b'"model"'
_MODEL_VALUE: Final = re.compile(rb'"model"[ \t\r\n]*:[ \t\r\n]*("(?:[^"\\]++|\\.)*+")')
_OBJECT_START: Final = re.compile(rb"[ \t\r\n]*\{")

MOST_TOKENS: Final = 1 << 40
"""A larger bound means nothing, and must not overflow what is counted with it."""
MOST_NAME_CHARACTERS: Final = 500

Splice = tuple[int, int, bytes]
"""`body[start:end]` becomes these bytes."""


class CriticalFields:
    """The fields whose meaning two parsers must not read differently: named twice, or again in another case, they are
    refused. The `bulky` ones among them hold more than a word."""

    __slots__ = ("_pattern", "_quoted", "names", "small")

    def __init__(self, *names: str, bulky: Collection[str] = ()) -> None:
        self.names = frozenset(names)
        self.small = self.names.difference(bulky)
        self._quoted = {name: b'"%b"' % name.encode() for name in names}
        self._pattern = re.compile(rb'"(%b)"[ \t\r\n]*:' % "|".join(names).encode())

    def perhaps_twice(self, body: bytes, document: Mapping[str, Any]) -> bool:
        """False is sure; True sends the body through the scanner, which knows.

        Where no escape can spell a name and its quoted form occurs once in all the body, it is there once.
        """
        if rb"\u00" in body and _ESCAPED_ASCII_LETTER.search(body):
            return True
        if len(body) < _SHORT_BYTES:
            for name in document:
                quoted = self._quoted.get(name)
                if quoted is not None and body.count(quoted) > 1:
                    return True
        else:
            found = self._pattern.findall(body)
            if len(found) != len(set(found)):
                return True
        spelled = "".join(document)
        if spelled.isascii() and spelled.islower():
            return False
        # Parsers that ignore case (Go's) would take "Model" for "model".
        return any(name not in self.names and name.casefold() in self.names for name in document)


def decode_object(body: bytes) -> dict[str, Any]:
    """The body as a dict. Raises BadRequest if it is no JSON object."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as problem:
        document = _read_with_lone_surrogates(body, problem)
    if not isinstance(document, dict):
        raise BadRequest("the request body is not a JSON object", fix='send an object, e.g. {"model": "…"}')
    return document


def check_names(body: bytes, document: Mapping[str, Any], critical: CriticalFields) -> None:
    """Raises BadRequest if the body names a critical field twice."""
    if critical.perhaps_twice(body, document):
        scan(body, unique=critical.names)


def _read_with_lone_surrogates(body: bytes, problem: orjson.JSONDecodeError) -> Any:
    """JavaScript callers that cut a text in the middle of an emoji send half of a surrogate pair; the standard
    library's decoder takes it."""
    try:
        if rb"\ud" in body or rb"\uD" in body:
            return json.loads(body.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        pass
    raise BadRequest(
        f"the request body is not valid JSON: {problem}", fix="send one JSON object, UTF-8, at most 1000 levels deep"
    ) from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def scan(body: bytes, wanted: Collection[str] = (), unique: Collection[str] = ()) -> TopLevelScanner:
    """The scanner after the whole body. Raises BadRequest."""
    scanner = TopLevelScanner(wanted, unique=unique, max_value_bytes=len(body))
    try:
        scanner.feed(body)
        scanner.close()
    except WireError as problem:
        raise BadRequest(problem.message, fix="send one JSON object that names each field once") from None
    return scanner


def model_span(body: bytes) -> tuple[int, int]:
    """Where the value of the top-level `model` lies, quotes included. The body was read before."""
    at = body.find(_MODEL)
    if at >= 0 and body.find(_MODEL, at + 1) < 0 and rb"\u00" not in body:
        found = _MODEL_VALUE.match(body, at)
        if found is not None:
            return found.span(1)
    member = scan(body, ("model",)).members.get("model")
    if member is None:
        raise missing("model")
    return member.start, member.end


def with_model(body: bytes, old: str, new: str) -> bytes:
    """The body with `new` as its top-level `model`, which is read as `old` and differs."""
    # Where the name stands once and no escape can spell it, it is the member; most encoders write it in these two ways.
    if body.count(_MODEL) == 1 and body.find(rb"\u00") < 0:  # `in` costs three `find`: it tries the bytes as an int
        named, renamed = orjson.dumps(old), orjson.dumps(new)
        for mark in (b'"model":', b'"model": '):
            edited = body.replace(mark + named, mark + renamed)
            if edited != body:
                return edited
    start, end = model_span(body)
    return b"".join((body[:start], orjson.dumps(new), body[end:]))


def apply_splices(body: bytes, splices: Sequence[Splice]) -> bytes:
    """The body with non-overlapping edits made, in any order; the body itself if there are none."""
    if not splices:
        return body
    pieces: list[bytes] = []
    done = 0
    for start, end, replacement in sorted(splices):
        pieces += (body[done:start], replacement)
        done = end
    pieces.append(body[done:])
    return b"".join(pieces)


def object_start(body: bytes) -> int:
    """Index past the opening brace."""
    found = _OBJECT_START.match(body)
    return found.end() if found else 0


def missing(name: str) -> BadRequest:
    return BadRequest(
        f'the request names no "{name}"', fix=f'add "{name}" to the body: the name of a route', param=name
    )


def read_model(document: Mapping[str, Any]) -> str:
    value = document.get("model")
    if isinstance(value, str) and 0 < len(value) <= MOST_NAME_CHARACTERS and (value.isascii() or _is_text(value)):
        return value
    if value is None:
        raise missing("model")
    raise wrong("model", f"the name of a route: a string of 1 to {MOST_NAME_CHARACTERS} characters")


def _is_text(value: str) -> bool:
    """Not so where half of a surrogate pair stands alone."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_bool(document: Mapping[str, Any], name: str) -> bool:
    value = document.get(name)
    if value is None or value is False:
        return False
    if value is True:
        return True
    raise wrong(name, "true or false")


def read_count(document: Mapping[str, Any], name: str, at_least: int = 0, at_most: int = MOST_TOKENS) -> int | None:
    """None where the field is absent or null. Floats with no fraction count, as providers take them."""
    value = document.get(name)
    if value is None:
        return None
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not at_least <= value <= at_most:
        raise wrong(name, f"a whole number from {at_least} to {at_most}")
    return value


def wrong(name: str, expected: str) -> BadRequest:
    return BadRequest(f'"{name}" is not {expected}', fix=f'send "{name}" as {expected}, or leave it out', param=name)
