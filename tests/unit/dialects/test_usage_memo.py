"""An end of an answer that is remembered tells what decoding it tells."""

from collections.abc import Callable, Mapping
from dataclasses import astuple
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects import anthropic, openai_answers
from gateway.dialects.metering import MAX_TOKENS, usage_at_end
from gateway.dialects.usage_memo import LEARN_EVERY, MOST_ENDS, UsageMemo
from gateway.policy.usage import Figures, Usage

Read = Callable[[Mapping[str, Any]], Usage | None]
READERS = pytest.mark.parametrize(
    "read", [openai_answers.read_usage, anthropic.read_usage], ids=["openai", "anthropic"]
)

FIGURES = st.sampled_from([
    0, 1, 7, 10, 99, 1234, 10**12, 10**13 - 1, MAX_TOKENS, MAX_TOKENS + 1, -1, -5, 0.0, 1.0, 1.5, 15.0, 1e3, None, True,
    "12", [1],
])  # fmt: skip
DETAILS = st.dictionaries(
    st.sampled_from(["cached_tokens", "cache_write_tokens", "reasoning_tokens", "thinking_tokens", "audio_tokens"]),
    FIGURES,
    max_size=3,
)
REPORTS = st.dictionaries(
    st.sampled_from([
        "prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens",
        "prompt_cache_hit_tokens", "num_cached_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
    ]),
    FIGURES,
    max_size=6,
)  # fmt: skip
DETAIL_NAMES = st.sampled_from(
    ["prompt_tokens_details", "completion_tokens_details", "input_tokens_details", "output_tokens_details"]
)
BEHIND = st.sampled_from([{}, {"n": 5}, {"system_fingerprint": "fp 12, 3", "tier": None}, {"x": 1.5, "y": -3}])


def carefully(read: Read, body: bytes) -> Figures | None:
    report = usage_at_end(body)
    usage = None if report is None else read(report)
    return None if usage is None else astuple(usage)


def varied(value: Any, add: float) -> Any:
    """The same with other figures."""
    if isinstance(value, dict):
        return {name: varied(member, add) for name, member in value.items()}
    return value + add if type(value) in (int, float) else value


@READERS
@given(
    report=REPORTS,
    details=st.dictionaries(DETAIL_NAMES, DETAILS, max_size=2),
    behind=BEHIND,
    indented=st.booleans(),
    add=st.integers(-3, 9) | st.sampled_from([0.5, 10**12 - (10**13 - 1)]),
)
def test_tells_what_decoding_tells(
    read: Read, report: dict[str, Any], details: dict[str, Any], behind: dict[str, Any], indented: bool, add: float
) -> None:
    memo = UsageMemo(read)
    for document in (report | details, varied(report | details, add), report | details):
        option = orjson.OPT_INDENT_2 if indented else 0
        body = orjson.dumps({"content": "Hi", "usage": document, **behind}, option=option)
        assert memo.figures_of(body) == carefully(read, body)


OPENAI = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 3, "audio_tokens": 0},
}
ANTHROPIC = {
    "input_tokens": 20,
    "cache_creation_input_tokens": 30,
    "cache_read_input_tokens": 400,
    "cache_creation": {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 55,
}


@pytest.mark.parametrize(
    ("read", "report", "usage"),
    [
        (openai_answers.read_usage, OPENAI, Usage(20, 5, 0, 11, 4)),
        (openai_answers.read_usage, {"prompt_tokens": 10, "completion_tokens": 10}, Usage(11, 0, 0, 11, 0)),
        (openai_answers.read_usage, {"prompt_tokens": 10, "total_tokens": 10}, Usage(11, 0, 0, 0, 0)),
        (anthropic.read_usage, ANTHROPIC, Usage(453, 401, 31, 56, 0)),
    ],
)
def test_other_figures_are_read_from_their_places(
    read: Read, report: dict[str, Any], usage: Usage, monkeypatch: pytest.MonkeyPatch
) -> None:
    memo = UsageMemo(read)
    memo.figures_of(orjson.dumps({"usage": report}))
    body = orjson.dumps({"usage": varied(report, 1)})
    monkeypatch.setattr("gateway.dialects.usage_memo.usage_at_end", None)  # whoever decodes again fails
    assert memo.figures_of(body) == astuple(usage)


def test_what_is_remembered_is_bounded() -> None:
    memo = UsageMemo(openai_answers.read_usage)
    for at in range((MOST_ENDS + 2) * LEARN_EVERY):
        usage = memo.figures_of(b'{"usage":{"prompt_tokens":1,"completion_tokens":2},"id":"%b"}' % (b"x" * (at % 900)))
        assert usage == (1, 0, 0, 2, 0)
    for at in range((MOST_ENDS + 2) * LEARN_EVERY):
        memo.figures_of(b'{"usage":{"prompt_tokens":1},"id":"%b"}' % at.to_bytes(2).hex().translate(LETTERS).encode())
        assert len(memo._known) <= MOST_ENDS


LETTERS = str.maketrans("0123456789", "ghijklmnop")
