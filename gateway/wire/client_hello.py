"""Read a TLS ClientHello from the first bytes of a connection: the name it asks for, its protocols, and whether it
hides another hello (RFC 8446 4.1.2, RFC 6066 3, RFC 7301, RFC 9849).

Feed it bytes as they come; it takes the message whether it lies in one record or in many, and looks at nothing behind.
"""

import re
from dataclasses import dataclass
from typing import Final

from gateway.wire.errors import WireError

HANDSHAKE: Final = 22
CLIENT_HELLO: Final = 1
RECORD_HEAD_BYTES: Final = 5
MESSAGE_HEAD_BYTES: Final = 4
MAX_RECORD_BYTES: Final = 16_384
MAX_HELLO_BYTES: Final = 65_536
"""Post-quantum key shares make some 2 KB; nobody sends as much as this."""
MAX_RECORDS: Final = 64
"""A hello cut into more records has no honest reason."""
SERVER_NAME, ALPN, ECH = 0, 16, 0xFE0D
ACCESS_DENIED: Final = b"\x15\x03\x03\x00\x02\x02\x31"
"""The fatal alert `access_denied` (RFC 8446 6.2)."""
_NAME: Final = re.compile(rb"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?")


class NotTls(WireError):
    """The connection does not begin with a TLS handshake record."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientHello:
    server_name: str | None
    """Lower case, without a dot at its end; None where none is sent."""
    alpn: tuple[bytes, ...] = ()
    encrypted_hello: bool = False
    """An encrypted hello is inside, or random bytes that look like one (browsers send those by default): the name that
    the server will follow may then be another."""


class ClientHelloReader:
    """`feed` returns the hello once it is whole, else None. Raises NotTls at the first byte that cannot begin one, and
    WireError for what begins like one and is none."""

    __slots__ = ("_held", "_message", "_records")

    def __init__(self) -> None:
        self._held = b""
        """Of a record that has not arrived whole."""
        self._message = b""
        self._records = 0

    def feed(self, data: bytes) -> ClientHello | None:
        data = self._held + data
        at = 0
        while len(data) - at >= RECORD_HEAD_BYTES:
            self._check_record(data[at : at + RECORD_HEAD_BYTES])
            length = int.from_bytes(data[at + 3 : at + 5], "big")
            if not 0 < length <= MAX_RECORD_BYTES:
                raise WireError(400, "a TLS record has no sensible length")
            end = at + RECORD_HEAD_BYTES + length
            if len(data) < end:
                break
            self._records += 1
            if self._records > MAX_RECORDS:
                raise WireError(400, "the ClientHello comes in too many records")
            self._message += data[at + RECORD_HEAD_BYTES : end]
            at = end
            hello = self._read_message()
            if hello is not None:
                return hello
        self._held = data[at:]
        self._check_record(self._held[:RECORD_HEAD_BYTES])
        return None

    def _check_record(self, head: bytes) -> None:
        """Also of a beginning: who speaks another protocol need not send five bytes to be told apart."""
        if (head and head[0] != HANDSHAKE) or (len(head) > 1 and head[1] != 3):
            if self._records:
                raise WireError(400, "the ClientHello breaks off")
            raise NotTls(400, "the connection does not begin with TLS")

    def _read_message(self) -> ClientHello | None:
        message = self._message
        if message[0] != CLIENT_HELLO:
            raise WireError(400, "the first TLS message is no ClientHello")
        if len(message) < MESSAGE_HEAD_BYTES:
            return None
        length = int.from_bytes(message[1:4], "big")
        if length > MAX_HELLO_BYTES:
            raise WireError(400, "the ClientHello is too long")
        if len(message) < MESSAGE_HEAD_BYTES + length:
            return None
        return parse_client_hello(message[MESSAGE_HEAD_BYTES : MESSAGE_HEAD_BYTES + length])


class _Cutter:
    """Takes fields with lengths before them; never beyond the end."""

    __slots__ = ("_at", "_bytes")

    def __init__(self, field: bytes) -> None:
        self._bytes = field
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._bytes)

    def take(self, size: int) -> bytes:
        end = self._at + size
        if end > len(self._bytes):
            raise WireError(400, "the ClientHello's lengths do not fit")
        taken = self._bytes[self._at : end]
        self._at = end
        return taken

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def vector(self, size: int) -> bytes:
        """A field whose length stands before it in `size` bytes."""
        return self.take(self.number(size))


def parse_client_hello(body: bytes) -> ClientHello:
    """The message without its head. Raises WireError."""
    cut = _Cutter(body)
    cut.take(2 + 32)  # version and random
    cut.vector(1)  # session id
    cut.vector(2)  # cipher suites
    cut.vector(1)  # compression methods
    if not cut:
        return ClientHello(server_name=None)
    extensions = _Cutter(cut.vector(2))
    if cut:
        raise WireError(400, "the ClientHello goes on behind its end")
    found: dict[int, bytes] = {}
    while extensions:
        kind = extensions.number(2)
        if kind in found:
            raise WireError(400, "the ClientHello has an extension twice")
        found[kind] = extensions.vector(2)
    return ClientHello(
        server_name=_server_name(found[SERVER_NAME]) if SERVER_NAME in found else None,
        alpn=_protocols(found[ALPN]) if ALPN in found else (),
        encrypted_hello=ECH in found,
    )


def _server_name(extension: bytes) -> str | None:
    cut = _Cutter(extension)
    names = _Cutter(cut.vector(2))
    if cut:
        raise WireError(400, "the server name extension goes on behind its end")
    name: bytes | None = None
    while names:
        kind, value = names.number(1), names.vector(2)
        if kind != 0 or name is not None:
            raise WireError(400, "the server name extension does not name one host")
        name = value
    if name is None:
        return None
    if len(name) > 255 or not _NAME.fullmatch(name):
        raise WireError(400, "the server name is no host name")
    return name.decode("ascii").lower().removesuffix(".")


def _protocols(extension: bytes) -> tuple[bytes, ...]:
    cut = _Cutter(extension)
    listed = _Cutter(cut.vector(2))
    protocols = []
    while listed:
        protocols.append(listed.vector(1))
    return tuple(protocols)
