"""Who calls: the API key in its many places, or none."""

from hashlib import sha256
from typing import Protocol
from urllib.parse import unquote_to_bytes

from gateway.dataplane.forwarding import KEY_HEADERS
from gateway.dataplane.request import Headers
from gateway.errors import Unauthenticated, Unavailable
from gateway.policy.model import Key
from gateway.policy.snapshot import Snapshot

HOW = "send a key of this gateway as `Authorization: Bearer KEY`, `x-api-key: KEY` or `x-goog-api-key: KEY`"


class KeyExpired(Unauthenticated):
    """A key of ours, and no longer good."""


class Shown(Protocol):
    """What of a request can show a key."""

    @property
    def headers(self) -> Headers: ...

    @property
    def query(self) -> bytes: ...


class Caller:
    """The key that was shown, and its text, so that it can be kept from the upstream."""

    __slots__ = ("_text", "app", "key", "own_lines")

    def __init__(self, key: Key, text: bytes, own_lines: bytes | None = None) -> None:
        """`own_lines`: header lines with the provider's credential that the caller itself has, where that goes upstream
        in place of the gateway's."""
        self.key = key
        self.own_lines = own_lines
        self.app = key.app
        self._text = text

    def headers_with_key(self, headers: Headers, snapshot: Snapshot) -> frozenset[bytes]:
        """Names of the headers that hold the key, or another one of ours: a caller may have sent several."""
        return frozenset(
            name
            for name, value in headers
            if name in KEY_HEADERS and (self._text in value or sha256(_bare(value)).digest() in snapshot.keys)
        )

    def query_without_key(self, query: bytes, snapshot: Snapshot) -> bytes:
        """Without keys of ours; a provider's passes, as Gemini's clients send it."""
        return b"&".join(part for part in query.split(b"&") if not self._is_ours(part, snapshot))

    def _is_ours(self, part: bytes, snapshot: Snapshot) -> bool:
        name, _, value = part.partition(b"=")
        return unquote_to_bytes(name) == b"key" and sha256(unquote_to_bytes(value)).digest() in snapshot.keys


def _bare(value: bytes) -> bytes:
    """The key in a header's value, its scheme cut off."""
    scheme, _, text = value.partition(b" ")
    return text.strip() if scheme.lower() == b"bearer" else value


def identify(request: Shown, snapshot: Snapshot, now_s: float) -> Caller:
    """The caller by its key. Raises Unauthenticated, which never repeats what was sent."""
    shown = False
    for name, value in request.headers:
        if name == b"authorization":
            scheme, _, text = value.partition(b" ")
            text = text.strip() if scheme.lower() == b"bearer" else b""
        elif name in (b"x-api-key", b"x-goog-api-key"):
            text = value
        else:
            continue
        if not text:
            continue
        shown = True
        key = snapshot.keys.get(sha256(text).digest())
        if key is not None:
            return Caller(check_expiry(key, now_s), text)
    if b"key=" in request.query:
        for part in request.query.split(b"&"):
            if part.startswith(b"key="):
                shown = True
                text = unquote_to_bytes(part[4:])
                key = snapshot.keys.get(sha256(text).digest())
                if key is not None:
                    return Caller(check_expiry(key, now_s), text)
    if snapshot.generation == 0:
        raise Unavailable("the gateway has not loaded its configuration yet", fix="try again shortly", retry_after_s=1)
    if shown:
        raise Unauthenticated("the API key is not known here", fix=HOW + "; it may have been revoked")
    raise Unauthenticated("no API key was sent", fix=HOW)


def check_expiry(key: Key, now_s: float) -> Key:
    """The key itself. Raises KeyExpired when its time is over."""
    if key.expires_at_s is not None and key.expires_at_s <= now_s:
        raise KeyExpired(f"key {key.name} has expired", fix="ask its team for a new one")
    return key
