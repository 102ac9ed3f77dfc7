"""Read WebSocket frames as they pass (RFC 6455 5): sans-I/O, whatever the chunking, bounded in memory.

Frames are cut by their heads alone; a payload is unmasked and kept only where somebody wants to read it. No extension
may have been negotiated: a frame with a reserved bit is a fault.
"""

import enum
from dataclasses import dataclass
from typing import Final

from gateway.wire.errors import WireError

MAX_CONTROL_BYTES: Final = 125
PROTOCOL_ERROR: Final = 1002
"""The close code of what RFC 6455 does not allow: `WireError.status` of this module."""
_MAX_HEAD_BYTES: Final = 14
_NAMED: Final = {0x0, 0x1, 0x2, 0x8, 0x9, 0xA}


class Opcode(enum.IntEnum):
    CONTINUATION = 0x0
    TEXT = 0x1
    BINARY = 0x2
    CLOSE = 0x8
    PING = 0x9
    PONG = 0xA


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message. `payload` is None where it was longer than is kept."""

    opcode: Opcode
    payload: bytes | None


class WebSocketReader:
    """One direction of a connection. `masked`: it is the client's, whose frames are all masked (5.1).

    `feed` returns the text and binary messages and the closes that ended in these bytes, without pings and pongs.
    """

    __slots__ = (
        "_closing", "_fin", "_head", "_keep", "_kept", "_kind", "_left", "_mask", "_mask_at", "_masked", "_opcode",
        "_size", "message_end",
    )  # fmt: skip

    def __init__(self, *, masked: bool, keep_bytes: int) -> None:
        """`keep_bytes`: messages up to this size come with their payload. Closes always do."""
        self._masked = masked
        self._keep = keep_bytes
        self._head = b""
        """The beginning of a frame head."""
        self._left = -1
        """Payload bytes of the present frame that have not come; -1 between frames."""
        self._opcode = Opcode.TEXT
        self._fin = True
        self._mask = b""
        self._mask_at = 0
        self._kind: Opcode | None = None
        """Of the message whose fragments are coming."""
        self._kept: list[bytes] = []
        self._size = 0
        self._closing = b""
        """Payload of a close, which may come between the fragments of a message."""
        self.message_end = 0
        """Where, in what was last fed, the last whole message or control frame between messages ended; 0 = nowhere."""

    @property
    def between_messages(self) -> bool:
        """Whether a message could be put in here."""
        return self._left < 0 and not self._head and self._kind is None

    def feed(self, data: bytes) -> list[Message]:
        """Raises WireError, after which the connection cannot be read any more."""
        messages: list[Message] = []
        at, end = 0, len(data)
        self.message_end = 0
        while at < end:
            if self._left < 0:
                at = self._read_head(data, at)
                if self._left < 0:
                    break
            take = min(self._left, end - at)
            if take:
                self._take(data, at, take)
                at += take
                self._left -= take
            if not self._left:
                self._left = -1
                self._end_frame(messages)
                if self._kind is None:
                    self.message_end = at
        return messages

    def _read_head(self, data: bytes, at: int) -> int:
        """Read a frame's head, or as much of it as there is. Returns the index behind it."""
        had = len(self._head)
        head = self._head + data[at : at + _MAX_HEAD_BYTES - had]
        size = 2
        if len(head) >= 2:
            short = head[1] & 0x7F
            size += {126: 2, 127: 8}.get(short, 0) + (4 if head[1] & 0x80 else 0)
        if len(head) < size:
            self._head = head
            return len(data)
        self._head = b""
        self._begin_frame(head[:size])
        return at + size - had

    def _begin_frame(self, head: bytes) -> None:
        first, second = head[0], head[1]
        code, fin = first & 0x0F, bool(first & 0x80)
        if first & 0x70:
            raise WireError(PROTOCOL_ERROR, "a WebSocket frame has a reserved bit set, and no extension was agreed on")
        if code not in _NAMED:
            raise WireError(PROTOCOL_ERROR, f"a WebSocket frame has the reserved opcode {code}")
        if bool(second & 0x80) is not self._masked:
            raise WireError(PROTOCOL_ERROR, f"a WebSocket frame is {'not ' if self._masked else ''}masked")
        length = second & 0x7F
        if length == 126:
            length = int.from_bytes(head[2:4], "big")
        elif length == 127:
            length = int.from_bytes(head[2:10], "big")
            if length >> 63:
                raise WireError(PROTOCOL_ERROR, "a WebSocket frame is longer than there are numbers for")
        opcode = Opcode(code)
        if opcode >= Opcode.CLOSE:
            if not fin or length > MAX_CONTROL_BYTES:
                raise WireError(PROTOCOL_ERROR, "a WebSocket control frame is fragmented or too long")
        elif (opcode is Opcode.CONTINUATION) is (self._kind is None):
            raise WireError(PROTOCOL_ERROR, "a WebSocket message begins within another, or goes on without a beginning")
        self._opcode, self._fin, self._left = opcode, fin, length
        self._mask, self._mask_at = head[-4:] if self._masked else b"", 0
        if opcode in (Opcode.TEXT, Opcode.BINARY):
            self._kind = opcode
            self._kept, self._size = [], 0

    def _take(self, data: bytes, at: int, size: int) -> None:
        if self._opcode is Opcode.CLOSE:
            self._closing += self._unmasked(data[at : at + size])
        elif self._opcode < Opcode.CLOSE:
            self._size += size
            if self._size <= self._keep:
                self._kept.append(self._unmasked(data[at : at + size]))
            else:
                self._kept = []

    def _unmasked(self, piece: bytes) -> bytes:
        if not self._mask:
            return piece
        mask, shift = self._mask, self._mask_at
        self._mask_at = (shift + len(piece)) % 4
        key = (mask[shift:] + mask[:shift]) * (len(piece) // 4 + 1)
        whole = int.from_bytes(piece, "big") ^ int.from_bytes(key[: len(piece)], "big")
        return whole.to_bytes(len(piece), "big")

    def _end_frame(self, messages: list[Message]) -> None:
        opcode = self._opcode
        if opcode is Opcode.CLOSE:
            messages.append(Message(opcode, self._closing))
            self._closing = b""
        elif opcode < Opcode.CLOSE and self._fin and self._kind is not None:
            messages.append(Message(self._kind, b"".join(self._kept) if self._size <= self._keep else None))
            self._kind, self._kept = None, []


def server_frame(opcode: Opcode, payload: bytes) -> bytes:
    """A whole, unmasked frame."""
    if len(payload) < 126:
        return bytes((0x80 | opcode, len(payload))) + payload
    if len(payload) < 1 << 16:
        return bytes((0x80 | opcode, 126)) + len(payload).to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + len(payload).to_bytes(8, "big") + payload


def close_frame(code: int, reason: str) -> bytes:
    """A server's close; the reason is cut at what a control frame holds."""
    told = reason.encode()[: MAX_CONTROL_BYTES - 2].decode(errors="ignore").encode()
    return server_frame(Opcode.CLOSE, code.to_bytes(2, "big") + told)
