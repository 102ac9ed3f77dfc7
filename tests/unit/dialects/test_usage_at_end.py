"""`usage_at_end` finds what decoding the whole answer finds, or declines; it never finds something else."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.metering import usage_at_end

_NAMES = st.text(max_size=5) | st.just("usage")
_LEAVES = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=12)
_JSON = st.recursive(
    _LEAVES | st.sampled_from(["usage", '"usage":{}']),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)
USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7, "prompt_tokens_details": {"cached_tokens": 1}}


@given(document=st.dictionaries(_NAMES, _JSON, max_size=6))
def test_never_finds_another_than_the_decoder(document: dict[str, Any]) -> None:
    found = usage_at_end(orjson.dumps(document))
    assert found is None or found == document["usage"]


@pytest.mark.parametrize("after", [{}, {"service_tier": "default", "system_fingerprint": None}, {"n": 1.5, "ok": True}])
@pytest.mark.parametrize("text", ["hello", '{"usage":{"prompt_tokens":9}}', 'a "usage": {}'])
@pytest.mark.parametrize("option", [0, orjson.OPT_INDENT_2])
def test_finds_it_where_providers_write_it(text: str, after: dict[str, Any], option: int) -> None:
    body = orjson.dumps({"choices": [{"message": {"content": text}}], "usage": USAGE, **after}, option=option)
    assert usage_at_end(body) == USAGE


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices":[{"usage":{"prompt_tokens":1}}]}',
        b'{"content":[{"input":{"usage":{"input_tokens":1}}}],"stop":"x"}',
        b'{"usage":{"input_tokens":1},"content":[]}',
        b'{"usage":null}',
        b'{"usage":{"a":1',
        b"",
    ],
)
def test_declines(body: bytes) -> None:
    assert usage_at_end(body) is None
