"""One gateway with two workers, seen from outside while things happen to it."""

import contextlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from ruamel.yaml import YAML

from tests.support import live
from tests.support.provider import Provider

KEY = "sk-test-seen-0123456789"
ROOT = Path(__file__).parents[3]
COMMAND = str(Path(sys.executable).parent / "sluicegate")
OURS = re.compile(r"\bsluicegate_[a-z_]+\b")
ONLY_WITH_OTEL = frozenset({"sluicegate_otel_spans_total"})
SCRAPERS_OWN = frozenset({"job", "instance", "le"})


def configuration(url: str) -> str:
    return f"""
providers:
  - {{name: vendor, dialect: openai, base_url: "{url}/v1", credentials: [{{name: main, value: sk-upstream-seen-1}}]}}
  - {{name: frail, dialect: openai, base_url: "{url}/v1", credentials: [{{name: old, value: sk-upstream-seen-2}}]}}
routes:
  - {{name: chat, retries: 0, targets: [{{provider: vendor, model: gpt-5-mini}}]}}
  - {{name: shaky, retries: 0, targets: [{{provider: frail, model: wobbly}}]}}
teams:
  - name: search
    apps: [{{name: indexer, routes: "*", keys: [{{name: ci, value: {KEY}}}]}}]
  - {{name: ads, apps: [{{name: banner, routes: "*", keys: [{{name: b, value: {KEY}-ads}}]}}]}}
limits:
  - {{name: five, scope: {{app: banner}}, metric: requests, window: day, at_most: 5}}
"""


class Feed:
    """Reads the live feed in a thread."""

    def __init__(self, gateway: live.Live, token: str | None = None, after: str = "") -> None:
        self.events: queue.Queue[tuple[str, str, dict[str, Any]]] = queue.Queue()
        self.opened = threading.Event()
        headers = {"authorization": f"Bearer {token or gateway.token}"} | ({"last-event-id": after} if after else {})
        threading.Thread(target=self._read, args=(gateway.url, headers), daemon=True).start()
        assert self.opened.wait(60), "the feed did not open"

    def _read(self, url: str, headers: dict[str, str]) -> None:
        kind = number = ""
        with (
            contextlib.suppress(httpx2.TransportError),  # its worker is killed by a later test
            httpx2.stream("GET", f"{url}/api/v1/events", headers=headers, timeout=120) as answer,
        ):
            for line in answer.iter_lines():
                self.opened.set()
                if line.startswith("id: "):
                    number = line[4:]
                elif line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: "):
                    self.events.put((kind, number, json.loads(line[6:])))

    def next(self, kind: str, within_s: float = 30, **fields: Any) -> tuple[str, dict[str, Any]]:
        """The next event of this kind with these fields, and its id."""
        deadline = time.monotonic() + within_s
        others = []
        while True:
            try:
                found, number, data = self.events.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {kind} {fields} within {within_s} s; there were {others[-20:]}") from None
            if found == kind and all(data.get(name) == value for name, value in fields.items()):
                return number, data
            others.append((found, data.get("id") or data))


def chat(gateway: live.Live, model: str = "chat", key: str = KEY, **more: Any) -> httpx2.Response:
    return httpx2.post(
        f"{gateway.url}/v1/chat/completions",
        json={"model": model, "messages": [{"role": "user", "content": "hello"}], **more},
        headers={"authorization": f"Bearer {key}"},
        timeout=60,
    )


def scrape(gateway: live.Live) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    text = httpx2.get(f"{gateway.url}/metrics", timeout=60).text
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(gateway: live.Live, name: str, **labels: str) -> float | None:
    return scrape(gateway).get((f"sluicegate_{name}", frozenset(labels.items())))


def total(gateway: live.Live, name: str) -> float:
    return sum(found for (called, _), found in scrape(gateway).items() if called == f"sluicegate_{name}")


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as found:
        yield found


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[live.Live]:
    env = {"SLUICEGATE_LOG_FORMAT": "json", "SLUICEGATE_ACCESS_LOG": "all"}
    folder = tmp_path_factory.mktemp("seen")
    with live.gateway(folder, configuration(provider.url), workers=2, env=env) as running:
        yield running


