"""Errors and model lists as the official SDKs read them."""

from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import openai
import orjson
import pytest

from gateway.dialects.base import Operation
from gateway.dialects.metering import NullMeter
from gateway.dialects.registry import HANDLERS
from gateway.errors import (
    BadRequest,
    BodyTooLarge,
    CredentialsRefused,
    LimitExceeded,
    RouteNotAllowed,
    RouteNotFound,
    SluicegateError,
    Unauthenticated,
    Unavailable,
    UpstreamTimeout,
)
from gateway.policy.model import Dialect

ERRORS: list[tuple[SluicegateError, type[Exception], str, type[Exception], str]] = [
    (BadRequest("x is wrong", fix="send y", param="x"), openai.BadRequestError, "invalid_request_error",
     anthropic.BadRequestError, "invalid_request_error"),
    (Unauthenticated("no such key"), openai.AuthenticationError, "authentication_error",
     anthropic.AuthenticationError, "authentication_error"),
    (RouteNotAllowed("not yours"), openai.PermissionDeniedError, "permission_error",
     anthropic.PermissionDeniedError, "permission_error"),
    (RouteNotFound("no route", routes_allowed=["chat"]), openai.NotFoundError, "not_found_error",
     anthropic.NotFoundError, "not_found_error"),
    (BodyTooLarge("too large"), openai.APIStatusError, "invalid_request_error",
     anthropic.APIStatusError, "request_too_large"),
    (LimitExceeded("used up", limit="burst", used=9, at_most=9, resets_at="2026-11-23T18:00:00Z"),
     openai.RateLimitError, "rate_limit_error", anthropic.RateLimitError, "rate_limit_error"),
    (CredentialsRefused("refused"), openai.InternalServerError, "server_error",
     anthropic.InternalServerError, "api_error"),
    (Unavailable("away"), openai.InternalServerError, "server_error",
     anthropic.InternalServerError, "overloaded_error"),
    (UpstreamTimeout("late"), openai.InternalServerError, "server_error",
     anthropic.InternalServerError, "timeout_error"),
]  # fmt: skip


def listing_of(dialect: Dialect, model: str | None = None) -> Operation:
    return Operation(name="models", dialect=dialect, upstream_path="/v1/models", listing=True, model=model)


def answering(status: int, body: bytes, content_type: str = "application/json") -> httpx2.MockTransport:
    """The SDKs' own transport seam: what is tested is our body, read by their code."""
    headers = {"content-type": content_type, "x-should-retry": "false"}
    return httpx2.MockTransport(lambda request: httpx2.Response(status, content=body, headers=headers))


def openai_client(transport: httpx2.MockTransport) -> openai.OpenAI:
    return openai.OpenAI(api_key="k", base_url="http://g/v1", http_client=httpx2.Client(transport=transport))


def anthropic_client(transport: httpx2.MockTransport) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="k", base_url="http://g", http_client=httpx2.Client(transport=transport))


CASES = [pytest.param(*case, id=case[0].code) for case in ERRORS]


@pytest.mark.parametrize(("error", "raised", "kind", "_raised", "_kind"), CASES)
def test_openai(error: SluicegateError, raised: type[Exception], kind: str, _raised: object, _kind: object) -> None:
    body = HANDLERS[Dialect.OPENAI].render_error(error, "req1")
    client = openai_client(answering(error.status, body))
    with client, pytest.raises(raised) as caught:
        client.chat.completions.create(model="m", messages=[])
    problem: Any = caught.value
    assert type(problem) is raised
    assert problem.code == error.code
    assert problem.type == kind
    assert problem.param == error.fields.get("param")
    assert str(error) in str(problem)
    assert problem.body["sluicegate"] == {"fix": error.fix, "request_id": "req1", **error.fields}


@pytest.mark.parametrize(("error", "_raised", "_kind", "raised", "kind"), CASES)
def test_anthropic(error: SluicegateError, raised: type[Exception], kind: str, _raised: object, _kind: object) -> None:
    body = HANDLERS[Dialect.ANTHROPIC].render_error(error, "req1")
    client = anthropic_client(answering(error.status, body))
    with client, pytest.raises(anthropic.APIStatusError) as caught:
        client.messages.create(model="m", max_tokens=1, messages=[])
    problem: Any = caught.value
    assert isinstance(problem, raised)
    assert problem.body["type"] == "error"
    assert problem.body["error"]["type"] == kind
    assert problem.body["error"]["message"] == str(error)
    assert problem.body["request_id"] == "req1"
    assert problem.body["error"]["sluicegate"]["code"] == error.code


def test_a_limit_that_never_comes_back_is_no_rate_limit() -> None:
    error = LimitExceeded("used up")
    error.retryable = False
    told = orjson.loads(HANDLERS[Dialect.OPENAI].render_error(error, "r"))
    assert told["error"]["type"] == "insufficient_quota"


def test_http() -> None:
    told = orjson.loads(HANDLERS[Dialect.HTTP].render_error(Unavailable("away", fix="wait"), "r"))["error"]
    assert told == {"status": 503, "code": "unavailable", "message": "away; wait", "fix": "wait", "request_id": "r"}


SSE = b"text/event-stream"
CHUNK = (
    b'data: {"id":"1","object":"chat.completion.chunk","created":1,"model":"m",'
    b'"choices":[{"index":0,"delta":{"content":"Hi"},"finish_reason":null}]}\n\n'
)


