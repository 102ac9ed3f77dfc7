"""Traces and metrics by OTLP/HTTP, as a collector on a real socket decodes them."""

import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from tests.support import live
from tests.support.otlp import Collector, attributes
from tests.support.provider import Provider

KEY = "sk-test-otel-0123456789"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"


def configuration(url: str) -> str:
    return f"""
providers:
  - {{name: vendor, dialect: openai, base_url: "{url}/v1", credentials: [{{name: main, value: sk-upstream-1}}]}}
  - {{name: crm, dialect: http, base_url: "{url}"}}
routes:
  - {{name: chat, retries: 0, targets: [{{provider: vendor, model: gpt-5-mini}}]}}
  - {{name: crm, match: {{path: /v2/}}, targets: [{{provider: crm}}]}}
teams:
  - {{name: search, apps: [{{name: indexer, routes: "*", keys: [{{name: ci, value: {KEY}}}]}}]}}
"""


class Stage:
    def __init__(self, gateway: live.Live, provider: Provider, collector: Collector) -> None:
        self.gateway, self.provider, self.collector = gateway, provider, collector

    def chat(self, *, stream: bool = False, model: str = "chat", **headers: str) -> httpx2.Response:
        return httpx2.post(
            f"{self.gateway.url}/v1/chat/completions",
            json={"model": model, "stream": stream, "messages": [{"role": "user", "content": "hello"}]},
            headers={"authorization": f"Bearer {KEY}", **headers},
            timeout=60,
        )

    def span(self, answer: httpx2.Response) -> Span:
        request_id = answer.headers["x-request-id"]
        self.gateway.until(lambda: self.collector.span(request_id) is not None, 20, lambda: f"no span {request_id}")
        found: Span = self.collector.span(request_id)
        return found


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Provider() as provider, Collector() as collector:
        env = {
            "SLUICEGATE_OTEL": "true",
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_BSP_SCHEDULE_DELAY": "200",
            "OTEL_BSP_MAX_QUEUE_SIZE": "600",
            "OTEL_METRIC_EXPORT_INTERVAL": "500",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2",
        }
        with live.gateway(tmp_path_factory.mktemp("otel"), configuration(provider.url), workers=1, env=env) as gateway:
            # The first span shows that the exporter is connected; what came before it is not sent.
            stage = Stage(gateway, provider, collector)
            deadline = time.monotonic() + 60
            while not collector.spans and time.monotonic() < deadline:
                assert stage.chat().status_code == 200
                time.sleep(0.5)
            yield stage


