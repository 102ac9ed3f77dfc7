"""What Gemini says on the wire, as ai.google.dev/api documents it and google-genai 3 parses it."""

import json
from collections.abc import Iterator
from typing import Any

from tests.support.shapes import WORD, Tokens


def usage(tokens: Tokens, spoken: int | None = None) -> dict[str, Any]:
    """`spoken`: candidates' tokens so far; all of them by default."""
    told = tokens.output - tokens.reasoning if spoken is None else spoken
    report = {
        "promptTokenCount": tokens.input,
        "candidatesTokenCount": told,
        "totalTokenCount": tokens.input + told + tokens.reasoning,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens.input}],
    }
    if tokens.reasoning:
        report["thoughtsTokenCount"] = tokens.reasoning
    if tokens.cached:
        report["cachedContentTokenCount"] = tokens.cached
    return report


def _answer(parts: list[dict[str, Any]], model: str, told: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "candidates": [{"content": {"parts": parts, "role": "model"}, **more, "index": 0}],
        "usageMetadata": told,
        "modelVersion": model,
        "responseId": "r-1 ✓",
    }


def generated(tokens: Tokens, model: str, asked: dict[str, Any]) -> dict[str, Any]:
    declared = [tool for tool in asked.get("tools") or [] if tool.get("functionDeclarations")]
    parts: list[dict[str, Any]] = [{"text": WORD * tokens.output}]
    if declared:
        called = declared[0]["functionDeclarations"][0]["name"]
        parts = [{"functionCall": {"name": called, "args": {"city": "Zürich", "usageMetadata": {}}}}]
    return _answer(parts, model, usage(tokens), finishReason="STOP")


def generated_events(tokens: Tokens, model: str) -> Iterator[dict[str, Any]]:
    """One event a token; each tells the usage so far."""
    spoken = tokens.output - tokens.reasoning
    for number in range(tokens.output):
        last = number == tokens.output - 1
        more = {"finishReason": "STOP"} if last else {}
        yield _answer([{"text": WORD}], model, usage(tokens, spoken if last else min(number + 1, spoken)), **more)


def as_events(answers: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    for answer in answers:
        yield b"data: %b\r\n\r\n" % json.dumps(answer, ensure_ascii=False).encode()


def as_array(answers: Iterator[dict[str, Any]]) -> Iterator[bytes]:
    begin = b"["
    for answer in answers:
        yield begin + json.dumps(answer, ensure_ascii=False, indent=2).encode() + b"\n"
        begin = b",\r\n"
    yield b"]\n"


def error(status: int) -> dict[str, Any]:
    words = {400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 429: "RESOURCE_EXHAUSTED"}
    return {"error": {"code": status, "message": "asked to fail", "status": words.get(status, "INTERNAL")}}


def answer_to(target: str, asked: dict[str, Any], tokens: Tokens) -> tuple[bytes, Iterator[bytes]] | None:
    """Content type and pieces; None for a target that is not Gemini's."""
    path, _, query = target.partition("?")
    resource, colon, verb = path.rpartition(":")
    if not colon or not path.startswith("/v1") or "odels/" not in resource:
        return None
    model = resource.partition("odels/")[2]
    if verb == "streamGenerateContent":
        answers = generated_events(tokens, model)
        if "alt=sse" in query.split("&"):
            return b"text/event-stream", as_events(answers)
        return b"application/json; charset=UTF-8", as_array(answers)
    told: dict[str, Any]
    match verb:
        case "generateContent":
            told = generated(tokens, model, asked)
        case "countTokens":
            told = {"totalTokens": tokens.input}
        case "embedContent":
            told = {"embedding": {"values": [0.25, -0.5]}, "usageMetadata": {"promptTokenCount": tokens.input}}
        case "batchEmbedContents":
            told = {"embeddings": [{"values": [0.25, -0.5]} for _ in asked.get("requests", [])]}
        case _:
            return None
    return b"application/json; charset=UTF-8", iter([json.dumps(told, ensure_ascii=False).encode()])
