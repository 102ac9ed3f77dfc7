"""One gateway with its forward proxy, for everything that faces clients."""

import os
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import live
from tests.support.certificates import Certificates, make_certificates
from tests.support.live import Live
from tests.support.ports import free_port
from tests.support.provider import Provider
from tests.support.scripted_upstream import ScriptedUpstream

KEY = "sk-test-client-0123456789"
"""Of the app `web`: every route, cross-origin rules, some destinations."""
NARROW_KEY = "sk-test-narrow-0123456789"
"""Of the app `narrow`: the route `chat` and nothing else."""
STAR_KEY = "sk-test-star-0123456789"
"""Of the app `star`, which may go anywhere."""
ORIGIN = "https://app.example"

CONFIGURATION = """
providers:
  - {name: up, dialect: openai, base_url: "UP/v1", credentials: [{name: main, value: sk-upstream-secret}]}
  - {name: secure, dialect: openai, base_url: "SECURE/v1"}
  - {name: raw, dialect: http, base_url: "http://127.0.0.1:RAW"}
routes:
  - {name: chat, retries: 0, targets: [{provider: up, model: m}]}
  - {name: secure, retries: 0, targets: [{provider: secure, model: m}]}
  - name: raw
    match: {host: raw.internal}
    retries: 0
    timeout: {first_byte: 5s, idle: 3s, total: 60s}
    targets: [{provider: raw}]
  - name: ruled
    match: {host: ruled.internal}
    targets: [{provider: raw}]
    request_headers:
      set: {x-team: red, User-Agent: gateway}
      add: {x-tag: two}
      remove: [cookie, x-forwarded-for, x-real-ip, forwarded]
    response_headers:
      set: {server: hidden}
      add: {x-added: "1"}
      remove: [x-powered-by]
  - {name: open, match: {host: open.internal}, auth: none, targets: [{provider: raw}]}
  - {name: near, match: {host: near.internal}, auth: source, targets: [{provider: raw}]}
teams:
  - name: t
    apps:
      - name: web
        routes: "*"
        cors: {origins: [https://app.example], headers: [authorization, content-type], expose: [x-extra], max_age: 60}
        egress: ["localhost:ECHO", "tcp://localhost:OPAQUE", "127.0.0.1:ECHO", "localhost:1"]
        keys: [{name: k, value: KEYTEXT}]
      - {name: narrow, routes: [chat], keys: [{name: n, value: NARROWTEXT}]}
      - {name: star, routes: [], egress: ["*"], keys: [{name: s, value: STARTEXT}]}
      - {name: near, routes: [near], sources: ["127.0.0.7/32"], egress: ["localhost:ECHO"]}
limits:
  - {name: tunnels, scope: {app: near}, metric: concurrent_requests, at_most: 1}
"""


class Side:
    """The gateway and what stands around it."""

    def __init__(
        self, sluice: Live, proxy_port: int, up: Provider, secure: Provider, certificates: Certificates
    ) -> None:
        self.sluice = sluice
        self.proxy_port = proxy_port
        self.up = up
        self.secure = secure
        self.context: ssl.SSLContext = ssl.create_default_context(cafile=str(certificates.authority))
        self.certificates = certificates

    def proxy_url(self, key: str = KEY) -> str:
        return f"http://any:{key}@127.0.0.1:{self.proxy_port}"


@pytest.fixture(scope="session")
def raw_session() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture(scope="session")
def echo_session() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture(scope="session")
def opaque_session() -> Iterator[ScriptedUpstream]:
    with ScriptedUpstream() as running:
        yield running


@pytest.fixture(scope="session")
def side(
    tmp_path_factory: pytest.TempPathFactory,
    raw_session: ScriptedUpstream,
    echo_session: ScriptedUpstream,
    opaque_session: ScriptedUpstream,
) -> Iterator[Side]:
    folder: Path = tmp_path_factory.mktemp("clientside")
    certificates = make_certificates(folder / "ca")
    with Provider() as up, Provider(tls=certificates.server_context()) as secure:
        replaced = {
            "UP/": f"{up.url}/",
            "SECURE": secure.url.replace("127.0.0.1", "localhost"),
            "RAW": str(raw_session.port),
            "ECHO": str(echo_session.port),
            "OPAQUE": str(opaque_session.port),
            "KEYTEXT": KEY,
            "NARROWTEXT": NARROW_KEY,
            "STARTEXT": STAR_KEY,
        }
        yaml = CONFIGURATION
        for mark, text in replaced.items():
            yaml = yaml.replace(mark, text)
        port = free_port()
        options = ("--proxy-listen", f"127.0.0.1:{port}")
        env = {"SSL_CERT_FILE": str(certificates.authority), "SLUICEGATE_TUNNEL_IDLE": "4"}
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "NO_PROXY", "no_proxy"):
            os.environ.pop(name, None)
        with live.gateway(folder, yaml, options=options, env=env) as running:
            yield Side(running, port, up, secure, certificates)


@pytest.fixture
def sluice(side: Side) -> Live:
    return side.sluice


@pytest.fixture
def raw(raw_session: ScriptedUpstream) -> ScriptedUpstream:
    """Behind `raw.internal` and the other hosts."""
    return raw_session


@pytest.fixture
def echo(echo_session: ScriptedUpstream) -> ScriptedUpstream:
    """A destination of the forward proxy, for TLS."""
    return echo_session


@pytest.fixture
def opaque(opaque_session: ScriptedUpstream) -> ScriptedUpstream:
    """A destination of the forward proxy, for anything."""
    return opaque_session
