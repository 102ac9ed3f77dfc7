"""What programs of a process cost in the kernel, by the kernel's own count (kernel.bpf_stats_enabled).

The count looks at the clock twice in each run, which on a virtual machine costs more than most runs. So an empty
program is counted at the same hooks, and what a run of it takes is taken off every run of the others.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.probes import bpf_calls
from gateway.probes.bpf_calls import Link
from gateway.probes.program import CGROUP_SKB
from gateway.probes.toolchain import load_bcc

ENABLED: Final = Path("/proc/sys/kernel/bpf_stats_enabled")
EMPTY: Final = """
int on_incoming(struct __sk_buff *skb) { return 1; }
int on_outgoing(struct __sk_buff *skb) { return 1; }
"""
HOOKS: Final = (("on_incoming", bpf_calls.INET_INGRESS), ("on_outgoing", bpf_calls.INET_EGRESS))


@dataclass(frozen=True, slots=True)
class Count:
    """Of all programs of a process: nanoseconds, runs."""

    ns: int
    runs: int

    def __sub__(self, before: "Count") -> "Count":
        return Count(self.ns - before.ns, self.runs - before.runs)


class Counted:
    """While the kernel counts."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._begun = (_count(pid), _count(os.getpid()))

    def cost_ns(self) -> tuple[float, int]:
        """Since the begin: what the process's programs took, without the counting itself, and their runs."""
        theirs, empty = _count(self._pid) - self._begun[0], _count(os.getpid()) - self._begun[1]
        return theirs.ns - theirs.runs * empty.ns / max(1, empty.runs), theirs.runs


@contextmanager
def counting(pid: int, cgroup: Path) -> Iterator[Counted]:
    """Programs of this process, with an empty one beside them at hooks of the cgroup. Needs root and bcc."""
    module = load_bcc().BPF(text=EMPTY)
    folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    links = [Link(module.load_func(name, CGROUP_SKB, attach_type=hook).fd, folder, hook) for name, hook in HOOKS]
    os.close(folder)
    ENABLED.write_text("1")
    try:
        yield Counted(pid)
    finally:
        ENABLED.write_text("0")
        for link in links:
            link.close()
        module.cleanup()


def _count(pid: int) -> Count:
    """As descriptors of programs tell it (`bpf_prog_show_fdinfo` of the kernel); each program once."""
    found: dict[str, Count] = {}
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            text = path.read_text()
        except OSError:  # closed since they were listed
            continue
        told = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
        if "run_cnt" in told:
            found[told["prog_id"]] = Count(int(told["run_time_ns"]), int(told["run_cnt"]))
    return Count(sum(each.ns for each in found.values()), sum(each.runs for each in found.values()))
