"""Bodies that routes record: what is kept of each kind of request, as it was sent and got, and what never is."""

import gzip
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support import live
from tests.support.live import Live
from tests.support.provider import Behaviour, Provider
from tests.support.raw import RawClient

KEY = "sk-test-bodies-0123456789"
SECRET = "provider-secret-of-no-known-shape-123"
CHAT = "/v1/chat/completions"
CONFIGURATION = f"""
providers:
  - {{name: up, dialect: openai, base_url: UP/v1, credentials: [{{name: main, value: {SECRET}}}]}}
  - {{name: claude, dialect: anthropic, base_url: UP}}
  - {{name: llama, dialect: ollama, base_url: UP}}
  - {{name: google, dialect: gemini, base_url: UP}}
  - {{name: web, dialect: http, base_url: UP}}
routes:
  - {{name: chat, retries: 0, targets: [{{provider: up, model: up-model}}], capture: {{redact: ['ACME-[0-9]+']}}}}
  - {{name: haiku, retries: 0, targets: [{{provider: claude, model: h}}], capture: {{}}}}
  - {{name: small, retries: 0, targets: [{{provider: llama, model: l}}], capture: {{}}}}
  - {{name: flash, retries: 0, targets: [{{provider: google, model: g}}], capture: {{}}}}
  - {{name: short, retries: 0, targets: [{{provider: up, model: s}}], capture: {{max_bytes: 1024}}}}
  - {{name: asked, retries: 0, targets: [{{provider: up, model: s}}], capture: {{response: false}}}}
  - {{name: none, retries: 0, targets: [{{provider: up, model: n}}], capture: {{sample: 0.000001}}}}
  - {{name: off, retries: 0, targets: [{{provider: up, model: o}}]}}
  - {{name: web, match: {{path: /web/}}, targets: [{{provider: web}}], capture: {{}}}}
teams:
  - name: t
    apps: [{{name: a, routes: "*", keys: [{{name: k, value: {KEY}}}]}}]
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture(scope="module")
def sluice(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Live]:
    yaml = CONFIGURATION.replace("UP", provider.url)
    env = {"SLUICEGATE_BODY_MEMORY_BYTES": "100000"}
    with live.gateway(tmp_path_factory.mktemp("bodies"), yaml, env=env) as running:
        yield running


@pytest.fixture(autouse=True)
def _clean(provider: Provider) -> None:
    provider.forget()


def post(sluice: Live, path: str, body: Any, **headers: str) -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {"authorization": f"Bearer {KEY}", "content-type": "application/json", **headers}
    return httpx2.post(sluice.url + path, content=content, headers=named, timeout=20)


def chat(text: str, route: str = "chat", **more: Any) -> dict[str, Any]:
    return {"model": route, "messages": [{"role": "user", "content": text}], **more}


def recorded(sluice: Live, request_id: str | None) -> dict[str, Any]:
    """What the API tells of a request's bodies, once they are written."""
    sluice.row(request_id)
    found: list[httpx2.Response] = []

    def there() -> bool:
        found[:] = [sluice.api.get(f"/api/v1/ledger/{request_id}/bodies")]
        return found[0].status_code == 200

    sluice.until(there, 10, lambda: found[0].text)
    answer: dict[str, Any] = found[0].json()
    return answer


def test_a_plain_call_is_kept_as_sent_and_as_got(sluice: Live) -> None:
    asked = chat("say hello")
    answer = post(sluice, CHAT, asked)
    assert answer.status_code == 200
    kept = recorded(sluice, answer.headers["x-request-id"])
    assert (kept["route"], kept["id"]) == ("chat", answer.headers["x-request-id"])
    assert json.loads(kept["request"]["text"]) == asked  # the model as the caller names it, not as the provider does
    assert kept["response"]["text"] == answer.text
    assert kept["response"]["size"] == len(answer.content)
    assert kept["request"]["content_type"] == kept["response"]["content_type"] == "application/json"
    assert not kept["request"]["cut"]
    assert kept["request"]["redacted"] == {}


