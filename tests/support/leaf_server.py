"""An HTTPS server with minted leaves, for real clients to judge."""

import contextlib
import json
import socket
import threading
from typing import Final

from gateway.dataplane.leaves import CannotMint, LeafMinter
from gateway.wire.client_hello import ClientHello, ClientHelloReader

HOST: Final = "127.0.0.1"
PATIENCE_S: Final = 60


class LeafServer:
    """HTTPS on loopback: answers each connection in the name that it asks for, or else that it came to."""

    def __init__(self, minter: LeafMinter) -> None:
        self._minter = minter
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_S)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError, CannotMint):  # clients that refuse us are what this is about
                connection.settimeout(PATIENCE_S)
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        hello = _peeked(connection)
        name = hello.server_name or connection.getsockname()[0]
        with self._minter.context(name).wrap_socket(connection, server_side=True) as tls:
            if not tls.recv(65536):  # some look at the certificate only
                return
            body = json.dumps({"served": name}).encode()
            tls.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


def _peeked(connection: socket.socket) -> ClientHello:
    while True:
        hello = ClientHelloReader().feed(connection.recv(65536, socket.MSG_PEEK))
        if hello is not None:
            return hello
