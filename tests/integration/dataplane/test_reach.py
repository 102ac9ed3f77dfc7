"""How upstreams are reached: HTTP proxies, own authorities, client certificates, and the deadlines on the way."""

import json
import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import live
from tests.support.certificates import Certificates, make_certificates
from tests.support.forward_proxy import ForwardProxy
from tests.support.live import Live
from tests.support.provider import Provider
from tests.support.raw import RawAnswer, RawClient

KEY = "sk-test-reach-0123456789"
PASSWORD = "proxy-password-01"


@dataclass(frozen=True, slots=True)
class Rig:
    sluice: Live
    plain: Provider
    secure: Provider
    """TLS; asks for a client certificate of `mine`."""
    proxy: ForwardProxy
    other_proxy: ForwardProxy
    theirs: Certificates
    mine: Certificates

    def post(self, route: str) -> RawAnswer:
        body = json.dumps({"model": route, "messages": [], "max_tokens": 20}).encode()
        with RawClient(self.sluice.port, timeout_s=30) as client:
            return client.post("/v1/chat/completions", body, f"authorization: Bearer {KEY}")

    def provider(self, name: str, **fields: Any) -> None:
        """Change a provider while the gateway runs."""
        answer = self.sluice.api.patch(f"/api/v1/providers/{name}", json=fields)
        assert answer.status_code == 200, answer.text

    def code(self, answer: RawAnswer) -> tuple[int, str, str]:
        error = json.loads(answer.body)["error"]
        return answer.status, error["code"], error["message"]


