"""What is redacted of bodies: found through escapes and across the events of a stream, and never there afterwards."""

import json
import re
from itertools import pairwise
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.capture import MARGIN_BYTES
from gateway.policy.patterns import PatternError, compiled
from gateway.policy.redaction import Redactor
from gateway.wire.body_texts import Kind

REDACTOR = Redactor(("ACME-[0-9]{4}",))
SECRETS = {
    "bob.o'neill+tag@mail.example.com": "email",
    "müller@bücher.example": "email",
    "4111 1111 1111 1111": "card",
    "5500-0055-5555-5559": "card",
    "378282246310005": "card",
    "+49 170 1234567": "phone",
    "(415) 555-2671": "phone",
    "sk-proj-abcdefghijklmnopqrstuvwx": "key",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv": "key",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789": "key",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl": "key",
    "ACME-4711": "redacted",
}
HARMLESS = (
    "The order of 2026-11-28 has 1234567890 items at $12.50.",
    "chatcmpl-9x8y7z, created 1764324592, 1764324592123 ms",
    "call the function with 16 digits like 1234 5678 9012 3456",  # its last digit does not check the others
    "3.14159265358979 and 10.0.0.1 and 00:11:22:33:44:55",
    "550e8400-e29b-41d4-a716-446655440000",
    "bearer of good news; see user@ or @home",
)


@pytest.mark.parametrize(("secret", "what"), SECRETS.items())
def test_each_is_found_in_text_and_in_json(secret: str, what: str) -> None:
    plain = REDACTOR.redact(f"it is {secret}, as said".encode(), Kind.PLAIN, 9999)
    assert (plain.text, plain.counts) == (f"it is [{what}], as said", {what: 1})
    for ascii_only in (True, False):
        document = json.dumps({"a": [f"it is {secret}"], secret: 1}, ensure_ascii=ascii_only)
        found = REDACTOR.redact(document.encode(), Kind.JSON, 9999)
        assert json.loads(found.text) == {"a": [f"it is [{what}]"], f"[{what}]": 1}


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_none_of_these_stays(text: str) -> None:
    assert REDACTOR.redact(text.encode(), Kind.PLAIN, 9999).text == text


def test_escapes_hide_nothing() -> None:
    body = rb'{"a": "bob\u0040example.com", "b": "4111\t1111 1111 1111 1111", "c": "{\"mail\": \"eve@example.org\"}"}'
    read = json.loads(REDACTOR.redact(body, Kind.JSON, 9999).text)
    assert (read["a"], read["c"]) == ("[email]", '{"mail": "[email]"}')
    form = urlencode({"mail": "bob@example.com", "card": "4111 1111 1111 1111"}).encode()
    assert REDACTOR.redact(form, Kind.FORM, 9999).text == "mail=[email]&card=[card]"


def test_numbers_of_cards_are_no_strings() -> None:
    read = REDACTOR.redact(b'{"card": 4111111111111111, "n": 17}', Kind.JSON, 9999)
    assert json.loads(read.text) == {"card": "[card]", "n": 17}


def test_two_cards_side_by_side() -> None:
    text = b"4111 1111 1111 1111 5500 0055 5555 5559 0004"
    assert REDACTOR.redact(text, Kind.PLAIN, 999).text == "[card] [card] 0004"


def test_the_known_are_taken_out_whatever_they_look_like() -> None:
    redacted = REDACTOR.redact(b'{"echo": "the word is swordfish!"}', Kind.JSON, 999, [b"swordfish", b"is"])
    assert redacted.text == '{"echo": "the word is [key]!"}'  # too short ones would take out half the language


def test_what_begins_before_the_cut_does_not_show_its_beginning() -> None:
    body = b"x" * 100 + b" bob@example.com and more" + b" " * MARGIN_BYTES
    for most in range(101, 116):
        redacted = REDACTOR.redact(body[: most + MARGIN_BYTES], Kind.PLAIN, most)
        assert redacted.cut
        assert redacted.text in ("x" * 100 + " [email]", "x" * 100 + " ")


def test_a_cut_leaves_whole_signs() -> None:
    assert REDACTOR.redact("aé€😀".encode(), Kind.PLAIN, 8).text == "aé€"


def events(pieces: list[str], kind: Kind, *, ascii_only: bool) -> bytes:
    def event(piece: str) -> dict[str, object]:
        return {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"content": piece}, "finish_reason": None}]}

    lines = [json.dumps(event(piece), ensure_ascii=ascii_only) for piece in pieces]
    if kind is Kind.EVENTS:
        return "".join(f"data: {line}\n\n" for line in lines).encode() + b"data: [DONE]\n\n"
    return "\n".join(lines).encode() if kind is Kind.LINES else f"[{','.join(lines)}]".encode()


def said(redacted: str, kind: Kind) -> str:
    if kind is Kind.JSON:
        told = json.loads(redacted)
    else:
        lines = [line.removeprefix("data: ") for line in redacted.splitlines()]
        told = [json.loads(line) for line in lines if line.startswith("{")]
    return "".join(event["choices"][0]["delta"]["content"] for event in told)


TEXTS = st.lists(
    st.one_of(st.sampled_from([*SECRETS]), st.text(st.characters(categories=["L"]), max_size=8)), min_size=1, max_size=6
)


