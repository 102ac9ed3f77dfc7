"""Which addresses a cgroup's containers have. A packet from another network namespace bears no cgroup when it comes in;
but who runs in a cgroup and in a namespace of its own has addresses there, and those it bears.

Read from /proc (proc(5), /proc/PID/net), which shows any process's namespace without a capability.
"""

import ipaddress
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MOST_PROCESSES: Final = 1024
"""Of one cgroup that are looked at: those of a container share their namespace."""
_OWN_V4: Final = re.compile(r"\|-- ([0-9.]+)\n\s+/32 host LOCAL")
"""In /proc/PID/net/fib_trie."""
GLOBAL_SCOPE: Final = "00"
"""Fourth column of /proc/PID/net/if_inet6."""


def addresses_of(cgroup: Path) -> tuple[str, ...]:
    """IPv4 and IPv6, sorted; of processes in this host's own namespace none. `cgroup`: its folder."""
    seen = {_namespace("self")}
    found: set[str] = set()
    for process in itertools.islice(_processes(cgroup), MOST_PROCESSES):
        namespace = _namespace(process)
        if namespace not in seen:
            seen.add(namespace)
            found |= _addresses(process)
    return tuple(sorted(found))


def _processes(cgroup: Path) -> Iterator[str]:
    """Of it and the cgroups within."""
    for folder, _, _ in os.walk(cgroup):
        try:
            yield from (Path(folder) / "cgroup.procs").read_text(encoding="ascii").split()
        except OSError:  # gone, or of threads
            continue


def _namespace(process: str) -> int | None:
    """What tells it from others: each has files of its own. None where the process has gone."""
    try:
        return Path(f"/proc/{process}/net/dev").stat().st_ino
    except OSError:
        return None


def _addresses(process: str) -> set[str]:
    found: set[str] = set()
    folder = Path(f"/proc/{process}/net")
    try:
        found.update(_OWN_V4.findall((folder / "fib_trie").read_text(encoding="ascii")))
        lines = (folder / "if_inet6").read_text(encoding="ascii").splitlines()
    except OSError:  # it has gone, or has no IPv6
        lines = []
    for words in map(str.split, lines):
        if words[3] == GLOBAL_SCOPE:
            found.add(str(ipaddress.IPv6Address(int(words[0], 16))))
    return {address for address in found if not ipaddress.ip_address(address).is_loopback}
