"""The two nftables tables as text: pure, so that each of their lines can be looked at and compared.

The owner table (`flags owner`) belongs to the agent's netlink socket: it captures, and is gone with the agent,
whatever ends it. The plain table outlives it: it keeps captured connections alive, refuses what is to be refused, and
counts what went by. Each line's reason stands in docs/interception.md; the kernel's side of it is in
net/netfilter/nft_tproxy.c and nft_socket.c.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.intercept.marks import Marks
from gateway.policy.interception import InterceptionRule, Mode, OnFailure

OWNER_TABLE: Final = "sluicegate_capture"
PLAIN_TABLE: Final = "sluicegate"
HEARTBEAT_S: Final = 3
"""After so long without a beat there is no capture any more, with no process left to say so."""
SYN: Final = "tcp flags & (fin | syn | rst | ack) == syn"
_NOT_SYN: Final = "tcp flags & (fin | syn | rst | ack) != syn"
QUIC_PORT: Final = 443
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
    uids: tuple[int, ...] = ()
    cgroups: tuple[tuple[int, str], ...] = ()
    """Level and path, as `socket cgroupv2` wants them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """What the tables depend on beside the rules."""

    marks: Marks
    bridges: tuple[str, ...] = ()
    """Where bridge netfilter would black-hole what TPROXY captures: left alone."""
    exempt_uids: tuple[int, ...] = ()
    """The gateway's own user, where its workers cannot mark their connections."""
    beating: bool = False
    """Whether the heartbeat stands from the first moment on."""


def owner_table(rules: Sequence[ArmedRule], host: HostFacts, name: str = OWNER_TABLE) -> str:
    marks = host.marks
    lines = [f"table inet {name} {{", "flags owner;"]
    beats = f" elements = {{ tcp timeout {HEARTBEAT_S}s, udp timeout {HEARTBEAT_S}s }};" if host.beating else ""
    lines.append(f"set hb {{ type inet_proto; flags timeout;{beats} }}")
    lines += _sets(rules)
    captured = [armed for armed in rules if armed.rule.mode is Mode.GOVERN and armed.port is not None]
    lines += [f"counter captured_{armed.number} {{ }}" for armed in captured]
    lines += ["chain pre { type filter hook prerouting priority mangle; policy accept;", "meta l4proto != tcp return"]
    lines += _bridges(host)
    lines += _divert(marks)
    lines += [
        f"iif lo {SYN} meta mark & {marks.local | marks.field:#x} == {marks.local | marks.rule(armed.number):#x} "
        f"meta l4proto @hb tproxy to :{armed.port} counter name captured_{armed.number} accept"
        for armed in captured
        if armed.number <= marks.most_local_rules
    ]
    lines.append(f"{_NOT_SYN} return")
    lines += _exempt()
    for armed in rules:
        for family, match in _forwarded(armed):
            if armed in captured:
                lines.append(
                    f"{match} meta l4proto @hb tproxy {family} to :{armed.port} "
                    f"meta mark set meta mark | {marks.forwarded:#x} counter name captured_{armed.number} accept"
                )
            elif armed.rule.mode is not Mode.GOVERN:
                lines.append(f"{match} return")
    lines += ["}", "chain out { type route hook output priority mangle; policy accept;"]
    lines += _ours(host)
    lines.append("meta l4proto != tcp return")
    lines.append(f"{SYN} ct mark set ct mark & {0xFFFFFFFF ^ marks.local:#x}")
    lines += [
        (
            f"{_NOT_SYN} ct direction original ct mark & {marks.local:#x} == "
            f"{marks.local:#x} meta mark set meta mark | {marks.local:#x}"
        ),
        f"{_NOT_SYN} return",
    ]
    lines += _exempt()
    for armed in rules:
        for match in _local(armed, marks):
            if armed in captured:
                lines.append(
                    f"{match} meta l4proto @hb ct mark set ct mark | {marks.local:#x} meta mark set meta mark & "
                    f"{0xFFFFFFFF ^ marks.field:#x} | {marks.local | marks.rule(armed.number):#x} accept"
                )
            elif armed.rule.mode is not Mode.GOVERN:
                lines.append(f"{match} return")
    lines.append("}")
    open_ones = [armed for armed in captured if armed.rule.on_failure is OnFailure.OPEN]
    lines += _quic(open_ones, host, "meta l4proto @hb ")
    lines.append("}")
    return "\n".join(lines)


