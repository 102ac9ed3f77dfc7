"""For whom the certificate authority may sign: name constraints (RFC 5280 4.2.1.10), as text and in its certificate.

A host stands for itself and all names below it, which is what a constraint on DNS names says. A form of name that is
not permitted at all (every DNS name, every IPv4 or IPv6 address) is excluded by name: a certificate that is silent
about a form leaves it free.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses, ip_address, ip_network
from typing import Final, TypeAlias

from cryptography import x509

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Network | IPv6Network

MOST_NAME_CHARACTERS: Final = 253
_NAME: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*")
_ALL_DNS: Final = x509.DNSName("")
_ALL_IPV4: Final = x509.IPAddress(ip_network("0.0.0.0/0"))
_ALL_IPV6: Final = x509.IPAddress(ip_network("::/0"))


def subject(text: str) -> str | Address:
    """A DNS name in lower case or an address, as a client asks for it (brackets and a dot at the end are taken off).

    Raises ValueError for what no certificate of ours may name: wildcards, and names that are not ASCII (a client sends
    the A-label, RFC 5890) or not well-formed.
    """
    name = text.lower().removesuffix(".")
    try:
        return ip_address(name[1:-1] if name.startswith("[") and name.endswith("]") else name)
    except ValueError:
        pass
    if len(name) > MOST_NAME_CHARACTERS or not _NAME.fullmatch(name):
        raise ValueError(f"{text[:MOST_NAME_CHARACTERS]!r} is neither a host name nor an address")
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class Permitted:
    """Each host with all names below it, each address of the networks. Both sorted, none twice."""

    hosts: tuple[str, ...] = ()
    networks: tuple[Network, ...] = ()

    @classmethod
    def of(cls, hosts: Iterable[str], networks: Iterable[str]) -> "Permitted":
        """`hosts` may hold addresses too. Raises ValueError (`subject`)."""
        names: set[str] = set()
        found: set[Network] = {ip_network(each) for each in networks}
        for each in hosts:
            named = subject(each)
            if isinstance(named, str):
                names.add(named)
            else:
                found.add(ip_network(named))
        return cls(hosts=tuple(sorted(names)), networks=_collapsed(found))

    @classmethod
    def by(cls, certificate: x509.Certificate) -> "Permitted":
        """What a certificate of ours permits; nothing where it has no constraints. Raises ValueError for a certificate
        that is not readable."""
        try:
            trees = certificate.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees
        except x509.ExtensionNotFound:
            return cls()
        names = trees or ()
        networks = [each.value for each in names if isinstance(each, x509.IPAddress)]
        return cls(
            hosts=tuple(sorted(each.value for each in names if isinstance(each, x509.DNSName))),
            networks=_collapsed(each for each in networks if isinstance(each, IPv4Network | IPv6Network)),
        )

    def __bool__(self) -> bool:
        return bool(self.hosts or self.networks)

    def covers(self, named: str | Address) -> bool:
        """Whether a certificate for this may be signed. `named`: of `subject`."""
        if isinstance(named, str):
            return any(named == host or named.endswith("." + host) for host in self.hosts)
        return any(named in network for network in self.networks)

    def lacks(self, wanted: "Permitted") -> tuple[str, ...]:
        """Which hosts and networks of `wanted` are not covered."""
        hosts = [host for host in wanted.hosts if not self.covers(host)]
        networks = [network for network in wanted.networks if not any(_holds(mine, network) for mine in self.networks)]
        return (*hosts, *map(str, networks))

    def constraints(self) -> x509.NameConstraints:
        """The extension that permits just this. Raises ValueError where this is nothing."""
        permitted = [*map(x509.DNSName, self.hosts), *map(x509.IPAddress, self.networks)]
        versions = {network.version for network in self.networks}
        excluded: list[x509.GeneralName] = [] if self.hosts else [_ALL_DNS]
        excluded += [] if 4 in versions else [_ALL_IPV4]
        excluded += [] if 6 in versions else [_ALL_IPV6]
        if not permitted:
            raise ValueError("there is nothing to permit")
        return x509.NameConstraints(permitted_subtrees=permitted, excluded_subtrees=excluded or None)


def _collapsed(networks: Iterable[Network]) -> tuple[Network, ...]:
    known = set(networks)
    return (
        *collapse_addresses(each for each in known if isinstance(each, IPv4Network)),
        *collapse_addresses(each for each in known if isinstance(each, IPv6Network)),
    )


def _holds(outer: Network, inner: Network) -> bool:
    if isinstance(outer, IPv4Network):
        return isinstance(inner, IPv4Network) and inner.subnet_of(outer)
    return isinstance(inner, IPv6Network) and inner.subnet_of(outer)
