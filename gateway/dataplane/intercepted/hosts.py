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

    def judge_at_once(self, host: str, rule: InterceptionRule, destination: str) -> str | None:
        """The name under which a request is looked for among the routes: `host` (its Host header in lower case, without
        port) where that agrees with the destination, else what the destination is called. None: to be looked up."""
        literal = address_of(host.strip("[]"))
        if literal is not None:
            return host if str(literal) == destination else self.name_of(rule, destination)
        if destination in self._followed.get(host, ()):
            return host
        kept = self._looked_up.get(host)
        if kept is None or kept[0] <= time.monotonic():
            return None
        return self._judge(host, kept[1], rule, destination)

    async def judge(self, host: str, rule: InterceptionRule, destination: str) -> str:
        """As above, looked up where need be."""
        known = self.judge_at_once(host, rule, destination)
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
        return self._judge(host, addresses, rule, destination)

    def _judge(self, host: str, addresses: frozenset[str], rule: InterceptionRule, destination: str) -> str:
        if destination in addresses:
            return host
        named = self.name_of(rule, destination)
        if not addresses and address_of(named.strip("[]")) is not None:
            return host  # nobody knows of another place that it leads to, nor of another name of this one
        return named

    def name_of(self, rule: InterceptionRule, destination: str) -> str:
        """What the destination is called by the rule; the address itself where it has no name there."""
        for host in rule.hosts:
            if destination in self._followed.get(host, ()):
                return host
        return f"[{destination}]" if ":" in destination else destination
