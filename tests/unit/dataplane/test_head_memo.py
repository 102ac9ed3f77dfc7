"""A head that repeats is recognised to the byte, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.head_memo import HeadMemo, memo_of
from gateway.dataplane.request import Request, RequestBody
from gateway.dialects.registry import classify
from gateway.policy.snapshot import EMPTY

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\nx-api-key: k\r\n\r\n"


def memo(head: bytes = HEAD % 5) -> HeadMemo | None:
    request = Request(RequestBody.of(b""), 0)
    request.has_body = True
    operation = classify(b"POST", b"/v1/chat/completions", b"", [])
    assert operation is not None
    return memo_of(head, request, operation, EMPTY)


@given(body=st.binary(max_size=2000))
def test_the_same_head_with_any_body_of_its_length(body: bytes) -> None:
    known = memo()
    assert known is not None
    assert known.body_of(HEAD % len(body) + body) == body


@pytest.mark.parametrize(
    "data",
    [
        HEAD % 5 + b"1234",  # the body is not whole
        HEAD % 5 + b"123456",  # something follows
        HEAD.replace(b"x-api-key: k", b"x-api-key: j") % 5 + b"12345",
        HEAD.replace(b"%d", b"+5") + b"12345",
        HEAD.replace(b"%d", b" 5") + b"12345",
        HEAD.replace(b"%d", b"5\r\nx: y") + b"12345",
        HEAD.replace(b"%d", b"0x5") + b"12345",
        HEAD.replace(b"%d", b"") + b"12345",
        b"X" + HEAD % 5 + b"12345",
        (HEAD % 5)[:-1],
        b"",
    ],
)
def test_anything_else_takes_the_ordinary_way(data: bytes) -> None:
    known = memo()
    assert known is not None
    assert known.body_of(data) is None


def test_heads_that_are_not_worth_remembering() -> None:
    assert memo(HEAD.replace(b"Content-Length: %d\r\n", b"")) is None
    assert memo(b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Le") is None
    assert memo(HEAD.replace(b"Host: g", b"Host: " + b"g" * 9000) % 5) is None
