"""The preamble by which a load balancer says whose connection it hands on: HAProxy's PROXY protocol, versions 1 and 2.

Source: haproxy.org, `proxy-protocol.txt` (2.1 human-readable, 2.2 binary header). TLVs are passed over.
"""

import ipaddress
from dataclasses import dataclass
from typing import Final

from gateway.wire.errors import WireError

MAX_LINE_BYTES: Final = 107
"""The longest version 1 line, its CRLF included."""
SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
HEAD_BYTES: Final = 16
MAX_ADDRESS_BYTES: Final = 4096
"""What version 2 may announce behind its head; certificates in TLVs need some 2 KB."""
LOCAL, PROXY = 0x20, 0x21
TCP4, TCP6 = 0x11, 0x21
ADDRESS_BYTES: Final = {TCP4: 12, TCP6: 36}


@dataclass(frozen=True, slots=True)
class Preamble:
    length: int
    """Bytes that it took; what follows is the client's."""
    client: tuple[str, int] | None
    """Address and port of the client; None where the connection is the balancer's own (its health check)."""


def read_preamble(received: bytes) -> Preamble | None:
    """The preamble at the beginning of a connection; None while it is not whole. Raises WireError on anything else."""
    if received[: len(SIGNATURE)] == SIGNATURE[: len(received)]:
        return _read_binary(received) if len(received) >= HEAD_BYTES else None
    if received[:6] == b"PROXY "[: len(received)]:
        return _read_line(received)
    raise WireError(400, "this listener expects the PROXY protocol of a load balancer in front of it")


def _read_line(received: bytes) -> Preamble | None:
    end = received.find(b"\r\n", 0, MAX_LINE_BYTES)
    if end < 0:
        if len(received) >= MAX_LINE_BYTES:
            raise WireError(400, "the PROXY line is longer than 107 bytes")
        return None
    words = received[:end].decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":
        return Preamble(end + 2, None)
    if len(words) != 6 or words[1] not in ("TCP4", "TCP6"):
        raise WireError(400, "the PROXY line is malformed")
    address_type = ipaddress.IPv4Address if words[1] == "TCP4" else ipaddress.IPv6Address
    try:
        client = str(address_type(words[2]))
        address_type(words[3])
    except ValueError:
        raise WireError(400, "the PROXY line names no addresses") from None
    return Preamble(end + 2, (client, _port(words[4])))


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 5 or int(text) > 65535:
        raise WireError(400, "the PROXY line names no port")
    return int(text)


def _read_binary(received: bytes) -> Preamble | None:
    command, family = received[12], received[13]
    size = int.from_bytes(received[14:16], "big")
    if command not in (LOCAL, PROXY):
        raise WireError(400, "the PROXY header has an unknown version or command")
    if size > MAX_ADDRESS_BYTES:
        raise WireError(400, "the PROXY header is too long")
    length = HEAD_BYTES + size
    if len(received) < length:
        return None
    needed = ADDRESS_BYTES.get(family)
    if command == LOCAL or needed is None:
        return Preamble(length, None)  # unspecified, UDP or Unix sockets: the receiver must go on without an address
    if size < needed:
        raise WireError(400, "the PROXY header is too short for its addresses")
    width = (needed - 4) // 2
    client = ipaddress.ip_address(received[HEAD_BYTES : HEAD_BYTES + width])
    port_at = HEAD_BYTES + 2 * width
    return Preamble(length, (str(client), int.from_bytes(received[port_at : port_at + 2], "big")))


class PreambleReader:
    """Reads a preamble from a socket that others read after it: never asks for a byte beyond the preamble's end."""

    __slots__ = ("_received",)

    def __init__(self) -> None:
        self._received = b""

    @property
    def wanted(self) -> int:
        """How many bytes may be read now."""
        have = self._received
        if len(have) < len(SIGNATURE):
            # The shortest line, `PROXY UNKNOWN\r\n`, is longer than the binary signature.
            return len(SIGNATURE) - len(have)
        if have[: len(SIGNATURE)] != SIGNATURE:
            return 1  # a line has no length: a byte at a time, some hundred at most
        if len(have) < HEAD_BYTES:
            return HEAD_BYTES - len(have)
        return HEAD_BYTES + int.from_bytes(have[14:16], "big") - len(have)

    def feed(self, piece: bytes) -> Preamble | None:
        """None while it is not whole. Raises WireError."""
        self._received += piece
        return read_preamble(self._received)
