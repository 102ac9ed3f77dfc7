"""HTTP/2 messages as the HTTP/1.1 text that all else here understands, and back (RFC 9113 8; RFC 9112).

A field list that no HTTP/1.1 text could carry unchanged, or that would read differently there, is malformed: it becomes
an error of its stream and no text at all.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from gateway.wire.answer_head import AnswerHead, AnswerHeads, Role
from gateway.wire.chunked import ChunkedDecoder
from gateway.wire.errors import WireError

Fields: TypeAlias = Sequence[tuple[bytes, bytes]]

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE: Final = re.compile(rb"(?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[\x21-\x7e\x80-\xff])?)?")
_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")
_PATH: Final = re.compile(rb"(?:/[\x21-\x7e\x80-\xff]*|\*)")
_AUTHORITY: Final = re.compile(rb"[^\x00-\x20\x7f-\xff/?#@\\]+")
_PSEUDO: Final = frozenset((b":method", b":scheme", b":authority", b":path"))
_CONNECTION_SPECIFIC: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
"""RFC 9113 8.2.2."""
_NO_TRAILERS: Final = frozenset((b"content-length", b"host", b"te"))
"""Framing and routing have no place behind a body (RFC 9110 6.5.1): dropped there."""
MOST_HEAD_BYTES: Final = 256 * 1024
_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class RequestText:
    """`head`: request line and fields with the empty line; `chunked`: how its body goes on."""

    head: bytes
    method: bytes
    chunked: bool
    kind: bytes
    """The media type, in lower case."""

    @property
    def is_grpc(self) -> bool:
        return self.kind == b"application/grpc" or self.kind.startswith((b"application/grpc+", b"application/grpc-web"))


def request_text(fields: Fields, *, ended: bool) -> RequestText:
    """`ended`: there is no body. Raises WireError for what is malformed (RFC 9113 8.1.1)."""
    pseudo, ordinary = _split(fields)
    try:
        method, path, _ = pseudo[b":method"], pseudo[b":path"], pseudo[b":scheme"]
    except KeyError as missing:
        raise WireError(400, f"there is no {missing.args[0].decode()}") from None
    if not _METHOD.fullmatch(method):
        raise WireError(400, "the method is none")
    if not _PATH.fullmatch(path):
        raise WireError(400, "the path is none")
    length = _length(ordinary, ended=ended)
    chunked = not ended and length is None
    if chunked:
        framing = b"transfer-encoding: chunked\r\n"
    elif length is not None:
        framing = b"content-length: %b\r\n" % length
    else:
        framing = b"content-length: 0\r\n" if method in (b"POST", b"PUT", b"PATCH") else b""
    host = _host(pseudo.get(b":authority"), ordinary)
    head = b"%b %b HTTP/1.1\r\nhost: %b\r\n%b%b\r\n" % (method, path, host, _lines(ordinary), framing)
    kinds = [value.partition(b";")[0].strip().lower() for name, value in ordinary if name == b"content-type"]
    return RequestText(head, method, chunked, kinds[0] if kinds else b"")


def body_text(payload: bytes, *, chunked: bool) -> bytes:
    if not chunked or not payload:
        return payload
    return b"%x\r\n%b\r\n" % (len(payload), payload)


def end_text(trailers: Fields, *, chunked: bool) -> bytes:
    """What ends a body. Where it has a length, trailers have no place and are dropped. Raises WireError."""
    pseudo, ordinary = _split(trailers)
    if pseudo:
        raise WireError(400, "a pseudo-header among the trailers")
    if not chunked:
        return b""
    lines = [b"%b: %b\r\n" % field for field in ordinary if field[0] not in _NO_TRAILERS]
    return b"0\r\n%b\r\n" % b"".join(lines)


def _split(fields: Fields) -> tuple[dict[bytes, bytes], list[tuple[bytes, bytes]]]:
    pseudo: dict[bytes, bytes] = {}
    ordinary: list[tuple[bytes, bytes]] = []
    for name, value in fields:
        if name.startswith(b":"):
            if name not in _PSEUDO or name in pseudo or ordinary:
                raise WireError(400, "a pseudo-header that is unknown, twice or late")
            pseudo[name] = bytes(value)
            continue
        if not _NAME.fullmatch(name):
            raise WireError(400, "a field's name is none")
        if not _VALUE.fullmatch(value):
            raise WireError(400, "a field's value holds what no value may hold")
        if name in _CONNECTION_SPECIFIC:
            raise WireError(400, f"{name.decode()} has no place in HTTP/2")
        ordinary.append((bytes(name), bytes(value)))
    return pseudo, ordinary


def _lines(ordinary: Iterable[tuple[bytes, bytes]]) -> bytes:
    """All fields but those that say whom it is for and where it ends."""
    lines: list[bytes] = []
    cookies: list[bytes] = []
    for name, value in ordinary:
        if name == b"cookie":
            cookies.append(value)
        elif name == b"te":
            if value.lower() != b"trailers":
                raise WireError(400, "te is for trailers only")
            lines.append(b"te: trailers\r\nconnection: te\r\n")
        elif name not in (b"host", b"content-length"):
            lines.append(b"%b: %b\r\n" % (name, value))
    if cookies:
        lines.append(b"cookie: %b\r\n" % b"; ".join(cookies))  # RFC 9113 8.2.3
    return b"".join(lines)


def _length(ordinary: Iterable[tuple[bytes, bytes]], *, ended: bool) -> bytes | None:
    lengths = {value for name, value in ordinary if name == b"content-length"}
    if not lengths:
        return None
    length = lengths.pop()
    if lengths or not (length.isdigit() and len(length) < 19) or (ended and int(length)):
        raise WireError(400, "the length is none")
    return length


def _host(authority: bytes | None, ordinary: Iterable[tuple[bytes, bytes]]) -> bytes:
    hosts = [value for name, value in ordinary if name == b"host"]
    if authority is not None:
        hosts.append(authority)
    if not hosts or any(host != hosts[0] for host in hosts):
        raise WireError(400, "the request names no host, or more than one")
    if not _AUTHORITY.fullmatch(hosts[0]):
        raise WireError(400, "the host is none")
    return hosts[0]


@dataclass(frozen=True, slots=True)
class Head:
    """Where it is a 1xx, another one follows."""

    status: int
    fields: list[tuple[bytes, bytes]]
    """With `:status`; nothing that is the connection's own."""


