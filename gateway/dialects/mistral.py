"""The Mistral dialect (docs.mistral.ai/api): OpenAI's wire format for chat and embeddings, with ways of its own.

A stream tells its usage in the last chunk unasked, and an unknown field of the request (OpenAI's `stream_options`) is
refused with 422: so nothing is asked for, and nothing taken out. Fill-in-the-middle is Mistral's alone.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.dialects import openai
from gateway.dialects.base import Call, LargeCall, Meter, Operation
from gateway.dialects.body import (
    CriticalFields,
    check_names,
    decode_object,
    read_bool,
    read_count,
    read_model,
    with_model,
)
from gateway.dialects.input_bound import estimate_of, token_input_bound
from gateway.dialects.large import large_call
from gateway.dialects.metering import NullMeter
from gateway.dialects.openai import CHAT, EMBEDDINGS
from gateway.dialects.openai_answers import ChatStreamMeter, OpaqueMeter, OpenAiAnswerMeter
from gateway.dialects.surface import Headers, Surface, models_listing
from gateway.errors import SluicegateError
from gateway.policy.model import Dialect

FIM: Final = "fim"
LISTING_PATH: Final = b"/v1/models"
SHARED: Final = {"/v1/chat/completions": CHAT, "/v1/embeddings": EMBEDDINGS}
"""Paths that OpenAI has too, in the same wire format: either's targets can serve the other's callers."""
OPERATIONS: Final[Mapping[str, Operation]] = {
    **{
        path: Operation(name=name, dialect=Dialect.MISTRAL, upstream_path=path, twin=Dialect.OPENAI)
        for path, name in SHARED.items()
    },
    "/v1/fim/completions": Operation(name=FIM, dialect=Dialect.MISTRAL, upstream_path="/v1/fim/completions"),
}
FIM_TEXT: Final = ("prompt", "suffix")
CRITICAL: Final = CriticalFields("model", "stream", "n", "max_tokens", "messages", bulky=("messages",))


class MistralHandler:
    """`DialectHandler` for Mistral."""

    dialect = Dialect.MISTRAL

    def read_call(self, operation: Operation, content_type: bytes, body: bytes) -> Call:
        document = decode_object(body)
        if operation.name == CHAT:
            call = openai.plain_chat(body, document)
            if call is not None:
                return told(call)
        check_names(body, document, CRITICAL)
        if operation.name == FIM:
            bound = sum(token_input_bound(document[field]) for field in FIM_TEXT if document.get(field) is not None)
        else:
            bound = openai.text_bound(operation.name, document)
        return call_of(operation, document, bound)

    def large_call(self, operation: Operation, content_type: bytes) -> LargeCall:
        fields = FIM_TEXT if operation.name == FIM else openai.text_fields(operation.name)
        return large_call(operation, content_type, CRITICAL, fields, call_of, openai.ask_for_usage_in)

    def rewrite(self, operation: Operation, call: Call, content_type: bytes, body: bytes, model: str) -> bytes:
        return body if model == call.route else with_model(body, call.route, model)

    def meter(self, operation: Operation, call: Call, status: int, content_type: bytes) -> Meter:
        if status >= 400:
            return NullMeter()
        if content_type.startswith(b"text/event-stream"):
            return ChatStreamMeter(call)
        return OpenAiAnswerMeter(call) if b"json" in content_type or not content_type else OpaqueMeter(call)

    def render_error(self, error: SluicegateError, request_id: str) -> bytes:
        words = openai.error_object(error, request_id)
        return orjson.dumps({"object": "error", **words, "raw_status_code": error.status}, default=str)

    def render_stream_error(
        self, error: SluicegateError, request_id: str, content_type: bytes, meter: Meter | None
    ) -> bytes:
        """The SDK raises on a chunk that is none."""
        if content_type != b"text/event-stream" or meter is None:
            return b""
        return b"data: %b\n\n" % self.render_error(error, request_id)

    def render_listing(self, operation: Operation, names: Sequence[str], query: bytes = b"") -> bytes:
        models = [_model_card(name) for name in names]
        return orjson.dumps(models[0] if operation.model is not None else {"object": "list", "data": models})

    def credential_headers(self, secret: str) -> Sequence[tuple[bytes, bytes]]:
        return ((b"authorization", b"Bearer " + secret.encode()),)


def _find(method: bytes, path: bytes) -> Operation | None:
    return models_listing(Dialect.MISTRAL, LISTING_PATH, method, path)


def _speaks(headers: Headers, query: bytes) -> bool:
    """Its SDKs name themselves: `mistral-client-python/3.7.0`, `speakeasy-sdk/… @mistralai/mistralai`."""
    for name, value in headers:
        if name == b"user-agent":
            return value.find(b"mistral") >= 0
    return False


SURFACE: Final = Surface(handler=MistralHandler(), calls=OPERATIONS, find=_find, owns=(b"/v1/fim",), speaks=_speaks)


def _model_card(name: str) -> dict[str, Any]:
    """What a route is able to do is its targets' affair: it claims what these paths are for."""
    return {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "sluicegate",
        "type": "base",
        "name": name,
        "capabilities": {"completion_chat": True, "completion_fim": True, "function_calling": True},
    }


def call_of(operation: Operation, document: Mapping[str, Any], bound: int) -> Call:
    """What a decoded body asks for; `bound` is of its input. Raises BadRequest."""
    if operation.name != FIM:
        return told(openai.call_of(operation, document, bound))
    return Call(
        route=read_model(document),
        stream=read_bool(document, "stream"),
        input_bound=bound,
        input_estimate=estimate_of(bound),
        output_bound=read_count(document, "max_tokens"),
    )


def told(call: Call) -> Call:
    """The same call where the stream tells its usage unasked."""
    if call.tells_usage:
        return call
    return Call(call.route, call.stream, call.input_bound, call.input_estimate, call.output_bound, call.choices, True)


def for_target(call: Call, dialect: Dialect) -> Call:
    """A call that the other of the two dialects read, for a target that speaks `dialect`.

    A caller of Mistral's never asked an OpenAI-compatible provider for usage: it is asked for and taken out again.
    """
    if dialect is Dialect.MISTRAL or not call.stream:
        return told(call)
    return Call(call.route, True, call.input_bound, call.input_estimate, call.output_bound, call.choices, False)
