from urllib.parse import urlsplit

import pytest

from gateway.dialects.registry import classify, dialect_of, is_data_plane_path, join_base_url, upstream_target
from gateway.policy.model import Dialect

ANTHROPIC = [(b"anthropic-version", b"2023-06-01")]

CALLS = {
    b"/v1/chat/completions": ("openai", "chat", "/v1/chat/completions"),
    b"/v1/responses": ("openai", "responses", "/v1/responses"),
    b"/v1/completions": ("openai", "completions", "/v1/completions"),
    b"/v1/embeddings": ("openai", "embeddings", "/v1/embeddings"),
    b"/v1/moderations": ("openai", "moderations", "/v1/moderations"),
    b"/v1/images/generations": ("openai", "images", "/v1/images/generations"),
    b"/v1/images/upscale": ("openai", "images", "/v1/images/upscale"),
    b"/v1/audio/transcriptions": ("openai", "audio", "/v1/audio/transcriptions"),
    b"/v1/messages": ("anthropic", "messages", "/v1/messages"),
    b"/v1/messages/count_tokens": ("anthropic", "count_tokens", "/v1/messages/count_tokens"),
    b"/openai/v1/chat/completions": ("openai", "chat", "/v1/chat/completions"),
    b"/openai/chat/completions": ("openai", "chat", "/v1/chat/completions"),
    b"/openai/v1/images/upscale": ("openai", "images", "/v1/images/upscale"),
    b"/openai/audio/any": ("openai", "audio", "/v1/audio/any"),
    b"/anthropic/v1/messages": ("anthropic", "messages", "/v1/messages"),
    b"/v1/fim/completions": ("mistral", "fim", "/v1/fim/completions"),
    b"/mistral/v1/chat/completions": ("mistral", "chat", "/v1/chat/completions"),
    b"/mistral/v1/embeddings": ("mistral", "embeddings", "/v1/embeddings"),
    b"/mistral/fim/completions": ("mistral", "fim", "/v1/fim/completions"),
    b"/anthropic/messages/count_tokens": ("anthropic", "count_tokens", "/v1/messages/count_tokens"),
}


NATIVE = {
    b"/v1beta/models/a:generateContent": ("generateContent", "a", "/v1beta/models/m:generateContent"),
    b"/v1/models/a:streamGenerateContent": ("streamGenerateContent", "a", "/v1/models/m:streamGenerateContent"),
    b"/v1/models/a/b:embedContent": ("embedContent", "a/b", "/v1/models/m:embedContent"),
    b"/v1beta/models/a%2Fb%3Ac%3AcountTokens": ("countTokens", "a/b:c", "/v1beta/models/m:countTokens"),
    b"/v1/tunedModels/a:generateContent": ("generateContent", "tunedModels/a", "/v1/models/m:generateContent"),
    b"/gemini/models/a:batchEmbedContents": ("batchEmbedContents", "a", "/v1beta/models/m:batchEmbedContents"),
    b"/gemini/v1alpha/models/a:countTokens": ("countTokens", "a", "/v1alpha/models/m:countTokens"),
    b"/api/chat": ("chat", None, "/api/chat"),
    b"/ollama/api/generate": ("generate", None, "/api/generate"),
    b"/api/embed": ("embed", None, "/api/embed"),
    b"/ollama/api/show": ("show", None, "/api/show"),
}  # fmt: skip


@pytest.mark.parametrize("path", NATIVE)
def test_gemini_and_ollama(path: bytes) -> None:
    operation = classify(b"POST", path, b"", [])
    assert operation is not None
    target = upstream_target("http://h", operation, "m")
    assert operation.dialect is (Dialect.OLLAMA if b"/api/" in path else Dialect.GEMINI)
    assert (operation.name, operation.model, target) == NATIVE[path]
    assert is_data_plane_path(path)
    assert classify(b"PUT", path, b"", []) is None


@pytest.mark.parametrize(
    ("base", "model", "path", "target"),
    [
        ("https://g.example", "models/x", b"/v1/models/a:countTokens", "/v1/models/x:countTokens"),
        ("https://g.example/v1beta", "x", b"/v1/models/a:countTokens", "/v1beta/models/x:countTokens"),
        ("https://g.example/v1/", "tunedModels/x", b"/v1/models/a:countTokens", "/v1/tunedModels/x:countTokens"),
        ("https://g.example", "a b?c#d%", b"/v1/models/a:countTokens", "/v1/models/a%20b%3Fc%23d%25:countTokens"),
        ("http://o.example:11434", "gemma3:270m", b"/api/chat", "/api/chat"),
        ("http://o.example:11434/", "gemma3:270m", b"/api/chat", "/api/chat"),
        ("http://o.example:11434/api", "gemma3:270m", b"/ollama/api/chat", "/api/chat"),
        ("http://o.example/behind/proxy", "gemma3:270m", b"/api/chat", "/behind/proxy/api/chat"),
    ],
)  # fmt: skip
def test_targets_of_gemini_and_ollama(base: str, model: str, path: bytes, target: str) -> None:
    operation = classify(b"POST", path, b"", [])
    assert operation is not None
    assert upstream_target(base, operation, model) == target


