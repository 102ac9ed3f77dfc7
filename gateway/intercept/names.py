"""Addresses of intercepted hosts: all of them, refreshed as their TTL says, kept for a while when DNS knows better.

/etc/hosts and what else this host's resolver knows count as DNS does: applications use the same.
"""

import asyncio
import contextlib
import ipaddress
import logging
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import dns.asyncresolver
import dns.exception
import dns.rdatatype
import dns.resolver

log = logging.getLogger("sluicegate.agent")

KEPT_S: Final = 3600.0
"""How long an address stays after it was last seen: clients remember names longer than they should."""
SHORTEST_S: Final = 5.0
LONGEST_S: Final = 300.0
WITHOUT_TTL_S: Final = 15.0
"""Names that the resolver knows from elsewhere than DNS."""
AGAIN_S: Final = 3.0
"""After a failure."""
LOOKUP_S: Final = 4.0
MOST_ADDRESSES: Final = 512
"""Of one host."""


@dataclass(slots=True)
class HostAddresses:
    """What is known of one host."""

    seen: dict[str, float] = field(default_factory=dict)
    """Address → monotonic time at which it was last seen."""
    refresh_at_s: float = 0.0
    error: str | None = None
    """Why the last look-up failed."""


class Names:
    """Follows hosts."""

    def __init__(self) -> None:
        self.on_change: Callable[[], None] = lambda: None
        """Called when the addresses of any of them have changed."""
        self._hosts: dict[str, HostAddresses] = {}
        self._woken = asyncio.Event()
        self._looked_up = asyncio.Event()

    def follow(self, hosts: Iterable[str]) -> None:
        """From now on these, and no others."""
        wanted = set(hosts)
        for name in self._hosts.keys() - wanted:
            del self._hosts[name]
        for name in wanted - self._hosts.keys():
            self._hosts[name] = HostAddresses()
            self._woken.set()

    def know(self, addresses: Mapping[str, Iterable[str]]) -> None:
        """What was found before this process began; it is looked up again at once."""
        now_s = time.monotonic()
        for host, found in addresses.items():
            self._hosts[host] = HostAddresses(seen=dict.fromkeys(found, now_s))
        self._woken.set()

    def addresses(self, host: str) -> tuple[str, ...]:
        """Sorted, IPv4 and IPv6."""
        found = self._hosts.get(host)
        return () if found is None else tuple(sorted(found.seen))

    def error(self, host: str) -> str | None:
        """Why nothing is known of the host; None where something is."""
        found = self._hosts.get(host)
        if found is None or found.seen:
            return None
        return found.error or "it has not been looked up yet"

    async def looked_up(self, within_s: float) -> None:
        """Wait until each host has been looked up once, or the time is over."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not self._all_known():
                    self._looked_up.clear()
                    await self._looked_up.wait()

    def _all_known(self) -> bool:
        return all(known.seen or known.error is not None for known in self._hosts.values())

    async def run(self) -> None:
        """For ever."""
        while True:
            now_s = time.monotonic()
            due = [name for name, known in self._hosts.items() if known.refresh_at_s <= now_s]
            if due:
                changed = await asyncio.gather(*(self._refresh(name) for name in due))
                if any(changed):
                    self.on_change()
                continue
            next_s = min((known.refresh_at_s for known in self._hosts.values()), default=now_s + 3600.0)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, next_s - now_s)):
                    await self._woken.wait()
            self._woken.clear()

    async def _refresh(self, name: str) -> bool:
        known = self._hosts.get(name)
        if known is None:
            return False
        found, ttl_s, error = await look_up(name)
        now_s = time.monotonic()
        before = set(known.seen)
        for address in found[:MOST_ADDRESSES]:
            known.seen[address] = now_s
        if found:  # a resolver that fails says nothing about the addresses that are known
            known.seen = {address: seen for address, seen in known.seen.items() if now_s - seen < KEPT_S}
        known.error = None if found else error
        known.refresh_at_s = now_s + (ttl_s if found else AGAIN_S)
        self._looked_up.set()
        if error is not None and not found:
            log.warning("a host's addresses are not known", extra={"host": name, "reason": error})
        return set(known.seen) != before


async def look_up(name: str) -> tuple[list[str], float, str | None]:
    """Addresses of a name, seconds until they should be looked up again, and why there are none."""
    (by_host, host_error), (by_dns, ttl_s) = await asyncio.gather(_by_host(name), _by_dns(name))
    found = list(dict.fromkeys([*by_host, *by_dns]))
    if ttl_s is None:
        ttl_s = WITHOUT_TTL_S
    return found, min(LONGEST_S, max(SHORTEST_S, ttl_s)), host_error


async def _by_host(name: str) -> tuple[list[str], str | None]:
    """As any program on this host would."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(LOOKUP_S):
            found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except TimeoutError:
        return [], "the resolver does not answer"
    except OSError as error:
        return [], error.strerror or str(error)
    return [_plain(str(info[4][0])) for info in found], None


async def _by_dns(name: str) -> tuple[list[str], float | None]:
    """By DNS itself, which tells the TTL."""
    try:
        resolver = dns.asyncresolver.Resolver()
    except (dns.resolver.NoResolverConfiguration, OSError):
        return [], None
    resolver.lifetime = LOOKUP_S
    found: list[str] = []
    ttls: list[float] = []

    async def ask(kind: dns.rdatatype.RdataType) -> None:
        with contextlib.suppress(dns.exception.DNSException, OSError):
            answer = await resolver.resolve(name, kind, raise_on_no_answer=False)
            found.extend(_plain(record.to_text()) for record in answer)
            ttls.append(answer.expiration - time.time())

    await asyncio.gather(ask(dns.rdatatype.A), ask(dns.rdatatype.AAAA))
    return found, min(ttls) if found else None


def _plain(address: str) -> str:
    return str(ipaddress.ip_address(address.split("%")[0]))
