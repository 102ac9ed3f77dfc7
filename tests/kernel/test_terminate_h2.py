"""HTTP/2 inside TLS that ends at the gateway: governed, limited and passed on as HTTP/1.1 is."""

import contextlib
import json
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import hpack
import pytest
from h2.errors import ErrorCodes

from tests.kernel.test_sdk import CALLERS_KEY, PROGRAM
from tests.support.certificates import Certificates, make_certificates
from tests.support.h2_client import H2Client
from tests.support.lab import Gateway, Lab, gateway
from tests.support.lab.talking import wait_until
from tests.support.lab.world import HOST
from tests.support.provider import Behaviour, Provider

DIRECT, DENIED, UPSTREAM = "10.9.2.2", "10.9.2.3", "10.9.2.5"
DENIED_HOST = "denied.example"
YAML = f"""
providers:
  - name: openai
    dialect: openai
    base_url: http://{UPSTREAM}/v1
    credentials: [{{name: main, value: sk-companys}}]
routes:
  - {{name: gpt-small, targets: [{{provider: openai, model: gpt-5-mini}}]}}
  - {{name: gpt-limited, targets: [{{provider: openai, model: gpt-5-mini}}]}}
teams:
  - {{name: search, apps: [{{name: indexer, routes: [gpt-small, gpt-limited]}}]}}
limits:
  - {{name: burst, scope: {{route: gpt-limited}}, metric: requests, window: day, at_most: 4}}
interception:
  - name: openai-direct
    destinations: {{hosts: [{HOST}], ports: [443]}}
    sources: {{cidrs: ["10.9.1.0/24"]}}
    tls: terminate
    app: indexer
  - name: closed
    destinations: {{hosts: [{DENIED_HOST}], ports: [443]}}
    sources: {{cidrs: ["10.9.1.0/24"]}}
    tls: terminate
    unmatched: deny
    app: indexer
"""
CHAT = "/v1/chat/completions"
JSON = ("content-type", "application/json")


def asked(model: str = "gpt-small", **more: object) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "hello"}], **more}).encode()


@dataclass
class Scene:
    lab: Lab
    gateway: Gateway
    direct: Provider
    upstream: Provider
    servers_own: Certificates
    local: Path

    @contextmanager
    def connected(
        self, *, window: bool = True, alpn: tuple[str, ...] = ("h2",), host: str = HOST, address: str = DIRECT
    ) -> Iterator[H2Client]:
        context = ssl.create_default_context(cafile=str(self.local))
        context.set_alpn_protocols(list(alpn))
        with self.lab.client.connect((address, 443), within_s=10) as plain:
            with context.wrap_socket(plain, server_hostname=host) as connection:
                assert connection.selected_alpn_protocol() == "h2"
                yield H2Client(connection, host, window=window)


@pytest.fixture(scope="module")
def running() -> Iterator[Scene]:
    with Lab() as lab:
        lab.hosts({HOST: DIRECT, DENIED_HOST: DENIED})
        own = make_certificates(lab.folder / "own", host=HOST)
        make: Callable[..., Provider] = lambda host, **options: lab.keep(  # noqa: E731
            Provider(hosts=(host,), enter=lab.server.enter, **options)
        )
        direct = make(DIRECT, port=443, tls=own.server_context())
        upstream = make(UPSTREAM, port=80)
        with gateway(lab, YAML, env={"SSL_CERT_FILE": str(own.authority)}) as started:
            local = lab.folder / "local.pem"
            started.cli("ca", "create")
            started.cli("ca", "export", str(local))
            time.sleep(1.2)  # in force in every worker by then (contract)
            yield Scene(lab, started, direct, upstream, own, local)


@pytest.fixture
def scene(running: Scene) -> Scene:
    for provider in (running.direct, running.upstream):
        provider.forget()
    return running


