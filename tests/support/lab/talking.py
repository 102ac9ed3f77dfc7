"""Small things that clients in a lab do: read to the end, wait for a condition, make a TLS hello of some shape."""

import contextlib
import socket
import ssl
import struct
import time
from collections.abc import Callable


def read_all(connection: socket.socket) -> bytes:
    """Everything until the peer's half ends."""
    pieces = []
    while piece := connection.recv(1 << 18):
        pieces.append(piece)
    return b"".join(pieces)


def read_exactly(connection: socket.socket, size: int) -> bytes:
    """Raises EOFError when the peer ends before."""
    got = b""
    while len(got) < size:
        piece = connection.recv(size - len(got))
        if not piece:
            raise EOFError(got)
        got += piece
    return got


def read_line(connection: socket.socket) -> bytes:
    got = b""
    while not got.endswith(b"\n"):
        got += read_exactly(connection, 1)
    return got


def wait_until(condition: Callable[[], object], within_s: float = 5.0, say: Callable[[], object] | None = None) -> None:
    """Raises AssertionError with what `say` says when it does not come true in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {say() if say else condition()}"
        time.sleep(0.02)


def client_hello(name: str | None = "localhost", alpn: tuple[str, ...] = ()) -> bytes:
    """What OpenSSL sends first, as one record."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    if alpn:
        context.set_alpn_protocols(list(alpn))
    with contextlib.suppress(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=name).do_handshake()
    return outgoing.read()


def in_two_records(hello: bytes) -> bytes:
    """The same handshake message, cut into two records in its middle (RFC 8446 5.1 allows it)."""
    version, message = hello[1:3], hello[5:]
    middle = len(message) // 2
    parts = (message[:middle], message[middle:])
    return b"".join(b"\x16" + version + struct.pack("!H", len(part)) + part for part in parts)


def with_extension(hello: bytes, kind: int, content: bytes) -> bytes:
    """The hello with one more extension (RFC 8446 4.1.2) at its end; all lengths set right."""
    body = hello[9:]
    at = 2 + 32
    at += 1 + body[at]  # legacy_session_id
    at += 2 + struct.unpack_from("!H", body, at)[0]  # cipher_suites
    at += 1 + body[at]  # legacy_compression_methods
    extensions = body[at + 2 :] + struct.pack("!HH", kind, len(content)) + content
    body = body[:at] + struct.pack("!H", len(extensions)) + extensions
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    return hello[:3] + struct.pack("!H", len(message)) + message


def ech_hello(outer_name: str) -> bytes:
    """A hello whose inner name is hidden: extension encrypted_client_hello (0xfe0d, RFC 9849), outer form."""
    content = struct.pack("!BHHBH", 0, 1, 1, 7, 32) + bytes(32) + struct.pack("!H", 144) + bytes(144)
    return with_extension(client_hello(outer_name), 0xFE0D, content)
