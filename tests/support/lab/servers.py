"""TCP servers for a lab: each connection is a thread with blocking code, and is recorded byte for byte.

A handler is a function of the connection; `echo`, `banner`, `pump`, … make the usual ones. When it returns, the
connection is closed (FIN); `connection.reset()` ends it with RST.
"""

import contextlib
import ipaddress
import socket
import ssl
import struct
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

from tests.support.lab.namespace import Address, Namespace

CHUNK = 1 << 18
IDLE_S = 60.0


@dataclass(slots=True)
class Connection:
    """One accepted connection. `received` is all that came; `end` says how the peer ended it: `fin`, `reset`, `""`."""

    socket: socket.socket
    peer: Address
    local: Address
    received: bytearray = field(default_factory=bytearray)
    record: bool = True
    """False: count what comes (`received_bytes`, `checksum`), but do not keep it."""
    received_bytes: int = 0
    checksum: int = 0
    end: str = ""
    failure: str = ""
    """What the handler raised, when it was not a peer that went away."""
    over: threading.Event = field(default_factory=threading.Event)

    def recv(self, size: int = CHUNK) -> bytes:
        """Some bytes; empty at the end of the peer's half. Raises ConnectionResetError as the socket does."""
        try:
            piece = self.socket.recv(size)
        except ConnectionResetError:
            self.end = "reset"
            raise
        if not piece:
            self.end = "fin"
        if self.record:
            self.received += piece
        self.received_bytes += len(piece)
        self.checksum = zlib.crc32(piece, self.checksum)
        return piece

    def recv_exactly(self, size: int) -> bytes:
        """Raises EOFError when the peer ends before."""
        got = b""
        while len(got) < size:
            piece = self.recv(size - len(got))
            if not piece:
                raise EOFError
            got += piece
        return got

    def recv_until(self, end: bytes) -> bytes:
        got = b""
        while not got.endswith(end):
            got += self.recv_exactly(1)
        return got

    def send(self, piece: bytes) -> None:
        self.socket.sendall(piece)

    def finish_sending(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


Handler = Callable[[Connection], None]


class TcpServer:
    """Listens on one address, or on all of a namespace, IPv4 and IPv6 on one port; see the module."""

    def __init__(
        self, where: Namespace, handler: Handler, port: int, *, tls: ssl.SSLContext | None = None, address: str = "::"
    ) -> None:
        self.port = port
        self._address = address
        self.connections: list[Connection] = []
        self._where = where
        self._handler = handler
        self._tls = tls
        self._closing = False

    @property
    def last(self) -> Connection:
        return self.connections[-1]

    @property
    def failures(self) -> list[str]:
        return [connection.failure for connection in self.connections if connection.failure]

    def wait_for(self, count: int, within_s: float = 5.0) -> list[Connection]:
        """The connections once there are that many."""
        deadline = time.monotonic() + within_s
        while len(self.connections) < count:
            assert time.monotonic() < deadline, f"{len(self.connections)} of {count} connections after {within_s} s"
            time.sleep(0.01)
        return self.connections

    def __enter__(self) -> Self:
        six = ":" in self._address
        self._listener = self._where.make_socket(socket.AF_INET6 if six else socket.AF_INET)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if six:
            self._listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self._listener.bind((self._address, self.port))
        self._listener.listen(4096)
        self._thread = threading.Thread(target=self._accept, name=f"server-{self.port}", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop_listening()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.socket.shutdown(socket.SHUT_RDWR)
            connection.socket.close()

    def stop_listening(self) -> None:
        """New connections are refused from now on; open ones go on."""
        if self._closing:
            return
        self._closing = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept
        self._listener.close()
        self._thread.join(5)

    def _accept(self) -> None:
        while not self._closing:
            try:
                accepted, peer = self._listener.accept()
            except OSError:
                return
            accepted.settimeout(IDLE_S)
            connection = Connection(accepted, _plain(peer), _plain(accepted.getsockname()))
            self.connections.append(connection)
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()

    def _handle(self, connection: Connection) -> None:
        try:
            if self._tls is not None:
                connection.socket = self._tls.wrap_socket(connection.socket, server_side=True)
            self._handler(connection)
        except (ConnectionError, EOFError, ssl.SSLError, TimeoutError) as error:
            connection.failure = "" if isinstance(error, (ConnectionError, EOFError)) else repr(error)
        except OSError as error:
            connection.failure = "" if self._closing else repr(error)
        except Exception as error:  # noqa: BLE001 # it is the test's to judge
            connection.failure = repr(error)
        finally:
            connection.socket.close()
            connection.over.set()


# ---- the usual ones --------------------------------------------------------------------------------------------------
def echo(connection: Connection) -> None:
    """Send back what comes, until the peer ends; then end too."""
    while piece := connection.recv():
        connection.send(piece)


def banner(connection: Connection) -> None:
    """Speak first, as SMTP does, then answer each line."""
    connection.send(b"220 mail.example ready\r\n")
    while True:
        line = connection.recv_until(b"\r\n")
        if line == b"QUIT\r\n":
            connection.send(b"221 bye\r\n")
            return
        connection.send(b"250 " + line)


def binary(connection: Connection) -> None:
    """Frames of a length (4 bytes, big-endian) and that many bytes; each is answered with its length and CRC-32."""
    while True:
        (length,) = struct.unpack("!I", connection.recv_exactly(4))
        frame = connection.recv_exactly(length)
        connection.send(struct.pack("!II", length, zlib.crc32(frame)))


def pattern(total: int) -> bytes:
    """`total` bytes that tell when a piece is lost, doubled or out of order."""
    words = range((total + 7) // 8)
    return struct.pack(f"!{len(words)}Q", *words)[:total]


BLOCK = pattern(1 << 20)


def pump(total: int, gap_s: float = 0.0, piece: int = 1 << 20) -> Handler:
    """Wait for one line, then send `total` bytes (`BLOCK` again and again) and end."""

    def handle(connection: Connection) -> None:
        connection.recv_until(b"\n")
        sent = 0
        while sent < total:
            at = sent % len(BLOCK)
            part = BLOCK[at : at + min(piece, total - sent, len(BLOCK) - at)]
            connection.send(part)
            sent += len(part)
            if gap_s:
                time.sleep(gap_s)

    return handle


def sink(connection: Connection) -> None:
    """Read to the end of the peer's half, then say how many bytes and which CRC-32 they were."""
    connection.record = False
    while connection.recv():
        pass
    connection.send(b"%d %08x\n" % (connection.received_bytes, connection.checksum))


def after_half_close(pieces: int, gap_s: float) -> Handler:
    """Read to the end of the peer's half, then send for a good while."""

    def handle(connection: Connection) -> None:
        while connection.recv():
            pass
        for number in range(pieces):
            connection.send(b"%06d\n" % number)
            time.sleep(gap_s)

    return handle


def half_close_first(connection: Connection) -> None:
    """Send a greeting and end our half at once, then go on reading."""
    connection.send(b"that is all\n")
    connection.finish_sending()
    while connection.recv():
        pass


def reset_after(count: int) -> Handler:
    """Read so many bytes, then RST."""

    def handle(connection: Connection) -> None:
        connection.recv_exactly(count)
        connection.reset()

    return handle


def silent(connection: Connection) -> None:
    """Read and say nothing."""
    while connection.recv():
        pass


def plain_http(connection: Connection) -> None:
    """Answer each bodiless HTTP/1.1 request on the connection with what server and peer it came by."""
    while True:
        head = connection.recv_until(b"\r\n\r\n")
        body = b"%b to %b\n" % (connection.peer[0].encode(), connection.local[0].encode())
        connection.send(b"HTTP/1.1 200 OK\r\nX-Odd:  kept \r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        if b"connection: close" in head.lower():
            return


def _plain(address: tuple[str, int] | tuple[str, int, int, int]) -> Address:
    """An address without the v4-mapped form that a dual-stack socket gives it."""
    parsed = ipaddress.ip_address(address[0].partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return str(mapped or parsed), address[1]