def test_a_call_is_governed(scene: Scene) -> None:
    rows = scene.gateway.settled_rows()
    with scene.connected() as client:
        answer = client.post(CHAT, asked(), JSON, ("authorization", f"Bearer {CALLERS_KEY}"))
    assert answer.status == 200, answer
    assert json.loads(answer.body)["usage"]["total_tokens"] == 18
    assert answer.fields["x-sluicegate-route"] == "gpt-small"
    assert not {"connection", "transfer-encoding", "keep-alive"} & set(answer.fields)
    assert scene.direct.requests == []
    assert scene.upstream.last.header("authorization") == "Bearer sk-companys"
    row = scene.gateway.wait_for_ledger(rows + 1)[-1]
    assert (row["app"], row["route"], row["outcome"], row["status"]) == ("indexer", "gpt-small", "completed", 200)


def test_the_sdk_over_http2_is_governed_and_limited(scene: Scene) -> None:
    program = PROGRAM.replace("max_retries=0,", "max_retries=0, http_client=openai.DefaultHttpxClient(http2=True),")
    program = program.replace("gpt-small", "gpt-limited").replace(
        "print(json.dumps(said))",
        'print(json.dumps([said, client._client.get(sys.argv[1] + "/version", timeout=5).http_version]))',
    )
    said, version = scene.lab.client.python(
        program, f"https://{HOST}/v1", CALLERS_KEY, "5", env={"SSL_CERT_FILE": str(scene.local)}
    )
    assert version == "HTTP/2"
    assert [one.get("tokens") for one in said[:4]] == [18] * 4, said
    assert (said[4]["status"], said[4]["class"], said[4]["code"]) == (429, "RateLimitError", "limit_exceeded")


def test_what_no_route_claims_goes_on_to_the_destination(scene: Scene) -> None:
    with scene.connected() as client:
        fields = (JSON, ("cookie", "a=1"), ("cookie", "b=2"), ("x-own", "kept"))
        answer = client.post(CHAT, asked("unknown"), *fields)
        assert answer.status == 200, answer
        assert client.get("/anything").status in (200, 404)
    posted = next(request for request in scene.direct.requests if request.method == "POST")
    assert posted.json["model"] == "unknown"
    assert (posted.header("cookie"), posted.header("x-own"), posted.header("host")) == ("a=1; b=2", "kept", HOST)


def test_fifty_streams_at_once(scene: Scene) -> None:
    with scene.connected() as client:
        streams = [client.ask("POST", CHAT, asked("gpt-small" if n % 2 else "unknown"), JSON) for n in range(50)]
        answers = client.wait(*streams, within_s=20)
    assert [answer.status for answer in answers] == [200] * 50
    assert len(scene.upstream.requests) == 25
    assert len(scene.direct.requests) == 25


def test_events_come_as_they_are_sent(scene: Scene) -> None:
    scene.upstream.behave(Behaviour(gap_s=0.15))
    with scene.connected() as client:
        answer = client.post(CHAT, asked(stream=True), JSON)
    assert answer.ended
    assert answer.fields["content-type"].startswith("text/event-stream")
    times = [at for at, piece in answer.pieces if piece]
    assert len(times) >= 4
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert max(gaps) < 0.4
    assert sum(gap > 0.08 for gap in gaps) >= 3


def test_a_stream_that_is_given_up_ends_the_upstreams_work_at_once(scene: Scene) -> None:
    scene.upstream.behave(Behaviour(gap_s=0.3))
    rows = scene.gateway.settled_rows()
    with scene.connected() as client:
        stream = client.ask("POST", CHAT, asked(stream=True), JSON)
        while not client.answers[stream].pieces:
            client.read_some()
        client.h2.reset_stream(stream, ErrorCodes.CANCEL)
        client.flush()
        assert scene.upstream.last.aborted.wait(1.0)
        assert client.post(CHAT, asked(), JSON).status == 200, "the connection is none the worse"
    outcomes = [row["outcome"] for row in scene.gateway.wait_for_ledger(rows + 2)[rows:]]
    assert sorted(outcomes) == ["client_gone", "completed"]


