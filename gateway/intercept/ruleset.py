"""The two nftables tables as text: pure, so that each of their lines can be looked at and compared.

The owner table (`flags owner`) belongs to the agent's netlink socket: it captures, and is gone with the agent,
whatever ends it. The plain table outlives it: it keeps captured connections alive, refuses what is to be refused, and
counts what went by. Each line's reason stands in docs/interception.md; the kernel's side of it is in
net/netfilter/nft_tproxy.c and nft_socket.c.
"""

import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.intercept import canary
from gateway.intercept.bridges import Bridge
from gateway.intercept.marks import WHOLE, Marks
from gateway.intercept.tables import AddressSet, Chain, Table, refill
from gateway.policy.interception import InterceptionRule, Mode, OnFailure

OWNER_TABLES: Final = ("sluicegate_capture", "sluicegate_capture_2")
"""Two names: over an upgrade the table of the release before stands beside that of its successor."""
PLAIN_TABLE: Final = "sluicegate"
HEARTBEAT_S: Final = 3
"""After so long without a beat there is no capture any more, with no process left to say so."""
UPGRADE_S: Final = 120
"""The same while one release of the agent hands over to the next, which may take long on a busy host. Its death ends
the capture at once all the same."""
SYN: Final = "tcp flags & (fin | syn | rst | ack) == syn"
NOT_SYN: Final = "tcp flags & (fin | syn | rst | ack) != syn"
QUIC_PORT: Final = 443
_CANARIES: Final = (
    f"ip daddr {canary.PLACES[socket.AF_INET]} tcp dport {canary.PORT}",
    f"ip6 daddr {canary.PLACES[socket.AF_INET6]} tcp dport {canary.PORT}",
)
_REDIRECTING: Final = ("redirecting", "nat hook prerouting priority dstnat - 1")
EXEMPT_V4: Final = "127.0.0.0/8, 169.254.0.0/16, 224.0.0.0/4"
"""Loopback; link-local and with it cloud metadata; multicast."""
EXEMPT_V6: Final = "::1, fe80::/10, ff00::/8"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmedRule:
    """A rule with what this host makes of its names."""

    rule: InterceptionRule
    number: int
    """From 1 on, in the order of the rules; also names its sets and counters."""
    port: int | None = None
    """Of its transparent listener."""
    v4: tuple[str, ...] = ()
    v6: tuple[str, ...] = ()
    """Destinations: addresses and networks."""
    source_v4: tuple[str, ...] = ()
    source_v6: tuple[str, ...] = ()
    container_v4: tuple[str, ...] = ()
    container_v6: tuple[str, ...] = ()
    """Addresses of containers in `cgroups`: of what is forwarded, never of this host's own."""
    uids: tuple[int, ...] = ()
    cgroups: tuple[tuple[int, str], ...] = ()
    """Level and path, as `socket cgroupv2` wants them."""

    @property
    def members(self) -> tuple[tuple[str, ...], ...]:
        """Of its sets: what may change while the tables' rules stay as they are."""
        return (self.v4, self.v6, self.source_v4, self.source_v6, self.container_v4, self.container_v6)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What the tables depend on beside the rules."""

    marks: Marks
    bridges: tuple[Bridge, ...] = ()
    exempt_uids: tuple[int, ...] = ()
    """The gateway's own user, where its workers cannot mark their connections."""
    canary_port: int | None = None
    """Of the canary's listener, where a worker serves it."""
    owner: str = OWNER_TABLES[0]
    """The owner table's name."""


