"""The Anthropic dialect: messages, token counting, errors, model lists (docs.anthropic.com/en/api)."""

from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

import orjson

from gateway.dialects.base import Call, LargeCall, Meter, Operation
from gateway.dialects.body import (
    MOST_NAME_CHARACTERS,
    MOST_TOKENS,
    CriticalFields,
    check_names,
    decode_object,
    read_bool,
    read_count,
    read_model,
    with_model,
    wrong,
)
from gateway.dialects.input_bound import (
    BYTES_PER_TOKEN,
    MESSAGE_TOKENS,
    content_bytes,
    estimate_of,
    messages_bound,
    schema_bytes,
    text_bytes,
)
from gateway.dialects.large import large_call
from gateway.dialects.metering import (
    AnswerMeter,
    NullMeter,
    StreamMeter,
    as_count,
    as_report,
    as_text,
    decode,
    event_document,
)
from gateway.dialects.plain import plain_messages_bound
from gateway.dialects.surface import Headers, Surface, models_listing
from gateway.dialects.usage_memo import UsageMemo
from gateway.errors import BadRequest, SluicegateError
from gateway.policy.model import Dialect
from gateway.policy.usage import Figures, Usage

MESSAGES: Final = "messages"
COUNT_TOKENS: Final = "count_tokens"
OPERATIONS: Final[Mapping[str, Operation]] = {
    path: Operation(name=name, dialect=Dialect.ANTHROPIC, upstream_path=path)
    for path, name in {"/v1/messages": MESSAGES, "/v1/messages/count_tokens": COUNT_TOKENS}.items()
}
LISTING_PATH: Final = b"/v1/models"
PAGE: Final = 20
LARGEST_PAGE: Final = 1000
"""Models of one page where `limit` is not sent, and at most (docs.anthropic.com/en/api/models-list)."""

CRITICAL: Final = CriticalFields("model", "stream", "max_tokens", "messages", bulky=("messages",))
_PLAIN: Final = frozenset(
    {"model", "messages", "stream", "max_tokens", "system", "temperature", "top_p", "top_k", "service_tier"}
)
"""Fields that the quick path reads or need not read."""
SCHEMA_FIELDS: Final = ("tools", "tool_choice", "output_format", "output_config")
TOOL_PROMPT_TOKENS: Final = 600
"""What Anthropic adds to the prompt where tools are given (its table: up to 530)."""
_DELTA_MARK: Final = b'_block_delta"'


