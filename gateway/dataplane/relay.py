"""The answer as the client gets it: head, framing, end. Payload leaves under framing of our own, or as chunks of the
upstream that were found plain, so that nothing an upstream writes between chunks can reach a client."""

from http import HTTPStatus
from typing import Final, Protocol

LARGE_PAYLOAD_BYTES = 16 * 1024

STATUS_LINES: Final = {
    **{code: b"HTTP/1.1 %d \r\n" % code for code in range(100, 1000)},
    **{status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in HTTPStatus},
}


class ClientWriter(Protocol):
    def write(self, payload: bytes) -> None: ...

    def writelines(self, payloads: list[bytes]) -> None: ...

    def abort(self) -> None: ...


class ClientAnswer:
    """One answer on one client connection. `keep_alive` is what the request and our state allow."""

    _chunked = False
    started = False
    ended = False
    extra = b""
    """Header lines that this caller's answers carry, whatever they are (CORS)."""

    def __init__(self, client: ClientWriter, *, http10: bool, head_only: bool, keep_alive: bool) -> None:
        self._client = client
        self._http10 = http10
        self.head_only = head_only
        self.keep_alive = keep_alive

    @property
    def takes_chunks(self) -> bool:
        """Whether an upstream's chunks may be written as they are."""
        return self._chunked and not self.head_only

    def whole(self, status: int, lines: list[bytes], body: bytes) -> None:
        """The complete answer in one write. `lines` are `name: value CRLF` pieces, without Content-Length."""
        self.started = self.ended = True
        if status in (204, 304):
            framing, body = b"", b""
        else:
            framing = b"content-length: %d\r\n" % len(body)
        head = b"".join((STATUS_LINES[status], *lines, self.extra, framing, self._connection_line(), b"\r\n"))
        self._client.write(head if self.head_only or not body else head + body)

    def start(self, status: int, lines: list[bytes], length: int | None) -> bytes:
        """The head of an answer whose body follows; returned, to be written together with the first payload.

        `length` None = not known: chunked for HTTP/1.1, ended by close for HTTP/1.0.
        """
        self.started = True
        framing = b""
        if status in (204, 304):
            self.head_only = True
        elif length is not None:
            framing = b"content-length: %d\r\n" % length
        elif self._http10:
            self.keep_alive = False
        else:
            self._chunked = not self.head_only
            framing = b"transfer-encoding: chunked\r\n"
        return b"".join((STATUS_LINES[status], *lines, self.extra, framing, self._connection_line(), b"\r\n"))

    def write(self, payload: bytes, head: bytes = b"", framed: bytes | None = None) -> None:
        """`framed`: the payload as complete chunks, passed on as they are where the answer is chunked too."""
        if framed is not None and self._chunked:
            self._client.write(head + framed if head else framed)
        elif self.head_only:
            if head:
                self._client.write(head)
        elif len(payload) > LARGE_PAYLOAD_BYTES:
            pieces = [b"%x\r\n" % len(payload), payload, b"\r\n"] if self._chunked else [payload]
            self._client.writelines([head, *pieces] if head else pieces)
        elif self._chunked and payload:
            self._client.write(b"%b%x\r\n%b\r\n" % (head, len(payload), payload))
        elif head or payload:
            self._client.write(head + payload)

    @property
    def chunked(self) -> bool:
        """The body goes out in chunks, so that trailer fields may follow it."""
        return self._chunked and not self.head_only

    def end(self, head: bytes = b"", trailers: bytes = b"") -> None:
        """`trailers`: field lines, for where `chunked` is true."""
        self.ended = True
        last = b"0\r\n%b\r\n" % trailers if self._chunked and not self.head_only else b""
        if head or last:
            self._client.write(head + last)

    def break_off(self) -> None:
        """The answer cannot be completed: the client must see that, so no last chunk and no clean keep-alive."""
        self.ended = True
        self.keep_alive = False
        self._client.abort()

    def _connection_line(self) -> bytes:
        if not self.keep_alive:
            return b"connection: close\r\n"
        return b"connection: keep-alive\r\n" if self._http10 else b""
