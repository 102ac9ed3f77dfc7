"""The splice engine beside nginx `stream`: at least 70 % of its throughput per CPU second, ≤ 20 KB a connection.

Both are plain TCP relays here, one process each on the gateway's core, with the same load and the same server on the
other core, in turn; medians of the rounds, ratios of each round. `bulk`: much from the server at once, in bytes per CPU
second of the relay. `echo`: small messages there and back, each sent when the last one has come, in round trips per CPU
second. `hold`: the memory of N idle connections that have carried one message each, the kernel's for sockets apart
(what the relay's process has, shared pages once), and that each carries another one after. A connection takes two open
files: where one process may not have so many, there are as many relays as it takes, all on the same core.

What is not in it: accepting and sniffing, which the transparent listener does, and a network other than loopback.
"""

import argparse
import json
import math
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench import compare, rig
from tests.support.c_upstream import build

BAR = 0.7
BAR_KB = 20
SERVER_PORT, NGINX_PORT, SPLICE_PORT = 9103, 9104, 9105
SECONDS = 3
BULK_CONNECTIONS, ECHO_CONNECTIONS, ECHO_BYTES = (1, 16), 100, 512
OTHER_FILES = 200
"""What a process has open besides."""
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
    with relays() as (nginx, (ours,)):
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
        figures |= held(given.connections)
    enough = all(figures[f"{name}_ratio"] >= BAR for name in loads)
    none_failed = not any(value for key, value in figures.items() if key.endswith("failed"))
    small = given.no_hold or figures["idle_kb_a_connection"] <= BAR_KB
    bar = f"≥ {BAR} of nginx per CPU second, ≤ {BAR_KB} KB a connection, none failed"
    rig.conclude("splice", figures, bar, enough and none_failed and small)


@contextmanager
def relays(parts: int = 1) -> Iterator[tuple[int, list[int]]]:
    """Servers, nginx before the first of them, and a splice relay before each; process ids of what relays."""
    load = build("spliceload")
    with ExitStack() as stack:
        work = Path(tempfile.mkdtemp(prefix="bench-splice-"))
        stack.callback(shutil.rmtree, work, ignore_errors=True)
        work.chmod(0o755)

        def started(port: int, core: int, *command: str | Path) -> int:
            process = compare.start(port, core, *command)
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
            return process.pid

        ours = []
        for part in range(parts):
            server, port = SERVER_PORT + 10 * part, SPLICE_PORT + 10 * part
            started(server, compare.LOAD_CORE, load, "serve", str(server))
            relay = [sys.executable, "-m", "tests.bench.splice_relay", str(port), str(server)]
            ours.append(started(port, compare.GATEWAY_CORE, *relay))
        conf = Path(__file__).parent / "nginx-stream.conf"
        nginx = started(NGINX_PORT, compare.GATEWAY_CORE, "nginx", "-p", work, "-c", conf, "-g", "daemon off;")
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


def held(count: int) -> dict[str, Any]:
    """Memory of so many idle splices, the share of a core that they take, and what nginx has for one."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    parts = math.ceil(2 * count / (limit - OTHER_FILES))
    with relays(parts) as (nginx, ours):
        time.sleep(SETTLED_S)
        with holding(NGINX_PORT, 1, count // parts, [nginx]) as of_nginx:
            pass
        with holding(SPLICE_PORT, parts, count // parts, ours) as of_ours:
            before_s = compare.cpu_s(ours)
            time.sleep(HELD_S)
            percent = 100 * (compare.cpu_s(ours) - before_s) / HELD_S
    return {
        "idle_connections": of_ours.connections,
        "idle_relays": parts,
        "idle_kb_a_connection": of_ours.kb,
        "idle_nginx_kb_a_connection": of_nginx.kb,
        "idle_percent_of_a_core": percent,
        "idle_failed": of_ours.failed + of_nginx.failed,
    }


@dataclass(slots=True)
class Held:
    connections: int
    kb: float
    failed: int = 0


@contextmanager
def holding(port: int, parts: int, each: int, pids: Sequence[int]) -> Iterator[Held]:
    """`each` connections through every relay. How many failed is known after the block."""
    before = rig.memory(pids).total
    loads = []
    with ExitStack() as stack:
        for part in range(parts):
            command = command_of("hold", port + 10 * part, each)
            load = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            loads.append(stack.enter_context(load))
        for load in loads:
            assert load.stdout is not None
            if (said := load.stdout.readline()) != "open\n":
                raise SystemExit(f"not all of {each} connections came up: {said}")
        time.sleep(SETTLED_S)
        found = Held(parts * each, (rig.memory(pids).total - before) * 1024 / (parts * each))
        yield found
        for load in loads:
            assert load.stdin is not None
            assert load.stdout is not None
            load.stdin.close()
            found.failed += json.loads(load.stdout.readline())["failed"]


def run(kind: str, port: int, *arguments: int) -> str:
    return subprocess.run(command_of(kind, port, *arguments), capture_output=True, text=True, check=True).stdout


def command_of(kind: str, port: int, *arguments: int) -> Sequence[str]:
    words = ["taskset", "-c", str(compare.LOAD_CORE), str(build("spliceload")), kind, str(port)]
    return [*words, *map(str, arguments)]
