"""A body that is recognised says what reading it with care would say."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.base import Call, Operation
from gateway.dialects.body_memo import BodyMemo, memo_of, with_bound
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


def told(memo: BodyMemo, body: bytes) -> Call | None:
    bound = memo.bound_of(body)
    return None if bound is None else with_bound(memo.call, bound)


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
@given(
    first=st.sampled_from(["Hi", "two\\nlines", "user", "r", "é", "}]}", ":", ": ", ",", ", "]),
    then=PIECES,
    spaced=st.booleans(),
    unspaced_text=st.booleans(),
)
def test_whatever_the_text(of: Operation, first: str, then: str, spaced: bool, unspaced_text: bool) -> None:
    before, after = around_the_text(USUAL, separators=(", ", ": ") if spaced else (",", ":"))
    if unspaced_text:  # its text is then what stands before it, too
        before = before[:-3] + b':"'
    memo = remembered(of, before + first.encode() + after)
    if memo is not None:
        body = before + then.encode() + after
        assert told(memo, body) in (None, carefully(of, body))
        assert told(memo, before[:-1] + after) is None


@KINDS
@given(body=bodies(), other=bodies(), text=PIECES)
def test_whatever_the_body(of: Operation, body: bytes, other: bytes, text: str) -> None:
    memo = remembered(of, body)
    if memo is not None:
        assert told(memo, body) in (None, carefully(of, body))
        assert told(memo, other) in (None, carefully(of, other))
        varied = body.replace(b"Say hello.", text.encode())
        assert told(memo, varied) in (None, carefully(of, varied))


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
            found = told(memo, body)
            assert found is not None
            assert found == carefully(of, body)


@KINDS
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("user", id="a text that stands elsewhere too"),
        pytest.param("", id="none"),
        pytest.param('"', id="an escape"),
        pytest.param(":", id="what stands between names and values"),
        pytest.param([{"type": "text", "text": "Hi"}], id="no text"),
    ],
)
def test_nothing_is_remembered_where_it_is_not_sure(of: Operation, text: object) -> None:
    assert remembered(of, orjson.dumps(USUAL | {"messages": [{"role": "user", "content": text}]})) is None
