"""Where model lists lie, and what is one."""

import pytest

from gateway.dialects.model_lists import listed_models, listing_target
from gateway.policy.model import Dialect


@pytest.mark.parametrize(
    ("dialect", "base_url", "target"),
    [
        (Dialect.OPENAI, "https://api.openai.com", "/v1/models"),
        (Dialect.OPENAI, "https://api.openai.com/v1/", "/v1/models"),
        (Dialect.OPENAI, "https://example.com/openai/v1", "/openai/v1/models"),
        (Dialect.ANTHROPIC, "https://api.anthropic.com", "/v1/models?limit=1000"),
        (Dialect.GEMINI, "https://generativelanguage.googleapis.com", "/v1beta/models?pageSize=1000"),
        (Dialect.GEMINI, "https://generativelanguage.googleapis.com/v1beta", "/v1beta/models?pageSize=1000"),
        (Dialect.OLLAMA, "http://127.0.0.1:11434/api", "/api/tags"),
        (Dialect.HTTP, "http://10.0.0.7", None),
    ],
)
def test_target(dialect: Dialect, base_url: str, target: str | None) -> None:
    assert listing_target(dialect, base_url) == target


@pytest.mark.parametrize(
    ("dialect", "body", "names"),
    [
        (Dialect.OPENAI, b'{"data": [{"id": "a"}, {"id": "b"}]}', ("a", "b")),
        (Dialect.OPENAI, b'[{"id": "a"}]', ("a",)),
        (Dialect.OPENAI, b'{"data": []}', ()),
        (Dialect.OPENAI, b'{"data": [{"id": 3}, "x", {"id": ""}]}', ()),
        (Dialect.OPENAI, b'{"models": []}', None),
        (Dialect.OPENAI, b"[1", None),
        (Dialect.OPENAI, b'"text"', None),
        (Dialect.GEMINI, b'{"models": [{"name": "models/g"}, {"name": "tunedModels/t"}]}', ("g", "tunedModels/t")),
        (Dialect.OLLAMA, b'{"models": [{"name": "llama:latest"}]}', ("llama:latest",)),
    ],
)
def test_names(dialect: Dialect, body: bytes, names: tuple[str, ...] | None) -> None:
    assert listed_models(dialect, body) == names