def owner_table(rules: Sequence[ArmedRule], host: HostFacts) -> Table:
    """What captures. The heartbeat is not in it: `beat` adds it."""
    marks = host.marks
    captured = [armed for armed in rules if armed.rule.mode is Mode.GOVERN and armed.port is not None]
    pre = ["meta l4proto != tcp return", *_divert(marks)]
    pre += [
        f"iif lo {SYN} meta mark & {marks.local | marks.field:#x} == {marks.local | marks.rule(armed.number):#x} "
        f"meta l4proto @hb tproxy to :{armed.port} counter name captured_{armed.number} accept"
        for armed in captured
        if armed.number <= marks.most_local_rules
    ]
    if host.canary_port is not None:
        pre.append(
            f"iif lo {SYN} meta mark & {marks.local | marks.field:#x} == {marks.local:#x} tcp dport {canary.PORT} "
            f"meta l4proto @hb tproxy to :{host.canary_port} accept"
        )
    pre += [f"{NOT_SYN} return", *_bridges(host), *_exempt()]
    out = [
        *_ours(host),
        "meta l4proto != tcp return",
        f"{SYN} ct mark set ct mark & {WHOLE ^ marks.local:#x}",
        _restore(marks),
        f"{NOT_SYN} return",
        *_exempt(),
    ]
    if host.canary_port is not None:
        out += [
            f"{place} {SYN} meta l4proto @hb ct mark set ct mark | {marks.local:#x} meta mark set meta mark & "
            f"{WHOLE ^ marks.field:#x} | {marks.local:#x} accept"
            for place in _CANARIES
        ]
    for armed in rules:
        for family, match in _forwarded(armed):
            if armed in captured:
                pre.append(
                    f"{match} meta l4proto @hb tproxy {family} to :{armed.port} "
                    f"meta mark set meta mark | {marks.forwarded:#x} counter name captured_{armed.number} accept"
                )
            elif armed.rule.mode is not Mode.GOVERN:
                pre.append(f"{match} return")
        for match in _local(armed, marks):
            if armed in captured:
                out.append(
                    f"{match} meta l4proto @hb ct mark set ct mark | {marks.local:#x} meta mark set meta mark & "
                    f"{WHOLE ^ marks.field:#x} | {marks.local | marks.rule(armed.number):#x} accept"
                )
            elif armed.rule.mode is not Mode.GOVERN:
                out.append(f"{match} return")
    quick = [armed for armed in captured if armed.rule.on_failure is OnFailure.OPEN]
    return Table(
        name=host.owner,
        owner=True,
        sets=tuple(_sets(rules)),
        counters=tuple(f"captured_{armed.number}" for armed in captured),
        chains=(
            Chain("pre", "filter hook prerouting priority mangle", tuple(pre)),
            Chain("out", "route hook output priority mangle", tuple(out)),
            *([Chain(*_REDIRECTING, _redirecting(rules, captured, host))] if host.bridges else []),
            *_quic(quick, host, "meta l4proto @hb "),
        ),
    )


def _redirecting(rules: Sequence[ArmedRule], captured: Sequence[ArmedRule], host: HostFacts) -> tuple[str, ...]:
    """Of what comes in by a bridge: with bridge netfilter, which Docker and Kubernetes switch on, TPROXY would lose it.
    The destination becomes this host's address there for as long as the connection lives, and conntrack tells the
    worker where it wanted to go (docs/decisions/0015)."""
    lines = ["meta l4proto != tcp return", f"{NOT_SYN} return", *_exempt()]
    for family, bridges in (
        ("ipv4", [bridge for bridge in host.bridges if bridge.v4]),
        ("ipv6", [bridge for bridge in host.bridges if bridge.v6]),
    ):
        frames = ", ".join(f"{bridge.index} . {bridge.mac}" for bridge in bridges)
        lines.append(f"meta nfproto {family} {f'iif . ether daddr != {{ {frames} }} ' if frames else ''}return")
    for armed in rules:
        for _, match in _forwarded(armed):
            if armed in captured:
                lines.append(
                    f"{match} meta l4proto @hb meta mark set meta mark | {host.marks.forwarded:#x} "
                    f"counter name captured_{armed.number} redirect to :{armed.port}"
                )
            elif armed.rule.mode is not Mode.GOVERN:
                lines.append(f"{match} return")
    return tuple(lines)


