"""Where a provider lists its models, and how the list is read.

Sources: platform.openai.com/docs/api-reference/models, docs.anthropic.com/en/api/models-list, ai.google.dev/api/models,
docs.mistral.ai/api (models), github.com/ollama/ollama/blob/main/docs/api.md (tags).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.dialects import anthropic, mistral, openai
from gateway.dialects.base import Operation
from gateway.dialects.registry import upstream_target
from gateway.policy.model import Dialect

_PATHS: Final[Mapping[Dialect, str]] = {
    Dialect.OPENAI: openai.LISTING_PATH.decode(),
    Dialect.ANTHROPIC: anthropic.LISTING_PATH.decode(),
    Dialect.GEMINI: "/v1beta/models",
    Dialect.MISTRAL: mistral.LISTING_PATH.decode(),
    Dialect.OLLAMA: "/api/tags",
}
_QUERIES: Final[Mapping[Dialect, str]] = {Dialect.ANTHROPIC: "?limit=1000", Dialect.GEMINI: "?pageSize=1000"}
"""The whole list at once, where it has pages."""
HEADERS: Final[Mapping[Dialect, Sequence[tuple[bytes, bytes]]]] = {
    Dialect.ANTHROPIC: ((b"anthropic-version", b"2023-06-01"),)
}
"""What a dialect's provider wants beside the credential."""


def listing_target(dialect: Dialect, base_url: str) -> str | None:
    """Path and query of the list below a provider's base URL; None for HTTP, which has none."""
    path = _PATHS.get(dialect)
    if path is None:
        return None
    operation = Operation(name="models", dialect=dialect, upstream_path=path, listing=True)
    return upstream_target(base_url, operation, "") + _QUERIES.get(dialect, "")


def listed_models(dialect: Dialect, body: bytes) -> tuple[str, ...] | None:
    """Names as a target would write them; None where the body is no such list."""
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    section, field = ("models", "name") if dialect in (Dialect.GEMINI, Dialect.OLLAMA) else ("data", "id")
    # Some servers that are compatible with OpenAI answer with a bare array (api.together.xyz).
    entries = document.get(section) if isinstance(document, dict) else document
    if not isinstance(entries, list):
        return None
    names = [each.get(field) for each in entries if isinstance(each, dict)]
    return tuple(name.removeprefix("models/") for name in names if isinstance(name, str) and name)
