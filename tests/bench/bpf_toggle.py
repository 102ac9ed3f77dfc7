"""What programs of a running process add to a load: they are taken from their hooks and put back every tenth of a
second while the load goes on.

Runs of seconds differ from each other by more than probes cost: by a tenth on a virtual machine, whose host moves it
about. Neighbouring slices of one run differ by little, and what they do is in the mean of some hundred pairs.
"""

import ctypes
import os
import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.probes.bpf_calls import Link

SLICE_S: Final = 0.1
SETTLE_S: Final = 0.01
BEGIN_S: Final = 1.5
"""Of a load, until it is steady."""
SYS_PIDFD_GETFD: Final = 438
SYS_BPF: Final = {"x86_64": 321, "aarch64": 280}
LINK_DETACH: Final = 34
"""linux/bpf.h"""

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Added:
    """By call or event, in µs."""

    more: float
    error: float
    """The standard one, of `more`."""
    whole: float
    """What all processes of the gateway take."""
    share: float
    pairs: int


class Hooks:
    """The hooks of cgroups where a process has programs (links, by its descriptors). From here on it is we who have
    them there, or not. Needs root."""

    def __init__(self, pid: int, cgroups: Sequence[Path]) -> None:
        by_inode = {str(path.stat().st_ino): path for path in cgroups}
        programs: dict[str, int] = {}
        found: list[tuple[str, int, Path]] = []
        process = os.pidfd_open(pid)
        for path in Path(f"/proc/{pid}/fdinfo").iterdir():
            told = dict(line.split(":\t", 1) for line in path.read_text().splitlines() if ":\t" in line)
            if "run_cnt" in told and told["prog_id"] not in programs:
                programs[told["prog_id"]] = _taken(process, int(path.name))
            if told.get("link_type") == "cgroup":
                found.append((told["prog_id"], int(told["attach_type"]), by_inode[told["cgroup_id"]]))
                link = _taken(process, int(path.name))
                _detach(link)
                os.close(link)
        os.close(process)
        self._wanted = [(programs[program], hook, cgroup) for program, hook, cgroup in found]
        self._programs = list(programs.values())
        self._links: list[Link] = []

    def close(self) -> None:
        self.put(on=False)
        for program in self._programs:
            os.close(program)

    def put(self, *, on: bool) -> None:
        for link in self._links:
            link.close()
        self._links.clear()
        for program, hook, cgroup in self._wanted if on else ():
            folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
            self._links.append(Link(program, folder, hook))
            os.close(folder)


def added(
    hooks: Hooks, load: Callable[[], float], seconds: int, worker: Sequence[int], gateway: Sequence[int]
) -> Added:
    """`load` returns how many calls or events it made, and takes some two seconds longer than `seconds`. `worker`: the
    processes whose packets programs see; `gateway`: these and all the others. Nothing else may use the network
    meanwhile: calls of a slice are counted by what comes of them, in bytes."""
    done: list[float] = []
    thread = threading.Thread(target=lambda: done.append(load()))
    cpu_before, octets_before = _cpu_ns(gateway), _octets()
    thread.start()
    time.sleep(BEGIN_S)
    pairs: list[tuple[float, float]] = []
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        pair: dict[bool, float] = {}
        for on in random.sample((True, False), 2):
            hooks.put(on=on)
            time.sleep(SETTLE_S)
            cpu, octets = _cpu_ns(worker), _octets()
            time.sleep(SLICE_S)
            pair[on] = (_cpu_ns(worker) - cpu) / max(1, _octets() - octets)
        pairs.append((pair[True], pair[False]))
    thread.join()
    octets_each = (_octets() - octets_before) / done[0]
    whole = (_cpu_ns(gateway) - cpu_before) / done[0] / 1000
    differences = sorted((on - off) * octets_each / 1000 for on, off in pairs)
    middle = differences[len(pairs) // 10 : len(pairs) - len(pairs) // 10]  # slices in which the host was elsewhere
    more = statistics.mean(middle)
    error = statistics.stdev(middle) / len(middle) ** 0.5
    return Added(more, error, whole, more / whole, len(pairs))


def _cpu_ns(pids: Sequence[int]) -> int:
    files = (file for pid in pids for file in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(int(file.read_text().split()[0]) for file in files)


def _octets() -> int:
    """That have come by IP, in this network namespace (proc(5))."""
    told = Path("/proc/net/netstat").read_text().splitlines()
    names, values = (line.split() for line in told if line.startswith("IpExt:"))
    return int(values[names.index("InOctets")])


def _taken(process: int, descriptor: int) -> int:
    """A copy of another process's descriptor: pidfd_getfd(2). Raises OSError."""
    return _result(_libc.syscall(SYS_PIDFD_GETFD, process, descriptor, 0))


def _detach(link: int) -> None:
    attributes = ctypes.c_uint32(link)
    _result(_libc.syscall(SYS_BPF[os.uname().machine], LINK_DETACH, ctypes.byref(attributes), 4))


def _result(value: int) -> int:
    if value < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return value
