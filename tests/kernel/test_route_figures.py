"""What the kernel says of routes: known delays in the right route's figures, nothing of one in another's, nothing left.

Real programs on this kernel, through the gateway's REST API and its metrics.
"""

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.lab import Lab, gateway
from tests.support.lab.gateway import PORT, Gateway
from tests.support.lab.lab import ROUTER4, SERVER4
from tests.support.lab.servers import Connection

KEY = "sg-lab-" + "f" * 43
FAST_PORT, SLOW_PORT, MODEL_PORT = 9301, 9302, 9303
FAST_S, SLOW_S, GAP_S = 0.05, 0.2, 0.03
CHUNKS = 12
YAML = f"""
providers:
  - {{name: fast, dialect: http, base_url: "http://{SERVER4}:{FAST_PORT}"}}
  - {{name: slow, dialect: http, base_url: "http://{SERVER4}:{SLOW_PORT}"}}
routes:
  - {{name: fast, match: {{path: /fast/}}, targets: [{{provider: fast}}]}}
  - {{name: slow, match: {{path: /slow/}}, targets: [{{provider: slow}}]}}
teams:
  - {{name: search, apps: [{{name: indexer, routes: "*", keys: [{{name: ci, value: "{KEY}"}}]}}]}}
"""


def answering(delay_s: float) -> Callable[[Connection], None]:
    """A server whose answers' first byte comes after `delay_s`. A path that ends in `stream` is answered in chunks with
    pauses, `big` by 8 MB, `reset` by a reset."""

    def handle(connection: Connection) -> None:
        with contextlib.suppress(EOFError):
            while True:
                head = connection.recv_until(b"\r\n\r\n")
                path = head.split(b" ", 2)[1]
                time.sleep(delay_s)
                if path.endswith(b"reset"):
                    connection.reset()
                    return
                if path.endswith(b"stream"):
                    connection.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
                    for _ in range(CHUNKS):
                        time.sleep(GAP_S)
                        connection.send(b"5\r\nhello\r\n")
                    connection.send(b"0\r\n\r\n")
                else:
                    size = 8 << 20 if path.endswith(b"big") else 5
                    connection.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size)

    return handle


@pytest.fixture(scope="module")
def running() -> Iterator[Gateway]:
    with Lab() as lab:
        lab.serve(answering(FAST_S), FAST_PORT)
        lab.serve(answering(SLOW_S), SLOW_PORT)
        with gateway(lab, YAML, armed=False, listen="0.0.0.0", probes=True, workers=1) as running:
            running.until(lambda: telemetry(running)["source"] == "the agent's probes", 20, lambda: telemetry(running))
            for route in ("fast", "slow"):  # from now on both have a number
                running.until(lambda route=route: is_measured_from_its_start(running, route), 30)
            yield running


def telemetry(running: Gateway) -> Any:
    return running.api.get("/api/v1/telemetry").json()


def call(running: Gateway, path: str, times: int = 1) -> None:
    with running.lab.client.http(headers={"x-api-key": KEY}) as client:
        for _ in range(times):
            assert client.get(f"http://{ROUTER4}:{PORT}{path}").status_code == 200


def figures(running: Gateway, route: str, window_s: int) -> Any:
    answer = running.api.get("/api/v1/telemetry/routes", params={"window": f"{window_s}s"})
    return next((each for each in answer.json()["items"] if each["route"] == route), None)


def is_measured_from_its_start(running: Gateway, route: str) -> bool:
    """Of a connection that is older than the probes' acquaintance with its worker, as one of a gateway that has just
    started may be, no retransmits are told, and the pool keeps it."""
    with running.lab.client.http(headers={"x-api-key": KEY}) as client:
        client.get(f"http://{ROUTER4}:{PORT}/{route}/reset")
    call(running, f"/{route}/")
    time.sleep(1.3)
    found = figures(running, route, 3)
    return found is not None and bool(found["open_connections"])