def test_requests_of_all_workers_come_within_a_second_and_to_their_team_alone(gateway: live.Live) -> None:
    made = gateway.api.post("/api/v1/tokens", json={"role": "team-member", "team": "ads", "name": "seen-ads"})
    everybody, ads = Feed(gateway), Feed(gateway, token=made.json()["token"])
    for number in range(6):
        answer = chat(gateway, key=KEY if number % 2 else f"{KEY}-ads")
        assert answer.status_code == 200
        ended = time.monotonic()
        _, row = everybody.next("request", id=answer.headers["x-request-id"])
        assert time.monotonic() - ended < 5
        assert row["input_tokens"]
    seen = {ads.next("request")[1]["team"] for _ in range(3)}
    assert seen == {"ads"}
    assert ads.events.empty()


def test_a_reader_that_comes_back_gets_what_it_missed_once(gateway: live.Live) -> None:
    feed = Feed(gateway)
    first = chat(gateway).headers["x-request-id"]
    number, _ = feed.next("request", id=first)
    missed = [chat(gateway).headers["x-request-id"] for _ in range(3)]
    for request_id in missed:
        gateway.row(request_id, 30)
    again = Feed(gateway, after=number)
    then = chat(gateway).headers["x-request-id"]
    came = [again.next("request")[1]["id"] for _ in range(4)]
    assert sorted(came[:3]) == sorted(missed), "two workers served them, each tells by itself"
    assert came[3] == then
    stranger = Feed(gateway, after="00000000-7")
    assert "kept" in stranger.next("gap")[1]["reason"]


def test_changes_of_state_are_told_and_shown(gateway: live.Live, provider: Provider) -> None:
    feed = Feed(gateway)
    gateway.apply(
        configuration(provider.url) + "  - {name: later, scope: {}, metric: requests, window: day, at_most: 9000000}\n"
    )
    assert feed.next("configuration")[1]["generation"] > 1
    provider.behave(status=500, model="wobbly")
    for _ in range(8):  # each worker learns by itself; three failures in a row cool a target
        assert chat(gateway, "shaky").status_code in (502, 503)
    feed.next("target", target="frail/wobbly", state="cooling")
    gateway.until(lambda: (value(gateway, "target_available_ratio", target="frail/wobbly") or 0) < 1, 10)
    assert value(gateway, "target_available_ratio", target="vendor/gpt-5-mini") == 1
    provider.forget()

    def tried_by_all() -> bool:  # the breaker of each worker closes when a trial was answered
        chat(gateway, "shaky")
        return value(gateway, "target_available_ratio", target="frail/wobbly") == 1

    gateway.until(tried_by_all, 90)
    feed.next("target", within_s=20, target="frail/wobbly", state="available")


def test_a_limit_near_its_end_and_beyond_is_told(gateway: live.Live) -> None:
    feed = Feed(gateway)
    statuses = [chat(gateway, key=f"{KEY}-ads").status_code for _ in range(6)]
    assert statuses[-1] == 429
    feed.next("limit", limit="five", state="reached")
    gateway.until(lambda: value(gateway, "limit_used_ratio", limit="five") == 1, 10)


def test_what_has_no_row_is_counted(gateway: live.Live) -> None:
    before = total(gateway, "rejected_total")
    assert chat(gateway, key="sk-wrong-seen").status_code == 401
    gateway.until(lambda: total(gateway, "rejected_total") == before + 1, 10)
    assert value(gateway, "rejected_total", code="invalid_api_key")


def test_made_up_models_never_become_labels(gateway: live.Live) -> None:
    for number in range(20):
        assert chat(gateway, f"made-up-{number}").status_code == 404
    gateway.until(lambda: (value(gateway, "requests_total", route="", target="", app="indexer", team="search",
                                 status="404") or 0) >= 20, 10)  # fmt: skip
    assert "made-up" not in httpx2.get(f"{gateway.url}/metrics").text