def plain_table(rules: Sequence[ArmedRule], host: HostFacts) -> Table:
    """What outlives the agent. `rules` empty: what captured connections still need until they have ended."""
    marks = host.marks
    refused = [
        armed
        for armed in rules
        if armed.rule.mode is Mode.DENY
        or (armed.rule.mode is Mode.GOVERN and armed.rule.on_failure is OnFailure.CLOSED)
    ]
    pre = ("meta l4proto != tcp return", *_divert(marks))
    out = (f"meta mark & {marks.upstream:#x} == {marks.upstream:#x} return", f"meta l4proto tcp {_restore(marks)}")
    through = (
        "meta l4proto != tcp return",
        f"{NOT_SYN} return",
        f"meta mark & {marks.upstream | marks.local:#x} != 0 return",
        *(f"{match} {_end(armed)}" for armed in rules for _, match in _forwarded(armed)),
    )
    outgoing = (
        *_ours(host),
        "meta l4proto != tcp return",
        f"{NOT_SYN} return",
        f"meta mark & {marks.local:#x} != 0 return",
        *_exempt(),
        *(f"{place} reject with tcp reset" for place in _CANARIES),
        *(f"{match} {_end(armed)}" for armed in rules for match in _local(armed, None)),
    )
    return Table(
        name=PLAIN_TABLE,
        sets=tuple(_sets(rules)),
        counters=tuple(f"{counter_of(armed.rule)}_{armed.number}" for armed in rules),
        chains=(
            Chain("pre", "filter hook prerouting priority mangle - 1", pre),
            Chain("out", "route hook output priority mangle + 1", out),
            Chain("through", "filter hook forward priority filter", through if rules else ()),
            Chain("outgoing", "filter hook output priority filter", outgoing if rules else ()),
            # Empty: without any chain of this type the kernel would translate no packet of what is redirected already.
            *([Chain(*_REDIRECTING, ())] if host.bridges else []),
            *_quic(refused, host, ""),
        ),
    )


def counter_of(rule: InterceptionRule) -> str:
    """What it means when a connection that fits the rule goes past the capture."""
    if rule.mode is Mode.OBSERVE:
        return "passed"
    if rule.mode is Mode.DENY or rule.on_failure is OnFailure.CLOSED:
        return "denied"
    return "bypassed"


def beat(owner: str, seconds: int = HEARTBEAT_S) -> str:
    """Renew the heartbeat of the owner table. Adding an element that is there does not extend its time: hence the three
    steps, in one transaction."""
    element = f"{{ tcp timeout {seconds}s, udp timeout {seconds}s }}"
    return (
        f"add element inet {owner} hb {element}\n"
        f"delete element inet {owner} hb {{ tcp, udp }}\n"
        f"add element inet {owner} hb {element}\n"
    )


def stop_beating(owner: str) -> str:
    return f"flush set inet {owner} hb\n"


def new_addresses(armed: ArmedRule, owner: str) -> str:
    """Put the rule's present destinations and sources into its sets: the rules themselves stay as they are."""
    return "".join(refill(table, kept) for table in (owner, PLAIN_TABLE) for kept in _sets([armed]))


def _sets(rules: Iterable[ArmedRule]) -> Iterator[AddressSet]:
    for armed in rules:
        yield AddressSet(f"d4_{armed.number}", "ipv4_addr", armed.v4)
        yield AddressSet(f"d6_{armed.number}", "ipv6_addr", armed.v6)
        if armed.source_v4:
            yield AddressSet(f"s4_{armed.number}", "ipv4_addr", armed.source_v4)
        if armed.source_v6:
            yield AddressSet(f"s6_{armed.number}", "ipv6_addr", armed.source_v6)
        if armed.rule.sources.cgroups:
            yield AddressSet(f"c4_{armed.number}", "ipv4_addr", armed.container_v4)
            yield AddressSet(f"c6_{armed.number}", "ipv6_addr", armed.container_v6)


def _restore(marks: Marks) -> str:
    return (
        f"{NOT_SYN} ct direction original ct mark & {marks.local:#x} == {marks.local:#x} "
        f"meta mark set meta mark | {marks.local:#x}"
    )


def _bridges(host: HostFacts) -> Iterator[str]:
    """Left to `_redirecting`."""
    if host.bridges:
        yield f"iif {{ {', '.join(str(bridge.index) for bridge in host.bridges)} }} return"


