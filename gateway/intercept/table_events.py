"""Tells when somebody changes nftables rules: what `nft monitor` reads, a netlink multicast group (linux/netfilter/
nfnetlink.h, nf_tables.h). Set elements are left out, since our own heartbeat changes one every second."""

import asyncio
import contextlib
import socket
import struct
from typing import Final, Self

NETLINK_NETFILTER: Final = 12
SOL_NETLINK: Final = 270
ADD_MEMBERSHIP: Final = 1
GROUP: Final = 7
"""NFNLGRP_NFTABLES"""
SUBSYSTEM: Final = 10
"""NFNL_SUBSYS_NFTABLES"""
DELETIONS: Final = frozenset((2, 5, 8, 11, 20))
"""NFT_MSG_DELTABLE, DELCHAIN, DELRULE, DELSET, DELOBJ."""
HEAD: Final = struct.Struct("=IHHII")
"""struct nlmsghdr"""
READ_BYTES: Final = 64 * 1024


class TableEvents:
    """A context manager; not for use by two tasks at a time."""

    def __init__(self) -> None:
        self._sock = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, NETLINK_NETFILTER)
        self._sock.bind((0, 0))
        self._sock.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, GROUP)
        self._deleted = asyncio.Event()

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._sock.fileno(), self._readable)
        return self

    def __exit__(self, *exc_info: object) -> None:
        asyncio.get_running_loop().remove_reader(self._sock.fileno())
        self._sock.close()

    async def next(self) -> None:
        """Return when something was deleted since the last call."""
        await self._deleted.wait()
        self._deleted.clear()

    def _readable(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    data = self._sock.recv(READ_BYTES)
                except OSError as error:
                    if isinstance(error, BlockingIOError):
                        raise
                    self._deleted.set()  # ENOBUFS: something was lost, so look
                    return
                if any(kind >> 8 == SUBSYSTEM and kind & 0xFF in DELETIONS for kind in _kinds(data)):
                    self._deleted.set()


def _kinds(data: bytes) -> list[int]:
    found, at = [], 0
    while at + HEAD.size <= len(data):
        length, kind, *_ = HEAD.unpack_from(data, at)
        if length < HEAD.size:
            break
        found.append(kind)
        at += (length + 3) & ~3
    return found
