"""The root namespace's network state, so that a lab can show that it left it alone."""

import re
import subprocess
from dataclasses import dataclass, fields
from pathlib import Path

from tests.support.lab.namespace import without_counts
from tests.support.own_cgroup import cgroup_root

SYSCTLS = (
    "net/ipv4/ip_forward", "net/ipv4/conf/*/rp_filter", "net/ipv4/conf/*/src_valid_mark",
    "net/ipv4/conf/*/accept_local", "net/ipv4/conf/*/route_localnet", "net/ipv4/conf/*/forwarding",
    "net/ipv4/ip_nonlocal_bind", "net/ipv4/fwmark_reflect", "net/ipv4/tcp_fwmark_accept", "net/ipv4/ip_early_demux",
    "net/ipv6/conf/*/forwarding", "net/ipv6/ip_nonlocal_bind",
    "net/bridge/*",
)  # fmt: skip
OTHERS = re.compile(r"sluicegate_watch|docker|veth|\bbr-|virbr|172\.1[6-9]\.|172\.2\d\.", re.IGNORECASE)
"""Probes that tests run in the root namespace have a table there; a Docker engine (tests/install has one) changes it
by itself meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RootState:
    """What stood in the root namespace, a tuple of lines a subject."""

    ruleset: tuple[str, ...]
    rules: tuple[str, ...]
    routes: tuple[str, ...]
    links: tuple[str, ...]
    sysctls: tuple[str, ...]
    cgroups: tuple[str, ...]

    def difference(self, later: "RootState") -> list[str]:
        found: list[str] = []
        for subject in (field.name for field in fields(self)):
            before, after = getattr(self, subject), getattr(later, subject)
            found += [f"{subject}: gone: {line}" for line in before if line not in after]
            found += [f"{subject}: new: {line}" for line in after if line not in before]
        return [line for line in found if not OTHERS.search(line)]


def root_state(prefix: str) -> RootState:
    """As it stands now; of cgroups only those whose name begins with `prefix`."""
    return RootState(
        ruleset=_chains(without_counts(_said("nft", "list", "ruleset"))),
        rules=_lines(_said("ip", "rule") + _said("ip", "-6", "rule")),
        routes=_lines(
            _said("ip", "route", "show", "table", "all") + _said("ip", "-6", "route", "show", "table", "all")
        ),
        links=_lines("\n".join(line.split("@")[0].split(" ")[0] for line in _said("ip", "-br", "link").splitlines())),
        sysctls=tuple(f"{file} = {file.read_text().strip()}" for file in _sysctls()),
        cgroups=tuple(str(path) for path in sorted(cgroup_root().glob(f"{prefix}*"))),
    )


def _sysctls() -> list[Path]:
    return sorted(file for pattern in SYSCTLS for file in Path("/proc/sys").glob(pattern))


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout + "\n"


def _lines(text: str) -> tuple[str, ...]:
    return tuple(
        re.sub(r" (expires \S+|pref \w+|error -?\d+)", "", line).strip() for line in text.splitlines() if line.strip()
    )


def _chains(ruleset: str) -> tuple[str, ...]:
    """Each line with the names of its table and chain, so that a rule that moves counts as changed."""
    table = chain = ""
    found: list[str] = []
    for line in ruleset.splitlines():
        if line.startswith("table "):
            table, chain = line.split("{")[0].strip(), ""
        elif re.match(r"\t(chain|set|map|flowtable) ", line):
            chain = line.split("{")[0].strip()
        if line.strip() not in ("", "}"):
            found.append(f"{table} {chain}: {line.strip()}")
    return tuple(found)
