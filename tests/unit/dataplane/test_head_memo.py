"""A head that repeats is recognised to the byte, and nothing else is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dataplane.head_memo import BODIES, MOST_HEADS, HeadMemo, HeadMemos
from gateway.dataplane.request import Request, RequestBody
from gateway.dialects.registry import classify
from gateway.policy.snapshot import EMPTY

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\nx-api-key: k\r\n\r\n"


def memo(head: bytes = HEAD % 5, *, heads: HeadMemos | None = None, client_ip: str = "192.0.2.1") -> HeadMemo | None:
    request = Request(RequestBody.of(b""), 0)
    request.has_body = True
    request.method = b"POST"
    request.headers = [(b"content-type", b"application/json")]
    operation = classify(b"POST", b"/v1/chat/completions", b"", [])
    assert operation is not None
    return (heads or HeadMemos()).memo_of(head, request, operation, EMPTY, client_ip, "http")


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


def shared(heads: HeadMemos, head: bytes) -> HeadMemo:
    made = memo(head, heads=heads)
    assert made is not None
    made.plans["r"] = None  # type: ignore[assignment]  # a call was let in
    return heads.share(made)


def test_connections_from_one_address_share_what_was_worked_out() -> None:
    heads = HeadMemos()
    first = memo(heads=heads)
    assert first is not None
    assert heads.share(first) is first
    assert not first.shared, "no call was let in yet"
    assert memo(heads=heads) is not first
    known = shared(heads, HEAD % 5)
    assert known.shared
    assert shared(heads, HEAD % 99) is known
    assert memo(HEAD % 7, heads=heads) is known
    assert memo(heads=heads, client_ip="192.0.2.2") is not known
    assert memo(HEAD.replace(b"x-api-key: k", b"x-api-key: j") % 5, heads=heads) is not known
    heads.clear()
    assert memo(heads=heads) is not known


def test_the_oldest_of_too_many_heads_is_forgotten() -> None:
    heads = HeadMemos()
    head = HEAD.replace(b"x-api-key: k", b"x-request-id: %d")
    known = [shared(heads, head % (5, at)) for at in range(MOST_HEADS + 1)]
    assert memo(head % (5, 0), heads=heads) is not known[0]
    for at in range(1, MOST_HEADS + 1):
        assert memo(head % (5, at), heads=heads) is known[at]


def asked(known: HeadMemo, text: str, *, model: str = "r", user: str = "u") -> list[int]:
    """Ask, and look how much is remembered of which bodies."""
    body = b'{"model":"%b","user":"%b","messages":[{"role":"user","content":"%b"}]}'
    found = known.call_of(body % (model.encode(), user.encode(), text.encode()))
    assert found is not None
    assert (found[0].route, found[1]) == (model, 24 + len("user") + len(text.encode()))
    return [memo.kept_bytes // 1000 for memo in known._body_memos]


def test_a_few_bodies_are_remembered_and_little_of_them() -> None:
    known = memo()
    assert known is not None
    assert asked(known, "Hi") == asked(known, "Hello") == [0]
    assert asked(known, "é") == asked(known, "ö") == [0], "of one shape"
    assert [len(asked(known, "Hi", model=f"r{at}")) for at in range(BODIES + 1)] == [2, 3, 4, 4, 4]
    assert asked(known, "Hi", user="u" * 3000) == [3, 0, 0, 0]
    assert asked(known, "Hi", user="u" * 4000) == [4, 3, 0, 0]
    assert asked(known, "Hi", user="u" * 6000) == [6, 0]
    assert asked(known, "Hi", user="u" * 9000) == [6, 0]
