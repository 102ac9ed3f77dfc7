"""Where an app may go through the forward proxy, and to which addresses a name may lead.

An entry is a host (`api.example.com`), all below a domain (`*.example.com`), an address or network (`10.0.0.7`,
`10.0.0.0/8`), or `*`; with `:PORT` or `:*` behind it, else for ports 80 and 443; with `tcp://` before it for protocols
other than TLS and HTTP.

Names may lead anywhere in DNS. So what an entry allows by name never leads to this host, the local link or a cloud's
metadata service, and a pattern never into a private network: such addresses must be written down themselves.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self, TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

WEB_PORTS: Final = frozenset((80, 443))
LONGEST_HOST: Final = 253
OPAQUE: Final = "tcp://"
METADATA: Final = frozenset(
    map(ipaddress.ip_address, ("169.254.169.254", "fd00:ec2::254", "100.100.100.200", "168.63.129.16"))
)
"""Instance metadata: link-local in most clouds; AWS over IPv6, Alibaba and Azure have addresses of their own."""
_NAME_BYTES: Final = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One entry. Exactly one of `host` (lower case; a pattern with `*`) and `network` is set."""

    text: str
    """As it was written."""
    host: str | None = None
    network: Network | None = None
    ports: frozenset[int] | None = WEB_PORTS
    """None = all."""
    opaque: bool = False
    """Anything may be spoken, not TLS and HTTP alone."""

    @property
    def is_pattern(self) -> bool:
        return self.host is not None and "*" in self.host

    def names(self, host: str, port: int) -> bool:
        """Whether it allows this host (lower case; addresses without brackets) on this port."""
        if self.ports is not None and port not in self.ports:
            return False
        if self.network is not None:
            address = address_of(host)
            return address is not None and (address in self.network or plain_address(address) in self.network)
        wanted = self.host or ""
        if wanted == "*":
            return True
        return host.endswith(wanted[1:]) and len(host) >= len(wanted) if wanted.startswith("*.") else host == wanted


class Egress:
    """All that one app may reach."""

    __slots__ = ("_destinations",)

    def __init__(self, destinations: Iterable[Destination]) -> None:
        self._destinations = tuple(destinations)

    def find(self, host: str, port: int) -> Destination | None:
        """The entry by which the app may go there: one that allows any protocol before one that does not, an exact one
        before a pattern."""
        fitting = [each for each in self._destinations if each.names(host, port)]
        return min(fitting, key=lambda each: (not each.opaque, each.is_pattern), default=None)

    def allows_address(self, by: Destination, address: Address, port: int) -> bool:
        """Whether the name that `by` allows may lead to this address."""
        address = plain_address(address)
        written = str(address)
        if by.network is not None or any(each.network and each.names(written, port) for each in self._destinations):
            return True
        if by.host == "localhost":
            return address.is_loopback
        if reaches_this_host(address):
            return False
        return address.is_global or not by.is_pattern


def reaches_this_host(address: Address) -> bool:
    """Addresses that mean this host or its link, whatever the network: loopback, link-local, unspecified, metadata."""
    address = plain_address(address)
    return (
        address.is_loopback
        or address.is_link_local
        or address.is_unspecified
        or address.is_multicast
        or address in METADATA
        or (isinstance(address, ipaddress.IPv4Address) and (address.is_reserved or int(address) >> 24 == 0))
    )


def plain_address(address: Address) -> Address:
    """The IPv4 address within one of IPv6's ways to write it (mapped, 6to4, NAT64), else the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if int(address) >> 32 == int(ipaddress.IPv6Address("64:ff9b::")) >> 32:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def address_of(host: str) -> Address | None:
    """The address where a host is written as one. Only the canonical forms: `127.1` and `0x7f000001` are names here,
    and no name looks like that."""
    try:
        return ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return None


def parse_destination(text: str) -> Destination:
    """Raises ValueError saying what is wrong."""
    rest = text.strip().lower()
    opaque = rest.startswith(OPAQUE)
    rest = rest.removeprefix(OPAQUE)
    host, ports = _cut_port(rest)
    if "/" in host or address_of(host) is not None:
        try:
            network = ipaddress.ip_network(host)
        except ValueError as error:
            raise ValueError(str(error)) from None
        return Destination(text=text, network=network, ports=ports, opaque=opaque)
    host = host.removesuffix(".")
    bare = host.removeprefix("*.")
    if rest.startswith("*.") and host == "*":
        raise ValueError(f"{text!r} names no domain")
    if host != "*" and (
        not bare
        or len(bare) > LONGEST_HOST
        or not _NAME_BYTES.issuperset(bare)
        or bare.startswith((".", "-"))
        or looks_like_address(bare)
    ):
        raise ValueError(f"{text!r} is neither a host, `*.domain`, an address, a network nor `*`")
    return Destination(text=text, host=host, ports=ports, opaque=opaque)


def looks_like_address(host: str) -> bool:
    """Old resolvers take `127.1`, `0x7f.1` and `2130706433` for addresses: no name ends in a label of digits
    (WHATWG URL, "ends in a number")."""
    last = host.rstrip(".").rpartition(".")[2]
    return last.isdigit() or (last.startswith("0x") and all(sign in "0123456789abcdef" for sign in last[2:]))


def _cut_port(text: str) -> tuple[str, frozenset[int] | None]:
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} has a bracket without its other half")
        port = rest[1:]
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        return text, WEB_PORTS  # no port; or an IPv6 address or network as it is
    if port == "*":
        return host, None
    if not port:
        return host, WEB_PORTS
    if not (port.isascii() and port.isdigit()) or not 0 < int(port) < 65536:
        raise ValueError(f"{port!r} is not a port")
    return host, frozenset((int(port),))


@dataclass(frozen=True, slots=True)
class Sources:
    """Networks by which callers without a key are known; the smallest that holds an address wins."""

    networks: tuple[tuple[Network, str], ...] = ()
    """With the name of the app; the smallest first."""

    @classmethod
    def of(cls, apps: Iterable[tuple[str, str]]) -> Self:
        """`apps`: network and name of the app."""
        parsed = [(ipaddress.ip_network(network), name) for network, name in apps]
        return cls(tuple(sorted(parsed, key=lambda pair: pair[0].prefixlen, reverse=True)))

    def __bool__(self) -> bool:
        return bool(self.networks)

    def app_at(self, client_ip: str) -> str | None:
        """The name of the app whose this address is."""
        address = address_of(client_ip)
        if address is None:
            return None
        address = plain_address(address)
        return next((name for network, name in self.networks if address in network), None)
