"""TLS on both sides: our own listener, and verified upstreams."""

import json
import shutil
import signal
import socket
import ssl
import warnings
from pathlib import Path

import httpx2
import openai
import pytest

from tests.support import live
from tests.support.certificates import make_certificates
from tests.support.cli import Cli
from tests.support.ports import free_port
from tests.support.provider import Provider

KEY = "sk-test-tls-0123456789"
MESSAGES = [{"role": "user", "content": "hi"}]


def configuration(url: str) -> str:
    return f"""
providers: [{{name: up, dialect: openai, base_url: {url}, credentials: [{{name: main, value: sk-upstream-secret}}]}}]
routes: [{{name: chat, retries: 0, targets: [{{provider: up, model: m}}]}}]
teams: [{{name: t, apps: [{{name: a, routes: "*", keys: [{{name: k, value: {KEY}}}]}}]}}]
"""


def chat(sluice: live.Live, stream: bool = False) -> httpx2.Response:
    body = {"model": "chat", "messages": MESSAGES, "stream": stream}
    headers = {"authorization": f"Bearer {KEY}"}
    return httpx2.post(sluice.url + "/v1/chat/completions", json=body, headers=headers, timeout=10)


def test_upstreams_are_verified_and_used_again(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "ca")
    with Provider(tls=certificates.server_context()) as provider:
        environment = {"SSL_CERT_FILE": str(certificates.authority)}
        with live.gateway(tmp_path, configuration(provider.url), env=environment) as sluice:
            assert [chat(sluice, stream=bool(number % 2)).status_code for number in range(6)] == [200] * 6
            assert provider.connections == 1
            assert provider.last.header("authorization") == "Bearer sk-upstream-secret"


def test_an_untrusted_upstream_gets_nothing(tmp_path: Path) -> None:
    with Provider(tls=make_certificates(tmp_path / "ca").server_context()) as provider:
        with live.gateway(tmp_path, configuration(provider.url)) as sluice:
            answer = chat(sluice)
            assert answer.status_code == 502
            assert "certificate" in answer.text.lower()
            assert provider.requests == []


def test_a_certificate_for_another_name_is_refused(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "ca")
    with Provider(tls=certificates.server_context(), host="127.0.0.2") as provider:
        environment = {"SSL_CERT_FILE": str(certificates.authority)}
        with live.gateway(tmp_path, configuration(provider.url), env=environment) as sluice:
            assert chat(sluice).status_code == 502
            assert provider.requests == []


def served_serial(port: int, context: ssl.SSLContext) -> int:
    with socket.create_connection(("127.0.0.1", port)) as plain:
        with context.wrap_socket(plain, server_hostname="localhost") as secured:
            certificate = secured.getpeercert()
            assert certificate
            return int(str(certificate["serialNumber"]), 16)


def test_our_listener_and_a_renewed_certificate(tmp_path: Path) -> None:
    """SIGHUP re-reads the certificate; answers in progress and new connections do not notice."""
    first, second = make_certificates(tmp_path / "first", 11), make_certificates(tmp_path / "second", 12)
    used = tmp_path / "used"
    shutil.copytree(first.authority.parent, used)
    options = ("--tls-cert", str(used / "leaf.pem"), "--tls-key", str(used / "leaf.key"))
    context = ssl.create_default_context(cafile=str(first.authority))
    context.load_verify_locations(str(second.authority))
    with Provider() as provider:
        with live.gateway(tmp_path, configuration(provider.url), options=options, scheme="https") as sluice:
            with (
                httpx2.Client(verify=context) as http,
                openai.OpenAI(base_url=sluice.url + "/v1", api_key=KEY, max_retries=0, http_client=http) as client,
            ):
                chunks = client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
                assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == " token" * 7
                assert provider.last.header("x-forwarded-proto") == "https"
                assert served_serial(sluice.port, context) == 11
                shutil.copy(second.chain, used / "leaf.pem")
                shutil.copy(second.key, used / "leaf.key")
                sluice.signal(signal.SIGHUP)
                sluice.until(lambda: served_serial(sluice.port, context) == 12, 10)
                answer = http.post(
                    sluice.url + "/v1/chat/completions",
                    content=json.dumps({"model": "chat", "messages": MESSAGES}),
                    headers={"x-api-key": KEY},
                )
                assert answer.status_code == 200


