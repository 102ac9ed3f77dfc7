"""The official SDK mistralai, sync and async: it sees Mistral, and the ledger the truth."""

import asyncio
from collections.abc import Iterator

import httpx2
import openai
import pytest
from mistralai.client import Mistral, errors

from tests.integration.dialects.conftest import FEW_KEY, KEY, MESSAGES, MISTRAL_SECRET, OPENAI_SECRET, NewRows
from tests.support.live import Live
from tests.support.provider import Provider
from tests.support.shapes import Tokens

TOKENS = Tokens(input=120, output=9, cached=40)
TEXT = " token" * 9
COST = 80 * 1 + 40 * 0.5 + 9 * 2


@pytest.fixture(params=["", "/mistral"])
def client(request: pytest.FixtureRequest, sluice: Live) -> Iterator[Mistral]:
    with Mistral(api_key=KEY, server_url=sluice.url + request.param, timeout_ms=20_000) as made:
        yield made


def check_last_row(new_rows: NewRows, provider: Provider, rows: int, **expected: object) -> None:
    """The newest row says what the provider counted."""
    row = new_rows.wait(rows)[-1]
    assert row["input_tokens"] == provider.served.input_tokens
    assert row["output_tokens"] == provider.served.output_tokens
    assert (row["outcome"], row["status"], row["attempts"], row["estimated"]) == ("completed", 200, 1, False)
    assert {name: row[name] for name in expected} == expected


SMALL = {"route": "small", "target": "mistral/mistral-small", "dialect": "mistral", "model": "mistral-small"}


def test_chat(sluice: Live, provider: Provider, client: Mistral, new_rows: NewRows) -> None:
    provider.behave(tokens=TOKENS)
    answer = client.chat.complete(model="small", messages=MESSAGES, max_tokens=50, random_seed=1)
    assert answer.choices[0].message.content == TEXT
    assert answer.usage.prompt_tokens == TOKENS.input
    check_last_row(new_rows, provider, 1, cost_usd_micros=COST, cached_tokens=40, stream=False, **SMALL)
    assert provider.last.path == "/mistral/v1/chat/completions"
    assert provider.last.json["model"] == "mistral-small"
    assert provider.last.json["random_seed"] == 1
    assert provider.last.header("authorization") == f"Bearer {MISTRAL_SECRET}"


def test_chat_streamed(sluice: Live, provider: Provider, client: Mistral, new_rows: NewRows) -> None:
    """Usage comes unasked; nothing that Mistral would refuse is added, nothing that it says is taken out."""
    provider.behave(tokens=TOKENS, piece_bytes=7)
    chunks = [event.data for event in client.chat.stream(model="small", messages=MESSAGES)]
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == TEXT
    assert chunks[-1].usage.completion_tokens == TOKENS.output
    assert set(provider.last.json) == {"model", "messages", "stream"}
    check_last_row(new_rows, provider, 1, cost_usd_micros=COST, stream=True, **SMALL)


def test_fim(sluice: Live, provider: Provider, client: Mistral, new_rows: NewRows) -> None:
    provider.behave(tokens=TOKENS)
    answer = client.fim.complete(model="small", prompt="def f(", suffix="return a+b", max_tokens=50)
    assert answer.choices[0].message.content == TEXT
    check_last_row(new_rows, provider, 1, cost_usd_micros=COST, **SMALL)
    assert provider.last.path == "/mistral/v1/fim/completions"
    chunks = [event.data for event in client.fim.stream(model="small", prompt="def f(", suffix="return a+b")]
    assert "".join(chunk.choices[0].delta.content for chunk in chunks) == TEXT
    row = new_rows.wait(2)[-1]
    assert (row["input_tokens"], row["output_tokens"], row["stream"]) == (TOKENS.input, TOKENS.output, True)


def test_embeddings(sluice: Live, provider: Provider, client: Mistral, new_rows: NewRows) -> None:
    answer = client.embeddings.create(model="small", inputs=["a", "b"])
    assert answer.id
    assert [item.embedding for item in answer.data] == [[0.25, -0.5]] * 2
    check_last_row(new_rows, provider, 1, input_tokens=11, output_tokens=0, **SMALL)


def test_models(sluice: Live, provider: Provider, client: Mistral) -> None:
    listed = client.models.list()
    assert {"small", "mixed", "chat"} <= {model.id for model in listed.data}
    assert client.models.retrieve(model_id="small").id == "small"
    with pytest.raises(errors.SDKError) as raised:
        client.models.retrieve(model_id="nobody")
    assert raised.value.status_code == 404
    assert provider.requests == []


def test_async(sluice: Live, provider: Provider, new_rows: NewRows) -> None:
    async def talk() -> str:
        async with Mistral(api_key=KEY, server_url=sluice.url) as client:
            plain = await client.chat.complete_async(model="small", messages=MESSAGES)
            assert plain.choices[0].message.content == TEXT
            stream = await client.chat.stream_async(model="small", messages=MESSAGES)
            return "".join([event.data.choices[0].delta.content async for event in stream])

    provider.behave(tokens=TOKENS)
    assert asyncio.run(talk()) == TEXT
    new = new_rows.wait(2)
    assert sum(row["output_tokens"] for row in new) == provider.served.output_tokens


