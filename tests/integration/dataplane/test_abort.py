"""A client that leaves: its upstream call is cancelled at once, and the ledger says what it cost."""

import asyncio
import json
import time
from collections.abc import Iterator

import httpx2
import openai
import pytest

from tests.support import live
from tests.support.live import Live
from tests.support.provider import Provider
from tests.support.raw import RawClient
from tests.support.shapes import Tokens

KEY = "sk-test-abort-0123456789"
MESSAGES = [{"role": "user", "content": "hi"}]
AT_ONCE_S = 0.5


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture(scope="module")
def sluice(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Live]:
    yaml = f"""
providers:
  - {{name: up, dialect: openai, base_url: {provider.url}}}
  - {{name: web, dialect: http, base_url: {provider.url}}}
routes:
  - {{name: chat, targets: [{{provider: up, model: chat}}]}}
  - {{name: to-end, read_to_end: true, targets: [{{provider: up, model: to-end}}]}}
  - {{name: web, match: {{path: /web/}}, targets: [{{provider: web}}]}}
teams: [{{name: t, apps: [{{name: a, routes: "*", keys: [{{name: k, value: {KEY}}}]}}]}}]
limits: [{{name: slots, scope: {{app: a}}, metric: concurrent_requests, at_most: 50}}]
"""
    with live.gateway(tmp_path_factory.mktemp("abort"), yaml) as running:
        yield running


@pytest.fixture(autouse=True)
def _clean(provider: Provider) -> None:
    provider.forget()


@pytest.fixture
def client(sluice: Live) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=sluice.url + "/v1", api_key=KEY, max_retries=0) as running:
        yield running


def wait_for_request(sluice: Live, provider: Provider) -> None:
    sluice.until(lambda: bool(provider.requests) and provider.last.complete, 5)


def newest_row(sluice: Live, before: int) -> live.Row:
    return sluice.wait_for_rows(before + 1)[-1]


def test_stream(sluice: Live, provider: Provider, client: openai.OpenAI) -> None:
    provider.behave(gap_s=0.05, tokens=Tokens(output=1000))
    with client.chat.completions.with_streaming_response.create(model="chat", messages=MESSAGES, stream=True) as answer:
        events = iter(answer.parse())
        seen = [next(events) for _ in range(5)]
        request_id = answer.headers["x-request-id"]
    assert provider.last.aborted.wait(AT_ONCE_S)
    assert len(seen) == 5
    row = sluice.row(request_id)
    assert (row["outcome"], row["estimated"]) == ("client_gone", 1)
    assert 4 <= row["output_tokens"] <= 12  # what was delivered, not what the provider would have said


@pytest.mark.parametrize("way", ["close", "reset"])
def test_before_the_first_byte(sluice: Live, provider: Provider, way: str) -> None:
    provider.behave(hang=True)
    before = len(sluice.ledger())
    client = RawClient(sluice.port)
    body = b'{"model":"chat","messages":[]}'
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n"
    client.send(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
    wait_for_request(sluice, provider)
    getattr(client, way)()
    assert provider.last.aborted.wait(AT_ONCE_S)
    row = newest_row(sluice, before)
    assert (row["outcome"], row["output_tokens"] or 0, row["attempts"]) == ("client_gone", 0, 1)


def test_in_the_middle_of_an_upload(sluice: Live, provider: Provider) -> None:
    """Nothing was sent upstream yet, so nothing was used."""
    before = len(sluice.ledger())
    client = RawClient(sluice.port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n"
    client.send(head.encode() + b'content-length: 5000\r\n\r\n{"model":"chat"')
    time.sleep(0.1)
    client.close()
    row = newest_row(sluice, before)
    assert (row["outcome"], row["attempts"]) == ("client_gone", 0)
    assert provider.requests == []


def test_read_to_end_pays_for_all(sluice: Live, provider: Provider, client: openai.OpenAI) -> None:
    provider.behave(gap_s=0.01, tokens=Tokens(input=9, output=60))
    with client.chat.completions.with_streaming_response.create(
        model="to-end", messages=MESSAGES, stream=True
    ) as answer:
        next(iter(answer.parse()))
        request_id = answer.headers["x-request-id"]
    sluice.until(lambda: provider.last.answered, 5)
    row = sluice.row(request_id)
    assert (row["outcome"], row["output_tokens"], row["estimated"]) == ("client_gone", 60, 0)


def test_http_route(sluice: Live, provider: Provider) -> None:
    provider.behave(path="/web/slow", chunked=True, piece_bytes=1, gap_s=0.05, body=b"x" * 1000)
    with httpx2.stream("GET", sluice.url + "/web/slow", headers={"x-api-key": KEY}) as answer:
        next(answer.iter_bytes())
    assert provider.last.aborted.wait(AT_ONCE_S)


async def _leave_in_a_crowd(sluice: Live) -> None:
    async with openai.AsyncOpenAI(base_url=sluice.url + "/v1", api_key=KEY, max_retries=0) as client:

        async def once(number: int) -> None:
            stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
            async for _ in stream:
                await asyncio.sleep(number / 1000)
                break
            await stream.close()

        await asyncio.gather(*(once(number) for number in range(40)))


def test_a_crowd_leaves_and_nothing_stays_behind(sluice: Live, provider: Provider) -> None:
    """Every upstream call ends, every slot of the concurrency limit comes back, every request has its row."""
    provider.behave(gap_s=0.02, tokens=Tokens(output=1000))
    begun_ns = time.time_ns()
    asyncio.run(_leave_in_a_crowd(sluice))
    sluice.until(lambda: all(request.aborted.is_set() for request in provider.requests), 3)

    def rows() -> list[live.Row]:
        return [row for row in sluice.ledger() if row["started_at_ns"] >= begun_ns]

    sluice.until(lambda: len(rows()) >= 40, 5)
    assert [row["outcome"] for row in rows()] == ["client_gone"] * 40
    state = sluice.api.get("/api/v1/limits/slots/state").json()
    sluice.until(lambda: sluice.api.get("/api/v1/limits/slots/state").json()["reserved"] == 0, 3, lambda: str(state))
    sluice.until(lambda: provider.open_connections <= 1, 3)
    provider.forget()
    with RawClient(sluice.port) as last:
        body = json.dumps({"model": "chat", "messages": []}).encode()
        assert last.post("/v1/chat/completions", body, f"authorization: Bearer {KEY}").status == 200
