"""Connections of this network namespace, as the kernel lists them (sock_diag(7)), and their end by SOCK_DESTROY.

Layouts: `struct inet_diag_req_v2`, `struct inet_diag_msg` in linux/inet_diag.h (UAPI).
"""

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from gateway.probes.stamps import Address, Flow, address_of, packed

SOCK_DIAG: Final = 4
"""NETLINK_SOCK_DIAG"""
BY_FAMILY: Final = 20
DESTROY: Final = 21
ERROR: Final = 2
DONE: Final = 3
REQUEST, ACKNOWLEDGE, DUMP = 1, 4, 0x300
CONNECTED: Final = 1 << 1 | 1 << 2 | 1 << 4 | 1 << 5 | 1 << 8
"""States (net/tcp_states.h): ESTABLISHED, SYN_SENT, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT"""
DUMP_BYTES: Final = 64 * 1024
ANY_STATE: Final = 0xFFFFFFFF
INFO: Final = 2
"""INET_DIAG_INFO: the attribute that holds `struct tcp_info`."""
NO_COOKIE: Final = b"\xff" * 8
ANSWER_S: Final = 1.0
_HEAD = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBBI")
_PORTS = struct.Struct("!HH")
_MESSAGE_BYTES: Final = 72
_INFO_BYTES: Final = 136
"""Of `struct tcp_info` up to tcpi_bytes_received."""


@dataclass(frozen=True, slots=True)
class Found:
    inode: int
    """Of the socket: what /proc/PID/fd says."""
    uid: int
    cookie: int


@dataclass(frozen=True, slots=True)
class TcpState:
    """Some of a connection's `struct tcp_info` (linux/tcp.h)."""

    cookie: int
    rtt_us: int
    """Smoothed."""
    retransmits: int
    bytes_acked: int
    bytes_received: int


def find(flow: Flow) -> Found | None:
    """None: there is no such connection here. Raises OSError."""
    for v6 in _families(flow.source):
        try:
            answer = _ask(BY_FAMILY, flow, v6)
        except FileNotFoundError:
            continue
        if len(answer) >= _MESSAGE_BYTES:
            return _found(answer)
    return None


def destroy(flow: Flow, protocol: int = socket.IPPROTO_TCP) -> bool:
    """End a connection: both ends see a reset. False: there is none here. Raises OSError: it needs CAP_NET_ADMIN, and
    a kernel with CONFIG_INET_DIAG_DESTROY."""
    for v6 in _families(flow.source):
        try:
            _ask(DESTROY, flow, v6, protocol)
        except FileNotFoundError:
            continue
        return True
    return False


def connections(protocol: int = socket.IPPROTO_TCP) -> list[tuple[Flow, Found]]:
    """All that have a peer. Raises OSError."""
    found: list[tuple[Flow, Found]] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        body = _REQUEST.pack(family, protocol, 0, 0, CONNECTED) + bytes(48)
        with _netlink() as netlink:
            netlink.send(_HEAD.pack(_HEAD.size + len(body), BY_FAMILY, REQUEST | DUMP, 1, 0) + body)
            while all(_dumped(netlink.recv(DUMP_BYTES), found)):
                pass
    return found


def tcp_states() -> list[TcpState]:
    """Of all connections that have a peer. Raises OSError."""
    found: list[TcpState] = []
    for family in (socket.AF_INET, socket.AF_INET6):
        body = _REQUEST.pack(family, socket.IPPROTO_TCP, 1 << INFO - 1, 0, CONNECTED) + bytes(48)
        with _netlink() as netlink:
            netlink.send(_HEAD.pack(_HEAD.size + len(body), BY_FAMILY, REQUEST | DUMP, 1, 0) + body)
            while _states_of(netlink.recv(DUMP_BYTES), found):
                pass
    return found


def _states_of(data: bytes, found: list[TcpState]) -> bool:
    """Adds what is in there. False: that was the last. Raises OSError."""
    at = 0
    while at + _HEAD.size <= len(data):
        length, said, _, _, _ = _HEAD.unpack_from(data, at)
        if said == DONE:
            return False
        if said == ERROR:
            (code,) = struct.unpack_from("=i", data, at + _HEAD.size)
            raise OSError(-code, os.strerror(-code))
        message = data[at + _HEAD.size : at + length]
        attribute = _MESSAGE_BYTES
        while attribute + 4 <= len(message):
            size, kind = struct.unpack_from("=HH", message, attribute)
            if kind == INFO and size >= 4 + _INFO_BYTES:
                info = attribute + 4
                (rtt_us,), (resent,) = (struct.unpack_from("=I", message, info + offset) for offset in (68, 100))
                acked, received = struct.unpack_from("=QQ", message, info + 120)
                found.append(TcpState(_found(message).cookie, rtt_us, resent, acked, received))
            attribute += max(4, (size + 3) & ~3)
        at += (length + 3) & ~3
    return True


def _dumped(data: bytes, found: list[tuple[Flow, Found]]) -> Iterator[bool]:
    """Adds what is in there. False: that was the last. Raises OSError."""
    at = 0
    while at + _HEAD.size <= len(data):
        length, said, _, _, _ = _HEAD.unpack_from(data, at)
        message = data[at + _HEAD.size : at + length]
        if said == DONE:
            yield False
            return
        if said == ERROR:
            (code,) = struct.unpack_from("=i", message)
            raise OSError(-code, os.strerror(-code))
        port, destination_port = _PORTS.unpack_from(message, 4)
        size = 4 if message[0] == socket.AF_INET else 16
        source, destination = message[8 : 8 + size], message[24 : 24 + size]
        if destination_port:
            flow = Flow(address_of(source), port, address_of(destination), destination_port)
            found.append((flow, _found(message)))
        at += (length + 3) & ~3
        yield True


def _found(message: bytes) -> Found:
    uid, inode = struct.unpack_from("=II", message, 64)
    (cookie,) = struct.unpack_from("=Q", message, 44)
    return Found(inode, uid, cookie)


def _netlink() -> socket.socket:
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, SOCK_DIAG)
    netlink.settimeout(ANSWER_S)
    return netlink


def _families(address: Address) -> tuple[bool, ...]:
    """An IPv4 connection may be an IPv6 socket's."""
    return (False, True) if isinstance(address, IPv4Address) else (True,)


def _ask(kind: int, flow: Flow, v6: bool, protocol: int = socket.IPPROTO_TCP) -> bytes:
    """Raises OSError, of which FileNotFoundError is "no such socket"."""

    def address(of: Address) -> bytes:
        return packed(of) if v6 else of.packed + b"\0" * 12

    body = _REQUEST.pack(socket.AF_INET6 if v6 else socket.AF_INET, protocol, 0, 0, ANY_STATE)
    body += _PORTS.pack(flow.port, flow.destination_port) + address(flow.source) + address(flow.destination)
    body += struct.pack("=I", 0) + NO_COOKIE
    flags = REQUEST | ACKNOWLEDGE if kind == DESTROY else REQUEST
    with _netlink() as netlink:
        netlink.send(_HEAD.pack(_HEAD.size + len(body), kind, flags, 1, 0) + body)
        answer = netlink.recv(8192)
    _, said, _, _, _ = _HEAD.unpack_from(answer)
    if said == ERROR:
        (code,) = struct.unpack_from("=i", answer, _HEAD.size)
        if code:
            raise OSError(-code, os.strerror(-code))
        return b""
    return answer[_HEAD.size :]
