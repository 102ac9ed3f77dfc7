"""What Ollama says on the wire, as docs.ollama.com/api documents it and ollama 0.6 parses it."""

import json
from collections.abc import Iterator
from typing import Any

from tests.support.shapes import WORD, Tokens

MADE_AT = "2025-10-17T23:14:07.414671Z"


def line(document: dict[str, Any]) -> bytes:
    """As Go encodes: compact, a line feed behind it."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _end(tokens: Tokens) -> dict[str, Any]:
    return {
        "done": True,
        "done_reason": "stop",
        "total_duration": 174560334,
        "load_duration": 101397084,
        "prompt_eval_count": tokens.input,
        "prompt_eval_duration": 13074791,
        "eval_count": tokens.output,
        "eval_duration": 52479709,
    }


def _said(name: str, text: str) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": text}} if name == "chat" else {"response": text}


def answer_to(path: str, asked: dict[str, Any], tokens: Tokens) -> tuple[bytes, Iterator[bytes]] | None:
    """Content type and pieces; None for a path that is not Ollama's."""
    name = path.removeprefix("/api/")
    head = {"model": str(asked.get("model", "")), "created_at": MADE_AT}
    told: dict[str, Any]
    if name in ("chat", "generate"):
        if asked.get("stream") is not False:
            lines = [line({**head, **_said(name, WORD), "done": False}) for _ in range(tokens.output)]
            return b"application/x-ndjson", iter([*lines, line({**head, **_said(name, ""), **_end(tokens)})])
        told = {**head, **_said(name, WORD * tokens.output), **_end(tokens)}
    elif name == "embed":
        count = len(asked["input"]) if isinstance(asked.get("input"), list) else 1
        told = {"model": head["model"], "embeddings": [[0.25, -0.5]] * count, "prompt_eval_count": tokens.input}
    elif name == "show":
        details = {"parent_model": "", "format": "gguf", "family": "gemma3", "parameter_size": "270M"}
        told = {"details": details, "capabilities": ["completion"], "modified_at": MADE_AT, "model_info": {}}
    else:
        return None
    return b"application/json; charset=utf-8", iter([line(told).strip()])
