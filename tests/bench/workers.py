"""Two workers beside one: at least 1.8 times the requests.

Each worker gets the same share of CPU time, set by the kernel (cgroup CPU quota): one worker with it, then two with it
each; the ratio of requests a second is the scaling. The share is an eighth of the machine (all of a core where there
are eight), so that load generator, provider and keeper, which have no quota, always have more than they need: with two
cores nothing else can show what a second core would give. It shows what workers wait for of each other (keeper,
limits, spool); it does not show what real cores share besides (caches, memory, interrupts), nor where the keeper, which
is one process, is full: that is worked out from its CPU time. Root is needed.
"""

import argparse
import contextlib
import os
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench import compare, rig

BAR = 1.8
PERIOD_US = 10_000
BUSY = 0.95
"""Of all cores' time: with more, the machine was at its end, not the gateway."""
CONNECTIONS = 64
V1, V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    share = min(1.0, (os.cpu_count() or 1) / 8)
    parser.add_argument("--share", type=float, default=share, help=f"of a core for each worker ({share})")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="beside one (2)")


def measure(given: argparse.Namespace) -> None:
    rounds: dict[int, list[dict[str, float]]] = {1: [], given.workers: []}
    for _ in range(compare.ROUNDS):
        for count, rows in rounds.items():
            rows.append(_one(count, given.share))
    one, many = ({name: statistics.median(row[name] for row in rows) for name in rows[0]} for rows in rounds.values())
    ratio = many["rps"] / one["rps"]
    figures: dict[str, Any] = {
        "share_of_a_core": given.share,
        "rps_of_one": one["rps"],
        f"rps_of_{given.workers}": many["rps"],
        "ratio": ratio,
        "worker_cpu_us_a_request_of_one": one["worker_us"],
        f"worker_cpu_us_a_request_of_{given.workers}": many["worker_us"],
        "keeper_cpu_us_a_request_of_one": one["keeper_us"],
        f"keeper_cpu_us_a_request_of_{given.workers}": many["keeper_us"],
        "rps_that_fill_the_keepers_core": 1e6 / many["keeper_us"],
        "least_use_of_a_share": min(one["use"], many["use"]),
        "machine_busy": many["busy"],
        "failed": one["failed"] + many["failed"],
    }
    held: bool | None = ratio >= BAR * given.workers / 2
    if not held and many["busy"] > BUSY:
        held = None  # the machine, not the gateway, was at its end
    rig.conclude("workers", figures, f"{given.workers} workers ≥ {BAR * given.workers / 2:.1f} times one", held)


def _one(count: int, share: float) -> dict[str, float]:
    """Requests a second with `count` workers of `share` each, everything free to run on all cores."""
    cores = f"0-{(os.cpu_count() or 1) - 1}"
    with rig.pinned(workers=count, cores=cores) as bench, contextlib.ExitStack() as quotas:
        compare.pin(rig.provider_pids(), cores)
        workers = [process.pid for process in bench.running.workers()]
        keeper = [bench.running.keeper().pid]
        bench.plain(CONNECTIONS, 1)
        for pid in workers:
            quotas.enter_context(quota(pid, share))
        bench.plain(CONNECTIONS, 1)
        began, idle_s = time.monotonic(), _idle_s()
        before, keeper_before = [compare.cpu_s([pid]) for pid in workers], compare.cpu_s(keeper)
        load = bench.plain(CONNECTIONS, compare.SECONDS)
        wall_s, idle_s = time.monotonic() - began, _idle_s() - idle_s
        used = [compare.cpu_s([pid]) - at for pid, at in zip(workers, before, strict=True)]
        return {
            "rps": load["rps"],
            "failed": load["failed"],
            "worker_us": sum(used) / load["answers"] * 1e6,
            "keeper_us": max(1 / compare.TICK, compare.cpu_s(keeper) - keeper_before) / load["answers"] * 1e6,
            "use": min(used) / wall_s / share,
            "busy": 1 - idle_s / wall_s / (os.cpu_count() or 1),
        }


def _idle_s() -> float:
    """Seconds that the cores have had nothing to do, together."""
    fields: Sequence[str] = Path("/proc/stat").read_text().split("\n", 1)[0].split()
    return (int(fields[4]) + int(fields[5])) / compare.TICK


@contextmanager
def quota(pid: int, share: float) -> Iterator[None]:
    """Give the process `share` of one core at most, by a control group of its own (cgroup v1 or v2)."""
    name = f"sluicegate-bench-{pid}"
    v1 = (V1 / "cpu.cfs_quota_us").exists() or (V1 / "cgroup.procs").exists()
    group = (V1 if v1 else V2) / name
    amount = str(int(PERIOD_US * share))
    try:
        if not v1:
            (V2 / "cgroup.subtree_control").write_text("+cpu")
        group.mkdir()
        if v1:
            (group / "cpu.cfs_period_us").write_text(str(PERIOD_US))
            (group / "cpu.cfs_quota_us").write_text(amount)
        else:
            (group / "cpu.max").write_text(f"{amount} {PERIOD_US}")
        (group / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        with contextlib.suppress(OSError):
            group.rmdir()
        raise SystemExit(f"cannot set a CPU quota ({error}): run as root, outside a container") from error
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            ((V1 if v1 else V2) / "cgroup.procs").write_text(str(pid))
        group.rmdir()
