"""An upstream of raw sockets: it reads strictly, notes what was sent to the byte, and answers with whatever it is told.

Where `provider.Provider` is a provider that may fail, this is one that may lie: no answer is formed for it, no rule of
HTTP kept. What it is *sent* it judges as a strict server would: whatever could be read in two ways is a violation.
"""

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

Script = Callable[["Conversation"], None]

CHAT: Final = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[{"index":0,"message":{"role":"assistant",'
    b'"content":"hello"},"finish_reason":"stop"}],"usage":{"prompt_tokens":5,"completion_tokens":1,"total_tokens":6}}'
)
_REQUEST_LINE: Final = re.compile(rb"([A-Z-]+) (/[!-~]*|\*) HTTP/1\.1")
_FIELD: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t -~\x80-\xff]*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A request as it came. `body` decoded, `wire` everything."""

    connection: int
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    wire: bytes

    def header(self, name: str) -> str | None:
        values = [value for found, value in self.headers if found == name]
        assert len(values) < 2, f"{name} came twice: {values}"
        return values[0] if values else None


class Violation(Exception):
    """What was sent is not one request, strictly read."""


class Conversation:
    """One connection, read strictly."""

    def __init__(self, number: int, connection: socket.socket) -> None:
        self.number = number
        self.socket = connection
        self.wire = b""
        self._held = b""
        self.seen: Seen
        """The request that is to be answered."""

    def read_request(self) -> Seen | None:
        """The next request, or None at the end of the connection. Raises Violation."""
        self.wire = b""
        head = self._until(b"\r\n\r\n")
        if not head:
            return None
        first, *lines = head[:-4].split(b"\r\n")
        line = _REQUEST_LINE.fullmatch(first)
        if line is None:
            raise Violation(f"request line {first!r}")
        headers = []
        for text in lines:
            field = _FIELD.fullmatch(text)
            if field is None:
                raise Violation(f"header line {text!r}")
            headers.append((field[1].decode().lower(), field[2].decode("latin-1").strip()))
        body = self._body(headers)
        return Seen(
            connection=self.number, method=line[1].decode(), target=line[2].decode(), headers=tuple(headers),
            body=body, wire=self.wire,
        )  # fmt: skip

    def _body(self, headers: list[tuple[str, str]]) -> bytes:
        lengths = [value for name, value in headers if name == "content-length"]
        codings = [value for name, value in headers if name == "transfer-encoding"]
        if [name for name, _ in headers].count("host") != 1:
            raise Violation("not one host")
        if len(lengths) + len(codings) > 1:
            raise Violation(f"framing {lengths} {codings}")
        if codings:
            if codings != ["chunked"]:
                raise Violation(f"coding {codings}")
            body = b""
            while True:
                size = self._until(b"\r\n")
                if not size:
                    raise ConnectionError("half a request")
                if not re.fullmatch(rb"[0-9a-f]{1,8}\r\n", size):
                    raise Violation(f"chunk size {size!r}")
                piece = self._take(int(size, 16) + 2)
                if not piece.endswith(b"\r\n"):
                    raise Violation("a chunk does not end")
                body += piece[:-2]
                if size == b"0\r\n":
                    return body
        if not lengths:
            return b""
        if not re.fullmatch(r"0|[1-9][0-9]*", lengths[0]):
            raise Violation(f"length {lengths[0]!r}")
        return self._take(int(lengths[0]))

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._held:
            if not self._receive():
                if self._held:
                    raise ConnectionError("half a request")
                return b""
        return self._take(self._held.index(mark) + len(mark))

    def _take(self, size: int) -> bytes:
        while len(self._held) < size:
            if not self._receive():
                raise ConnectionError("half a request")
        taken, self._held = self._held[:size], self._held[size:]
        self.wire += taken
        return taken

    def _receive(self) -> bool:
        piece = self.socket.recv(65536)
        self._held += piece
        return bool(piece)

    # -- what scripts are made of

    def say(self, *pieces: bytes, gap_s: float = 0.0) -> None:
        for piece in pieces:
            self.socket.sendall(piece)
            if gap_s:
                time.sleep(gap_s)

    def flood(self, piece: bytes, most_bytes: int = 1 << 40) -> int:
        """Send the same again and again until the other side has had enough; how much it took."""
        sent = 0
        with contextlib.suppress(OSError):
            while sent < most_bytes:
                self.socket.sendall(piece)
                sent += len(piece)
        return sent

    def stay(self, seconds: float = 20.0) -> None:
        """Keep the connection open until the other side closes it."""
        self.socket.settimeout(seconds)
        with contextlib.suppress(OSError):
            while self.socket.recv(65536):
                pass

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def answer(body: bytes = CHAT, kind: bytes = b"application/json", status: bytes = b"200 OK") -> bytes:
    """A well-formed answer."""
    return b"HTTP/1.1 %b\r\ncontent-type: %b\r\ncontent-length: %d\r\n\r\n%b" % (status, kind, len(body), body)


def honest(conversation: Conversation) -> None:
    conversation.say(answer())


class RawUpstream:
    """`with RawUpstream() as upstream:` serves on `upstream.url`. `script` answers each request; returning keeps the
    connection open, raising closes it. `greeting` runs when a connection is accepted, before anything is read."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.script: Script = honest
        self.greeting: Script | None = None
        self.seen: list[Seen] = []
        self.violations: list[str] = []
        self.received: dict[int, bytes] = {}
        """What connections sent that was no whole request."""
        self.connections = 0
        self.reading = True
        self._lock = threading.Lock()

    def forget(self) -> None:
        with self._lock:
            self.seen, self.violations, self.received = [], [], {}
            self.script, self.greeting = honest, None

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            threading.Thread(target=self._converse, args=(self.connections, connection), daemon=True).start()

    def _converse(self, number: int, connection: socket.socket) -> None:
        with connection:
            conversation = Conversation(number, connection)
            try:
                if self.greeting is not None:
                    self.greeting(conversation)
                while (seen := conversation.read_request()) is not None:
                    with self._lock:
                        self.seen.append(seen)
                    conversation.seen = seen
                    self.script(conversation)
            except Violation as violation:
                self.violations.append(f"{violation} in {conversation.wire + conversation._held!r}")
            except OSError:
                self.received[number] = conversation.wire + conversation._held


class Hangup(OSError):
    """A script ends the connection."""


def then_close(*pieces: bytes, gap_s: float = 0.0, reset: bool = False) -> Script:
    """Say this, then close."""

    def script(conversation: Conversation) -> None:
        conversation.say(*pieces, gap_s=gap_s)
        if reset:
            conversation.reset()
        raise Hangup

    return script


def then_stay(*pieces: bytes, gap_s: float = 0.0) -> Script:
    """Say this and keep the connection, for whatever is asked next."""

    def script(conversation: Conversation) -> None:
        conversation.say(*pieces, gap_s=gap_s)

    return script
