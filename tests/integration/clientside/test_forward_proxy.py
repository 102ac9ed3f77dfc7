"""The forward proxy: identity, destinations, tunnels whose hello must agree, requests that routes claim."""

import base64
import contextlib
import json
import os
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import httpx2
import openai
import pytest
import requests

from tests.integration.clientside.conftest import KEY, NARROW_KEY, STAR_KEY, Side
from tests.support.live import Row
from tests.support.scripted_upstream import Conversation, ScriptedUpstream

MESSAGES: Any = [{"role": "user", "content": "hi"}]


def basic(key: str) -> str:
    return "Basic " + base64.b64encode(f"any:{key}".encode()).decode()


class Through:
    """A connection to the forward proxy, and what was answered to CONNECT."""

    def __init__(self, side: Side, destination: str, authorization: str | None, *, source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(("127.0.0.1", side.proxy_port), 20, source_address=(source, 0))
        lines = [f"CONNECT {destination} HTTP/1.1", f"host: {destination}"]
        if authorization is not None:
            lines.append(f"proxy-authorization: {authorization}")
        self.socket.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        self.head = b""
        while b"\r\n\r\n" not in self.head:
            piece = self.socket.recv(1)
            if not piece:
                break
            self.head += piece
        self.status = int(self.head.split(b" ", 2)[1]) if self.head else 0

    def rest(self) -> bytes:
        pieces = []
        with contextlib.suppress(ConnectionResetError):
            while piece := self.socket.recv(65536):
                pieces.append(piece)
        return b"".join(pieces)

    def header(self, name: str) -> str:
        for line in self.head.decode("latin-1").split("\r\n"):
            if line.lower().startswith(name + ":"):
                return line.partition(":")[2].strip()
        return ""

    def row(self, side: Side) -> Row:
        return side.sluice.row(self.header("x-request-id"))


@contextmanager
def through(
    side: Side, destination: str, authorization: str | None = basic(KEY), *, source: str = "127.0.0.1"
) -> Iterator[Through]:
    opened = Through(side, destination, authorization, source=source)
    try:
        yield opened
    finally:
        opened.socket.close()


def tls_echo(side: Side) -> Any:
    """An upstream that ends TLS and sends back what it gets."""
    context = side.certificates.server_context()

    def script(upstream: Conversation) -> None:
        with context.wrap_socket(upstream.socket, server_side=True) as secured:
            while piece := secured.recv(65536):
                secured.sendall(piece)

    return script


# ---- identity


@pytest.mark.parametrize(
    "shown",
    [f"Bearer {KEY}", basic(KEY), "basic " + base64.b64encode(f"{KEY}:".encode()).decode()],
    ids=["bearer", "password", "user"],
)
def test_keys(side: Side, echo: ScriptedUpstream, shown: str) -> None:
    echo.serve(lambda _: None)
    with through(side, f"localhost:{echo.port}", shown) as tunnel:
        assert tunnel.status == 200
    assert tunnel.row(side)["key"] == "k"


@pytest.mark.parametrize("shown", [None, "Bearer nonsense-key", "Basic !!!", "Digest x", basic("wrong-key-1")])
def test_no_key_is_407_with_the_remedy(side: Side, echo: ScriptedUpstream, shown: str | None) -> None:
    echo.serve(lambda _: None)
    with through(side, f"localhost:{echo.port}", shown) as tunnel:
        assert tunnel.status == 407
        assert tunnel.header("proxy-authenticate").startswith("Basic ")
        body = tunnel.rest()
    assert b"HTTPS_PROXY=" in body
    assert b"nonsense" not in body
    assert echo.conversations == []


def test_the_source_is_an_identity(side: Side, echo: ScriptedUpstream, raw: ScriptedUpstream) -> None:
    echo.serve(lambda _: time.sleep(1))
    with through(side, f"localhost:{echo.port}", None, source="127.0.0.7") as tunnel:
        assert tunnel.status == 200
        with through(side, f"localhost:{echo.port}", None, source="127.0.0.7") as second:
            assert second.status == 429  # one tunnel at a time
            assert b"tunnels" in second.rest()
    row = tunnel.row(side)
    assert (row["app"], row["key"]) == ("near", None)
    assert second.row(side)["error_code"] == "limit_exceeded"


def test_a_wrong_key_is_no_source(side: Side, echo: ScriptedUpstream) -> None:
    with through(side, f"localhost:{echo.port}", "Bearer nonsense-key", source="127.0.0.7") as tunnel:
        assert tunnel.status == 407


# ---- destinations


@pytest.mark.parametrize(
    ("key", "destination", "status"),
    [
        (NARROW_KEY, "localhost:ECHO", 403),
        (NARROW_KEY, "example.com:443", 403),
        (NARROW_KEY, "UP", 200),  # the provider of a route that it may call
        (NARROW_KEY, "SECURE", 403),
        (KEY, "SECURE", 200),
        (KEY, "localhost:1", 502),
        (STAR_KEY, "localhost:443", 403),  # a name that leads to loopback
        (STAR_KEY, "127.0.0.1:443", 403),
        (STAR_KEY, "[::1]:443", 403),
        (STAR_KEY, "[::ffff:127.0.0.1]:443", 403),
        (STAR_KEY, "169.254.169.254:80", 403),
        (STAR_KEY, "127.1:443", 403),
        (STAR_KEY, "2130706433:443", 403),
        (STAR_KEY, "10.0.0.7:443", 403),
        (STAR_KEY, "no-such-host.invalid:443", 502),
        (KEY, "127.0.0.1:OURS", 403),
        (KEY, "127.0.0.1:PROXY", 403),
    ],
)
def test_destinations(side: Side, echo: ScriptedUpstream, key: str, destination: str, status: int) -> None:
    echo.serve(lambda _: None)
    for mark, text in (
        ("ECHO", str(echo.port)),
        ("UP", f"127.0.0.1:{side.up.port}"),
        ("SECURE", f"localhost:{side.secure.port}"),
        ("OURS", str(side.sluice.port)),
        ("PROXY", str(side.proxy_port)),
    ):
        destination = destination.replace(mark, text)
    with through(side, destination, basic(key)) as tunnel:
        assert tunnel.status == status
        if status != 200:
            told = json.loads(tunnel.rest())["error"]
            assert told["fix"]
    row = tunnel.row(side)
    assert row["host"] == destination
    assert row["dialect"] == "connect"
    assert row["status"] == status
    if status == 403:
        assert (row["outcome"], row["error_code"]) == ("refused", "destination_not_allowed")


@pytest.mark.parametrize(
    "line",
    ["CONNECT localhost HTTP/1.1", "CONNECT http://localhost/ HTTP/1.1", "CONNECT localhost:0 HTTP/1.1",
     "CONNECT local%20host:443 HTTP/1.1", "CONNECT a@localhost:443 HTTP/1.1", "CONNECT localhost:99999 HTTP/1.1"],
)  # fmt: skip
def test_what_names_no_destination(side: Side, line: str) -> None:
    with socket.create_connection(("127.0.0.1", side.proxy_port), 10) as plain:
        plain.sendall(f"{line}\r\nhost: localhost\r\nproxy-authorization: {basic(KEY)}\r\n\r\n".encode())
        assert plain.recv(4096).startswith(b"HTTP/1.1 400 ")


def test_neither_console_nor_api_is_here(side: Side) -> None:
    for path in ("/", "/console/", "/api/v1/providers", "/api/openapi.json", "/metrics", "/v1/models"):
        answer = httpx2.get(f"http://127.0.0.1:{side.proxy_port}{path}", headers={"x-api-key": KEY})
        assert answer.status_code == 400, path
        assert "forward proxy" in answer.text
    assert httpx2.get(f"http://127.0.0.1:{side.proxy_port}/healthz").status_code == 200
    ours = f"http://127.0.0.1:{side.sluice.port}/api/v1/providers"
    assert httpx2.get(ours, headers={"authorization": f"Bearer {side.sluice.token}"}).status_code == 200
    answer = httpx2.get(ours, headers={"authorization": f"Bearer {side.sluice.token}"}, proxy=side.proxy_url())
    assert answer.status_code == 403


# ---- tunnels


def test_bytes_pass_and_are_counted(side: Side, echo: ScriptedUpstream) -> None:
    echo.serve(tls_echo(side))
    with through(side, f"localhost:{echo.port}") as tunnel:
        with side.context.wrap_socket(tunnel.socket, server_hostname="localhost") as secured:
            payload = os.urandom(300_000)
            threading.Thread(target=secured.sendall, args=(payload,)).start()
            got = b""
            while len(got) < len(payload):
                got += secured.recv(65536)
            assert got == payload
    row = tunnel.row(side)
    assert row["outcome"] == "completed"
    assert row["bytes_in"] > 300_000
    assert row["bytes_out"] > 300_000
    assert row["host"] == f"localhost:{echo.port}"
    assert row["route"] == "forward-proxy"


@pytest.mark.parametrize("name", ["evil.example", None])
def test_another_name_in_the_hello_is_refused(side: Side, echo: ScriptedUpstream, name: str | None) -> None:
    echo.serve(lambda upstream: upstream.read_to_end() and None)
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with through(side, f"localhost:{echo.port}") as tunnel:
        with pytest.raises(ssl.SSLError, match=r"(?i)access.denied"):
            context.wrap_socket(tunnel.socket, server_hostname=name)
    row = tunnel.row(side)
    assert (row["outcome"], row["error_code"]) == ("refused", "destination_not_allowed")
    time.sleep(0.1)
    assert echo.last.received == b""


def test_an_address_needs_no_name_but_takes_no_other(side: Side, echo: ScriptedUpstream) -> None:
    echo.serve(tls_echo(side))
    with through(side, f"127.0.0.1:{echo.port}") as tunnel:
        with side.context.wrap_socket(tunnel.socket, server_hostname="127.0.0.1") as secured:
            secured.sendall(b"x")
            assert secured.recv(1) == b"x"
    context = ssl.create_default_context()
    with through(side, f"127.0.0.1:{echo.port}") as tunnel:
        with pytest.raises(ssl.SSLError, match=r"(?i)access.denied"):
            context.wrap_socket(tunnel.socket, server_hostname="evil.example")


def test_a_hello_byte_by_byte(side: Side, echo: ScriptedUpstream) -> None:
    echo.serve(tls_echo(side))
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    connection = side.context.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with through(side, f"localhost:{echo.port}") as tunnel:
        tunnel.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(10):
            try:
                connection.do_handshake()
            except ssl.SSLWantReadError:
                for at in outgoing.read():
                    tunnel.socket.sendall(bytes((at,)))
                incoming.write(tunnel.socket.recv(65536))
            else:
                break
        assert connection.version() == "TLSv1.3"


def test_what_is_not_tls_is_refused(side: Side, echo: ScriptedUpstream) -> None:
    echo.serve(lambda upstream: upstream.read_to_end() and None)
    with through(side, f"localhost:{echo.port}") as tunnel:
        tunnel.socket.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        told = tunnel.rest()
    assert told.startswith(b"HTTP/1.1 403 ")
    assert b"tcp://localhost" in told
    assert b"".join(conversation.received for conversation in echo.conversations) == b""


def test_an_entry_may_allow_anything(side: Side, opaque: ScriptedUpstream) -> None:
    """Also a server that speaks first, and a client that ends before the answer."""

    def script(upstream: Conversation) -> None:
        upstream.send(b"220 ready\r\n")
        upstream.send(b"got " + upstream.read_to_end())

    opaque.serve(script)
    with through(side, f"localhost:{opaque.port}") as tunnel:
        assert tunnel.socket.recv(100) == b"220 ready\r\n"
        tunnel.socket.sendall(b"hello")
        tunnel.socket.shutdown(socket.SHUT_WR)
        assert tunnel.rest() == b"got hello"
    assert tunnel.row(side)["outcome"] == "completed"


def test_the_upstreams_end_passes_and_the_client_may_go_on(side: Side, opaque: ScriptedUpstream) -> None:
    def script(upstream: Conversation) -> None:
        upstream.send(b"bye")
        upstream.socket.shutdown(socket.SHUT_WR)
        upstream.read_to_end()

    opaque.serve(script)
    with through(side, f"localhost:{opaque.port}") as tunnel:
        assert tunnel.rest() == b"bye"
        tunnel.socket.sendall(b"still here")
        tunnel.socket.shutdown(socket.SHUT_WR)
        side.sluice.until(lambda: opaque.last.received == b"still here", 5)


def test_resets_pass_both_ways(side: Side, opaque: ScriptedUpstream) -> None:
    linger = struct.pack("ii", 1, 0)

    def resetting(upstream: Conversation) -> None:
        upstream.socket.recv(1)
        upstream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    opaque.serve(resetting)
    with through(side, f"localhost:{opaque.port}") as tunnel:
        tunnel.socket.sendall(b"x")
        with pytest.raises(ConnectionResetError):
            while tunnel.socket.recv(100):
                pass
    assert tunnel.row(side)["outcome"] == "upstream_failed"
    seen: list[str] = []

    def watching(upstream: Conversation) -> None:
        upstream.socket.sendall(b"y")
        try:
            while upstream.socket.recv(100):
                pass
            seen.append("end")
        except ConnectionResetError:
            seen.append("reset")

    opaque.serve(watching)
    with through(side, f"localhost:{opaque.port}") as tunnel:
        assert tunnel.status == 200, tunnel.head
        assert tunnel.socket.recv(1) == b"y"
        tunnel.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    side.sluice.until(lambda: seen == ["reset"], 5, lambda: str(seen))


def test_what_a_server_says_first_follows_our_answer(side: Side, opaque: ScriptedUpstream) -> None:
    """However soon it comes: it may be there before the client was told that the tunnel stands."""
    opaque.serve(lambda upstream: upstream.send(b"220 ready"))
    for _ in range(40):
        with through(side, f"localhost:{opaque.port}") as tunnel:
            assert tunnel.head.startswith(b"HTTP/1.1 200"), tunnel.head
            assert tunnel.rest() == b"220 ready"


def test_a_slow_reader_holds_the_sender(side: Side, opaque: ScriptedUpstream) -> None:
    """What nobody takes is not piled up in the gateway."""
    sent: list[int] = [0]

    def script(upstream: Conversation) -> None:
        upstream.socket.settimeout(1.5)
        with contextlib.suppress(OSError):
            while True:
                sent[0] += upstream.socket.send(b"z" * 65536)

    opaque.serve(script)
    with through(side, f"localhost:{opaque.port}") as tunnel:
        assert tunnel.status == 200
        time.sleep(3)
        assert sent[0] < 16 * 1024 * 1024


def test_an_idle_tunnel_ends(side: Side, opaque: ScriptedUpstream) -> None:
    opaque.serve(lambda upstream: upstream.read_to_end() and None)
    with through(side, f"localhost:{opaque.port}") as tunnel:
        begun = time.monotonic()
        assert tunnel.rest() == b""
        assert 2 < time.monotonic() - begun < 15


# ---- requests with a URL


def test_a_model_call_at_a_providers_address_goes_the_routes_way(side: Side) -> None:
    """HTTP_PROXY alone: the application still names the provider and shows a key of its own there."""
    side.up.forget()
    with httpx2.Client(proxy=side.proxy_url()) as client:
        for _ in range(3):
            answer = client.post(
                f"{side.up.url}/v1/chat/completions",
                json={"model": "chat", "messages": MESSAGES},
                headers={"authorization": "Bearer the-applications-own"},
            )
            assert answer.status_code == 200
            assert answer.headers["x-sluicegate-route"] == "chat"
    assert side.up.last.header("authorization") == "Bearer sk-upstream-secret"
    assert KEY.encode() not in side.up.last.head
    assert base64.b64encode(f"any:{KEY}".encode()) not in side.up.last.head
    row = side.sluice.row(answer.headers["x-request-id"])
    assert (row["app"], row["key"], row["route"]) == ("web", "k", "chat")
    assert row["input_tokens"] > 0


def test_what_lies_at_a_providers_account_goes_the_routes_way_too(side: Side) -> None:
    """Files name no model: they go under the gateway's credential, and the proxy's key says whose they are."""
    side.up.forget()
    with httpx2.Client(proxy=side.proxy_url()) as client:
        answer = client.get(f"{side.up.url}/v1/files", headers={"authorization": "Bearer the-applications-own"})
    assert side.up.last.header("authorization") == "Bearer sk-upstream-secret"
    assert b"the-applications-own" not in side.up.last.head
    row = side.sluice.row(answer.headers["x-request-id"])
    assert (row["app"], row["key"], row["route"]) == ("web", "k", "chat")


def test_an_http_route_claims_its_host(side: Side, raw: ScriptedUpstream) -> None:
    def script(upstream: Conversation) -> None:
        upstream.read_until(b"\r\n\r\n")
        upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    raw.serve(script)
    answer = requests.get(
        "http://raw.internal/x?y=1",
        proxies={"http": side.proxy_url()},
        headers={"authorization": "Bearer own"},
        timeout=10,
    )
    assert answer.status_code == 200
    assert answer.headers["x-sluicegate-route"] == "raw"
    assert raw.last.received.startswith(b"GET /x?y=1 HTTP/1.1\r\n")
    assert b"authorization: Bearer own\r\n" in raw.last.received
    assert b"proxy-authorization" not in raw.last.received.lower()
    answer = requests.get("http://raw.internal/x", proxies={"http": side.proxy_url(NARROW_KEY)}, timeout=10)
    assert answer.status_code == 403


def test_other_urls_are_forwarded_where_allowed(side: Side, echo: ScriptedUpstream) -> None:
    def script(upstream: Conversation) -> None:
        upstream.read_until(b"\r\n\r\n")
        upstream.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-own: 1\r\n\r\nhello")

    echo.serve(script)
    url = f"http://localhost:{echo.port}/a?b=c"
    with httpx2.Client(proxy=side.proxy_url()) as client:
        answer = client.get(url, headers={"cookie": "a=b"})
        assert (answer.status_code, answer.text, answer.headers["x-own"]) == (200, "hello", "1")
    head = echo.last.received
    assert head.startswith(b"GET /a?b=c HTTP/1.1\r\nhost: localhost:%d\r\n" % echo.port)
    assert b"cookie: a=b\r\n" in head
    for ours in (b"forwarded", b"x-real-ip", b"proxy-", b"127.0.0.1"):
        assert ours not in head.lower()
    row = side.sluice.row(answer.headers["x-request-id"])
    assert (row["host"], row["route"], row["status"], row["outcome"]) == (
        f"localhost:{echo.port}", "forward-proxy", 200, "completed",
    )  # fmt: skip
    with httpx2.Client(proxy=side.proxy_url(NARROW_KEY)) as client:
        assert client.get(url).status_code == 403
    with httpx2.Client(proxy=f"http://127.0.0.1:{side.proxy_port}") as client:
        assert client.get(url).status_code == 407


# ---- as applications use it


def test_curl(side: Side) -> None:
    done = subprocess.run(
        ["curl", "-sS", "-m", "20", "-x", side.proxy_url(), "--cacert", str(side.certificates.authority),
         f"https://localhost:{side.secure.port}/v1/chat/completions", "-d", '{"model":"m","messages":[]}'],
        capture_output=True, text=True, check=False, env={**os.environ, "NO_PROXY": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["object"] == "chat.completion"
    refused = subprocess.run(
        ["curl", "-sS", "-m", "20", "-x", side.proxy_url(NARROW_KEY), f"https://localhost:{side.secure.port}/"],
        capture_output=True, text=True, check=False, env={**os.environ, "NO_PROXY": ""},
    )  # fmt: skip
    assert refused.returncode != 0
    assert "403" in refused.stderr


def test_https_proxy_alone_brings_the_sdk_here(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", side.proxy_url())
    monkeypatch.delenv("NO_PROXY", raising=False)
    http = openai.DefaultHttpxClient(verify=side.context)
    base_url = f"https://localhost:{side.secure.port}/v1"
    with openai.OpenAI(base_url=base_url, api_key="sk-own", http_client=http, max_retries=0) as client:
        answer = client.chat.completions.create(model="m", messages=MESSAGES)
        assert answer.choices[0].message.content
        chunks = client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert side.secure.last.header("authorization") == "Bearer sk-own"
    place = f"localhost:{side.secure.port}"
    side.sluice.until(lambda: any(row["host"] == place for row in side.sluice.ledger()), 5)


def test_requests_and_httpx(side: Side) -> None:
    url = f"https://localhost:{side.secure.port}/v1/models"
    proxies = {"https": side.proxy_url()}
    assert requests.get(url, proxies=proxies, verify=str(side.certificates.authority), timeout=20).status_code < 500
    with httpx.Client(proxy=side.proxy_url(), verify=side.context) as client:
        assert client.get(url).status_code < 500
    with pytest.raises(httpx.ProxyError, match="407"):
        httpx.get(url, proxy=f"http://127.0.0.1:{side.proxy_port}")
