"""Memory over 200,000 requests: none may be kept for good.

Warms up, then sends N requests in slices, plain calls and (every fourth slice) streams in a burst, and reads the memory
after each, once the keeper has nothing left to do. The slope is a least-squares line through the readings. What stays
for a request would show: an object of Python's takes 50 bytes and more. Judged is memory without mapped files
(`anonymous`); spool and database are mapped, bounded by their own settings, and shown in the total.
"""

import argparse
import statistics
from collections.abc import Sequence
from typing import Any

from tests.bench import compare, rig

BAR_BYTES_A_REQUEST = 16
SLICE_S = 2
STREAMS = 64
EVENTS_A_STREAM = 64


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("requests", nargs="?", type=int, default=200_000, metavar="N", help="default 200000")
    parser.add_argument(
        "--warm-up",
        type=int,
        default=150_000,
        metavar="N",
        help="requests before: by then the keeper's batches and its allocator have grown to their size (150000)",
    )


def measure(given: argparse.Namespace) -> None:
    with rig.pinned() as bench:
        pids = bench.pids()
        failed = 0
        sent, readings = 0, []
        slices = 0
        begun: int | None = None
        while begun is None or sent - begun < given.requests:
            if slices % 4 == 3:
                load = bench.streams("bench", STREAMS, SLICE_S)
                sent += load["completed"] + load["open"]
            else:
                load = bench.plain(64, SLICE_S)
                sent += int(load["answers"])
            failed += int(load["failed"])
            slices += 1
            if begun is None and sent < given.warm_up:
                continue
            compare.wait_until_idle(pids)
            begun = sent if begun is None else begun
            now = rig.memory(pids)
            readings.append((sent - begun, now))
            print(f"  {sent - begun:>8,} requests: {now.anonymous:7.1f} MB anonymous, {now.total:7.1f} MB in all")
    first, last = readings[0][1], readings[-1][1]
    requests = [float(count) for count, _ in readings]
    slope = _slope(requests, [reading.anonymous for _, reading in readings]) * 1024 * 1024
    figures: dict[str, Any] = {
        "requests": readings[-1][0],
        "failed": failed,
        "anonymous_after_warm_up_mb": first.anonymous,
        "anonymous_at_the_end_mb": last.anonymous,
        "bytes_a_request_by_slope": slope,
        "total_after_warm_up_mb": first.total,
        "total_at_the_end_mb": last.total,
        "total_bytes_a_request_by_slope": _slope(requests, [reading.total for _, reading in readings]) * 1024 * 1024,
    }
    held = slope <= BAR_BYTES_A_REQUEST and failed == 0
    rig.conclude("growth", figures, f"≤ {BAR_BYTES_A_REQUEST} bytes a request by slope, none failed", held)


def _slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the least-squares line. Two readings at least."""
    return statistics.linear_regression(x, y).slope if len(x) > 1 else 0.0
