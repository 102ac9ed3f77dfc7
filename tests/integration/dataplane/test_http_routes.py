"""Any HTTP API behind a route: claimed by host and path, streamed both ways, WebSocket upgrades tunnelled."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator

import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as serve_websockets

from tests.integration.dataplane.conftest import KEY, STRANGER_KEY
from tests.support import live
from tests.support.live import Live
from tests.support.ports import free_port
from tests.support.provider import Provider
from tests.support.raw import RawAnswer, RawClient


def ask(sluice: Live, head: str, body: bytes = b"") -> RawAnswer:
    lines = head.strip().splitlines()
    if body:
        lines.append(f"content-length: {len(body)}")
    with RawClient(sluice.port) as client:
        client.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
        return client.answer(to_head=head.startswith("HEAD"))


def test_claimed_by_host(sluice: Live, provider: Provider) -> None:
    answer = ask(sluice, f"GET /orders/7?full=1&q=%20x HTTP/1.1\nhost: crm.internal\nx-api-key: {KEY}")
    assert answer.status == 200
    assert json.loads(answer.body)["target"] == "/base/orders/7?full=1&q=%20x"
    assert provider.last.header("host") == f"127.0.0.1:{provider.port}"
    assert provider.last.header("x-forwarded-host") == "crm.internal"
    assert answer.header("x-sluicegate-route") == "crm"
    row = sluice.row(answer.header("x-request-id"))
    assert (row["route"], row["dialect"], row["outcome"], row["app"]) == ("crm", "http", "completed", "indexer")


@pytest.mark.parametrize("host", ["CRM.internal", "crm.internal:8080"])
def test_hosts_compare_as_hosts(sluice: Live, provider: Provider, host: str) -> None:
    assert ask(sluice, f"GET /x HTTP/1.1\nhost: {host}\nx-api-key: {KEY}").status == 200
    assert provider.last.target == "/base/x"


def test_a_hosts_route_beats_every_path(sluice: Live, provider: Provider) -> None:
    """Even the console's and the data plane's own."""
    for path in ("/v1/models", "/api/v1/providers", "/console/", "/healthz", "/metrics"):
        ask(sluice, f"GET {path} HTTP/1.1\nhost: crm.internal\nx-api-key: {KEY}")
        assert provider.last.target == "/base" + path


def test_claimed_by_path_and_stripped(sluice: Live, provider: Provider) -> None:
    assert ask(sluice, f"GET /files/a/b HTTP/1.1\nhost: g\nx-api-key: {KEY}").status == 200
    assert provider.last.target == "/base/a/b"


def test_preserved_host(sluice: Live, provider: Provider) -> None:
    ask(sluice, f"GET / HTTP/1.1\nhost: hosted.internal\nx-api-key: {KEY}")
    assert provider.last.header("host") == "hosted.internal"


def test_our_key_is_removed_and_another_authorization_passes(sluice: Live, provider: Provider) -> None:
    basic = "authorization: Basic dXNlcjpwYXNz"
    ask(sluice, f"GET /x HTTP/1.1\nhost: crm.internal\nx-api-key: {KEY}\n{basic}\ncookie: a=b")
    assert provider.last.header("authorization") == "Basic dXNlcjpwYXNz"
    assert provider.last.header("cookie") == "a=b"
    assert KEY.encode() not in provider.last.head
    ask(sluice, f"GET /x?key={KEY}&y=1 HTTP/1.1\nhost: crm.internal\n{basic}")
    assert provider.last.target == "/base/x?y=1"
    ask(sluice, f"GET /x HTTP/1.1\nhost: crm.internal\nauthorization: Bearer {KEY}\nx-api-key: {KEY}")
    assert KEY.encode() not in provider.last.head


@pytest.mark.parametrize("secret", ["", "x-api-key: nonsense"])
def test_no_key_is_401(sluice: Live, provider: Provider, secret: str) -> None:
    assert ask(sluice, f"GET /x HTTP/1.1\nhost: crm.internal\n{secret}".strip()).status == 401
    assert provider.requests == []


def test_a_route_not_allowed_is_403(sluice: Live, provider: Provider) -> None:
    answer = ask(sluice, f"GET /x HTTP/1.1\nhost: crm.internal\nx-api-key: {STRANGER_KEY}")
    assert answer.status == 403
    assert provider.requests == []
    assert sluice.row(answer.header("x-request-id"))["outcome"] == "refused"


def test_auth_none_lets_everyone_in(sluice: Live, provider: Provider) -> None:
    assert ask(sluice, "GET /x HTTP/1.1\nhost: open.internal\nauthorization: Bearer own-scheme").status == 200
    assert provider.last.header("authorization") == "Bearer own-scheme"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_methods_pass(sluice: Live, provider: Provider, method: str) -> None:
    body = b"a=1" if method in ("POST", "PUT", "PATCH") else b""
    answer = ask(sluice, f"{method} /m HTTP/1.1\nhost: crm.internal\nx-api-key: {KEY}", body)
    assert answer.status == 200
    assert (provider.last.method, provider.last.body) == (method, body)


@pytest.mark.parametrize("status", [201, 204, 206, 301, 304, 400, 404, 409, 418])
def test_statuses_and_headers_pass(sluice: Live, provider: Provider, status: int) -> None:
    body = b"" if status in (204, 304) else b"\x00\xffbinary"
    headers = ((b"location", b"/elsewhere"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2"), (b"etag", b'"x"'))
    if status in (204, 304):
        provider.behave(
            path="/base/s", raw=b'HTTP/1.1 %d X\r\netag: "x"\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\r\n' % status
        )
    else:
        provider.behave(path="/base/s", status=status, body=body, headers=headers)
    answer = ask(sluice, f"GET /s HTTP/1.1\nhost: crm.internal\nx-api-key: {KEY}")
    assert (answer.status, answer.body) == (status, body)
    assert (answer.header("set-cookie"), answer.header("etag")) == ("a=1, b=2", '"x"')
    assert sluice.row(answer.header("x-request-id"))["status"] == status


def test_http10_client_gets_an_answer_it_understands(sluice: Live, provider: Provider) -> None:
    provider.behave(path="/base/x", body=b"chunked upstream", chunked=True)
    with RawClient(sluice.port) as client:
        client.send(f"GET /x HTTP/1.0\r\nhost: crm.internal\r\nx-api-key: {KEY}\r\n\r\n".encode())
        said = client.read_to_end()
    head, _, body = said.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert body == b"chunked upstream"


def test_events_pass_as_they_come(sluice: Live, provider: Provider) -> None:
    """An event stream of any API is not held back."""
    provider.behave(path="/base/events", body=b"data: 1\n\n" * 20, piece_bytes=9, gap_s=0.05)
    with RawClient(sluice.port) as client:
        client.send(f"GET /events HTTP/1.1\r\nhost: crm.internal\r\nx-api-key: {KEY}\r\n\r\n".encode())
        client.answer(to_head=True)
        first = client.read_some()
        assert not provider.last.answered
    assert b"data: 1\n\n" in first


@pytest.fixture(scope="module")
def websocket_port() -> Iterator[int]:
    """A real WebSocket server that echoes, greets first, and says which path and protocol it was asked for."""
    loop, port, ready = asyncio.new_event_loop(), free_port(), threading.Event()
    stop = loop.create_future()

    async def echo(connection: ServerConnection) -> None:
        request = connection.request
        assert request is not None
        keys = [value for name, value in request.headers.raw_items() if "sk-test" in value]
        await connection.send(f"{request.path} {connection.subprotocol} {keys}")
        async for message in connection:
            await connection.send(message)

    async def run() -> None:
        async with serve_websockets(echo, "127.0.0.1", port, subprotocols=["chat.v1"], max_size=None):  # type: ignore[list-item]
            ready.set()
            await stop

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()), daemon=True)
    thread.start()
    assert ready.wait(5)
    yield port
    loop.call_soon_threadsafe(stop.set_result, None)
    thread.join(5)
    loop.close()


@pytest.fixture(scope="module")
def tunnel(tmp_path_factory: pytest.TempPathFactory, websocket_port: int) -> Iterator[Live]:
    yaml = f"""