def test_a_certificate_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    """The old one stays and the log says why; the right pair is then taken without a signal."""
    first, second = make_certificates(tmp_path / "first", 21), make_certificates(tmp_path / "second", 22)
    used = tmp_path / "used"
    shutil.copytree(first.authority.parent, used)
    options = ("--tls-cert", str(used / "leaf.pem"), "--tls-key", str(used / "leaf.key"))
    context = ssl.create_default_context(cafile=str(first.authority))
    context.load_verify_locations(str(second.authority))
    with Provider() as provider:
        with live.gateway(tmp_path, configuration(provider.url), options=options, scheme="https") as sluice:
            workers = [process.pid for process in sluice.workers()]
            shutil.copy(second.chain, used / "leaf.pem")  # without its key
            sluice.until(lambda: "do not make a usable pair" in sluice.log(), 15)
            sluice.signal(signal.SIGHUP)
            sluice.until(lambda: sluice.log().count("do not make a usable pair") >= 2, 15)
            assert [process.pid for process in sluice.workers()] == workers
            sluice.workers()[0].kill()  # nor does a worker that starts again meanwhile look at the files
            sluice.wait_ready()
            assert served_serial(sluice.port, context) == 21
            shutil.copy(second.key, used / "leaf.key")
            sluice.until(lambda: served_serial(sluice.port, context) == 22, 60)
            sluice.tolerated += ["certificate not re-read", "usable pair"]


def test_versions_and_protocols(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path / "ca")
    port = free_port()
    options = ("--tls-cert", str(certificates.chain), "--tls-key", str(certificates.key))
    options += ("--proxy-listen", f"127.0.0.1:{port}")
    with Provider() as provider:
        with live.gateway(tmp_path, configuration(provider.url), options=options, scheme="https") as sluice:
            for version, offered in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
                context = certificates.client_context()
                context.maximum_version = version
                context.set_alpn_protocols(["h2", "http/1.1"])
                with socket.create_connection(("127.0.0.1", sluice.port)) as plain:
                    with context.wrap_socket(plain, server_hostname="localhost") as secured:
                        assert (secured.version(), secured.selected_alpn_protocol()) == (offered, "http/1.1")
            old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            old.load_verify_locations(certificates.authority)
            old.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
            with socket.create_connection(("127.0.0.1", sluice.port)) as plain:
                with pytest.raises((ssl.SSLError, ConnectionError)):
                    old.wrap_socket(plain, server_hostname="localhost")
            # The forward proxy takes both, as clients know either kind of proxy URL.
            question = b"CONNECT localhost:443 HTTP/1.1\r\nhost: localhost:443\r\n\r\n"
            with socket.create_connection(("127.0.0.1", port)) as plain:
                plain.sendall(question)
                assert plain.recv(4096).startswith(b"HTTP/1.1 407 ")
            with socket.create_connection(("127.0.0.1", port)) as plain:
                with certificates.client_context().wrap_socket(plain, server_hostname="localhost") as secured:
                    secured.sendall(question)
                    assert secured.recv(4096).startswith(b"HTTP/1.1 407 ")


def test_serve_refuses_what_it_cannot_serve(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    first, second = make_certificates(tmp_path / "first"), make_certificates(tmp_path / "second")
    for chain, key, word in (
        (first.chain, second.key, "usable pair"),
        (tmp_path / "none.pem", first.key, "cannot be read"),
    ):
        said = Cli(data)(
            "serve", "--listen", f"127.0.0.1:{free_port()}", "--tls-cert", str(chain), "--tls-key", str(key)
        )
        assert said.code not in (0, -9)
        assert word in said.err
        assert "Traceback" not in said.err
