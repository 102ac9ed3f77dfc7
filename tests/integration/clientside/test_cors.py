"""Calls from web pages: preflights without a key, answers for the caller's own origins."""

import pytest

from tests.integration.clientside.conftest import KEY, NARROW_KEY, ORIGIN
from tests.support.live import Live
from tests.support.raw import RawAnswer, RawClient
from tests.support.scripted_upstream import Conversation, ScriptedUpstream

BODY = b'{"model":"chat","messages":[]}'
STREAM = b'{"model":"chat","messages":[],"stream":true}'
OTHER = "https://evil.example"


def preflight(sluice: Live, path: str, origin: str, *, host: str = "g", headers: str = "Authorization, content-type",
              method: str = "POST") -> RawAnswer:  # fmt: skip
    lines = [f"OPTIONS {path} HTTP/1.1", f"host: {host}", f"origin: {origin}",
             f"access-control-request-method: {method}", f"access-control-request-headers: {headers}"]  # fmt: skip
    with RawClient(sluice.port) as client:
        client.send("\r\n".join(lines).encode() + b"\r\n\r\n")
        return client.answer()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/openai/v1/embeddings"])
def test_preflights_are_answered_here(sluice: Live, path: str) -> None:
    answer = preflight(sluice, path, ORIGIN)
    assert answer.status == 204
    assert answer.header("access-control-allow-origin") == ORIGIN
    assert answer.header("access-control-allow-methods") == "POST"
    assert answer.header("access-control-allow-headers") == "authorization, content-type"
    assert answer.header("access-control-max-age") == "60"
    assert answer.header("access-control-allow-credentials") is None
    assert "Origin" in (answer.header("vary") or "")


def test_preflights_of_http_routes(sluice: Live, raw: ScriptedUpstream) -> None:
    raw.serve(lambda _: None)
    assert preflight(sluice, "/x", ORIGIN, host="raw.internal").status == 204
    assert raw.conversations == []


@pytest.mark.parametrize(
    "case",
    [{"origin": OTHER}, {"origin": "http://app.example"}, {"origin": "https://app.example:444"}, {"origin": "null"},
     {"origin": ORIGIN, "headers": "x-other"}, {"origin": ORIGIN, "method": "BREW"}],
)  # fmt: skip
def test_other_pages_are_refused(sluice: Live, case: dict[str, str]) -> None:
    answer = preflight(sluice, "/v1/chat/completions", **case)  # type: ignore[arg-type]
    assert answer.status == 403
    assert answer.header("access-control-allow-origin") is None
    assert "Origin" in (answer.header("vary") or "")


def test_a_route_that_asks_no_key_leaves_it_to_its_upstream(sluice: Live, raw: ScriptedUpstream) -> None:
    def script(upstream: Conversation) -> None:
        upstream.read_until(b"\r\n\r\n")
        upstream.send(b"HTTP/1.1 204 No Content\r\naccess-control-allow-origin: *\r\n\r\n")

    raw.serve(script)
    answer = preflight(sluice, "/x", OTHER, host="open.internal")
    assert (answer.status, answer.header("access-control-allow-origin")) == (204, "*")


@pytest.mark.parametrize("body", [BODY, STREAM], ids=["plain", "stream"])
def test_answers_carry_the_origin(sluice: Live, body: bytes) -> None:
    with RawClient(sluice.port) as client:
        for _ in range(3):  # the third is recognised by its head
            answer = client.post("/v1/chat/completions", body, f"x-api-key: {KEY}", f"origin: {ORIGIN}")
            assert answer.status == 200
            assert answer.header("access-control-allow-origin") == ORIGIN
            exposed = answer.header("access-control-expose-headers") or ""
            assert "x-request-id" in exposed
            assert "x-extra" in exposed
            assert "Origin" in (answer.header("vary") or "")


def test_answers_to_other_pages_do_not(sluice: Live) -> None:
    with RawClient(sluice.port) as client:
        answer = client.post("/v1/chat/completions", BODY, f"x-api-key: {KEY}", f"origin: {OTHER}")
        assert (answer.status, answer.header("access-control-allow-origin")) == (200, None)
        assert "Origin" in (answer.header("vary") or "")
        answer = client.post("/v1/chat/completions", BODY, f"x-api-key: {NARROW_KEY}", f"origin: {ORIGIN}")
        assert (answer.status, answer.header("access-control-allow-origin")) == (200, None)
        assert answer.header("vary") is None


@pytest.mark.parametrize(
    ("path", "key", "status"),
    [("/v1/chat/completions", "wrong-key-123", 401), ("/v1/nothing", KEY, 404), ("/v1/chat/completions", KEY, 404)],
)
def test_a_page_can_read_what_is_wrong(sluice: Live, path: str, key: str, status: int) -> None:
    with RawClient(sluice.port) as client:
        answer = client.post(path, b'{"model":"nope","messages":[]}', f"x-api-key: {key}", f"origin: {ORIGIN}")
    assert answer.status == status
    assert answer.header("access-control-allow-origin") == ORIGIN


def test_the_apps_rules_replace_the_upstreams(sluice: Live, raw: ScriptedUpstream) -> None:
    def script(upstream: Conversation) -> None:
        upstream.read_until(b"\r\n\r\n")
        upstream.send(
            b"HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\naccess-control-allow-credentials: true\r\n"
            b"content-length: 2\r\n\r\nok"
        )

    raw.serve(script)
    with RawClient(sluice.port) as client:
        client.send(f"GET /x HTTP/1.1\r\nhost: raw.internal\r\nx-api-key: {KEY}\r\norigin: {ORIGIN}\r\n\r\n".encode())
        answer = client.answer()
        assert answer.header("access-control-allow-origin") == ORIGIN
        assert answer.header("access-control-allow-credentials") is None


def test_what_is_no_origin_is_refused(sluice: Live) -> None:
    for cors in ({"origins": ["app.example"]}, {"origins": ["https://app.example/path"]}, {"origins": []},
                 {"origins": ["*"], "credentials": True}):  # fmt: skip
        answer = sluice.api.patch("/api/v1/apps/narrow", json={"cors": cors})
        assert answer.status_code == 422, cors