def after_quiet(running: Gateway, work: Callable[[], object]) -> Callable[[str], Any]:
    """Do it when nothing else has been measured for a while; the result asks for a route's figures since then."""
    time.sleep(2.2)
    begun_s = time.monotonic()
    work()
    time.sleep(1.3)  # figures are read once a second
    return lambda route: figures(running, route, int(time.monotonic() - begun_s) + 1)


def test_known_delays_are_seen_in_the_right_route(running: Gateway) -> None:
    def work() -> None:
        call(running, "/fast/a", 6)
        call(running, "/slow/a", 3)

    since = after_quiet(running, work)
    fast, slow = since("fast"), since("slow")
    assert fast["first_byte_ms"]["count"] == 6
    assert slow["first_byte_ms"]["count"] == 3
    for found, delay_s in ((fast, FAST_S), (slow, SLOW_S)):
        assert delay_s * 1000 * 0.87 <= found["first_byte_ms"]["p50"] <= delay_s * 1000 * 1.13 + 10
        # the gateway's own clock, and what the client waits for, on the same axis
        assert abs(found["ttft_ms"]["p50"] - found["first_byte_ms"]["p50"]) < 0.13 * delay_s * 1000 + 10
        assert found["client_first_byte_ms"]["p50"] >= found["first_byte_ms"]["p50"] * 0.87
        assert found["sources"] == {"requests": "ledger", "kernel": "the agent's probes"}
        assert 0 < found["rtt_ms"]["p50"] < 50
        assert 0 < found["client_rtt_ms"]["p50"] < 50
        assert found["retransmits"] == 0
    assert fast["bytes_in"] > 6 * 5


def test_gaps_between_pieces_of_an_answer(running: Gateway) -> None:
    since = after_quiet(running, lambda: call(running, "/fast/stream"))
    gaps = since("fast")["token_gap_ms"]
    assert CHUNKS - 1 <= gaps["count"] <= CHUNKS + 2
    assert GAP_S * 1000 * 0.87 <= gaps["p50"] <= GAP_S * 1000 * 1.13 + 5
    assert since("slow") is None or since("slow")["token_gap_ms"] is None


def test_one_connection_that_serves_two_routes_is_told_apart(running: Gateway) -> None:
    """The client's connection is the same, and its packets belong to whichever route it asks for at that time."""

    def work() -> None:
        with running.lab.client.http(headers={"x-api-key": KEY}) as client:
            for _ in range(4):
                for route in ("fast", "slow"):
                    assert client.get(f"http://{ROUTER4}:{PORT}/{route}/x").status_code == 200

    since = after_quiet(running, work)
    for route, delay_s in (("fast", FAST_S), ("slow", SLOW_S)):
        found = since(route)
        assert found["client_first_byte_ms"]["count"] == 4
        assert found["client_first_byte_ms"]["p99"] < delay_s * 1000 * 1.13 + 40
        assert found["client_first_byte_ms"]["p50"] > delay_s * 1000 * 0.87


