"""The kernel's figures in Prometheus' text. Bounds of a bucket are octaves of the probes' histograms, so that no count
is guessed; a sum adds up the middles of their buckets.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.probes.histogram import lower_ns, middle_ns
from gateway.store.kernel_series import Measured
from gateway.telemetry.node_gauges import render

OCTAVES: Final = range(20, 105, 4)
"""Buckets at which a bound stands: 65 µs, then its doubles up to 137 s."""
HISTOGRAMS: Final = (
    ("connect", "From connect() to the end of the TCP handshake.", (("connect", "upstream"),)),
    ("rtt", "Smoothed TCP round-trip time, sampled.", (("rtt", "upstream"), ("client_rtt", "client"))),
    (
        "first_byte",
        "From a request's last segment to its answer's first.",
        (("first_byte", "upstream"), ("client_first_byte", "client")),
    ),
    ("token_gap", "Between the segments of an answer from the upstream.", (("gap", "upstream"),)),
    ("accept_wait", "How long a new client connection waited for a worker.", (("accept_wait", "client"),)),
)
COUNTERS: Final = (
    (
        "retransmits",
        "TCP segments sent again.",
        (("retransmits", "upstream", ""), ("client_retransmits", "client", "")),
    ),
    (
        "resets",
        "TCP resets, by who sent them.",
        (
            ("resets_in", "upstream", "in"), ("resets_out", "upstream", "out"),
            ("client_resets_in", "client", "in"), ("client_resets_out", "client", "out"),
        ),
    ),
    (
        "bytes",
        "TCP payload.",
        (
            ("bytes_in", "upstream", "in"), ("bytes_out", "upstream", "out"),
            ("client_bytes_in", "client", "in"), ("client_bytes_out", "client", "out"),
        ),
    ),
)  # fmt: skip


class KernelCollector(Collector):
    def __init__(
        self,
        totals: Mapping[tuple[str, str], Measured],
        programs: Mapping[str, tuple[float, int]],
        lost: Mapping[str, int],
    ) -> None:
        self._totals = totals
        self._programs = programs
        self._lost = lost

    def collect(self) -> Iterator[Metric]:
        """Nothing where probes have never told anything."""
        if self._totals:
            yield from self._histograms()
            yield from self._counters()
        if self._programs:
            run = CounterMetricFamily("sluicegate_bpf_run_seconds", "Time spent in BPF programs.", labels=("program",))
            runs = CounterMetricFamily("sluicegate_bpf_runs", "Runs of BPF programs.", labels=("program",))
            for program, (seconds, count) in sorted(self._programs.items()):
                run.add_metric((program,), seconds)
                runs.add_metric((program,), count)
            yield run
            yield runs
        if self._lost:
            lost = CounterMetricFamily(
                "sluicegate_bpf_lost_events", "What maps and buffers of probes had no room for.", labels=("program",)
            )
            for name, count in sorted(self._lost.items()):
                lost.add_metric((name,), count)
            yield lost

    def _histograms(self) -> Iterator[Metric]:
        for name, meaning, parts in HISTOGRAMS:
            family = HistogramMetricFamily(
                f"sluicegate_kernel_{name}_seconds", meaning, labels=("route", "target", "side")
            )
            for (route, target), measured in sorted(self._totals.items()):
                for key, side in parts:
                    histogram = measured.histograms.get(key)
                    if histogram:
                        total_s = sum(count * middle_ns(bucket) for bucket, count in histogram.items()) / 1e9
                        family.add_metric((route, target, side), _buckets(histogram), total_s)
            yield family

    def _counters(self) -> Iterator[Metric]:
        for name, meaning, parts in COUNTERS:
            with_direction = any(direction for _, _, direction in parts)
            labels = ("route", "target", "side", "direction") if with_direction else ("route", "target", "side")
            family = CounterMetricFamily(f"sluicegate_kernel_{name}", meaning, labels=labels)
            for (route, target), measured in sorted(self._totals.items()):
                for key, side, direction in parts:
                    values = (route, target, side, direction) if with_direction else (route, target, side)
                    family.add_metric(values, measured.counts.get(key, 0))
            yield family


def _buckets(histogram: Mapping[int, int]) -> list[tuple[str, float]]:
    """Cumulative, as Prometheus wants them."""
    found = []
    for bound in OCTAVES:
        below = sum(count for bucket, count in histogram.items() if bucket < bound)
        found.append((repr(lower_ns(bound) / 1e9), float(below)))
    return [*found, ("+Inf", float(sum(histogram.values())))]


def render_kernel(
    totals: Mapping[tuple[str, str], Measured],
    programs: Mapping[str, tuple[float, int]],
    lost: Mapping[str, int],
    *,
    openmetrics: bool,
) -> str:
    """The exposition text, without OpenMetrics' end mark."""
    return render(KernelCollector(totals, programs, lost), openmetrics=openmetrics)
