import base64
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.input_bound import MEDIA_TOKENS, content_bytes, messages_bound, token_input_bound
from tests.unit.dialects.test_calls import CHAT, MESSAGES, read, read_large

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
