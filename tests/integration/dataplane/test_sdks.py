"""The official SDKs, sync and async, plain and streamed: they see an ordinary provider, and the ledger the truth."""

import asyncio

import anthropic
import openai
import pytest

from tests.integration.dataplane.conftest import ANTHROPIC_SECRET, KEY, MESSAGES, OPENAI_SECRET
from tests.support.live import Live, Row
from tests.support.provider import Provider
from tests.support.shapes import Tokens

TOKENS = Tokens(input=120, output=9, cached=40, reasoning=4)
CLAUDE_TOKENS = Tokens(input=120, output=9, cached=40, cache_written=20)
TEXT = " token" * 9
COST = 80 * 1 + 40 * 0.5 + 5 * 2 + 4 * 3
"""Micro-USD of TOKENS at the prices of CONFIGURATION: 80 fresh and 40 cached, 5 spoken and 4 of reasoning."""
CLAUDE_COST = 60 * 3 + 40 * 0.3 + 20 * 3.75 + 9 * 15


def check_row(row: Row, tokens: Tokens, cost: float, **expected: object) -> None:
    counted = (row["input_tokens"], row["cached_tokens"], row["cache_write_tokens"])
    assert counted == (tokens.input, tokens.cached, tokens.cache_written)
    assert (row["output_tokens"], row["reasoning_tokens"]) == (tokens.output, tokens.reasoning)
    assert row["cost_usd_micros"] == cost
    assert (row["team"], row["app"], row["key"]) == ("search", "indexer", "ci")
    assert (row["outcome"], row["status"], row["upstream_status"], row["attempts"]) == ("completed", 200, 200, 1)
    assert not row["estimated"]
    assert 0 < row["ttft_ms"] <= row["latency_ms"] < 20_000
    assert {name: row[name] for name in expected} == expected


OPENAI_ROW = {"route": "chat", "target": "up/up-model", "provider": "up", "dialect": "openai", "model": "up-model"}
CLAUDE_ROW = {"route": "sonnet", "target": "claude/claude-model", "dialect": "anthropic", "model": "claude-model"}


def test_openai_plain(sluice: Live, provider: Provider, openai_client: openai.OpenAI) -> None:
    provider.behave(tokens=TOKENS)
    answer = openai_client.chat.completions.with_raw_response.create(model="chat", messages=MESSAGES)
    completion = answer.parse()
    assert completion.choices[0].message.content == TEXT
    assert completion.model_extra == {"x_unknown": {"kept": "✓"}}
    assert answer.headers["x-sluicegate-route"] == "chat"
    assert answer.headers["x-sluicegate-target"] == "up/up-model"
    assert float(answer.headers["x-sluicegate-cost-usd"]) == pytest.approx(COST / 1e6)
    check_row(sluice.row(answer.headers["x-request-id"]), TOKENS, COST, stream=False, **OPENAI_ROW)
    assert provider.last.json["model"] == "up-model"
    assert provider.last.header("authorization") == f"Bearer {OPENAI_SECRET}"


@pytest.mark.parametrize("piece_bytes", [0, 1, 7, 4096])
def test_openai_streamed(sluice: Live, provider: Provider, openai_client: openai.OpenAI, piece_bytes: int) -> None:
    """The caller did not ask for usage: it is asked for, metered and kept from the caller."""
    provider.behave(tokens=TOKENS, piece_bytes=piece_bytes)
    with openai_client.chat.completions.with_streaming_response.create(
        model="chat", messages=MESSAGES, stream=True, max_tokens=50
    ) as answer:
        chunks = list(answer.parse())
        request_id = answer.headers["x-request-id"]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)
    assert provider.last.json["stream_options"] == {"include_usage": True}
    check_row(sluice.row(request_id), TOKENS, COST, stream=True, **OPENAI_ROW)


