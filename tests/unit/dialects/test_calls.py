"""What is read of a request body, whole or scanned, and how it is rewritten."""

import json
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.base import Call, Operation
from gateway.dialects.body import apply_splices
from gateway.dialects.registry import HANDLERS, classify
from gateway.errors import BadRequest
from tests.unit.wire.cutting import cut_at

JSON = b"application/json"


def operation_of(path: str) -> Operation:
    operation = classify(b"POST", path.encode(), b"", [])
    assert operation is not None
    return operation


def read(path: str, body: bytes) -> Call:
    operation = operation_of(path)
    return HANDLERS[operation.dialect].read_call(operation, JSON, body)


def read_large(path: str, body: bytes, places: list[int]) -> tuple[Call, bytes]:
    """The call, and the body rewritten for the model `new "name"`."""
    operation = operation_of(path)
    large = HANDLERS[operation.dialect].large_call(operation, JSON)
    for piece in cut_at(body, places):
        large.feed(piece)
    call = large.call()
    return call, apply_splices(body, large.splices(call, 'new "name"'))


def rewrite(path: str, body: bytes, model: str) -> bytes:
    operation = operation_of(path)
    handler = HANDLERS[operation.dialect]
    return handler.rewrite(operation, handler.read_call(operation, JSON, body), JSON, body, model)


CHAT = "/v1/chat/completions"
MESSAGES = "/v1/messages"


@dataclass(frozen=True)
class Case:
    name: str
    path: str
    body: dict[str, Any]
    call: dict[str, Any]
    """The fields that differ from the defaults, but for the input's bound."""


CASES = (
    Case("chat", CHAT, {"model": "r", "messages": []}, {}),
    Case("old bound", CHAT, {"model": "r", "max_tokens": 9}, {"output_bound": 9}),
    Case("new bound", CHAT, {"model": "r", "max_completion_tokens": 9}, {"output_bound": 9}),
    Case("the larger bound", CHAT, {"model": "r", "max_completion_tokens": 9, "max_tokens": 8}, {"output_bound": 9}),
    Case("several choices", CHAT, {"model": "r", "max_tokens": 9, "n": 3}, {"output_bound": 27, "choices": 3}),
    Case("several choices, no bound", CHAT, {"model": "r", "n": 3}, {"choices": 3}),
    Case("nulls", CHAT, {"model": "r", "max_tokens": None, "n": None, "stream": None, "stream_options": None}, {}),
    Case("a float without fraction", CHAT, {"model": "r", "max_tokens": 9.0}, {"output_bound": 9}),
    Case("no bound, as llama.cpp says it", CHAT, {"model": "r", "max_tokens": -1}, {}),
    Case("stream", CHAT, {"model": "r", "stream": True}, {"stream": True, "tells_usage": False}),
    Case(
        "stream that tells", CHAT, {"model": "r", "stream": True, "stream_options": {"include_usage": True}},
        {"stream": True},
    ),
    Case(
        "stream told not to tell", CHAT, {"model": "r", "stream": True, "stream_options": {"include_usage": False}},
        {"stream": True, "tells_usage": False},
    ),
    Case("completion", "/v1/completions", {"model": "r", "max_tokens": 9, "n": 2, "best_of": 4, "prompt": "x"},
         {"output_bound": 36, "choices": 4}),
    Case("responses", "/v1/responses", {"model": "r", "max_output_tokens": 9, "stream": True, "input": "x"},
         {"output_bound": 9, "stream": True}),
    Case("embeddings", "/v1/embeddings", {"model": "r", "input": ["x"]}, {"output_bound": 0}),
    Case("moderations", "/v1/moderations", {"model": "r", "input": "x"}, {"output_bound": 0}),
    Case("images", "/v1/images/generations", {"model": "r", "prompt": "x", "n": 2}, {"choices": 2}),
    Case("speech", "/v1/audio/speech", {"model": "r", "input": "x"}, {}),
    Case("messages", MESSAGES, {"model": "r", "max_tokens": 9, "stream": True, "messages": []},
         {"output_bound": 9, "stream": True}),
    Case("count tokens", "/v1/messages/count_tokens", {"model": "r", "messages": []}, {"output_bound": 0}),
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=attrgetter("name"))
def test_reads(case: Case) -> None:
    body = orjson.dumps(case.body)
    call = read(case.path, body)
    assert replace(call, input_bound=0, input_estimate=0) == Call(route="r", **case.call)
    large, _ = read_large(case.path, body, [3, 17, 40])
    assert replace(large, input_bound=0, input_estimate=0) == Call(route="r", **case.call)
    assert large.input_bound >= call.input_bound or case.path != CHAT


