#!/usr/bin/env python3
"""Compare gateways in one run: the same mock provider, the same load, the same cores.

    compare.py NAME=URL,MODEL,KEY,PID[+PID…] …      e.g.  compare.py sluicegate=http://127.0.0.1:8080,bench,sk-…,4242

URL is what stands before /v1/chat/completions.

The mock provider is started here on 127.0.0.1:9101, nginx as the floor on 127.0.0.1:9102; each gateway must already be
running and have its target set to the mock provider. A gateway's processes are pinned to core 0; load and provider
share core 1. ROUNDS rounds (default 3) of SECONDS_EACH (default 4), interleaved, medians. Prints a table, then one JSON
line; RESULTS=FILE appends that line to a file.

MODEL is a route to the provider's model "bench"; a route MODEL-paced must lead to its model "pace-20" (an event each
20 ms).

Columns: rps (64 connections, plain answers); CPU µs of the gateway per request; added p50/p99 latency at one connection
against direct (µs); streams in a burst (64, events as fast as they go): events/s and gateway CPU µs per event; paced
streams (400, an event each 20 ms, as models answer): gateway CPU µs per event; failed answers and streams; resident
memory (MB). A plain answer other than 2xx or 3xx counts as failed too.

Needs: cc, nginx, wrk, taskset, setpriv. Ends only what it started.
"""

import contextlib
import json
import os
import platform
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
ROUNDS = int(os.environ.get("ROUNDS", "3"))
SECONDS = int(os.environ.get("SECONDS_EACH", "4"))
TICK = os.sysconf("SC_CLK_TCK")
GATEWAY_CORE, LOAD_CORE = 0, 1
IDLE_WITHIN_S = 15
WARM_UPS = 10
PROVIDER_PORT, NGINX_PORT = 9101, 9102
BURST_STREAMS, PACED_STREAMS = 64, 400
COLUMNS = (
    ("rps", "rps", ",.0f"),
    ("rps_of_nginx", "of nginx", ".2f"),
    ("cpu_us", "CPU µs/req", ".1f"),
    ("cpu_of_nginx", "of nginx", ".2f"),
    ("added_p50", "added p50 µs", ".0f"),
    ("added_p99", "added p99 µs", ".0f"),
    ("events", "burst events/s", ",.0f"),
    ("cpu_us_event", "CPU µs/event", ".2f"),
    ("event_cpu_of_nginx", "of nginx", ".2f"),
    ("cpu_us_paced", "paced CPU µs/event", ".2f"),
    ("paced_cpu_of_nginx", "of nginx", ".2f"),
    ("failed", "failed", ".0f"),
    ("rss", "RSS MB", ".0f"),
)

Row = dict[str, float]


@dataclass(frozen=True, slots=True)
class System:
    """One thing to measure; `pids` are its root processes, none for the provider itself."""

    name: str
    url: str
    model: str
    paced_model: str
    key: str
    pids: tuple[int, ...]


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds that the processes have used so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


def rss_mb(pids: Iterable[int]) -> float:
    """Resident memory of the processes together."""
    total = 0
    for pid in pids:
        found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
        total += int(found[1]) if found else 0
    return total / 1024


def family(pids: Iterable[int]) -> list[int]:
    """The processes and all their descendants."""
    found: list[int] = []
    todo = list(pids)
    while todo:
        pid = todo.pop()
        found.append(pid)
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            for task in Path(f"/proc/{pid}/task").iterdir():
                todo += [int(child) for child in (task / "children").read_text().split()]
    return found


def listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def start(port: int, core: int, *command: str | Path) -> "subprocess.Popen[bytes]":
    """A process of our own on a port of its own, up; it ends with us, even if we are killed."""
    name = Path(command[0]).name
    if listening(port):
        sys.exit(f"port {port}, for {name}, is taken by another process")
    process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", "taskset", "-c", str(core), *command])
    for _ in range(100):
        if process.poll() is not None:
            sys.exit(f"{name} ended with exit {process.returncode}")
        if listening(port):
            return process
        time.sleep(0.05)
    process.terminate()
    sys.exit(f"{name} does not listen on port {port}")


