"""What Mistral says on the wire (docs.mistral.ai/api, SDK mistralai 3): usage in the last chunk unasked."""

from collections.abc import Iterator
from typing import Any

from tests.support.shapes import WORD, Tokens, sse

ID = "cmpl-e5cc70bb28c444948073e77776eb30ef"


def usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "prompt_tokens": tokens.input,
        "total_tokens": tokens.input + tokens.output,
        "completion_tokens": tokens.output,
        "num_cached_tokens": tokens.cached,
    }


def completion(tokens: Tokens, model: str) -> dict[str, Any]:
    """Of a chat, and of fill-in-the-middle."""
    message = {"role": "assistant", "content": WORD * tokens.output, "tool_calls": None}
    return {
        "id": ID,
        "object": "chat.completion",
        "created": 1764180000,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage(tokens),
    }


def events(tokens: Tokens, model: str) -> Iterator[bytes]:
    """One event a token; the last one says why it ended and what it used."""

    def event(content: str, finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
        head = {"id": ID, "object": "chat.completion.chunk", "created": 1764180000, "model": model}
        return sse({**head, "choices": [choice], **more})

    yield event("")
    for _ in range(tokens.output - 1):
        yield event(WORD)
    yield event(WORD, "stop", usage=usage(tokens))
    yield b"data: [DONE]\n\n"


def embeddings(tokens: Tokens, model: str, texts: int) -> dict[str, Any]:
    return {
        "id": ID,
        "object": "list",
        "model": model,
        "data": [{"object": "embedding", "index": number, "embedding": [0.25, -0.5]} for number in range(texts)],
        "usage": {"prompt_tokens": tokens.input, "total_tokens": tokens.input, "completion_tokens": 0},
    }
