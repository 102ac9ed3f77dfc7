"""One gateway, two providers and a backend for the tests of the request path that do not need one of their own."""

from collections.abc import Iterator

import anthropic
import openai
import pytest

from tests.support import live
from tests.support.live import Live
from tests.support.provider import Provider

KEY = "sk-test-indexer-ci-0123456789"
STRANGER_KEY = "sk-test-stranger-0123456789"
OPENAI_SECRET = "sk-openai-secret-of-the-gateway"
ANTHROPIC_SECRET = "sk-ant-secret-of-the-gateway"
GEMINI_SECRET = "AIza-secret-of-the-gateway"
OLLAMA_SECRET = "ollama-secret-of-the-gateway"
MESSAGES = [{"role": "user", "content": "Say hello."}]

CONFIGURATION = f"""
providers:
  - name: up
    dialect: openai
    base_url: UP/v1
    credentials: [{{name: main, value: {OPENAI_SECRET}}}]
  - name: claude
    dialect: anthropic
    base_url: UP
    credentials: [{{name: main, value: {ANTHROPIC_SECRET}}}]
  - name: google
    dialect: gemini
    base_url: UP
    credentials: [{{name: main, value: {GEMINI_SECRET}}}]
  - name: local
    dialect: ollama
    base_url: UP
    credentials: [{{name: main, value: {OLLAMA_SECRET}}}]
  - {{name: backend, dialect: http, base_url: "UP/base"}}
routes:
  - {{name: chat, targets: [{{provider: up, model: up-model}}]}}
  - {{name: up-model, targets: [{{provider: up, model: up-model}}]}}
  - {{name: sonnet, targets: [{{provider: claude, model: claude-model}}]}}
  - {{name: flash, targets: [{{provider: google, model: gemini-model}}]}}
  - {{name: org/flash, targets: [{{provider: google, model: models/gemini-model}}]}}
  - {{name: embedder, targets: [{{provider: google, model: embedding-model}}]}}
  - {{name: gemma, targets: [{{provider: local, model: "gemma3:270m"}}]}}
  - {{name: secret, targets: [{{provider: up, model: up-secret}}]}}
  - {{name: crm, match: {{host: crm.internal}}, targets: [{{provider: backend}}]}}
  - {{name: files, match: {{path: /files/}}, strip_prefix: true, targets: [{{provider: backend}}]}}
  - {{name: hosted, match: {{host: hosted.internal}}, preserve_host: true, targets: [{{provider: backend}}]}}
  - {{name: open, match: {{host: open.internal}}, auth: none, targets: [{{provider: backend}}]}}
teams:
  - name: search
    apps:
      - name: indexer
        routes: "*"
        keys: [{{name: ci, value: {KEY}}}]
      - name: stranger
        routes: [chat]
        keys: [{{name: stranger, value: {STRANGER_KEY}}}]
prices:
  - {{provider: up, model: "*", input: 1000000, output: 2000000, cached_input: 500000, reasoning: 3000000}}
  - {{provider: claude, model: "*", input: 3000000, output: 15000000, cached_input: 300000, cache_write: 3750000}}
  - {{provider: google, model: "*", input: 1000000, output: 2000000, cached_input: 500000, reasoning: 3000000}}
  - {{provider: local, model: "*", input: 1000000, output: 2000000}}
limits:
  - {{name: many, scope: {{app: indexer}}, metric: requests, window: month, at_most: 1000000}}
  - {{name: tokens, scope: {{team: search}}, metric: total_tokens, window: month, at_most: 1000000000}}
"""


@pytest.fixture(scope="session")
def shared_provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture(scope="session")
def shared_sluice(tmp_path_factory: pytest.TempPathFactory, shared_provider: Provider) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("shared")
    with live.gateway(folder, CONFIGURATION.replace("UP", shared_provider.url), workers=2) as running:
        yield running


@pytest.fixture
def provider(shared_provider: Provider) -> Provider:
    """The provider behind every target of `sluice`, without a memory of other tests."""
    shared_provider.forget()
    return shared_provider


@pytest.fixture
def sluice(shared_sluice: Live) -> Live:
    """A gateway with CONFIGURATION that many tests share: leave it as it is."""
    return shared_sluice


@pytest.fixture
def openai_client(sluice: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=sluice.url + "/v1", api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture
def anthropic_client(sluice: Live) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=sluice.url, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client
