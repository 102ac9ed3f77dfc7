"""TLS hellos as OpenSSL writes them and as attackers would: whole, byte by byte, split over records."""

import ssl
import struct

import pytest
from hypothesis import given
from hypothesis.strategies import binary, integers, lists

from gateway.wire.client_hello import ClientHello, ClientHelloReader, NotTls
from gateway.wire.errors import WireError


def real_hello(name: str | None, *, alpn: list[str] | None = None, most: ssl.TLSVersion | None = None) -> bytes:
    """What OpenSSL sends first."""
    context = ssl.create_default_context()
    if name is None:
        context.check_hostname = False
    if most is not None:
        context.maximum_version = most
    if alpn:
        context.set_alpn_protocols(alpn)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


def vector(size: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(size, "big") + payload


def extension(kind: int, payload: bytes) -> bytes:
    return struct.pack("!H", kind) + vector(2, payload)


def sni(name: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(2, bytes((kind,)) + vector(2, name)))


def hello(*extensions: bytes, tail: bytes = b"") -> bytes:
    body = b"\x03\x03" + b"r" * 32 + vector(1, b"s" * 32) + vector(2, b"\x13\x01") + vector(1, b"\0")
    return b"\x01" + vector(3, body + vector(2, b"".join(extensions)) + tail)


def records(message: bytes, size: int = 16_000) -> bytes:
    return b"".join(b"\x16\x03\x01" + vector(2, message[at : at + size]) for at in range(0, len(message), size))


def read(wire: bytes, size: int = 1 << 20) -> ClientHello | None:
    reader = ClientHelloReader()
    for at in range(0, len(wire), size):
        found = reader.feed(wire[at : at + size])
        if found is not None:
            return found
    return None


@pytest.mark.parametrize("most", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_what_openssl_sends(most: ssl.TLSVersion, size: int) -> None:
    wire = real_hello("API.example.com", alpn=["h2", "http/1.1"], most=most)
    found = read(wire, size)
    assert found == ClientHello(server_name="api.example.com", alpn=(b"h2", b"http/1.1"))
    assert read(wire + b"more behind it", size) == found
    for end in range(len(wire)):
        assert ClientHelloReader().feed(wire[:end]) is None
    assert read(real_hello(None)) == ClientHello(server_name=None)


@pytest.mark.parametrize("cut", [1, 5, 40, 200])
def test_split_over_records(cut: int) -> None:
    message = hello(extension(43, b"\x02\x03\x04"), sni(b"a.example."), extension(0xFE0D, b"x" * 300))
    found = read(records(message, max(cut, len(message) // 60 + 1)), 3)
    assert found == ClientHello(server_name="a.example", encrypted_hello=True)


BAD = {
    "a name twice": hello(sni(b"a.example"), sni(b"b.example")),
    "two names in one": hello(
        extension(0, vector(2, b"\0" + vector(2, b"a.example") + b"\0" + vector(2, b"b.example")))
    ),
    "another kind of name": hello(sni(b"a.example", 1)),
    "no host name": hello(sni(b"a example")),
    "NUL in the name": hello(sni(b"a.example\0.b.example")),
    "an empty name": hello(sni(b"")),
    "a length beyond the end": hello(b"\0\0\0\x40ab"),
    "bytes behind the extensions": hello(sni(b"a.example"), tail=b"x"),
    "a server's hello": b"\x02" + hello(sni(b"a.example"))[1:],
    "endless": b"\x01\xff\xff\xff",
}


@pytest.mark.parametrize("message", BAD.values(), ids=BAD.keys())
@pytest.mark.parametrize("size", [1, 1 << 20])
def test_what_is_no_hello(message: bytes, size: int) -> None:
    with pytest.raises(WireError):
        read(records(message), size)


@pytest.mark.parametrize(
    "wire", [b"GET / HTTP/1.1\r\n", b"SSH-2.0-x\r\n", b"\x15\x03\x01\0\x02\x02\x28", b"\x16\x02\0\0\0", b"\x80\x2e\x01"]
)
def test_what_is_not_tls(wire: bytes) -> None:
    with pytest.raises(NotTls):
        read(wire, 1)


def test_a_hello_in_crumbs_is_refused() -> None:
    with pytest.raises(WireError, match="too many records"):
        read(records(hello(sni(b"a.example")), 1))


@pytest.mark.parametrize("wire", [b"\x16\x03\x01\0\0", b"\x16\x03\x01\xff\xff"])
def test_senseless_records(wire: bytes) -> None:
    with pytest.raises(WireError):
        read(wire)


@given(noise=binary(max_size=400), at=integers(0, 200), sizes=lists(integers(1, 50), max_size=20))
def test_noise_never_breaks_it(noise: bytes, at: int, sizes: list[int]) -> None:
    """Whatever comes: a hello, a wait, or a WireError, and the same in whatever pieces."""
    good = records(hello(sni(b"a.example")))
    wire = good[:at] + noise + good[at:]

    def outcome(pieces: list[bytes]) -> object:
        reader = ClientHelloReader()
        try:
            for piece in pieces:
                found = reader.feed(piece)
                if found is not None:
                    return found
        except WireError:
            return "refused"
        return None

    pieces, left = [], wire
    for size in sizes:
        pieces.append(left[:size])
        left = left[size:]
    assert outcome([*pieces, left]) == outcome([wire]) == outcome([wire[i : i + 1] for i in range(len(wire))])
