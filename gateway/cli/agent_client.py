"""Ask the agent over its Unix socket, from the command line: without asyncio, one question a connection.

`Trace` is a question whose answer goes on until the connection ends.
"""

import select
import socket
import time
from pathlib import Path
from typing import Any, Final, Self

from gateway.agent_channel import VERSION
from gateway.errors import SluicegateError
from gateway.wire.frames import FrameReader, frame, message_of

PATIENCE_S: Final = 15.0
UPGRADE_PATIENCE_S: Final = 90.0
"""The agent lets the installed release try to start before it answers."""


class AgentAway(SluicegateError):
    """Nobody listens on the socket."""


def ask(path: Path, what: str, **options: Any) -> dict[str, Any]:
    """What the agent says. Raises AgentAway, and SluicegateError where it refuses."""
    gone = SluicegateError("the agent closed the connection", fix="see its log; only root may ask it")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(UPGRADE_PATIENCE_S if what == "upgrade" else PATIENCE_S)
        _connect(sock, path)
        reader = FrameReader()
        try:
            sock.sendall(frame({"type": "hello", "v": VERSION, "role": "cli"}))
            sock.sendall(frame({"type": "ask", "id": 1, "what": what, "options": options}))
        except OSError:
            raise gone from None
        while True:
            try:
                data = sock.recv(64 * 1024)
            except TimeoutError:
                raise SluicegateError("the agent does not answer", fix="see its log") from None
            except OSError:
                raise gone from None
            if not data:
                raise gone
            for payload in reader.feed(data):
                message = message_of(payload)
                if message["type"] == "refused":
                    raise SluicegateError(message["reason"], fix="agent and command must be of releases that fit")
                if message["type"] == "answer":
                    if "error" in message:
                        raise SluicegateError(message["error"])
                    said: dict[str, Any] = message["said"]
                    return said


class Trace:
    """What the probes see, as it happens; the agent lets go of them when this connection ends."""

    def __init__(self, path: Path, kind: str, filters: dict[str, Any]) -> None:
        """Raises AgentAway, and SluicegateError where the agent refuses."""
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(PATIENCE_S)
        self._reader = FrameReader()
        self._received: list[dict[str, Any]] = []
        try:
            _connect(self._sock, path)
            self._sock.sendall(frame({"type": "hello", "v": VERSION, "role": "cli"}))
            options = {"kind": kind, "filters": filters}
            self._sock.sendall(frame({"type": "ask", "id": 1, "what": "trace", "options": options}))
            self._wait_begun()
        except OSError:
            self.close()
            raise SluicegateError("the agent does not answer", fix="see its log; only root may ask it") from None
        except SluicegateError:
            self.close()
            raise

    def _wait_begun(self) -> None:
        while True:
            for message in self._read():
                if message["type"] == "refused":
                    raise SluicegateError(message["reason"], fix="agent and command must be of releases that fit")
                if message["type"] == "answer":
                    if "error" in message:
                        raise SluicegateError(message["error"], fix="sluicegate doctor")
                    return

    def _read(self) -> list[dict[str, Any]]:
        """Raises SluicegateError where the agent has ended."""
        data = self._sock.recv(64 * 1024)
        if not data:
            raise SluicegateError("the agent has ended the trace", fix="see its log")
        return [message_of(payload) for payload in self._reader.feed(data)]

    def next(self, until_s: float | None, out: int) -> dict[str, Any] | None:
        """The next `{"events", "lost"}`; None when the clock (`time.monotonic`) shows `until_s`. Raises BrokenPipeError
        when nobody reads the descriptor `out` any more, and SluicegateError where the trace ends."""
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        poll.register(out, 0)
        while True:
            while self._received:
                message = self._received.pop(0)
                if message["type"] == "trace":
                    if "ended" in message:
                        raise SluicegateError(message["ended"], fix="see the agent's log")
                    return message
            left_s = None if until_s is None else until_s - time.monotonic()
            if left_s is not None and left_s <= 0:
                return None
            for number, event in poll.poll(None if left_s is None else left_s * 1000 + 1):
                if number == out and event & select.POLLERR:
                    raise BrokenPipeError
                if number != out:
                    self._received += self._read()

    def close(self) -> None:
        self._sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _connect(sock: socket.socket, path: Path) -> None:
    try:
        sock.connect(str(path))
    except PermissionError as error:
        raise SluicegateError(f"{path}: {error.strerror}", fix="run this as root, or as the gateway's user") from None
    except OSError as error:
        raise AgentAway(
            f"no agent listens on {path} ({error.strerror})",
            fix="start it as root: sluicegate agent, or systemctl start sluicegate-agent",
        ) from None
