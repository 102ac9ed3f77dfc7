"""One captured connection: which rule caught it, where it comes from, where it wanted to go."""

import asyncio
import contextlib
import ipaddress
import socket
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from gateway.dataplane.intercepted.whose import Identity
from gateway.policy.callers import Attested
from gateway.policy.interception import InterceptionRule

IP_TRANSPARENT: Final = 19
"""linux/in.h; IPV6_TRANSPARENT is in linux/in6.h. Python's socket module names neither."""
IPV6_TRANSPARENT: Final = 75

ORIGINAL_DESTINATION: Final = 80
"""SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST: linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h."""
SOCKADDR_BYTES: Final = 28
"""Of struct sockaddr_in6; that of IPv4 is shorter."""

Place = tuple[str, int]
"""Address (IPv4 as such, never mapped) and port."""


@dataclass(slots=True)
class Flow:
    rule: InterceptionRule
    client: Place
    destination: Place
    redirected: bool = False
    """By address translation: it came in by a bridge (`intercept.ruleset`)."""
    protocol: str = "unknown"
    """What was spoken: `http/1`, `h2`, `tls`, `other`, `silent` (the server spoke first)."""
    server_name: str | None = None
    """What the ClientHello asked for."""
    encrypted_hello: bool = False
    """The name may be a cover for another one."""
    terminated: bool = False
    """We hold the TLS session."""
    identity: Identity | None = None
    """Whose process the client is, where the kernel has told (`whose`)."""
    attested: Attested | None = None
    """All that the kernel has told of it, where the rule lets somebody in by that."""
    asking: "asyncio.Task[None] | None" = None
    """The question that is on its way."""
    bytes_in: int = 0
    bytes_out: int = 0
    outcome: str = "open"
    started_s: float = field(default_factory=time.time)

    @property
    def host(self) -> str:
        """What its TLS is about: the name that was asked for, else the address."""
        return self.server_name or self.destination[0]

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.destination[0] else socket.AF_INET

    def ended(self, outcome: str) -> dict[str, Any]:
        """What is told of it when it has ended, JSON-ready (`api.interception.EndedFlow`)."""
        self.outcome = outcome
        who = self.identity
        return {
            "rule": self.rule.name,
            "client": self.client[0],
            "destination": self.destination[0],
            "port": self.destination[1],
            "protocol": self.protocol,
            "server_name": self.server_name,
            "encrypted_hello": self.encrypted_hello,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "terminated": self.terminated,
            "outcome": outcome,
            "process": who and who.process,
            "user": who and who.user,
            "container": who and who.container,
            "started_at": datetime.fromtimestamp(self.started_s, UTC).isoformat(timespec="milliseconds"),
            "seconds": round(time.time() - self.started_s, 3),
        }


def redirected_from(sock: socket.socket, arrived_at: Place) -> Place | None:
    """Where a connection wanted to go that the kernel has redirected to `arrived_at` (what comes in by a bridge:
    `intercept.ruleset`); None: it wanted to come here."""
    level = socket.IPPROTO_IPV6 if ":" in arrived_at[0] else socket.IPPROTO_IP
    try:
        told = sock.getsockopt(level, ORIGINAL_DESTINATION, SOCKADDR_BYTES)
    except OSError:  # not known to conntrack
        return None
    address = told[8:24] if level == socket.IPPROTO_IPV6 else told[4:8]
    wanted = str(ipaddress.ip_address(address)), int.from_bytes(told[2:4], "big")
    return None if wanted == arrived_at else wanted


def give_up_transparency(sock: socket.socket) -> None:
    """Of a redirected connection, which has it from its listener. A client may use one port to several servers at once;
    the kernel gives the second connection another port, but looks for its socket before, and where it found that of the
    first it mends this for ordinary sockets alone (nf_nat_ipv4_local_in in net/netfilter/nf_nat_proto.c)."""
    with contextlib.suppress(OSError):
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_TRANSPARENT, 0)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_TRANSPARENT, 0)


def place_of(name: tuple[Any, ...]) -> Place:
    """Of what `getsockname` and `getpeername` say. On a listener for both families IPv4 comes mapped into IPv6."""
    address = ipaddress.ip_address(str(name[0]).split("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address), int(name[1])
