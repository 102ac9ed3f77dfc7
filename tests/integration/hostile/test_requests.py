"""Every request of the table ends in one clear answer and the end of its connection; nothing of it, and nothing behind
it, reaches an upstream."""

import random
import re
import time
from collections.abc import Iterable
from operator import attrgetter

import pytest

from tests.integration.hostile.conftest import KEY
from tests.integration.hostile.requests_table import CASES, SIZES, Case
from tests.support.live import Live
from tests.support.raw import RawClient
from tests.support.raw_upstream import RawUpstream

KEY_LINE = b"x-api-key: %b\r\n" % KEY.encode()
BEHIND = b"GET /files/smuggled HTTP/1.1\r\nhost: g\r\n" + KEY_LINE + b"\r\n"
WITHIN_S = 4.0
ANSWER = re.compile(rb"HTTP/1\.1 [0-9]{3} ")


def cut(wire: bytes, way: str) -> Iterable[bytes]:
    if way == "whole":
        return (wire,)
    if way == "bytes":
        return (wire[at : at + 1] for at in range(len(wire)))
    chance = random.Random(wire)
    places = sorted(chance.sample(range(1, len(wire)), min(5, len(wire) - 1)))
    return [wire[start:end] for start, end in zip([0, *places], [*places, len(wire)], strict=True)]


def say(sluice: Live, wire: bytes, way: str) -> bytes:
    """All that comes back until the connection ends."""
    with RawClient(sluice.port, timeout_s=WITHIN_S) as client:
        try:
            client.send(*cut(wire, way), gap_s=0.002 if way == "cuts" else 0)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has closed: what it said before stands
        return client.read_to_end()


def status_of(said: bytes) -> int:
    assert said.startswith(b"HTTP/1.1 "), said[:200]
    return int(said.split(b" ", 2)[1])


def still_serves(sluice: Live, upstream: RawUpstream) -> None:
    """A well-formed request goes through; by then whatever went upstream before it has arrived there."""
    with RawClient(sluice.port) as client:
        client.send(BEHIND.replace(b"smuggled", b"fence"))
        assert client.answer().status == 200
    assert upstream.seen[-1].target == "/base/fence"


@pytest.mark.parametrize("case", CASES, ids=attrgetter("name"))
def test_refused_and_nothing_behind_it_served(sluice: Live, upstream: RawUpstream, case: Case) -> None:
    wire = case.wire.replace(b"@K", KEY_LINE)
    for way in ("whole", "cuts", "bytes") if len(wire) < 5_000 else ("whole", "cuts"):
        began = time.monotonic()
        said = say(sluice, wire + BEHIND, way)
        took = time.monotonic() - began
        assert status_of(said) in case.statuses, (way, said[:300])
        assert len(ANSWER.findall(said)) == 1, (way, said[:600])
        assert b"\r\nconnection: close\r\n" in said
        assert b"\r\nx-request-id: " in said
        assert took < WITHIN_S, way
        still_serves(sluice, upstream)
        assert [seen.target for seen in upstream.seen] == ["/base/fence"], way
        upstream.forget()


@pytest.mark.parametrize("case", [case for case in CASES if case not in SIZES], ids=attrgetter("name"))
def test_refused_behind_a_good_request(sluice: Live, upstream: RawUpstream, case: Case) -> None:
    """The good one is answered, the bad one refused, the one behind never served."""
    good = BEHIND.replace(b"smuggled", b"good")
    said = say(sluice, good + case.wire.replace(b"@K", KEY_LINE) + BEHIND, "whole")
    assert status_of(said) == 200
    _, _, rest = said.partition(b"HTTP/1.1 200 OK\r\n")
    assert status_of(rest[rest.index(b"HTTP/1.1 ") :]) in case.statuses
    assert len(ANSWER.findall(rest)) == 1
    still_serves(sluice, upstream)
    assert [seen.target for seen in upstream.seen] == ["/base/good", "/base/fence"]
