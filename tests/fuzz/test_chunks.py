"""Chunked bodies: ours against h11's reader. Whatever comes, only WireError is raised; the payload does not depend on
how the
bytes were cut; and a request body that we read whole is read the same by h11, to its last byte."""

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.chunked import ChunkedDecoder, RequestChunks
from gateway.wire.errors import WireError
from tests.fuzz.mutations import mutated
from tests.unit.wire.cutting import cut_at

SEEDS = [
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5;a=b\r\nhello\r\n6;c\r\n world\r\n0\r\n\r\n",
    b'1;q="a;b\\""\r\nx\r\n00A\r\n0123456789\r\n000\r\nx-trailer: 1\r\n\r\nrest',
]
TOKENS = [
    b"\r\n", b"\n", b"\r", b"\r\r\n", b"0", b"0\r\n\r\n", b"-1", b"+", b"0x", b" ", b"\t", b";", b'"', b"\\", b"\0",
    b"g",
    b"f" * 15, b"f" * 16, b"content-length: 5\r\n", b"transfer-encoding: chunked\r\n", b" : ", b":", b"\x0b", b"\xff",
]  # fmt: skip
HEAD = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"


def decode(decoder: ChunkedDecoder, pieces: list[bytes]) -> tuple[bytes, bytes, bool] | None:
    """Payload, what is behind the body, and whether it is complete; None where it was refused."""
    payload, rest = b"", b""
    try:
        for piece in pieces:
            if decoder.done:
                rest += piece
            else:
                payload += decoder.feed(piece)
                rest = decoder.rest
    except WireError as refusal:
        assert refusal.status in (400, 413, 502)
        return None
    return payload, rest, decoder.done


def read_by_h11(wire: bytes) -> bytes | None:
    """Payload where h11 finds one whole request; None otherwise."""
    connection = h11.Connection(h11.SERVER)
    payload = b""
    try:
        connection.receive_data(HEAD + wire)
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                payload += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return payload
            elif event is h11.NEED_DATA or event is h11.PAUSED:
                return None
    except h11.RemoteProtocolError:
        return None


@settings(max_examples=300)
@given(wire=mutated(SEEDS, TOKENS) | st.binary(max_size=60), places=st.lists(st.integers(0, 120), max_size=8))
def test_chunks(wire: bytes, places: list[int]) -> None:
    for make in (ChunkedDecoder, lambda: RequestChunks(1 << 20)):
        whole = decode(make(), [wire])
        assert decode(make(), cut_at(wire, places)) == whole
        assert decode(make(), [wire[at : at + 1] for at in range(len(wire))]) == whole
    strict = decode(RequestChunks(1 << 20), [wire])
    if strict is not None and strict[2]:
        body = wire[: len(wire) - len(strict[1])]
        assert read_by_h11(body) == strict[0]
        assert decode(ChunkedDecoder(), [wire]) == strict  # what a request may say, an answer may too