def test_openmetrics_where_it_is_accepted(gateway: live.Live) -> None:
    chat(gateway)
    accept = {"accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"}
    answer = httpx2.get(f"{gateway.url}/metrics", headers=accept)
    assert answer.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert {"sluicegate_requests", "sluicegate_ttft_seconds"} <= {f.name for f in parse_openmetrics(answer.text)}
    plain = httpx2.get(f"{gateway.url}/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=0.0.4")


def expressions() -> Iterator[str]:
    """All PromQL in deploy/."""
    rules = YAML(typ="safe").load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    yield from (rule["expr"] for group in rules["groups"] for rule in group["rules"])
    dashboard = json.loads((ROOT / "deploy/grafana/sluicegate.json").read_text())
    yield from (target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ()))
    yield from (each["definition"] for each in dashboard["templating"]["list"] if "definition" in each)
    yield from (each["expr"] for each in dashboard["annotations"]["list"] if "expr" in each)


def test_dashboard_and_alerts_use_what_a_scrape_has(gateway: live.Live) -> None:
    assert chat(gateway, stream=True).status_code == 200
    assert chat(gateway, key="sk-wrong-seen").status_code == 401
    gateway.until(lambda: total(gateway, "rejected_total") > 0, 10)
    held = threading.Thread(target=chat, args=(gateway,), daemon=True)
    held.start()
    found: dict[str, set[str]] = {}
    for name, labels in scrape(gateway):
        found.setdefault(name, set()).update(label for label, _ in labels)
    found.setdefault("sluicegate_in_flight", set()).add("route")
    found["sluicegate_otel_spans_total"] = {"state"}  # tests/integration/telemetry/test_otel.py has it
    seen = 0
    for expression in expressions():
        names = set(OURS.findall(expression))
        assert names or "up{" in expression, expression
        assert names <= set(found), f"{names - set(found)} in {expression}"
        for name, matchers in re.findall(r"\b(sluicegate_[a-z_]+)\{([^}]*)\}", expression):
            used = set(re.findall(r'(\w+)\s*(?:=~|!~|!=|=)\s*"', matchers))
            assert used <= found[name] | SCRAPERS_OWN, f"{used} of {name}"
        for labels in re.findall(r"\bby \(([^)]*)\)", expression):
            used = {label.strip() for label in labels.split(",")}
            assert used <= set().union(*(found[name] for name in names)) | SCRAPERS_OWN, expression
        seen += len(names)
    assert seen > 50


