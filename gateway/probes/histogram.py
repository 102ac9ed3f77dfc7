"""Histograms as the probes keep them: a bucket is a quarter octave of 1,024 ns units (`bucket_of` in bpf/sluicegate.h).

Sparse, as `{bucket: count}`: most of a route's times lie in a dozen buckets. A percentile is its bucket's middle, so it
is within an eighth of the truth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

BUCKETS: Final = 108
UNIT_NS: Final = 1024
Histogram: TypeAlias = Mapping[int, int]
"""Count by bucket."""


def bucket_of(ns: int) -> int:
    """Where a time falls."""
    value = ns // UNIT_NS
    if value < 4:
        return value
    if value >= 1 << 28:
        return BUCKETS - 1
    exponent = value.bit_length() - 1
    return (exponent - 1) * 4 + (value >> exponent - 2 & 3)


def lower_ns(bucket: int) -> int:
    """The smallest time in a bucket; that of the next one is where it ends."""
    if bucket < 4:
        return bucket * UNIT_NS
    exponent, quarter = bucket // 4 + 1, bucket % 4
    return (4 + quarter << exponent - 2) * UNIT_NS


def middle_ns(bucket: int) -> float:
    return (lower_ns(bucket) + lower_ns(bucket + 1)) / 2


@dataclass(frozen=True, slots=True)
class Percentiles:
    """In milliseconds."""

    p50: float
    p95: float
    p99: float
    count: int


def percentiles_ms(histogram: Histogram) -> Percentiles | None:
    """None where nothing was measured."""
    total = sum(histogram.values())
    if not total:
        return None
    found, seen, shares = [], 0, [0.5, 0.95, 0.99]
    for bucket in sorted(histogram):
        seen += histogram[bucket]
        while shares and seen >= shares[0] * total:
            found.append(round(middle_ns(bucket) / 1e6, 4))
            shares.pop(0)
    return Percentiles(found[0], found[1], found[2], total)