@pytest.mark.parametrize("model", ["gpt-small", "unknown"])
def test_an_answer_that_breaks_off_resets_its_stream(scene: Scene, model: str) -> None:
    for provider in (scene.upstream, scene.direct):
        provider.behave(Behaviour(gap_s=0.05, cut_after_pieces=2, reset=True))
    with scene.connected() as client:
        answer = client.post(CHAT, asked(model, stream=True), JSON)
        assert answer.reset == ErrorCodes.INTERNAL_ERROR
        assert not answer.ended
        scene.upstream.behave(Behaviour())
        scene.upstream.forget()
        assert client.post(CHAT, asked(), JSON).status == 200


def test_curl_speaks_it(scene: Scene) -> None:
    said = scene.lab.client.run(
        "curl", "-sS", "--http2", "--cacert", str(scene.local), "-w", "\n%{http_version} %{http_code}",
        "-H", "content-type: application/json", "-d", asked().decode(), f"https://{HOST}{CHAT}",
    ).stdout  # fmt: skip
    body, _, told = said.rpartition("\n")
    assert told == "2 200"
    assert json.loads(body)["usage"]["total_tokens"] == 18


def test_what_is_denied_is_told_in_the_callers_dialect(scene: Scene) -> None:
    with scene.connected(host=DENIED_HOST, address=DENIED) as client:
        answer = client.post(CHAT, asked("unknown"), JSON)
        assert answer.status == 403
        assert json.loads(answer.body)["error"]["code"] == "destination_denied"
        assert client.post(CHAT, asked(), JSON).status == 200


RAW = {
    "trailers": b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 7\r\n\r\n",
    "until the end": b"connection: close\r\n\r\nabc",
}


@pytest.mark.parametrize("name", RAW)
def test_answers_of_the_destination_keep_their_shape(scene: Scene, name: str) -> None:
    scene.direct.behave(Behaviour(raw=b"HTTP/1.1 200 OK\r\n" + RAW[name]))
    with scene.connected() as client:
        answer = client.get("/anything", ("te", "trailers"))
    assert (answer.status, answer.body, answer.ended) == (200, b"abc", True)
    assert answer.trailers == ({"x-sum": "7"} if name == "trailers" else {})


def test_a_client_that_waits_to_be_told_to_go_on_is_told(scene: Scene) -> None:
    with scene.connected() as client:
        stream = client.h2.get_next_available_stream_id()
        client.h2.send_headers(stream, client.head("POST", CHAT, JSON, ("expect", "100-continue")))
        client.flush()
        while not client.answers[stream].interim:
            client.read_some()
        client.send(stream, asked(), end=True)
        (answer,) = client.wait(stream)
    assert (answer.interim, answer.status) == ([100], 200)


@pytest.mark.parametrize("model", ["gpt-small", "unknown"])
def test_a_client_that_takes_nothing_pauses_whoever_answers(scene: Scene, model: str) -> None:
    size = 24 * 1024 * 1024
    for provider in (scene.upstream, scene.direct):
        provider.behave(Behaviour(body=b'"' + b"x" * (size - 2) + b'"', piece_bytes=65536))
    answering = scene.upstream if model == "gpt-small" else scene.direct
    with scene.connected(window=False) as client:
        stream = client.ask("POST", CHAT, asked(model), JSON)
        begun = time.monotonic()
        client.socket.settimeout(0.5)
        while time.monotonic() - begun < 2:
            with contextlib.suppress(TimeoutError):
                client.read_some()
        got = len(client.answers[stream].body)
        assert 0 < got <= 65535
        assert not answering.last.answered
        client.h2.increment_flow_control_window(2**30)
        client.h2.increment_flow_control_window(2**30, stream)
        client.flush()
        (answer,) = client.wait(stream, within_s=30)
    assert (len(answer.body), answer.ended) == (size, True)


@pytest.mark.parametrize("known", [True, False])
def test_a_large_body_goes_up_as_it_is_taken(scene: Scene, known: bool) -> None:
    body = json.dumps({"model": "unknown", "messages": ["x" * 6_000_000]}).encode()
    length = [("content-length", str(len(body)))] if known else []
    with scene.connected() as client:
        assert client.post(CHAT, body, JSON, *length).status == 200
        assert client.post("/upload", body, *length).status in (200, 404)
    assert [request.body_bytes for request in scene.direct.requests] == [len(body)] * 2
    assert scene.direct.requests[0].body == body


