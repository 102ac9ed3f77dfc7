"""The caller's key goes no further than us, a provider's credential to that provider alone, and neither into an
answer, the
ledger, the log or the REST API. (`conftest.upstream` looks for keys in whatever an upstream was sent.)"""

import json

import pytest

from tests.integration.hostile.conftest import BACKEND_SECRET, KEY, OTHER_SECRET, SECOND_KEY, SECRET, SECRETS
from tests.support.live import Live
from tests.support.raw import RawClient
from tests.support.raw_upstream import Conversation, RawUpstream, answer

CHAT = b'{"model":"chat","messages":[]}'
ESCAPED = "".join(f"%{byte:02x}" for byte in KEY.encode())

WAYS = {
    "bearer": ("", [f"authorization: Bearer {KEY}"]),
    "bearer in another case": ("", [f"authorization: bEaReR   {KEY}"]),
    "x-api-key": ("", [f"x-api-key: {KEY}"]),
    "x-goog-api-key": ("", [f"x-goog-api-key: {KEY}"]),
    "everywhere": (f"?key={KEY}", [f"{name}: {KEY}" for name in ("x-api-key", "api-key", "x-goog-api-key")]),
    "twice": ("", [f"x-api-key: {KEY}", f"x-api-key: {KEY}"]),
    "two of ours": ("", [f"authorization: Bearer {KEY}", f"x-api-key: {SECOND_KEY}"]),
    "in the query": (f"?key={KEY}", []),
    "in the query, escaped": (f"?a=b&key={ESCAPED}&c=d", []),
    "in the query, its name escaped too": (f"?key={KEY}&k%65y={KEY}", []),
    "in the query, twice": (f"?key={KEY}&x=y&key={KEY}", []),
    "in the query, behind a wrong one": (f"?key=wrong&key={KEY}", []),
    "in an underscore's guise": ("", [f"x-api-key: {KEY}", f"x_api_key: {KEY}"]),
}


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/files/a"])
def test_the_callers_key_stays_here(sluice: Live, upstream: RawUpstream, path: str, name: str) -> None:
    query, headers = WAYS[name]
    with RawClient(sluice.port) as client:
        assert client.post(path + query, CHAT, *headers).status == 200
    assert len(upstream.seen) == 1
    wire = upstream.seen[0].wire
    if name != "in an underscore's guise" or path.startswith("/v1"):
        assert ESCAPED.encode() not in wire
    assert b"wrong" not in wire


def test_what_is_not_ours_passes_but_for_what_could_deceive(sluice: Live, upstream: RawUpstream) -> None:
    """Servers of the CGI kind take an underscore for a dash."""
    told = [
        "x_forwarded_for: 6.6.6.6",
        "content_length: 5",
        "transfer_encoding: chunked",
        "x_custom: yes",
        "Forwarded: for=6",
    ]
    with RawClient(sluice.port) as client:
        assert client.post("/files/a", b"body", f"x-api-key: {KEY}", "authorization: Basic eDp5", *told).status == 200
    seen = upstream.seen[0]
    assert seen.header("authorization") == "Basic eDp5"
    assert seen.header("x_custom") == "yes"
    assert {name for name, _ in seen.headers if "_" in name} == {"x_custom"}
    assert "6.6.6.6" not in str(seen.headers)


def test_hop_by_hop_names_by_the_thousand(sluice: Live, upstream: RawUpstream) -> None:
    lines = [f"connection: a{number}\r\na{number}: b" for number in range(1500)]
    with RawClient(sluice.port) as client:
        assert client.post("/files/a", b"", f"x-api-key: {KEY}", *lines).status == 200
    assert not any(name.startswith("a1") for name, _ in upstream.seen[0].headers)


def echo(status: bytes) -> object:
    """An answer that repeats, in body and head, what the upstream was shown."""

    def script(conversation: Conversation) -> None:
        shown = conversation.wire.partition(b"authorization: Bearer ")[2].partition(b"\r\n")[0]
        told = json.dumps({"error": {"message": "Incorrect API key provided: " + shown.decode()}}).encode()
        conversation.say(answer(told, status=status).replace(b"\r\n", b"\r\nx-echo: " + shown + b"\r\n", 1))

    return script


@pytest.mark.parametrize(
    "status", ["400 Bad", "401 No", "403 No", "404 No", "422 No", "429 Slow", "500 Oh", "503 Busy"]
)
@pytest.mark.parametrize("call", ["call", "route"])
def test_an_upstream_that_repeats_its_credential(sluice: Live, upstream: RawUpstream, status: str, call: str) -> None:
    upstream.script = echo(status.encode())  # type: ignore[assignment]
    with RawClient(sluice.port) as client:
        if call == "call":
            got = client.post("/v1/chat/completions", CHAT, f"x-api-key: {KEY}")
        else:
            client.send(f"GET /x HTTP/1.1\r\nhost: sealed.internal\r\nx-api-key: {KEY}\r\n\r\n".encode())
            got = client.answer()
    assert got.status >= 400
    shown = SECRET if call == "call" else BACKEND_SECRET
    assert shown.encode() in upstream.seen[0].wire
    if call == "call" or status[0] != "4" or status.startswith(("401", "429")):
        assert shown.encode() not in got.head + got.body


def test_the_next_target_gets_its_own_credential(sluice: Live, upstream: RawUpstream) -> None:
    def refuse_first(conversation: Conversation) -> None:
        first = SECRET.encode() in conversation.wire
        conversation.say(answer(b"{}", status=b"500 No") if first else answer())

    upstream.script = refuse_first
    with RawClient(sluice.port) as client:
        assert client.post("/v1/chat/completions", CHAT.replace(b"chat", b"both"), f"x-api-key: {KEY}").status == 200
    first, second = upstream.seen
    assert first.header("authorization") == f"Bearer {SECRET}"
    assert second.header("authorization") == f"Bearer {OTHER_SECRET}"
    assert SECRET.encode() not in second.wire


def test_nothing_remembers_a_secret(sluice: Live, upstream: RawUpstream) -> None:
    with RawClient(sluice.port) as client:
        client.post("/v1/chat/completions", CHAT, f"x-api-key: {KEY}", f"x-request-id: {KEY[:3]}")
    for path in ("providers", "keys", "apps", "routes", "ledger?limit=1000", "audit", "export"):
        said = sluice.api.get(f"/api/v1/{path}", timeout=60).text
        for secret in (*SECRETS, KEY, SECOND_KEY):
            assert secret not in said, path
    rows = str(sluice.ledger())
    for secret in (*SECRETS, KEY, SECOND_KEY):
        assert secret not in rows
