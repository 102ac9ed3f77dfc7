"""Counting rows, bounding series, keeping counters over a keeper's death; judged by Prometheus's own parsers."""

import time
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gateway.policy.records import CLOSED, Record, record_of
from gateway.policy.usage import LEDGER_FIELDS
from gateway.store.row_groups import grouped
from gateway.telemetry.ledger_metrics import LedgerMetrics
from gateway.telemetry.metrics_journal import MetricsJournal
from gateway.telemetry.node_gauges import OPENMETRICS_END, NodeState, render_node
from gateway.telemetry.processes import ProcessBook


def record(number: int = 1, **values: Any) -> Record:
    row = {
        "id": f"{number:026x}", "started_at_ns": 0, "dialect": "openai", "team": "t", "app": "a", "route": "chat",
        "target": "up/m", "status": 200, "input_tokens": 10, "output_tokens": 5, "cost_usd_micros": 1_500_000,
        "latency_ms": 120.0, "ttft_ms": 7.0, "attempts": 1, "outcome": "completed",
    } | values  # fmt: skip
    return record_of(orjson.dumps([CLOSED, [row.get(name) for name in LEDGER_FIELDS], [], number]))


def count(metrics: LedgerMetrics, records: list[Record]) -> None:
    metrics.observe(grouped(records))


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse_text(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float | None:
    return samples(text).get((name, frozenset(labels.items())))


WHO = {"route": "chat", "target": "up/m", "app": "a", "team": "t"}


def test_a_row_becomes_figures() -> None:
    metrics = LedgerMetrics()
    count(
        metrics, [record(1), record(2, status=429, outcome="refused", ttft_ms=None, attempts=0, cost_usd_micros=None)]
    )
    text = metrics.render(openmetrics=False)
    assert value(text, "sluicegate_requests_total", **WHO, status="200") == 1
    assert value(text, "sluicegate_requests_total", **WHO, status="429") == 1
    assert value(text, "sluicegate_errors_total", **WHO, status="200") == 0
    assert value(text, "sluicegate_errors_total", **WHO, status="429") == 1
    assert value(text, "sluicegate_tokens_total", **WHO, direction="input") == 20
    assert value(text, "sluicegate_cost_usd_total", **WHO) == 1.5
    assert value(text, "sluicegate_upstream_attempts_total", route="chat", target="up/m") == 1
    assert value(text, "sluicegate_ttft_seconds_bucket", route="chat", target="up/m", le="0.005") == 0
    assert value(text, "sluicegate_ttft_seconds_bucket", route="chat", target="up/m", le="0.01") == 1
    assert value(text, "sluicegate_ttft_seconds_count", route="chat", target="up/m") == 1
    assert value(text, "sluicegate_request_seconds_sum", route="chat", target="up/m") == pytest.approx(0.24)
    assert value(text, "sluicegate_request_seconds_bucket", route="chat", target="up/m", le="+Inf") == 2


def test_openmetrics_is_openmetrics() -> None:
    metrics = LedgerMetrics()
    count(metrics, [record(route='odd "name"\\\nof a route')])
    metrics.reject({"invalid_api_key": 3})
    state = NodeState(in_flight={"chat": 2}, limits={"daily": 0.5}, targets={"up/m": 1.0}, cpu_s={"keeper": 1.25})
    text = metrics.render(openmetrics=True) + render_node(state, openmetrics=True) + OPENMETRICS_END
    families = {family.name: family for family in parse_openmetrics(text)}
    assert families["sluicegate_requests"].type == "counter"
    assert families["sluicegate_ttft_seconds"].type == "histogram"
    assert families["sluicegate_requests"].samples[0].labels["route"] == 'odd "name"\\\nof a route'
    assert families["sluicegate_rejected"].samples[0].value == 3
    assert families["sluicegate_agent_up"].samples[0].value == 0
    plain = metrics.render(openmetrics=False) + render_node(state, openmetrics=False)
    assert {family.name for family in parse_text(plain)} == set(families)


def test_series_are_bounded_and_nothing_is_lost() -> None:
    metrics = LedgerMetrics(most_series=10)
    count(metrics, [record(number, app=f"app-{number}") for number in range(25)])
    text = metrics.render(openmetrics=False)
    counts = {
        dict(labels)["app"]: found
        for (name, labels), found in samples(text).items()
        if name == "sluicegate_requests_total"
    }
    assert len(counts) == 11
    assert counts["other"] == 15
    assert sum(counts.values()) == 25


def test_a_scrape_of_many_series_is_cheap() -> None:
    """1,000 routes × 1,000 apps: what is shown is bounded, and idle series cost next to nothing."""
    metrics = LedgerMetrics()
    for route in range(1000):
        count(metrics, [record(route=f"route-{route}", app=f"app-{app}") for app in range(route % 7, 1000, 25)])
    first = metrics.render(openmetrics=False)
    assert first.count("sluicegate_requests_total{") <= 10_001
    began = time.process_time()
    assert metrics.render(openmetrics=False) == first
    idle_s = time.process_time() - began
    assert idle_s < 0.1, f"{idle_s:.3f} s of CPU"


def test_counters_survive_the_keeper(tmp_path: Path) -> None:
    path = tmp_path / "metrics.journal"
    metrics = LedgerMetrics()
    journal = MetricsJournal(path, metrics)
    count(metrics, [record(1), record(2, app="b")])
    metrics.reject({"malformed": 2})
    journal.marks["w1"] = 2
    journal.write()
    count(metrics, [record(3, status=503)])
    journal.marks["w1"] = 3
    journal.write()
    before = metrics.render(openmetrics=False)
    with path.open("ab") as file:
        file.write(b'\n[1,[[["chat"')  # torn by a power loss
    again = LedgerMetrics()
    successor = MetricsJournal(path, again)
    assert successor.marks == {"w1": 3}
    assert samples(again.render(openmetrics=False)) == samples(before)
    count(again, [record(4)])
    successor.write()
    third = LedgerMetrics()
    MetricsJournal(path, third)
    assert samples(third.render(openmetrics=False)) == samples(again.render(openmetrics=False))


def test_what_the_keeper_sees_of_processes_survives_it_also_while_no_request_ends(tmp_path: Path) -> None:
    path = tmp_path / "metrics.journal"
    metrics = LedgerMetrics()
    journal = MetricsJournal(path, metrics)
    count(metrics, [record(1)])
    for seconds in (1.0, 2.0):
        journal.node = {"cpu": seconds}
        journal.write()
    size = path.stat().st_size
    journal.write()
    assert path.stat().st_size == size, "nothing new"
    again = LedgerMetrics()
    assert MetricsJournal(path, again).node == {"cpu": 2.0}
    assert samples(again.render(openmetrics=False)) == samples(metrics.render(openmetrics=False))


def test_the_journal_is_written_anew_when_it_has_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.telemetry.metrics_journal.REWRITE_BYTES", 20_000)
    path = tmp_path / "metrics.journal"
    metrics = LedgerMetrics()
    journal = MetricsJournal(path, metrics)
    for number in range(500):
        count(metrics, [record(number)])
        journal.write()
    assert path.stat().st_size < 21_000
    again = LedgerMetrics()
    MetricsJournal(path, again)
    assert value(again.render(openmetrics=False), "sluicegate_requests_total", **WHO, status="200") == 500


def test_cpu_never_goes_backwards() -> None:
    import os
    import subprocess

    child = subprocess.Popen(["/bin/sh", "-c", "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done; read x"],
                             stdin=subprocess.PIPE)  # fmt: skip
    book = ProcessBook({})
    deadline = time.monotonic() + 20
    while book.cpu_s().get("worker-0", 0) < 0.02 and time.monotonic() < deadline:
        book.look([("worker-0", child.pid), ("keeper", os.getpid())])
    used_s = book.cpu_s()["worker-0"]
    assert used_s >= 0.02
    assert book.resident_bytes["keeper"] > 1_000_000
    child.communicate(b"\n")
    book.look([("keeper", os.getpid())])
    assert book.cpu_s()["worker-0"] == used_s
    assert "worker-0" not in book.resident_bytes
    successor = ProcessBook(book.state())
    successor.look([("keeper", os.getpid())])
    assert successor.cpu_s()["worker-0"] == used_s
    assert successor.cpu_s()["keeper"] >= book.cpu_s()["keeper"]
