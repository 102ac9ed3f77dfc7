"""Events as documented in OpenAI's Realtime reference, in the beta's names and in those of the general release."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.realtime import SessionMeter, key_in, query_for, route_of
from gateway.errors import BadRequest
from gateway.policy.usage import Usage

DONE_USAGE = {
    "total_tokens": 253,
    "input_tokens": 132,
    "output_tokens": 121,
    "input_token_details": {
        "text_tokens": 119,
        "audio_tokens": 13,
        "image_tokens": 0,
        "cached_tokens": 64,
        "cached_tokens_details": {"text_tokens": 64, "audio_tokens": 0, "image_tokens": 0},
    },
    "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
}


def event(kind: str, **more: Any) -> bytes:
    return json.dumps({"event_id": "event_5678", "type": kind, **more}).encode()


def done(usage: Any) -> bytes:
    return event("response.done", response={"object": "realtime.response", "status": "completed", "usage": usage})


def test_a_response_reports_its_usage() -> None:
    meter = SessionMeter()
    assert meter.read(done(DONE_USAGE)) == Usage(input_tokens=132, cached_tokens=64, output_tokens=121)
    assert meter.read(done({"input_tokens": 10, "output_tokens": 5})) == Usage(input_tokens=10, output_tokens=5)
    assert meter.total == Usage(input_tokens=142, cached_tokens=64, output_tokens=126)


@pytest.mark.parametrize("usage", [None, {}, 7, {"type": "duration", "seconds": 3}, {"input_tokens": -1}])
def test_a_response_without_usage(usage: Any) -> None:
    meter = SessionMeter()
    assert meter.read(done(usage)) is None
    assert meter.total == Usage()


def test_a_transcription_is_counted_by_tokens_or_not_at_all() -> None:
    meter = SessionMeter()
    name = "conversation.item.input_audio_transcription.completed"
    by_tokens = {"type": "tokens", "input_tokens": 22, "output_tokens": 13, "input_token_details": {"audio_tokens": 22}}
    assert meter.read(event(name, transcript="hi", usage=by_tokens)) == Usage(input_tokens=22, output_tokens=13)
    assert meter.read(event(name, transcript="hi", usage={"type": "duration", "seconds": 3})) is None


def test_decoys() -> None:
    meter = SessionMeter()
    told = json.dumps({"type": "response.done", "response": {"usage": DONE_USAGE}})
    for kind in ("response.output_text.delta", "response.text.delta", "conversation.item.added"):
        assert meter.read(event(kind, delta=told)) is None
    assert meter.read(event("error", error={"message": "response.done"})) is None
    assert meter.total == Usage()


@pytest.mark.parametrize(
    ("text", "speech"),
    [
        ("response.text.delta", "response.audio.delta"),
        ("response.output_text.delta", "response.output_audio.delta"),
        ("response.function_call_arguments.delta", "response.output_audio.delta"),
    ],
)
def test_what_will_not_be_reported_is_estimated(text: str, speech: str) -> None:
    meter = SessionMeter()
    for _ in range(4):
        meter.read(event(text, delta="word"))
    meter.read(event(speech, delta="A" * 32_000))
    rest = meter.unreported()
    assert rest is not None
    assert rest.output_tokens == 4 + 11  # ten tokens of speech, and the event around them
    assert meter.unreported() is None
    meter.read(event(text, delta="word"))
    meter.read(done(DONE_USAGE))
    assert meter.unreported() is None


@given(st.binary(max_size=200))
def test_anything_is_read(received: bytes) -> None:
    SessionMeter().read(b'{"type":"response.done"' + received)
    SessionMeter().read(received)


@pytest.mark.parametrize(
    ("query", "route", "sent"),
    [
        (b"model=voice", "voice", b"model=gpt-realtime"),
        (b"intent=x&model=voice&a=b%20c", "voice", b"intent=x&model=gpt-realtime&a=b%20c"),
        (b"model=a%2Fb", "a/b", b"model=gpt-realtime"),
    ],
)
def test_the_model_in_the_query(query: bytes, route: str, sent: bytes) -> None:
    assert route_of(query) == route
    assert query_for(query, "gpt-realtime") == sent


def test_a_model_name_cannot_break_out_of_the_query() -> None:
    assert query_for(b"model=x", "a b&c=d\r\ne") == b"model=a%20b%26c%3Dd%0D%0Ae"


@pytest.mark.parametrize("query", [b"", b"model=", b"model=a&model=b", b"model=" + b"x" * 501, b"intent=transcription"])
def test_no_model(query: bytes) -> None:
    with pytest.raises(BadRequest):
        route_of(query)


def test_the_key_among_the_subprotocols() -> None:
    assert key_in([b"realtime", b"openai-insecure-api-key.sk-1", b"openai-beta.realtime-v1"]) == b"sk-1"
    assert key_in([b"realtime"]) is None