KEYED = [(b"x-goog-api-key", b"k")]


@pytest.mark.parametrize(
    ("path", "query", "headers", "dialect", "model"),
    [
        (b"/v1/models", b"", KEYED, "gemini", None),
        (b"/v1/models", b"key=k", [], "gemini", None),
        (b"/v1/models", b"pageSize=5&key=k", [], "gemini", None),
        (b"/v1/models", b"monkey=k", [], "openai", None),
        (b"/v1/models", b"", [*ANTHROPIC, *KEYED], "anthropic", None),
        (b"/v1/models/a%2Fb", b"key=k", [], "gemini", "a/b"),
        (b"/v1beta/models", b"", [], "gemini", None),
        (b"/v1beta/models/a/b", b"", [], "gemini", "a/b"),
        (b"/gemini/models", b"", [], "gemini", None),
        (b"/gemini/v1/models/a", b"", ANTHROPIC, "gemini", "a"),
        (b"/openai/v1/models", b"key=k", KEYED, "openai", None),
        (b"/api/tags", b"", [], "ollama", None),
        (b"/ollama/api/tags", b"", KEYED, "ollama", None),
        (b"/api/version", b"", [], "ollama", None),
    ],
)
def test_listings_of_gemini_and_ollama(
    path: bytes, query: bytes, headers: list[tuple[bytes, bytes]], dialect: str, model: str | None
) -> None:
    operation = classify(b"GET", path, query, headers)
    assert operation is not None
    assert (operation.dialect.value, operation.model, operation.listing) == (dialect, model, True)


def test_what_gemini_and_ollama_have_not() -> None:
    for path in (b"/v1beta/models/a:foo", b"/v1beta/models/:countTokens", b"/v1beta/models/a", b"/v1beta/files",
                 b"/v1betas/models/a:countTokens", b"/v1alpha/models/a:countTokens", b"/ollama/api/pull", b"/api/chats",
                 b"/ollama/v1/chat/completions", b"/api/embeddings"):  # fmt: skip
        assert classify(b"POST", path, b"", KEYED) is None
    assert classify(b"GET", b"/api/chat", b"", []) is None
    for path, dialect in ((b"/v1beta/files", "gemini"), (b"/v1/foo", "gemini"), (b"/api/chat", "ollama"),
                          (b"/ollama/x", "ollama"), (b"/api/v1/routes", "http"), (b"/api/chats", "http"),
                          (b"/api/docs", "http"), (b"/api/openapi.json", "http")):  # fmt: skip
        assert dialect_of(path, b"", KEYED) == dialect
        assert is_data_plane_path(path) == (dialect != "http")


@pytest.mark.parametrize("path", CALLS)
def test_calls(path: bytes) -> None:
    operation = classify(b"POST", path, b"", [])
    assert operation is not None
    assert (operation.dialect.value, operation.name, operation.upstream_path) == CALLS[path]
    assert not operation.listing
    assert is_data_plane_path(path)
    assert dialect_of(path, b"", []) == operation.dialect
    assert classify(b"GET", path, b"", []) is None


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/foo",
        b"/v1/images/",
        b"/v1/images/a//b",
        b"/v1/images/..%2f",
        b"/v1/chat/completions/",
        b"/openai/v1/messages",
        b"/anthropic/v1/chat/completions",
        b"/anthropic/v1/images/edits",
        b"/mistral/v1/responses",
        b"/openai/v1/fim/completions",
        b"/api/v1/routes",
        b"/v2/chat/completions",
    ],
)
def test_unlisted_paths(path: bytes) -> None:
    assert classify(b"POST", path, b"", ANTHROPIC) is None


MISTRALS = [
    [(b"user-agent", b"mistral-client-python/3.7.0")],
    [(b"host", b"x"), (b"user-agent", b"speakeasy-sdk/typescript 1.10.0 2.634.2 1.0.0 @mistralai/mistralai")],
]


