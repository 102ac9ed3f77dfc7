"""What is true of a node at this moment, as Prometheus gauges: requests in flight, limits, targets, workers, processes.

Set from a `NodeState` at each scrape. What a row tells is counted in `ledger_metrics`. Names: docs/observability.md.
"""

import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector

import gateway

OPENMETRICS_END = "# EOF\n"


@dataclass(slots=True, kw_only=True)
class NodeState:
    """A value for each gauge. Mappings go from label value(s) to the gauge's value."""

    in_flight: Mapping[str, int] = field(default_factory=dict)
    """By route."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Used share by limit."""
    targets: Mapping[str, float] = field(default_factory=dict)
    """Share of the workers that would send to it."""
    credentials: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """The same by provider and credential."""
    providers: Mapping[str, float] = field(default_factory=dict)
    """1 or 0 by provider that is checked actively."""
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    resident_bytes: Mapping[str, int] = field(default_factory=dict)
    pending_rows: int = 0
    spool_bytes: int = 0
    bodies_bytes: int = 0
    bodies_lost: Mapping[str, int] = field(default_factory=dict)
    """By why, since the keeper's start."""
    spool_used_ratio: float = 0.0
    workers: int = 0
    workers_configured: int = 0
    worker_deaths: int = 0
    client_connections: int = 0
    database_up: bool = True
    limit_authority_up: bool = True
    agent_up: bool = False
    generation: int = 0
    otel: Mapping[str, int] | None = None
    """Spans by what became of them; None where the exporter is off."""


class _NodeCollector(Collector):
    def __init__(self, state: NodeState) -> None:
        self._state = state

    def collect(self) -> Iterator[Metric]:
        state = self._state
        yield _gauge("in_flight", "Requests admitted and not ended.", ("route",), _one(state.in_flight))
        yield _gauge(
            "limit_used_ratio", "Settled share of a limit in its present window.", ("limit",), _one(state.limits)
        )
        yield _gauge(
            "target_available_ratio",
            "Share of the workers that would send a request to this target now.",
            ("target",),
            _one(state.targets),
        )
        yield _gauge(
            "credential_available_ratio",
            "Share of the workers that would use this provider credential now.",
            ("provider", "credential"),
            state.credentials.items(),
        )
        yield _gauge(
            "provider_healthy",
            "Whether a provider's active health check finds it well.",
            ("provider",),
            _one(state.providers),
        )
        plain: tuple[tuple[str, str, float], ...] = (
            ("ledger_pending_rows", "Ended requests that are not in SQL yet.", state.pending_rows),
            ("spool_bytes", "Size of the files in which rows wait for SQL.", state.spool_bytes),
            ("spool_used_ratio", "The same as a share of what is allowed, of the fullest worker.",
             state.spool_used_ratio),
            ("bodies_bytes", "Size of all recorded bodies.", state.bodies_bytes),
            ("workers", "Workers connected to the keeper.", state.workers),
            ("workers_configured", "Workers that there should be.", state.workers_configured),
            ("client_connections", "Open client connections.", state.client_connections),
            ("keeper_up", "Whether the keeper answers.", 1),
            ("database_up", "Whether the database answered last.", state.database_up),
            ("limit_authority_up", "Whether leases on limits can be had.", state.limit_authority_up),
            ("agent_up", "Whether the agent is connected.", state.agent_up),
            ("configuration_generation", "Number of the configuration in force.", state.generation),
        )  # fmt: skip
        for name, meaning, value in plain:
            yield _gauge(name, meaning, (), (((), float(value)),))
        deaths = CounterMetricFamily("sluicegate_worker_deaths", "Workers that ended without having drained.")
        deaths.add_metric((), state.worker_deaths)
        yield deaths
        lost = CounterMetricFamily(
            "sluicegate_bodies_lost", "Bodies of requests that were to be recorded and found no place.", labels=("why",)
        )
        for why, count in sorted(state.bodies_lost.items()):
            lost.add_metric((why,), count)
        yield lost
        cpu = CounterMetricFamily("sluicegate_process_cpu_seconds", "CPU time by process.", labels=("program",))
        for program, seconds in sorted(state.cpu_s.items()):
            cpu.add_metric((program,), seconds)
        yield cpu
        yield _gauge("process_resident_bytes", "Resident memory by process.", ("program",), _one(state.resident_bytes))
        yield _gauge(
            "build_info",
            "Always 1; the labels say what runs.",
            ("version", "python"),
            (((gateway.__version__, platform.python_version()), 1.0),),
        )
        if state.otel is not None:
            spans = CounterMetricFamily(
                "sluicegate_otel_spans", "Spans for OpenTelemetry by what became of them.", labels=("state",)
            )
            for outcome, count in state.otel.items():
                spans.add_metric((outcome,), count)
            yield spans


def render_node(state: NodeState, *, openmetrics: bool) -> str:
    """The exposition text, without OpenMetrics' end mark."""
    return render(_NodeCollector(state), openmetrics=openmetrics)


def render(collector: Collector, *, openmetrics: bool) -> str:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    text = (generate_openmetrics if openmetrics else generate_latest)(registry).decode()
    return text.removesuffix(OPENMETRICS_END)


class KeeperAway(Collector):
    """What a worker can say while the keeper is away."""

    def collect(self) -> Iterator[Metric]:
        yield _gauge("keeper_up", "Whether the keeper answers.", (), (((), 0.0),))
        yield _gauge("agent_up", "Whether the agent is connected.", (), (((), 0.0),))


def _gauge(
    name: str, meaning: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"sluicegate_{name}", meaning, labels=labels)
    for named, value in values:
        family.add_metric(named, value)
    return family


def _one(values: Mapping[str, float]) -> list[tuple[tuple[str, ...], float]]:
    """Values with one label, in the labels' order."""
    return [((name,), values[name]) for name in sorted(values)]
