import base64
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.input_bound import MEDIA_TOKENS, content_bytes, messages_bound, token_input_bound
from tests.unit.dialects.test_calls import CHAT, MESSAGES, read, read_large

G = "/v1beta/models/r:generateContent"
IMAGE = base64.b64encode(bytes(300_000)).decode()


def bound(path: str, **fields: Any) -> int:
    return read(path, orjson.dumps({"model": "r", **fields})).input_bound


def test_a_short_question_reserves_little() -> None:
    assert bound(CHAT, messages=[{"role": "user", "content": "hi"}]) <= 33


@pytest.mark.parametrize(
    ("path", "fields", "at_least", "at_most"),
    [
        (CHAT, {"messages": [{"role": "user", "content": "ü" * 100}]}, 200, 230),
        (CHAT, {"messages": [{"role": "user", "content": [{"type": "text", "text": "x" * 100}]}]}, 100, 150),
        (CHAT, {"messages": [], "tools": [{"type": "function", "function": {"name": "f" * 100}}]}, 100, 170),
        (CHAT, {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": "x" * 100}}]}]}, 100, 180),
        ("/v1/responses", {"input": "x" * 100}, 100, 112),
        ("/v1/responses", {"input": [{"role": "user", "content": "x" * 100}], "instructions": "y" * 50}, 150, 200),
        ("/v1/completions", {"prompt": "x" * 100}, 100, 104),
        ("/v1/completions", {"prompt": ["x" * 100, "y" * 100]}, 200, 206),
        ("/v1/completions", {"prompt": list(range(100))}, 100, 102),
        ("/v1/embeddings", {"input": "x" * 100}, 100, 102),
        ("/v1/embeddings", {"input": [[1000, 2000, 3000]] * 10}, 30, 52),
        ("/v1/embeddings", {"input": []}, 0, 2),
        ("/v1/images/generations", {"prompt": "x" * 100}, 100, 102),
        (MESSAGES, {"messages": [{"role": "user", "content": "x" * 100}], "system": "y" * 50}, 150, 200),
        (MESSAGES, {"messages": [{"role": "user", "content": "hi"}], "system": [{"type": "text", "text": "y"}]}, 3, 70),
        (MESSAGES, {"messages": [], "tools": [{"name": "f"}]}, 530, 650),
        (G, {"contents": [{"role": "user", "parts": [{"text": "ü" * 100}]}]}, 200, 240),
        (G, {"contents": [], "systemInstruction": {"parts": [{"text": "y" * 50}]}}, 50, 90),
        (G, {"contents": [], "tools": [{"functionDeclarations": [{"name": "f" * 100}]}]}, 100, 170),
        (G, {"contents": [], "generationConfig": {"responseSchema": {"a": "x" * 100}, "temperature": 1}}, 100, 130),
        (G, {"contents": [], "safetySettings": [{"x": "y" * 500}], "cachedContent": "cachedContents/x"}, 0, 20),
        ("/v1beta/models/r:embedContent", {"content": {"parts": [{"text": "x" * 100}]}}, 100, 130),
        ("/v1beta/models/r:countTokens", {"contents": [{"parts": [{"text": "x" * 100}]}]}, 0, 0),
        ("/api/chat", {"messages": [{"role": "user", "content": "x" * 100}], "tools": [{"f": "y" * 50}]}, 150, 200),
        ("/api/generate", {"prompt": "x" * 100, "system": "y" * 50, "suffix": "z" * 20, "format": {"a": 1}}, 170, 220),
        ("/api/generate", {"prompt": "x", "context": [100_000] * 100}, 101, 120),
        ("/api/embed", {"input": ["x" * 100, "y" * 100]}, 200, 206),
        ("/api/show", {"verbose": True}, 0, 0),
        ("/v1/messages/count_tokens", {"messages": [{"role": "user", "content": "x" * 100}]}, 0, 0),
    ],
)
def test_bounds(path: str, fields: dict[str, Any], at_least: int, at_most: int) -> None:
    assert at_least <= bound(path, **fields) <= at_most


MEDIA = {
    "chat image": (CHAT, [{"type": "image_url", "image_url": {"url": "data:image/png;base64," + IMAGE}}]),
    "chat audio": (CHAT, [{"type": "input_audio", "input_audio": {"data": IMAGE, "format": "wav"}}]),
    "chat file": (CHAT, [{"type": "file", "file": {"file_data": "data:application/pdf;base64," + IMAGE}}]),
    "anthropic image": (MESSAGES, [{"type": "image", "source": {"type": "base64", "data": IMAGE}}]),
}


@pytest.mark.parametrize("name", MEDIA)
def test_media_count_at_most_so_much(name: str) -> None:
    path, content = MEDIA[name]
    body = orjson.dumps({"model": "r", "messages": [{"role": "user", "content": content}]})
    assert MEDIA_TOKENS <= read(path, body).input_bound < MEDIA_TOKENS + 200
    assert MEDIA_TOKENS <= read_large(path, body, [50, 90, 5000, 65_000])[0].input_bound < MEDIA_TOKENS + 200


WHOLE = {
    "gemini image": (G, {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": IMAGE}}]}]}, 1),
    "gemini, snake case": (G, {"contents": [{"parts": [{"inline_data": {"mime_type": "a/b", "data": IMAGE}}]}]}, 1),
    "gemini embedding": ("/v1beta/models/r:batchEmbedContents",
                         {"requests": [{"content": {"parts": [{"inlineData": {"data": IMAGE}}]}}]}, 1),
    "ollama chat": ("/api/chat", {"messages": [{"role": "user", "content": "x", "images": [IMAGE]}]}, 1),
    "ollama chat, three": ("/api/chat", {"messages": [{"content": "x", "images": [IMAGE] * 3, "role": "user"}]}, 3),
    "ollama generate": ("/api/generate", {"prompt": "x", "images": [IMAGE, IMAGE]}, 2),
}  # fmt: skip


@pytest.mark.parametrize("places", [[], [3, 50, 5000, 65_000, 400_010, 400_100, 900_000]])
@pytest.mark.parametrize("option", [0, orjson.OPT_INDENT_2])
@pytest.mark.parametrize("name", WHOLE)
def test_media_of_other_dialects(name: str, option: int, places: list[int]) -> None:
    path, fields, count = WHOLE[name]
    body = orjson.dumps({"model": "r", **fields}, option=option)
    most = count * MEDIA_TOKENS + 300 + (option and 400)
    assert count * MEDIA_TOKENS <= read(path, body).input_bound < most
    assert count * MEDIA_TOKENS <= read_large(path, body, places)[0].input_bound < most


@pytest.mark.parametrize(
    "images",
    [
        ["so it goes " * 20_000],  # prose where an image belongs
        ["x", "so it goes " * 20_000],
        [{"text": "x" * 100_000}],
    ],
)
def test_text_among_images_counts_whole(images: list[Any]) -> None:
    body = orjson.dumps({"model": "r", "messages": [{"role": "user", "content": "x", "images": images}]})
    assert read("/api/chat", body).input_bound >= 100_000
    assert read_large("/api/chat", body, [50, 90, 5000])[0].input_bound >= 100_000


def test_an_array_of_another_name_is_no_images() -> None:
    """An item has the name of its own array, not that of one before it."""
    body = orjson.dumps({"model": "r", "messages": [{"images": [IMAGE], "texts": [IMAGE, IMAGE]}]})
    for bound in (read("/api/chat", body).input_bound, read_large("/api/chat", body, [400_030])[0].input_bound):
        assert MEDIA_TOKENS + 2 * len(IMAGE) <= bound <= MEDIA_TOKENS + 2 * len(IMAGE) + 200


TEXT = {
    "long text": [{"type": "text", "text": "x" * 100_000}],
    "text that says it is an image": [{"type": "text", "text": "data:image/png;base64," + IMAGE}],
    "prose where an image belongs": [{"type": "image_url", "image_url": {"url": "so it goes " * 20_000}}],
    "a tool's text": [{"type": "tool_result", "content": IMAGE}],
}


@pytest.mark.parametrize("name", TEXT)
def test_text_counts_whole(name: str) -> None:
    content = TEXT[name]
    body = orjson.dumps({"model": "r", "messages": [{"role": "user", "content": content}]})
    assert read(CHAT, body).input_bound >= 100_000
    assert read_large(CHAT, body, [50, 90, 5000, 65_000])[0].input_bound >= 100_000


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(value=_JSON)
def test_no_more_than_the_bytes_sent(value: Any) -> None:
    """The contract: at most one token a byte of the messages."""
    assert content_bytes(value) <= len(orjson.dumps(value))


@given(texts=st.lists(st.tuples(st.sampled_from(["user", "assistant", "system"]), st.text()), min_size=1, max_size=6))
def test_no_more_than_the_messages_sent(texts: list[tuple[str, str]]) -> None:
    messages = [{"role": role, "content": text} for role, text in texts]
    assert messages_bound(messages) <= len(orjson.dumps(messages))
    assert messages_bound(messages) >= sum(len(text.encode()) for _, text in texts)


def test_lone_surrogates_are_counted() -> None:
    assert token_input_bound("\ud800") >= 3
    assert content_bytes({"\ud800": "\udc00"}) >= 6
