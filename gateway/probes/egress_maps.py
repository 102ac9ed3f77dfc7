"""Where the gateway may go, as the configuration says it, and as bpf/egress.c has it.

    {"type": "egress", "guard": "off" | "observe" | "enforce", "hosts": [[name, port]], "networks": [[cidr, port]],
     "anywhere": [port]}

Port 0 is any. `anywhere`: all public addresses, for patterns that apps of the forward proxy may reach. Names may lead
anywhere in DNS: a name never opens the local link or a cloud's metadata service, and only `localhost` opens loopback;
such addresses must be written themselves.
"""

import ctypes
import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

from gateway.policy.egress import Address, Network, address_of, reaches_this_host
from gateway.probes.program import Program
from gateway.probes.trace_events import Who

ALLOWED, REFUSED = 1, 2
PORT_BITS: Final = 32
MAPPED: Final = "::ffff:0:0/96"
NOT_PUBLIC: Final = tuple(
    ipaddress.ip_network(each)
    for each in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
        "::/96", "64:ff9b::/96", "2002::/16", "fc00::/7", "fe80::/10", "ff00::/8",
    )
)  # fmt: skip
"""IANA's special-purpose registries, Azure's metadata, and IPv6's ways to write an IPv4 address."""


class Prefix(ctypes.Structure):
    """`struct prefix`"""

    _fields_ = (("bits", ctypes.c_uint32), ("port", ctypes.c_uint32), ("to", ctypes.c_uint8 * 16))


class EgressEvent(ctypes.Structure):
    """`struct egress_event`"""

    _fields_ = (
        ("who", Who), ("at_ns", ctypes.c_uint64), ("to", ctypes.c_uint8 * 16), ("port", ctypes.c_uint32),
        ("protocol", ctypes.c_uint32), ("refused", ctypes.c_uint32), ("pad", ctypes.c_uint32),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """The message, checked."""

    guard: str = "off"
    hosts: frozenset[tuple[str, int]] = frozenset()
    networks: frozenset[tuple[Network, int]] = frozenset()
    anywhere: frozenset[int] = frozenset()

    @classmethod
    def of(cls, message: Mapping[str, Any]) -> Self:
        """Raises ValueError, KeyError, TypeError."""
        if message["guard"] not in ("off", "observe", "enforce"):
            raise ValueError(f"{message['guard']!r} is no mode")
        hosts, networks = set(), set()
        for host, port in message["hosts"]:
            written = address_of(host)
            if written is None:
                hosts.add((str(host).lower(), int(port)))
            else:
                networks.add((ipaddress.ip_network(written), int(port)))
        networks |= {(ipaddress.ip_network(each, strict=False), int(port)) for each, port in message["networks"]}
        return cls(message["guard"], frozenset(hosts), frozenset(networks), frozenset(map(int, message["anywhere"])))


class Allowed:
    """What is allowed at this moment: prefixes by port, of which the longest decides."""

    def __init__(self, wanted: Wanted, addresses: Mapping[str, Iterable[str]], name_servers: Iterable[str]) -> None:
        """`addresses`: of the hosts, as DNS has them now."""
        self.entries: dict[tuple[int, Network], int] = {}
        self.refused_names: dict[str, str] = {}
        """Names that lead to where no name may, and where that is."""
        for port in wanted.anywhere:
            self.entries |= {(port, each): REFUSED for each in NOT_PUBLIC}
            self.entries |= {(port, ipaddress.ip_network(each)): ALLOWED for each in ("0.0.0.0/0", "::/0")}
        for host, port in wanted.hosts:
            for text in addresses.get(host, ()):
                address = ipaddress.ip_address(text)
                if _may_lead(host, address):
                    self.entries[port, ipaddress.ip_network(address)] = ALLOWED
                else:
                    self.refused_names[host] = text
        for server in name_servers:
            self.entries[53, ipaddress.ip_network(server.split("%")[0])] = ALLOWED
        self.entries |= {(port, network): ALLOWED for network, port in wanted.networks}

    def permits(self, address: Address, port: int) -> bool:
        """As the kernel decides."""
        for each in (port, 0):
            fitting = [
                (network.prefixlen, verdict)
                for (at, network), verdict in self.entries.items()
                if at == each and network.version == address.version and address in network
            ]
            if fitting and max(fitting)[1] == ALLOWED:
                return True
        return False


def _may_lead(host: str, address: Address) -> bool:
    if address.is_loopback:
        return host == "localhost" or host.endswith(".localhost")
    return not reaches_this_host(address)


def prefix_of(port: int, network: Network) -> Prefix:
    bits, raw = network.prefixlen, network.network_address.packed
    if network.version == 4:
        bits, raw = bits + 96, bytes(10) + b"\xff\xff" + raw
    return Prefix(PORT_BITS + bits, port, (ctypes.c_uint8 * 16)(*raw))


class EgressMaps:
    """What the kernel goes by."""

    def __init__(self, program: Program) -> None:
        """Raises ProgramRefused."""
        program.check_layout("allowed", Prefix, key=True)
        self._allowed = program.table("allowed")
        self._own = program.table("own")
        self._enforcing = program.table("enforcing")
        self._written: dict[tuple[int, Network], int] = {}

    def write(self, allowed: Allowed, *, enforcing: bool) -> int:
        """These, and no others; how many there was no room for. What is new is there before what is old goes."""
        without = 0
        for key, verdict in allowed.entries.items():
            if self._written.get(key) != verdict:
                try:
                    self._allowed[prefix_of(*key)] = ctypes.c_uint32(verdict)
                    self._written[key] = verdict
                except Exception:  # noqa: BLE001 - bcc raises nothing narrower
                    without += 1
        for key in self._written.keys() - allowed.entries.keys():
            del self._allowed[prefix_of(*key)]
            del self._written[key]
        self._enforcing[ctypes.c_int(0)] = ctypes.c_uint32(enforcing)
        return without

    def own(self, pids: Iterable[int]) -> None:
        """Processes of the gateway's, beside those that they have forked."""
        for pid in pids:
            self._own[ctypes.c_uint32(pid)] = ctypes.c_uint8(1)

    def owned(self) -> frozenset[int]:
        return frozenset(key.value for key in self._own)

    def disown(self, pids: Iterable[int]) -> None:
        for pid in pids:
            try:
                del self._own[ctypes.c_uint32(pid)]
            except KeyError:
                continue  # it has just ended
