"""One gateway for the whole battery: contract.md, statement by statement, as a stranger to the code would try it."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support import live
from tests.support.live import Live, Row
from tests.support.provider import Provider

KEY = "sk-contract-indexer-0123456789"
OTHER_KEY = "sk-contract-narrow-0123456789"
MESSAGES = [{"role": "user", "content": "hi"}]
METRICS = ("requests", "input_tokens", "output_tokens", "total_tokens", "cost_usd")
WINDOWS = ("second", "minute", "hour", "day", "week", "month", "lifetime")
SCOPES = {
    "team": "t-team", "app": "a-app", "key": "a-key/k", "route": "r-route", "provider": "p-provider",
    "credential": "p-credential/main", "target": "up/m-target",
}  # fmt: skip
"""What each limit of a single scope names; each has an app, a key and a route of its own."""

AT_MOST = {"requests": 1, "input_tokens": 50, "output_tokens": 10, "total_tokens": 60, "cost_usd": "0.00007"}
"""What one answer of 50 tokens in and 10 out uses up."""


def limit_key(name: str) -> str:
    """The text of the key of the app that a limit in CONFIGURATION is for."""
    return f"sk-contract-{name}-0123456789"


def _configuration(up: str) -> str:
    apps, limits, teams, routes, providers = [], [], [], [], []
    for metric in METRICS:
        for window in WINDOWS:
            name = f"{metric}-{window}".replace("_", "-")
            apps.append(name)
            counted = f"metric: {metric}, window: {window}, at_most: {AT_MOST[metric]}"
            limits.append(f"{{name: {name}, scope: {{app: {name}}}, {counted}}}")
    for scope, named in SCOPES.items():
        app = f"a-{scope}"
        team = f"t-{scope}"
        provider = f"p-{scope}" if scope in ("provider", "credential") else "up"
        route = f"r-{scope}"
        routes.append(f"{{name: {route}, targets: [{{provider: {provider}, model: m-{scope}}}], retries: 0}}")
        if provider != "up":
            providers.append(
                f"{{name: {provider}, dialect: openai, base_url: {up}, credentials: [{{name: main, value: s}}]}}"
            )
        keys = f"keys: [{{name: k, value: {limit_key(app)}}}]"
        teams.append(f"{{name: {team}, apps: [{{name: {app}, routes: '*', {keys}}}]}}")
        limits.append(
            f"{{name: by-{scope}, scope: {{{scope}: '{named}'}}, metric: requests, window: month, at_most: 1}}"
        )
    apps += ["small", "parallel", "unpriced", "admitting", "reserving", "spill", "bursting", "spent-day", "spent-month"]
    joined = "\n  - ".join
    app_lines = "\n      - ".join(
        f"{{name: {app}, routes: '*', keys: [{{name: {app}, value: {limit_key(app)}}}]}}" for app in apps
    )
    return f"""
providers:
  - {{name: up, dialect: openai, base_url: {up}/v1, credentials: [{{name: main, value: sk-upstream-secret}}]}}
  - {{name: bare, dialect: openai, base_url: {up}}}
  - {{name: claude, dialect: anthropic, base_url: {up}, credentials: [{{name: main, value: sk-ant-upstream}}]}}
  - {{name: dead, dialect: openai, base_url: "http://127.0.0.1:9/v1"}}
  - {{name: free, dialect: openai, base_url: {up}/v1}}
  - {{name: two, dialect: openai, base_url: {up}/v1, credentials: [{{name: a, value: sk-a}}, {{name: b, value: sk-b}}]}}
  - {{name: backend, dialect: http, base_url: "{up}/base"}}
  - {joined(providers)}
routes:
  - {{name: chat, targets: [{{provider: up, model: up-model}}]}}
  - {{name: bare, targets: [{{provider: bare, model: bare-model}}]}}
  - {{name: sonnet, targets: [{{provider: claude, model: claude-model}}]}}
  - {{name: hidden, targets: [{{provider: up, model: hidden-model}}]}}
  - {{name: failover, targets: [{{provider: dead, model: d}}, {{provider: up, model: second}}]}}
  - {{name: all-dead, targets: [{{provider: dead, model: e}}, {{provider: dead, model: f}}], retries: 5}}
  - {{name: failing, targets: [{{provider: up, model: fail-a}}, {{provider: up, model: fail-b}}], retries: 2}}
  - {{name: once, targets: [{{provider: up, model: fail-c}}], retries: 0}}
  - {{name: slow, targets: [{{provider: up, model: slow-a}}], retries: 0, timeout: {{first_byte: 300ms}}}}
  - {{name: mixed, targets: [{{provider: claude, model: c}}, {{provider: up, model: mixed-b}}]}}
  - {{name: keys, targets: [{{provider: two, model: keyed}}], retries: 0}}
  - {{name: tight, targets: [{{provider: up, model: tight-model}}], max_output_tokens: 100}}
  - {{name: unpriced, targets: [{{provider: free, model: nobody-knows-this-model}}]}}
  - {{name: spill, targets: [{{provider: up, model: spill-a}}, {{provider: up, model: spill-b}}], retries: 0}}
  - {{name: crm, match: {{host: crm.internal, path: /v2/}}, targets: [{{provider: backend}}]}}
  - {{name: files, match: {{path: /files/}}, strip_prefix: true, targets: [{{provider: backend}}]}}
  - {{name: shadow, match: {{path: /v1/}}, targets: [{{provider: backend}}]}}
  - {{name: hosted, match: {{host: hosted.internal}}, preserve_host: true, targets: [{{provider: backend}}]}}
  - {{name: open, match: {{host: open.internal}}, auth: none, targets: [{{provider: backend}}]}}
  - {{name: sourced, match: {{host: sourced.internal}}, auth: source, targets: [{{provider: backend}}]}}
  - {joined(routes)}
