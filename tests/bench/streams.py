"""Memory of many open streams: at most 400 MB for 10,000, and none of them fails.

Opens N streams, holds them, and measures the memory of supervisor, keeper and workers together (proportional set size:
shared pages once). Events come each PACE ms, by default slowly enough that one core carries 10,000 streams: it is the
memory of open streams that is asked for. Socket buffers are the kernel's and not in it.

A stream takes two open files of its worker. Where the limit of open files (raised if we may) is too low for one worker,
there are as many workers as it takes; their memory counts as well.
"""

import argparse
import math
import os
import resource
import threading
from pathlib import Path
from typing import Any

from tests.bench import compare, rig

BAR_MB = 400
SECONDS = 10
OPEN_WITHIN_S = 60
OTHER_FILES = 200
"""What a process has open besides."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("streams", nargs="?", type=int, default=10_000, metavar="N", help="default 10000")
    parser.add_argument("--workers", type=int, metavar="N", help="as few as the limit of open files allows")
    parser.add_argument("--pace", type=int, default=1_000, metavar="MS", help="between a stream's events (1000)")
    seconds = int(os.environ.get("SECONDS_EACH", str(SECONDS)))
    parser.add_argument("--seconds", type=int, default=seconds, help=f"to hold them ({seconds}; or SECONDS_EACH)")


def measure(given: argparse.Namespace) -> None:
    rig.raise_file_limits()
    workers = given.workers or workers_needed(given.streams)
    with rig.pinned(workers=workers, pace_ms=given.pace) as bench:
        bench.plain(8, 2)
        pids = bench.pids()
        compare.wait_until_idle(pids)
        at_rest = rig.memory(pids)
        before_s, samples, over = compare.cpu_s(pids), [at_rest.total], threading.Event()

        def watch() -> None:
            rig.stay_on_the_load_core()
            while not over.wait(0.5):
                samples.append(rig.memory(pids).total)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            load = bench.streams("bench-paced", given.streams, given.seconds, OPEN_WITHIN_S)
        finally:
            over.set()
            watcher.join()
        used_s = compare.cpu_s(pids) - before_s
        samples.append(rig.memory(pids).total)
        compare.wait_until_idle(pids)
        figures: dict[str, Any] = {
            "streams": given.streams,
            "workers": workers,
            "open_at_the_end": load["open"],
            "failed": load["failed"],
            "memory_at_most_mb": max(samples),
            "memory_at_rest_mb": at_rest.total,
            "kb_a_stream": (max(samples) - at_rest.total) * 1024 / given.streams,
            "memory_after_mb": rig.memory(pids).total,
            "cpu_us_an_event": used_s * 1e6 / max(1, load["events_per_s"] * load["seconds"]),
            "events_per_s": load["events_per_s"],
            "first_event_p99_ms": load["ttfe_us_p99"] / 1e3,
        }
    held = max(samples) <= BAR_MB and load["failed"] == 0 and load["open"] == given.streams
    rig.conclude("streams", figures, f"{given.streams} streams open, none failed, ≤ {BAR_MB} MB", held)


def workers_needed(count: int) -> int:
    """How many workers have open files enough; ends with the remedy where this host cannot have so many streams."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit < count + OTHER_FILES:
        raise SystemExit(f"the load's {count} connections are more than the {limit} open files that are allowed here")
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    if last - first < count + OTHER_FILES:
        raise SystemExit(
            f"{count} streams need as many local ports, {first} to {last} are fewer:"
            " sysctl -w net.ipv4.ip_local_port_range='1024 65535'"
        )
    # Connections are spread by a hash: a worker gets somewhat more or less than its part.
    return math.ceil(2 * count * (1.05 if 2 * count + OTHER_FILES > limit else 1) / (limit - OTHER_FILES))
