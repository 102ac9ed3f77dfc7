"""Clients that send without end, or never read, cost the worker a bounded amount of memory each."""

import contextlib
import time

from tests.integration.hostile.test_requests import BEHIND, still_serves
from tests.support.live import Live
from tests.support.raw import RawClient
from tests.support.raw_upstream import RawUpstream

MOST_BYTES = 150 * 1024 * 1024


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