def test_calls_on_one_connection_are_all_kept(sluice: Live) -> None:
    """Repeated heads go the express way on other routes."""
    with httpx2.Client(headers={"authorization": f"Bearer {KEY}", "content-type": "application/json"}) as client:
        ids = []
        for number in range(4):
            answer = client.post(sluice.url + CHAT, content=json.dumps(chat(f"number {number}")))
            ids.append(answer.headers["x-request-id"])
    for number, request_id in enumerate(ids):
        assert json.loads(recorded(sluice, request_id)["request"]["text"]) == chat(f"number {number}")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat("stream, please", stream=True)),
        ("/v1/messages", chat("stream, please", "haiku", stream=True, max_tokens=9)),
        ("/api/chat", chat("stream, please", "small")),
        ("/v1beta/models/flash:streamGenerateContent?alt=sse", {"contents": [{"parts": [{"text": "hi"}]}]}),
        ("/v1beta/models/flash:streamGenerateContent", {"contents": [{"parts": [{"text": "hi"}]}]}),
    ],
    ids=["openai", "anthropic", "ollama", "gemini", "gemini-array"],
)
def test_a_stream_is_kept_as_its_raw_events(sluice: Live, provider: Provider, path: str, body: dict[str, Any]) -> None:
    provider.behave(Behaviour(piece_bytes=7))
    answer = post(sluice, path, body, **{"x-api-key": KEY, "anthropic-version": "2023-06-01"})
    assert answer.status_code == 200, answer.text
    kept = recorded(sluice, answer.headers["x-request-id"])
    assert kept["response"]["text"] == answer.text
    assert json.loads(kept["request"]["text"]) == body
    assert kept["response"]["stream"] == (kept["response"]["content_type"].split(";")[0] != "application/json")
    assert kept["response"]["content_type"] == answer.headers["content-type"]


def test_what_is_nobodys_business_is_taken_out(sluice: Live, provider: Provider) -> None:
    said = {"choices": [{"message": {"content": f"the key is {SECRET}, mail to eve@example.org"}}]}
    provider.behave(Behaviour(body=json.dumps(said).encode()))
    text = f"I am bob\\u0040example.com, card 4111 1111 1111 1111, key {KEY}, order ACME-4711"
    answer = post(sluice, CHAT, json.dumps(chat("TEXT")).replace("TEXT", text).encode())
    kept = recorded(sluice, answer.headers["x-request-id"])
    asked = json.loads(kept["request"]["text"])["messages"][0]["content"]
    assert asked == "I am [email], card [card], key [key], order [redacted]"
    assert kept["request"]["redacted"] == {"email": 1, "card": 1, "key": 1, "redacted": 1}
    assert SECRET not in kept["response"]["text"]
    assert "eve@example.org" not in kept["response"]["text"]
    on_disk = b"".join(path.read_bytes() for path in (sluice.data / "bodies").rglob("*.bodies"))
    assert on_disk
    for known in (b"say hello", b"example.com", SECRET.encode(), b"ACME", b"messages"):
        assert known not in on_disk  # sealed, besides


def test_longer_bodies_are_cut(sluice: Live) -> None:
    answer = post(sluice, CHAT, chat("word " * 60_000, "short"))  # beyond body_memory_bytes: in a file
    assert answer.status_code == 200
    kept = recorded(sluice, answer.headers["x-request-id"])["request"]
    assert kept["cut"]
    assert len(kept["text"]) == 1024
    assert kept["size"] > 300_000


def test_a_route_may_record_one_side(sluice: Live) -> None:
    kept = recorded(sluice, post(sluice, CHAT, chat("hi", "asked")).headers["x-request-id"])
    assert kept["request"]["text"]
    assert (kept["response"]["text"], kept["response"]["why_not"]) == (None, "off")
    assert kept["response"]["size"] > 0


def test_binary_is_named_and_not_kept(sluice: Live, provider: Provider) -> None:
    picture = b"\x89PNG\r\n" + os.urandom(2000)
    head = b"HTTP/1.1 200 OK\r\ncontent-type: image/png\r\ncontent-length: %d\r\n\r\n" % len(picture)
    provider.behave(Behaviour(raw=head + picture))
    answer = post(sluice, "/web/picture", b"\x00\x01" * 300, **{"content-type": "application/octet-stream"})
    kept = recorded(sluice, answer.headers["x-request-id"])
    assert kept["response"] == {
        "text": None, "why_not": "binary", "content_type": "image/png", "size": len(answer.content), "cut": False,
        "redacted": {}, "stream": False,
    }  # fmt: skip
    assert (kept["request"]["why_not"], kept["request"]["size"]) == ("binary", 600)


