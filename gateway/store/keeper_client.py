"""The keeper asked from ordinary blocking code: CLI commands, API threads, tests. One connection a question."""

import socket
from pathlib import Path
from typing import Any, Final

from gateway.errors import Unavailable
from gateway.policy.quota import LimitState
from gateway.wire.frames import SNAPSHOT_MARK, TEXT_MARK, FrameError, FrameReader, frame, message_of

TIMEOUT_S: Final = 5.0


class KeeperClient:
    """Safe to share between threads. Every question raises Unavailable where no keeper answers."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def changed(self) -> None:
        """The configuration in SQL has changed: compile it now instead of at the next look (200 ms)."""
        with self._connect() as connection:
            connection.sendall(frame({"type": "changed"}))

    def limit_state(self, limit_id: int) -> LimitState | None:
        """The limit over all workers at this moment; None when there is no such limit."""
        state = self._ask({"type": "state", "limit": limit_id})["state"]
        return None if state is None else LimitState(**state)

    def open_rows(self) -> list[dict[str, Any]]:
        """Ledger rows (field → value) of requests in flight, newest first."""
        rows: list[dict[str, Any]] = self._ask({"type": "open"})["rows"]
        return rows

    def denials(self) -> dict[str, Any]:
        """What stands in this node's kernel (`store.keeper_discoveries.report`)."""
        report: dict[str, Any] = self._ask({"type": "denials"})["denials"]
        return report

    def flush(self) -> None:
        """Returns once everything that had ended before is in SQL."""
        self._ask({"type": "flush"})

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(TIMEOUT_S)
        try:
            connection.connect(str(self._path))
        except OSError as error:
            connection.close()
            raise Unavailable(f"no keeper on {self._path}: {error.strerror}", fix="start `sluicegate serve`") from error
        return connection

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        frames = FrameReader()
        with self._connect() as connection:
            try:
                connection.sendall(frame(message | {"request": 1}))
                while piece := connection.recv(1 << 18):
                    for payload in frames.feed(piece):
                        if payload[:1] in (SNAPSHOT_MARK, TEXT_MARK):
                            continue
                        reply = message_of(payload)
                        if reply["type"] == "reply":
                            if reply.get("error"):
                                raise Unavailable(reply["error"], fix="see `sluicegate doctor`")
                            return reply
            except (OSError, FrameError) as error:
                raise Unavailable(f"the keeper does not answer: {error}", fix="see `sluicegate doctor`") from error
        raise Unavailable("the keeper ended the connection", fix="retry shortly")