class AnthropicHandler:
    """`DialectHandler` for Anthropic and what is compatible with it."""

    dialect = Dialect.ANTHROPIC

    def read_call(self, operation: Operation, content_type: bytes, body: bytes) -> Call:
        document = decode_object(body)
        if operation.name == MESSAGES:
            call = plain_message(body, document)
            if call is not None:
                return call
        check_names(body, document, CRITICAL)
        return call_of(operation, document, text_bound(document))

    def plain_call(self, operation: Operation, body: bytes) -> Call | None:
        if operation.name != MESSAGES:
            return None
        document = decode(body)
        return None if document is None else plain_message(body, document)

    def plain_usage(self, operation: Operation, body: bytes) -> Figures | None:
        return _USAGES.figures_of(body)

    def large_call(self, operation: Operation, content_type: bytes) -> LargeCall:
        return large_call(operation, content_type, CRITICAL, ("messages", "system", *SCHEMA_FIELDS), call_of)

    def rewrite(self, operation: Operation, call: Call, content_type: bytes, body: bytes, model: str) -> bytes:
        if model == call.route:
            return body
        return with_model(body, call.route, model)

    def meter(self, operation: Operation, call: Call, status: int, content_type: bytes) -> Meter:
        if content_type == b"application/json" and status < 400 and operation.name == MESSAGES:
            return MessageMeter(call)
        if operation.name == COUNT_TOKENS:
            return NullMeter(Usage())
        if status >= 400:
            return NullMeter()
        if content_type.startswith(b"text/event-stream"):
            return MessagesStreamMeter(call)
        return MessageMeter(call)

    def render_error(self, error: SluicegateError, request_id: str) -> bytes:
        kind = _TYPES.get(error.status, "api_error" if error.status >= 500 else "invalid_request_error")
        told = {
            "type": kind,
            "message": str(error),
            "sluicegate": {"code": error.code, "fix": error.fix, "request_id": request_id, **error.fields},
        }
        return orjson.dumps({"type": "error", "error": told, "request_id": request_id}, default=str)

    def render_stream_error(
        self, error: SluicegateError, request_id: str, content_type: bytes, meter: Meter | None
    ) -> bytes:
        if content_type != b"text/event-stream" or meter is None:
            return b""
        return b"event: error\ndata: %b\n\n" % self.render_error(error, request_id)

    def render_listing(self, operation: Operation, names: Sequence[str], query: bytes = b"") -> bytes:
        """Pages as `limit` (1 to 1000, else 20), `after_id` and `before_id` ask for them; an id need not be there (any
        more): the list is sorted, so its place is known."""
        single = operation.model is not None
        names, more = (names, False) if single else _page(names, query)
        models = [
            {"type": "model", "id": name, "display_name": name, "created_at": "1970-01-01T00:00:00Z"} for name in names
        ]
        if single:
            return orjson.dumps(models[0])
        first, last = (names[0], names[-1]) if names else (None, None)
        return orjson.dumps({"data": models, "has_more": more, "first_id": first, "last_id": last})

    def credential_headers(self, secret: str) -> Sequence[tuple[bytes, bytes]]:
        return ((b"x-api-key", secret.encode()),)


def _page(names: Sequence[str], query: bytes) -> tuple[Sequence[str], bool]:
    """The names of the page, and whether there are more in its direction. Raises BadRequest."""
    asked = dict(parse_qsl(query.decode("latin-1")))
    limit = asked.get("limit", str(PAGE))
    if not limit.isdecimal() or len(limit) > 4 or not 1 <= int(limit) <= LARGEST_PAGE:
        raise wrong("limit", f"a whole number from 1 to {LARGEST_PAGE}")
    if "after_id" in asked and "before_id" in asked:
        raise BadRequest("after_id and before_id exclude each other", fix="send one of them", param="after_id")
    size = int(limit)
    if "before_id" in asked:
        before = [name for name in names if name < asked["before_id"]]
        return before[-size:], len(before) > size
    after = [name for name in names if name > asked.get("after_id", "")]
    return after[:size], len(after) > size


_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def _find(method: bytes, path: bytes) -> Operation | None:
    return models_listing(Dialect.ANTHROPIC, LISTING_PATH, method, path)


def _speaks(headers: Headers, query: bytes) -> bool:
    return any(name == b"anthropic-version" for name, _ in headers)


_HANDLER: Final = AnthropicHandler()
SURFACE: Final = Surface(
    handler=_HANDLER, plain=_HANDLER, calls=OPERATIONS, find=_find, owns=(b"/v1/messages",), speaks=_speaks
)


