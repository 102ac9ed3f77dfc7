"""The OpenAI dialect: paths, request bodies, errors and model lists (platform.openai.com/docs/api-reference).

What it reads of a body: `model`, `stream`, the bounds of the output, and the text that bounds the input. The answers'
meters are in `openai_answers`, multipart forms in `form`.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.dialects import form
from gateway.dialects.base import Call, LargeCall, Meter, Operation
from gateway.dialects.body import (
    MOST_NAME_CHARACTERS,
    MOST_TOKENS,
    CriticalFields,
    Splice,
    check_names,
    decode_object,
    object_start,
    read_bool,
    read_count,
    read_model,
    scan,
    with_model,
    wrong,
)
from gateway.dialects.input_bound import (
    BYTES_PER_TOKEN,
    estimate_of,
    messages_bound,
    schema_bytes,
    token_input_bound,
)
from gateway.dialects.large import large_call
from gateway.dialects.metering import NullMeter, decode
from gateway.dialects.openai_answers import (
    ChatStreamMeter,
    OpaqueMeter,
    OpenAiAnswerMeter,
    ResponsesStreamMeter,
    read_usage,
)
from gateway.dialects.plain import plain_messages_bound
from gateway.dialects.surface import Surface, models_listing
from gateway.dialects.usage_memo import UsageMemo
from gateway.errors import SluicegateError
from gateway.policy.model import Dialect
from gateway.policy.usage import Figures, Usage
from gateway.wire.json_scan import Member

CHAT: Final = "chat"
COMPLETIONS: Final = "completions"
RESPONSES: Final = "responses"
EMBEDDINGS: Final = "embeddings"
MODERATIONS: Final = "moderations"
IMAGES: Final = "images"
AUDIO: Final = "audio"
MODELS: Final = "models"

_PATHS: Final = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/responses": RESPONSES,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/moderations": MODERATIONS,
    "/v1/images/generations": IMAGES,
    "/v1/images/edits": IMAGES,
    "/v1/images/variations": IMAGES,
    "/v1/audio/speech": AUDIO,
    "/v1/audio/transcriptions": AUDIO,
    "/v1/audio/translations": AUDIO,
}
OPERATIONS: Final[Mapping[str, Operation]] = {
    path: Operation(
        name=name,
        dialect=Dialect.OPENAI,
        upstream_path=path,
        twin=Dialect.MISTRAL if name in (CHAT, EMBEDDINGS) else None,
    )
    for path, name in _PATHS.items()
}
FAMILIES: Final = {"/v1/images/": IMAGES, "/v1/audio/": AUDIO}
"""Paths below these are calls too, listed above or not."""
_FAMILY_PATH: Final = re.compile(rb"/[a-z0-9_/-]+")
LISTING_PATH: Final = b"/v1/models"

OUTPUT_BOUNDS: Final = {
    CHAT: ("max_completion_tokens", "max_tokens"),
    COMPLETIONS: ("max_tokens",),
    RESPONSES: ("max_output_tokens",),
}
"""The fields that bound the output; where several are given, the largest counts."""
SILENT: Final = frozenset({EMBEDDINGS, MODERATIONS})
"""Operations whose answers hold no output tokens."""
MULTIPLIED: Final = frozenset({CHAT, COMPLETIONS, IMAGES})
"""Operations that take `n`."""
STREAM_OPTIONS: Final = frozenset({CHAT, COMPLETIONS})
"""Operations whose stream tells usage only if `stream_options.include_usage` asks for it."""
_TEXT_FIELDS: Final = {
    CHAT: ("messages",),
    COMPLETIONS: ("prompt", "suffix"),
    RESPONSES: ("input", "instructions", "prompt"),
    EMBEDDINGS: ("input",),
    MODERATIONS: ("input",),
    IMAGES: ("prompt",),
    AUDIO: ("input", "instructions", "prompt"),
}
SCHEMA_FIELDS: Final = ("tools", "functions", "response_format", "text")
CRITICAL: Final = CriticalFields(
    "model", "stream", "stream_options", "n", "best_of", "max_tokens", "max_completion_tokens", "max_output_tokens",
    "messages",
    bulky=("messages",),
)  # fmt: skip
MOST_CHOICES: Final = 1024
_PLAIN_CHAT: Final = frozenset({
    "model", "messages", "stream", "max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop",
    "user", "presence_penalty", "frequency_penalty", "reasoning_effort", "service_tier", "store", "parallel_tool_calls",
})  # fmt: skip
"""Fields that the quick path reads or need not read."""
_JSON: Final = b"application/json"
_ASK_FOR_USAGE: Final = b'"stream_options":{"include_usage":true},'

_USAGES: Final = UsageMemo(read_usage)


class OpenAiHandler:
    """`DialectHandler` for OpenAI and everything that is compatible with it."""

    dialect = Dialect.OPENAI

    def read_call(self, operation: Operation, content_type: bytes, body: bytes) -> Call:
        if content_type != _JSON and form.is_form(content_type):
            return form.read_call(content_type, body)
        document = decode_object(body)
        if operation.name == CHAT:
            call = plain_chat(body, document)
            if call is not None:
                return call
        check_names(body, document, CRITICAL)
        return call_of(operation, document, text_bound(operation.name, document))

    def plain_call(self, operation: Operation, body: bytes) -> Call | None:
        if operation.name != CHAT:
            return None
        document = decode(body)
        return None if document is None else plain_chat(body, document)

    def plain_usage(self, operation: Operation, body: bytes) -> Figures | None:
        return _USAGES.figures_of(body)

    def large_call(self, operation: Operation, content_type: bytes) -> LargeCall:
        fields = text_fields(operation.name)
        return large_call(operation, content_type, CRITICAL, fields, call_of, ask_for_usage_in)

    def rewrite(self, operation: Operation, call: Call, content_type: bytes, body: bytes, model: str) -> bytes:
        if content_type != _JSON and form.is_form(content_type):
            return body if model == call.route else form.with_model(content_type, body, model)
        if model != call.route:
            body = with_model(body, call.route, model)
        if call.stream and not call.tells_usage:
            start, end, asking = ask_for_usage(body)
            body = b"".join((body[:start], asking, body[end:]))
        return body

    def meter(self, operation: Operation, call: Call, status: int, content_type: bytes) -> Meter:
        if content_type == _JSON and status < 400 and operation.name == CHAT:
            return OpenAiAnswerMeter(call)
        if status >= 400 or operation.name == MODERATIONS:
            return NullMeter(Usage() if operation.name == MODERATIONS else None)
        if content_type.startswith(b"text/event-stream"):
            if operation.name in STREAM_OPTIONS:
                return ChatStreamMeter(call)
            return ResponsesStreamMeter(call)
        if b"json" in content_type or not content_type:
            return OpenAiAnswerMeter(call)
        return OpaqueMeter(call)

    def render_error(self, error: SluicegateError, request_id: str) -> bytes:
        return orjson.dumps({"error": error_object(error, request_id)}, default=str)

    def render_stream_error(
        self, error: SluicegateError, request_id: str, content_type: bytes, meter: Meter | None
    ) -> bytes:
        """The SDKs raise on a `data` object with `error`, in chat and responses streams alike."""
        if content_type != b"text/event-stream" or meter is None:
            return b""
        return b"data: %b\n\n" % self.render_error(error, request_id)

    def render_listing(self, operation: Operation, names: Sequence[str], query: bytes = b"") -> bytes:
        models = [{"id": name, "object": "model", "created": 0, "owned_by": "sluicegate"} for name in names]
        return orjson.dumps(models[0] if operation.model is not None else {"object": "list", "data": models})

    def credential_headers(self, secret: str) -> Sequence[tuple[bytes, bytes]]:
        return ((b"authorization", b"Bearer " + secret.encode()),)


def _find(method: bytes, path: bytes) -> Operation | None:
    """Model lists, and `/v1/images/*` and `/v1/audio/*` beyond those that are listed by name."""
    if method != b"POST":
        return models_listing(Dialect.OPENAI, LISTING_PATH, method, path)
    if not _FAMILY_PATH.fullmatch(path):
        return None
    text = path.decode()
    for family, name in FAMILIES.items():
        if text.startswith(family) and len(text) > len(family) and "//" not in text:
            return Operation(name=name, dialect=Dialect.OPENAI, upstream_path=text)
    return None


_HANDLER: Final = OpenAiHandler()
SURFACE: Final = Surface(handler=_HANDLER, plain=_HANDLER, calls=OPERATIONS, find=_find)


def plain_chat(body: bytes, document: Mapping[str, Any]) -> Call | None:
    """`call_of` a chat as nearly all are; None: read it carefully."""
    bound = plain_messages_bound(body, document, _PLAIN_CHAT)
    route = document.get("model")
    if bound is None or type(route) is not str or not 0 < len(route) <= MOST_NAME_CHARACTERS or not route.isascii():
        return None
    most = document.get("max_tokens")
    if "max_completion_tokens" in document:
        if most is not None:
            return None
        most = document["max_completion_tokens"]
    if most is not None and (type(most) is not int or not 0 <= most <= MOST_TOKENS):
        return None
    stream = document.get("stream", False)
    if type(stream) is not bool:
        return None
    return Call(route, stream, bound, -(-bound // BYTES_PER_TOKEN), most, 1, not stream)


def call_of(operation: Operation, document: Mapping[str, Any], bound: int) -> Call:
    """What a decoded body asks for; `bound` is of its input. Raises BadRequest."""
    name = operation.name
    stream = read_bool(document, "stream")
    choices = 1
    if name in MULTIPLIED and ("n" in document or name == COMPLETIONS):
        choices = read_count(document, "n", at_least=1, at_most=MOST_CHOICES) or 1
        if name == COMPLETIONS:
            choices = max(choices, read_count(document, "best_of", at_most=MOST_CHOICES) or 1)
    return Call(
        route=read_model(document),
        stream=stream,
        input_bound=bound,
        input_estimate=estimate_of(bound),
        output_bound=output_bound(name, document, choices),
        choices=choices,
        tells_usage=tells_usage(name, stream, document),
    )


def output_bound(name: str, document: Mapping[str, Any], choices: int) -> int | None:
    """Tokens of all choices together; None where the caller set no bound (-1, for llama.cpp and LM Studio)."""
    if name in SILENT:
        return 0
    largest: int | None = None
    for field in OUTPUT_BOUNDS.get(name, ()):
        if field in document:
            bound = None if document[field] == -1 else read_count(document, field)
            if bound is not None and (largest is None or bound > largest):
                largest = bound
    return None if largest is None else largest * choices


def tells_usage(name: str, stream: bool, document: Mapping[str, Any]) -> bool:
    """Whether the stream tells usage as the caller wrote the request."""
    if not stream or name not in STREAM_OPTIONS:
        return True
    options = document.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise wrong("stream_options", 'an object, e.g. {"include_usage": true}')
    asked = options.get("include_usage")
    if asked is not None and not isinstance(asked, bool):
        raise wrong("stream_options.include_usage", "true or false")
    return asked is True


def text_bound(name: str, document: Mapping[str, Any]) -> int:
    """No more input tokens than this."""
    bound = 0
    for field in _TEXT_FIELDS[name]:
        value = document.get(field)
        if value is not None:
            bound += messages_bound(value) if name in (CHAT, RESPONSES) else token_input_bound(value)
    for field in SCHEMA_FIELDS:
        if field in document:
            bound += schema_bytes(document[field])
    return bound


def text_fields(name: str) -> tuple[str, ...]:
    """The members that bound the input of an operation."""
    return (*_TEXT_FIELDS[name], *SCHEMA_FIELDS)


def ask_for_usage(body: bytes) -> Splice:
    """The edit that makes the stream tell its usage."""
    if body.find(b'"stream_options"') < 0 and body.find(rb"\u00") < 0:
        start = 1 if body.startswith(b"{") else object_start(body)
        return start, start, _ASK_FOR_USAGE
    member = scan(body, ("stream_options",)).members.get("stream_options")
    if member is None:
        start = object_start(body)
        return start, start, _ASK_FOR_USAGE
    return member.start, member.end, options_with_usage(member.raw)


def ask_for_usage_in(call: Call, members: Mapping[str, Member]) -> list[Splice]:
    """The same for a body that was scanned."""
    if not call.stream or call.tells_usage:
        return []
    member = members.get("stream_options")
    if member is not None:
        return [(member.start, member.end, options_with_usage(member.raw))]
    model = members["model"]  # there, or the call could not have been read; any place behind a member does
    return [(model.end, model.end, b"," + _ASK_FOR_USAGE.removesuffix(b","))]


def options_with_usage(raw: bytes) -> bytes:
    """The caller's `stream_options` (an object or null), asking for usage."""
    options = orjson.loads(raw) or {}
    return orjson.dumps({**options, "include_usage": True})


_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


def error_object(error: SluicegateError, request_id: str) -> dict[str, Any]:
    """What the SDKs show: `message` with the remedy; for programs `sluicegate`, beside OpenAI's own members."""
    kind = _TYPES.get(error.status, "server_error" if error.status >= 500 else "invalid_request_error")
    if error.status == 429 and not error.retryable:
        kind = "insufficient_quota"
    return {
        "message": str(error),
        "type": kind,
        "param": error.fields.get("param"),
        "code": error.code,
        "sluicegate": {"fix": error.fix, "request_id": request_id, **error.fields},
    }
