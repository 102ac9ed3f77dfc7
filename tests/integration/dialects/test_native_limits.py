"""Limits, retries and failover where callers speak Gemini or Ollama: the same rules as for every dialect."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support import live
from tests.support.live import Live
from tests.support.provider import Provider
from tests.support.shapes import Tokens

FULL = Tokens(input=50, output=10)
DIALECTS = ("gemini", "ollama")
LIMITS = {"requests": 1, "input_tokens": 50, "output_tokens": 10, "total_tokens": 60, "cost_usd": 0.00007}
FAULTS: dict[str, dict[str, Any]] = {"status": {"status": 500}, "drop": {"drop": True}, "cut": {"cut_after_pieces": 0}}
SECRET = "sk-native-0123456789-"
FREE = "sk-native-free-0123456789"
KEYS = [f"{dialect}-{metric}".replace("_", "-") for dialect in DIALECTS for metric in LIMITS]

CONFIGURATION = """
providers:
  - name: g1
    dialect: gemini
    base_url: UP/v1beta
    credentials: [{name: a, value: g-first}, {name: b, value: g-second}]
  - {name: g2, dialect: gemini, base_url: OTHER, credentials: [{name: a, value: g-other}]}
  - {name: o1, dialect: ollama, base_url: UP/api}
  - {name: o2, dialect: ollama, base_url: OTHER}
routes:
  - {name: gemini, max_output_tokens: 10, targets: [{provider: g1, model: m}]}
  - {name: ollama, max_output_tokens: 10, targets: [{provider: o1, model: m}]}
FAILOVER
  - {name: patient, read_to_end: true, targets: [{provider: g1, model: m}, {provider: o1, model: m}]}
teams:
  - name: t
    apps:
      - name: free
        routes: "*"
        keys: [{name: free, value: sk-native-free-0123456789}]
"""
# A target a case: one that fails again and again cools down.
CONFIGURATION = CONFIGURATION.replace(
    "FAILOVER\n",
    "".join(
        f"  - {{name: both-{fault}-{stream}, targets: [{{provider: g1, model: {fault}-{stream}}}, "
        f"{{provider: g2, model: n}}, {{provider: o1, model: {fault}-{stream}}}, {{provider: o2, model: n}}]}}\n"
        for fault in FAULTS
        for stream in (False, True)
    ),
)
CONFIGURATION += "".join(
    f"      - {{name: {name}, routes: '*', keys: [{{name: {name}, value: {SECRET}{name}}}]}}\n" for name in KEYS
)
CONFIGURATION += "prices:\n" + "".join(
    f'  - {{provider: {name}, model: "*", input: 1000000, output: 2000000}}\n' for name in ("g1", "g2", "o1", "o2")
)
CONFIGURATION += "limits:\n" + "".join(
    f"  - {{name: {dialect}-{metric.replace('_', '-')}, scope: {{app: {dialect}-{metric.replace('_', '-')}}}, "
    f"metric: {metric}, window: lifetime, at_most: {most}}}\n"
    for dialect in DIALECTS
    for metric, most in LIMITS.items()
)


@pytest.fixture(scope="module")
def other() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture(scope="module")
def up() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory, up: Provider, other: Provider) -> Iterator[Live]:
    configuration = CONFIGURATION.replace("UP", up.url).replace("OTHER", other.url)
    with live.gateway(tmp_path_factory.mktemp("native"), configuration, workers=1) as running:
        yield running


@pytest.fixture(autouse=True)
def forgotten(up: Provider, other: Provider) -> None:
    up.forget()
    other.forget()


def request_of(dialect: str, stream: bool, text: str, route: str, **options: Any) -> tuple[str, dict[str, Any]]:
    """Path and body of a call with this text."""
    if dialect == "gemini":
        verb = "streamGenerateContent" if stream else "generateContent"
        body: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        return f"/v1beta/models/{route}:{verb}", {**body, "generationConfig": options} if options else body
    body = {"model": route, "messages": [{"role": "user", "content": text}], "stream": stream}
    return "/api/chat", {**body, "options": options} if options else body


def call(gateway: Live, dialect: str, key: str, stream: bool = False, text: str = "hello", route: str = "",
         **options: Any) -> httpx2.Response:  # fmt: skip
    path, body = request_of(dialect, stream, text, route or dialect, **options)
    return httpx2.post(gateway.url + path, headers={"authorization": f"Bearer {key}"}, json=body, timeout=30)


def told(answer: httpx2.Response, dialect: str) -> dict[str, Any]:
    body = answer.json()
    return dict(body["sluicegate"] if dialect == "ollama" else body["error"]["sluicegate"])


@pytest.mark.parametrize("metric", LIMITS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_limits(gateway: Live, up: Provider, dialect: str, metric: str) -> None:
    """What one answer used fills the limit; the next call is refused before an upstream sees it."""
    up.behave(tokens=FULL)
    name = f"{dialect}-{metric}".replace("_", "-")
    assert call(gateway, dialect, SECRET + name, stream=True).status_code == 200
    refused = call(gateway, dialect, SECRET + name)
    assert refused.status_code == 429
    facts = told(refused, dialect)
    assert (facts["limit"], facts["used"], facts["at_most"]) == (name, LIMITS[metric], LIMITS[metric])
    assert len(up.requests) == 1
    if dialect == "gemini":
        assert refused.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
        info = refused.json()["error"]["details"][0]
        assert (info["reason"], info["metadata"]["limit"]) == ("LIMIT_EXCEEDED", name)
        assert all(isinstance(value, str) for value in info["metadata"].values())
    else:
        assert name in refused.json()["error"]


BOUNDS = {"gemini": {"maxOutputTokens": 4, "candidateCount": 3}, "ollama": {"num_predict": 12}}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_larger_than_the_whole_limit(gateway: Live, up: Provider, dialect: str) -> None:
    """The bounds in the caller's own words count: 12 output tokens where 10 are all there is."""
    refused = call(gateway, dialect, f"{SECRET}{dialect}-output-tokens", **BOUNDS[dialect])
    assert refused.status_code == 400
    assert told(refused, dialect)["code"] == "request_exceeds_limit"
    refused = call(gateway, dialect, f"{SECRET}{dialect}-input-tokens", text="x" * 60)
    assert (refused.status_code, told(refused, dialect)["code"]) == (400, "request_exceeds_limit")
    assert up.requests == []


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("fault", FAULTS)
def test_failover(gateway: Live, up: Provider, other: Provider, dialect: str, stream: bool, fault: str) -> None:
    """Until the first byte has gone out another target answers, under its own name of the model."""
    up.behave(**FAULTS[fault])
    answer = call(gateway, dialect, FREE, stream=stream, route=f"both-{fault}-{stream}")
    assert answer.status_code == 200
    assert len(other.requests) == 1
    assert 1 <= len(up.requests) <= 2  # a kept connection that ends without a byte is tried once more on a fresh one
    row = gateway.row(answer.headers["x-request-id"])
    assert (row["outcome"], row["attempts"], row["output_tokens"]) == ("completed", 2, 7)
    assert row["target"] == ("g2/n" if dialect == "gemini" else "o2/n")
    if dialect == "gemini":
        assert other.last.path.startswith("/v1beta/models/n:")
        assert other.last.header("x-goog-api-key") == "g-other"
    else:
        assert other.last.json["model"] == "n"
        assert other.last.header("authorization") is None


