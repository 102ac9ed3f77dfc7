"""`struct figures` of bpf/routes.h in Python: one series read from all CPUs, and what has come since the last reading.

    {"h": {name: [[bucket, count], …]}, "c": {name: count}, "g": {name: value}}

`h` and `c` are what came in between, `g` is what stands now; what did not change is left out.
"""

import ctypes
from typing import Any, Final

from gateway.probes.bpf_calls import ArrayMap
from gateway.probes.histogram import BUCKETS

HISTOGRAMS: Final = ("connect", "rtt", "first_byte", "gap", "client_rtt", "client_first_byte", "accept_wait")
COUNTERS: Final = (
    "bytes_out", "bytes_in", "client_bytes_out", "client_bytes_in", "retransmits", "client_retransmits", "resets_in",
    "resets_out", "client_resets_in", "client_resets_out", "full_ns", "we_full_ns", "client_full_ns",
    "client_we_full_ns",
)  # fmt: skip
GAUGES: Final = ("open", "client_open")
LAST_COUNTERS: Final = ("connections", "client_connections")


class Figures(ctypes.Structure):
    """As in C; what each is stands there."""

    _fields_ = (
        *((name, ctypes.c_uint32 * BUCKETS) for name in HISTOGRAMS),
        *((name, ctypes.c_uint64) for name in COUNTERS),
        *((name, ctypes.c_int64) for name in GAUGES),
        *((name, ctypes.c_uint64) for name in LAST_COUNTERS),
    )


_COUNTS_END: Final = ctypes.sizeof(ctypes.c_uint32) * BUCKETS * len(HISTOGRAMS)
_NAMED: Final = (*COUNTERS, *GAUGES, *LAST_COUNTERS)
_WRAP: Final = 1 << 32
"""Buckets are 32 bits wide on each CPU, and are read often enough."""


class Reader:
    """Of one series."""

    def __init__(self, array: ArrayMap, number: int) -> None:
        self._array = array
        self._number = number
        self._raw = b""
        self._counts: list[memoryview] = []
        self._sums = [0] * len(_NAMED)

    def read(self) -> dict[str, Any] | None:
        """What has come since the last call; None = nothing. Raises OSError."""
        raw = self._array.read(self._number)
        if raw == self._raw:
            return None
        self._raw = raw
        counts, sums = [], [0] * len(_NAMED)
        for copy in self._array.copies(raw):
            view = memoryview(copy)
            counts.append(view[:_COUNTS_END].cast("I"))
            for at, value in enumerate(view[_COUNTS_END:].cast("q")):
                sums[at] += value
        histograms: dict[str, list[list[int]]] = {}
        for at, name in enumerate(HISTOGRAMS):
            added = self._added(counts, at * BUCKETS)
            if added:
                histograms[name] = added
        before, self._sums, self._counts = self._sums, sums, counts
        counters: dict[str, int] = {}
        gauges: dict[str, int] = {}
        for name, was, now in zip(_NAMED, before, sums, strict=True):
            if name in GAUGES:
                gauges[name] = now
            elif now != was:
                counters[name] = now - was
        return {"h": histograms, "c": counters, "g": gauges}

    def _added(self, counts: list[memoryview], begin: int) -> list[list[int]]:
        end = begin + BUCKETS
        added: dict[int, int] = {}
        for cpu, now in enumerate(counts):
            part = now[begin:end]
            was = self._counts[cpu][begin:end] if self._counts else None
            if was is not None and part == was:
                continue
            for bucket, count in enumerate(part):
                more = (count - (was[bucket] if was is not None else 0)) % _WRAP
                if more:
                    added[bucket] = added.get(bucket, 0) + more
        return [[bucket, added[bucket]] for bucket in sorted(added)]