MALFORMED = {
    "connection": [("connection", "close")],
    "transfer-encoding": [("transfer-encoding", "chunked")],
    "upper case": [("X-Own", "a")],
    "line end": [("x", "a\r\ntransfer-encoding: chunked")],
    "NUL": [("x", "a\0b")],
    "te": [("te", "gzip")],
    "unknown pseudo": [(":late", "a")],
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_ends_its_stream_alone(scene: Scene, name: str) -> None:
    with scene.connected() as client:
        stream = client.ask("GET", "/smuggled", None, *MALFORMED[name])
        assert client.wait(stream)[0].reset == ErrorCodes.PROTOCOL_ERROR
        assert client.post(CHAT, asked(), JSON).status == 200
    assert scene.direct.requests == []


def test_connect_is_not_served(scene: Scene) -> None:
    with scene.connected() as client:
        raw = [(":method", "CONNECT"), (":authority", HOST)]
        answer = client.wait(client.ask("CONNECT", "", raw=raw))[0]
        assert answer.reset == ErrorCodes.PROTOCOL_ERROR or answer.status == 405
        assert client.post(CHAT, asked(), JSON).status == 200


def test_more_streams_than_allowed_are_refused_and_no_other_suffers(scene: Scene) -> None:
    scene.upstream.behave(Behaviour(head_delay_s=1.5))
    with scene.connected() as client:
        client.h2.remote_settings = type(client.h2.remote_settings)(client=False)  # as if it had not come yet
        streams = [client.ask("POST", CHAT, asked(), JSON) for _ in range(120)]
        answers = client.wait(*streams, within_s=30)
    assert [answer.status for answer in answers[:100]] == [200] * 100
    assert [answer.reset for answer in answers[100:]] == [ErrorCodes.REFUSED_STREAM] * 20


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION, DATA = 1, 3, 4, 6, 9, 0
FIELDS = hpack.Encoder().encode([(":method", "GET"), (":scheme", "https"), (":authority", HOST), (":path", "/reset")])
MANY = hpack.Encoder().encode([(f"x-{n}", "y" * 200) for n in range(600)])
HOSTILE: dict[str, bytes] = {
    "rapid reset": b"".join(
        frame(HEADERS, 5, 2 * n + 1, FIELDS) + frame(RST_STREAM, 0, 2 * n + 1, b"\0\0\0\x08") for n in range(3000)
    ),
    "pings": frame(PING, 0, 0, b"12345678") * 5000,
    "settings": frame(SETTINGS, 0, 0) * 5000,
    "empty data": frame(HEADERS, 4, 1, FIELDS) + frame(DATA, 0, 1) * 5000,
    "continuations": frame(HEADERS, 0, 1, FIELDS) + frame(CONTINUATION, 0, 1, b"") * 200,
    "large head": frame(HEADERS, 1, 1, MANY[:16000])
    + b"".join(frame(CONTINUATION, 0, 1, MANY[at : at + 16000]) for at in range(16000, len(MANY), 16000))
    + frame(CONTINUATION, 4, 1),
    "a frame too large": frame(DATA, 0, 1, b"x" * 20000),
    "broken compression": frame(HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff"),
    "data without stream": frame(DATA, 0, 0, b"x"),
    "even stream": frame(HEADERS, 5, 2, FIELDS),
    "noise": bytes(range(256)) * 40,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_frames_end_their_connection_and_nothing_else(scene: Scene, name: str) -> None:
    with scene.connected() as client:
        with contextlib.suppress(OSError):
            client.socket.sendall(HOSTILE[name])
        deadline = time.monotonic() + 5
        while not (client.closed or client.terminated) and time.monotonic() < deadline:
            client.read_some()
        assert client.closed or client.terminated is not None
        if name in ("rapid reset", "pings", "settings", "empty data", "large head") and client.terminated is not None:
            assert client.terminated.error_code == ErrorCodes.ENHANCE_YOUR_CALM
    assert len(scene.direct.requests) <= 300
    with scene.connected() as client:
        assert client.post(CHAT, asked(), JSON).status == 200


def test_grpc_of_a_client_that_also_speaks_http1_is_told_what_to_do(scene: Scene) -> None:
    with scene.connected(alpn=("h2", "http/1.1")) as client:
        answer = client.post("/google.Service/Call", b"\0\0\0\0\0", ("content-type", "application/grpc"))
        assert (answer.status, answer.fields["grpc-status"]) == (200, "12")
        assert "openai-direct" in answer.fields["grpc-message"]
        assert client.post(CHAT, asked(), JSON).status == 200
    assert scene.direct.requests == []


STREAM = """
import json, sys
import openai
client = openai.OpenAI(base_url=sys.argv[1], api_key="sk-own", max_retries=0, timeout=20,
                       http_client=openai.DefaultHttpxClient(http2=True))
asked = {"model": "gpt-small", "messages": [{"role": "user", "content": "hello"}]}
stream = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
usage = [chunk.usage for chunk in stream if chunk.usage][-1].total_tokens
print(json.dumps([usage, client.chat.completions.create(**asked).usage.total_tokens]))
"""


def test_what_is_under_way_when_workers_end_is_served_to_its_end(scene: Scene) -> None:
    scene.upstream.behave(Behaviour(gap_s=0.35), times=2)
    said: list[object] = []
    # The program's second call finds no worker, for they all end here at once, and goes to the destination itself.
    both = scene.lab.folder / "both.pem"
    both.write_text(scene.local.read_text() + scene.servers_own.authority.read_text())
    both.chmod(0o644)
    program = scene.lab.client.thread(
        lambda: said.append(scene.lab.client.python(STREAM, f"https://{HOST}/v1", env={"SSL_CERT_FILE": str(both)}))
    )
    with scene.connected() as client:
        stream = client.ask("POST", CHAT, asked(stream=True), JSON)
        wait_until(lambda: len(scene.upstream.requests) == 2, within_s=15)
        ending = scene.gateway.workers()
        for worker in ending:
            worker.kill(signal.SIGTERM)
        (answer,) = client.wait(stream, within_s=15)
        assert answer.ended
        assert answer.body.rstrip().endswith(b"[DONE]")
        while not client.closed:
            client.read_some()
        assert client.terminated is not None
        assert client.terminated.error_code == ErrorCodes.NO_ERROR
        assert client.terminated.last_stream_id == stream
    program.join(20)
    assert said == [[18, 18]]
    wait_until(lambda: not {one.pid for one in ending} & {one.pid for one in scene.gateway.workers()}, within_s=10)
    with scene.connected() as client:
        assert client.post(CHAT, asked(), JSON).status == 200


def test_grpc_is_passed_on_from_the_next_connection_on(scene: Scene) -> None:
    """Last: from here on this client's HTTP/2-only connections are the destination's own."""
    trusting = ssl.create_default_context(cafile=str(scene.servers_own.authority))
    trusting.load_verify_locations(str(scene.local))
    trusting.set_alpn_protocols(["h2"])
    met: list[str | None] = []
    while met[-20:] != [None] * 20:  # each worker learns by itself, and one may have just begun
        assert len(met) < 200
        with scene.lab.client.connect((DIRECT, 443)) as plain:
            with trusting.wrap_socket(plain, server_hostname=HOST) as connection:
                met.append(connection.selected_alpn_protocol())
                if met[-1] == "h2":  # ours: the destination of this test speaks HTTP/1.1 only
                    client = H2Client(connection, HOST)
                    answer = client.post("/google.Service/Call", b"\0\0\0\0\0", ("content-type", "application/grpc"))
                    assert answer.reset == ErrorCodes.REFUSED_STREAM
                    while not (client.terminated or client.closed):
                        client.read_some()
                    assert client.terminated is not None
                    assert client.terminated.last_stream_id == 0
    assert 0 < met.count("h2") <= 2, "once a worker"