def test_a_slow_client_closes_its_window_and_a_lost_segment_is_sent_again(running: Gateway) -> None:
    lab = running.lab

    def slow_client() -> None:
        with lab.client.connect((ROUTER4, PORT)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(
                b"GET /fast/big HTTP/1.1\r\nhost: x\r\nx-api-key: %b\r\nconnection: close\r\n\r\n" % KEY.encode()
            )
            time.sleep(1.5)
            while sock.recv(1 << 18):
                pass

    since = after_quiet(running, slow_client)
    found = since("fast")
    assert found["bytes_in"] <= found["client_bytes_out"], "what the kernel had yet to send when we closed, too"
    assert found["full_s"]["client"] > 0.7
    assert found["full_s"]["upstream"] == 0

    lossy = (
        "table ip lossy { chain in { type filter hook input priority 0; "
        f"tcp dport {FAST_PORT} tcp flags & psh == psh limit rate 1/hour burst 1 packets drop; }}; }}"
    )
    lab.server.nft(lossy)
    since = after_quiet(running, lambda: call(running, "/fast/b"))
    lab.server.nft("delete table ip lossy")
    assert since("fast")["retransmits"] >= 1
    assert since("fast")["client_retransmits"] == 0


def test_resets_by_who_sent_them(running: Gateway) -> None:
    def work() -> None:
        with running.lab.client.http(headers={"x-api-key": KEY}) as client:
            assert client.get(f"http://{ROUTER4}:{PORT}/slow/reset").status_code == 502

    since = after_quiet(running, work)
    assert since("slow")["resets_by"]["upstream"] >= 1
    assert since("slow")["resets_by"]["client"] == 0
    assert since("fast") is None or since("fast")["resets"] == 0


def test_ten_thousand_connections_leave_no_entry(running: Gateway) -> None:
    """Open connections go back to what they were; nothing was lost for want of room."""
    lab = running.lab
    head = b"GET /fast/n HTTP/1.1\r\nhost: x\r\nx-api-key: %b\r\n\r\n" % KEY.encode()
    before = figures(running, "fast", 60)["client_connections"]
    made = 0
    while made < 10_000:
        socks = [lab.client.connect((ROUTER4, PORT)) for _ in range(500)]
        if made < 1000:
            for sock in socks:
                sock.sendall(head)
            for sock in socks:
                assert sock.recv(65536).startswith(b"HTTP/1.1 200")
        for sock in socks:
            sock.close()
        made += len(socks)
    running.until(lambda: figures(running, "fast", 60)["client_connections"] <= before, 10)
    assert telemetry(running)["lost"]["routes.connections"] == 0


def test_metrics_and_history(running: Gateway) -> None:
    with running.lab.client.http(headers={"x-api-key": KEY}) as client:
        assert client.get(f"http://{ROUTER4}:{PORT}/fast/reset").status_code == 502
    call(running, "/fast/m")  # over a new connection
    call(running, "/fast/stream")
    time.sleep(1.3)
    with running.lab.router.http() as scraper:
        text = scraper.get(f"{running.url}/metrics").text
    assert "sluicegate_agent_up 1" in text
    for name in ("rtt", "first_byte", "token_gap", "connect"):
        assert re.search(rf'sluicegate_kernel_{name}_seconds_bucket{{.*route="fast".*}} [1-9]', text), name
    for name in ("retransmits", "resets", "bytes"):
        assert f"sluicegate_kernel_{name}_total{{" in text
    assert re.search(r'sluicegate_bpf_run_seconds_total{program="routes.on_outgoing"} \d', text)
    assert 'sluicegate_bpf_lost_events_total{program="routes.connections"} 0.0' in text
    points = running.api.get("/api/v1/telemetry/series", params={"step": "1s", "route": "fast"}).json()["items"]
    assert any(point["first_byte_ms"] is not None for point in points)
    assert [point["at"] for point in points] == sorted(point["at"] for point in points)


def test_the_agent_may_die_and_come_back(running: Gateway) -> None:
    """Without it figures are null and say why; with it the same connections are measured again."""
    with running.lab.client.http(headers={"x-api-key": KEY}) as client:
        assert client.get(f"http://{ROUTER4}:{PORT}/fast/k").status_code == 200
        running.agent.kill()
        running.until(lambda: "not connected" in telemetry(running)["source"], 5)
        assert client.get(f"http://{ROUTER4}:{PORT}/fast/k").status_code == 200
        running.agent.start()
        running.until(lambda: telemetry(running)["source"] == "the agent's probes", 20)
        time.sleep(1.0)

        def work() -> None:
            for _ in range(4):
                assert client.get(f"http://{ROUTER4}:{PORT}/fast/k").status_code == 200

        since = after_quiet(running, work)
        assert since("fast")["first_byte_ms"]["count"] >= 3
