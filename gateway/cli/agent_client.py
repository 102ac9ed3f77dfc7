"""Ask the agent over its Unix socket, from the command line: without asyncio, one question a connection."""

import socket
from pathlib import Path
from typing import Any, Final

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
