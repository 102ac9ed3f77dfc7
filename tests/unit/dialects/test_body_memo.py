"""A body that is recognised says what reading it with care would say."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.base import Call, Operation
from gateway.dialects.body_memo import MOST_BYTES, BodyMemo, memo_of
from gateway.dialects.registry import HANDLERS, PLAIN_READERS
from gateway.errors import BadRequest
from tests.unit.dialects.test_plain import CHAT, JSON, MESSAGES, USUAL, bodies

PIECES = st.lists(
    st.sampled_from(
        ["Hi", " ", "\\n", "\\", '"', '\\"', "\\\\n", "\\u0041", "\n", "é", "\x7f", '","role":"', "}]}", "n"]
    ),
    max_size=6,
).map("".join)
"""Of a text as it stands in a body, or of what is none."""
KINDS = pytest.mark.parametrize("of", [CHAT, MESSAGES], ids=["chat", "messages"])


def remembered(of: Operation, body: bytes) -> BodyMemo | None:
    call = PLAIN_READERS[of.dialect].plain_call(of, body)
    return None if call is None else memo_of(body, call)


def carefully(of: Operation, body: bytes) -> Call | None:
    try:
        return HANDLERS[of.dialect].read_call(of, JSON, body)
    except BadRequest:
        return None


def around_the_text(document: dict[str, Any], **how: Any) -> tuple[bytes, bytes]:
    """What stands before and behind the text of the last message."""
    marked = document | {"messages": [*document["messages"][:-1], document["messages"][-1] | {"content": "<text>"}]}
    before, after = json.dumps(marked, ensure_ascii=False, **how).encode().split(b"<text>")
    return before, after


@KINDS
@given(first=st.sampled_from(["Hi", "two\\nlines", "user", "r", "é", "}]}"]), then=PIECES, spaced=st.booleans())
def test_whatever_the_text(of: Operation, first: str, then: str, spaced: bool) -> None:
    before, after = around_the_text(USUAL, separators=(", ", ": ") if spaced else (",", ":"))
    memo = remembered(of, before + first.encode() + after)
    if memo is not None:
        body = before + then.encode() + after
        assert memo.call_of(body) in (None, carefully(of, body))
        assert memo.call_of(before[:-1] + after) is None


@KINDS
@given(body=bodies(), other=bodies(), text=PIECES)
def test_whatever_the_body(of: Operation, body: bytes, other: bytes, text: str) -> None:
    memo = remembered(of, body)
    if memo is not None:
        assert memo.call_of(body) in (None, carefully(of, body))
        assert memo.call_of(other) in (None, carefully(of, other))
        varied = body.replace(b"Say hello.", text.encode())
        assert memo.call_of(varied) in (None, carefully(of, varied))


@KINDS
def test_what_is_usual_is_recognised(of: Operation) -> None:
    system = {"role": "assistant", "content": "Be brief.\nSay é."}
    documents: list[dict[str, Any]] = [
        USUAL,
        USUAL | {"stream": True},
        USUAL | {"messages": [system, *USUAL["messages"]]},  # type: ignore[misc]
    ]
    for document in documents:
        before, after = around_the_text(document)
        memo = remembered(of, before + b"Hello" + after)
        assert memo is not None
        for text in (b"Hello", b"And\\nsomething\\n\\nlonger, of more lines", b""):
            body = before + text + after
            found = memo.call_of(body)
            assert found is not None
            assert found == carefully(of, body)


@KINDS
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("user", id="a text that stands elsewhere too"),
        pytest.param("", id="none"),
        pytest.param('"', id="an escape"),
        pytest.param([{"type": "text", "text": "Hi"}], id="no text"),
    ],
)
def test_nothing_is_remembered_where_it_is_not_sure(of: Operation, text: object) -> None:
    assert remembered(of, orjson.dumps(USUAL | {"messages": [{"role": "user", "content": text}]})) is None


def test_no_large_body_is_kept() -> None:
    long = {"role": "system", "content": "x" * MOST_BYTES}
    body = orjson.dumps(USUAL | {"messages": [long, {"role": "user", "content": "Hi"}]})
    assert PLAIN_READERS[CHAT.dialect].plain_call(CHAT, body) is not None
    assert remembered(CHAT, body) is None
