"""What a provider says on the wire, by dialect: plain answers, and streams as a list of events.

Shapes follow the providers' API references as their official SDKs parse them (openai 3, anthropic 2).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

WORD = " token"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """What one answer uses. `cached` and `cache_written` are parts of `input`, `reasoning` is part of `output`."""

    input: int = 11
    output: int = 7
    cached: int = 0
    cache_written: int = 0
    reasoning: int = 0


def chat(tokens: Tokens, model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": WORD * tokens.output}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1700000000,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": chat_usage(tokens),
        "x_unknown": {"kept": "✓"},
    }


def chat_usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cached},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning},
    }


def chat_events(tokens: Tokens, model: str, tells_usage: bool) -> Iterator[bytes]:
    """One event a token, the end, the usage where it was asked for, `[DONE]`."""

    def event(choices: list[dict[str, Any]], **more: Any) -> bytes:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000, "model": model}
        return sse({**head, "choices": choices, **more})

    # Where usage was asked for, the provider writes `"usage": null` into every other event.
    unknown = {"usage": None} if tells_usage else {}
    yield event([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}], **unknown)
    for _ in range(tokens.output):
        yield event([{"index": 0, "delta": {"content": WORD}, "finish_reason": None}], **unknown)
    yield event([{"index": 0, "delta": {}, "finish_reason": "stop"}], **unknown)
    if tells_usage:
        yield event([], usage=chat_usage(tokens))
    yield b"data: [DONE]\n\n"


def completion(tokens: Tokens, model: str) -> dict[str, Any]:
    return {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1700000000,
        "model": model,
        "choices": [{"index": 0, "text": WORD * tokens.output, "finish_reason": "stop", "logprobs": None}],
        "usage": chat_usage(tokens),
    }


def completion_events(tokens: Tokens, model: str, tells_usage: bool) -> Iterator[bytes]:
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1700000000, "model": model}
    for number in range(tokens.output):
        finish = "stop" if number == tokens.output - 1 else None
        yield sse({**head, "choices": [{"index": 0, "text": WORD, "finish_reason": finish, "logprobs": None}]})
    if tells_usage:
        yield sse({**head, "choices": [], "usage": chat_usage(tokens)})
    yield b"data: [DONE]\n\n"


def embeddings(tokens: Tokens, model: str, texts: int) -> dict[str, Any]:
    return {
        "object": "list",
        "model": model,
        "data": [{"object": "embedding", "index": number, "embedding": [0.25, -0.5]} for number in range(texts)],
        "usage": {"prompt_tokens": tokens.input, "total_tokens": tokens.input},
    }


def response(tokens: Tokens, model: str, status: str = "completed") -> dict[str, Any]:
    done = status == "completed"
    part = {"type": "output_text", "text": WORD * tokens.output, "annotations": []}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    usage = {
        "input_tokens": tokens.input,
        "input_tokens_details": {"cached_tokens": tokens.cached},
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.input + tokens.output,
    }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1700000000,
        "status": status,
        "model": model,
        "output": [item] if done else [],
        "usage": usage if done else None,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
    }


def response_events(tokens: Tokens, model: str) -> Iterator[bytes]:
    numbers = iter(range(1_000_000))

    def event(kind: str, **fields: Any) -> bytes:
        return sse({"type": kind, "sequence_number": next(numbers), **fields}, name=kind)

    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    text = WORD * tokens.output
    part = {"type": "output_text", "text": text, "annotations": []}
    yield event("response.created", response=response(tokens, model, "in_progress"))
    yield event("response.output_item.added", output_index=0, item=item)
    yield event("response.content_part.added", **place, part={**part, "text": ""})
    for _ in range(tokens.output):
        yield event("response.output_text.delta", **place, delta=WORD, logprobs=[])
    yield event("response.output_text.done", **place, text=text, logprobs=[])
    yield event("response.content_part.done", **place, part=part)
    yield event("response.output_item.done", output_index=0, item={**item, "status": "completed", "content": [part]})
    yield event("response.completed", response=response(tokens, model))


def message(tokens: Tokens, model: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": WORD * tokens.output}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {**message_input_usage(tokens), "output_tokens": tokens.output},
        "x_unknown": {"kept": "✓"},
    }


def message_input_usage(tokens: Tokens) -> dict[str, Any]:
    """Anthropic counts cached and cache-written tokens beside `input_tokens`, not in it."""
    return {
        "input_tokens": tokens.input - tokens.cached - tokens.cache_written,
        "cache_creation_input_tokens": tokens.cache_written,
        "cache_read_input_tokens": tokens.cached,
    }


def message_events(tokens: Tokens, model: str) -> Iterator[bytes]:
    def event(kind: str, **fields: Any) -> bytes:
        return sse({"type": kind, **fields}, name=kind)

    start = {**message(tokens, model), "content": [], "stop_reason": None}
    start["usage"] = {**message_input_usage(tokens), "output_tokens": 1}
    yield event("message_start", message=start)
    yield event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    yield event("ping")
    for _ in range(tokens.output):
        yield event("content_block_delta", index=0, delta={"type": "text_delta", "text": WORD})
    yield event("content_block_stop", index=0)
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    yield event("message_delta", delta=delta, usage={"output_tokens": tokens.output})
    yield event("message_stop")


def sse(value: dict[str, Any], name: str = "") -> bytes:
    prefix = f"event: {name}\n" if name else ""
    return f"{prefix}data: {json.dumps(value, separators=(',', ':'), ensure_ascii=False)}\n\n".encode()
