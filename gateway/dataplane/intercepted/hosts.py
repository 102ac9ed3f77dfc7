"""Whether a Host header and a destination agree: a name that leads elsewhere must not choose the route."""

import asyncio
import socket
import time
from typing import Final

from gateway.policy.egress import address_of
from gateway.policy.interception import InterceptionRule

LOOKUP_S: Final = 3.0
KEPT_S: Final = 30.0
MOST_KEPT: Final = 4096


class Hosts:
    """Addresses of names: those that the agent follows, and others looked up as this host's resolver knows them."""

    def __init__(self) -> None:
        self._followed: dict[str, frozenset[str]] = {}
        self._looked_up: dict[str, tuple[float, frozenset[str]]] = {}

    def follow(self, hosts: dict[str, list[str]]) -> None:
        """What the agent knows."""
        self._followed = {name: frozenset(addresses) for name, addresses in hosts.items()}

    def agrees_at_once(self, host: str, destination: str) -> bool | None:
        """`host` in lower case, without port. None: it has to be looked up."""
        literal = address_of(host.strip("[]"))
        if literal is not None:
            return str(literal) == destination
        if destination in self._followed.get(host, ()):
            return True
        kept = self._looked_up.get(host)
        if kept is not None and kept[0] > time.monotonic():
            return destination in kept[1]
        return None

    async def agrees(self, host: str, destination: str) -> bool:
        """As above, looked up where need be; a name that nobody knows agrees with nothing."""
        known = self.agrees_at_once(host, destination)
        if known is not None:
            return known
        try:
            async with asyncio.timeout(LOOKUP_S):
                found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            found = []
        addresses = frozenset(str(info[4][0]).split("%")[0] for info in found)
        if len(self._looked_up) >= MOST_KEPT:
            self._looked_up.clear()
        self._looked_up[host] = (time.monotonic() + KEPT_S, addresses)
        return destination in addresses

    def name_of(self, rule: InterceptionRule, destination: str) -> str:
        """What the destination is called by the rule; the address itself where it has no name there."""
        for host in rule.hosts:
            if destination in self._followed.get(host, ()):
                return host
        return f"[{destination}]" if ":" in destination else destination
