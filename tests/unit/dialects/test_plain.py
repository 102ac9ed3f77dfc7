"""The quick paths say what the careful ones say, or decline."""

import json
from collections.abc import Callable
from typing import Any

import orjson
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
    for name in draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=4)):
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
    expected = outcome(carefully, of, body)
    assert outcome(lambda of, body: HANDLERS[of.dialect].read_call(of, JSON, body), of, body) == expected
    if isinstance(expected, Call):
        spliced = apply_splices(body, [(*model_span(body), orjson.dumps("new/é"))])
        assert with_model(body, expected.route, "new/é") == spliced


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


CHUNK = '{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":%s},"finish_reason":null}]%s}'


@given(
    texts=st.lists(TEXTS | st.just(',"usage":null'), max_size=8),
    spaced=st.booleans(),
    fillers=st.lists(st.sampled_from(["", ',"obfuscation":"xx"']), min_size=8, max_size=8),
    places=st.lists(st.integers(0, 2000), max_size=8),
)
def test_null_usage_is_taken_out(texts: list[str], spaced: bool, fillers: list[str], places: list[int]) -> None:
    """What the caller gets is what the provider would have sent without being asked for usage."""
    null = ', "usage": null' if spaced else ',"usage":null'

    def stream(member: str) -> bytes:
        chunks = [CHUNK % (json.dumps(text), member + filler) for text, filler in zip(texts, fillers, strict=False)]
        return "".join(f"data: {chunk}\n\n" for chunk in [*chunks, "[DONE]"]).encode()

    for asked in (True, False):
        meter = OPENAI.meter(CHAT, Call(route="r", stream=True, tells_usage=asked), 200, b"text/event-stream")
        passed = b""
        for piece in cut_at(stream(null), places):
            edited = meter.feed(piece)
            passed += piece if edited is None else edited
        assert passed + meter.end() == stream(null if asked else "")
