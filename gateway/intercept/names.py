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
    under_way: bool = False
    """It is being looked up."""


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

    def tried(self, host: str) -> bool:
        """Whether it has been looked up, whatever came of it."""
        found = self._hosts.get(host)
        return found is None or bool(found.seen) or found.error is not None

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
        """For ever. A host whose name servers are slow keeps no other one waiting."""
        async with asyncio.TaskGroup() as group:
            while True:
                now_s = time.monotonic()
                idle = {name: known for name, known in self._hosts.items() if not known.under_way}
                for name, known in idle.items():
                    if known.refresh_at_s <= now_s:
                        known.under_way = True
                        group.create_task(self._refresh(name, known))
                next_s = min((known.refresh_at_s for known in idle.values() if not known.under_way), default=None)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if next_s is None else max(0.0, next_s - now_s)):
                        await self._woken.wait()
                self._woken.clear()

    async def _refresh(self, name: str, known: HostAddresses) -> None:
        """What this host's resolver says counts at once: DNS itself, which tells the TTL, may be slow or away."""
        asking = asyncio.create_task(_by_dns(name))
        found, error = await _by_host(name)
        self._note(known, found)
        try:
            by_dns, ttl_s = await asking
        except Exception as reason:  # noqa: BLE001  # whatever stands in resolv.conf, and whatever an answer holds
            by_dns, ttl_s = [], None
            error = error or str(reason)
        self._note(known, by_dns)
        found += by_dns
        known.error = None if found else error
        if found:
            wait_s = min(LONGEST_S, max(SHORTEST_S, WITHOUT_TTL_S if ttl_s is None else ttl_s))
        else:  # a resolver that fails says nothing about the addresses that are known
            wait_s = AGAIN_S
            log.warning("a host's addresses are not known", extra={"host": name, "reason": error})
        known.refresh_at_s = time.monotonic() + wait_s
        known.under_way = False
        self._looked_up.set()
        self._woken.set()

    def _note(self, known: HostAddresses, found: list[str]) -> None:
        """Addresses that were seen just now."""
        if not found:
            return
        now_s = time.monotonic()
        before = set(known.seen)
        known.seen |= dict.fromkeys(found, now_s)
        fresh = sorted(known.seen.items(), key=lambda item: -item[1])[:MOST_ADDRESSES]
        known.seen = {address: seen for address, seen in fresh if now_s - seen < KEPT_S}
        if set(known.seen) != before:
            self.on_change()
        self._looked_up.set()


async def _by_host(name: str) -> tuple[list[str], str | None]:
    """As any program on this host would."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(LOOKUP_S):
            found = await loop.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except TimeoutError:
        return [], "the resolver does not answer"
    except (OSError, UnicodeError, RuntimeError) as error:  # the last one: no thread can be started
        return [], getattr(error, "strerror", None) or str(error)
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