def test_a_span_says_what_the_conventions_ask(stage: Stage) -> None:
    answer = stage.chat(stream=True)
    span = stage.span(answer)
    said = attributes(span.attributes)
    assert span.name == "chat gpt-5-mini"
    assert span.kind == Span.SpanKind.SPAN_KIND_CLIENT
    assert said["gen_ai.operation.name"] == "chat"
    assert said["gen_ai.provider.name"] == "openai"
    assert said["gen_ai.request.model"] == "gpt-5-mini"
    assert said["gen_ai.response.model"]
    row = stage.gateway.row(answer.headers["x-request-id"])
    assert said["gen_ai.usage.input_tokens"] == row["input_tokens"] > 0
    assert said["gen_ai.usage.output_tokens"] == row["output_tokens"] > 0
    assert said["gen_ai.response.finish_reasons"] == ["stop"]
    assert said["server.address"] == "127.0.0.1"
    assert said["server.port"] == stage.provider.port
    assert said["http.response.status_code"] == 200
    assert (said["sluicegate.team"], said["sluicegate.app"], said["sluicegate.route"]) == ("search", "indexer", "chat")
    assert "error.type" not in said
    assert span.start_time_unix_nano == row["started_at_ns"]
    assert (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6 == pytest.approx(row["latency_ms"], abs=0.01)
    (first,) = [event for event in span.events if event.name == "first token"]
    assert (first.time_unix_nano - row["started_at_ns"]) / 1e6 == pytest.approx(row["ttft_ms"], abs=0.01)
    assert stage.collector.resource["service.name"] == "sluicegate"
    text = str(span) + str(stage.collector.resource)
    assert KEY not in text
    assert "sk-upstream" not in text
    assert "hello" not in text


def test_the_callers_trace_goes_through(stage: Stage) -> None:
    """caller → our span → upstream, in one trace; the vendor's header is another one each time."""
    spans = []
    for _ in range(3):
        answer = stage.chat(traceparent=f"00-{TRACE}-{CALLER}-01", tracestate="vendor=1")
        span = stage.span(answer)
        assert span.trace_id.hex() == TRACE
        assert span.parent_span_id.hex() == CALLER
        sent = stage.provider.requests[-1]
        assert sent.header("traceparent") == f"00-{TRACE}-{span.span_id.hex()}-01"
        assert sent.header("tracestate") == "vendor=1"
        spans.append(span.span_id)
    assert len(set(spans)) == 3


def test_an_unsampled_trace_is_not_exported(stage: Stage) -> None:
    unsampled = stage.chat(traceparent=f"00-{TRACE}-{CALLER}-00")
    assert unsampled.status_code == 200
    assert re.fullmatch(f"00-{TRACE}-[0-9a-f]{{16}}-00", stage.provider.requests[-1].header("traceparent") or "")
    stage.span(stage.chat())  # sent later, and there
    assert stage.collector.span(unsampled.headers["x-request-id"]) is None


@pytest.mark.parametrize("bad", ["nonsense", f"00-{'0' * 32}-{CALLER}-01", f"ff-{TRACE}-{CALLER}-01"])
def test_an_invalid_parent_is_no_parent(stage: Stage, bad: str) -> None:
    span = stage.span(stage.chat(traceparent=bad))
    assert span.parent_span_id == b""
    assert span.trace_id.hex() != TRACE


def test_errors_and_http_routes(stage: Stage) -> None:
    missing = stage.span(stage.chat(model="made-up"))
    said = attributes(missing.attributes)
    assert missing.status.code == Status.StatusCode.STATUS_CODE_ERROR
    assert said["error.type"] == "route_not_found" or "not_found" in said["error.type"]
    assert said["http.response.status_code"] == 404
    stage.provider.behave(status=500, path="/v1/chat/completions", times=1)
    failed = attributes(stage.span(stage.chat()).attributes)
    assert failed["http.response.status_code"] == 502
    assert failed["error.type"]
    answer = httpx2.get(f"{stage.gateway.url}/v2/contacts", headers={"x-api-key": KEY}, timeout=60)
    span = stage.span(answer)
    assert span.kind == Span.SpanKind.SPAN_KIND_SERVER
    assert not [name for name in attributes(span.attributes) if name.startswith("gen_ai.")]


def test_metrics_by_the_conventions(stage: Stage) -> None:
    stage.span(stage.chat(stream=True))
    names = ("gen_ai.client.token.usage", "gen_ai.client.operation.duration", "gen_ai.server.time_to_first_token")
    stage.gateway.until(lambda: all(stage.collector.points.get(name) for name in names), 20,
                        lambda: str(list(stage.collector.points)))  # fmt: skip
    usage = stage.collector.points[names[0]][-1]
    assert usage.unit == "{token}"
    kinds = {attributes(point.attributes)["gen_ai.token.type"] for point in usage.histogram.data_points}
    assert kinds == {"input", "output"}
    duration = stage.collector.points[names[1]][-1]
    assert duration.unit == "s"
    assert list(duration.histogram.data_points[0].explicit_bounds)[:3] == [0.01, 0.02, 0.04]
    for metric in (usage, duration):
        for point in metric.histogram.data_points:
            said = attributes(point.attributes)
            assert said["gen_ai.request.model"] == "gpt-5-mini"
            assert "made-up" not in str(said)


def test_a_collector_that_is_slow_or_broken_delays_nobody_and_is_counted(stage: Stage) -> None:
    def counted(state: str) -> float:
        text = httpx2.get(f"{stage.gateway.url}/metrics").text
        found = re.search(rf'(?m)^sluicegate_otel_spans_total{{state="{state}"}} (\S+)$', text)
        return float(found[1]) if found else -1

    stage.gateway.until(lambda: counted("exported") > 0, 10, lambda: str(counted("exported")))
    stage.collector.status = 500
    stage.collector.delay_s = 0.2
    try:
        began = time.monotonic()
        with httpx2.Client(timeout=60) as client:
            for _ in range(1500):
                answer = client.post(
                    f"{stage.gateway.url}/v1/chat/completions",
                    json={"model": "chat", "messages": [{"role": "user", "content": "hello"}]},
                    headers={"authorization": f"Bearer {KEY}"},
                )
                assert answer.status_code == 200
        assert time.monotonic() - began < 90
        lost = lambda: counted("failed") + counted("dropped")  # noqa: E731
        stage.gateway.until(lambda: lost() > 0, 30, lambda: str((counted("failed"), counted("dropped"))))
    finally:
        stage.collector.status = 200
        stage.collector.delay_s = 0.0
    stage.span(stage.chat())


def test_off_means_off(tmp_path: Path) -> None:
    """No exporter process, nothing of OpenTelemetry in any process, the caller's header untouched."""
    with Provider() as provider, live.gateway(tmp_path, configuration(provider.url)) as gateway:
        answer = httpx2.post(
            f"{gateway.url}/v1/chat/completions",
            json={"model": "chat", "messages": [{"role": "user", "content": "hello"}]},
            headers={"authorization": f"Bearer {KEY}", "traceparent": f"00-{TRACE}-{CALLER}-01"},
            timeout=60,
        )
        assert answer.status_code == 200
        assert provider.requests[-1].header("traceparent") == f"00-{TRACE}-{CALLER}-01"
        for process in gateway.processes():
            assert "otel" not in process.command
            assert "opentelemetry" not in Path(f"/proc/{process.pid}/maps").read_text()
        assert "sluicegate_otel" not in httpx2.get(f"{gateway.url}/metrics").text
