"""What OpenAI says of images, audio and moderations (platform.openai.com/docs/api-reference, its SDK 3)."""

import base64
import struct
from collections.abc import Iterator
from typing import Any

from tests.support.shapes import WORD, Tokens, sse

SPEECH = b"ID3" + bytes(range(256)) * 40
PIXEL = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(200)).decode()


def usage(tokens: Tokens) -> dict[str, Any]:
    return {
        "type": "tokens",
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "input_token_details": {"text_tokens": tokens.input, "image_tokens": 0, "audio_tokens": 0},
    }


def images(tokens: Tokens) -> dict[str, Any]:
    return {"created": 1764180000, "data": [{"b64_json": PIXEL}], "usage": usage(tokens)}


def image_events(tokens: Tokens) -> Iterator[bytes]:
    name = "image_generation.partial_image"
    yield sse({"type": name, "b64_json": PIXEL, "partial_image_index": 0}, name=name)
    name = "image_generation.completed"
    yield sse({"type": name, "b64_json": PIXEL, "usage": usage(tokens)}, name=name)


def transcription(tokens: Tokens) -> dict[str, Any]:
    return {"text": WORD * tokens.output, "usage": usage(tokens)}


def transcription_events(tokens: Tokens) -> Iterator[bytes]:
    for _ in range(tokens.output):
        yield sse({"type": "transcript.text.delta", "delta": WORD})
    yield sse({"type": "transcript.text.done", "text": WORD * tokens.output, "usage": usage(tokens)})
    yield b"data: [DONE]\n\n"


def speech_events(tokens: Tokens) -> Iterator[bytes]:
    yield sse({"type": "speech.audio.delta", "audio": base64.b64encode(SPEECH).decode()})
    yield sse({"type": "speech.audio.done", "usage": usage(tokens)})


def moderation(model: str) -> dict[str, Any]:
    result = {"flagged": False, "categories": {"violence": False}, "category_scores": {"violence": 0.01}}
    return {"id": "modr-1", "model": model, "results": [result]}


def packed_embeddings(tokens: Tokens, model: str, texts: int) -> dict[str, Any]:
    """`encoding_format: base64`, which the SDK asks for where the caller says nothing."""
    packed = base64.b64encode(struct.pack("<2f", 0.25, -0.5)).decode()
    return {
        "object": "list",
        "model": model,
        "data": [{"object": "embedding", "index": number, "embedding": packed} for number in range(texts)],
        "usage": {"prompt_tokens": tokens.input, "total_tokens": tokens.input},
    }
