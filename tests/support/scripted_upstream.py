"""An upstream whose every byte the test writes: one conversation at a time, scripted as a function over the socket."""

import contextlib
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

Script = Callable[["Conversation"], None]


class Conversation:
    """One connection as the upstream sees it."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.received = b""
        """Everything that came, in order."""

    def read_until(self, mark: bytes) -> bytes:
        """All that has come, once it holds the mark."""
        while mark not in self.received:
            piece = self.socket.recv(65536)
            if not piece:
                raise ConnectionError(f"ended after {self.received[-200:]!r}")
            self.received += piece
        return self.received

    def read_to_end(self) -> bytes:
        with contextlib.suppress(ConnectionResetError):
            while piece := self.socket.recv(65536):
                self.received += piece
        return self.received

    def send(self, payload: bytes) -> None:
        self.socket.sendall(payload)


class ScriptedUpstream:
    """Listens on a port; `serve` says how the next connections are answered."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._script: Script = lambda _: None
        self.conversations: list[Conversation] = []
        self.errors: list[BaseException] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def serve(self, script: Script) -> None:
        self._script = script
        self.conversations.clear()
        self.errors.clear()

    @property
    def last(self) -> Conversation:
        return self.conversations[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        connection.settimeout(20)
        conversation = Conversation(connection)
        self.conversations.append(conversation)
        with connection:
            try:
                self._script(conversation)
            except (OSError, AssertionError) as error:
                self.errors.append(error)
