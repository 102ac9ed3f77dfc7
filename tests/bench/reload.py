"""Changes of configuration under load: not one failed call or stream.

Plain calls and paced streams run while the configuration is applied anew again and again (a limit, prices, and a route
that comes and goes) and each fifth time the settings are re-read (SIGHUP). After each change the gateway is asked
whether it has it. Says also what changing costs the calls (p99 with and without).
"""

import argparse
import os
import signal
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.bench import compare, rig

PLAIN_CONNECTIONS, STREAMS = 32, 100
SECONDS = int(os.environ.get("SECONDS_EACH", "10"))
PAUSE_MS = 32
LEAST_CHANGES, MOST_ROUNDS = 10, 20
EXTRA_ROUTE = "\n  - {name: bench-extra, targets: [{provider: mock, model: bench}], timeout: {first_byte: 20s}}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--every", type=float, default=0.2, metavar="S", help="seconds between changes (0.2)")
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="2")


def measure(given: argparse.Namespace) -> None:
    with rig.pinned(workers=given.workers) as bench, ThreadPoolExecutor(2) as pool:
        bench.plain(8, 1)
        calm = _loads(bench, pool)
        changer = Changer(bench, given.every)
        changer.start()
        try:
            rounds = [_loads(bench, pool)]
            while len(rounds) < compare.ROUNDS or (changer.changes < LEAST_CHANGES and len(rounds) < MOST_ROUNDS):
                rounds.append(_loads(bench, pool))
        finally:
            changer.stop()
    figures: dict[str, Any] = {
        "changes": changer.changes,
        "reloads": changer.reloads,
        "slowest_change_s": changer.slowest_s,
        "calls": sum(int(plain["answers"]) for plain, _ in rounds),
        "streams": sum(stream["completed"] + stream["open"] for _, stream in rounds),
        "failed_calls": sum(int(plain["failed"]) for plain, _ in rounds),
        "failed_streams": sum(stream["failed"] for _, stream in rounds),
        "p99_us_without": calm[0]["p99"],
        "p99_us_during": statistics.median(plain["p99"] for plain, _ in rounds),
    }
    held = figures["failed_calls"] + figures["failed_streams"] == 0 and changer.changes >= LEAST_CHANGES
    rig.conclude("reload", figures, "no failed call or stream while the configuration changes", held)


def _loads(bench: rig.Rig, pool: ThreadPoolExecutor) -> tuple[compare.Row, dict[str, Any]]:
    plain = pool.submit(bench.plain, PLAIN_CONNECTIONS, SECONDS, PAUSE_MS)
    stream = pool.submit(bench.streams, "bench-paced", STREAMS, SECONDS)
    return plain.result(), stream.result()


class Changer:
    """Changes the configuration from a thread until stopped. `stop` raises where a change was refused or not seen."""

    def __init__(self, bench: rig.Rig, every_s: float) -> None:
        self._bench, self._every_s = bench, every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._error: Exception | None = None
        self.changes = self.reloads = 0
        self.slowest_s = 0.0

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        rig.stay_on_the_load_core()
        try:
            while not self._over.wait(self._every_s):
                self._change()
                if self.changes % 5 == 0:
                    self._bench.running.signal(signal.SIGHUP)
                    self.reloads += 1
        except Exception as error:  # noqa: BLE001 - raised by `stop`
            self._error = error

    def _change(self) -> None:
        limit = 100_000_000 + self.changes + 1
        yaml = rig.configuration(self._bench.provider_port, limit=limit)
        if self.changes % 2:
            yaml = yaml.replace("\nroutes:", "\nroutes:" + EXTRA_ROUTE).replace("output: 2000000", "output: 2500000")
        began = time.monotonic()
        self._bench.running.apply(yaml, prune=True)
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)
        answer = self._bench.running.api.get("/api/v1/limits/requests/state").raise_for_status()
        seen = answer.json()["at_most"]
        if seen != limit:
            raise AssertionError(f"limit is {seen} after a change to {limit}")
        self.changes += 1