def _divert(marks: Marks) -> tuple[str, ...]:
    """Packets of connections that are captured already find their socket."""
    return (
        f"iif lo socket transparent 1 meta mark set meta mark | {marks.local:#x} accept",
        f"socket transparent 1 meta mark set meta mark | {marks.forwarded:#x} accept",
    )


def _ours(host: HostFacts) -> Iterator[str]:
    yield f"meta mark & {host.marks.upstream:#x} == {host.marks.upstream:#x} return"
    if host.exempt_uids:
        yield f"meta skuid {{ {', '.join(map(str, host.exempt_uids))} }} return"


def _exempt() -> tuple[str, ...]:
    return (
        "fib daddr type { local, broadcast, multicast, anycast } return",
        f"ip daddr {{ {EXEMPT_V4} }} return",
        f"ip6 daddr {{ {EXEMPT_V6} }} return",
    )


def _ports(armed: ArmedRule) -> str:
    return f"tcp dport {{ {', '.join(map(str, sorted(set(armed.rule.ports))))} }}"


def _forwarded(armed: ArmedRule, ports: str | None = None) -> Iterator[tuple[str, str]]:
    """Family and match of forwarded connections."""
    ports = ports or _ports(armed)
    sources = armed.rule.sources
    for family, kind, listed in (("ip", "4", armed.source_v4), ("ip6", "6", armed.source_v6)):
        destination = f"{family} daddr @d{kind}_{armed.number}"
        if sources.everyone:
            yield family, f"{destination} {ports}"
            continue
        if listed:
            yield family, f"{destination} {family} saddr @s{kind}_{armed.number} {ports}"
        if sources.cgroups:
            yield family, f"{destination} {family} saddr @c{kind}_{armed.number} {ports}"


def _local(armed: ArmedRule, marks: Marks | None, ports: str | None = None) -> Iterator[str]:
    """Matches of this host's own connections. `marks`: given where the rule must have a number that fits the field."""
    if marks is not None and armed.rule.mode is Mode.GOVERN and armed.number > marks.most_local_rules:
        return
    ports = ports or _ports(armed)
    sources = armed.rule.sources
    for family, kind, listed in (("ip", "4", armed.source_v4), ("ip6", "6", armed.source_v6)):
        destination = f"{family} daddr @d{kind}_{armed.number}"
        if sources.everyone or sources.local:
            yield f"{destination} {ports}"
            continue
        if listed:
            yield f"{destination} {family} saddr @s{kind}_{armed.number} {ports}"
        if armed.uids:
            yield f"{destination} meta skuid {{ {', '.join(map(str, armed.uids))} }} {ports}"
        for level, path in armed.cgroups:
            yield f'{destination} socket cgroupv2 level {level} "{path}" {ports}'


def _end(armed: ArmedRule) -> str:
    """What becomes of a SYN that was not captured."""
    counter = f"counter name {counter_of(armed.rule)}_{armed.number}"
    if armed.rule.mode is Mode.DENY:
        return f"{counter} reject with tcp reset"
    if armed.rule.mode is Mode.GOVERN and armed.rule.on_failure is OnFailure.CLOSED:
        return f"{counter} reject with tcp reset"
    return f"{counter} return"


def _quic(rules: Sequence[ArmedRule], host: HostFacts, when: str) -> tuple[Chain, Chain]:
    """QUIC to these destinations is refused by ICMP, so that clients fall back to TCP at once."""
    concerned = [armed for armed in rules if QUIC_PORT in armed.rule.ports]
    quic = f"udp dport {QUIC_PORT} {when}reject"
    through = [f"meta mark & {host.marks.upstream:#x} == {host.marks.upstream:#x} return"]
    through += [match for armed in concerned for _, match in _forwarded(armed, quic)]
    outgoing = [*_ours(host), *(match for armed in concerned for match in _local(armed, None, quic))]
    return (
        Chain("quic_through", "filter hook forward priority filter", tuple(through) if concerned else ()),
        Chain("quic_outgoing", "filter hook output priority filter", tuple(outgoing) if concerned else ()),
    )
