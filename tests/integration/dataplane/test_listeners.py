"""Where it listens and whom it believes: the admin listener, trusted hops; no PROXY protocol yet."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import live
from tests.support.cli import Cli
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


@pytest.mark.parametrize("how", ["option", "variable", "file"])
def test_the_proxy_protocol_is_refused_not_ignored(tmp_path: Path, how: str) -> None:
    """Until it exists: a gateway that took connections without reading it would charge the load balancer."""
    data = tmp_path / "data"
    data.mkdir(mode=0o700)
    if how == "file":
        (data / "sluicegate.toml").write_text("proxy_protocol = true\n")
    env = {"SLUICEGATE_PROXY_PROTOCOL": "true"} if how == "variable" else {}
    options = ["--proxy-protocol"] if how == "option" else []
    said = Cli(data)("serve", "--listen", f"127.0.0.1:{free_port()}", *options, **env)
    assert said.code not in (0, -9)
    assert "PROXY protocol" in said.err
    assert "Traceback" not in said.err


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