def test_openai_stream() -> None:
    event = HANDLERS[Dialect.OPENAI].render_stream_error(UpstreamTimeout("late"), "req1", SSE, NullMeter())
    client = openai_client(answering(200, CHUNK + event, "text/event-stream"))
    with client:
        stream = client.chat.completions.create(model="m", messages=[], stream=True)
        assert next(stream).choices[0].delta.content == "Hi"
        with pytest.raises(openai.APIError, match="late") as caught:
            next(stream)
    assert caught.value.code == "upstream_timeout"


def test_openai_responses_stream() -> None:
    event = HANDLERS[Dialect.OPENAI].render_stream_error(UpstreamTimeout("late"), "req1", SSE, NullMeter())
    client = openai_client(answering(200, event, "text/event-stream"))
    with client:
        stream = client.responses.create(model="m", input="x", stream=True)
        with pytest.raises(openai.APIError, match="late"):
            next(stream)


def test_anthropic_stream() -> None:
    event = HANDLERS[Dialect.ANTHROPIC].render_stream_error(UpstreamTimeout("late"), "req1", SSE, NullMeter())
    client = anthropic_client(answering(200, event, "text/event-stream"))
    with client:
        stream = client.messages.create(model="m", max_tokens=1, messages=[], stream=True)
        with pytest.raises(anthropic.APIStatusError, match="late"):
            next(stream)


@pytest.mark.parametrize("names", [["chat", "org/embed"], []])
def test_openai_models(names: list[str]) -> None:
    handler = HANDLERS[Dialect.OPENAI]
    with openai_client(answering(200, handler.render_listing(listing_of(Dialect.OPENAI), names))) as client:
        assert [model.id for model in client.models.list()] == names
    with openai_client(answering(200, handler.render_listing(listing_of(Dialect.OPENAI, "chat"), ["chat"]))) as client:
        assert client.models.retrieve("chat").id == "chat"


@pytest.mark.parametrize("names", [["chat", "org/embed"], []])
def test_anthropic_models(names: list[str]) -> None:
    handler = HANDLERS[Dialect.ANTHROPIC]
    with anthropic_client(answering(200, handler.render_listing(listing_of(Dialect.ANTHROPIC), names))) as client:
        assert [model.id for model in client.models.list()] == names
    with anthropic_client(
        answering(200, handler.render_listing(listing_of(Dialect.ANTHROPIC, "chat"), ["chat"]))
    ) as client:
        assert client.models.retrieve("chat").display_name == "chat"


def pages(request: httpx2.Request) -> httpx2.Response:
    body = HANDLERS[Dialect.ANTHROPIC].render_listing(listing_of(Dialect.ANTHROPIC), MANY, request.url.query)
    return httpx2.Response(200, content=body, headers={"content-type": "application/json"})


MANY = [f"route-{number:03}" for number in range(57)]


@pytest.mark.parametrize("limit", [None, 1, 10, 57, 1000])
def test_anthropic_models_in_pages(limit: int | None) -> None:
    """The SDK asks for the pages one by one, forwards; backwards it is asked to."""
    with anthropic_client(httpx2.MockTransport(pages)) as client:
        forwards = client.models.list() if limit is None else client.models.list(limit=limit)
        assert [model.id for model in forwards] == MANY
        size = limit or 20
        last = client.models.list(before_id="route-040", limit=size)
        assert [model.id for model in last.data] == MANY[max(0, 40 - size) : 40]
        assert last.has_more == (size < 40)
        gone = client.models.list(after_id="route-0405", limit=size)
        assert [model.id for model in gone.data] == MANY[41 : 41 + size]


@pytest.mark.parametrize(
    "query", [b"limit=0", b"limit=1001", b"limit=x", b"limit=" + b"9" * 9, b"after_id=a&before_id=b"]
)
def test_anthropic_pages_that_are_none(query: bytes) -> None:
    with pytest.raises(BadRequest):
        HANDLERS[Dialect.ANTHROPIC].render_listing(listing_of(Dialect.ANTHROPIC), MANY, query)


CREDENTIALS: dict[Dialect, Callable[[str], tuple[bytes, bytes]]] = {
    Dialect.OPENAI: lambda secret: (b"authorization", f"Bearer {secret}".encode()),
    Dialect.ANTHROPIC: lambda secret: (b"x-api-key", secret.encode()),
    Dialect.GEMINI: lambda secret: (b"x-goog-api-key", secret.encode()),
    Dialect.OLLAMA: lambda secret: (b"authorization", f"Bearer {secret}".encode()),
    Dialect.HTTP: lambda secret: (b"authorization", f"Bearer {secret}".encode()),
    Dialect.MISTRAL: lambda secret: (b"authorization", f"Bearer {secret}".encode()),
}


@pytest.mark.parametrize("dialect", CREDENTIALS)
def test_credentials(dialect: Dialect) -> None:
    assert list(HANDLERS[dialect].credential_headers("s3")) == [CREDENTIALS[dialect]("s3")]


def test_http_credential_with_a_scheme() -> None:
    assert list(HANDLERS[Dialect.HTTP].credential_headers("Basic eDp5")) == [(b"authorization", b"Basic eDp5")]
