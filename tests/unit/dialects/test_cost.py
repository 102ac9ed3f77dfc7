"""What reading costs: memory always, time where the machine is quiet, measured against what it must undercut."""

import base64
import timeit
import tracemalloc
from collections.abc import Callable, Iterator

import orjson
import pytest

from gateway.dialects.base import Call
from gateway.dialects.registry import HANDLERS, classify
from gateway.policy.model import Dialect
from gateway.wire.heads import check_head
from gateway.wire.json_scan import TopLevelScanner

OPENAI, ANTHROPIC = HANDLERS[Dialect.OPENAI], HANDLERS[Dialect.ANTHROPIC]
CHAT = classify(b"POST", b"/v1/chat/completions", b"", [])
MESSAGES = classify(b"POST", b"/v1/messages", b"", [])
assert CHAT is not None
assert MESSAGES is not None

CHAT_EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"mock","choices":'
    b'[{"index":0,"delta":{"content":" token"},"finish_reason":null}]}\n\n'
)
MESSAGES_EVENT = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta",'
    b'"text":" token"}}\n\n'
)


def twenty_megabytes() -> Iterator[bytes]:
    """A chat with a large image, its model named at the end."""
    yield b'{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:image/png;base64,'
    image = base64.b64encode(bytes(range(256)) * 192)
    for _ in range(305):
        yield image
    yield b'"}}]}],"model":"chat"}'


def test_a_large_body_takes_little_memory() -> None:
    large = OPENAI.large_call(CHAT, b"application/json")
    size = 0
    tracemalloc.start()
    try:
        for chunk in twenty_megabytes():
            large.feed(chunk)
            size += len(chunk)
        call = large.call()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 19_000_000
    assert call.route == "chat"
    assert peak < 1_000_000


def test_an_endless_event_takes_little_memory() -> None:
    for tells_usage in (True, False):
        meter = OPENAI.meter(CHAT, Call(route="r", stream=True, tells_usage=tells_usage), 200, b"text/event-stream")
        passed = 0
        tracemalloc.start()
        try:
            for _ in range(1000):
                piece = b"data: " + b"x" * 16_000
                instead = meter.feed(piece)
                passed += len(piece if instead is None else instead)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert passed + len(meter.end()) == 1000 * 16_006
        assert peak < 2_000_000


def seconds(action: Callable[[], object], times: int) -> float:
    return min(timeit.repeat(action, number=times, repeat=7)) / times


@pytest.mark.serial
@pytest.mark.parametrize("event", [CHAT_EVENT, MESSAGES_EVENT], ids=["chat", "messages"])
def test_an_event_costs_less_than_decoding_it(event: bytes) -> None:
    handler, operation = (OPENAI, CHAT) if event is CHAT_EVENT else (ANTHROPIC, MESSAGES)
    meter = handler.meter(operation, Call(route="r", stream=True, tells_usage=False), 200, b"text/event-stream")
    meter.feed(event)
    data = event[event.index(b"{") :]
    assert seconds(lambda: meter.feed(event), 20_000) < seconds(lambda: orjson.loads(data), 20_000)


@pytest.mark.serial
def test_heads_and_calls_cost_microseconds() -> None:
    headers = [(b"host", b"127.0.0.1:8080"), *[(b"x-header-%d" % i, b"value of the header") for i in range(7)]]
    body = b'{"model":"r","max_tokens":64,"messages":[{"role":"user","content":"Say hello, please."}]}'
    decoding = seconds(lambda: orjson.loads(body), 20_000)
    assert seconds(lambda: check_head(b"POST", b"/v1/chat/completions", "1.1", headers), 20_000) < 10 * decoding
    assert seconds(lambda: OPENAI.read_call(CHAT, b"application/json", body), 20_000) < 20 * decoding


@pytest.mark.serial
def test_scanning_is_linear_and_fast() -> None:
    chunks = list(twenty_megabytes())

    def scan() -> None:
        scanner = TopLevelScanner(("model",))
        for chunk in chunks:
            scanner.feed(chunk)
        scanner.close()

    assert sum(map(len, chunks)) / seconds(scan, 1) > 150e6  # bytes a second