def nested(levels: int) -> bytes:
    return b'{"model":"r","messages":' + b"[" * levels + b"]" * levels + b"}"


REFUSED = {
    "no JSON": (b"model=r", "not valid JSON"),
    "empty": (b"", "not valid JSON"),
    "no object": (b'["model"]', "not a JSON object"),
    "deep": (nested(10_000), "not valid JSON"),
    "deeper": (nested(200_000), "not valid JSON"),
    "not UTF-8": (b'{"model":"\xff"}', "not valid JSON"),
    "NaN": (b'{"model":"r","temperature":NaN}', "not valid JSON"),
    "NaN beside half a surrogate": (b'{"model":"r","temperature":NaN,"x":"\\ud800"}', "not valid JSON"),
    "no model": (b"{}", 'no "model"'),
    "empty model": (b'{"model":""}', "name of a route"),
    "model of another type": (b'{"model":["r"]}', "name of a route"),
    "endless model": (b'{"model":"' + b"r" * 501 + b'"}', "name of a route"),
    "half a surrogate": (b'{"model":"\\ud800"}', "name of a route"),
    "two models": (b'{"model":"a","model":"b"}', "twice"),
    "two models, one escaped": (b'{"model":"a","mod\\u0065l":"b"}', "twice"),
    "two streams": (b'{"model":"r","stream":true,"messages":[],"stream":false}', "twice"),
    "two messages": (b'{"model":"r","messages":[],"messages":[]}', "twice"),
    "two models far apart": (b'{"model":"a","x":"' + b"x" * 9000 + b'","model":"b"}', "twice"),
    "Go's model": (b'{"model":"a","MODEL":"b"}', "spelling"),
    "a sign that Go folds": ('{"model":"a","max_to\u212aens":9}'.encode(), "spelling"),
    "stream as text": (b'{"model":"r","stream":"true"}', '"stream" is not true or false'),
    "bound as text": (b'{"model":"r","max_tokens":"9"}', '"max_tokens" is not a whole number'),
    "bound below nothing": (b'{"model":"r","max_tokens":-2}', '"max_tokens" is not a whole number'),
    "bound with fraction": (b'{"model":"r","max_tokens":1.5}', '"max_tokens" is not a whole number'),
    "bound as bool": (b'{"model":"r","max_tokens":true}', '"max_tokens" is not a whole number'),
    "bound beyond all": (b'{"model":"r","max_tokens":1e30}', '"max_tokens" is not a whole number'),
    "no choices": (b'{"model":"r","n":0}', '"n" is not a whole number from 1'),
    "options as list": (b'{"model":"r","stream":true,"stream_options":[]}', '"stream_options" is not an object'),
    "option as text": (
        b'{"model":"r","stream":true,"stream_options":{"include_usage":"yes"}}',
        "include_usage",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str) -> None:
    body, words = REFUSED[name]
    with pytest.raises(BadRequest, match=words) as caught:
        read(CHAT, body)
    assert caught.value.fix


@pytest.mark.parametrize("name", [name for name in REFUSED if "NaN" not in name and "UTF" not in name])
def test_refuses_what_is_scanned(name: str) -> None:
    body, _ = REFUSED[name]
    with pytest.raises(BadRequest) as caught:
        read_large(CHAT, body, [5, 11])
    assert caught.value.fix


def test_half_a_surrogate_in_a_message_passes() -> None:
    body = b'{"model":"r","messages":[{"role":"user","content":"caf\\u00e9 \\ud83d"}]}'
    assert read(CHAT, body).route == "r"
    assert rewrite(CHAT, body, "m") == body.replace(b'"r"', b'"m"')


REWRITTEN = {
    "only the model": (
        b'{ "x": 1.50, "model" : "r",\n"y":"\\u00e9" }',
        b'{ "x": 1.50, "model" : "m",\n"y":"\\u00e9" }',
    ),
    "escaped name": (b'{"mod\\u0065l":"r"}', b'{"mod\\u0065l":"m"}'),
    "escaped value": (b'{"model":"\\u0072"}', b'{"model":"m"}'),
    "not a nested one": (
        b'{"a":{"model":"r"},"model":"r","b":[{"model":"r"}]}',
        b'{"a":{"model":"r"},"model":"m","b":[{"model":"r"}]}',
    ),
    "not a value": (b'{"a":"model","model":"r"}', b'{"a":"model","model":"m"}'),
    "asks for usage": (
        b' {"model":"r","stream":true}',
        b' {"stream_options":{"include_usage":true},"model":"m","stream":true}',
    ),
    "adds to the options": (
        b'{"model":"r","stream":true,"stream_options":{"x":1}}',
        b'{"model":"m","stream":true,"stream_options":{"x":1,"include_usage":true}}',
    ),
    "turns the option on": (
        b'{"stream_options": {"include_usage":false} ,"model":"r","stream":true}',
        b'{"stream_options": {"include_usage":true} ,"model":"m","stream":true}',
    ),
    "options that are null": (
        b'{"stream_options":null,"model":"r","stream":true}',
        b'{"stream_options":{"include_usage":true},"model":"m","stream":true}',
    ),
    "asked already": (
        b'{"stream_options":{"include_usage":true},"model":"r","stream":true}',
        b'{"stream_options":{"include_usage":true},"model":"m","stream":true}',
    ),
    "no stream": (b'{"stream":false,"model":"r"}', b'{"stream":false,"model":"m"}'),
    "word in a nested place": (
        b'{"messages":["\\"stream_options\\"",{"stream_options":1}],"model":"r","stream":true}',
        (
            b'{"stream_options":{"include_usage":true},"messages":["\\"stream_options\\"",{"stream_options":1}],'
            b'"model":"m","stream":true}'
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REWRITTEN)
def test_rewrites(name: str) -> None:
    body, expected = REWRITTEN[name]
    assert rewrite(CHAT, body, "m") == expected


def test_untouched_where_nothing_is_to_be_changed() -> None:
    body = b'{"model":"r"}'
    assert rewrite(CHAT, body, "r") is body
    assert rewrite(MESSAGES, body, "r") is body


def test_responses_tell_usage_unasked() -> None:
    assert rewrite("/v1/responses", b'{"model":"r","stream":true}', "m") == b'{"model":"m","stream":true}'


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.just("model"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.sampled_from(["model", "stream"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(
    fields=st.dictionaries(
        st.sampled_from(["messages", "metadata", "x", "user", "stop"]), _VALUES, max_size=4
    ),
    stream=st.booleans(),
    options=st.none() | st.fixed_dictionaries({}, optional={"include_usage": st.booleans(), "x": st.integers(0, 9)}),
    indent=st.sampled_from([None, 1]),
    ascii_only=st.booleans(),
    order=st.randoms(use_true_random=False),
    places=st.lists(st.integers(0, 2000), max_size=5),
)  # fmt: skip
def test_only_what_is_meant_changes(
    fields: dict[str, Any], stream: bool, options: Any, indent: int | None, ascii_only: bool, order: Any,
    places: list[int],
) -> None:  # fmt: skip
    items = [*fields.items(), ("model", "röute"), ("stream", stream), ("stream_options", options)]
    order.shuffle(items)
    document = dict(items)
    body = json.dumps(document, indent=indent, ensure_ascii=ascii_only).encode()
    wanted = dict(document, model='new "name"')
    if stream and not (options or {}).get("include_usage"):
        wanted["stream_options"] = {**(options or {}), "include_usage": True}
    rewritten = rewrite(CHAT, body, 'new "name"')
    assert json.loads(rewritten) == wanted
    call, rewritten_large = read_large(CHAT, body, places)
    assert json.loads(rewritten_large) == wanted
    whole = read(CHAT, body)
    assert (call.route, call.stream, call.tells_usage) == (whole.route, whole.stream, whole.tells_usage)
