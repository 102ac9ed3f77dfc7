"""The frame reader against the library `websockets`, which makes and masks the frames here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.frames import Close, Frame
from websockets.frames import Opcode as Op

from gateway.wire.errors import WireError
from gateway.wire.websocket import Message, Opcode, WebSocketReader, close_frame, server_frame
from tests.unit.wire.cutting import SIZES, cut, cut_at

TEXT, BINARY, CLOSE = Opcode.TEXT, Opcode.BINARY, Opcode.CLOSE


def frame(opcode: Op, payload: bytes = b"", *, fin: bool = True, masked: bool = False) -> bytes:
    return Frame(opcode, payload, fin).serialize(mask=masked)


def conversation(masked: bool) -> bytes:
    def made(opcode: Op, payload: bytes = b"", fin: bool = True) -> bytes:
        return frame(opcode, payload, fin=fin, masked=masked)

    return b"".join(
        (
            made(Op.TEXT, b'{"type":"session.created"}'),
            made(Op.PING, b"are you there"),
            made(Op.TEXT, b"Hal", fin=False),
            made(Op.PONG),
            made(Op.CONT, "lö".encode()[:2], fin=False),
            made(Op.CONT, "lö".encode()[2:]),
            made(Op.TEXT, b""),
            made(Op.BINARY, bytes(range(256)) * 2),
            made(Op.TEXT, b"x" * 70_000),
            made(Op.CLOSE, Close(1000, "bye").serialize()),
        )
    )


EXPECTED = [
    Message(TEXT, b'{"type":"session.created"}'),
    Message(TEXT, "Hallö".encode()),
    Message(TEXT, b""),
    Message(BINARY, bytes(range(256)) * 2),
    Message(TEXT, b"x" * 70_000),
    Message(CLOSE, b"\x03\xe8bye"),
]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_messages(size: int, masked: bool) -> None:
    reader = WebSocketReader(masked=masked, keep_bytes=1 << 20)
    found = [message for piece in cut(conversation(masked), size) for message in reader.feed(piece)]
    assert found == EXPECTED
    assert reader.between_messages


@given(
    places=st.lists(st.integers(0, 72_000), max_size=12), masked=st.booleans(), keep=st.sampled_from([0, 300, 1 << 20])
)
def test_any_chunking_gives_the_same(places: list[int], masked: bool, keep: int) -> None:
    wire = conversation(masked)
    reader = WebSocketReader(masked=masked, keep_bytes=keep)
    found = [message for piece in cut_at(wire, places) for message in reader.feed(piece)]
    assert [message.opcode for message in found] == [message.opcode for message in EXPECTED]
    for got, whole in zip(found, EXPECTED, strict=True):
        kept = whole.opcode is CLOSE or len(whole.payload or b"") <= keep
        assert got.payload == (whole.payload if kept else None)


def test_where_a_message_may_be_put_in() -> None:
    reader = WebSocketReader(masked=False, keep_bytes=10)
    whole = frame(Op.TEXT, b"one")
    half = frame(Op.TEXT, b"two", fin=False)
    reader.feed(whole + half)
    assert reader.message_end == len(whole)
    assert not reader.between_messages
    reader.feed(frame(Op.PING))
    assert reader.message_end == 0
    assert not reader.between_messages
    rest = frame(Op.CONT, b"three")
    reader.feed(rest + whole[:1])
    assert reader.message_end == len(rest)
    assert not reader.between_messages
    reader.feed(whole[1:])
    assert reader.message_end == len(whole) - 1
    assert reader.between_messages


def test_a_message_too_long_to_keep_holds_no_memory() -> None:
    reader = WebSocketReader(masked=False, keep_bytes=1000)
    reader.feed(bytes((0x81, 127)) + (1 << 40).to_bytes(8, "big"))
    for _ in range(100):
        assert reader.feed(b"x" * 65_536) == []
    assert sum(map(len, reader._kept)) == 0


FAULTS = {
    "reserved bit": bytes((0xC1, 0)),
    "reserved opcode": bytes((0x83, 0)),
    "masked by a server": bytes((0x81, 0x80, 1, 2, 3, 4)),
    "endless": bytes((0x81, 127)) + b"\xff" * 8,
    "fragmented ping": bytes((0x09, 0)),
    "long close": bytes((0x88, 126, 0, 200)),
    "goes on without a beginning": bytes((0x80, 0)),
    "begins within another": bytes((0x01, 0, 0x81, 0)),
}


@pytest.mark.parametrize("size", [1, 100])
@pytest.mark.parametrize("name", FAULTS)
def test_faults(name: str, size: int) -> None:
    reader = WebSocketReader(masked=False, keep_bytes=100)
    with pytest.raises(WireError) as raised:
        for piece in cut(FAULTS[name], size):
            reader.feed(piece)
    assert raised.value.status == 1002


def test_a_client_must_mask() -> None:
    with pytest.raises(WireError):
        WebSocketReader(masked=True, keep_bytes=0).feed(frame(Op.TEXT, b"x"))


@given(wire=st.binary(max_size=200), masked=st.booleans())
def test_anything_is_read_or_refused(wire: bytes, masked: bool) -> None:
    reader = WebSocketReader(masked=masked, keep_bytes=50)
    try:
        reader.feed(wire)
    except WireError:
        return
    assert 0 <= reader.message_end <= len(wire)


@pytest.mark.parametrize("length", [0, 125, 126, 65_535, 65_536])
def test_frames_that_we_send(length: int) -> None:
    assert server_frame(TEXT, b"x" * length) == frame(Op.TEXT, b"x" * length)


def test_a_close_is_cut_to_what_it_may_hold() -> None:
    wire = close_frame(1008, "limit_exceeded: " + "ü" * 100)
    assert wire == frame(Op.CLOSE, Close(1008, "limit_exceeded: " + "ü" * 53).serialize())
