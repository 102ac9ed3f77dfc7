"""The fake provider says what the official SDKs expect, and records what it was asked."""

import socket
from collections.abc import Iterator

import anthropic
import openai
import pytest

from tests.support.provider import Provider
from tests.support.shapes import Tokens

MESSAGES = [{"role": "user", "content": "hi"}]


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture
def openai_client(provider: Provider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.url + "/v1", api_key="sk-test", max_retries=0) as client:
        yield client


def test_openai_sdk_reads_every_answer(provider: Provider, openai_client: openai.OpenAI) -> None:
    provider.behave(tokens=Tokens(input=20, output=5, cached=3, reasoning=2))
    chat = openai_client.chat.completions.create(model="m", messages=MESSAGES)
    assert chat.usage is not None
    assert (chat.usage.prompt_tokens, chat.usage.completion_tokens) == (20, 5)
    options = {"include_usage": True}
    chunks = list(
        openai_client.chat.completions.create(model="m", messages=MESSAGES, stream=True, stream_options=options)
    )
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == " token" * 5
    assert chunks[-1].usage is not None
    assert openai_client.responses.create(model="m", input="hi").output_text == " token" * 5
    events = list(openai_client.responses.create(model="m", input="hi", stream=True))
    assert events[-1].type == "response.completed"
    assert len(openai_client.embeddings.create(model="m", input=["a", "b"]).data) == 2
    assert openai_client.completions.create(model="m", prompt="hi").choices[0].text == " token" * 5
    assert provider.served.answers == 6
    assert (provider.served.input_tokens, provider.served.output_tokens) == (120, 25)


def test_anthropic_sdk_reads_every_answer(provider: Provider) -> None:
    provider.behave(tokens=Tokens(input=20, output=5, cached=3, cache_written=4))
    with anthropic.Anthropic(base_url=provider.url, api_key="sk-test", max_retries=0) as client:
        plain = client.messages.create(model="m", max_tokens=9, messages=MESSAGES)
        assert (plain.usage.input_tokens, plain.usage.output_tokens) == (13, 5)
        with client.messages.stream(model="m", max_tokens=9, messages=MESSAGES) as stream:
            assert stream.get_final_text() == " token" * 5
        assert client.messages.count_tokens(model="m", messages=MESSAGES).input_tokens == 20


def test_requests_are_recorded_byte_for_byte(provider: Provider) -> None:
    sent = b"POST /v1/x?q=1 HTTP/1.1\r\nHost: h\r\nX-Odd:  a b \r\nContent-Length: 3\r\n\r\n"
    with socket.create_connection(("127.0.0.1", provider.port)) as connection:
        connection.sendall(sent + b"abc")
        assert connection.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
    assert provider.last.head == sent
    assert (provider.last.body, provider.last.header("x-odd"), provider.last.path) == (b"abc", "a b", "/v1/x")


@pytest.mark.parametrize(
    "fault", [{"drop": True}, {"cut_after_pieces": 2}, {"raw": b"nonsense\r\n\r\n"}, {"reset": True, "drop": True}]
)
def test_faults_reach_the_client(provider: Provider, openai_client: openai.OpenAI, fault: dict[str, object]) -> None:
    provider.behave(model="m", times=1, **fault)
    with pytest.raises((openai.APIConnectionError, openai.APIError)):
        openai_client.chat.completions.create(model="m", messages=MESSAGES)
    assert openai_client.chat.completions.create(model="m", messages=MESSAGES).choices
    assert provider.served.answers == 1


def test_a_client_that_leaves_is_noticed(provider: Provider, openai_client: openai.OpenAI) -> None:
    provider.behave(gap_s=0.02, tokens=Tokens(output=1000))
    stream = openai_client.chat.completions.create(model="m", messages=MESSAGES, stream=True)
    next(iter(stream))
    stream.close()
    assert provider.last.aborted.wait(1)
