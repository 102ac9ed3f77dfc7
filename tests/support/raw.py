"""A raw socket that speaks HTTP badly on purpose, and reads what comes back to the byte."""

import re
import socket
import struct
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class RawAnswer:
    """An answer as it came: `head` with its empty line, `body` decoded, `wire` the body as framed."""

    head: bytes
    body: bytes
    wire: bytes

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    def header(self, name: str) -> str | None:
        """The header's value, several joined by `, `; None where there is none."""
        pattern = rb"(?im)^" + re.escape(name.encode()) + rb":[ \t]*(.*?)[ \t]*\r$"
        found = re.findall(pattern, self.head)
        return b", ".join(found).decode("latin-1") if found else None


class RawClient:
    """One TCP connection. Every read raises TimeoutError after `timeout_s`."""

    def __init__(self, port: int, *, timeout_s: float = 10.0, receive_buffer_bytes: int | None = None) -> None:
        self._socket = socket.socket()
        if receive_buffer_bytes is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(("127.0.0.1", port))
        except OSError:
            self._socket.close()
            raise
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def send(self, *pieces: bytes, gap_s: float = 0.0) -> None:
        for piece in pieces:
            self._socket.sendall(piece)
            if gap_s:
                time.sleep(gap_s)

    def post(self, path: str, body: bytes, *headers: str) -> RawAnswer:
        """One well-formed request and its answer."""
        lines = [f"POST {path} HTTP/1.1", "host: gateway", f"content-length: {len(body)}", *headers]
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        return self.answer()

    def read_some(self) -> bytes:
        """What is there, at least a byte; b"" at the end of the connection."""
        if self._buffer:
            taken, self._buffer = self._buffer, b""
            return taken
        return self._socket.recv(65536)

    def read_to_end(self) -> bytes:
        """Everything until the other side closes (or resets)."""
        pieces = [self._buffer]
        self._buffer = b""
        try:
            while piece := self._socket.recv(65536):
                pieces.append(piece)
        except ConnectionResetError:
            pass
        return b"".join(pieces)

    def answer(self, *, to_head: bool = False) -> RawAnswer:
        """The next answer, skipping interim ones (1xx but 101). Raises ConnectionError if it breaks off."""
        while True:
            head = self._take_until(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            if status == 101 or status >= 200:
                break
        if to_head or status in (101, 204, 304):
            return RawAnswer(head=head, body=b"", wire=b"")
        if re.search(rb"(?im)^transfer-encoding:.*chunked", head):
            return self._chunked(head)
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        wire = self._take(int(length[1])) if length else self.read_to_end()
        return RawAnswer(head=head, body=wire, wire=wire)

    def _chunked(self, head: bytes) -> RawAnswer:
        wire, body = b"", b""
        while True:
            line = self._take_until(b"\r\n")
            size = int(line.split(b";")[0], 16)
            piece = self._take(size + 2)
            wire += line + piece
            body += piece[:-2]
            if size == 0:
                return RawAnswer(head=head, body=body, wire=wire)

    def _take_until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._receive()
        end = self._buffer.index(mark) + len(mark)
        return self._take(end)

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive()
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _receive(self) -> None:
        piece = self._socket.recv(65536)
        if not piece:
            raise ConnectionError(f"the answer broke off after {self._buffer[:200]!r}")
        self._buffer += piece

    def reset(self) -> None:
        """Leave with RST."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def close(self) -> None:
        self._socket.close()
