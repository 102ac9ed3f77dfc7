"""Cuts what a client sends into requests (RFC 9112), strictly: what could be read in two ways ends the connection.

The request line is checked here, the fields of a head by httptools (llhttp) and `gateway.wire.heads`, and bodies are
framed here: so it is known to the byte where a request ends, and llhttp never sees what is behind a head.
"""

from collections.abc import Callable
from typing import Final

import httptools

from gateway.dataplane.forwarding import trailer_fields
from gateway.dataplane.request import Request
from gateway.wire.chunked import ChunkedDecoder, RequestChunks
from gateway.wire.errors import WireError
from gateway.wire.heads import check_head, check_request_line, check_unfinished_line, connect_target, origin_form

_HEAD_END: Final = b"\r\n\r\n"
LARGE_DIGITS: Final = 6
"""A `Content-Length` of more digits may be more than is allowed."""
MOST_EMPTY_LINES: Final = 8
"""Before a request line (RFC 9112 2.2 asks to bear one: old clients send it behind a body)."""


class RequestReader:
    """Feed it what was received. `on_request` is called as soon as a head is complete; the body goes to its sink."""

    __slots__ = (
        "_chunks", "_empty_lines", "_head_complete", "_left", "_line", "_max_body_bytes", "_max_head_bytes",
        "_new_request", "_on_request", "_parser", "_tail", "_tunnels", "_upgrading", "body_bytes", "ended",
        "head_bytes", "request",
    )  # fmt: skip

    def __init__(
        self,
        new_request: Callable[[], Request],
        on_request: Callable[[Request], None],
        *,
        max_head_bytes: int,
        max_body_bytes: int,
        tunnels: bool = False,
    ) -> None:
        """`tunnels`: CONNECT is served."""
        self._new_request = new_request
        self._on_request = on_request
        self._max_head_bytes = max_head_bytes
        self._max_body_bytes = max_body_bytes
        self._tunnels = tunnels
        self._parser: httptools.HttpRequestParser | None = None
        self.request: Request | None = None
        """The request whose bytes are being read; None between requests."""
        self.ended = False
        """No further request follows on this connection: the last one asked for its end, an upgrade or a tunnel."""
        # of the head under way
        self._line: bytes | None = b""
        """The request line as far as it has come; None once it was read."""
        self._empty_lines = 0
        self.head_bytes = 0
        """Of the head under way; 0 between heads."""
        self._head_complete = False
        self._tail = b""
        self._upgrading = False
        # of the body under way
        self._left = 0
        self._chunks: ChunkedDecoder | None = None
        self.body_bytes = 0
        """Received of it, its framing included."""

    @property
    def in_body(self) -> bool:
        """A head is complete and its body is not."""
        return self._left > 0 or self._chunks is not None

    def feed(self, data: bytes) -> bytes:
        """Returns what is behind the last request once `ended`. Raises WireError with the status to answer."""
        at, size = 0, len(data)
        while at < size and not self.ended:
            left = self._left
            if left:
                piece = data if at == 0 and size <= left else data[at : at + left]
                at += len(piece)
                self._left = left - len(piece)
                self.body_bytes += len(piece)
                self.request.sink.feed(piece)  # type: ignore[union-attr]  # there until its body has ended
                if not self._left:
                    self._end_body()
            elif self._chunks is not None:
                at = size - len(self._read_chunks(self._chunks, data[at:] if at else data))
            elif self._line is not None:
                at = self._read_line(data, at)
            else:
                at = self._read_fields(data, at)
        return data[at:] if at else data

    def close(self) -> None:
        """Nothing more will be fed. Lets go of its owner and of the parser, which hold it in turn: all three then end
        at once, and need not wait for the cycle collector."""
        self._parser = None
        del self._new_request, self._on_request

    # -- the head

    def _read_line(self, data: bytes, at: int) -> int:
        end = data.find(b"\n", at) + 1
        line = data[at:end] if end else data[at:]
        if self._line:
            line = self._line + line
        self.head_bytes += (end or len(data)) - at
        if not end or end - at > self._max_head_bytes:
            if self.head_bytes > self._max_head_bytes:
                raise WireError(414, f"the request line is longer than {self._max_head_bytes} bytes")
            check_unfinished_line(line)
            self._line = line
            return len(data)
        if line == b"\r\n" and self._empty_lines < MOST_EMPTY_LINES:
            self._empty_lines += 1
            self._line, self.head_bytes = b"", 0
            return end
        self._line = line  # stays, should it be refused: the answer may depend on it
        check_request_line(line)
        self._line, self._empty_lines = None, 0
        self.request = self._new_request()
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        self._feed_parser(line)
        self._tail = b"\r\n"
        return end

    def _read_fields(self, data: bytes, at: int) -> int:
        tail = self._tail
        seam = (tail + data[at : at + 3]).find(_HEAD_END)  # the empty line may have come in two reads
        found = at - len(tail) + seam if seam >= 0 else data.find(_HEAD_END, at)
        complete = seam >= 0 or found >= 0
        end = found + len(_HEAD_END) if complete else len(data)
        piece = data[at:end]
        self._tail = (tail + piece[-3:])[-3:]
        self.head_bytes += len(piece)
        if self.head_bytes > self._max_head_bytes:
            raise WireError(431, f"the request head is larger than {self._max_head_bytes} bytes")
        self._feed_parser(piece)
        if self._head_complete is not complete:
            raise WireError(400, "this is not HTTP/1.1: the head ends where it should not")
        if complete:
            self._end_head()
        return end

    def _feed_parser(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)  # type: ignore[union-attr]  # made with the request line
        except httptools.HttpParserUpgrade:
            self._upgrading = True
        except httptools.HttpParserError as error:
            raise WireError(400, f"this is not HTTP/1.1: {error}") from None

    def on_url(self, url: bytes) -> None:
        self.request.target += url  # type: ignore[union-attr]  # made with the request line

    def on_header(self, name: bytes, value: bytes) -> None:
        self.request.headers.append((name.lower(), value.rstrip(b" \t")))  # type: ignore[union-attr]

    def on_headers_complete(self) -> None:
        self._head_complete = True
        request, parser = self.request, self._parser
        request.method = parser.get_method()  # type: ignore[union-attr]
        request.version = parser.get_http_version()  # type: ignore[union-attr]
        request.keep_alive = parser.should_keep_alive()  # type: ignore[union-attr]

    def _end_head(self) -> None:
        """The head is complete and may be understood."""
        request, upgrading = self.request, self._upgrading
        assert request is not None
        self._line, self.head_bytes, self._head_complete, self._upgrading = b"", 0, False, False
        if request.method == b"CONNECT" and self._tunnels:
            self._end_connect(request)
            return
        check_head(request.method, request.target, request.version, request.headers)
        target = request.target if request.target.startswith(b"/") else origin_form(request.target, request.headers)
        request.path, _, request.query = target.partition(b"?")
        length, chunked = 0, False
        for name, value in request.headers:
            if name == b"content-length":
                length = int(value)
                request.has_body = length > 0
                if len(value) > LARGE_DIGITS:
                    request.body.declare(length)
            elif name == b"transfer-encoding":
                request.has_body = chunked = True
            elif name == b"expect":
                request.expect_continue = value.lower() == b"100-continue" and request.version == "1.1"
            elif name == b"upgrade":
                request.upgrade = value.lower()
            elif name == b"x-request-id":
                request.client_request_id = value.decode("latin-1")[:256]
        if upgrading or request.has_body:
            self._parser = None  # it waits for a body, or for another protocol
        if not upgrading or request.upgrade != b"websocket":
            request.upgrade = b""  # not ours to switch to (RFC 9110 7.8): served as if it had not been asked
        elif request.has_body:
            raise WireError(400, "a request for an upgrade has no body")
        if request.has_body:
            self.body_bytes, self._left = 0, length
            self._chunks = RequestChunks(self._max_body_bytes) if chunked else None
            self._on_request(request)
            return
        self.ended = bool(request.upgrade) or not request.keep_alive
        request.sink.end()
        self.request = None
        self._on_request(request)

    def _end_connect(self, request: Request) -> None:
        """The target is an authority, which `connect_target` judges; the fields are judged as anybody's.

        What follows is the tunnel's, whatever a field says of a body (RFC 9110 9.3.6)."""
        check_head(b"OPTIONS", b"*", request.version, request.headers)
        connect_target(request.target, request.header(b"host"))
        for name, value in request.headers:
            if name == b"x-request-id":
                request.client_request_id = value.decode("latin-1")[:256]
        self._parser = None
        self.ended = True
        request.sink.end()
        self.request = None
        self._on_request(request)

    # -- the body

    def _read_chunks(self, chunks: ChunkedDecoder, data: bytes) -> bytes:
        self.body_bytes += len(data)
        payload = chunks.feed(data)
        if payload:
            self.request.sink.feed(payload)  # type: ignore[union-attr]  # there until its body has ended
        if not chunks.done:
            return b""
        self._chunks = None
        if chunks.trailers:
            self.request.trailers = trailer_fields(chunks.trailers)  # type: ignore[union-attr]  # as above
        self._end_body()
        return chunks.rest

    def _end_body(self) -> None:
        request, self.request = self.request, None
        assert request is not None
        self.ended = not request.keep_alive
        request.sink.end()
