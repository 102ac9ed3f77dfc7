"""Rules of what is denied, as the keeper tells them: `{"type": "denials", "items": [{"id", "executable", "uid",
"cgroup", "container", "client", "hosts", "provider", "cidrs", "ports", "expires_at_s", "on_failure", "limit": null or
{"connections": N | "bytes": N, "per": "second" | "minute" | "hour" | "day"}}]}`.

A rule fits where all that it names fits; of hosts, provider and networks one is enough, and without any of the three
every destination is meant. With a limit, what fits is refused only beyond it (`allowances`).
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from gateway.probes.allowances import Allowance, allowance_of
from gateway.probes.catalogue import Catalogue, HostPatterns
from gateway.probes.containers import Container
from gateway.probes.identity import Process, host_stat
from gateway.probes.stamps import Address

Network = IPv4Network | IPv6Network


class RuleRefused(Exception):
    """A rule cannot be in force here; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DenialRule:
    id: int
    executable: str | None = None
    uid: int | None = None
    cgroup: str | None = None
    container: str | None = None
    hosts: tuple[str, ...] = ()
    provider: str | None = None
    networks: tuple[Network, ...] = ()
    ports: frozenset[int] = frozenset()
    expires_at_s: float | None = None
    """Unix time."""
    closed: bool = False
    allowance: Allowance | None = None
    """None: nothing that fits may pass."""

    @property
    def judges(self) -> bool:
        """What a process runs matters, which user space finds out."""
        return self.executable is not None or self.container is not None

    @property
    def anywhere(self) -> bool:
        return not (self.hosts or self.provider or self.networks)

    def patterns(self, catalogue: Catalogue) -> list[HostPatterns]:
        """Raises RuleRefused."""
        found = []
        if self.hosts:
            found.append(HostPatterns(self.hosts))
        if self.provider is not None:
            known = catalogue.providers.get(self.provider)
            if known is None:
                raise RuleRefused(f"the catalogue has no provider {self.provider}")
            found.append(known.hosts)
        return found

    def fits_process(self, process: Process, container: Container | None) -> bool:
        """By what it runs and where; not by user and cgroup, which the kernel knows by itself."""
        if self.executable is not None and not _is_executable(process, self.executable):
            return False
        return self.container is None or (container is not None and container.called(self.container))


def _is_executable(process: Process, path: str) -> bool:
    if process.executable is None or process.file is None:
        return False
    if process.executable.removesuffix(" (deleted)") == path:
        return True
    with contextlib.suppress(OSError):  # another link to the same file
        found = host_stat(path)
        return (found.st_dev, found.st_ino) == process.file[:2]
    return False


def in_networks(address: Address, networks: Iterable[Network]) -> bool:
    return any(address in network for network in networks)


def rule_of(item: Mapping[str, Any]) -> DenialRule:
    """Raises RuleRefused."""
    if item.get("client"):
        raise RuleRefused("machines that this host forwards for are denied by interception rules of mode deny")
    try:
        hosts = tuple(map(str, item.get("hosts") or ()))
        HostPatterns(hosts)
        return DenialRule(
            id=int(item["id"]),
            executable=item.get("executable") or None,
            uid=None if item.get("uid") is None else int(item["uid"]),
            cgroup=item.get("cgroup") or None,
            container=item.get("container") or None,
            hosts=hosts,
            provider=item.get("provider") or None,
            networks=tuple(ip_network(text, strict=False) for text in item.get("cidrs") or ()),
            ports=frozenset(map(int, item.get("ports") or ())),
            expires_at_s=None if item.get("expires_at_s") is None else float(item["expires_at_s"]),
            closed=item.get("on_failure") == "closed",
            allowance=allowance_of(item["limit"]) if item.get("limit") else None,
        )
    except (ValueError, TypeError) as error:
        raise RuleRefused(str(error)) from error
