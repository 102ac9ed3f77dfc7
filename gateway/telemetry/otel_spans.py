"""One span and three measurements a request, by OpenTelemetry's semantic conventions for generative AI.

Only imported by the exporter process. What the conventions have no name for is an attribute `sluicegate.…`. Values that
callers make up (a model that no target has) go into spans, never into metrics.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

import gateway
from gateway.policy.usage import LEDGER_FIELDS
from gateway.store.rollup import is_error

Attributes = dict[str, str | int | float | bool | Sequence[str]]

SCOPE: Final = "sluicegate"
PROVIDERS: Final = {"openai": "openai", "anthropic": "anthropic", "gemini": "gcp.gemini", "mistral": "mistral_ai"}
"""By dialect; a dialect that the conventions do not know is named as it is."""
OPERATIONS: Final = {
    "chat": "chat", "messages": "chat", "responses": "chat", "completions": "text_completion", "fim": "text_completion",
    "embed": "embeddings", "generate": "text_completion", "embed_content": "embeddings",
    "embeddings": "embeddings", "generate_content": "generate_content", "stream_generate_content": "generate_content",
}  # fmt: skip
TOKEN_BUCKETS: Final = [float(4**power) for power in range(14)]
DURATION_BUCKETS: Final = [round(0.01 * 2**power, 2) for power in range(14)]
TTFT_BUCKETS: Final = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0]
_COPIED: Final = (
    "team", "app", "key", "route", "target", "dialect", "outcome", "attempts", "upstream_status", "client_request_id",
    "stream", "estimated", "overrun",
)  # fmt: skip


class OurIds(IdGenerator):
    """Ids that were settled before the span was made: the upstream has already been told ours."""

    def __init__(self) -> None:
        self.trace_id = 0
        self.span_id = 0

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class Recorder:
    """Turns rows and notes into spans and measurements."""

    def __init__(self, tracers: TracerProvider, ids: OurIds, meters: MeterProvider) -> None:
        self._ids = ids
        self._tracer = tracers.get_tracer(SCOPE, gateway.__version__)
        meter = meters.get_meter(SCOPE, gateway.__version__)
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage", "{token}", "Tokens used", explicit_bucket_boundaries_advisory=TOKEN_BUCKETS
        )
        self._duration = meter.create_histogram(
            "gen_ai.client.operation.duration", "s", "Duration of a call",
            explicit_bucket_boundaries_advisory=DURATION_BUCKETS,
        )  # fmt: skip
        self._ttft = meter.create_histogram(
            "gen_ai.server.time_to_first_token", "s", "Time to the first token of a successful answer",
            explicit_bucket_boundaries_advisory=TTFT_BUCKETS,
        )  # fmt: skip

    def record(self, values: Sequence[Any], note: Mapping[str, Any]) -> None:
        """One request: its row's values in the order of LEDGER_FIELDS, and what its worker noted ({} where that is
        lost: a killed worker's)."""
        row = dict(zip(LEDGER_FIELDS, values, strict=False))
        shared = shared_attributes(row, note)
        self._measure(row, shared)
        self._span(row, note, shared)

    def _measure(self, row: Mapping[str, Any], shared: Attributes) -> None:
        if row["target"] is None or "gen_ai.operation.name" not in shared:
            return  # no model was asked
        for kind, used in (("input", row["input_tokens"]), ("output", row["output_tokens"])):
            if used is not None:
                self._tokens.record(used, {**shared, "gen_ai.token.type": kind})
        if row["latency_ms"] is not None:
            self._duration.record(row["latency_ms"] / 1000, shared)
        if row["ttft_ms"] is not None and "error.type" not in shared:
            self._ttft.record(row["ttft_ms"] / 1000, shared)

    def _span(self, row: Mapping[str, Any], note: Mapping[str, Any], shared: Attributes) -> None:
        started_ns = row["started_at_ns"]
        derived = hashlib.sha256(str(row["id"]).encode()).hexdigest()
        parent = note.get("parent")
        self._ids.trace_id = int(derived[:32], 16)
        self._ids.span_id = int(note.get("span_id") or derived[32:48], 16)
        context = None
        if parent:
            trace_id, span_id, flags = parent
            remote = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(int(flags, 16)))
            context = set_span_in_context(NonRecordingSpan(remote))
        attributes = span_attributes(row, note) | shared
        operation = shared.get("gen_ai.operation.name")
        name = f"{operation} {row['model']}" if operation else f"{row['dialect']} {row['route'] or 'unknown route'}"
        span = self._tracer.start_span(
            name, context, SpanKind.CLIENT if operation else SpanKind.SERVER, attributes, start_time=started_ns
        )
        if row["ttft_ms"] is not None:
            span.add_event("first token", timestamp=started_ns + round(row["ttft_ms"] * 1e6))
        if "error.type" in shared:
            span.set_status(Status(StatusCode.ERROR, row["error_code"] or f"status {row['status']}"))
        span.end(started_ns + round((row["latency_ms"] or 0) * 1e6))


def shared_attributes(row: Mapping[str, Any], note: Mapping[str, Any]) -> Attributes:
    """What spans and metrics both say: configured names alone."""
    found: Attributes = {}
    operation = str(note.get("operation") or "")
    if row["dialect"] != "http":
        found["gen_ai.operation.name"] = OPERATIONS.get(operation, operation or "chat")
        found["gen_ai.provider.name"] = PROVIDERS.get(row["dialect"], row["dialect"])
        if row["target"] is not None and row["model"] is not None:
            found["gen_ai.request.model"] = row["model"]
        if note.get("model"):
            found["gen_ai.response.model"] = str(note["model"])[:100]
    if note.get("server"):
        found["server.address"], found["server.port"] = note["server"]
    if is_error(row["status"], row["outcome"]):
        found["error.type"] = row["error_code"] or (str(row["status"]) if row["status"] else row["outcome"])
    return found


def span_attributes(row: Mapping[str, Any], note: Mapping[str, Any]) -> Attributes:
    found: Attributes = {"sluicegate.request_id": row["id"]}
    found |= {f"sluicegate.{name}": row[name] for name in _COPIED if row[name] is not None}
    for name, value in (
        ("gen_ai.request.model", row["model"] if row["dialect"] != "http" else None),
        ("gen_ai.usage.input_tokens", row["input_tokens"]),
        ("gen_ai.usage.output_tokens", row["output_tokens"]),
        ("gen_ai.usage.cache_read.input_tokens", row["cached_tokens"]),
        ("gen_ai.usage.cache_creation.input_tokens", row["cache_write_tokens"]),
        ("http.response.status_code", row["status"] or None),
        ("client.address", row["client_ip"]),
    ):
        if value is not None:
            found[name] = value
    if row["cost_usd_micros"] is not None:
        found["sluicegate.cost_usd"] = row["cost_usd_micros"] / 1e6
    if row["ttft_ms"] is not None:
        found["sluicegate.time_to_first_token_s"] = row["ttft_ms"] / 1000
    if note.get("finish_reason"):
        found["gen_ai.response.finish_reasons"] = [str(note["finish_reason"])]
    return found
