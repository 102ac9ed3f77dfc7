"""From the first bytes of connections and name servers' answers to what a connection is evidence of. No I/O."""

import re
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Final

import dns.exception
import dns.message
import dns.rdataclass
import dns.rdatatype

from gateway.probes.catalogue import Catalogue
from gateway.probes.stamps import Address, Flow, plain_address
from gateway.wire.client_hello import ClientHello, ClientHelloReader
from gateway.wire.errors import WireError

MOST_HELLOS: Final = 2048
"""Connections whose ClientHello has come in part."""
MOST_ADDRESSES: Final = 8192
LEAST_KEPT_S: Final = 600.0
"""An address counts as a host's at least so long: programs remember longer than they should."""
MOST_KEPT_S: Final = 86_400.0
MOST_RECORDS: Final = 256
"""Of one answer that are read."""
_HOST: Final = re.compile(rb"\r\nhost:[ \t]*([a-z0-9._-]+)(?::\d+)?[ \t]*\r\n", re.IGNORECASE)
_TARGET: Final = re.compile(rb"[A-Z]+ (?:[a-z]+://)?([a-zA-Z0-9._-]+)(?::\d+)?[ /]")
"""Of what is said to a proxy: `CONNECT host:443 HTTP/1.1`, `GET http://host/path HTTP/1.1`."""


@dataclass(frozen=True, slots=True)
class Evidence:
    provider: str
    host: str
    kind: str
    """sni, http, dns, ech, address"""


class AddressBook:
    """Which provider's host an address was given out for."""

    def __init__(self) -> None:
        self._known: OrderedDict[Address, tuple[str, str, float]] = OrderedDict()

    def note(self, address: Address, host: str, kind: str, ttl_s: float) -> bool:
        """`kind`: of the evidence that it makes. True: the address was not known. One that leads to this host itself
        says nothing of whoever else goes there."""
        if address.is_loopback or address.is_unspecified:
            return False
        kept_s = min(MOST_KEPT_S, max(LEAST_KEPT_S, ttl_s))
        before = self._known.pop(address, None)
        if before is not None and before[1] == "dns" and kind != "dns":
            host, kind = before[0], "dns"
        self._known[address] = (host, kind, time.monotonic() + kept_s)
        while len(self._known) > MOST_ADDRESSES:
            self._known.popitem(last=False)
        return before is None

    def host(self, address: Address) -> tuple[str, str] | None:
        """And the kind of evidence."""
        found = self._known.get(address)
        return found[:2] if found is not None and time.monotonic() < found[2] else None

    def addresses(self) -> list[Address]:
        return list(self._known)

    def expired(self) -> list[Address]:
        """Forgotten from now on."""
        now_s = time.monotonic()
        found = [address for address, (_, _, until_s) in self._known.items() if until_s <= now_s]
        for address in found:
            del self._known[address]
        return found


class Sightings:
    """Connections by what identifies them: their socket's cookie, or their addresses."""

    def __init__(self) -> None:
        self.catalogue = Catalogue.shipped()
        self.book = AddressBook()
        self._hellos: OrderedDict[Hashable, ClientHelloReader] = OrderedDict()

    def tls(self, key: Hashable, piece: bytes, destination: Address, *, first: bool) -> Evidence | None:
        """What the ClientHello says once it is whole; what is none says what its address says."""
        reader = ClientHelloReader() if first else self._hellos.pop(key, None)
        if reader is None:
            return None
        try:
            hello = reader.feed(piece)
        except WireError:
            return self.address(destination)
        if hello is None:
            self._hellos[key] = reader
            while len(self._hellos) > MOST_HELLOS:
                self._hellos.popitem(last=False)
            return None
        return self._of_hello(hello, destination)

    def unfinished(self, key: Hashable) -> bool:
        """Of the ClientHello more is to come."""
        return key in self._hellos

    def _of_hello(self, hello: ClientHello, destination: Address) -> Evidence | None:
        if hello.server_name is None:
            return self.address(destination)
        provider = self.catalogue.provider_of(hello.server_name)
        if provider is not None:
            return Evidence(provider, hello.server_name, "sni")
        if hello.encrypted_hello:  # the name that is meant is hidden behind the one that is read
            found = self.address(destination)
            return Evidence(found.provider, found.host, "ech") if found is not None else None
        return None

    def http(self, piece: bytes) -> Evidence | None:
        for pattern in (_HOST, _TARGET):
            found = pattern.search(piece) if pattern is _HOST else pattern.match(piece)
            if found:
                host = found[1].decode("ascii").lower().rstrip(".")
                provider = self.catalogue.provider_of(host)
                if provider is not None:
                    return Evidence(provider, host, "http")
        return None

    def address(self, destination: Address) -> Evidence | None:
        known = self.book.host(destination)
        if known is None:
            return None
        provider = self.catalogue.provider_of(known[0])  # the catalogue may be another by now
        return Evidence(provider, *known) if provider is not None else None

    def answer(self, wire: bytes) -> tuple[str | None, list[Address]]:
        """A name server's answer: the provider's host that was asked for, and its addresses that were not known."""
        fresh: list[Address] = []
        try:
            message = dns.message.from_wire(wire, ignore_trailing=True, raise_on_truncation=False)
            names = {question.name.to_text(omit_final_dot=True).lower() for question in message.question}
        except (dns.exception.DNSException, ValueError, UnicodeError):
            return None, fresh
        wanted = [name for name in names if self.catalogue.provider_of(name) is not None]
        if not wanted:
            return None, fresh
        for record in message.answer[:MOST_RECORDS]:
            if record.rdtype in (dns.rdatatype.A, dns.rdatatype.AAAA) and record.rdclass == dns.rdataclass.IN:
                for each in record:
                    address = plain_address(each.to_text())
                    if self.book.note(address, wanted[0], "dns", record.ttl):
                        fresh.append(address)
        return wanted[0], fresh


def told(evidence: Evidence, flow: Flow, at_s: float) -> dict[str, Any]:
    """What a finding says of where to."""
    return {
        "provider": evidence.provider,
        "host": evidence.host,
        "address": str(flow.destination),
        "port": flow.destination_port,
        "evidence": evidence.kind,
        "first_seen_s": at_s,
        "last_seen_s": at_s,
    }
