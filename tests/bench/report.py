"""The p99 of calls at a moderate load while the biggest reports run: at most 1.2 times the p99 without.

Fills the ledger with a million rows of the last 90 days (and its roll-up), straight in SQL, then measures the same load
with and without one reader that asks for one big report after another: usage by every name and day, usage with edges
within an hour, a thousand rows a page, a search that finds nothing and so reads all. SECONDS_EACH is 10 here.
"""

import argparse
import os
import statistics
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2

from gateway.settings import Settings
from gateway.store.database import make_engine
from tests.bench import compare, rig
from tests.bench.big_ledger import DAYS, fill

BAR = 1.2
CONNECTIONS = 64
SECONDS = int(os.environ.get("SECONDS_EACH", "10"))
NAMES = "team,app,key,route,target,provider,model,day"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rows", type=int, default=1_000_000, metavar="N", help="in the ledger (1000000)")
    parser.add_argument("--rate", type=int, default=1_000, metavar="RPS", help="requests a second, about (1000)")
    parser.add_argument("--cores", default="0", help='of the gateway ("0": its one core is shared with the reports)')
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="1")


def measure(given: argparse.Namespace) -> None:
    def fill_ledger(data: Path) -> None:
        began = time.monotonic()
        engine = make_engine(Settings(data=data).database_url)
        hours = fill(engine, given.rows)
        engine.dispose()
        print(f"  {given.rows:,} rows and {hours:,} of the roll-up made in {time.monotonic() - began:.0f} s")

    pause_ms = CONNECTIONS * 1000 // given.rate
    with rig.pinned(workers=given.workers, cores=given.cores, before_start=fill_ledger) as bench:
        reader = Reader(bench.running.url, bench.running.token)
        reader.all_once()
        bench.plain(CONNECTIONS, 1, pause_ms)
        without, during = [], []
        for _ in range(compare.ROUNDS):
            compare.wait_until_idle(bench.pids())
            without.append(bench.plain(CONNECTIONS, SECONDS, pause_ms))
            reader.start()
            during.append(bench.plain(CONNECTIONS, SECONDS, pause_ms))
            reader.stop()
    ratios = [busy["p99"] / calm["p99"] for calm, busy in zip(without, during, strict=True)]
    figures: dict[str, Any] = {
        "rows": given.rows,
        "rps_without": statistics.median(row["rps"] for row in without),
        "rps_during": statistics.median(row["rps"] for row in during),
        "p50_us_without": statistics.median(row["p50"] for row in without),
        "p50_us_during": statistics.median(row["p50"] for row in during),
        "p99_us_without": statistics.median(row["p99"] for row in without),
        "p99_us_during": statistics.median(row["p99"] for row in during),
        "ratio": statistics.median(ratios),
        "ratios": [round(ratio, 2) for ratio in ratios],
        "failed": sum(row["failed"] for row in (*without, *during)),
        "reports_s": reader.longest_s(),
        "reports": reader.count(),
    }
    held = figures["ratio"] <= BAR and not figures["failed"] and figures["reports"] > 0
    rig.conclude("report", figures, f"p99 ≤ {BAR} times while reports run", held)


class Reader:
    """Asks for the big reports, one after another, from a thread. Raises at `stop` where one was refused."""

    def __init__(self, url: str, token: str) -> None:
        self._client = httpx2.Client(base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=120)
        now = datetime.now(UTC).replace(minute=30)
        edges = {"from": (now - timedelta(days=DAYS - 1)).isoformat(), "to": (now - timedelta(hours=1)).isoformat()}
        self._asked: dict[str, tuple[str, dict[str, Any]]] = {
            "usage by all": ("/api/v1/usage", {"group_by": NAMES, "limit": 1000}),
            "usage by hour": ("/api/v1/usage", {"group_by": "hour,app", "limit": 1000}),
            "usage with edges": ("/api/v1/usage", {"group_by": NAMES, "limit": 1000, **edges}),
            "ledger page": ("/api/v1/ledger", {"limit": 1000, "order": "asc"}),
            "ledger search": ("/api/v1/ledger", {"limit": 1000, "status": 599}),
        }
        self._taken_s: dict[str, list[float]] = {name: [] for name in self._asked}
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: httpx2.HTTPError | None = None

    def all_once(self) -> None:
        for name in self._asked:
            self._ask(name)

    def start(self) -> None:
        self._over.clear()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def longest_s(self) -> dict[str, float]:
        return {name: round(max(taken), 2) for name, taken in self._taken_s.items()}

    def count(self) -> int:
        """Reports read, without the first of each."""
        return sum(len(taken) - 1 for taken in self._taken_s.values())

    def _read(self) -> None:
        rig.stay_on_the_load_core()
        try:
            while not self._over.is_set():
                for name in self._asked:
                    if not self._over.is_set():
                        self._ask(name)
        except httpx2.HTTPError as error:
            self._error = error

    def _ask(self, name: str) -> None:
        path, query = self._asked[name]
        began = time.monotonic()
        self._client.get(path, params=query).raise_for_status()
        self._taken_s[name].append(time.monotonic() - began)
