"""Frames of the keeper's socket: a 4-byte big-endian length, then the payload.

A payload is a JSON object with a `type`, or the byte `S` and a snapshot document as it was compiled, or the byte `T`,
the number of the question that it answers (8 bytes) and a text: those two are large and are not read on the event loop.
Sans-I/O; a frame longer than `MAX_FRAME_BYTES` is a FrameError, because then the peer is not one of ours.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

MAX_FRAME_BYTES: Final = 256 * 1024 * 1024
SNAPSHOT_MARK: Final = b"S"
TEXT_MARK: Final = b"T"
_NUMBER_BYTES: Final = 8


class FrameError(ValueError):
    """The bytes are no frames."""


def frame(message: Mapping[str, Any]) -> bytes:
    payload = orjson.dumps(message)
    return len(payload).to_bytes(4, "big") + payload


def snapshot_frame(document: bytes) -> bytes:
    return (len(document) + 1).to_bytes(4, "big") + SNAPSHOT_MARK + document


def text_frame(request: int, text: bytes) -> bytes:
    """A text that answers the question of this number."""
    head = TEXT_MARK + request.to_bytes(_NUMBER_BYTES, "big")
    return b"".join(((len(head) + len(text)).to_bytes(4, "big"), head, text))


def text_of(payload: bytes) -> tuple[int, bytes]:
    """Number of the question, and the text, of a payload with `TEXT_MARK`."""
    begin = 1 + _NUMBER_BYTES
    return int.from_bytes(payload[1:begin], "big"), payload[begin:]


class FrameReader:
    """Cuts received bytes into payloads, whatever the chunking."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        """Payloads that are complete now. Raises FrameError."""
        pending = self._pending
        pending += piece
        payloads = []
        start = 0
        while len(pending) - start >= 4:
            length = int.from_bytes(pending[start : start + 4], "big")
            if not 0 < length <= MAX_FRAME_BYTES:
                raise FrameError(f"a frame of {length} bytes")
            end = start + 4 + length
            if len(pending) < end:
                break
            payloads.append(bytes(pending[start + 4 : end]))
            start = end
        if start:
            del pending[:start]
        return payloads


def message_of(payload: bytes) -> dict[str, Any]:
    """The JSON object of a payload that is no snapshot. Raises FrameError."""
    try:
        message = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise FrameError(str(error)) from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise FrameError("a frame without type")
    return message
