"""A gateway with providers of OpenAI's, Anthropic's and Mistral's dialects, all played by one fake provider."""

import time
from collections.abc import Iterator

import pytest

from tests.support import live
from tests.support.live import Live, Row
from tests.support.provider import Provider

KEY = "sk-test-dialects-ci-0123456789"
FEW_KEY = "sk-test-dialects-few-0123456789"
OPENAI_SECRET = "sk-openai-secret-of-the-gateway"
SPARE_SECRET = "sk-openai-secret-of-the-spare-account"
ANTHROPIC_SECRET = "sk-ant-secret-of-the-gateway"
MISTRAL_SECRET = "mistral-secret-of-the-gateway"
MESSAGES = [{"role": "user", "content": "Say hello."}]

CONFIGURATION = f"""
providers:
  - name: up
    dialect: openai
    base_url: UP/v1
    credentials: [{{name: main, value: {OPENAI_SECRET}}}]
  - name: spare
    dialect: openai
    base_url: UP/v1
    credentials: [{{name: main, value: {SPARE_SECRET}}}]
  - name: claude
    dialect: anthropic
    base_url: UP
    credentials: [{{name: main, value: {ANTHROPIC_SECRET}}}]
  - name: mistral
    dialect: mistral
    base_url: UP/mistral/v1
    credentials: [{{name: main, value: {MISTRAL_SECRET}}}]
routes:
  - {{name: chat, targets: [{{provider: up, model: up-model}}]}}
  - {{name: chat-spare, targets: [{{provider: spare, model: spare-model}}]}}
  - {{name: sonnet, targets: [{{provider: claude, model: claude-model}}]}}
  - {{name: small, targets: [{{provider: mistral, model: mistral-small}}]}}
  - {{name: mixed, targets: [{{provider: mistral, model: mistral-small}}, {{provider: up, model: up-model}}]}}
teams:
  - name: search
    apps:
      - name: indexer
        routes: "*"
        keys: [{{name: ci, value: {KEY}}}]
      - name: few
        routes: [sonnet]
        keys: [{{name: few, value: {FEW_KEY}}}]
prices:
  - {{provider: up, model: "*", input: 1000000, output: 2000000, cached_input: 500000}}
  - {{provider: mistral, model: "*", input: 1000000, output: 2000000, cached_input: 500000}}
limits:
  - {{name: many, scope: {{app: indexer}}, metric: requests, window: month, at_most: 1000000}}
  - {{name: tokens, scope: {{team: search}}, metric: total_tokens, window: month, at_most: 1000000000}}
"""


@pytest.fixture(scope="session")
def dialect_provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture(scope="session")
def dialect_sluice(tmp_path_factory: pytest.TempPathFactory, dialect_provider: Provider) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("dialects")
    with live.gateway(folder, CONFIGURATION.replace("UP", dialect_provider.url), workers=1) as running:
        yield running


@pytest.fixture
def provider(dialect_provider: Provider) -> Provider:
    """The provider behind every target of `sluice`, without a memory of other tests."""
    dialect_provider.forget()
    return dialect_provider


@pytest.fixture
def sluice(dialect_sluice: Live) -> Live:
    """A gateway with CONFIGURATION that many tests share: leave it as it is."""
    return dialect_sluice


class NewRows:
    """The ledger rows since the test began."""

    def __init__(self, sluice: Live) -> None:
        self._sluice = sluice
        before = -1
        while before != (count := len(sluice.ledger())):  # rows of the test before may still be on their way
            before = count
            time.sleep(0.2)
        self._before = before

    def wait(self, count: int) -> list[Row]:
        """That many rows and no more, oldest first."""
        return self._sluice.wait_for_rows(self._before + count)[self._before :]

    def one(self) -> Row:
        return self.wait(1)[0]


@pytest.fixture
def new_rows(sluice: Live) -> NewRows:
    return NewRows(sluice)
