"""Header rules of HTTP routes: what goes up, what comes back, what is refused."""

import pytest

from tests.integration.clientside.conftest import KEY
from tests.support.live import Live
from tests.support.raw import RawClient
from tests.support.scripted_upstream import Conversation, ScriptedUpstream


def answered(sluice: Live, raw: ScriptedUpstream, answer: bytes, *headers: str) -> tuple[bytes, bytes]:
    def script(upstream: Conversation) -> None:
        upstream.read_until(b"\r\n\r\n")
        upstream.send(answer)

    raw.serve(script)
    lines = ["GET /x HTTP/1.1", "host: ruled.internal", f"x-api-key: {KEY}", "connection: close", *headers]
    with RawClient(sluice.port) as client:
        client.send("\r\n".join(lines).encode() + b"\r\n\r\n")
        return raw.last.received if raw.conversations else b"", client.read_to_end()


def test_rules_of_requests(sluice: Live, raw: ScriptedUpstream) -> None:
    answered(
        sluice, raw, b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "cookie: a=b", "x-team: blue", "X-Tag: one", "user-agent: curl", "x-forwarded-for: 1.2.3.4", "x-other: stays",
    )  # fmt: skip
    head = raw.last.received
    assert head.count(b"x-team: red\r\n") == 1
    assert b"blue" not in head
    assert b"x-tag: one\r\n" in head
    assert b"x-tag: two\r\n" in head
    assert b"user-agent: gateway\r\n" in head
    assert b"x-other: stays\r\n" in head
    for gone in (b"cookie", b"curl", b"x-forwarded-for", b"x-real-ip", b"\r\nforwarded:"):
        assert gone not in head
    assert b"x-forwarded-proto: http\r\n" in head


@pytest.mark.parametrize("status", [b"200 OK", b"500 Broken", b"404 Not Found"])
def test_rules_of_answers(sluice: Live, raw: ScriptedUpstream, status: bytes) -> None:
    _, received = answered(
        sluice, raw, b"HTTP/1.1 " + status + b"\r\nServer: nginx\r\nX-Powered-By: PHP\r\nx-added: 0\r\n"
        b"content-length: 2\r\n\r\nok",
    )  # fmt: skip
    assert received.startswith(b"HTTP/1.1 " + status[:3])
    assert b"server: hidden\r\n" in received
    assert b"nginx" not in received
    assert b"powered" not in received.lower()
    assert received.count(b"x-added: ") == 2
    assert received.endswith(b"\r\n\r\nok")


BAD = {
    "framing": ({"set": {"content-length": "5"}}, "content-length"),
    "hop by hop": ({"remove": ["Connection"]}, "connection"),
    "host": ({"set": {"host": "x"}}, "preserve_host"),
    "a secret": ({"set": {"authorization": "Bearer x"}}, "credentials"),
    "two lines": ({"set": {"x-a": "1\r\nx-b: 2"}}, "one line"),
    "NUL": ({"add": {"x-a": "1\x00"}}, "visible"),
    "no name": ({"add": {"x a": "1"}}, "header name"),
    "ours": ({"remove": ["x-request-id"]}, "x-request-id"),
}


@pytest.mark.parametrize("direction", ["request_headers", "response_headers"])
@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_what_no_rule_may_do(sluice: Live, direction: str, case: tuple[dict[str, object], str]) -> None:
    answer = sluice.api.patch("/api/v1/routes/ruled", json={direction: case[0]})
    assert answer.status_code == 422
    assert case[1] in answer.text


def test_rules_come_back_as_they_were_given(sluice: Live) -> None:
    shown = sluice.api.get("/api/v1/routes/ruled").json()
    assert shown["request_headers"]["set"] == {"x-team": "red", "user-agent": "gateway"}
    assert shown["response_headers"]["remove"] == ["x-powered-by"]
    assert sluice.api.get("/api/v1/routes/raw").json()["request_headers"] == {"set": {}, "add": {}, "remove": []}
    refused = sluice.api.patch("/api/v1/routes/chat", json={"request_headers": {"set": {"x-a": "b"}}})
    assert refused.status_code == 422
