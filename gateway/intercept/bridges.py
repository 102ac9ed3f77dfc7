"""Bridges of this host, as far as what comes in by them is to be redirected (`ruleset`)."""

from dataclasses import dataclass
from socket import AF_INET, AF_INET6
from typing import Final

from pyroute2 import AsyncIPRoute

IFA_F_OPTIMISTIC: Final = 0x04
IFA_F_DADFAILED: Final = 0x08
IFA_F_TENTATIVE: Final = 0x40
"""linux/if_addr.h"""


@dataclass(frozen=True, slots=True, order=True)
class Bridge:
    index: int
    """By which nftables is told of it: its name may hold what nft cannot quote."""
    name: str
    mac: str
    """Frames to it are for this host; others are none of its business, whatever bridge netfilter shows of them."""
    v4: bool = False
    """This host has an address there, to which can be redirected: without one the kernel would drop."""
    v6: bool = False


async def read_bridges(netlink: AsyncIPRoute) -> tuple[Bridge, ...]:
    """In the order of their numbers. Raises NetlinkError."""
    links = [
        (int(link.get("index")), str(link.get("ifname")), str(link.get("address")))
        async for link in await netlink.link("dump", kind="bridge")
    ]
    if not links:
        return ()
    with_address: dict[int, set[int]] = {AF_INET: set(), AF_INET6: set()}
    async for address in await netlink.addr("dump"):
        flags = int(address.get("flags") or 0)
        untried = flags & IFA_F_TENTATIVE and not flags & IFA_F_OPTIMISTIC
        if address["family"] in with_address and not untried and not flags & IFA_F_DADFAILED:
            with_address[address["family"]].add(int(address.get("index")))
    return tuple(
        sorted(
            Bridge(index, name, mac, v4=index in with_address[AF_INET], v6=index in with_address[AF_INET6])
            for index, name, mac in links
        )
    )