def test_a_refused_credential_is_set_aside(gateway: Live, up: Provider) -> None:
    up.behave(status=403, times=1)
    answer = call(gateway, "gemini", FREE)
    assert answer.status_code == 200
    assert {request.header("x-goog-api-key") for request in up.requests} == {"g-first", "g-second"}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_route_may_read_to_the_end(gateway: Live, up: Provider, dialect: str) -> None:
    """The client leaves; the answer is read on, and charged as the provider reports it."""
    up.behave(tokens=FULL, gap_s=0.05)
    path, body = request_of(dialect, True, "hello", "patient")
    with httpx2.stream("POST", gateway.url + path, headers={"authorization": f"Bearer {FREE}"}, json=body) as answer:
        identity = answer.headers["x-request-id"]
        next(answer.iter_raw())
    row = gateway.row(identity)
    assert (row["input_tokens"], row["output_tokens"], row["estimated"]) == (50, 10, False)
    assert not up.last.aborted.is_set()


def test_the_ledger_adds_up_to_what_was_served(gateway: Live, up: Provider) -> None:
    ids = []
    for number in range(16):
        up.behave(times=1, tokens=Tokens(input=10 + number, output=1 + number), piece_bytes=(0, 1, 100, 0)[number % 4])
        dialect = DIALECTS[number % 2]
        answer = call(gateway, dialect, FREE, stream=number % 3 > 0)
        assert answer.status_code == 200
        ids.append(answer.headers["x-request-id"])
    rows = [gateway.row(identity) for identity in ids]
    assert sum(row["input_tokens"] for row in rows) == up.served.input_tokens
    assert sum(row["output_tokens"] for row in rows) == up.served.output_tokens
    assert sum(row["cost_usd_micros"] for row in rows) == up.served.input_tokens + 2 * up.served.output_tokens
    assert not any(row["estimated"] for row in rows)


def test_configuration_comes_back_as_it_was(gateway: Live) -> None:
    """Providers of these dialects are the REST API's and the export's like any other."""
    found = {item["name"]: item for item in gateway.api.get("/api/v1/providers").json()["items"]}
    assert {name: found[name]["dialect"] for name in ("g1", "o1")} == {"g1": "gemini", "o1": "ollama"}
    made = gateway.api.post(
        "/api/v1/providers", json={"name": "fresh", "dialect": "ollama", "base_url": "http://127.0.0.1:11434"}
    )
    assert made.status_code == 201, made.text
    assert json.loads(made.text)["dialect"] == "ollama"
