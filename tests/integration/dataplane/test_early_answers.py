"""An upstream that answers before it has read the whole request: the answer goes through, nothing hangs."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import live
from tests.support.raw import RawClient

KEY = "sk-test-early-0123456789"


class EarlyServer:
    """Reads the head only, answers 413 and keeps the connection open, as some servers do."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(65536)
            connection.sendall(b"HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig")
            while connection.recv(65536):
                pass

    def close(self) -> None:
        self._listener.close()


@pytest.fixture
def early() -> Iterator[EarlyServer]:
    server = EarlyServer()
    yield server
    server.close()


def test_an_early_answer_ends_the_upload(tmp_path: Path, early: EarlyServer) -> None:
    yaml = f"""
providers: [{{name: crm, dialect: http, base_url: "{early.url}"}}]
routes: [{{name: crm, match: {{host: crm.internal}}, targets: [{{provider: crm}}]}}]
teams: [{{name: t, apps: [{{name: a, routes: "*", keys: [{{name: k, value: {KEY}}}]}}]}}]
"""
    with live.gateway(tmp_path, yaml) as sluice, RawClient(sluice.port) as client:
        client.send(
            b"POST /v2/up HTTP/1.1\r\nhost: crm.internal\r\nx-api-key: %b\r\ncontent-length: 1000000\r\n\r\n"
            % KEY.encode()
        )
        client.send(b"x" * 1000)
        said = client.read_to_end()  # the rest is never sent: only the answer ends this request
        assert said.startswith(b"HTTP/1.1 413 ")
        assert said.endswith(b"big")
        sluice.wait_for_rows(1)
        assert [(row["status"], row["outcome"]) for row in sluice.ledger()] == [(413, "completed")]
