"""Copies of packets that rules with `log group N` give to user space (nfnetlink_log), read by a netlink socket.

Layouts: linux/netfilter/nfnetlink.h, linux/netfilter/nfnetlink_log.h (UAPI). Integers in attributes are in network
order. It takes CAP_NET_ADMIN in the network namespace.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final

NETFILTER: Final = 12
"""NETLINK_NETFILTER"""
PACKET, CONFIG = 4 << 8, 4 << 8 | 1
"""NFNL_SUBSYS_ULOG, with NFULNL_MSG_PACKET, NFULNL_MSG_CONFIG"""
ERROR: Final = 2
REQUEST, ACKNOWLEDGE = 1, 4
COMMAND, MODE, BUFFER_BYTES, TIMEOUT, THRESHOLD, FLAGS = 1, 2, 3, 4, 5, 6
"""NFULA_CFG_…"""
BIND: Final = 1
COPY_PACKET: Final = 2
NUMBERED: Final = 1
"""NFULNL_CFG_F_SEQ: each packet has a number, so that those lost can be counted."""
PAYLOAD, NUMBER = 9, 12
"""NFULA_PAYLOAD, NFULA_SEQ"""
GROUPS: Final = range(9700, 9716)
"""One that nobody has is taken; low numbers are those of ulogd and firewalls."""
WAIT_CS: Final = 5
"""Hundredths of a second that the kernel gathers packets for."""
AT_ONCE: Final = 32
"""Packets after which it does not wait."""
MESSAGE_BYTES: Final = 32 * 1024
RECEIVE_BYTES: Final = 4 * 1024 * 1024
"""Of the socket: what comes when it is full is lost."""
SO_RCVBUFFORCE: Final = 33
MOST_READ: Final = 64
"""Messages in one turn of the event loop."""
ANSWER_S: Final = 2.0
_HEAD = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_GENERAL_BYTES: Final = 4
"""struct nfgenmsg"""


class PacketLog:
    """One group. `lost` counts packets that the kernel had no room for."""

    def __init__(self, copied_bytes: int) -> None:
        """`copied_bytes`: of each packet at most. Raises OSError."""
        self.lost = 0
        self._next: int | None = None
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETFILTER)
        try:
            self._socket.bind((0, 0))
            self._socket.settimeout(ANSWER_S)
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES)
            self.group = self._take_group()
            self._configure(_attribute(MODE, struct.pack("!IBx", copied_bytes, COPY_PACKET)))
            self._configure(_attribute(BUFFER_BYTES, struct.pack("!I", MESSAGE_BYTES)))
            self._configure(_attribute(TIMEOUT, struct.pack("!I", WAIT_CS)))
            self._configure(_attribute(THRESHOLD, struct.pack("!I", AT_ONCE)))
            self._configure(_attribute(FLAGS, struct.pack("!H", NUMBERED)))
            self._socket.setblocking(False)
        except OSError:
            self._socket.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        """The group is free again."""
        self._socket.close()

    def packets(self) -> Iterator[bytes]:
        """Those that have come, from the IP header on; not all where there are very many."""
        for _ in range(MOST_READ):
            try:
                data = self._socket.recv(2 * MESSAGE_BYTES)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                continue  # the numbers of what comes next say how many
            yield from self._packets_of(data)

    def _packets_of(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at + _HEAD.size <= len(data):
            length, kind, _, _, _ = _HEAD.unpack_from(data, at)
            if length < _HEAD.size:
                return
            if kind == PACKET:
                payload = b""
                for name, value in _attributes(data[at + _HEAD.size + _GENERAL_BYTES : at + length]):
                    if name == PAYLOAD:
                        payload = value
                    elif name == NUMBER:
                        self._count(int.from_bytes(value, "big"))
                if payload:
                    yield payload
            at += (length + 3) & ~3

    def _count(self, number: int) -> None:
        if self._next is not None:
            self.lost += (number - self._next) & 0xFFFFFFFF
        self._next = (number + 1) & 0xFFFFFFFF

    def _take_group(self) -> int:
        for group in GROUPS:
            self.group = group
            try:
                self._configure(_attribute(COMMAND, bytes([BIND])))
            except OSError as error:
                if error.errno not in (errno.EBUSY, errno.EPERM):  # both: it is another socket's
                    raise
                continue
            return group
        raise OSError(errno.EBUSY, f"no NFLOG group of {GROUPS[0]} to {GROUPS[-1]} is to be had")

    def _configure(self, attribute: bytes) -> None:
        body = struct.pack("!BBH", socket.AF_UNSPEC, 0, self.group) + attribute
        head = _HEAD.pack(_HEAD.size + len(body), CONFIG, REQUEST | ACKNOWLEDGE, 1, 0)
        self._socket.send(head + body)
        while True:
            answer = self._socket.recv(8192)
            _, kind, _, _, _ = _HEAD.unpack_from(answer)
            if kind == ERROR:
                (code,) = struct.unpack_from("=i", answer, _HEAD.size)
                if code:
                    raise OSError(-code, f"NFLOG: {os.strerror(-code)}")
                return


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + bytes(-size % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            return
        yield kind & 0x3FFF, data[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3
