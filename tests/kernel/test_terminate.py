"""`tls: terminate`: an unchanged program at https:// is governed, once it trusts the local authority (issue: Done)."""

import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.kernel.test_sdk import CALLERS_KEY, PROGRAM
from tests.support.certificates import Certificates, make_certificates
from tests.support.lab import Gateway, Lab, gateway, servers
from tests.support.lab.lab import ROUTER_OUT4
from tests.support.lab.talking import read_all
from tests.support.lab.world import HOST
from tests.support.provider import Provider

DIRECT, UPSTREAM, OTHER = "10.9.2.2", "10.9.2.5", "10.9.2.6"
BANNER_PORT = 465
YAML = f"""
providers:
  - name: openai
    dialect: openai
    base_url: http://{UPSTREAM}/v1
    credentials: [{{name: main, value: sk-companys}}]
routes:
  - {{name: gpt-small, targets: [{{provider: openai, model: gpt-5-mini}}]}}
teams:
  - {{name: search, apps: [{{name: indexer, routes: [gpt-small]}}]}}
limits:
  - {{name: burst, scope: {{app: indexer}}, metric: requests, window: day, at_most: 4}}
interception:
  - name: openai-direct
    destinations: {{hosts: [{HOST}], cidrs: [{OTHER}/32], ports: [443, {BANNER_PORT}]}}
    sources: {{cidrs: ["10.9.1.0/24"]}}
    tls: terminate
    refused_certificate: passthrough
    app: indexer
"""


@dataclass
class Scene:
    lab: Lab
    gateway: Gateway
    direct: Provider
    upstream: Provider
    servers_own: Certificates
    """Of the destination itself."""
    local: Path
    """The local authority, as `sluicegate ca export` writes it."""

    def context(self, authority: Path) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(authority))


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Lab() as lab:
        lab.hosts({HOST: DIRECT})
        folder = lab.folder
        own = make_certificates(folder / "own", host=HOST)
        make = lambda host, **options: lab.keep(Provider(hosts=(host,), enter=lab.server.enter, **options))  # noqa: E731
        direct = make(DIRECT, port=443, tls=own.server_context())
        upstream = make(UPSTREAM, port=80)
        with gateway(lab, YAML, env={"SSL_CERT_FILE": str(own.authority)}) as running:
            local = folder / "local.pem"
            running.cli("ca", "create")
            running.cli("ca", "export", str(local))
            time.sleep(1.2)  # in force in every worker by then (contract)
            yield Scene(lab, running, direct, upstream, own, local)


def run_program(scene: Scene, requests: int, authority: Path) -> list[dict[str, object]]:
    said: list[dict[str, object]] = scene.lab.client.python(
        PROGRAM, f"https://{HOST}/v1", CALLERS_KEY, str(requests), env={"SSL_CERT_FILE": str(authority)}
    )
    return said


def test_an_unchanged_program_is_governed_and_limited(scene: Scene) -> None:
    said = run_program(scene, 5, scene.local)
    assert [one.get("tokens") for one in said[:4]] == [18] * 4, said
    assert (said[4]["status"], said[4]["class"]) == (429, "RateLimitError")
    assert scene.direct.requests == []
    assert [request.header("authorization") for request in scene.upstream.requests] == ["Bearer sk-companys"] * 4
    rows = scene.gateway.wait_for_ledger(5)
    assert [(row["app"], row["route"]) for row in rows] == [("indexer", "gpt-small")] * 5


POST = """
import json, sys, urllib.request
body = json.dumps({"model": "unknown", "messages": []}).encode()
request = urllib.request.Request(sys.argv[1], body, {"content-type": "application/json"})
try:
    print(json.dumps(urllib.request.urlopen(request, timeout=5).status))
except Exception as error:
    print(json.dumps(repr(error)))
"""


def post(scene: Scene, authority: Path) -> object:
    """The status of a call that no route claims, or why there is none."""
    url = f"https://{HOST}/v1/chat/completions"
    return scene.lab.client.python(POST, url, env={"SSL_CERT_FILE": str(authority)})


def test_what_no_route_claims_goes_on_to_the_verified_destination(scene: Scene) -> None:
    assert post(scene, scene.local) == 200
    assert scene.direct.last.json["model"] == "unknown"


def test_a_server_that_begins_within_tls_may(scene: Scene) -> None:
    server = scene.lab.serve(servers.banner, BANNER_PORT, tls=scene.servers_own.server_context())
    with scene.lab.client.connect((DIRECT, BANNER_PORT)) as plain:
        with scene.context(scene.local).wrap_socket(plain, server_hostname=HOST) as connection:
            assert connection.recv(100).startswith(b"220")
            connection.sendall(b"QUIT\r\n")
            read_all(connection)
    assert server.last.received.startswith(b"QUIT")


def test_a_destination_with_a_certificate_of_nobody_is_not_spoken_to(scene: Scene) -> None:
    """As a browser would: not a byte of the request goes to whoever cannot show whom it is."""
    stranger = make_certificates(scene.lab.folder / "stranger", host=HOST)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2\r\n\r\n"
    with scene.lab.scope():
        enter = scene.lab.server.enter
        server = scene.lab.keep(Provider(hosts=(OTHER,), port=443, tls=stranger.server_context(), enter=enter))
        with scene.lab.client.connect((OTHER, 443)) as plain:
            with scene.context(scene.local).wrap_socket(plain, server_hostname=HOST) as connection:
                connection.sendall(head.encode() + b"{}")
                answer = read_all(connection)
        assert b"200" not in answer
        assert server.requests == []


def test_a_name_that_the_authority_may_not_sign_passes_untouched(scene: Scene) -> None:
    """Another SNI at a destination of the rule: the server's own certificate, byte for byte."""
    other = make_certificates(scene.lab.folder / "other", host="other.example")
    with scene.lab.scope():
        server = scene.lab.serve(servers.echo, 443, address=OTHER, tls=other.server_context())
        with scene.lab.client.connect((OTHER, 443)) as plain:
            with other.client_context().wrap_socket(plain, server_hostname="other.example") as connection:
                connection.sendall(b"through")
                assert connection.recv(10) == b"through"
        assert server.last.peer[0] == ROUTER_OUT4


def test_a_client_that_does_not_trust_us_is_passed_on_from_then_on(scene: Scene) -> None:
    """It fails once, which shows that it does not; from then on it speaks with the destination itself."""
    asked = len(scene.direct.requests)
    said = [post(scene, scene.servers_own.authority) for _ in range(5)]
    assert "CERTIFICATE_VERIFY_FAILED" in str(said[0])
    assert said[-1] == 200, said  # each of the two workers has to learn it by itself
    assert len(scene.direct.requests) > asked
