"""A machine beyond the router that is no process of this host: its packets are made by hand and put on the client's
wire (packet(7)), so no socket opens its connections and no cgroup hook sees them. It speaks as much TCP and UDP as
tests ask.
"""

import itertools
import socket
import struct
import time
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, Self

from tests.support.lab.lab import Lab

MACHINE4, MACHINE6 = "10.9.1.77", "fd09:1::77"
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
_V4, _V6 = 0x0800, 0x86DD
_PORTS = itertools.count(20_001)


class Machine:
    """`with Machine(lab) as machine:`; one at a time."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def __enter__(self) -> Self:
        client, router = self._lab.client, self._lab.router
        mac = _mac(client.ip("-o", "link", "show", "c0"))
        for address in (MACHINE4, MACHINE6):
            router.ip("neigh", "replace", address, "lladdr", mac, "dev", "rc", "nud", "permanent")
        self._router = bytes.fromhex(_mac(router.ip("-o", "link", "show", "rc")).replace(":", ""))
        with client.entered():
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
            self._socket.bind(("c0", 3))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._socket.close()

    def connect(self, address: str, port: int, within_s: float = 3.0) -> "Connection":
        """Raises ConnectionRefusedError, TimeoutError."""
        return Connection(self, address, port, within_s)

    def ask(self, server: str, question: bytes, within_s: float = 3.0) -> bytes:
        """A datagram to port 53 and what comes back. Raises TimeoutError."""
        port = next(_PORTS)
        self.send(server, socket.IPPROTO_UDP, struct.pack("!HHHH", port, 53, 8 + len(question), 0) + question)
        return self.receive(socket.IPPROTO_UDP, 53, port, time.monotonic() + within_s)[8:]

    def send(self, address: str, protocol: int, segment: bytes) -> None:
        """`segment`: with a checksum of zero, which is filled in."""
        there = ip_address(address)
        here = ip_address(MACHINE4 if there.version == 4 else MACHINE6)
        at = 16 if protocol == socket.IPPROTO_TCP else 6
        pseudo = here.packed + there.packed + struct.pack("!II", len(segment), protocol)
        segment = segment[:at] + struct.pack("!H", _checksum(pseudo + segment)) + segment[at + 2 :]
        self._socket.sendto(
            _head(here, there, protocol, len(segment)) + segment,
            ("c0", _V4 if there.version == 4 else _V6, 0, 0, self._router),
        )

    def receive(self, protocol: int, port: int, own_port: int, until_s: float) -> bytes:
        """The next segment or datagram to `own_port`. Raises TimeoutError."""
        while True:
            self._socket.settimeout(max(0.001, until_s - time.monotonic()))
            data = self._socket.recv(1 << 17)
            at, found = ((data[0] & 15) * 4, data[9]) if data[0] >> 4 == 4 else (40, data[6])
            if found == protocol and struct.unpack_from("!HH", data, at) == (port, own_port):
                return data[at:]


class Connection:
    """No segment is ever sent again: nothing is lost on the way in a lab."""

    def __init__(self, machine: Machine, address: str, port: int, within_s: float) -> None:
        self._machine, self.address, self.port = machine, address, port
        self.own_port: Final = next(_PORTS)
        self._sent, self._got = 1000, 0
        self._send(SYN)
        self._sent += 1
        answer = self._receive(within_s)
        if answer[13] & RST:
            raise ConnectionRefusedError(f"{address}:{port}")
        assert answer[13] & (SYN | ACK) == SYN | ACK
        self._got = struct.unpack_from("!I", answer, 4)[0] + 1
        self._send(ACK)

    def sendall(self, data: bytes, piece: int = 1400) -> None:
        for at in range(0, len(data), piece):
            part = data[at : at + piece]
            self._send(ACK | (PSH if at + piece >= len(data) else 0), part)
            self._sent += len(part)

    def recv(self, within_s: float = 3.0) -> bytes:
        """Of the next segment with something in it; empty at the end. Raises TimeoutError, ConnectionResetError."""
        while True:
            segment = self._receive(within_s)
            if segment[13] & RST:
                raise ConnectionResetError
            data = segment[(segment[12] >> 4) * 4 :]
            if (struct.unpack_from("!I", segment, 4)[0] - self._got) & 0xFFFFFFFF:
                continue
            if data or segment[13] & FIN:
                self._got = (self._got + len(data) + (segment[13] & FIN)) & 0xFFFFFFFF
                self._send(ACK)
                return data

    def close(self) -> None:
        """By a reset."""
        self._send(RST | ACK)

    def _send(self, flags: int, data: bytes = b"") -> None:
        got = self._got if flags & ACK else 0
        head = struct.pack("!HHIIBBHHH", self.own_port, self.port, self._sent, got, 5 << 4, flags, 64_000, 0, 0)
        self._machine.send(self.address, socket.IPPROTO_TCP, head + data)

    def _receive(self, within_s: float) -> bytes:
        return self._machine.receive(socket.IPPROTO_TCP, self.port, self.own_port, time.monotonic() + within_s)


def _head(here: IPv4Address | IPv6Address, there: IPv4Address | IPv6Address, protocol: int, size: int) -> bytes:
    if here.version == 6:
        return struct.pack("!IHBB", 6 << 28, size, protocol, 64) + here.packed + there.packed
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + size, 0, 0x4000, 64, protocol, 0) + here.packed + there.packed
    return head[:10] + struct.pack("!H", _checksum(head)) + head[12:]


def _checksum(data: bytes) -> int:
    """RFC 1071."""
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _mac(shown: str) -> str:
    return shown.partition("link/ether ")[2].split()[0]