@settings(max_examples=150, deadline=None)
@given(
    texts=TEXTS,
    cuts=st.lists(st.integers(0, 200), max_size=60),
    kind=st.sampled_from([Kind.EVENTS, Kind.LINES, Kind.JSON]),
    ascii_only=st.booleans(),
)
def test_what_is_redacted_never_appears_in_any_chunking(
    texts: list[str], cuts: list[int], kind: Kind, ascii_only: bool
) -> None:
    text = " , ".join(texts)
    places = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
    pieces = [text[start:end] for start, end in pairwise(places)]
    body = events(pieces, kind, ascii_only=ascii_only)
    redacted = REDACTOR.redact(body, kind, len(body))
    read = said(redacted.text, kind)
    for secret, what in SECRETS.items():
        if secret in texts:
            assert secret not in read
            assert secret not in redacted.text
            assert f"[{what}]" in read
    for harmless in texts:
        if harmless not in SECRETS and len(texts) == 1:
            assert harmless in read


def choice(index: int, piece: str, *, late: bool) -> dict[str, object]:
    told: dict[str, object] = {"delta": {"content": piece}, "finish_reason": None}
    return {**told, "index": index} if late else {"index": index, **told}


@settings(max_examples=150, deadline=None)
@given(
    texts=st.tuples(TEXTS, TEXTS),
    cuts=st.lists(st.integers(0, 200), max_size=40),
    order=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40),
    late=st.booleans(),
    kind=st.sampled_from([Kind.EVENTS, Kind.LINES, Kind.JSON]),
)
def test_choices_of_one_stream_hide_nothing_in_each_other(
    texts: tuple[list[str], list[str]], cuts: list[int], order: list[tuple[bool, bool]], late: bool, kind: Kind
) -> None:
    """Each event has the next piece of one choice, or of both in either order; their `index` may come behind them."""
    rest: list[list[str]] = []
    for text in (" , ".join(each) for each in texts):
        places = [0, *sorted(cut for cut in cuts if cut <= len(text)), len(text)]
        rest.append([text[start:end] for start, end in pairwise(places)])
    told: list[dict[str, object]] = []
    turn = 0
    while any(rest):
        second, both = order[turn % len(order)]
        turn += 1
        chosen = [index for index in (int(second), int(not second)) if rest[index]]
        chosen = chosen if both else chosen[:1]
        told.append({"choices": [choice(index, rest[index].pop(0), late=late) for index in chosen]})
    lines = [json.dumps(event, ensure_ascii=False) for event in told]
    if kind is Kind.EVENTS:
        body = "".join(f"data: {line}\n\n" for line in lines)
    else:
        body = "\n".join(lines) if kind is Kind.LINES else f"[{','.join(lines)}]"
    redacted = REDACTOR.redact(body.encode(), kind, len(body.encode())).text
    bare = [line.removeprefix("data: ") for line in redacted.splitlines()] if kind is not Kind.JSON else []
    events_read = json.loads(redacted) if kind is Kind.JSON else [json.loads(line) for line in bare if line]
    for index, words in enumerate(texts):
        read = "".join(
            each["delta"]["content"] for event in events_read for each in event["choices"] if each["index"] == index
        )
        for word in words:
            if word in SECRETS:
                assert word not in read
                assert any(f"[{what}]" in read for what in SECRETS.values())


def test_an_index_that_counts_events_does_not_part_a_text() -> None:
    pieces = ["sk-proj-abcdef", "ghijklmnopqr", "stuvwx"]
    lines = [json.dumps({"index": number, "text": piece}) for number, piece in enumerate(pieces)]
    redacted = REDACTOR.redact("\n".join(lines).encode(), Kind.LINES, 9999).text
    assert "".join(json.loads(line)["text"] for line in redacted.splitlines()) == "[key]"


def test_outputs_are_told_apart_by_all_their_numbers() -> None:
    """Two outputs of the Responses API, each with its content 0."""
    pieces = [(0, "sk-proj-abcdef"), (1, "Hel"), (0, "ghijklmnopqrstuvwx"), (1, "lo")]
    told = [
        {"type": "response.output_text.delta", "delta": piece, "output_index": number, "content_index": 0}
        for number, piece in pieces
    ]
    body = "".join(f"data: {json.dumps(event)}\n\n" for event in told)
    redacted = REDACTOR.redact(body.encode(), Kind.EVENTS, 9999).text
    read = [json.loads(line.removeprefix("data: ")) for line in redacted.splitlines() if line]
    assert "".join(event["delta"] for event in read if event["output_index"] == 0) == "[key]"
    assert "".join(event["delta"] for event in read if event["output_index"] == 1) == "Hello"


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=300), kind=st.sampled_from(Kind), most=st.integers(0, 300))
def test_nothing_that_comes_is_too_broken(body: bytes, kind: Kind, most: int) -> None:
    redacted = REDACTOR.redact(body + b' "bob@example.com', kind, most)
    assert "bob@example.com" not in redacted.text
    redacted.text.encode()  # no half of a pair


def test_no_pattern_can_hang_a_worker() -> None:
    """What takes Python's own engine for ever."""
    hostile = compiled("(a+)+$")
    assert hostile.search(b"a" * 5000 + b"!") is None
    for wrong in ("(", "(?=a)", r"(a)\1", r"\p{L}{1000}"):
        with pytest.raises(PatternError, match=re.compile(".+")):
            compiled(wrong)