teams:
  - name: search
    apps:
      - {{name: indexer, routes: "*", keys: [{{name: ci, value: {KEY}}}]}}
      - {{name: narrow, routes: [chat, sonnet], keys: [{{name: narrow, value: {OTHER_KEY}}}]}}
  - name: limited
    apps:
      - {app_lines}
  - {joined(teams)}
prices:
  - {{provider: up, model: "*", input: 1000000, output: 2000000, cached_input: 500000, reasoning: 3000000}}
  - {{provider: claude, model: "*", input: 3000000, output: 15000000, cached_input: 300000, cache_write: 3750000}}
  - {{provider: two, model: "*", input: 333333, output: 333333, per_request: 7}}
limits:
  - {{name: by-global, scope: {{}}, metric: requests, window: month, at_most: 1000000}}
  - {{name: spent-day, scope: {{app: spent-day}}, metric: requests, window: day, at_most: 1}}
  - {{name: spent-month, scope: {{app: spent-month}}, metric: requests, window: month, at_most: 1}}
  - {{name: small, scope: {{app: small}}, metric: total_tokens, window: day, at_most: 100}}
  - {{name: parallel, scope: {{app: parallel}}, metric: concurrent_requests, at_most: 2}}
  - {{name: unpriced, scope: {{app: unpriced}}, metric: cost_usd, window: day, at_most: 5}}
  - {{name: admitting, scope: {{app: admitting}}, metric: cost_usd, window: day, at_most: 5, unpriced: admit}}
  - {{name: reserving, scope: {{app: reserving}}, metric: output_tokens, window: day, at_most: 5000}}
  - {{name: money, scope: {{app: reserving}}, metric: cost_usd, window: month, at_most: 12.5}}
  - {{name: spill, scope: {{target: up/spill-a}}, metric: requests, window: day, at_most: 1}}
  - {joined(limits)}
"""


@pytest.fixture(scope="session")
def contract_provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture(scope="session")
def contract_gateway(tmp_path_factory: pytest.TempPathFactory, contract_provider: Provider) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("contract")
    with live.gateway(folder, _configuration(contract_provider.url), workers=2) as running:
        yield running


@pytest.fixture
def provider(contract_provider: Provider) -> Provider:
    contract_provider.forget()
    return contract_provider


@pytest.fixture
def sluice(contract_gateway: Live) -> Live:
    return contract_gateway


class Caller:
    """Asks the gateway as an app does, each time over a connection of its own unless told otherwise."""

    def __init__(self, gateway: Live) -> None:
        self._gateway = gateway
        self.client = httpx2.Client(base_url=gateway.url, timeout=30)

    def chat(self, route: str = "chat", key: str = KEY, headers: dict[str, str] | None = None,
             **fields: Any) -> httpx2.Response:  # fmt: skip
        body = {"model": route, "messages": MESSAGES, **fields}
        return self.post("/v1/chat/completions", body, key, headers)

    def message(self, route: str = "sonnet", key: str = KEY, headers: dict[str, str] | None = None,
                **fields: Any) -> httpx2.Response:  # fmt: skip
        body = {"model": route, "max_tokens": 20, "messages": MESSAGES, **fields}
        given = {"x-api-key": key, "anthropic-version": "2023-06-01", **(headers or {})}
        return self.client.post("/v1/messages", json=body, headers=given)

    def post(self, path: str, body: Any, key: str = KEY, headers: dict[str, str] | None = None) -> httpx2.Response:
        given = {"authorization": f"Bearer {key}", "content-type": "application/json", **(headers or {})}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.client.post(path, content=content, headers=given)

    def get(self, path: str, key: str = KEY, **headers: str) -> httpx2.Response:
        given = {"authorization": f"Bearer {key}", **{name.replace("_", "-"): text for name, text in headers.items()}}
        return self.client.get(path, headers=given)

    def row(self, answer: httpx2.Response, within_s: float = 5.0) -> Row:
        """The request's row, as the REST API shows it."""
        found: list[Row] = []

        def there() -> bool:
            told = self._gateway.api.get("/api/v1/ledger/" + answer.headers["x-request-id"])
            found[:] = [told.json()] if told.status_code == 200 else []
            return bool(found)

        self._gateway.until(there, within_s, lambda: f"no row of {answer.headers['x-request-id']}")
        return found[0]

    def state(self, limit: str) -> Row:
        told = self._gateway.api.get(f"/api/v1/limits/{limit}/state")
        assert told.status_code == 200, told.text
        return dict(told.json())


@pytest.fixture
def ask(sluice: Live) -> Iterator[Caller]:
    caller = Caller(sluice)
    yield caller
    caller.client.close()
