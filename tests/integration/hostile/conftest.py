"""One gateway, a strict and lying upstream behind it, and secrets that must not be found where they do not belong."""

from collections.abc import Iterator

import pytest

from tests.support import live
from tests.support.live import Live
from tests.support.raw_upstream import RawUpstream

KEY = "sk-canary-callers-key-0123456789"
SECOND_KEY = "sk-canary-second-key-0123456789"
SECRET = "sk-canary-providers-secret"
CLAUDE_SECRET = "sk-canary-claudes-secret"
BACKEND_SECRET = "sk-canary-backends-secret"
OTHER_SECRET = "sk-canary-others-secret"
SECRETS = (SECRET, CLAUDE_SECRET, BACKEND_SECRET, OTHER_SECRET)

LIARS = 320
"""One target for each lie of test_upstreams.py: one that has failed is set aside for a while."""

CONFIGURATION = f"""
providers:
  - {{name: up, dialect: openai, base_url: UP/v1, credentials: [{{name: main, value: {SECRET}}}]}}
  - {{name: other, dialect: openai, base_url: UP/v1, credentials: [{{name: main, value: {OTHER_SECRET}}}]}}
  - {{name: claude, dialect: anthropic, base_url: UP, credentials: [{{name: main, value: {CLAUDE_SECRET}}}]}}
  - {{name: backend, dialect: http, base_url: UP/base}}
  - {{name: sealed, dialect: http, base_url: UP/sealed, credentials: [{{name: main, value: {BACKEND_SECRET}}}]}}
routes:
  - {{name: chat, targets: [{{provider: up, model: m}}], retries: 0, TIMES}}
  - {{name: hidden, targets: [{{provider: up, model: hidden-model}}], retries: 0, TIMES}}
  - {{name: both, targets: [{{provider: up, model: a}}, {{provider: other, model: b}}], retries: 1, TIMES}}
  - {{name: sonnet, targets: [{{provider: claude, model: c}}], retries: 0, TIMES}}
  - {{name: files, match: {{path: /files/}}, strip_prefix: true, targets: [{{provider: backend}}], retries: 0, TIMES}}
  - {{name: crm, match: {{host: crm.internal}}, targets: [{{provider: backend}}], retries: 0, TIMES}}
  - {{name: sealed, match: {{host: sealed.internal}}, targets: [{{provider: sealed}}], retries: 0, TIMES}}
  - {{name: open, match: {{host: open.internal}}, auth: none, targets: [{{provider: backend}}], retries: 0, TIMES}}
teams:
  - name: search
    apps:
      - {{name: indexer, routes: "*", keys: [{{name: ci, value: {KEY}}}]}}
      - {{name: second, routes: [chat, files, crm], keys: [{{name: two, value: {SECOND_KEY}}}]}}
limits:
  - {{name: many, scope: {{app: indexer}}, metric: requests, window: month, at_most: 10000000}}
"""

TIMES = "timeout: {connect: 3s, first_byte: 3s, idle: 3s, total: 8s}"


def configuration(url: str) -> str:
    providers = [f"  - {{name: liar-{n}, dialect: http, base_url: UP/base}}" for n in range(LIARS)]
    routes = [
        line
        for n in range(LIARS)
        for line in (
            f"  - {{name: plain-{n}, targets: [{{provider: up, model: plain-{n}}}], retries: 0, TIMES}}",
            f"  - {{name: stream-{n}, targets: [{{provider: up, model: stream-{n}}}], retries: 0, TIMES}}",
            f"  - {{name: liar-{n}, match: {{path: /liar/{n}}}, targets: [{{provider: liar-{n}}}], retries: 0, TIMES}}",
        )
    ]
    whole = CONFIGURATION.replace("routes:\n", "\n".join([*providers, "routes:", *routes, ""]), 1)
    return whole.replace("TIMES", TIMES).replace("UP/", url + "/").replace("UP,", url + ",")


@pytest.fixture(scope="session")
def hostile_upstream() -> Iterator[RawUpstream]:
    with RawUpstream() as running:
        yield running


@pytest.fixture(scope="session")
def hostile_gateway(tmp_path_factory: pytest.TempPathFactory, hostile_upstream: RawUpstream) -> Iterator[Live]:
    with live.gateway(tmp_path_factory.mktemp("hostile"), configuration(hostile_upstream.url)) as running:
        yield running
        log = running.log()
        for secret in (KEY, SECOND_KEY, *SECRETS):
            assert secret not in log, "a secret stands in the log"


@pytest.fixture
def upstream(hostile_upstream: RawUpstream) -> Iterator[RawUpstream]:
    """What it is sent must hold no key of ours and be read in one way only, whatever the test is about."""
    hostile_upstream.forget()
    yield hostile_upstream
    assert not hostile_upstream.violations
    for seen in hostile_upstream.seen:
        assert KEY.encode() not in seen.wire
        assert SECOND_KEY.encode() not in seen.wire
    for wire in hostile_upstream.received.values():
        assert KEY.encode() not in wire


@pytest.fixture
def sluice(hostile_gateway: Live) -> Live:
    return hostile_gateway
