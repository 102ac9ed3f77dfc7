"""Where it listens and whom it believes: the admin listener, trusted hops; no PROXY protocol yet."""

import json
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import live
from tests.support.certificates import make_certificates
from tests.support.live import Live
from tests.support.ports import free_port
from tests.support.provider import Provider
from tests.support.raw import RawClient

KEY = "sk-test-listen-0123456789"


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


def configuration(url: str) -> str:
    return f"""
providers: [{{name: up, dialect: openai, base_url: {url}}}]
routes: [{{name: chat, targets: [{{provider: up, model: m}}]}}]
teams: [{{name: t, apps: [{{name: a, routes: "*", keys: [{{name: k, value: {KEY}}}]}}]}}]
"""


def status(port: int, path: str, host: str = "g") -> int:
    with RawClient(port) as client:
        client.send(f"GET {path} HTTP/1.1\r\nhost: {host}\r\nx-api-key: {KEY}\r\n\r\n".encode())
        return client.answer().status


def test_admin_listener_has_the_console_and_the_other_has_not(tmp_path: Path, provider: Provider) -> None:
    admin_port = free_port()
    options = ("--admin-listen", f"127.0.0.1:{admin_port}")
    with live.gateway(tmp_path, configuration(provider.url), options=options) as sluice:
        assert status(sluice.port, "/v1/models") == 200
        for path in ("/api/v1/providers", "/api/openapi.json", "/console/", "/metrics", "/api/v1/session"):
            assert status(sluice.port, path) == 404, path
        assert status(sluice.port, "/api/v1/providers", host=f"127.0.0.1:{admin_port}") == 404
        assert status(sluice.port, "/readyz") == 200  # load balancers ask where the traffic goes
        assert status(admin_port, "/healthz") == 200
        assert status(admin_port, "/metrics") == 200
        assert status(admin_port, "/api/v1/providers") == 401
        assert status(admin_port, "/v1/models") == 404
        with RawClient(sluice.port) as client:
            client.send(b"GET /console/ HTTP/1.1\r\nhost: g\r\n\r\n")
            answer = client.answer()
            assert answer.status == 404
            assert answer.header("content-type") == "application/json"
            assert json.loads(answer.body)["error"]["code"] == "not_found"


PROXY_V1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 5000 443\r\n"
PROXY_V1_V6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 5000 443\r\n"
PROXY_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def proxy_v2(command: int, family: int, addresses: bytes) -> bytes:
    return PROXY_V2_SIGNATURE + struct.pack("!BBH", 0x20 | command, family, len(addresses)) + addresses


PROXY_V2 = proxy_v2(
    1, 0x11, socket.inet_aton("203.0.113.7") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 5000, 443)
)
PROXY_V2_TLV = proxy_v2(
    1,
    0x11,
    socket.inet_aton("203.0.113.7") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 5000, 443) + b"\x04\0\x02ab",
)
PROXY_V2_LOCAL = proxy_v2(0, 0x00, b"")


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Live]:
    """A gateway behind a load balancer that speaks the PROXY protocol: every connection must."""
    folder = tmp_path_factory.mktemp("proxied")
    running = live.Live(folder, workers=1, database_url=None, env={})
    running.token = live.prepare(running.data, None, configuration(provider.url))
    running.start("--proxy-protocol", ready=False)

    def ready() -> bool:
        try:
            with RawClient(running.port) as client:
                client.send(PROXY_V2_LOCAL + b"GET /readyz HTTP/1.1\r\nhost: g\r\n\r\n")
                return client.answer().status == 200
        except OSError:
            return False

    try:
        running.until(ready, live.READY_WITHIN_S)
        yield running
    finally:
        running.finish()


@pytest.mark.parametrize(
    ("preamble", "client_ip"),
    [(PROXY_V1, "203.0.113.7"), (PROXY_V1_V6, "2001:db8::7"), (PROXY_V2, "203.0.113.7"), (PROXY_V2_TLV, "203.0.113.7"),
     (PROXY_V2_LOCAL, "127.0.0.1"), (b"PROXY UNKNOWN\r\n", "127.0.0.1")],
    ids=["v1", "v1 IPv6", "v2", "v2 with TLV", "v2 local", "v1 unknown"],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 1000])
