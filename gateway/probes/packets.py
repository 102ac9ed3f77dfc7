"""What a copied packet says: its connection, and the payload as far as it was copied. No I/O.

RFC 791, RFC 8200 (with the extension headers that may stand before TCP and UDP), RFC 9293, RFC 768.
"""

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from gateway.probes.stamps import Flow

EXTENSIONS: Final = frozenset((0, 43, 60))
"""Hop-by-hop options, routing, destination options"""
SYN, ACK = 0x02, 0x10


@dataclass(frozen=True, slots=True)
class Packet:
    protocol: int
    """IPPROTO_TCP or IPPROTO_UDP"""
    flow: Flow
    """From its sender's point of view."""
    opening: int | None
    """The sequence number of a SYN that opens a connection."""
    payload: bytes


def parse(data: bytes) -> Packet | None:
    """None: neither TCP nor UDP, a later fragment, or cut off within its headers."""
    try:
        version = data[0] >> 4
        if version == 4:
            at, protocol = (data[0] & 0xF) * 4, data[9]
            if struct.unpack_from("!H", data, 6)[0] & 0x1FFF:
                return None
            end = struct.unpack_from("!H", data, 2)[0]
            source: IPv4Address | IPv6Address = IPv4Address(data[12:16])
            destination: IPv4Address | IPv6Address = IPv4Address(data[16:20])
        elif version == 6:
            at, protocol = 40, data[6]
            end = 40 + struct.unpack_from("!H", data, 4)[0]
            source, destination = IPv6Address(data[8:24]), IPv6Address(data[24:40])
            while protocol in EXTENSIONS:
                protocol, at = data[at], at + (data[at + 1] + 1) * 8
        else:
            return None
        port, destination_port = struct.unpack_from("!HH", data, at)
        flow = Flow(source, port, destination, destination_port)
        # A packet that offloading has put together may be longer than its header can say.
        end = end if end > at else len(data)
        if protocol == socket.IPPROTO_UDP:
            return Packet(protocol, flow, None, data[at + 8 : end])
        if protocol != socket.IPPROTO_TCP:
            return None
        flags = data[at + 13]
        opening = struct.unpack_from("!I", data, at + 4)[0] if flags & (SYN | ACK) == SYN else None
        return Packet(protocol, flow, opening, data[at + (data[at + 12] >> 4) * 4 : end])
    except (IndexError, struct.error, ValueError):
        return None
