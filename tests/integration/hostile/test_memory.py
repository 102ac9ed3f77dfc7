"""Clients that send without end, or never read, cost the worker a bounded amount of memory each."""

import contextlib
import time

import pytest

from tests.integration.hostile.test_requests import BEHIND, KEY_LINE, still_serves
from tests.support.live import Live
from tests.support.raw import RawClient
from tests.support.raw_upstream import RawUpstream

MOST_BYTES = 150 * 1024 * 1024
ENDED = 500
"""Connections, of which the cycle collector would look at none before there are more."""
MOST_BYTES_ENDED = 1_000
"""For each; one that waits for the collector keeps 1,600 (malformed) to 7,000."""
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\ncontent-type: application/json\r\n" + KEY_LINE
CALL = b'{"model":"chat","messages":[]}'


def resident_bytes(sluice: Live) -> int:
    [worker] = sluice.workers()
    with open(f"/proc/{worker.pid}/statm") as told:
        return int(told.read().split()[1]) * 4096


def test_crowds(sluice: Live, upstream: RawUpstream) -> None:
    still_serves(sluice, upstream)
    before = resident_bytes(sluice)
    models = b"GET /v1/models HTTP/1.1\r\nhost: g\r\n" + BEHIND.partition(b"host: g\r\n")[2]
    with contextlib.ExitStack() as crowd:
        for _ in range(300):  # heads that stop just before their end
            crowd.enter_context(RawClient(sluice.port)).send(b"GET / HTTP/1.1\r\nhost: g\r\nx: " + b"a" * 50_000)
        for _ in range(20):  # questions by the hundred thousand, and nobody reads the answers
            client = crowd.enter_context(RawClient(sluice.port, timeout_s=0.5, receive_buffer_bytes=4096))
            with contextlib.suppress(TimeoutError, ConnectionError):
                client.send(models * 100_000)
        time.sleep(1)
        grown = resident_bytes(sluice) - before
        assert grown < MOST_BYTES, f"{grown / 1e6:.0f} MB"
        still_serves(sluice, upstream)


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (CHAT + b"content-length: %d\r\n\r\n%b" % (len(CALL), CALL), 200),
        (CHAT + b"content-length: 99999999999\r\n\r\n", 413),
        (CHAT + b"transfer-encoding: chunked\r\n\r\nno chunk\r\n", 400),
    ],
    ids=["served", "too large", "malformed"],
)
def test_an_ended_connection_leaves_nothing(sluice: Live, upstream: RawUpstream, wire: bytes, status: int) -> None:
    """It dies at once, with its request: what waits for the cycle collector waits for thousands of others."""

    def converse(count: int) -> int:
        for _ in range(count):
            with RawClient(sluice.port) as client:
                client.send(wire)
                assert client.answer().status == status
        time.sleep(0.2)
        return resident_bytes(sluice)

    before = converse(ENDED // 4)
    grown = (converse(ENDED) - before) / ENDED
    assert grown < MOST_BYTES_ENDED, f"{grown:.0f} bytes a connection"
