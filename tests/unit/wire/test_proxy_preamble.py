"""PROXY protocol preambles, whole and byte by byte; what is not one is refused, whatever it is."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis.strategies import binary

from gateway.wire.errors import WireError
from gateway.wire.proxy_preamble import SIGNATURE, Preamble, read_preamble


def binary_header(command: int, family: int, addresses: bytes) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses)) + addresses


V4 = socket.inet_aton("203.0.113.7") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 5000, 443)
V6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::7")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + struct.pack("!HH", 5001, 443)
)
GOOD = {
    "v1": (b"PROXY TCP4 203.0.113.7 192.0.2.1 5000 443\r\n", ("203.0.113.7", 5000)),
    "v1 IPv6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 5001 443\r\n", ("2001:db8::7", 5001)),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", None),
    "v1 unknown with addresses": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", None),
    "v2": (binary_header(0x21, 0x11, V4), ("203.0.113.7", 5000)),
    "v2 IPv6": (binary_header(0x21, 0x21, V6), ("2001:db8::7", 5001)),
    "v2 with TLV": (binary_header(0x21, 0x11, V4 + b"\x04\0\x02ab"), ("203.0.113.7", 5000)),
    "v2 local": (binary_header(0x20, 0x00, b""), None),
    "v2 local with addresses": (binary_header(0x20, 0x11, V4), None),
    "v2 Unix": (binary_header(0x21, 0x31, b"\0" * 216), None),
}
BAD = {
    "HTTP": b"GET / HTTP/1.1\r\n",
    "TLS": b"\x16\x03\x01\x02\x00",
    "v1 without addresses": b"PROXY TCP4\r\n",
    "v1 endless": b"PROXY TCP4 " + b"1" * 200,
    "v1 wrong family": b"PROXY TCP4 2001:db8::7 2001:db8::1 1 2\r\n",
    "v1 port": b"PROXY TCP4 1.2.3.4 1.2.3.4 70000 443\r\n",
    "v1 odd digits": "PROXY TCP4 1.2.3.4 1.2.3.4 ¹ 443\r\n".encode("latin-1"),
    "v1 UDP": b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
    "v2 version 3": binary_header(0x31, 0x11, V4),
    "v2 command": binary_header(0x22, 0x11, V4),
    "v2 short": binary_header(0x21, 0x21, V4),
    "v2 huge": SIGNATURE + b"\x21\x11\xff\xff",
}


@pytest.mark.parametrize(("wire", "client"), GOOD.values(), ids=GOOD.keys())
def test_preambles(wire: bytes, client: tuple[str, int] | None) -> None:
    assert read_preamble(wire) == Preamble(len(wire), client)
    assert read_preamble(wire + b"GET / HTTP/1.1\r\n") == Preamble(len(wire), client)
    for size in range(len(wire)):
        assert read_preamble(wire[:size]) is None


@pytest.mark.parametrize("wire", BAD.values(), ids=BAD.keys())
def test_everything_else_is_refused(wire: bytes) -> None:
    with pytest.raises(WireError) as refused:
        read_preamble(wire)
    assert refused.value.status == 400


@given(binary(max_size=300))
def test_nothing_else_is_raised(wire: bytes) -> None:
    for start in (b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"):
        try:
            found = read_preamble(start + wire)
        except WireError:
            continue
        assert found is None or found.length <= len(start + wire)