def plain_table(rules: Sequence[ArmedRule], host: HostFacts, name: str = PLAIN_TABLE) -> str:
    """`rules` empty: what captured connections still need until they have ended."""
    marks = host.marks
    lines = [f"table inet {name} {{"]
    lines += _sets(rules)
    lines += [f"counter {counter_of(armed.rule)}_{armed.number} {{ }}" for armed in rules]
    lines += [
        "chain pre { type filter hook prerouting priority mangle - 1; policy accept;",
        "meta l4proto != tcp return",
        *_bridges(host),
        *_divert(marks),
        "}",
        "chain out { type route hook output priority mangle + 1; policy accept;",
        f"meta mark & {marks.upstream:#x} == {marks.upstream:#x} return",
        (
            f"meta l4proto tcp {_NOT_SYN} ct direction original ct mark & {marks.local:#x} == {marks.local:#x} "
            f"meta mark set meta mark | {marks.local:#x}"
        ),
        "}",
    ]
    if rules:
        lines += [
            "chain through { type filter hook forward priority filter; policy accept;",
            "meta l4proto != tcp return",
            f"{_NOT_SYN} return",
            f"meta mark & {marks.upstream | marks.local:#x} != 0 return",
            *(f"{match} {_end(armed)}" for armed in rules for _, match in _forwarded(armed)),
            "}",
            "chain outgoing { type filter hook output priority filter; policy accept;",
            *_ours(host),
            "meta l4proto != tcp return",
            f"{_NOT_SYN} return",
            f"meta mark & {marks.local:#x} != 0 return",
            *_exempt(),
            *(f"{match} {_end(armed)}" for armed in rules for match in _local(armed, None)),
            "}",
        ]
        always = [
            armed
            for armed in rules
            if armed.rule.mode is Mode.DENY
            or (armed.rule.mode is Mode.GOVERN and armed.rule.on_failure is OnFailure.CLOSED)
        ]
        lines += _quic(always, host, "")
    lines.append("}")
    return "\n".join(lines)


def counter_of(rule: InterceptionRule) -> str:
    """What it means when a connection that fits the rule goes past the capture."""
    if rule.mode is Mode.OBSERVE:
        return "passed"
    if rule.mode is Mode.DENY or rule.on_failure is OnFailure.CLOSED:
        return "denied"
    return "bypassed"


def replace(name: str, table: str) -> str:
    """The commands that put `table` in the place of what has its name, if anything has: a part of a transaction."""
    return f"{remove(name)}{table}\n"


def remove(name: str) -> str:
    """The same with nothing in its place. A table that is there keeps its flags, so they must be said again."""
    flags = "" if name == PLAIN_TABLE else " { flags owner; }"
    return f"add table inet {name}{flags}\ndelete table inet {name}\n"


def beat(name: str = OWNER_TABLE) -> str:
    """Renew the heartbeat. Adding an element that is there does not extend its time: hence the three steps, in one
    transaction."""
    element = f"{{ tcp timeout {HEARTBEAT_S}s, udp timeout {HEARTBEAT_S}s }}"
    return (
        f"add element inet {name} hb {element}\n"
        f"delete element inet {name} hb {{ tcp, udp }}\n"
        f"add element inet {name} hb {element}\n"
    )


def stop_beating(name: str = OWNER_TABLE) -> str:
    return f"flush set inet {name} hb\n"


def new_addresses(armed: ArmedRule, owner: str | None = OWNER_TABLE, plain: str = PLAIN_TABLE) -> str:
    """Put the rule's present destinations into its sets: the rules themselves stay as they are."""
    commands = []
    for table in (owner, plain):
        if table is None:
            continue
        for family, members in (("d4", armed.v4), ("d6", armed.v6)):
            place = f"inet {table} {family}_{armed.number}"
            commands.append(f"flush set {place}")
            if members:
                commands.append(f"add element {place} {{ {', '.join(members)} }}")
    return "\n".join(commands) + "\n"


def _sets(rules: Iterable[ArmedRule]) -> Iterator[str]:
    for armed in rules:
        named = (
            ("d4", "ipv4_addr", armed.v4),
            ("d6", "ipv6_addr", armed.v6),
            ("s4", "ipv4_addr", armed.source_v4),
            ("s6", "ipv6_addr", armed.source_v6),
        )
        for kind, of_type, members in named:
            if kind.startswith("s") and not members:
                continue
            elements = f" elements = {{ {', '.join(members)} }};" if members else ""
            yield f"set {kind}_{armed.number} {{ type {of_type}; flags interval; auto-merge;{elements} }}"


def _bridges(host: HostFacts) -> Iterator[str]:
    if host.bridges:
        yield f"iifname {{ {', '.join(host.bridges)} }} return"


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
        elif listed:
            yield family, f"{destination} {family} saddr @s{kind}_{armed.number} {ports}"


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


def _quic(rules: Sequence[ArmedRule], host: HostFacts, when: str) -> Iterator[str]:
    """QUIC to these destinations is refused by ICMP, so that clients fall back to TCP at once."""
    concerned = [armed for armed in rules if QUIC_PORT in armed.rule.ports]
    if not concerned:
        return
    quic = f"udp dport {QUIC_PORT} {when}reject"
    yield "chain quic_fwd { type filter hook forward priority filter; policy accept;"
    yield f"meta mark & {host.marks.upstream:#x} == {host.marks.upstream:#x} return"
    yield from (match for armed in concerned for _, match in _forwarded(armed, quic))
    yield "}"
    yield "chain quic_own { type filter hook output priority filter; policy accept;"
    yield from _ours(host)
    yield from (match for armed in concerned for match in _local(armed, None, quic))
    yield "}"
