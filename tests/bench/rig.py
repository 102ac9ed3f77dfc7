"""Start Sluicegate as the comparison wants it, and measure it: see tests/bench/run."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.bench.compare import PROVIDER_PORT, cpu_s, family
from tests.support import live
from tests.support.c_upstream import build
from tests.support.ports import wait_until_it_answers

HERE = Path(__file__).resolve().parent
KEY = "sk-bench-0123456789abcdef"
CONFIGURATION = f"""
providers:
  - name: mock
    dialect: openai
    base_url: http://127.0.0.1:{PROVIDER_PORT}/v1
    credentials: [{{name: main, value: sk-of-the-provider}}]
routes:
  - {{name: bench, targets: [{{provider: mock, model: bench}}]}}
  - {{name: bench-paced, targets: [{{provider: mock, model: pace-20}}]}}
teams: [{{name: bench, apps: [{{name: bench, routes: "*", keys: [{{name: bench, value: {KEY}}}]}}]}}]
prices: [{{provider: mock, model: "*", input: 1000000, output: 2000000}}]
limits:
  - {{name: requests, scope: {{key: bench}}, metric: requests, window: minute, at_most: 100000000}}
  - {{name: tokens, scope: {{app: bench}}, metric: total_tokens, window: hour, at_most: 100000000000}}
  - {{name: budget, scope: {{team: bench}}, metric: cost_usd, window: month, at_most: 1000000}}
"""
STREAM_SECONDS = 20


@contextmanager
def sluicegate() -> Iterator[live.Live]:
    """One worker with key, route, three limits, ledger and metrics, as design.md §11 says."""
    with tempfile.TemporaryDirectory(prefix="sluicegate-bench-") as folder:
        with live.gateway(Path(folder), CONFIGURATION, workers=1) as running:
            yield running


def compare(others: Sequence[str]) -> None:
    results = os.environ.get("RESULTS", str(HERE / "results.jsonl"))
    with sluicegate() as running:
        systems = [f"sluicegate={running.url},bench,{KEY},{running.pid}", *others]
        command = [sys.executable, str(HERE / "compare.py"), *systems]
        subprocess.run(command, check=True, env={**os.environ, "RESULTS": results})
        begun = time.monotonic()
        settled = running.api.get("/api/v1/limits/requests/state").json()
        print(f"limits settled {time.monotonic() - begun:.1f} s after the last answer: {settled}")


def pss_mb(pids: Sequence[int]) -> float:
    """Memory of the processes together, what they share counted once (proportional set size)."""
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(int(line.split()[1]) for text in rollups for line in text.splitlines() if line.startswith("Pss:")) / 1024


def streams(count: int) -> None:
    """Memory, CPU and failures while `count` paced streams are open."""
    provider = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", str(build("upstream")), str(PROVIDER_PORT), "5000"])
    try:
        wait_until_it_answers(PROVIDER_PORT, within_s=5)
        with sluicegate() as running:
            pids = family([running.pid])
            at_rest = pss_mb(pids)
            command = [str(build("sseload")), "127.0.0.1", str(running.port), "/v1/chat/completions"]
            command += ["bench-paced", KEY, str(count), str(STREAM_SECONDS)]
            before_s, largest = cpu_s(pids), at_rest
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as load:
                while load.poll() is None:
                    largest = max(largest, pss_mb(pids))
                    time.sleep(0.5)
                assert load.stdout is not None
                figures = json.loads(load.stdout.read())
            used_s = cpu_s(pids) - before_s
            print(
                f"{count} streams: {largest:.0f} MB at most, {at_rest:.0f} MB at rest, {used_s:.1f} s of CPU, {figures}"
            )
    finally:
        provider.kill()
        provider.wait()


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["streams"]:
        streams(int(arguments[1]) if arguments[1:] else 10_000)
    else:
        compare(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