def test_alert_rules_are_prometheus_rules() -> None:
    """By promtool where it is installed (Debian's `prometheus`); names and labels are checked above in any case."""
    import shutil

    promtool = os.environ.get("PROMTOOL") or shutil.which("promtool")
    rules = YAML(typ="safe").load((ROOT / "deploy/prometheus/alerts.yml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            assert rule["annotations"]["summary"]
            assert rule["labels"]["severity"] in ("warning", "critical")
            assert rule["expr"].count("(") == rule["expr"].count(")")
    if promtool:
        for words in (
            ["rules", "deploy/prometheus/alerts.yml"],
            ["config", "--syntax-only", "deploy/prometheus/prometheus.yml"],
        ):
            done = subprocess.run([promtool, "check", *words], cwd=ROOT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout + done.stderr


def test_top_once_and_usage(gateway: live.Live) -> None:
    env = {**os.environ, "SLUICEGATE_URL": gateway.url, "SLUICEGATE_TOKEN": gateway.token}
    watching = subprocess.Popen([COMMAND, "top", "--once", "--window", "12", "--by", "app", "--json"],
                                stdout=subprocess.PIPE, env=env)  # fmt: skip
    end = time.monotonic() + 200
    made = 0
    while watching.poll() is None and time.monotonic() < end:
        made += chat(gateway).status_code == 200
        time.sleep(0.2)
    shown = json.loads(watching.communicate()[0])
    one = next(each for each in shown if each["app"] == "indexer")
    assert 0 < one["requests"] <= made
    assert one["requests_per_s"] == pytest.approx(one["requests"] / 12, abs=0.01)
    assert one["ttft_ms_p50"] > 0
    csv = subprocess.run(
        [COMMAND, "usage", "--group-by", "app", "--csv"], env=env, capture_output=True, text=True, check=True
    )
    heading, *lines = csv.stdout.splitlines()
    assert heading.startswith("app,requests,errors,unpriced,input_tokens")
    rows = {line.split(",")[0]: line.split(",") for line in lines}
    assert int(rows["indexer"][1]) == sum(row["app"] == "indexer" for row in gateway.ledger())


def test_logs_are_json_with_an_access_line_a_request_and_no_secret(gateway: live.Live) -> None:
    request_id = chat(gateway).headers["x-request-id"]

    def lines() -> list[dict[str, Any]]:
        return [json.loads(line) for line in gateway.log().splitlines()]  # each single line

    gateway.until(lambda: any(each.get("request_id") == request_id for each in lines()), 10)
    (line,) = [each for each in lines() if each.get("request_id") == request_id]
    assert (line["logger"], line["message"], line["status"], line["route"]) == (
        "sluicegate.access", "request", 200, "chat",
    )  # fmt: skip
    programs = {each.get("program") for each in lines() if "program" in each}
    assert {"serve", "worker-0", "worker-1"} <= programs
    for secret in (KEY, "sk-upstream-seen", "sk-wrong-seen", gateway.token, "hello"):
        assert secret not in gateway.log()


def test_counters_survive_workers_and_keeper(gateway: live.Live) -> None:
    """Killed under load, scraped all the while: never backwards, and in the end what the ledger says."""
    ending = threading.Event()

    def load() -> None:
        while not ending.is_set():
            try:
                chat(gateway, stream=True)
            except httpx2.HTTPError:
                time.sleep(0.05)

    callers = [threading.Thread(target=load) for _ in range(4)]
    for caller in callers:
        caller.start()
    highest: dict[Any, float] = {}
    backwards: list[Any] = []

    def look() -> None:
        try:
            found = scrape(gateway)
        except httpx2.HTTPError:  # the worker that was asked died
            return
        for key, now in found.items():
            if key[0].endswith(("_total", "_count", "_sum", "_bucket")):
                if now < highest.get(key, 0):
                    backwards.append((key, highest[key], now))
                highest[key] = max(now, highest.get(key, 0))

    try:
        for victim in ("worker", "keeper", "worker"):
            time.sleep(1)
            look()
            (gateway.workers()[0] if victim == "worker" else gateway.keeper()).kill(signal.SIGKILL)
            for _ in range(5):
                look()
            gateway.until(lambda: value(gateway, "workers") == 2, 2 * live.READY_WITHIN_S)
            look()
    finally:
        ending.set()
        for caller in callers:
            caller.join(60)
    assert not backwards
    gateway.until(
        lambda: gateway.api.get("/api/v1/ledger?open=true&limit=1").json()["items"][0]["outcome"] != "open", 30
    )
    count = lambda: len(gateway.ledger())  # noqa: E731
    gateway.until(lambda: total(gateway, "requests_total") == count(), 15,
                  lambda: f"{total(gateway, 'requests_total')} counted, {count()} rows")  # fmt: skip
    rows = gateway.ledger()
    tokens = sum((row["input_tokens"] or 0) + (row["output_tokens"] or 0) for row in rows)
    assert total(gateway, "tokens_total") == tokens
    assert total(gateway, "in_flight") == 0
    assert total(gateway, "worker_deaths_total") >= 1


def test_ready_says_why_not(gateway: live.Live) -> None:
    assert httpx2.get(f"{gateway.url}/healthz").json() == {"status": "alive"}
    ready = httpx2.get(f"{gateway.url}/readyz")
    assert (ready.status_code, ready.json()["status"], ready.json()["degraded"]) == (200, "ready", [])
    keeper = gateway.keeper()
    keeper.kill(signal.SIGKILL)

    def away() -> bool:
        answer = httpx2.get(f"{gateway.url}/readyz")
        return answer.status_code == 503 and "the keeper is not connected" in answer.json()["missing"]

    gateway.until(away, 5)
    text = httpx2.get(f"{gateway.url}/metrics").text
    assert "sluicegate_keeper_up 0.0" in text or "sluicegate_keeper_up 1.0" in text
    gateway.until(lambda: httpx2.get(f"{gateway.url}/readyz").status_code == 200, 2 * live.READY_WITHIN_S)
