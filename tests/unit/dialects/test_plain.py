"""The quick paths say what the careful ones say, or decline."""

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dialects import anthropic, openai, openai_answers
from gateway.dialects.base import Call, Operation
from gateway.dialects.body import apply_splices, check_names, decode_object, model_span, with_model
from gateway.dialects.registry import HANDLERS, classify
from gateway.errors import BadRequest
from gateway.policy.model import Dialect
from gateway.policy.usage import Usage
from tests.unit.wire.cutting import cut_at

JSON = b"application/json"
OPENAI = HANDLERS[Dialect.OPENAI]


def operation(path: bytes) -> Operation:
    found = classify(b"POST", path, b"", [])
    assert found is not None
    return found


CHAT, MESSAGES = operation(b"/v1/chat/completions"), operation(b"/v1/messages")

TEXTS = st.text(max_size=12) | st.sampled_from(
    ['"', '\\"', 'say "hi"', "a\\", "\n", "é", "😀", "model", '"model":"r"', ""]
)
COUNTS = st.sampled_from([0, 1, 64, 64.0, -1, 1.5, True, None, "64", 1 << 40, (1 << 40) + 1, 1 << 70])
MESSAGE = st.dictionaries(
    st.sampled_from(["role", "content", "name", 'a"b', "model"]),
    TEXTS | st.none() | st.lists(st.dictionaries(st.sampled_from(["type", "text", "url"]), TEXTS), max_size=2),
    max_size=3,
)
FIELDS = {
    "model": st.sampled_from(["r", "chat", 'a"b', "é", "", "m" * 501, "a/b", "\\"]) | st.none(),
    "messages": st.lists(MESSAGE, max_size=3) | TEXTS | st.none(),
    "stream": st.booleans() | st.sampled_from([None, 0, "true"]),
    "max_tokens": COUNTS,
    "max_completion_tokens": COUNTS,
    "system": TEXTS | st.lists(TEXTS, max_size=1) | st.none(),
    "temperature": st.sampled_from([0, 0.2, None]),
    "stop": TEXTS | st.lists(TEXTS, max_size=2),
    "user": TEXTS,
    "n": COUNTS,
    "stream_options": st.sampled_from([None, {}, {"include_usage": True}, {"include_usage": False}]),
    "tools": st.sampled_from([None, [], [{"name": "model"}]]),
    "text": TEXTS,
    "Model": TEXTS,
    "x-other": TEXTS,
}
USUAL = {"model": "r", "max_tokens": 64, "messages": [{"role": "user", "content": "Say hello."}]}


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A usual call, some of its members replaced, doubled or spelled in another way."""
    members: list[tuple[str, Any]] = list(USUAL.items())
    for name in draw(st.lists(st.sampled_from(["max_tokens", "messages", "stream", *FIELDS]), max_size=3)):
        value = draw(FIELDS[name])
        if draw(st.integers(0, 5)):  # mostly no double
            members = [member for member in members if member[0] != name]
        members.insert(draw(st.integers(0, len(members))), (name, value))
    item, colon = draw(st.sampled_from([(",", ":"), (", ", ": "), (" , ", " :\n")]))
    ascii_only = draw(st.booleans())
    written = item.join(
        json.dumps(name) + colon + json.dumps(value, ensure_ascii=ascii_only, separators=(item, colon))
        for name, value in members
    )
    for spelled in draw(st.lists(st.sampled_from([("model", r"mod\u0065l"), (r"\"", r"\u0022"), ("/", r"\/")]))):
        written = written.replace(*spelled, 1)
    return f"{draw(st.sampled_from(['', ' ']))}{{{written}}}".encode(errors="surrogatepass")


def carefully(of: Operation, body: bytes) -> Call:
    document = decode_object(body)
    if of is CHAT:
        check_names(body, document, openai.CRITICAL)
        return openai.call_of(of, document, openai.text_bound(of.name, document))
    check_names(body, document, anthropic.CRITICAL)
    return anthropic.call_of(of, document, anthropic.text_bound(document))


def outcome(read: Callable[[Operation, bytes], Call], of: Operation, body: bytes) -> Call | str:
    """The call, or the words of the refusal."""
    try:
        return read(of, body)
    except BadRequest as refusal:
        return f"{refusal.message} {refusal.fix}"


@settings(max_examples=600)
@given(of=st.sampled_from([CHAT, MESSAGES]), body=bodies())
def test_calls_are_read_the_same(of: Operation, body: bytes) -> None:
    check_the_same(of, body)


def check_the_same(of: Operation, body: bytes) -> None:
    expected = outcome(carefully, of, body)
    assert outcome(lambda of, body: HANDLERS[of.dialect].read_call(of, JSON, body), of, body) == expected
    if isinstance(expected, Call):
        spliced = apply_splices(body, [(*model_span(body), orjson.dumps("new/é"))])
        assert with_model(body, expected.route, "new/é") == spliced


HI = b'"messages":[{"role":"user","content":"Hi"}]'
CASES = {
    "a double that spelled quotes make up for": rb'{"model":"a","model":"r","max_tokens":1,'
    rb'"messages":[{"content":"\"\u0022\u0022\u0022\u0022"}]}',
    "a double that escaped quotes make up for": rb'{"model":"a","model":"r","max_tokens":1,'
    rb'"messages":[{"role":"\\","content":"\"\""}]}',
    "a double of a word": b'{"stream":true,"stream":false,"model":"r","max_tokens":1,%b}' % HI,
    "a model within": b'{"x":{"model":"r"},"model":"r","max_tokens":1,%b}' % HI,
    "a model within, the other spelled": rb'{"x":{"model":"r"},"mod\u0065l":"r","max_tokens":1,%b}' % HI,
    "a model behind, spaced": b'{"max_tokens":1,%b, "model": "r"}' % HI,
    "a bound too large": b'{"model":"r","max_tokens":%d,%b}' % ((1 << 40) + 1, HI),
    "a bound below 0": b'{"model":"r","max_tokens":-1,%b}' % HI,
    "two bounds": b'{"model":"r","max_tokens":5,"max_completion_tokens":9,%b}' % HI,
    "in another case": b'{"model":"r","Stream":true,"max_tokens":1,%b}' % HI,
    "half a surrogate pair": rb'{"model":"r","max_tokens":1,"messages":[{"role":"user","content":"\ud83d"}]}',
}


@pytest.mark.parametrize("of", [CHAT, MESSAGES], ids=["chat", "messages"])
@pytest.mark.parametrize("body", CASES.values(), ids=CASES.keys())
def test_what_could_mislead(of: Operation, body: bytes) -> None:
    check_the_same(of, body)


def test_what_is_usual_goes_the_quick_way() -> None:
    for document in (
        USUAL,
        USUAL | {"stream": True, "temperature": 0.5},
        USUAL | {"messages": [{"role": "user", "content": 'é: "quoted"\n'}]},
    ):
        body = orjson.dumps(document)
        assert openai.plain_chat(body, document) == carefully(CHAT, body)
        assert anthropic.plain_message(body, document) == carefully(MESSAGES, body)


REPORT_NAMES = ["prompt_tokens", "completion_tokens", "total_tokens", "input_tokens", "output_tokens", "details"]
REPORTS = st.dictionaries(st.sampled_from(REPORT_NAMES), COUNTS, max_size=4)


@given(report=REPORTS)
def test_reports_are_read_the_same(report: dict[str, Any]) -> None:
    """A member that means nothing sends a report the careful way."""
    assert openai_answers.read_usage(report) == openai_answers.read_usage(report | {"a": 1, "b": 2, "c": 3})
    assert anthropic.read_usage(report) == anthropic.read_usage(report | {"a": 1, "b": 2, "c": 3})


ANSWER = (
    b'{"id":"a","model":"m","choices":[{"index":0,"message":{"content":"Hi"},"finish_reason":"stop"}],'
    b'"stop_reason":"end_turn","usage":{"prompt_tokens":11,"completion_tokens":7,"total_tokens":18}}'
)


@given(places=st.lists(st.integers(0, 300), max_size=4), filler=st.sampled_from([0, 70_000]))
def test_plain_answers_at_any_chunking(places: list[int], filler: int) -> None:
    answer = ANSWER + b" " * filler
    meter = OPENAI.meter(CHAT, Call(route="r", input_estimate=5), 200, JSON)
    for piece in cut_at(answer, places):
        assert meter.feed(piece) is None
    assert meter.end() == b""
    assert (meter.usage, meter.model, meter.events) == (Usage(11, 0, 0, 7, 0), "m", 1)
    assert meter.finish_reason == (None if filler else "stop")  # the scanned way reads the last 4 KiB
    assert meter.estimate() == Usage(input_tokens=5, output_tokens=-(-len(answer) // 4))


CHUNKS = (
    '{"id":"c"%s,"model":"m","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}',
    '{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]%s}',
    '{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]%s,"obfuscation":"x"}',
    '{"choices":[{"finish_reason":null,"index":0,"delta":{"content":"Hi"}}],"id":"c","model":"m"%s}',
    '{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":",\\"usage\\":null"},"finish_reason":null}]%s}',
    '{"id":"c","model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]%s}',
)


@given(
    chosen=st.lists(st.tuples(st.sampled_from(CHUNKS), st.booleans()), max_size=8),
    spaced=st.booleans(),
    places=st.lists(st.integers(0, 1500), max_size=8),
    line_end=st.sampled_from(["\n", "\r\n"]),
)
def test_null_usage_is_taken_out(
    chosen: list[tuple[str, bool]], spaced: bool, places: list[int], line_end: str
) -> None:
    """What the caller gets is what the provider would have sent without being asked for usage."""

    def events(member: str) -> list[bytes]:
        chunks = [chunk % (member if told else "") for chunk, told in chosen]
        return [f"data: {chunk}{line_end}{line_end}".encode() for chunk in [*chunks, "[DONE]"]]

    told, untold = events(', "usage": null' if spaced else ',"usage":null'), events("")
    for asked in (True, False):
        in_pairs = [told[0], *(b"".join(told[at : at + 2]) for at in range(1, len(told), 2))]
        for pieces in (told, in_pairs, cut_at(b"".join(told), places)):
            meter = OPENAI.meter(CHAT, Call(route="r", stream=True, tells_usage=asked), 200, b"text/event-stream")
            passed = b""
            for piece in pieces:
                edited = meter.feed(piece)
                passed += piece if edited is None else edited
            assert passed + meter.end() == b"".join(told if asked else untold)
            assert meter.events == sum('"Hi"' in chunk or "usage" in chunk for chunk, _ in chosen)
