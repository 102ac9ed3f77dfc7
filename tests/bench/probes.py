"""What probes cost: ≤ 3 % of a core at 1,000 streamed calls a second of 100 events, ≤ 2 % of the throughput.

One worker on the gateway's core, provider, load and agent on the other; gateway and agent are alone in a cgroup, and
that is all that the agent looks at: provider and load stand for other hosts (`--everything`: the whole machine is
seen). Under plain calls as fast as they go, and paced streams (an event each 10 ms, each in a segment of its own as
models answer), all programs are put to their hooks and taken away in turn, many times a second: what the gateway takes
more by call and by event, of all that it takes (`bpf_toggle`). Streams as fast as they go would measure the load: its
core is the narrow one then, and what slows it has the gateway find fewer events at a time. With the kernel counting
(`bpf_costs`): what all programs take by call of connections that are there, times 1,000 calls a second. Needs root and
bcc.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.cli import agent_client
from gateway.errors import SluicegateError
from gateway.probes.feature import cgroup_root
from tests.bench import compare, rig
from tests.bench.bpf_costs import counting
from tests.bench.bpf_toggle import Hooks, added
from tests.support.c_upstream import c_upstream

EVENTS, PACE_MS = 100, 10
CALLS_A_SECOND = 1_000
CONNECTIONS = 64
TOGGLED = 5
"""Times as long is a load in which programs come and go."""
BAR_CORE, BAR_MORE = 0.03, 0.02
READY_S = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    seconds = int(os.environ.get("SECONDS_EACH", "5"))
    parser.add_argument("--seconds", type=int, default=seconds, help=f"of each load ({seconds}; or SECONDS_EACH)")
    parser.add_argument("--everything", action="store_true", help="no cgroup of its own: the whole machine is seen")
    parser.add_argument("--streams", type=int, default=400, metavar="N", help="paced ones at a time (400)")


def measure(given: argparse.Namespace) -> None:
    if os.geteuid() != 0:
        sys.exit("probes need root")
    rig.raise_file_limits()
    rounds: list[dict[str, float]] = []
    with c_upstream(events=EVENTS) as provider:
        compare.pin(rig.provider_pids(), str(compare.LOAD_CORE))
        yaml = rig.configuration(provider.port, pace_ms=PACE_MS)
        with own_cgroup(given.everything) as cgroup, rig.sluicegate(yaml) as running:
            move(os.getpid(), cgroup_root())
            compare.pin(compare.family([running.pid]))
            os.sched_setaffinity(0, {compare.LOAD_CORE})
            bench = rig.Rig(running, provider.port)
            bench.plain(32, 2)
            for _ in range(max(compare.ROUNDS, 3)):
                with agent(running.data, cgroup) as prober:
                    bench.plain(8, 1)
                    found = taken(bench, prober, cgroup, given)
                    found |= slowed(bench, prober, cgroup, given)
                rounds.append(found)
                print("  " + "  ".join(f"{name} {value:,.4g}" for name, value in found.items()), file=sys.stderr)
    figures: dict[str, Any] = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    held = (
        figures["share_of_core"] <= BAR_CORE
        and max(figures["call_more"], figures["event_more"]) <= BAR_MORE
        and not any(each["failed"] for each in rounds)
    )
    bar = f"≤ {BAR_CORE:.0%} of a core at {CALLS_A_SECOND:,} calls a second of {EVENTS} events, ≤ {BAR_MORE:.0%} more"
    rig.conclude("probes", figures, bar, held)


def slowed(bench: rig.Rig, prober: int, cgroup: Path, given: argparse.Namespace) -> dict[str, float]:
    """What the gateway takes more with programs at their hooks than without."""
    hooks = Hooks(prober, (cgroup_root(), cgroup))
    try:
        return _slowed(bench, hooks, given)
    finally:
        hooks.close()


def _slowed(bench: rig.Rig, hooks: Hooks, given: argparse.Namespace) -> dict[str, float]:
    gateway = bench.pids()
    worker = [pid for pid in gateway if b"gateway.worker" in _command(pid)]
    most = given.seconds * TOGGLED + 3

    def plain() -> float:
        return bench.plain(CONNECTIONS, most)["answers"]

    def paced() -> float:
        found = bench.streams("bench-paced", given.streams, most)
        return float(found["events_per_s"] * found["seconds"])

    told: dict[str, float] = {}
    for name, load in (("call", plain), ("event", paced)):
        compare.wait_until_idle(gateway)
        found = added(hooks, load, given.seconds * TOGGLED, worker, gateway)
        told |= {
            f"{name}_us": found.whole,
            f"{name}_us_more": found.more,
            f"{name}_us_more_error": found.error,
            f"{name}_more": found.share,
        }
    return told


def taken(bench: rig.Rig, prober: int, cgroup: Path, given: argparse.Namespace) -> dict[str, float]:
    """What programs and their process take; shares of one core."""
    compare.wait_until_idle(bench.pids())
    with counting(prober, cgroup) as counted:
        plain = bench.plain(CONNECTIONS, given.seconds)
        plain_ns, _ = counted.cost_ns()
    compare.wait_until_idle(bench.pids())
    streams: list[dict[str, Any]] = []
    load = threading.Thread(
        target=lambda: streams.append(bench.streams("bench-paced", given.streams, given.seconds + 3))
    )
    load.start()
    time.sleep(1.5)  # all are open, and have their connections
    before_s, begun_s = compare.cpu_s([prober]), time.monotonic()
    with counting(prober, cgroup) as counted:
        time.sleep(given.seconds)
        run_ns, runs = counted.cost_ns()
        took_s = time.monotonic() - begun_s
    process_s = compare.cpu_s([prober]) - before_s
    load.join()
    (found,) = streams
    calls = found["events_per_s"] * took_s / EVENTS
    return {
        "run_ns_a_plain_call": plain_ns / max(1, plain["answers"]),
        "run_ns_a_call": run_ns / calls,
        "runs_a_call": runs / calls,
        "share_of_core": run_ns * 1e-9 / calls * CALLS_A_SECOND,
        "process_share_of_core": process_s / took_s,
        "paced_calls_per_s": calls / took_s,
        "failed": plain["failed"] + found["failed"],
    }


@contextmanager
def own_cgroup(everything: bool) -> Iterator[Path]:
    """This process is in it, until it moves on, and what it starts is, with all their sockets."""
    if everything:
        yield cgroup_root()
        return
    folder = cgroup_root() / f"sluicegate-bench-{os.getpid()}"
    folder.mkdir()
    try:
        move(os.getpid(), folder)
        yield folder
    finally:
        move(os.getpid(), cgroup_root())
        folder.rmdir()


def move(pid: int, cgroup: Path) -> None:
    (cgroup / "cgroup.procs").write_text(str(pid))


@contextmanager
def agent(data: Path, cgroup: Path) -> Iterator[int]:
    """The agent with its probes, on the load's core; the pid of the process that loads them."""
    socket = data / "agent.sock"
    command = [str(Path(sys.executable).parent / "sluicegate"), "agent", "--socket", str(socket)]
    command += [] if cgroup == cgroup_root() else ["--cgroup", str(cgroup)]
    process = subprocess.Popen(
        [
            "sh",
            "-c",
            f'echo $$ >{cgroup}/cgroup.procs; exec "$@"',
            "sh",
            "taskset",
            "-c",
            str(compare.LOAD_CORE),
            *command,
        ],
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    try:
        until_s = time.monotonic() + READY_S
        while not _ready(socket):
            if time.monotonic() > until_s or process.poll() is not None:
                sys.exit("the agent has no probes here: run `sluicegate agent` and read what it says")
            time.sleep(0.1)
        time.sleep(1.0)
        (prober,) = (pid for pid in compare.family([process.pid]) if b"probes.main" in _command(pid))
        yield prober
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _ready(socket: Path) -> bool:
    try:
        said = agent_client.ask(socket, "status")
    except SluicegateError:
        return False
    return bool(said["workers"]) and said["probes"]["trouble"] is None


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