@pytest.mark.parametrize(
    ("key", "model", "status", "code"),
    [
        ("sk-unknown", "small", 401, "invalid_api_key"),
        (FEW_KEY, "small", 403, "route_not_allowed"),
        (KEY, "nobody", 404, "route_not_found"),
        (KEY, "sonnet", 400, "dialect_unsupported"),
    ],
)
def test_errors_are_mistrals(sluice: Live, provider: Provider, key: str, model: str, status: int, code: str) -> None:
    with Mistral(api_key=key, server_url=sluice.url) as client, pytest.raises(errors.SDKError) as raised:
        client.chat.complete(model=model, messages=MESSAGES)
    assert raised.value.status_code == status
    told = raised.value.raw_response.json()
    assert (told["object"], told["code"], told["raw_status_code"]) == ("error", code, status)
    assert told["message"]
    assert provider.requests == []


def test_a_stream_that_breaks_raises_in_the_sdk(sluice: Live, provider: Provider, new_rows: NewRows) -> None:
    provider.behave(tokens=TOKENS, cut_after_pieces=4)
    with (
        Mistral(api_key=KEY, server_url=sluice.url) as client,
        pytest.raises(Exception, match=r"(?i)valid|closed|peer"),
    ):
        list(client.chat.stream(model="small", messages=MESSAGES))
    row = new_rows.wait(1)[-1]
    assert (row["outcome"], row["estimated"]) == ("upstream_failed", True)
    assert row["output_tokens"] == 3  # as many events with text came through


def test_a_caller_that_leaves_cancels_mistral(sluice: Live, provider: Provider, new_rows: NewRows) -> None:
    provider.behave(tokens=Tokens(input=20, output=200), gap_s=0.02)
    headers = {"authorization": f"Bearer {KEY}", "user-agent": "mistral-client-python/3.7.0"}
    body = {"model": "small", "messages": MESSAGES, "stream": True}
    with httpx2.stream("POST", sluice.url + "/v1/chat/completions", json=body, headers=headers) as answer:
        lines = answer.iter_lines()
        for _ in range(8):
            next(lines)
    assert provider.last.aborted.wait(2)
    row = new_rows.wait(1)[-1]
    assert (row["outcome"], row["dialect"], row["estimated"]) == ("client_gone", "mistral", True)
    assert 0 < row["output_tokens"] < 200


# -- the two dialects of one wire format


def test_openai_caller_on_a_mistral_route(sluice: Live, provider: Provider, new_rows: NewRows) -> None:
    provider.behave(tokens=TOKENS)
    with openai.OpenAI(base_url=sluice.url + "/v1", api_key=KEY, max_retries=0) as client:
        plain = client.chat.completions.create(model="small", messages=MESSAGES)
        assert plain.choices[0].message.content == TEXT
        chunks = list(client.chat.completions.create(model="small", messages=MESSAGES, stream=True))
        assert "stream_options" not in provider.last.json
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
        assert client.embeddings.create(model="small", input=["a"], encoding_format="float").data
    new = new_rows.wait(3)
    assert [row["dialect"] for row in new] == ["openai"] * 3
    assert [row["target"] for row in new] == ["mistral/mistral-small"] * 3
    assert sum(row["input_tokens"] for row in new) == provider.served.input_tokens
    assert sum(row["output_tokens"] for row in new) == provider.served.output_tokens
    assert not any(row["estimated"] for row in new)


def test_mistral_caller_on_an_openai_route(
    sluice: Live, provider: Provider, client: Mistral, new_rows: NewRows
) -> None:
    provider.behave(tokens=TOKENS)
    chunks = [event.data for event in client.chat.stream(model="chat", messages=MESSAGES)]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert provider.last.json["stream_options"] == {"include_usage": True}
    assert provider.last.header("authorization") == f"Bearer {OPENAI_SECRET}"
    check_last_row(new_rows, provider, 1, target="up/up-model", dialect="mistral", stream=True)


def test_own_dialect_goes_first(sluice: Live, provider: Provider, client: Mistral) -> None:
    client.chat.complete(model="mixed", messages=MESSAGES)
    assert provider.last.path == "/mistral/v1/chat/completions"
    with openai.OpenAI(base_url=sluice.url + "/v1", api_key=KEY, max_retries=0) as other:
        other.chat.completions.create(model="mixed", messages=MESSAGES)
    assert provider.last.path == "/v1/chat/completions"


@pytest.mark.parametrize("size", [100, 3_000_000])
@pytest.mark.parametrize("agent", ["mistral-client-python/3.7.0", "OpenAI/Python 3.54.0"])
def test_large_bodies_go_either_way(sluice: Live, provider: Provider, agent: str, size: int, new_rows: NewRows) -> None:
    """Beyond the memory limit the edits are made on the way from the file: the same ones."""
    for model in ("small", "chat"):
        body = {"model": model, "messages": [{"role": "user", "content": "x" * size}], "stream": True, "max_tokens": 9}
        headers = {"authorization": f"Bearer {KEY}", "user-agent": agent}
        answer = httpx2.post(sluice.url + "/v1/chat/completions", json=body, headers=headers, timeout=20)
        assert answer.status_code == 200
        sent = provider.last.json
        assert sent.pop("stream_options", None) == ({"include_usage": True} if model == "chat" else None)
        assert sent == {**body, "model": {"small": "mistral-small", "chat": "up-model"}[model]}
    new = new_rows.wait(2)
    assert sum(row["output_tokens"] for row in new) == provider.served.output_tokens
    assert not any(row["estimated"] for row in new)
