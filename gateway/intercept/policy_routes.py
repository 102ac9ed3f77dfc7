"""Policy rules and routes that bring captured packets to a local socket, under a protocol number of our own.

    pref 9099 iif lo fwmark FORWARDED lookup main    the reverse path check sees the real route: no sysctl is changed
    pref 9100 fwmark FORWARDED        lookup TABLE
    pref 9101 fwmark LOCAL            lookup TABLE   TABLE: local default dev lo

They stay when the agent dies, and do nothing then: no packet has the marks.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any, Final

from pyroute2 import AsyncIPRoute
from pyroute2.netlink.exceptions import NetlinkError

from gateway.intercept import canary
from gateway.intercept.bridges import Bridge, read_bridges
from gateway.intercept.marks import Marks

PROTOCOL: Final = 83
"""Of our rules and routes (rtnetlink(7): FRA_PROTOCOL, rtm_protocol). Daemons that remove what is foreign to them go by
it; so do we."""
TABLE: Final = 9100
MAIN: Final = 254
PREFERENCES: Final = (9099, 9100, 9101)
FAMILIES: Final = (socket.AF_INET, socket.AF_INET6)
LOCAL_ROUTE: Final = 2
"""RTN_LOCAL (linux/rtnetlink.h)."""
EXISTS: Final = 17
_GROUPS: Final = 1 | 1 << 3 | 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 18
"""RTMGRP of links, IPv4/IPv6 addresses, routes and rules; see linux/rtnetlink.h: group n is bit n - 1."""


class PolicyRoutes:
    """Use as an async context manager."""

    def __init__(self) -> None:
        self._netlink = AsyncIPRoute()
        self.ipv6 = True
        """Whether this host has IPv6 at all."""

    async def __aenter__(self) -> "PolicyRoutes":
        await self._netlink.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._netlink.__aexit__(*exc_info)

    async def ensure(self, marks: Marks) -> list[str]:
        """Put in place what is missing. Returns what was. Raises NetlinkError."""
        mended = []
        loopback = (await self._netlink.link_lookup(ifname="lo"))[0]
        for family in FAMILIES:
            wanted = (
                (PREFERENCES[0], marks.forwarded, MAIN, "lo"),
                (PREFERENCES[1], marks.forwarded, TABLE, None),
                (PREFERENCES[2], marks.local, TABLE, None),
            )
            try:
                present = [self._rule_key(rule) for rule in await self._rules(family)]
                for stale in [key for key in present if key not in wanted]:
                    await self._rule("del", family, stale)
                for key in wanted:
                    if key not in present:
                        await self._rule("add", family, key)
                        mended.append(f"policy rule {key[0]} of {_name(family)}")
                routes = (self._route(family, loopback), _canary_route(family, loopback))
                added = [str(route["dst"]) for route in routes if await self._add_route(route)]
                mended += [f"the route to {place}" for place in added]
            except NetlinkError:
                if family == socket.AF_INET:
                    raise
                self.ipv6 = False
        return mended

    async def remove(self) -> None:
        """All that has our protocol number."""
        for family in FAMILIES:
            with contextlib.suppress(NetlinkError):
                for rule in await self._rules(family):
                    await self._rule("del", family, self._rule_key(rule))
            loopback = (await self._netlink.link_lookup(ifname="lo"))[0]
            for route in (self._route(family, loopback), _canary_route(family, loopback)):
                with contextlib.suppress(NetlinkError):
                    await self._netlink.route("del", **route)

    async def bridges(self) -> tuple[Bridge, ...]:
        """Of this host. Raises NetlinkError."""
        return await read_bridges(self._netlink)

    async def fwmarks(self) -> list[tuple[int, int]]:
        """Values and masks that rules of others look at."""
        found = []
        for family in FAMILIES:
            async for rule in await self._netlink.get_rules(family=family):
                value = rule.get("fwmark")
                if value is not None and rule.get("protocol") != PROTOCOL:
                    found.append((int(value), int(rule.get("fwmask") or 0xFFFFFFFF)))
        return found

    async def _rules(self, family: int) -> list[Any]:
        return [rule async for rule in await self._netlink.get_rules(family=family) if rule.get("protocol") == PROTOCOL]

    @staticmethod
    def _rule_key(rule: Any) -> tuple[int, int, int, str | None]:
        return (
            int(rule.get("priority") or 0), int(rule.get("fwmark") or 0), int(rule.get("table")), rule.get("iifname")
        )  # fmt: skip

    async def _rule(self, command: str, family: int, key: tuple[int, int, int, str | None]) -> None:
        priority, mark, table, interface = key
        options: dict[str, Any] = {} if interface is None else {"iifname": interface}
        await self._netlink.rule(
            command,
            family=family,
            priority=priority,
            fwmark=mark,
            fwmask=mark,
            table=table,
            protocol=PROTOCOL,
            **options,
        )

    @staticmethod
    def _route(family: int, loopback: int) -> dict[str, Any]:
        return {
            "family": family,
            "dst": "0.0.0.0/0" if family == socket.AF_INET else "::/0",
            "type": LOCAL_ROUTE,
            "table": TABLE,
            "oif": loopback,
            "proto": PROTOCOL,
            "scope": 254 if family == socket.AF_INET else 0,
        }

    async def _add_route(self, route: dict[str, Any]) -> bool:
        try:
            await self._netlink.route("add", **route)
        except NetlinkError as error:
            if error.code == EXISTS:
                return False
            raise
        return True


async def changes() -> AsyncIterator[str]:
    """Names of rtnetlink messages as they come (`RTM_DELRULE`, `RTM_NEWLINK`, …): what somebody does to links,
    addresses, routes and rules of this host."""
    async with AsyncIPRoute() as netlink:
        await netlink.bind(_GROUPS)
        while True:
            async for message in netlink.get():
                yield str(message.get("event", ""))
            await asyncio.sleep(0)


def _canary_route(family: int, loopback: int) -> dict[str, Any]:
    """A canary needs some route before its mark can give it another."""
    address = canary.PLACES[socket.AddressFamily(family)]
    return {
        "family": family,
        "dst": f"{address}/{32 if family == socket.AF_INET else 128}",
        "table": MAIN,
        "oif": loopback,
        "proto": PROTOCOL,
        "prefsrc": "127.0.0.1" if family == socket.AF_INET else "::1",
    }


def _name(family: int) -> str:
    return "IPv4" if family == socket.AF_INET else "IPv6"
