"""From rules to what this host's kernel can be told of them: names to addresses, users to numbers, cgroups to paths.

What cannot be told is left out with its reason, never guessed.
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gateway.intercept import host_facts
from gateway.intercept.names import Names
from gateway.intercept.ruleset import ArmedRule
from gateway.policy.interception import InterceptionRule, Mode


@dataclass(slots=True)
class Arming:
    """What the rules come to."""

    rules: list[ArmedRule] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    """By rule: why it captures nothing, or not all that it names."""


def arm(
    rules: Sequence[InterceptionRule],
    numbers: Mapping[str, int],
    names: Names,
    port_of: Callable[[InterceptionRule], int | None],
    most_local_rules: int,
    containers: Mapping[str, Sequence[str]],
) -> Arming:
    """`numbers`: of the rules by name; `port_of`: of the listener that a worker serves; None where none does, yet;
    `most_local_rules`: numbers beyond this cannot catch this host's own connections; `containers`: addresses by
    cgroup."""
    arming = Arming()
    for rule in rules:
        troubles: list[str] = []
        port = port_of(rule) if rule.mode is Mode.GOVERN else None
        armed = _sources(
            _destinations(ArmedRule(rule=rule, number=numbers[rule.name], port=port), names, troubles),
            containers,
            troubles,
        )
        if rule.mode is Mode.GOVERN and port is None:
            troubles.insert(0, "no worker of the gateway takes its connections")
        elif rule.mode is Mode.GOVERN and armed.number > most_local_rules:
            troubles.append(f"not for this host's own connections: the packet mark has room for {most_local_rules}")
        arming.rules.append(armed)
        if troubles:
            arming.reasons[rule.name] = "; ".join(troubles)
    return arming


def is_armed(armed: ArmedRule) -> bool:
    """Whether it does something in the kernel, once its tables are there."""
    sources = armed.rule.sources
    somebody = sources.everyone or sources.local or armed.source_v4 or armed.source_v6 or armed.uids or armed.cgroups
    return bool((armed.v4 or armed.v6) and somebody and (armed.port or armed.rule.mode is not Mode.GOVERN))


def _destinations(armed: ArmedRule, names: Names, troubles: list[str]) -> ArmedRule:
    wanted = list(armed.rule.cidrs)
    for host in armed.rule.hosts:
        found = names.addresses(host)
        if not found:
            troubles.append(f"no address of {host} is known ({names.error(host)})")
        wanted += found
    v4, v6 = by_family(wanted)
    return replace(armed, v4=v4, v6=v6)


def _sources(armed: ArmedRule, containers: Mapping[str, Sequence[str]], troubles: list[str]) -> ArmedRule:
    sources = armed.rule.sources
    v4, v6 = by_family(sources.cidrs)
    inside_v4, inside_v6 = by_family(address for path in sources.cgroups for address in containers.get(path, ()))
    uids, cgroups = [], []
    for user in sources.users:
        try:
            uids.append(host_facts.uid_of(user))
        except ValueError as error:
            troubles.append(str(error))
    for path in sources.cgroups:
        try:
            cgroups.append(host_facts.cgroup_path(path))
        except ValueError as error:
            troubles.append(str(error))
    return replace(
        armed,
        source_v4=v4,
        source_v6=v6,
        container_v4=inside_v4,
        container_v6=inside_v6,
        uids=tuple(sorted(set(uids))),
        cgroups=tuple(cgroups),
    )


def by_family(networks: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """IPv4 and IPv6 apart, each sorted and without what lies within another."""
    v4: list[ipaddress.IPv4Network] = []
    v6: list[ipaddress.IPv6Network] = []
    for text in networks:
        network = ipaddress.ip_network(text, strict=False)
        if isinstance(network, ipaddress.IPv4Network):
            v4.append(network)
        else:
            v6.append(network)
    return tuple(map(_text, ipaddress.collapse_addresses(v4))), tuple(map(_text, ipaddress.collapse_addresses(v6)))


def _text(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """Nft does not take `::/0`-like zero lengths in an interval set; halves mean the same."""
    if network.prefixlen == 0:
        return ", ".join(str(half) for half in network.subnets(1))
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
