"""What probes measured of a route and target, added up: of a second, of a minute, of an hour, or of a window.

As the probes send it (`gateway.probes.figures`): sparse histograms, counts, and gauges, of which the last one stands.
"""

import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(slots=True)
class Measured:
    """Additive but for `gauges`."""

    histograms: dict[str, dict[int, int]] = field(default_factory=dict)
    """By name: count by bucket (`gateway.probes.histogram`)."""
    counts: dict[str, int] = field(default_factory=dict)
    gauges: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Self:
        """From the probes' message, or from what `packed` made."""
        return cls(
            {name: {int(bucket): int(count) for bucket, count in pairs} for name, pairs in told["h"].items()},
            {name: int(count) for name, count in told["c"].items()},
            {name: int(value) for name, value in told["g"].items()},
        )

    def add(self, other: "Measured") -> None:
        """`other` came later."""
        for name, histogram in other.histograms.items():
            mine = self.histograms.setdefault(name, {})
            for bucket, count in histogram.items():
                mine[bucket] = mine.get(bucket, 0) + count
        for name, count in other.counts.items():
            self.counts[name] = self.counts.get(name, 0) + count
        if other.gauges:
            self.gauges = dict(other.gauges)

    def plain(self) -> dict[str, Any]:
        histograms = {name: sorted(histogram.items()) for name, histogram in self.histograms.items()}
        return {"h": histograms, "c": self.counts, "g": self.gauges}

    def packed(self) -> bytes:
        """For a row: most of it compresses to a fifth."""
        return zlib.compress(json.dumps(self.plain(), separators=(",", ":")).encode())

    @classmethod
    def unpacked(cls, packed: bytes) -> Self:
        return cls.of(json.loads(zlib.decompress(packed)))


def total(parts: Iterable[Measured]) -> Measured:
    """In the order of time."""
    whole = Measured()
    for part in parts:
        whole.add(part)
    return whole