@pytest.fixture(scope="module")
def shared_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("reach")
    theirs, mine = make_certificates(folder / "theirs"), make_certificates(folder / "mine")
    context = theirs.server_context()
    context.load_verify_locations(mine.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    with (
        Provider() as plain,
        Provider(tls=context) as secure,
        ForwardProxy(user="someone", password=PASSWORD) as proxy,
        ForwardProxy() as other,
        socket.create_server(("127.0.0.1", 0)) as mute,
    ):
        mute_port = mute.getsockname()[1]
        yaml = f"""
providers:
  - {{name: plain, dialect: openai, base_url: "http://plain.test:{plain.port}/v1"}}
  - {{name: direct, dialect: openai, base_url: "http://localhost:{plain.port}/v1"}}
  - {{name: exempt, dialect: openai, base_url: "http://exempt.test:{plain.port}/v1"}}
  - {{name: own, dialect: openai, base_url: "http://own.test:{plain.port}/v1", proxy: "{other.url}"}}
  - {{name: web, dialect: http, base_url: "http://web.test:{plain.port}/base"}}
  - name: secure
    dialect: openai
    base_url: https://secure.test:{secure.port}/v1
    tls: {{ca: "${{CA}}", cert: "${{CERT}}", key: "${{KEY}}", server_name: localhost}}
  - {{name: untrusted, dialect: openai, base_url: "https://localhost:{secure.port}/v1"}}
  - {{name: mute, dialect: openai, base_url: "https://localhost:{mute_port}/v1"}}
  - {{name: nowhere, dialect: openai, base_url: "http://does-not-exist.invalid/v1", proxy: none}}
routes:
  - {{name: plain, retries: 0, targets: [{{provider: plain, model: m}}]}}
  - {{name: direct, retries: 0, targets: [{{provider: direct, model: m}}]}}
  - {{name: exempt, retries: 0, timeout: {{connect: 1s}}, targets: [{{provider: exempt, model: m}}]}}
  - {{name: own, retries: 0, timeout: {{connect: 1s}}, targets: [{{provider: own, model: m}}]}}
  - {{name: web, match: {{host: web.internal}}, targets: [{{provider: web}}]}}
  - {{name: secure, retries: 0, timeout: {{connect: 1s}}, targets: [{{provider: secure, model: m}}]}}
  - {{name: untrusted, retries: 0, targets: [{{provider: untrusted, model: m}}]}}
  - {{name: mute, retries: 0, timeout: {{connect: 300ms}}, targets: [{{provider: mute, model: m}}]}}
  - {{name: mute-total, retries: 3, timeout: {{total: 400ms}}, targets: [{{provider: mute, model: n}}]}}
  - name: mute-first
    timeout: {{connect: 300ms}}
    targets: [{{provider: mute, model: o}}, {{provider: direct, model: o}}]
  - {{name: nowhere, retries: 0, targets: [{{provider: nowhere, model: m}}]}}
teams: [{{name: t, apps: [{{name: a, routes: "*", keys: [{{name: k, value: {KEY}}}]}}]}}]
"""
        for name, text in (
            ("CA", theirs.authority), ("CERT", mine.chain), ("KEY", mine.key)
        ):  # fmt: skip
            yaml = yaml.replace(f'"${{{name}}}"', json.dumps(text.read_text()))
        environment = {
            "HTTP_PROXY": f"http://someone:{PASSWORD}@127.0.0.1:{proxy.port}",
            "https_proxy": f"someone:{PASSWORD}@127.0.0.1:{proxy.port}",
            "NO_PROXY": "exempt.test",
        }
        with live.gateway(folder, yaml, env=environment) as sluice:
            yield Rig(sluice, plain, secure, proxy, other, theirs, mine)
        assert PASSWORD not in sluice.log()
        assert "PRIVATE KEY" not in sluice.log()


@pytest.fixture
def rig(shared_rig: Rig) -> Rig:
    for provider in (shared_rig.plain, shared_rig.secure):
        provider.forget()
    for proxy in (shared_rig.proxy, shared_rig.other_proxy):
        proxy.heads.clear()
        proxy.reply, proxy.silent = None, False
    return shared_rig


def test_plain_http_goes_in_absolute_form_with_the_proxys_password(rig: Rig) -> None:
    assert rig.post("plain").status == 200
    lines = rig.proxy.heads[0].split(b"\r\n")
    assert lines[0] == b"POST http://plain.test:%d/v1/chat/completions HTTP/1.1" % rig.plain.port
    assert [line for line in lines if line.startswith(b"proxy-authorization: Basic ")]
    assert rig.plain.last.header("host") == f"plain.test:{rig.plain.port}"
    with RawClient(rig.sluice.port) as client:
        client.send(f"GET /x?q=1 HTTP/1.1\r\nhost: web.internal\r\nauthorization: Bearer {KEY}\r\n\r\n".encode())
        assert client.answer().status == 200
    assert rig.proxy.heads[1].startswith(b"GET http://web.test:%d/base/x?q=1 HTTP/1.1\r\n" % rig.plain.port)
    assert KEY.encode() not in rig.proxy.heads[1]


def test_https_goes_through_connect_and_shows_the_client_certificate(rig: Rig) -> None:
    assert rig.post("secure").status == 200
    assert rig.post("secure").status == 200
    (head,) = rig.proxy.heads
    assert head.startswith(b"CONNECT secure.test:%d HTTP/1.1\r\nhost: secure.test:" % rig.secure.port)
    assert b"\r\nproxy-authorization: Basic " in head
    assert b"proxy-authorization" not in rig.secure.last.head
    assert rig.secure.last.header("host") == f"secure.test:{rig.secure.port}"


def test_loopback_and_no_proxy_are_reached_directly_and_an_own_proxy_beats_the_environment(rig: Rig) -> None:
    assert rig.post("direct").status == 200
    assert rig.post("own").status == 200
    assert rig.other_proxy.heads[0].startswith(b"POST http://own.test:")
    assert rig.post("exempt").status in (502, 504)  # directly: there is no such name
    assert not rig.proxy.heads


REFUSALS = {
    "407": (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "answered 407"),
    "403": (b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n", "answered 403"),
    "junk": (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
    "bytes of its own": (b"HTTP/1.1 200 OK\r\n\r\nhello", "bytes of its own"),
    "end": (b"", "closed the connection"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_proxy_that_refuses_is_502_and_says_why(rig: Rig, case: str) -> None:
    rig.secure.drop_connections()
    time.sleep(0.1)
    rig.proxy.reply, said = REFUSALS[case]
    status, code, message = rig.code(rig.post("secure"))
    assert (status, code) == (502, "upstream_failed")
    assert said in message
    assert PASSWORD not in message


def test_a_proxy_that_is_silent_is_504(rig: Rig) -> None:
    rig.secure.drop_connections()
    time.sleep(0.1)
    rig.proxy.silent = True
    begun = time.monotonic()
    assert rig.code(rig.post("secure"))[:2] == (504, "upstream_timeout")
    assert 0.9 <= time.monotonic() - begun < 5


def test_an_authority_that_nobody_trusts_is_refused(rig: Rig) -> None:
    status, code, message = rig.code(rig.post("untrusted"))
    assert (status, code) == (502, "upstream_failed")
    assert "certificate" in message.lower()
    assert not rig.secure.requests


def test_changes_of_tls_and_proxy_are_in_force_within_a_second(rig: Rig) -> None:
    ca, cert, key = rig.theirs.authority, rig.mine.chain, rig.mine.key
    rig.provider("untrusted", tls={"ca": ca.read_text(), "cert": cert.read_text(), "key": key.read_text()})
    rig.sluice.until(lambda: rig.post("untrusted").status == 200, 2)
    rig.provider("untrusted", tls={"cert": None})
    rig.sluice.until(lambda: rig.post("untrusted").status == 502, 2)  # without ours, the kept connection is not used
    rig.provider("untrusted", tls={"verify": False, "ca": None, "cert": cert.read_text(), "key": key.read_text()})
    rig.sluice.until(lambda: rig.post("untrusted").status == 200, 2)
    assert not rig.other_proxy.heads
    rig.provider("direct", proxy=rig.other_proxy.url)
    rig.sluice.until(lambda: rig.post("direct").status == 200 and bool(rig.other_proxy.heads), 2)
    rig.provider("direct", proxy=None)
    rig.provider("untrusted", tls=None)
    shown = rig.sluice.api.get("/api/v1/providers/secure").text
    assert "PRIVATE KEY" not in shown
    assert '"has_key":true' in shown


def test_a_tls_handshake_that_never_ends_is_504_and_moves_on(rig: Rig) -> None:
    """The connect timeout covers DNS, TCP and TLS; a total timeout ends it earlier."""
    for route, least_s in (("mute", 0.3), ("mute-total", 0.4)):
        begun = time.monotonic()
        assert rig.code(rig.post(route))[:2] == (504, "upstream_timeout")
        assert least_s <= time.monotonic() - begun < least_s + 2
    answer = rig.post("mute-first")
    assert (answer.status, answer.header("x-sluicegate-target")) == (200, "direct/o")


def test_a_name_that_does_not_exist_is_502(rig: Rig) -> None:
    status, code, message = rig.code(rig.post("nowhere"))
    assert (status, code) == (502, "upstream_failed")
    assert "nowhere/m" in message
