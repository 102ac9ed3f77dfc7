"""The nftables table that copies the interesting packets of what this host forwards. It drops nothing, changes nothing,
and tracks no connection.

It belongs to this process's netlink socket (`flags owner`) and is gone with it; `nft flush ruleset` passes it by. Its
chain comes after the filters: what those refuse is no conversation.

    b4, b6  bytes by client, provider's address and port: IP packets of both directions, headers and all
    h4, h6  connections whose ClientHello has begun; what follows it within two seconds is copied, too, some packets
    p4, p6  addresses that belong to providers' hosts, as far as is known
"""

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address
from typing import Final

from gateway.probes.stamps import Address, plain_address

NAMES: Final = ("sluicegate_watch", "sluicegate_watch_2")
"""Two: over an upgrade the table of the release before stands beside that of its successor."""
COPIED_BYTES: Final = 2200
MOST_A_SECOND: Final = 2000
"""Packets that are copied, of each of the kinds: openings and ClientHellos, HTTP, DNS."""
MOST_ADDRESSES: Final = 16_384
MOST_COUNTED: Final = 4096
MOST_HELLOS: Final = 4096
KINDS: Final = ("hellos", "http", "dns")
_SYN: Final = "tcp flags & (fin | syn | rst | ack) == syn"
_HELLO: Final = "meta l4proto tcp @ih,0,16 0x1603 @ih,40,8 1"
"""A handshake record whose message is a ClientHello (RFC 8446 4, 5.1): servers send none."""
_METHODS: Final = ("GET ", "POST", "PUT ", "HEAD", "DELE", "PATC", "OPTI", "CONN")
_QUIC_INITIAL: Final = "udp dport 443 @th,64,4 0xc"
"""RFC 9000 17.2.2"""
_COUNTED: Final = re.compile(r"([0-9a-f.:]+) \. ([0-9a-f.:]+) \. (\d+)[^,{}]*? counter packets \d+ bytes (\d+)")
_OVER: Final = re.compile(r"packets (\d+) bytes \d+")


def table(name: str, group: int, mark: int, *, payloads: bool) -> str:
    """The commands that make it. `mark`: of the gateway's own packets, 0 for none. `payloads`: look into them, which
    Linux can since 5.16 (`@ih`); without, connections to known addresses are all that is seen."""
    place = f"inet {name}"
    commands = [f"add table {place} {{ flags owner; }}"]
    for kind, of_type in (("4", "ipv4_addr"), ("6", "ipv6_addr")):
        three = f"{of_type} . {of_type} . inet_service"
        four = f"{of_type} . inet_service . {of_type} . inet_service"
        commands += [
            f"add set {place} p{kind} {{ type {of_type}; size {MOST_ADDRESSES}; }}",
            f"add set {place} h{kind} {{ type {four}; size {MOST_HELLOS}; flags dynamic, timeout; }}",
            f"add set {place} b{kind} {{ type {three}; size {MOST_COUNTED}; flags dynamic, timeout; }}",
        ]
    few = f"limit rate {MOST_A_SECOND}/second burst {MOST_A_SECOND} packets"
    for what in KINDS:
        commands += [
            f"add counter {place} over_{what}",
            f"add chain {place} {what}",
            f"add rule {place} {what} {few} log group {group} snaplen {COPIED_BYTES} return",
            f"add rule {place} {what} counter name over_{what}",
        ]
    commands += [
        f"add chain {place} ours",
        f"add chain {place} through {{ type filter hook forward priority filter + 10; policy accept; }}",
        *(f"add rule {place} through {rule}" for rule in _rules(payloads)),
    ]
    return "\n".join(commands) + "\n" + ours(name, mark)


def ours(name: str, mark: int) -> str:
    """Pass by what bears this mark."""
    rule = f"add rule inet {name} ours meta mark & {mark:#x} != 0 accept\n" if mark else ""
    return f"flush chain inet {name} ours\n{rule}"


def _rules(payloads: bool) -> Iterator[str]:
    families = (("4", "ip"), ("6", "ip6"))
    yield "jump ours"
    yield "udp sport 53 @th,80,1 1 goto dns"
    for kind, ip in families:
        yield f"{_QUIC_INITIAL} {ip} daddr @p{kind} goto hellos"
    yield "meta l4proto != tcp return"
    for kind, ip in families:
        for here, there, port in (("saddr", "daddr", "dport"), ("daddr", "saddr", "sport")):
            key = f"{ip} {here} . {ip} {there} . tcp {port}"
            yield f"{ip} {there} @p{kind} update @b{kind} {{ {key} timeout 10m counter }}"
    for kind, ip in families:
        yield f"{_SYN} {ip} daddr @p{kind} goto hellos"
    if not payloads:
        return
    yield f"{_SYN} return"
    few = "limit rate 2/second burst 8 packets"
    for kind, ip in families:
        key = f"{ip} saddr . tcp sport . {ip} daddr . tcp dport"
        yield f"{_HELLO} add @h{kind} {{ {key} timeout 2s {few} }}"
    yield f"{_HELLO} goto hellos"
    for kind, ip, bare in (("4", "ip", 80), ("6", "ip6", 100)):  # what is longer has a payload
        key = f"{ip} saddr . tcp sport . {ip} daddr . tcp dport"
        yield f"meta length > {bare} {key} @h{kind} add @h{kind} {{ {key} {few} }} goto hellos"
    methods = ", ".join(f"{int.from_bytes(method.encode(), 'big'):#x}" for method in _METHODS)
    yield f"@ih,0,32 {{ {methods} }} goto http"


def add_addresses(name: str, addresses: Iterable[Address]) -> str:
    by_kind: dict[str, list[str]] = {"4": [], "6": []}
    for address in addresses:
        by_kind["4" if isinstance(address, IPv4Address) else "6"].append(str(address))
    return "".join(
        f"add element inet {name} p{kind} {{ {', '.join(listed)} }}\n" for kind, listed in by_kind.items() if listed
    )


def set_addresses(name: str, addresses: Iterable[Address]) -> str:
    """These and no others."""
    return f"flush set inet {name} p4\nflush set inet {name} p6\n" + add_addresses(name, addresses)


def counted(listing: str) -> Iterator[tuple[tuple[Address, Address, int], int]]:
    """From what `list set` shows of b4 or b6: client, address and port; bytes."""
    for client, address, port, count in _COUNTED.findall(listing):
        yield (plain_address(client), plain_address(address), int(port)), int(count)


def not_copied(listing: str) -> int:
    """From what `list counter` shows: packets."""
    found = _OVER.search(listing)
    return int(found[1]) if found else 0
