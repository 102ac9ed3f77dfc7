"""Answers of upstreams: whatever they send, meters never raise, and callers get what was sent.

Invariants: (1) no exception; (2) usage, reason and output are the same at any chunking; (3) unless metering asked for
usage by itself, every byte passes; (4) otherwise what is missing is whole events that tell usage without choices, and
`"usage":null` of the others.
"""

from dataclasses import replace
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gateway.dialects.base import Meter
from gateway.wire.sse import split_events
from tests.fuzz.mutations import mutated
from tests.unit.dialects.golden import GOLDEN, Golden
from tests.unit.wire.cutting import cut_at

SMALL = [case for case in GOLDEN if len(case.answer) < 10_000]
TOKENS = [
    b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"data: ", b"data:", b": c\n\n", b"event: message_delta\n", b"[DONE]",
    b'"usage":{"prompt_tokens":1}', b'"usage":{"output_tokens":-1}', b'"usage":{"input_tokens":1e400}',
    b'"choices":[],', b',"usage":null', b', "usage": null', b'"usage":', b',"usage":null,"usage":null',
    b'"finish_reason":null', b'"finish_reason": null', b'.delta"', b'_block_delta"', b"{", b"}", b"\xff", b"null",
    b"[", b"]", b",", b'"candidates":[1],', b'"finishReason":"STOP",', b'"usageMetadata":{"candidatesTokenCount":4},',
    b'"done":false', b'"done":true', b'"done": false', b'"eval_count":-1,', b'{"error":"x"}\n', b'"', b"\\",
]  # fmt: skip


MARKS = (b'"finish_reason":null', b'"finish_reason": null', b'.delta"', b'_block_delta"', b'"done":false')
"""No honest upstream writes one twice in an event: it could hide its usage so, but then it need not tell it at all."""


def read(meter: Meter, pieces: list[bytes]) -> tuple[bytes, Any]:
    passed = b""
    for piece in pieces:
        instead = meter.feed(piece)
        passed += piece if instead is None else instead
    passed += meter.end()
    assert meter.estimate().output_tokens >= 0
    return passed, (meter.usage, meter.finish_reason, meter.model, meter.events)


@settings(max_examples=150)
@given(
    case=st.sampled_from(SMALL),
    answer=mutated([case.answer for case in SMALL], TOKENS),
    places=st.lists(st.integers(0, 6000), max_size=8),
    asked=st.booleans(),
)
def test_answers(case: Golden, answer: bytes, places: list[int], asked: bool) -> None:
    assume(answer)
    events = answer.splitlines() if "ndjson" in case.expected["content_type"] else split_events(answer)
    assume(not any(event.count(mark) > 1 for event in events for mark in MARKS))
    call = case.call() if asked else replace(case.call(), tells_usage=False)
    passed, told = read(case.meter(call), cut_at(answer, places))
    assert (passed, told) == read(case.meter(call), [answer])
    filtered = case.operation.name in ("chat", "completions", "fim") and "event-stream" in case.expected["content_type"]
    if asked or not filtered:
        assert passed == answer
        return
    left = iter(split_events(passed))
    expected = next(left, None)
    for event in split_events(answer):
        if event.replace(b',"usage":null', b"").replace(b', "usage": null', b"") == expected:
            expected = next(left, None)
        else:
            assert b'"usage"' in event or b"\\u" in event
            assert b'"choices"' in event or b"\\u" in event
    assert expected is None
