"""Cut what passes into requests and answers without changing a byte of it (RFC 9112): for connections that are passed
on as they are, and where it must be known all the same where a message ends.
"""

from dataclasses import dataclass
from typing import Final

from gateway.wire.answer_head import AnswerHeads
from gateway.wire.chunked import ChunkedDecoder
from gateway.wire.errors import WireError
from gateway.wire.heads import check_head, check_request_line, check_unfinished_line, origin_form

MOST_HEAD_BYTES: Final = 64 * 1024
MOST_EMPTY_LINES: Final = 8
"""As many as the gateway's own reader takes."""
_END: Final = b"\r\n\r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """`raw`: as it came, with the empty line. `headers`: names in lower case."""

    raw: bytes
    method: bytes
    path: bytes
    query: bytes
    version: str
    headers: list[tuple[bytes, bytes]]
    length: int
    chunked: bool
    upgrade: bool
    """To WebSocket, the one that is served here."""

    def header(self, name: bytes) -> bytes | None:
        return next((value for found, value in self.headers if found == name), None)

    @property
    def has_body(self) -> bool:
        return self.chunked or self.length > 0


class RequestCutter:
    """One request. `feed` until `ended`; after each `feed`, `taken` are the bytes that belong to it, `payload` what
    they hold of its body, and what is returned belongs to what follows."""

    __slots__ = ("_chunks", "_held", "_left", "ended", "head", "payload", "taken")

    def __init__(self) -> None:
        self._held = b""
        self.head: RequestHead | None = None
        self.taken = b""
        """Nothing before the head is complete; then all of it at once."""
        self.payload = b""
        self.ended = False
        self._left = 0
        self._chunks: ChunkedDecoder | None = None

    @property
    def held(self) -> bytes:
        """Of a head that is not complete."""
        return self._held

    def feed(self, data: bytes) -> bytes:
        """Raises WireError where this is not a request that can be understood in one way only; all that was fed since
        the last request ended is then in `held`, or `taken` and what was fed last."""
        self.taken = self.payload = b""
        if self.head is None:
            self._held += data
            end = self._held.find(_END, max(0, _empty_lines(self._held) - 1))
            if end < 0:
                self._check_unfinished()
                return b""
            raw, data = self._held[: end + 4], self._held[end + 4 :]
            self.head = head = read_request_head(raw)
            self._held = b""
            self.taken = raw
            self._left = head.length
            self._chunks = ChunkedDecoder() if head.chunked else None
        return self._feed_body(data)

    def _check_unfinished(self) -> None:
        """Who speaks another protocol need not wait for the end of a head to be told apart."""
        if len(self._held) > MOST_HEAD_BYTES:
            raise WireError(431, "the head does not end")
        begin = _empty_lines(self._held)
        line_end = self._held.find(b"\n", begin) + 1
        if line_end:
            check_request_line(self._held[begin:line_end])
        else:
            check_unfinished_line(self._held[begin:])

    def _feed_body(self, data: bytes) -> bytes:
        rest = b""
        if self._chunks is not None:
            self.payload = self._chunks.feed(data)
            if self._chunks.done:
                rest = self._chunks.rest
                self.ended = True
            self.taken += data[: len(data) - len(rest)]
            return rest
        piece, rest = data[: self._left], data[self._left :]
        self._left -= len(piece)
        self.payload = piece
        self.taken += piece
        self.ended = not self._left
        return rest


def _empty_lines(data: bytes) -> int:
    """Bytes of the empty lines before a request line (RFC 9112 2.2)."""
    begin = 0
    while begin < 2 * MOST_EMPTY_LINES and data.startswith(b"\r\n", begin):
        begin += 2
    return begin


def read_request_head(raw: bytes) -> RequestHead:
    """Raises WireError."""
    begin = _empty_lines(raw)
    lines = raw[begin:-4].split(b"\r\n")
    check_request_line(lines[0] + b"\r\n")
    method, target, version_text = lines[0].split(b" ")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(b":")
        if not colon or not name or name != name.strip():
            raise WireError(400, "a header line that is none")
        headers.append((name.lower(), value.strip(b" \t")))
    version = version_text[5:].decode()
    check_head(method, target, version, headers)
    path, _, query = (target if target.startswith(b"/") else origin_form(target, headers)).partition(b"?")
    fields = dict(headers)
    return RequestHead(
        raw=raw,
        method=method,
        path=path,
        query=query,
        version=version,
        headers=headers,
        length=int(fields.get(b"content-length", b"0")),
        chunked=b"transfer-encoding" in fields,
        upgrade=fields.get(b"upgrade", b"").lower() == b"websocket" and _wants_upgrade(headers),
    )


def _wants_upgrade(headers: list[tuple[bytes, bytes]]) -> bool:
    options = b",".join(value for name, value in headers if name == b"connection").lower()
    return b"upgrade" in [option.strip() for option in options.split(b",")]


class AnswerCutter:
    """The answer to one request. `feed` until `ended`; what is returned came behind it. `endless`: it ends with the
    connection only; `switched`: 101, what follows is no HTTP any more."""

    __slots__ = (
        "_bodiless",
        "_chunks",
        "_heads",
        "_held",
        "_left",
        "ended",
        "endless",
        "keep",
        "started",
        "status",
        "switched",
    )  # fmt: skip

    def __init__(self, *, bodiless: bool) -> None:
        """`bodiless`: the answer has no body whatever its head says (HEAD)."""
        self._bodiless = bodiless
        self._heads = AnswerHeads(())
        self._held = b""
        self._left = -1
        """-1: the head is not there yet."""
        self._chunks: ChunkedDecoder | None = None
        self.ended = self.endless = self.switched = False

    def feed(self, data: bytes) -> bytes:
        """Raises WireError where nobody can know where this ends."""
        if self.endless or self.switched:
            return b""
        while self._left < 0 and self._chunks is None:
            self._held += data
            end = self._held.find(_END)
            if end < 0:
                if len(self._held) > MOST_HEAD_BYTES * 4:
                    raise WireError(502, "the head does not end")
                return b""
            head = self._heads.read(self._held[:end])
            data, self._held = self._held[end + 4 :], b""
            if head.status == 101:
                self.switched = True
                return b""
            if head.status < 200:
                continue
            if self._bodiless or head.status in (204, 304):
                self._left = 0
            elif head.length is not None:
                self._left = head.length
            elif head.chunked:
                self._chunks = ChunkedDecoder()
            else:
                self.endless = True
                return b""
        if self._chunks is not None:
            self._chunks.feed(data)
            self.ended = self._chunks.done
            return self._chunks.rest if self.ended else b""
        piece, rest = data[: self._left], data[self._left :]
        self._left -= len(piece)
        self.ended = not self._left
        return rest