def test_openai_streamed_with_usage(sluice: Live, provider: Provider, openai_client: openai.OpenAI) -> None:
    provider.behave(tokens=TOKENS)
    chunks = list(
        openai_client.chat.completions.create(
            model="chat", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == TOKENS.output


async def talk_async(sluice: Live) -> tuple[str, str]:
    async with openai.AsyncOpenAI(base_url=sluice.url + "/v1", api_key=KEY, max_retries=0) as client:
        answer = await client.chat.completions.with_raw_response.create(model="chat", messages=MESSAGES)
        stream = await client.chat.completions.create(model="chat", messages=MESSAGES, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        return answer.headers["x-request-id"], text


def test_openai_async(sluice: Live, provider: Provider) -> None:
    provider.behave(tokens=TOKENS)
    request_id, text = asyncio.run(talk_async(sluice))
    assert text == TEXT
    check_row(sluice.row(request_id), TOKENS, COST, stream=False, **OPENAI_ROW)


def test_openai_responses(sluice: Live, provider: Provider, openai_client: openai.OpenAI) -> None:
    provider.behave(tokens=TOKENS)
    answer = openai_client.responses.with_raw_response.create(model="chat", input="Say hello.")
    assert answer.parse().output_text == TEXT
    check_row(sluice.row(answer.headers["x-request-id"]), TOKENS, COST, stream=False, **OPENAI_ROW)
    with openai_client.responses.with_streaming_response.create(model="chat", input="Hi", stream=True) as streamed:
        events = list(streamed.parse())
        request_id = streamed.headers["x-request-id"]
    assert events[-1].type == "response.completed"
    check_row(sluice.row(request_id), TOKENS, COST, stream=True, **OPENAI_ROW)


def test_openai_embeddings_and_completions(sluice: Live, provider: Provider, openai_client: openai.OpenAI) -> None:
    answer = openai_client.embeddings.with_raw_response.create(model="chat", input=["a", "b"], encoding_format="float")
    assert [item.embedding for item in answer.parse().data] == [[0.25, -0.5]] * 2
    row = sluice.row(answer.headers["x-request-id"])
    assert (row["input_tokens"], row["output_tokens"], row["cost_usd_micros"]) == (11, 0, 11)
    assert openai_client.completions.create(model="chat", prompt="hi").choices[0].text == " token" * 7


def test_openai_models(sluice: Live, provider: Provider, openai_client: openai.OpenAI) -> None:
    assert {"chat", "sonnet", "secret"} <= {model.id for model in openai_client.models.list()}
    assert "crm" not in {model.id for model in openai_client.models.list()}
    assert openai_client.models.retrieve("chat").id == "chat"
    with pytest.raises(openai.NotFoundError):
        openai_client.models.retrieve("nobody")
    assert provider.requests == []


def test_anthropic_plain(sluice: Live, provider: Provider, anthropic_client: anthropic.Anthropic) -> None:
    provider.behave(tokens=CLAUDE_TOKENS)
    answer = anthropic_client.messages.with_raw_response.create(model="sonnet", max_tokens=50, messages=MESSAGES)
    message = answer.parse()
    assert message.content[0].text == TEXT  # type: ignore[union-attr]
    assert message.usage.cache_read_input_tokens == CLAUDE_TOKENS.cached
    check_row(sluice.row(answer.headers["x-request-id"]), CLAUDE_TOKENS, CLAUDE_COST, stream=False, **CLAUDE_ROW)
    assert provider.last.json["model"] == "claude-model"
    assert provider.last.header("x-api-key") == ANTHROPIC_SECRET
    assert provider.last.header("anthropic-version")
    assert provider.last.header("authorization") is None


def test_anthropic_streamed(sluice: Live, provider: Provider, anthropic_client: anthropic.Anthropic) -> None:
    provider.behave(tokens=CLAUDE_TOKENS, piece_bytes=5)
    with anthropic_client.messages.stream(model="sonnet", max_tokens=50, messages=MESSAGES) as stream:
        text = stream.get_final_text()
        request_id = stream.response.headers["x-request-id"]
    assert text == TEXT
    check_row(sluice.row(request_id), CLAUDE_TOKENS, CLAUDE_COST, stream=True, **CLAUDE_ROW)


async def talk_async_to_claude(sluice: Live) -> str:
    async with (
        anthropic.AsyncAnthropic(base_url=sluice.url, auth_token=KEY, api_key=None, max_retries=0) as client,
        client.messages.stream(model="sonnet", max_tokens=50, messages=MESSAGES) as stream,
    ):
        return await stream.get_final_text()


def test_anthropic_async_with_bearer(sluice: Live, provider: Provider) -> None:
    provider.behave(tokens=CLAUDE_TOKENS)
    assert asyncio.run(talk_async_to_claude(sluice)) == TEXT
    assert provider.last.header("x-api-key") == ANTHROPIC_SECRET
    assert provider.last.header("authorization") is None


def test_anthropic_count_tokens_and_models(
    sluice: Live, provider: Provider, anthropic_client: anthropic.Anthropic
) -> None:
    assert anthropic_client.messages.count_tokens(model="sonnet", messages=MESSAGES).input_tokens == 11
    assert "sonnet" in {model.id for model in anthropic_client.models.list()}


@pytest.mark.parametrize("prefix", ["/openai/v1", "/v1"])
def test_prefix_settles_the_dialect(sluice: Live, provider: Provider, prefix: str) -> None:
    with openai.OpenAI(base_url=sluice.url + prefix, api_key=KEY, max_retries=0) as client:
        assert client.chat.completions.create(model="chat", messages=MESSAGES).choices
    assert provider.last.path == "/v1/chat/completions"


def test_totals_agree_with_the_provider(
    sluice: Live, provider: Provider, openai_client: openai.OpenAI, anthropic_client: anthropic.Anthropic
) -> None:
    """What the ledger adds up to is what the provider says it served."""
    ids = []
    for number in range(12):
        provider.behave(times=1, tokens=Tokens(input=10 + number, output=1 + number))
        if number % 2:
            answer = openai_client.chat.completions.with_raw_response.create(model="chat", messages=MESSAGES)
        else:
            answer = anthropic_client.messages.with_raw_response.create(
                model="sonnet", max_tokens=50, messages=MESSAGES
            )
        ids.append(answer.headers["x-request-id"])
    rows = [sluice.row(request_id) for request_id in ids]
    assert sum(row["input_tokens"] for row in rows) == provider.served.input_tokens
    assert sum(row["output_tokens"] for row in rows) == provider.served.output_tokens