@dataclass(frozen=True, slots=True)
class Body:
    payload: bytes


@dataclass(frozen=True, slots=True)
class End:
    trailers: list[tuple[bytes, bytes]]


Event: TypeAlias = Head | Body | End


class AnswerReader:
    """The HTTP/1.1 answer to one request, in events as it comes. `ended`: what comes behind it is dropped."""

    __slots__ = ("_bodiless", "_chunks", "_held", "_left", "ended", "endless")

    def __init__(self, *, bodiless: bool) -> None:
        """`bodiless`: the answer has no body whatever its head says (HEAD)."""
        self._bodiless = bodiless
        self._held = b""
        self._left = -1
        """Bytes of the body still to come; -1: the head is not there yet, or nobody knows."""
        self._chunks: ChunkedDecoder | None = None
        self.ended = False
        self.endless = False
        """It ends with the connection only."""

    def feed(self, data: bytes) -> list[Event]:
        """Raises WireError for what is no answer, or could be read in two ways."""
        events: list[Event] = []
        while self._left < 0 and self._chunks is None and not (self.endless or self.ended):
            self._held += data
            end = self._held.find(_END)
            if end < 0:
                if len(self._held) > MOST_HEAD_BYTES:
                    raise WireError(502, "the head does not end")
                return events
            head = _HEADS.read(self._held[:end])
            data, self._held = self._held[end + len(_END) :], b""
            if head.status == 101:
                raise WireError(502, "an upgrade that nobody asked for")
            events.append(Head(head.status, _fields(head)))
            if head.status >= 200:
                self._begin_body(head)
        if not self.ended:
            self._feed_body(data, events)
        return events

    def close(self) -> list[Event]:
        """The connection has ended. Raises WireError where the answer had not."""
        if self.ended:
            return []
        if not self.endless:
            raise WireError(502, "the answer ends early")
        self.ended = True
        return [End([])]

    def _begin_body(self, head: AnswerHead) -> None:
        if self._bodiless or head.status in (204, 304):
            self._left = 0
        elif head.length is not None:
            self._left = head.length
        elif head.chunked:
            self._chunks = ChunkedDecoder()
        else:
            self.endless = True

    def _feed_body(self, data: bytes, events: list[Event]) -> None:
        trailers: list[tuple[bytes, bytes]] = []
        if self._chunks is not None:
            payload = self._chunks.feed(data)
            self.ended = self._chunks.done
            trailers = [_trailer(line) for line in self._chunks.trailers] if self.ended else []
        elif self.endless:
            payload = data
        else:
            payload = data[: self._left]
            self._left -= len(payload)
            self.ended = not self._left
        if payload:
            events.append(Body(payload))
        if self.ended:
            events.append(End([field for field in trailers if field[0] not in _CONNECTION_SPECIFIC]))


_HEADS: Final = AnswerHeads(())


def _fields(head: AnswerHead) -> list[tuple[bytes, bytes]]:
    dropped = _CONNECTION_SPECIFIC
    if head.names_more:
        named = [field.value.lower() for field in head.fields if field.role is Role.CONNECTION]
        dropped = dropped | {option.strip() for value in named for option in value.split(b",")}
    kept = [(name, value) for name, value in head.headers if name not in dropped]
    return [(b":status", b"%d" % head.status), *kept]


def _trailer(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value.strip(b" \t")