providers: [{{name: ws, dialect: http, base_url: "http://127.0.0.1:{websocket_port}"}}]
routes: [{{name: ws, match: {{path: /ws/}}, timeout: {{idle: 1s}}, targets: [{{provider: ws}}]}}]
teams: [{{name: t, apps: [{{name: a, routes: "*", keys: [{{name: k, value: {KEY}}}]}}]}}]
"""
    with live.gateway(tmp_path_factory.mktemp("tunnel"), yaml) as running:
        yield running


def test_websockets_are_tunnelled(tunnel: Live) -> None:
    async def talk() -> None:
        url = tunnel.url.replace("http", "ws") + "/ws/room?x=1"
        async with connect(url, additional_headers={"x-api-key": KEY}, subprotocols=["chat.v1"], max_size=None) as chat:  # type: ignore[list-item]
            assert await chat.recv() == "/ws/room?x=1 chat.v1 []"
            for message in ("hello", b"\x00\xff" * 1000, "x" * 3_000_000):
                await chat.send(message)
                assert await chat.recv() == message
            assert chat.response is not None
            assert chat.response.headers["x-sluicegate-route"] == "ws"

    before = len(tunnel.ledger())
    asyncio.run(talk())
    row = tunnel.wait_for_rows(before + 1)[-1]
    assert (row["status"], row["outcome"], row["route"]) == (101, "completed", "ws")


def test_websocket_without_a_key_is_401(tunnel: Live) -> None:
    async def talk() -> None:
        with pytest.raises(websockets.InvalidStatus) as refused:
            await connect(tunnel.url.replace("http", "ws") + "/ws/room")
        assert refused.value.response.status_code == 401

    asyncio.run(talk())


def test_a_quiet_tunnel_is_closed_after_its_idle_timeout(tunnel: Live) -> None:
    async def talk() -> None:
        url = tunnel.url.replace("http", "ws") + "/ws/room"
        async with connect(url, additional_headers={"x-api-key": KEY}, subprotocols=["chat.v1"]) as chat:  # type: ignore[list-item]
            await chat.recv()
            await asyncio.wait_for(chat.wait_closed(), 5)

    asyncio.run(talk())


def test_an_upgrade_to_something_else_is_not_an_upgrade(sluice: Live, provider: Provider) -> None:
    """h2c would be a way around every check: it is served as if it had not been asked for (RFC 9110 7.8)."""
    answer = ask(
        sluice,
        "GET /x HTTP/1.1\nhost: crm.internal\nconnection: upgrade, http2-settings\nupgrade: h2c\n"
        f"http2-settings: AAMAAABkAAQAAP__\nx-api-key: {KEY}",
    )
    assert answer.status == 200
    assert provider.last.header("upgrade") is None
    assert provider.last.header("http2-settings") is None


def test_a_backend_that_refuses_the_upgrade_is_heard(sluice: Live, provider: Provider) -> None:
    provider.behave(path="/base/ws", status=403, body=b"no")
    answer = ask(
        sluice,
        "GET /ws HTTP/1.1\nhost: crm.internal\nconnection: upgrade\nupgrade: websocket\nsec-websocket-version: 13\n"
        f"sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\nx-api-key: {KEY}",
    )
    assert (answer.status, answer.body) == (403, b"no")


def test_half_a_request_then_silence_holds_nothing_upstream(sluice: Live, provider: Provider) -> None:
    with socket.create_connection(("127.0.0.1", sluice.port)) as connection:
        connection.sendall(b"GET /x HTTP/1.1\r\nhost: crm.int")
        assert provider.requests == []
