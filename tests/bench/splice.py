"""The splice engine beside nginx `stream`: at least 70 % of its throughput per CPU second, ≤ 20 KB a connection.

Both are plain TCP relays here, one process each on the gateway's core, with the same load and the same server on the
other core, in turn; medians of the rounds, ratios of each round. `bulk`: much from the server at once, in bytes per CPU
second of the relay. `echo`: small messages there and back, each sent when the last one has come, in round trips per CPU
second. `hold`: the memory of N idle connections that have carried one message each, the kernel's for sockets apart
(the relay's resident set), and that each carries another one after.

What is not in it: accepting and sniffing, which the transparent listener does, and a network other than loopback.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.bench import compare, rig
from tests.support.c_upstream import build

BAR = 0.7
BAR_KB = 20
SERVER_PORT, NGINX_PORT, SPLICE_PORT = 9103, 9104, 9105
SECONDS = 3
BULK_CONNECTIONS, ECHO_CONNECTIONS, ECHO_BYTES = (1, 16), 100, 512
SETTLED_S = 2
HELD_S = 35
"""Long enough for the engine's round that looks at every splice."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("connections", nargs="?", type=int, default=20_000, metavar="N", help="idle ones (20000)")
    seconds = int(os.environ.get("SECONDS_EACH", str(SECONDS)))
    parser.add_argument("--seconds", type=int, default=seconds, help=f"of each load ({seconds}; or SECONDS_EACH)")
    parser.add_argument("--no-hold", action="store_true", help="leave the idle connections out")


def measure(given: argparse.Namespace) -> None:
    rig.raise_file_limits()
    figures: dict[str, Any] = {}
    with relays() as (nginx, ours):
        loads = {f"bulk_{count}": ("bulk", count) for count in BULK_CONNECTIONS}
        loads["echo"] = ("echo", ECHO_CONNECTIONS)
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in loads}
        for _ in range(compare.ROUNDS):
            for name, (kind, count) in loads.items():
                size = [ECHO_BYTES] if kind == "echo" else []
                one = carried(nginx, NGINX_PORT, kind, count, given.seconds, *size)
                other = carried(ours, SPLICE_PORT, kind, count, given.seconds, *size)
                runs[name].append(
                    {"ratio": other["per_cpu_s"] / one["per_cpu_s"]}
                    | {f"nginx_{key}": value for key, value in one.items()}
                    | {f"splice_{key}": value for key, value in other.items()}
                )
        for name, rows in runs.items():
            for key in rows[0]:
                figures[f"{name}_{key}"] = statistics.median(row[key] for row in rows)
            figures[f"{name}_least_ratio"] = min(row["ratio"] for row in rows)
        if not given.no_hold:
            figures |= held(nginx, NGINX_PORT, given.connections, 0, "nginx_idle")
            figures |= held(ours, SPLICE_PORT, given.connections, HELD_S, "splice_idle")
    enough = all(figures[f"{name}_ratio"] >= BAR for name in loads)
    none_failed = not any(value for key, value in figures.items() if key.endswith("failed"))
    small = given.no_hold or figures["splice_idle_kb_a_connection"] <= BAR_KB
    bar = f"≥ {BAR} of nginx per CPU second, ≤ {BAR_KB} KB a connection, none failed"
    rig.conclude("splice", figures, bar, enough and none_failed and small)


@contextmanager
def relays() -> Iterator[tuple[int, int]]:
    """The server, nginx and the splice relay; the process ids of both relays that do the work."""
    load = build("spliceload")
    with ExitStack() as stack:
        work = Path(tempfile.mkdtemp(prefix="bench-splice-"))
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        work.chmod(0o755)
        here = Path(__file__).parent

        def started(port: int, core: int, *command: str | Path) -> int:
            process = compare.start(port, core, *command)
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
            return process.pid

        started(SERVER_PORT, compare.LOAD_CORE, load, "serve", str(SERVER_PORT))
        conf = here / "nginx-stream.conf"
        nginx = started(NGINX_PORT, compare.GATEWAY_CORE, "nginx", "-p", work, "-c", conf, "-g", "daemon off;")
        relay = [sys.executable, "-m", "tests.bench.splice_relay", str(SPLICE_PORT), str(SERVER_PORT)]
        ours = started(SPLICE_PORT, compare.GATEWAY_CORE, *relay)
        (worker,) = compare.family([nginx])[1:]
        yield worker, ours


def carried(pid: int, port: int, kind: str, *arguments: int) -> dict[str, float]:
    """What a relay carried in one load: MB or round trips, a second and for each CPU second that it took."""
    before_s = compare.cpu_s([pid])
    found = json.loads(run(kind, port, *arguments))
    used_s = compare.cpu_s([pid]) - before_s
    amount = found["trips"] if kind == "echo" else found["bytes"] / 1e6
    row = {"per_s": amount / found["seconds"], "per_cpu_s": amount / used_s, "failed": found["failed"]}
    return row | {"p50_us": found["p50_us"], "p99_us": found["p99_us"]} if kind == "echo" else row


def held(pid: int, port: int, count: int, seconds: float, name: str) -> dict[str, float]:
    """Memory of idle connections, and the share of a core that they take."""
    time.sleep(SETTLED_S)
    before = rig.memory([pid]).total
    command = command_of("hold", port, count)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
        assert load.stdin is not None
        assert load.stdout is not None
        said = load.stdout.readline()
        if said != "open\n":
            raise SystemExit(f"not all of {count} connections came up: {said}")
        time.sleep(SETTLED_S)
        grown = rig.memory([pid]).total - before
        cpu_s = compare.cpu_s([pid])
        time.sleep(seconds)
        share = (compare.cpu_s([pid]) - cpu_s) / seconds if seconds else 0.0
        load.stdin.close()
        failed = json.loads(load.stdout.readline())["failed"]
    figures = {"connections": count, "kb_a_connection": grown * 1024 / count, "failed": failed}
    if seconds:
        figures["percent_of_a_core"] = 100 * share
    return {f"{name}_{key}": value for key, value in figures.items()}


def run(kind: str, port: int, *arguments: int) -> str:
    return subprocess.run(command_of(kind, port, *arguments), capture_output=True, text=True, check=True).stdout


def command_of(kind: str, port: int, *arguments: int) -> Sequence[str]:
    words = ["taskset", "-c", str(compare.LOAD_CORE), str(build("spliceload")), kind, str(port)]
    return [*words, *map(str, arguments)]
