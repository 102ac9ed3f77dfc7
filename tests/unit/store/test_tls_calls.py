"""Calls within TLS that wait for their findings, and what is said of several processes."""

import time
from typing import Any

import pytest

from gateway.store import tls_calls

ITEM = {"process": "p", "executable": "/p", "user": "mia", "container": None, "reason": None}
CALL = {**ITEM, "host": "A.example.:443", "model": "m", "input_tokens": 1, "output_tokens": None}


def test_what_finds_no_finding_in_time_is_counted() -> None:
    calls = tls_calls.Calls()
    calls.add([CALL, CALL, {}, "text"])
    assert calls.refused == 2
    taken = calls.take()
    assert not calls
    assert [(caller.host, found.calls) for caller, found in taken.items()] == [("a.example", 2)]
    calls.put_back(taken)
    assert calls
    (found,) = calls.take().values()
    found.since_s = time.monotonic() - tls_calls.LONGEST_WAIT_S - 1
    calls.put_back(taken)
    assert not calls
    assert calls.unplaced == 2


def test_no_more_wait_than_have_room() -> None:
    calls = tls_calls.Calls()
    calls.add({**CALL, "host": f"h{n}"} for n in range(tls_calls.MOST_WAITING + 5))
    assert len(calls.take()) == tls_calls.MOST_WAITING
    assert calls.unplaced == 5


@pytest.mark.parametrize(
    ("states", "said"),
    [
        ([], None), (["no_libssl"], "no_libssl"), (["no_libssl", "covered"], "covered"),
        (["covered", "http2"], "http2"), (["http2", "refused", "covered"], "refused"),
    ],
)  # fmt: skip
def test_coverage_of_several_processes(states: list[str], said: str | None) -> None:
    found: dict[str, Any] = {"program": "/p", "user": "mia", "container": None, "cgroup": "/"}
    items = [tls_calls.coverage_item({**ITEM, "state": state}) for state in states]
    assert tls_calls.coverage_of(items, found)[0] == said
    assert tls_calls.coverage_of(items, {**found, "user": "joe"}) == (None, None)


@pytest.mark.parametrize(
    ("header", "name"), [("h", "h"), ("H.example:1", "h.example"), ("[2001:DB8::1]:443", "2001:db8::1")]
)
def test_hosts_are_as_findings_have_them(header: str, name: str) -> None:
    calls = tls_calls.Calls()
    calls.add([{**CALL, "host": header}])
    assert [caller.host for caller in calls.take()] == [name]
