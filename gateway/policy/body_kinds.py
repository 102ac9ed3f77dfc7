"""What a body's head says of it: whether it is text, how that is written, and how it is packed."""

from dataclasses import dataclass
from typing import Final

from gateway.wire.body_texts import Kind

_KINDS: Final = {
    b"application/json": Kind.JSON,
    b"text/event-stream": Kind.EVENTS,
    b"application/x-ndjson": Kind.LINES,
    b"application/ndjson": Kind.LINES,
    b"application/jsonl": Kind.LINES,
    b"application/x-www-form-urlencoded": Kind.FORM,
}
_TEXTS: Final = frozenset(
    (
        b"application/xml", b"application/javascript", b"application/ecmascript", b"application/graphql",
        b"application/yaml", b"application/x-yaml", b"application/toml", b"application/sql",
    )
)  # fmt: skip
_CHARSETS: Final = frozenset((b"utf-8", b"utf8", b"us-ascii", b"ascii", b"iso-8859-1", b"latin1", b"windows-1252"))
_CODINGS: Final = frozenset((b"gzip", b"x-gzip", b"deflate"))


@dataclass(frozen=True, slots=True)
class Shape:
    """`kind` None: its bytes decide. `why_not`: it is no text that could be kept."""

    kind: Kind | None = None
    content_type: str = ""
    packed: bool = False
    why_not: str | None = None


def shape_of(content_type: bytes, coding: bytes) -> Shape:
    """By the values of Content-Type and Content-Encoding; empty where there is none."""
    named = content_type.decode("latin-1").strip()[:200]
    essence, _, parameters = content_type.lower().partition(b";")
    essence, coding = essence.strip(), coding.strip().lower()
    if coding not in (b"", b"identity") and coding not in _CODINGS:
        return Shape(None, named, why_not="encoded")
    packed = coding in _CODINGS
    _, found, charset = parameters.partition(b"charset=")
    if found and charset.partition(b";")[0].strip(b' "') not in _CHARSETS:
        return Shape(None, named, why_not="encoded")
    if not essence:
        return Shape(None, "", packed)
    kind = _KINDS.get(essence)
    if kind is None and essence.endswith(b"+json"):
        kind = Kind.JSON
    if kind is None and (essence.startswith(b"text/") or essence.endswith(b"+xml") or essence in _TEXTS):
        kind = Kind.PLAIN
    return Shape(kind, named, packed) if kind is not None else Shape(None, named, why_not="binary")


def kind_by_bytes(body: bytes) -> Kind | None:
    """Of a body whose head does not say: JSON, plain text, or None = no text."""
    if b"\0" in body:
        return None
    try:
        body[:-4].decode() if len(body) > 4 else body.decode()
    except UnicodeDecodeError as error:
        if error.end < len(body) - 8:  # else cut within a sign
            return None
    return Kind.JSON if body.lstrip()[:1] in (b"{", b"[") else Kind.PLAIN