def test_compressed_text_is_read(sluice: Live, provider: Provider) -> None:
    packed = gzip.compress(b'{"hello": "mail bob@example.com"}')
    headers = ((b"content-type", b"application/json"), (b"content-encoding", b"gzip"))
    provider.behave(Behaviour(body=packed, headers=headers))
    answer = post(sluice, "/web/packed", {"a": 1})
    assert answer.json() == {"hello": "mail bob@example.com"}
    kept = recorded(sluice, answer.headers["x-request-id"])["response"]
    assert json.loads(kept["text"]) == {"hello": "mail [email]"}
    assert kept["size"] == len(packed)


def test_streamed_uploads_of_http_routes_are_kept(sluice: Live) -> None:
    pieces = [b'{"text": "', b"x" * 30_000, b" bob@exam", b"ple.com " + b"y" * 50_000, b'"}']
    with RawClient(sluice.port) as client:
        head = (
            f"POST /web/upload HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\n"
            "content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces]
        client.send(head.encode(), *chunks, b"0\r\n\r\n", gap_s=0.05)
        answer = client.answer()
    kept = recorded(sluice, answer.header("x-request-id"))["request"]
    assert kept["size"] == sum(map(len, pieces))
    assert kept["text"].startswith('{"text": "xxx')
    assert "x [email] y" in kept["text"]


def test_an_error_of_ours_is_the_answer(sluice: Live, provider: Provider) -> None:
    provider.behave(Behaviour(status=500, body=b'{"error": "boom"}'))
    answer = post(sluice, CHAT, chat("hi"))
    assert answer.status_code == 502
    assert recorded(sluice, answer.headers["x-request-id"])["response"]["text"] == answer.text


def test_what_came_before_an_end_is_kept(sluice: Live, provider: Provider) -> None:
    """A client that leaves in the middle, and an upstream that breaks off."""
    provider.behave(Behaviour(gap_s=0.2))
    with RawClient(sluice.port) as client:
        body = json.dumps(chat("long", stream=True)).encode()
        client.send(
            f"POST {CHAT} HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n".encode(),
            body,
        )
        request_id = client.answer(to_head=True).header("x-request-id")
        client.read_some()
    kept = recorded(sluice, request_id)
    assert sluice.row(request_id)["outcome"] == "client_gone"
    assert "long" in kept["request"]["text"]
    assert kept["response"]["text"].startswith("data: ")
    provider.forget()
    provider.behave(Behaviour(cut_after_pieces=2))
    with (
        pytest.raises(httpx2.TransportError),
        httpx2.stream("POST", sluice.url + CHAT, content=body, headers={"authorization": f"Bearer {KEY}"}) as broken,
    ):
        request_id = broken.headers["x-request-id"]
        broken.read()
    assert recorded(sluice, request_id)["response"]["text"].count("data: ") >= 2


@pytest.mark.parametrize(("route", "reason"), [("off", "off"), ("none", "sampled")])
def test_what_is_not_there_says_why(sluice: Live, route: str, reason: str) -> None:
    request_id = post(sluice, CHAT, chat("hi", route)).headers["x-request-id"]
    sluice.row(request_id)
    answer = sluice.api.get(f"/api/v1/ledger/{request_id}/bodies")
    assert (answer.status_code, answer.json()["code"], answer.json()["reason"]) == (404, "not_recorded", reason)


def test_owners_erase_and_the_log_tells(sluice: Live) -> None:
    first, second = (post(sluice, CHAT, chat("forget me")).headers["x-request-id"] for _ in range(2))
    recorded(sluice, first)
    recorded(sluice, second)
    path = f"/api/v1/ledger/{first}/bodies"
    assert sluice.api.delete(path, params={"dry_run": "true"}).status_code == 204
    assert sluice.api.get(path).status_code == 200
    assert sluice.api.delete(path).status_code == 204
    answer = sluice.api.get(path)
    assert (answer.status_code, answer.json()["reason"]) == (404, "erased")
    assert recorded(sluice, second)["request"]["text"]
    gone = sluice.api.delete("/api/v1/bodies", params={"route": "chat"}).json()
    assert gone["bytes"] > 0
    assert sluice.api.get(f"/api/v1/ledger/{second}/bodies").json()["reason"] == "missing"
    later = post(sluice, CHAT, chat("after it")).headers["x-request-id"]
    assert "after it" in recorded(sluice, later)["request"]["text"]  # the worker's open file was among those that went
    entries = sluice.api.get("/api/v1/audit", params={"limit": 200}).json()["items"]
    told = [(each["action"], each["name"]) for each in entries if each["kind"] == "bodies"]
    assert {("erase", first), ("erase", "chat"), ("read", second), ("read", later)} <= set(told)


def test_bodies_outlive_the_worker_that_wrote_them(sluice: Live) -> None:
    request_id = post(sluice, CHAT, chat("before the end")).headers["x-request-id"]
    kept = recorded(sluice, request_id)
    worker = sluice.workers()[0]
    worker.kill()
    sluice.until(lambda: [each.pid for each in sluice.workers()] not in ([], [worker.pid]), 20)
    sluice.wait_ready()
    assert recorded(sluice, request_id) == kept
    newest = max((sluice.data / "bodies").rglob("*.bodies"), key=lambda path: path.stat().st_mtime_ns)
    torn = newest.read_bytes()
    newest.write_bytes(torn[:-5])  # as death amid a write leaves it
    answer = sluice.api.get(f"/api/v1/ledger/{request_id}/bodies")
    assert answer.json()["reason"] == "missing"
    newest.write_bytes(torn)
    again = post(sluice, CHAT, chat("after the end")).headers["x-request-id"]
    assert "after the end" in recorded(sluice, again)["request"]["text"]


def test_a_full_disk_harms_nobody(tmp_path: Path, provider: Provider) -> None:
    yaml = CONFIGURATION.replace("UP", provider.url)
    with live.gateway(tmp_path, yaml, env={"SLUICEGATE_BODIES_MAX_BYTES": "60000"}) as sluice:
        filler = os.urandom(15_000).hex()
        ids = []
        for number in range(40):
            answer = post(sluice, CHAT, chat(f"{number} {filler}"))
            assert answer.status_code == 200
            ids.append(answer.headers["x-request-id"])
        folder = sluice.data / "bodies"

        def size() -> int:
            return sum(path.stat().st_size for path in folder.rglob("*.bodies") if path.exists())

        assert size() <= 60_000
        metrics = sluice.api.get("/metrics").text
        sluice.until(lambda: 'bodies_lost_total{why="disk"}' in sluice.api.get("/metrics").text, 5, lambda: metrics)
        time.sleep(6)  # the keeper makes room
        assert 0 < size() <= 60_000
        sluice.until(lambda: _is_kept(sluice, post(sluice, CHAT, chat("there is room"))), 12)


def _is_kept(sluice: Live, answer: httpx2.Response) -> bool:
    """Whether the request's bodies were recorded by the time that it was in the ledger."""
    request_id = answer.headers["x-request-id"]
    sluice.row(request_id)
    return answer.status_code == 200 and sluice.api.get(f"/api/v1/ledger/{request_id}/bodies").status_code == 200


def test_a_tunnel_is_named(sluice: Live, provider: Provider) -> None:
    switched = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n\x81\x02hi"
    provider.behave(Behaviour(raw=switched))
    with RawClient(sluice.port) as client:
        client.send(
            f"GET /web/socket HTTP/1.1\r\nhost: h\r\nauthorization: Bearer {KEY}\r\nconnection: upgrade\r\n"
            "upgrade: websocket\r\n\r\n".encode()
        )
        said = client.read_to_end()
    assert b"hi" in said
    request_id = re.search(rb"x-request-id: (\w+)", said)
    assert request_id is not None
    kept = recorded(sluice, request_id[1].decode())
    assert (kept["response"]["why_not"], kept["request"]["why_not"]) == ("tunnel", "tunnel")
