"""Which intercepted HTTP requests a route claims, and what becomes of those and of the others (contract.md)."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from tests.support.lab import Lab, gateway, servers
from tests.support.lab.lab import CLIENT4, ROUTER_OUT4, SERVER4
from tests.support.lab.talking import read_all, read_exactly, wait_until
from tests.support.lab.world import World
from tests.support.provider import Provider

DIRECT, UPSTREAM, OTHER = "10.9.2.2", "10.9.2.5", "10.9.2.6"
KEY = "sg-lab-" + "k" * 43
SPLICE, METER, DENY, CALLER = 8001, 8002, 8003, 8004
RULE = """
  - name: {name}
    destinations: {{cidrs: ["10.9.2.0/28", "fd09:2::/64"], ports: [{port}]}}
    sources: {{cidrs: ["10.9.1.0/24", "fd09:1::/64"], local: true}}
    app: indexer
    {more}"""
YAML = f"""
providers:
  - {{name: api, dialect: openai, base_url: "http://{UPSTREAM}/v1", credentials: [{{name: main, value: sk-companys}}]}}
  - {{name: crm, dialect: http, base_url: "http://{OTHER}"}}
routes:
  - {{name: chat, targets: [{{provider: api, model: gpt-real}}]}}
  - {{name: forbidden, targets: [{{provider: api, model: gpt-real}}]}}
  - {{name: crm, match: {{host: crm.internal, path: /v2/}}, targets: [{{provider: crm}}]}}
teams:
  - name: search
    apps:
      - {{name: indexer, routes: [chat, crm]}}
      - {{name: other, routes: [chat], keys: [{{name: ci, value: "{KEY}"}}]}}
interception:
{RULE.format(name="splice", port=SPLICE, more="unmatched: splice")}
{RULE.format(name="meter", port=METER, more="unmatched: meter")}
{RULE.format(name="deny", port=DENY, more="unmatched: deny")}
{RULE.format(name="caller", port=CALLER, more="credential: caller")}
"""
CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}


class Scene:
    """The direct provider (whom callers address) on every rule's port, and the two upstreams of the routes."""

    def __init__(self, world: World) -> None:
        lab = world.lab
        self.world, self.lab, self.gateway = world, lab, world.gateway
        ports = (SPLICE, METER, DENY, CALLER)
        make = lambda host, port: lab.keep(Provider(hosts=(host,), port=port, enter=lab.server.enter))  # noqa: E731
        self.direct: dict[int, Provider] = {port: make(DIRECT, port) for port in ports}
        self.upstream: Provider = make(UPSTREAM, 80)
        self.other: Provider = make(OTHER, 80)
        self.rows_before = world.gateway.settled_rows()

    def post(self, port: int, body: dict[str, Any], **headers: str) -> httpx2.Response:
        fields = {"authorization": "Bearer sk-own", **headers}
        with self.lab.client.http(timeout=10) as client:
            return client.post(f"http://{DIRECT}:{port}/v1/chat/completions", json=body, headers=fields)

    def row(self) -> dict[str, Any]:
        """The one row since the beginning of the test."""
        rows = self.gateway.wait_for_ledger(self.rows_before + 1)
        return rows[-1]

    def no_row(self) -> None:
        time.sleep(0.6)  # the keeper reads the spools every 150 ms
        assert len(self.gateway.ledger_rows()) == self.rows_before


@pytest.fixture(scope="module")
def _claiming() -> Iterator[World]:
    with Lab() as lab, gateway(lab, YAML) as running:
        yield World(lab, running)


@pytest.fixture
def scene(_claiming: World) -> Iterator[Scene]:
    with _claiming.lab.scope():
        yield Scene(_claiming)


@pytest.mark.parametrize("port", [SPLICE, METER, DENY])
def test_a_route_in_the_body_is_claimed(scene: Scene, port: int) -> None:
    """It goes the way of an explicit request, charged to the rule's app; the company's credential goes upstream."""
    answer = scene.post(port, CHAT)
    assert answer.status_code == 200
    assert answer.headers["x-sluicegate-route"] == "chat"
    assert scene.direct[port].requests == []
    assert scene.upstream.last.header("authorization") == "Bearer sk-companys"
    assert scene.upstream.last.json["model"] == "gpt-real"
    assert scene.upstream.last.peer == ROUTER_OUT4
    row = scene.row()
    assert (row["app"], row["route"], row["status"], row["client_ip"]) == ("indexer", "chat", 200, CLIENT4)


