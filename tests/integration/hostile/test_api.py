"""The same hostile heads and bodies on the REST API and the console: the same end, told as problem details."""

from operator import attrgetter

import pytest

from tests.integration.hostile.requests_table import CHUNKS, CODINGS, HEADS, LENGTHS, Case
from tests.integration.hostile.test_requests import ANSWER, BEHIND, KEY_LINE, say, status_of, still_serves
from tests.support.live import Live
from tests.support.raw_upstream import RawUpstream

START = b"POST /v1/chat/completions HTTP/1."
CASES = [case for case in (*LENGTHS, *CODINGS, *CHUNKS) if case.wire.startswith(START)]


@pytest.mark.parametrize("case", CASES, ids=attrgetter("name"))
def test_bodies_of_the_api(sluice: Live, upstream: RawUpstream, case: Case) -> None:
    token = b"authorization: Bearer %b\r\ncontent-type: application/json\r\n" % sluice.token.encode()
    wire = case.wire.replace(b"@K", token).replace(START, b"POST /api/v1/teams HTTP/1.")
    said = say(sluice, wire + BEHIND, "whole")
    assert status_of(said) in case.statuses | {422}, said[:300]  # 422: the first chunks were read, and say nothing
    assert len(ANSWER.findall(said)) == 1
    assert b"application/problem+json" in said
    assert b"connection: close" in said
    still_serves(sluice, upstream)
    assert [seen.target for seen in upstream.seen] == ["/base/fence"]
    assert sluice.api.get("/api/v1/teams").json()["items"][0]["name"] == "search"


@pytest.mark.parametrize("path", [b"/console/", b"/api/v1/providers", b"/healthz"])
def test_heads_elsewhere(sluice: Live, upstream: RawUpstream, path: bytes) -> None:
    for case in HEADS:
        if b"/files/a" not in case.wire:
            continue
        said = say(sluice, case.wire.replace(b"@K", KEY_LINE).replace(b"/files/a", path) + BEHIND, "whole")
        assert status_of(said) in case.statuses, case.name
        assert len(ANSWER.findall(said)) == 1, case.name
    still_serves(sluice, upstream)
    assert [seen.target for seen in upstream.seen] == ["/base/fence"]