def pin(pids: Iterable[int], cores: str = str(GATEWAY_CORE)) -> None:
    """Keep the processes with all their threads on these cores ("0", "0,1")."""
    for pid in pids:
        subprocess.run(["taskset", "-acp", cores, str(pid)], stdout=subprocess.DEVNULL, check=True)


def wait_until_idle(pids: Sequence[int]) -> None:
    """Let a gateway end what a load left behind: the next one has the same core. Gives up after IDLE_WITHIN_S."""
    deadline = time.monotonic() + IDLE_WITHIN_S
    while time.monotonic() < deadline:
        before = cpu_s(pids)
        time.sleep(0.5)
        if cpu_s(pids) - before <= 0.03:
            return


def plain_load(system: System, connections: int, seconds: int, pause_ms: int = 0) -> Row:
    """wrk's figures: rps, answers, p50 and p99 in µs, failed answers. `pause_ms`: between a connection's calls."""
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{connections}", f"-d{seconds}", "--latency"]
    command += ["--timeout", "20s", "-s", str(HERE / "post.lua"), system.url + "/v1/chat/completions"]
    command += ["--", system.model, system.key, str(pause_ms)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    failed = sum(map(int, re.findall(r"(?:Non-2xx or 3xx responses:|connect|read|write|timeout) (\d+)", text)))
    failed += " 0 requests in" in text  # too slow for one answer in the time: figures of it mean nothing
    if failed:
        said = " ".join(re.findall(r"(?:Non-2xx|Socket errors).*", text))
        print(f"  ! {system.name}: {said or 'no answer in time'}", file=sys.stderr)

    def figure(pattern: str) -> re.Match[str]:
        found = re.search(pattern, text)
        return found or sys.exit(f"wrk says nothing of {pattern}: {text}")

    def micros(label: str) -> float:
        number, unit = figure(rf"{label}\s+([\d.]+)(us|ms|s)").groups()
        return float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]

    return {
        "rps": float(figure(r"Requests/sec:\s+([\d.]+)")[1]),
        "answers": int(figure(r"(\d+) requests in")[1]),
        "p50": micros("50%"),
        "p99": micros("99%"),
        "failed": failed,
    }


def stream_load(
    system: System, model: str, program: Path, streams: int, seconds: int = SECONDS, all_open_within_s: int = 0
) -> dict[str, Any]:
    """sseload's figures: open, events_per_s, failed, … `all_open_within_s`: wait so long at most before `seconds`."""
    url = urlsplit(system.url)
    command = ["taskset", "-c", str(LOAD_CORE), str(program), str(url.hostname), str(url.port)]
    command += [url.path + "/v1/chat/completions", model, system.key, str(streams), str(seconds)]
    if all_open_within_s:
        command.append(str(all_open_within_s))
    figures: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return figures


def measure(system: System, sseload: Path) -> Row:
    """One round of one system: plain, at one connection, streams in a burst, paced streams."""
    pids = family(system.pids)
    pin(pids)
    for _ in range(WARM_UPS):  # pools and caches; some load half their code at the first call
        if plain_load(system, 8, 1)["answers"] >= 16:
            break
    wait_until_idle(pids)
    at_start = cpu_s(pids)
    many = plain_load(system, 64, SECONDS)
    after_plain = cpu_s(pids)
    wait_until_idle(pids)
    one = plain_load(system, 1, 2)
    wait_until_idle(pids)
    before_burst = cpu_s(pids)
    burst = stream_load(system, system.model, sseload, BURST_STREAMS)
    after_burst = cpu_s(pids)
    wait_until_idle(pids)
    before_paced = cpu_s(pids)
    paced = stream_load(system, system.paced_model, sseload, PACED_STREAMS)
    after_paced = cpu_s(pids)
    wait_until_idle(pids)
    return {
        "rps": many["rps"],
        "cpu_us": (after_plain - at_start) / max(1, many["answers"]) * 1e6,
        "p50": one["p50"],
        "p99": one["p99"],
        "events": burst["events_per_s"],
        "cpu_us_event": (after_burst - before_burst) / max(1, burst["events_per_s"] * burst["seconds"]) * 1e6,
        "cpu_us_paced": (after_paced - before_paced) / max(1, paced["events_per_s"] * paced["seconds"]) * 1e6,
        "failed": many["failed"] + one["failed"] + burst["failed"] + paced["failed"],
        "rss": rss_mb(pids),
    }


