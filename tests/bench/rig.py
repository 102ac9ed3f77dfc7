"""What every measurement stands on: Sluicegate and the mock provider on their cores, memory and CPU, results kept."""

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.bench import compare
from tests.support import live
from tests.support.c_upstream import build, c_upstream
from tests.support.preparation import prepare

HERE: Final = Path(__file__).resolve().parent
KEY: Final = "sk-bench-0123456789abcdef"
WANTED_FILES: Final = 65_536
READY_WITHIN_S: Final = 180
STREAM_EVENTS: Final = 5_000
"""Events of one of the provider's streams where they must outlive the measurement."""

os.environ.setdefault("RESULTS", str(HERE / "results.jsonl"))


def configuration(provider_port: int, *, limit: int = 100_000_000, pace_ms: int = 20) -> str:
    """One key, three limits, routes to the provider's plain answers and to its streams of an event each `pace_ms`."""
    return f"""
providers:
  - name: mock
    dialect: openai
    base_url: http://127.0.0.1:{provider_port}/v1
    credentials: [{{name: main, value: sk-of-the-provider}}]
routes:
  - {{name: bench, targets: [{{provider: mock, model: bench}}]}}
  - {{name: bench-paced, targets: [{{provider: mock, model: pace-{pace_ms}}}]}}
teams: [{{name: bench, apps: [{{name: bench, routes: "*", keys: [{{name: bench, value: {KEY}}}]}}]}}]
prices: [{{provider: mock, model: "*", input: 1000000, output: 2000000}}]
limits:
  - {{name: requests, scope: {{key: bench}}, metric: requests, window: minute, at_most: {limit}}}
  - {{name: tokens, scope: {{app: bench}}, metric: total_tokens, window: hour, at_most: 100000000000}}
  - {{name: budget, scope: {{team: bench}}, metric: cost_usd, window: month, at_most: 1000000}}
"""


@contextmanager
def sluicegate(
    yaml: str, *, workers: int = 1, before_start: Callable[[Path], None] | None = None
) -> Iterator[live.Live]:
    """Serve `yaml` from a folder of its own, ledger and metrics on. `before_start` gets the data folder."""
    raise_file_limits()
    with tempfile.TemporaryDirectory(prefix="sluicegate-bench-") as folder:
        running = live.Live(Path(folder), workers=workers, database_url=None, env={})
        running.token = prepare(running.data, None, yaml)
        try:
            if before_start is not None:
                before_start(running.data)
            running.start(ready=False)
            running.wait_ready(READY_WITHIN_S)
            yield running
        finally:
            running.finish()


@contextmanager
def pinned(
    *, workers: int = 1, cores: str = "0", pace_ms: int = 20, before_start: Callable[[Path], None] | None = None
) -> Iterator["Rig"]:
    """Sluicegate on `cores`, a provider whose streams outlast every measurement on the load's core."""
    raise_file_limits()
    with c_upstream(events=STREAM_EVENTS if pace_ms > 20 else 64) as provider:
        compare.pin(provider_pids(), str(compare.LOAD_CORE))
        yaml = configuration(provider.port, pace_ms=pace_ms)
        with sluicegate(yaml, workers=workers, before_start=before_start) as running:
            compare.pin(compare.family([running.pid]), cores)
            yield Rig(running, provider.port)


@dataclass(frozen=True, slots=True)
class Rig:
    running: live.Live
    provider_port: int

    @property
    def system(self) -> compare.System:
        return compare.System("sluicegate", self.running.url, "bench", "bench-paced", KEY, (self.running.pid,))

    def pids(self) -> list[int]:
        return compare.family([self.running.pid])

    def plain(self, connections: int, seconds: int, pause_ms: int = 0) -> compare.Row:
        return compare.plain_load(self.system, connections, seconds, pause_ms)

    def streams(self, model: str, count: int, seconds: int, all_open_within_s: int = 0) -> dict[str, Any]:
        return compare.stream_load(self.system, model, build("sseload"), count, seconds, all_open_within_s)


def provider_pids() -> list[int]:
    """The mock providers that this process started."""
    children = compare.family([os.getpid()])[1:]
    return [pid for pid in children if "/upstream-" in Path(f"/proc/{pid}/cmdline").read_text()]


def stay_on_the_load_core() -> None:
    """Keep the calling thread off the gateway's core."""
    os.sched_setaffinity(0, {compare.LOAD_CORE})


def raise_file_limits() -> None:
    """More open files for us and for what we start: root may; others get their hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(hard, WANTED_FILES), max(hard, WANTED_FILES)))
    except (ValueError, PermissionError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@dataclass(frozen=True, slots=True)
class Memory:
    """MB of processes together, what they share counted once (proportional set size)."""

    total: float
    anonymous: float
    """Without mapped files: libraries, the spool, the database."""


def memory(pids: Sequence[int]) -> Memory:
    sums = {"Pss:": 0, "Pss_Anon:": 0}
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        for line in lines:
            name, *rest = line.split()
            if name in sums:
                sums[name] += int(rest[0])
    return Memory(sums["Pss:"] / 1024, sums["Pss_Anon:"] / 1024)


def conclude(measurement: str, figures: Mapping[str, Any], bar: str, held: bool | None) -> None:
    """Print the figures, one a line, then all as JSON, and keep them. `held`: None where this host cannot tell."""
    for name, value in figures.items():
        print(f"  {name.replace('_', ' ')}: {value:,.2f}" if isinstance(value, float) else f"  {name}: {value}")
    print(f"bar: {bar}: {'cannot be told here' if held is None else 'held' if held else 'MISSED'}")
    whole = {"measurement": measurement, "figures": dict(figures), "bar": bar, "held": held}
    print(json.dumps(whole))
    compare.record(whole)


def run_compare(systems: Sequence[str]) -> None:
    """Sluicegate, nginx, the bare provider and `systems` in one run."""
    with sluicegate(configuration(compare.PROVIDER_PORT)) as running:
        ours = f"sluicegate={running.url},bench,{KEY},{running.pid}"
        subprocess.run([sys.executable, str(HERE / "compare.py"), ours, *systems], check=True)
        pids = compare.family([running.pid])
        print(f"sluicegate's memory, shared pages counted once: {memory(pids).total:.0f} MB")
