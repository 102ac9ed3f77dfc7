"""The Unix socket between the agent and whoever speaks to it: frames of `wire.frames`, some with file descriptors.

A frame that says `"fds": N` owns the next N descriptors that came (SCM_RIGHTS, unix(7)): the kernel delivers them in
order, with or before the frame's last byte.
"""

import array
import asyncio
import contextlib
import logging
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.wire.frames import FrameError, FrameReader, frame, message_of

log = logging.getLogger(__name__)

VERSION: Final = 1
"""Of the messages; both ends say it in their first one."""
HEARTBEAT_S: Final = 0.5
"""How often the agent asks a worker whether it lives."""
READ_BYTES: Final = 64 * 1024
MOST_DESCRIPTORS: Final = 64
"""In one sendmsg; the kernel takes 253 (SCM_MAX_FD)."""
MOST_WAITING: Final = 4096
"""Descriptors that wait for the message that they belong to."""
MOST_UNSENT_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end, as the kernel says (SO_PEERCRED)."""

    pid: int
    uid: int
    gid: int


def peer_of(sock: socket.socket) -> Peer:
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return Peer(*struct.unpack("3i", credentials))


class Channel:
    """One connection, driven by the running event loop. `on_message` gets each message and its descriptors, which are
    then its to close; `on_end` is called once, however it ends."""

    def __init__(
        self,
        sock: socket.socket,
        on_message: Callable[[dict[str, Any], list[int]], None],
        on_end: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._on_message = on_message
        self._on_end = on_end
        self._loop = asyncio.get_running_loop()
        self._reader = FrameReader()
        self._received: deque[int] = deque()
        self._unsent: deque[tuple[bytes, list[int]]] = deque()
        self.unsent_bytes = 0
        self.closed = False
        self._loop.add_reader(sock.fileno(), self._readable)

    def send(self, message: Mapping[str, Any], descriptors: Sequence[int] = ()) -> None:
        """Queue a message; `descriptors` are duplicated and stay the caller's."""
        if self.closed:
            return
        payload = frame({**message, "fds": len(descriptors)} if descriptors else message)
        if self.unsent_bytes + len(payload) > MOST_UNSENT_BYTES:
            log.error("the other end does not read, the connection is given up")
            self.close()
            return
        idle = not self._unsent
        copies: list[int] = []
        try:
            copies.extend(map(os.dup, descriptors))
        except OSError as error:
            log.error("no descriptor is free, the connection is given up", extra={"error": str(error)})
            for number in copies:
                os.close(number)
            self.close()
            return
        self.unsent_bytes += len(payload)
        while len(copies) > MOST_DESCRIPTORS:  # ahead of the others, with a byte each: none go without
            self._unsent.append((payload[:1], copies[:MOST_DESCRIPTORS]))
            payload, copies = payload[1:], copies[MOST_DESCRIPTORS:]
        self._unsent.append((payload, copies))
        if idle:
            self._writable()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        for number in [*self._received, *(number for _, copies in self._unsent for number in copies)]:
            os.close(number)
        self._received.clear()
        self._unsent.clear()
        self._on_end()

    def _readable(self) -> None:
        space = socket.CMSG_SPACE(MOST_DESCRIPTORS * array.array("i").itemsize)
        try:
            data, ancillary, _, _ = self._sock.recvmsg(READ_BYTES, space, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, ancillary = b"", []
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                numbers = array.array("i")
                numbers.frombytes(payload[: len(payload) - len(payload) % numbers.itemsize])
                self._received.extend(numbers)
        if len(self._received) > MOST_WAITING:
            data = b""
        if not data:
            self.close()
            return
        try:
            for payload in self._reader.feed(data):
                self._deliver(message_of(payload))
                if self.closed:
                    return
        except (FrameError, KeyError, TypeError, ValueError) as error:
            log.error("a message was not understood, the connection is given up", extra={"error": repr(error)})
            self.close()

    def _deliver(self, message: dict[str, Any]) -> None:
        count = int(message.get("fds", 0))
        if count > len(self._received):
            raise FrameError("a message without its descriptors")
        self._on_message(message, [self._received.popleft() for _ in range(count)])

    def _writable(self) -> None:
        while self._unsent and not self.closed:
            payload, copies = self._unsent[0]
            try:
                sent = socket.send_fds(self._sock, [payload], copies) if copies else self._sock.send(payload)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._sock.fileno(), self._writable)
                return
            except OSError:
                self.close()
                return
            for number in copies:
                os.close(number)
            self.unsent_bytes -= sent
            if sent < len(payload):
                self._unsent[0] = (payload[sent:], [])
            else:
                self._unsent.popleft()
        if not self.closed:
            with contextlib.suppress(ValueError):
                self._loop.remove_writer(self._sock.fileno())
