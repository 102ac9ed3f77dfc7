"""Which addresses a cgroup's containers have. A packet from another network namespace bears no cgroup when it comes in;
but who runs in a cgroup and in a namespace of its own has addresses there, and those it bears.

Read from /proc (proc(5), /proc/PID/net), which shows any process's namespace without a capability, unless it is mounted
with hidepid. Who runs there may call an interface or an address of its own anything: nothing read here is trusted.
"""

import contextlib
import ipaddress
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

MOST_CGROUPS: Final = 256
"""Of a rule's cgroup, itself and those within."""
MOST_PROCESSES: Final = 4
"""Of each of them: those of a container share their namespace."""
MOST_ADDRESSES: Final = 1024
_OWN_V4: Final = re.compile(rb"\|-- ([0-9.]+)\n\s+/32 host LOCAL")
"""In /proc/PID/net/fib_trie."""
GLOBAL_SCOPE: Final = b"00"
"""Fourth column of /proc/PID/net/if_inet6."""


def addresses_of(cgroup: Path) -> tuple[str, ...]:
    """IPv4 and IPv6, sorted; of processes in this host's own namespace none. `cgroup`: its folder. Blocks for some
    milliseconds."""
    seen = {_namespace("self"), None}
    found: set[str] = set()
    for process in _processes(cgroup):
        namespace = _namespace(process)
        if namespace not in seen:
            seen.add(namespace)
            found |= _addresses(Path(f"/proc/{process}/net"))
    return tuple(sorted(found)[:MOST_ADDRESSES])


def _processes(cgroup: Path) -> Iterator[str]:
    for folder, _, _ in itertools.islice(os.walk(cgroup), MOST_CGROUPS):
        with contextlib.suppress(OSError), (Path(folder) / "cgroup.procs").open(encoding="ascii") as lines:
            yield from map(str.strip, itertools.islice(lines, MOST_PROCESSES))


def _namespace(process: str) -> int | None:
    """What tells it from others: each has files of its own. None where the process has gone."""
    try:
        return Path(f"/proc/{process}/net/dev").stat().st_ino
    except OSError:
        return None


def _addresses(folder: Path) -> set[str]:
    found: set[str] = set()
    with contextlib.suppress(OSError):  # it has gone
        found.update(match.decode() for match in _OWN_V4.findall((folder / "fib_trie").read_bytes()))
    with contextlib.suppress(OSError):  # the same, or no IPv6
        for words in map(bytes.split, (folder / "if_inet6").read_bytes().splitlines()):
            if len(words) > 3 and words[3] == GLOBAL_SCOPE:
                found.add(str(ipaddress.IPv6Address(int(words[0], 16))))
    return {address for address in found if not ipaddress.ip_address(address).is_loopback}
