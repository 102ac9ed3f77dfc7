"""OpenAI's paths beside chat, through its SDK: images, audio, moderations, embeddings in base64, the model list."""

import asyncio
import io
from collections.abc import Iterator

import openai
import pytest

from tests.integration.dialects.conftest import KEY, OPENAI_SECRET, NewRows
from tests.support.live import Live
from tests.support.provider import Provider
from tests.support.shapes import Tokens
from tests.support.shapes_media import PIXEL, SPEECH

TOKENS = Tokens(input=50, output=20)
COST = 50 * 1 + 20 * 2
TEXT = " token" * 20


@pytest.fixture
def client(sluice: Live, provider: Provider) -> Iterator[openai.OpenAI]:
    provider.behave(tokens=TOKENS)
    with openai.OpenAI(base_url=sluice.url + "/v1", api_key=KEY, max_retries=0, timeout=20) as made:
        yield made


def check(new_rows: NewRows, count: int, **expected: object) -> None:
    for row in new_rows.wait(count):
        assert (row["outcome"], row["status"], row["target"]) == ("completed", 200, "up/up-model")
        assert {name: row[name] for name in expected} == expected


USED = {"input_tokens": 50, "output_tokens": 20, "cost_usd_micros": COST, "estimated": False}


def test_images(provider: Provider, client: openai.OpenAI, new_rows: NewRows) -> None:
    picture = ("a.png", io.BytesIO(b"\x89PNG" + bytes(5000)), "image/png")
    made = client.images.generate(model="chat", prompt="a cat", n=1)
    assert made.data is not None
    assert made.data[0].b64_json == PIXEL
    assert provider.last.json["model"] == "up-model"
    client.images.edit(model="chat", image=picture, prompt="a dog")
    assert b'name="model"\r\n\r\nup-model\r\n' in provider.last.body
    picture[1].seek(0)
    client.images.create_variation(model="chat", image=picture)
    events = list(client.images.generate(model="chat", prompt="a cat", stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_generation.partial_image", "image_generation.completed"]
    assert provider.last.header("authorization") == f"Bearer {OPENAI_SECRET}"
    check(new_rows, 4, **USED)


def test_transcriptions(provider: Provider, client: openai.OpenAI, new_rows: NewRows) -> None:
    speech = ("a.mp3", SPEECH, "audio/mpeg")
    assert client.audio.transcriptions.create(model="chat", file=speech).text == TEXT
    assert SPEECH in provider.last.body
    assert b'name="model"\r\n\r\nup-model\r\n' in provider.last.body
    assert client.audio.translations.create(model="chat", file=speech).text == TEXT
    events = list(client.audio.transcriptions.create(model="chat", file=speech, stream=True))
    assert events[-1].type == "transcript.text.done"
    assert len(events) == 21
    check(new_rows, 3, **USED)


def test_large_recordings(provider: Provider, client: openai.OpenAI, new_rows: NewRows) -> None:
    """Larger than what is held in memory: from a file of ours, edited on the way."""
    recording = SPEECH * 400
    assert client.audio.transcriptions.create(model="chat", file=("a.mp3", recording, "audio/mpeg")).text == TEXT
    assert recording in provider.last.body
    assert b'name="model"\r\n\r\nup-model\r\n' in provider.last.body
    check(new_rows, 1, **USED)


def test_speech(provider: Provider, client: openai.OpenAI, new_rows: NewRows) -> None:
    """Sound passes as it is. It tells no usage: the input is estimated by its text, the output is not known."""
    assert client.audio.speech.create(model="chat", voice="alloy", input="Say hello.").read() == SPEECH
    provider.behave(tokens=TOKENS, piece_bytes=100)
    with client.audio.speech.with_streaming_response.create(model="chat", voice="alloy", input="Hi") as answer:
        assert b"".join(answer.iter_bytes()) == SPEECH
    check(new_rows, 2, output_tokens=0, estimated=True)
    assert all(row["input_tokens"] > 0 for row in new_rows.wait(2))


def test_speech_as_events(provider: Provider, client: openai.OpenAI, new_rows: NewRows) -> None:
    with client.audio.speech.with_streaming_response.create(
        model="chat", voice="alloy", input="Hi", stream_format="sse"
    ) as answer:
        assert b"speech.audio.done" in answer.read()
    check(new_rows, 1, **USED)


def test_moderations(provider: Provider, client: openai.OpenAI, new_rows: NewRows) -> None:
    assert not client.moderations.create(model="chat", input="hello").results[0].flagged
    check(new_rows, 1, input_tokens=0, output_tokens=0, cost_usd_micros=0)


def test_embeddings_in_base64(provider: Provider, client: openai.OpenAI, new_rows: NewRows) -> None:
    answer = client.embeddings.create(model="chat", input=["a", "b"])
    assert [item.embedding for item in answer.data] == [[0.25, -0.5]] * 2
    assert provider.last.json["encoding_format"] == "base64"
    check(new_rows, 1, input_tokens=50, output_tokens=0, cost_usd_micros=50)


def test_async(sluice: Live, provider: Provider, new_rows: NewRows) -> None:
    async def talk() -> str:
        async with openai.AsyncOpenAI(base_url=sluice.url + "/v1", api_key=KEY, max_retries=0) as client:
            response = await client.responses.create(model="chat", input="Say hello.")
            stream = await client.completions.create(model="chat", prompt="hi", stream=True)
            text = "".join([chunk.choices[0].text async for chunk in stream])
            made = await client.files.create(file=("a", b"{}"), purpose="batch")
            assert (await client.files.content(made.id)).read() == b"{}"
            assert response.output_text == TEXT
            return text

    provider.behave(tokens=TOKENS)
    assert asyncio.run(talk()) == TEXT
    rows = new_rows.wait(4)
    assert sum(row["output_tokens"] or 0 for row in rows) == provider.served.output_tokens


def test_a_caller_that_leaves_cancels_the_image(sluice: Live, provider: Provider, client: openai.OpenAI) -> None:
    provider.behave(tokens=TOKENS, hang_after_pieces=1)
    stream = client.images.generate(model="chat", prompt="a cat", stream=True)
    next(iter(stream))
    stream.close()
    assert provider.last.aborted.wait(5)