def test_proxy_protocol_names_the_client(
    proxied: Live, provider: Provider, preamble: bytes, client_ip: str, size: int
) -> None:
    body = b'{"model":"chat","messages":[]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nx-api-key: {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    message = preamble + head.encode() + body
    with RawClient(proxied.port) as client:
        client.send(*(message[at : at + size] for at in range(0, len(message), size)))
        answer = client.answer()
    assert answer.status == 200
    assert provider.last.header("x-forwarded-for") == client_ip
    assert proxied.row(answer.header("x-request-id"))["client_ip"] == client_ip


@pytest.mark.parametrize("preamble", [b"", b"PROXY TCP4 nonsense\r\n", PROXY_V2_SIGNATURE + b"\x31\x11\0\0"])
def test_without_a_proper_preamble_nothing_is_served(proxied: Live, preamble: bytes) -> None:
    with RawClient(proxied.port) as client:
        client.send(preamble + f"GET /v1/models HTTP/1.1\r\nhost: g\r\nx-api-key: {KEY}\r\n\r\n".encode())
        assert b'"object"' not in client.read_to_end()


@pytest.mark.parametrize("preamble", [PROXY_V1, PROXY_V2_TLV], ids=["v1", "v2"])
@pytest.mark.parametrize("size", [1, 1000])
def test_the_proxy_protocol_comes_before_tls(
    tls_proxied: tuple[Live, ssl.SSLContext], provider: Provider, preamble: bytes, size: int
) -> None:
    """A load balancer that passes TLS through: the preamble in clear, then the client's handshake."""
    running, context = tls_proxied
    body = b'{"model":"chat","messages":[]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nx-api-key: {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as plain:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(preamble), size):
            plain.sendall(preamble[at : at + size])
        with context.wrap_socket(plain, server_hostname="localhost") as secured:
            secured.sendall(head.encode() + body)
            assert secured.recv(65536).startswith(b"HTTP/1.1 200 ")
            assert secured.version() == "TLSv1.3"
            assert secured.selected_alpn_protocol() == "http/1.1"
    assert provider.last.header("x-forwarded-for") == "203.0.113.7"
    assert provider.last.header("x-forwarded-proto") == "https"


@pytest.fixture(scope="module")
def tls_proxied(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[tuple[Live, ssl.SSLContext]]:
    folder = tmp_path_factory.mktemp("tls-proxied")
    certificates = make_certificates(folder / "ca")
    context = ssl.create_default_context(cafile=str(certificates.authority))
    context.set_alpn_protocols(["h2", "http/1.1"])
    running = live.Live(folder, workers=1, database_url=None, env={})
    running.token = live.prepare(running.data, None, configuration(provider.url))
    options = ("--proxy-protocol", "--tls-cert", str(certificates.chain), "--tls-key", str(certificates.key))
    running.start(*options, ready=False)

    def ready() -> bool:
        try:
            with socket.create_connection(("127.0.0.1", running.port), timeout=5) as plain:
                plain.sendall(PROXY_V2_LOCAL)
                with context.wrap_socket(plain, server_hostname="localhost") as secured:
                    secured.sendall(b"GET /readyz HTTP/1.1\r\nhost: g\r\n\r\n")
                    return secured.recv(4096).startswith(b"HTTP/1.1 200 ")
        except OSError:
            return False

    try:
        running.until(ready, live.READY_WITHIN_S)
        yield running, context
    finally:
        running.finish()


def test_trusted_hops_are_believed(tmp_path: Path, provider: Provider) -> None:
    """One proxy of ours in front: the last entry of X-Forwarded-For is its word, what stands before is anybody's."""
    env = {"SLUICEGATE_TRUSTED_HOPS": "1"}
    with live.gateway(tmp_path, configuration(provider.url), env=env) as sluice:
        with RawClient(sluice.port) as client:
            answer = client.post(
                "/v1/chat/completions",
                json.dumps({"model": "chat", "messages": []}).encode(),
                *(f"x-api-key: {KEY}", "x-forwarded-for: 6.6.6.6, 203.0.113.7", "x-forwarded-proto: https"),
            )
        assert answer.status == 200
        assert provider.last.header("x-forwarded-for") == "203.0.113.7, 127.0.0.1"
        assert provider.last.header("x-real-ip") == "203.0.113.7"
        assert provider.last.header("x-forwarded-proto") == "https"
        assert sluice.row(answer.header("x-request-id"))["client_ip"] == "203.0.113.7"