def test_a_key_of_ours_says_whom_to_charge(scene: Scene) -> None:
    assert scene.post(SPLICE, CHAT, authorization=f"Bearer {KEY}").status_code == 200
    assert scene.upstream.last.header("authorization") == "Bearer sk-companys"
    row = scene.row()
    assert (row["app"], row["key"]) == ("other", "ci")


def test_the_callers_credential_goes_upstream_where_the_rule_says_so(scene: Scene) -> None:
    assert scene.post(CALLER, CHAT).status_code == 200
    assert scene.upstream.last.header("authorization") == "Bearer sk-own"
    assert scene.row()["app"] == "indexer"


def test_an_http_route_by_host_and_path(scene: Scene) -> None:
    with scene.lab.client.http() as client:
        got = client.get(f"http://{DIRECT}:{SPLICE}/v2/customers?x=1", headers={"host": "crm.internal"})
        assert got.status_code == 200
        assert scene.other.last.target == "/v2/customers?x=1"
        client.get(f"http://{DIRECT}:{SPLICE}/v3/customers", headers={"host": "crm.internal"})
    assert len(scene.other.requests) == 1
    assert scene.direct[SPLICE].last.target == "/v3/customers"
    row = scene.row()
    assert (row["app"], row["route"]) == ("indexer", "crm")


@pytest.mark.parametrize("model", ["gpt-unknown", "forbidden", ""])
def test_what_no_route_of_the_app_claims_goes_to_its_destination(scene: Scene, model: str) -> None:
    """A model that is no route, or one that the app may not use: byte for byte, not in the ledger."""
    answer = scene.post(SPLICE, {**CHAT, "model": model})
    assert answer.status_code == 200
    assert "x-sluicegate-route" not in answer.headers
    assert scene.direct[SPLICE].last.header("authorization") == "Bearer sk-own"
    assert scene.direct[SPLICE].last.json["model"] == model
    assert scene.upstream.requests == []
    scene.no_row()


def test_unclaimed_is_metered_where_the_rule_says_so(scene: Scene) -> None:
    """As route `direct:RULE`, to the original destination, with the model and the credential as they came."""
    answer = scene.post(METER, {**CHAT, "model": "gpt-unknown"})
    assert answer.status_code == 200
    assert scene.direct[METER].last.header("authorization") == "Bearer sk-own"
    assert scene.direct[METER].last.json["model"] == "gpt-unknown"
    row = scene.row()
    assert (row["app"], row["route"], row["model"]) == ("indexer", "direct:meter", "gpt-unknown")
    served = scene.direct[METER].served
    assert (row["input_tokens"], row["output_tokens"]) == (served.input_tokens, served.output_tokens)


def test_unclaimed_is_refused_where_the_rule_says_so(scene: Scene) -> None:
    answer = scene.post(DENY, {**CHAT, "model": "gpt-unknown"})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "destination_denied"
    assert scene.direct[DENY].requests == []
    with scene.lab.client.http() as client:
        assert client.get(f"http://{DIRECT}:{DENY}/anything").status_code == 403
    assert scene.direct[DENY].requests == []
    rows = scene.gateway.wait_for_ledger(scene.rows_before + 2)[-2:]
    assert [(row["app"], row["route"], row["status"], row["outcome"]) for row in rows] == [
        ("indexer", None, 403, "refused")
    ] * 2


def test_bytes_that_are_no_http_are_refused_too_where_the_rule_denies(scene: Scene) -> None:
    with scene.lab.client.connect((DIRECT, DENY)) as connection:
        connection.sendall(b"\x00\x01\x02 not http at all")
        try:
            assert read_all(connection) == b""
        except ConnectionResetError:
            pass
    assert scene.direct[DENY].connections == 0


def test_claimed_and_unclaimed_take_turns_on_one_connection(scene: Scene) -> None:
    """Request by request: each goes where it belongs, and the answers come in order."""
    with scene.lab.client.http() as client:
        for number in range(6):
            model = "chat" if number % 2 == 0 else "gpt-unknown"
            answer = client.post(f"http://{DIRECT}:{SPLICE}/v1/chat/completions", json={**CHAT, "model": model})
            assert answer.json()["model"] == ("gpt-real" if number % 2 == 0 else "gpt-unknown")
    assert len(scene.upstream.requests) == len(scene.direct[SPLICE].requests) == 3
    rows = scene.gateway.wait_for_ledger(scene.rows_before + 3)
    assert {row["route"] for row in rows[-3:]} == {"chat"}


