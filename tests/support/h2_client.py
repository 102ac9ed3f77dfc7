"""A plain HTTP/2 client over a blocking TLS socket: frames as the test wants them, answers as they came."""

import ssl
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    InformationalResponseReceived,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)

Fields = list[tuple[str, str]]


@dataclass
class Answer:
    status: int = 0
    fields: dict[str, str] = field(default_factory=dict)
    interim: list[int] = field(default_factory=list)
    trailers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    pieces: list[tuple[float, bytes]] = field(default_factory=list)
    """DATA as it came, and when (monotonic)."""
    ended: bool = False
    reset: int | None = None
    """The code of RST_STREAM."""

    @property
    def over(self) -> bool:
        return self.ended or self.reset is not None


class H2Client:
    """`window`: True = what was read is acknowledged at once."""

    def __init__(self, connection: ssl.SSLSocket, authority: str, *, window: bool = True) -> None:
        self.socket = connection
        self.authority = authority
        self.h2 = H2Connection(
            H2Configuration(
                client_side=True,
                header_encoding="utf-8",
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.answers: dict[int, Answer] = defaultdict(Answer)
        self.terminated: ConnectionTerminated | None = None
        self.closed = False
        self._window = window
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def head(self, method: str, path: str, *fields: tuple[str, str]) -> Fields:
        return [(":method", method), (":scheme", "https"), (":authority", self.authority), (":path", path), *fields]

    def ask(
        self, method: str, path: str, body: bytes | None = None, *fields: tuple[str, str], raw: Fields | None = None
    ) -> int:
        """Send a request, as far as the window allows; the number of its stream. `raw`: in place of all fields."""
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, raw or self.head(method, path, *fields), end_stream=body is None)
        if body is not None:
            self.send(stream, body, end=True)
        self.flush()
        return stream

    def send(self, stream: int, body: bytes, *, end: bool) -> None:
        while body:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size, len(body))
            if room <= 0:
                self.read_some()
                continue
            self.h2.send_data(stream, body[:room], end_stream=end and room == len(body))
            self.flush()
            body = body[room:]
            if not body:
                return
        self.h2.send_data(stream, b"", end_stream=end)
        self.flush()

    def read_some(self) -> list[Any]:
        """What one read brings."""
        try:
            received = self.socket.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError):
            received = b""
        if not received:
            self.closed = True
            return []
        events = self.h2.receive_data(received)
        for event in events:
            self._note(event)
        self.flush_if_open()
        return events

    def flush_if_open(self) -> None:
        try:
            self.flush()
        except OSError:
            self.closed = True

    def _note(self, event: Any) -> None:
        if isinstance(event, ConnectionTerminated):
            self.terminated = event
            return
        stream = getattr(event, "stream_id", None)
        if not stream:
            return
        answer = self.answers[stream]
        if isinstance(event, ResponseReceived):
            answer.fields = dict(event.headers)
            answer.status = int(answer.fields[":status"])
        elif isinstance(event, InformationalResponseReceived):
            answer.interim.append(int(dict(event.headers)[":status"]))
        elif isinstance(event, DataReceived):
            answer.body += event.data
            answer.pieces.append((time.monotonic(), event.data))
            if self._window:
                self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
        elif isinstance(event, TrailersReceived):
            answer.trailers = dict(event.headers)
        elif isinstance(event, StreamEnded):
            answer.ended = True
        elif isinstance(event, StreamReset):
            answer.reset = int(event.error_code)

    def wait(self, *streams: int, within_s: float = 10) -> list[Answer]:
        """Until these have ended or were reset, or the connection has ended."""
        deadline = time.monotonic() + within_s
        while not (
            self.closed or all(self.answers[one].ended or self.answers[one].reset is not None for one in streams)
        ):
            left = deadline - time.monotonic()
            assert left > 0, f"no answer within {within_s} s: {dict(self.answers)}"
            self.socket.settimeout(left)
            self.read_some()
        return [self.answers[one] for one in streams]

    def get(self, path: str, *fields: tuple[str, str]) -> Answer:
        return self.wait(self.ask("GET", path, None, *fields))[0]

    def post(self, path: str, body: bytes, *fields: tuple[str, str]) -> Answer:
        return self.wait(self.ask("POST", path, body, *fields))[0]