@pytest.mark.parametrize("headers", MISTRALS)
def test_the_user_agent_settles_what_openai_and_mistral_share(headers: list[tuple[bytes, bytes]]) -> None:
    for path in (b"/v1/chat/completions", b"/v1/embeddings"):
        operation = classify(b"POST", path, b"", headers)
        assert operation is not None
        assert (operation.dialect, operation.twin) == (Dialect.MISTRAL, Dialect.OPENAI)
        operation = classify(b"POST", path, b"", [(b"user-agent", b"OpenAI/Python 3.54.0")])
        assert operation is not None
        assert (operation.dialect, operation.twin) == (Dialect.OPENAI, Dialect.MISTRAL)
    listing = classify(b"GET", b"/v1/models", b"", headers)
    assert listing is not None
    assert listing.dialect is Dialect.MISTRAL
    for path, dialect in (
        (b"/v1/responses", "openai"),
        (b"/v1/messages", "anthropic"),
        (b"/openai/chat/completions", "openai"),
    ):
        operation = classify(b"POST", path, b"", headers)
        assert operation is not None
        assert (operation.dialect.value, operation.twin) in ((dialect, None), ("openai", Dialect.MISTRAL))
    assert dialect_of(b"/v1/foo", b"", headers) is Dialect.MISTRAL


LISTINGS = {
    (b"/v1/models", False): ("openai", None),
    (b"/v1/models", True): ("anthropic", None),
    (b"/v1/models/chat", False): ("openai", "chat"),
    (b"/v1/models/org%2Fname", True): ("anthropic", "org/name"),
    (b"/v1/models/org/name", False): ("openai", "org/name"),
    (b"/openai/v1/models", True): ("openai", None),
    (b"/openai/models/chat", True): ("openai", "chat"),
    (b"/anthropic/v1/models", False): ("anthropic", None),
    (b"/mistral/v1/models", True): ("mistral", None),
    (b"/mistral/models/chat", False): ("mistral", "chat"),
}


@pytest.mark.parametrize(("path", "anthropic"), LISTINGS)
def test_listings(path: bytes, anthropic: bool) -> None:
    operation = classify(b"GET", path, b"", ANTHROPIC if anthropic else [])
    assert operation is not None
    assert operation.listing
    assert (operation.dialect.value, operation.model) == LISTINGS[path, anthropic]


def test_no_listing() -> None:
    assert classify(b"GET", b"/v1/modelsx", b"", []) is None
    assert classify(b"DELETE", b"/v1/models/chat", b"", []) is None


def test_unknown_paths_are_answered_in_a_dialect() -> None:
    assert is_data_plane_path(b"/v1/foo")
    assert is_data_plane_path(b"/openai/foo")
    assert not is_data_plane_path(b"/api/v1/foo")
    assert not is_data_plane_path(b"/v1betas")
    assert dialect_of(b"/v1/foo", b"", []) is Dialect.OPENAI
    assert dialect_of(b"/v1/foo", b"", ANTHROPIC) is Dialect.ANTHROPIC
    assert dialect_of(b"/v1/messages/batches", b"", []) is Dialect.ANTHROPIC
    assert dialect_of(b"/openai/foo", b"", ANTHROPIC) is Dialect.OPENAI
    assert dialect_of(b"/console/", b"", ANTHROPIC) is Dialect.HTTP


@pytest.mark.parametrize(
    ("base", "path", "url"),
    [
        ("https://api.openai.com/v1", b"/v1/chat/completions", "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com/v1/", b"/v1/chat/completions", "https://api.openai.com/v1/chat/completions"),
        ("https://api.openai.com", b"/v1/chat/completions", "https://api.openai.com/v1/chat/completions"),
        ("http://127.0.0.1:9200/", b"/v1/embeddings", "http://127.0.0.1:9200/v1/embeddings"),
        ("http://v1.example", b"/v1/embeddings", "http://v1.example/v1/embeddings"),
        ("https://h/v1beta/openai", b"/v1/chat/completions", "https://h/v1beta/openai/chat/completions"),
        ("https://h/api/paas/v4", b"/v1/chat/completions", "https://h/api/paas/v4/chat/completions"),
        ("https://h/openai/v1", b"/v1/chat/completions", "https://h/openai/v1/chat/completions"),
        ("https://h/vault", b"/v1/chat/completions", "https://h/vault/v1/chat/completions"),
        ("https://api.anthropic.com", b"/v1/messages", "https://api.anthropic.com/v1/messages"),
        ("https://api.anthropic.com/v1", b"/v1/messages/count_tokens", "https://api.anthropic.com/v1/messages/count_tokens"),
        ("https://h/anthropic", b"/v1/messages", "https://h/anthropic/v1/messages"),
    ],
)  # fmt: skip
def test_base_urls(base: str, path: bytes, url: str) -> None:
    operation = classify(b"POST", path, b"", [])
    assert operation is not None
    assert join_base_url(base, operation, "m") == url
    assert upstream_target(base, operation, "m") == urlsplit(url).path
