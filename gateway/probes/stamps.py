"""Layouts of bpf/callers.h and bpf/callers.c, and addresses as their maps hold them: 16 bytes, IPv4 as
::ffff:a.b.c.d.
"""

import ctypes
import socket
import sys
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

Address = IPv4Address | IPv6Address
MAPPED: Final = b"\0" * 10 + b"\xff\xff"
SO_COOKIE: Final = 57
SO_NETNS_COOKIE: Final = 71
"""asm-generic/socket.h; the latter since Linux 5.14"""


class RawAddress(ctypes.Structure):
    _fields_ = (("word", ctypes.c_uint32 * 4),)


class Stamp(ctypes.Structure):
    """Who connected; times by CLOCK_BOOTTIME."""

    _fields_ = (
        ("cookie", ctypes.c_uint64), ("netns", ctypes.c_uint64), ("cgroup", ctypes.c_uint64),
        ("at_ns", ctypes.c_uint64), ("image_ns", ctypes.c_uint64), ("tgid", ctypes.c_uint32), ("pid", ctypes.c_uint32),
        ("uid", ctypes.c_uint32), ("gid", ctypes.c_uint32), ("comm", ctypes.c_char * 16),
    )  # fmt: skip


class TupleKey(ctypes.Structure):
    _fields_ = (
        ("source", RawAddress), ("destination", RawAddress), ("netns", ctypes.c_uint64),
        ("source_port", ctypes.c_uint32), ("destination_port", ctypes.c_uint32),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection as the host that opened it sees it."""

    source: Address
    port: int
    destination: Address
    destination_port: int

    @classmethod
    def of(cls, source: str, port: int, destination: str, destination_port: int) -> "Flow":
        """Raises ValueError."""
        return cls(plain_address(source), int(port), plain_address(destination), int(destination_port))

    @classmethod
    def of_key(cls, key: TupleKey) -> "Flow":
        return cls(
            address_of(bytes(key.source)), key.source_port, address_of(bytes(key.destination)), key.destination_port
        )

    @property
    def within_host(self) -> bool:
        """Both ends are in one network namespace, for certain."""
        return self.source.is_loopback or self.destination.is_loopback

    def key(self, netns: int) -> TupleKey:
        return TupleKey(
            raw_address(self.source), raw_address(self.destination), netns, self.port, self.destination_port
        )


def plain_address(text: str) -> Address:
    """Without a zone, and IPv4 as such. Raises ValueError."""
    found = ip_address(text.partition("%")[0])
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


def packed(address: Address) -> bytes:
    return MAPPED + address.packed if isinstance(address, IPv4Address) else address.packed


def raw_address(address: Address) -> RawAddress:
    return RawAddress.from_buffer_copy(packed(address))


def address_of(raw: bytes) -> Address:
    """Of 4 or 16 bytes."""
    if len(raw) == 4:
        return IPv4Address(raw)
    found = IPv6Address(raw)
    return found.ipv4_mapped or found


def cookie_of(sock: socket.socket, option: int = SO_COOKIE) -> int:
    """Raises OSError."""
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, option, 8), sys.byteorder)


def own_netns() -> int:
    """The cookie of this process's network namespace. Raises OSError before Linux 5.14."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        return cookie_of(sock, SO_NETNS_COOKIE)