def plain_message(body: bytes, document: Mapping[str, Any]) -> Call | None:
    """`call_of` messages as most are; None: read them carefully."""
    bound = plain_messages_bound(body, document, _PLAIN)
    route = document.get("model")
    if bound is None or type(route) is not str or not 0 < len(route) <= MOST_NAME_CHARACTERS or not route.isascii():
        return None
    most, stream, system = document.get("max_tokens"), document.get("stream", False), document.get("system")
    if type(most) is not int or not 0 <= most <= MOST_TOKENS or type(stream) is not bool:
        return None
    if system is not None:
        if type(system) is not str:
            return None
        bound += text_bytes(system) + MESSAGE_TOKENS
    return Call(route, stream, bound, -(-bound // BYTES_PER_TOKEN), most)


def call_of(operation: Operation, document: Mapping[str, Any], bound: int) -> Call:
    """What a decoded body asks for; `bound` is of its input. Raises BadRequest."""
    if operation.name == COUNT_TOKENS:  # free of charge: no tokens are used
        return Call(route=read_model(document), output_bound=0)
    return Call(
        route=read_model(document),
        stream=read_bool(document, "stream"),
        input_bound=bound,
        input_estimate=estimate_of(bound),
        output_bound=read_count(document, "max_tokens"),
    )


def text_bound(document: Mapping[str, Any]) -> int:
    """No more input tokens than this."""
    bound = messages_bound(document.get("messages"))
    system = document.get("system")
    if system is not None:
        bound += content_bytes(system) + MESSAGE_TOKENS
    for field in SCHEMA_FIELDS:
        if field in document:
            bound += schema_bytes(document[field])
    return bound + TOOL_PROMPT_TOKENS if document.get("tools") else bound


def read_usage(report: Mapping[str, Any]) -> Usage | None:
    """Anthropic counts cache reads and writes beside `input_tokens`; the ledger counts them within."""
    fresh, written = as_count(report.get("input_tokens")), as_count(report.get("output_tokens"))
    if fresh is None and written is None:
        return None
    if len(report) == 2 and fresh is not None and written is not None:  # so there is nothing else to read
        return Usage(fresh, 0, 0, written, 0)
    cached = as_count(report.get("cache_read_input_tokens")) or 0
    stored = as_count(report.get("cache_creation_input_tokens")) or 0
    return Usage(
        input_tokens=(fresh or 0) + cached + stored,
        cached_tokens=cached,
        cache_write_tokens=stored,
        output_tokens=written or 0,
        reasoning_tokens=as_count(as_report(report.get("output_tokens_details")).get("thinking_tokens")) or 0,
    )


_USAGES: Final = UsageMemo(read_usage)


class MessageMeter(AnswerMeter):
    def learn(self, document: dict[str, Any]) -> None:
        self.model = as_text(document.get("model"))
        self.finish_reason = as_text(document.get("stop_reason"))
        report = document.get("usage")
        if type(report) is dict:
            self.usage = read_usage(report)

    def read_usage(self, report: Mapping[str, Any]) -> Usage | None:
        return read_usage(report)


class MessagesStreamMeter(StreamMeter):
    """`message_start` tells the input, each `message_delta` the output so far (and newer ones the input again)."""

    __slots__ = ("_report",)

    def __init__(self, call: Call) -> None:
        super().__init__(call, lines=3, mark=_DELTA_MARK)
        self._start = b"event: content_block_delta\n"
        self._report: dict[str, Any] = {}
        """All that was told so far; it is the answer's usage only once a `message_delta` came."""

    def read_usage(self, report: Mapping[str, Any]) -> Usage | None:
        self._report.update((name, value) for name, value in report.items() if value is not None)
        return read_usage(self._report)

    def read_event(self, event: bytes) -> bool:
        if _DELTA_MARK in event:
            self.events += 1
            return False
        if b'_tokens"' not in event and b'"message_' not in event:
            return False
        document = event_document(event) or {}
        match document.get("type"):
            case "message_start":
                message = document.get("message")
                if isinstance(message, dict):
                    self.model = as_text(message.get("model"))
                    report = message.get("usage")
                    if isinstance(report, dict):
                        self.read_usage(report)
            case "message_delta":
                delta = document.get("delta")
                if isinstance(delta, dict):
                    self.finish_reason = as_text(delta.get("stop_reason")) or self.finish_reason
                report = document.get("usage")
                if isinstance(report, dict):
                    self.usage = self.read_usage(report) or self.usage
        return False

    def estimate(self) -> Usage:
        """The input is what `message_start` said, the output a token an event."""
        estimated = super().estimate()
        told = read_usage(self._report)
        if told is None or self.events == 0:
            return estimated
        told.output_tokens = max(told.output_tokens, self.events)
        return told