def tabulate(runs: dict[str, list[Row]]) -> dict[str, Row]:
    """Medians of the rounds, and each system beside direct and nginx."""
    table = {name: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for name, rows in runs.items()}
    direct, nginx = table["direct"], table["nginx"]
    for row in table.values():
        row["added_p50"] = row["p50"] - direct["p50"]
        row["added_p99"] = row["p99"] - direct["p99"]
        row["rps_of_nginx"] = row["rps"] / nginx["rps"]
        row["cpu_of_nginx"] = row["cpu_us"] / nginx["cpu_us"]
        row["event_cpu_of_nginx"] = row["cpu_us_event"] / nginx["cpu_us_event"]
        row["paced_cpu_of_nginx"] = row["cpu_us_paced"] / nginx["cpu_us_paced"]
    return table


def report(table: dict[str, Row]) -> None:
    print("| system | " + " | ".join(title for _, title, _ in COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for name, row in table.items():
        print(f"| {name} | " + " | ".join(format(row[key], form) for key, _, form in COLUMNS) + " |")
    print(json.dumps(table))
    record({"table": table})


def record(figures: dict[str, Any]) -> None:
    """Append what was measured, with when, on what and of which commit, to the file that RESULTS names."""
    if results := os.environ.get("RESULTS"):
        commit = subprocess.run(
            ["git", "-C", HERE, "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
        ).stdout.strip()
        host = {"kernel": platform.release(), "cpu": cpu_model(), "python": platform.python_version()}
        line = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "commit": commit, **host, **figures}
        with Path(results).open("a") as file:
            file.write(json.dumps(line) + "\n")


def cpu_model() -> str:
    found = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def read_system(argument: str) -> System:
    name, rest = argument.split("=", 1)
    url, model, key, pids = rest.split(",")
    return System(name, url.rstrip("/"), model, f"{model}-paced", key, tuple(int(pid) for pid in pids.split("+")))


def main(arguments: Sequence[str]) -> None:
    work = Path(tempfile.mkdtemp(prefix="bench-"))
    work.chmod(0o755)
    started: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        for source in ("upstream", "sseload"):
            subprocess.run(["cc", "-O2", "-o", work / source, HERE / f"{source}.c"], check=True)
        started.append(start(PROVIDER_PORT, LOAD_CORE, work / "upstream", str(PROVIDER_PORT), "64", "0"))
        nginx = ("nginx", "-p", work, "-c", HERE / "nginx.conf", "-g", "daemon off;")
        started.append(start(NGINX_PORT, GATEWAY_CORE, *nginx))
        systems = [
            System("direct", f"http://127.0.0.1:{PROVIDER_PORT}", "bench", "pace-20", "sk", ()),
            System("nginx", f"http://127.0.0.1:{NGINX_PORT}", "bench", "pace-20", "sk", (started[1].pid,)),
            *map(read_system, arguments),
        ]
        runs: dict[str, list[Row]] = {system.name: [] for system in systems}
        for _ in range(ROUNDS):
            for system in systems:
                runs[system.name].append(measure(system, work / "sseload"))
        report(tabulate(runs))
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait(10)
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main(sys.argv[1:])