def test_unclaimed_requests_arrive_byte_for_byte(scene: Scene) -> None:
    """Odd cases, spaces, order and duplicates of fields stay; nothing is added to request or answer."""
    said = (
        b"HTTP/1.1 200 Fine by me\r\nServer:x\r\nX-Odd:   a  \r\nX-Odd: b\r\n"
        b"content-length: 2\r\nConnection: close\r\n\r\nok"
    )
    direct = scene.direct[SPLICE]
    direct.behave(raw=said)
    body = json.dumps({"model": "gpt-unknown", "x": "ÿ"}, ensure_ascii=False).encode()
    head = (
        f"POST /v1/chat/completions?a=%2f HTTP/1.1\r\nhOST: {DIRECT}:{SPLICE}\r\nX-One:1\r\nx-one:   2 \r\n"
        f"Content-Type: application/json\r\nAuthorization: Bearer sk-own\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with scene.lab.client.connect((DIRECT, SPLICE)) as connection:
        connection.sendall(head + body)
        assert read_all(connection) == said
    assert direct.last.head == head
    assert direct.last.body == body


def test_a_head_in_pieces_is_claimed_all_the_same(scene: Scene) -> None:
    body = json.dumps(CHAT).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {DIRECT}\r\nContent-Length: {len(body)}\r\n"
    head += "Connection: close\r\n\r\n"
    with scene.lab.client.connect((DIRECT, SPLICE)) as connection:
        for number, byte in enumerate(head.encode() + body):
            connection.sendall(bytes([byte]))
            if number == 3:
                time.sleep(0.4)  # longer than a client's silence that means a server-first protocol
        assert b"HTTP/1.1 200" in read_all(connection)
    assert scene.upstream.last.json["model"] == "gpt-real"


def test_where_host_and_destination_disagree_the_destination_decides(scene: Scene) -> None:
    """A Host cannot steer what goes to the original destination to anywhere else."""
    answer = scene.post(SPLICE, {**CHAT, "model": "gpt-unknown"}, host="api.elsewhere.example")
    assert answer.status_code == 200
    assert scene.direct[SPLICE].last.header("host") == "api.elsewhere.example"
    answer = scene.post(METER, {**CHAT, "model": "gpt-unknown"}, host=OTHER)
    assert answer.status_code == 200
    assert len(scene.direct[METER].requests) == 1
    assert scene.other.requests == []


def test_a_stream_is_governed_as_it_comes(scene: Scene) -> None:
    url, asked = f"http://{DIRECT}:{SPLICE}/v1/chat/completions", {**CHAT, "stream": True}
    with scene.lab.client.http() as client:
        with client.stream("POST", url, json=asked) as got:
            assert got.status_code == 200
            events = [line for line in got.iter_lines() if line.startswith("data:")]
    assert events[-1] == "data: [DONE]"
    row = scene.row()
    assert (row["route"], row["stream"], row["output_tokens"]) == ("chat", True, 7)


def test_an_upgrade_that_no_route_claims_becomes_a_tunnel(scene: Scene) -> None:
    def upgrade(connection: servers.Connection) -> None:
        connection.recv_until(b"\r\n\r\n")
        connection.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: mine\r\n\r\n")
        while piece := connection.recv():
            connection.send(piece.upper())

    scene.direct[SPLICE].stop_listening()
    wait_until(lambda: scene.lab.server.sockets("state", "listening", f"sport = :{SPLICE}").total() == 0)
    server = scene.lab.serve(upgrade, SPLICE)
    with scene.lab.client.connect((SERVER4, SPLICE)) as connection:
        connection.sendall(b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: mine\r\n\r\n")
        got = b""
        while not got.endswith(b"\r\n\r\n"):
            got += read_exactly(connection, 1)
        for word in (b"\x00hello\xff", b"GET / HTTP/1.1\r\n\r\n"):
            connection.sendall(word)
            assert read_exactly(connection, len(word)) == word.upper()
    assert len(server.connections) == 1
