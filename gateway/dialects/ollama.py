"""The Ollama dialect: paths, request bodies, errors, model lists (docs.ollama.com/api).

Streams are the default, one JSON object a line. Answers are read in `ollama_answers`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.dialects.base import Call, LargeCall, Meter, Operation
from gateway.dialects.body import (
    CriticalFields,
    check_names,
    decode_object,
    read_bool,
    read_count,
    read_model,
    scan,
    with_model,
    wrong,
)
from gateway.dialects.input_bound import (
    MESSAGE_TOKENS,
    content_bytes,
    estimate_of,
    messages_bound,
    schema_bytes,
    token_input_bound,
)
from gateway.dialects.large import large_call
from gateway.dialects.metering import NullMeter
from gateway.dialects.ollama_answers import OllamaAnswerMeter, OllamaStreamMeter
from gateway.dialects.surface import Surface, models_listing
from gateway.errors import SluicegateError
from gateway.policy.model import Dialect
from gateway.policy.usage import Usage

CHAT: Final = "chat"
GENERATE: Final = "generate"
EMBED: Final = "embed"
SHOW: Final = "show"
VERSION: Final = "version"
OPERATIONS: Final[Mapping[str, Operation]] = {
    f"/api/{name}": Operation(name=name, dialect=Dialect.OLLAMA, upstream_path=f"/api/{name}")
    for name in (CHAT, GENERATE, EMBED, SHOW)
}
TAGS_PATH: Final = b"/api/tags"
VERSION_PATH: Final = b"/api/version"
SPOKEN_VERSION: Final = "0.13.0"
"""Of Ollama's API as it is spoken here: clients ask for it before they use what newer versions have."""

_TEXTS: Final = {
    CHAT: ("messages", "tools", "format"),
    GENERATE: ("prompt", "suffix", "system", "template", "images", "context", "format"),
    EMBED: ("input",),
    SHOW: (),
}
_CRITICAL: Final = {
    name: CriticalFields("model", "stream", "options", *texts, bulky=texts)
    for name, texts in {CHAT: ("messages",), GENERATE: ("prompt",), EMBED: ("input",), SHOW: ()}.items()
}
_STREAMED: Final = frozenset({CHAT, GENERATE})
_BOUND: Final = b'"num_predict"'
_ESCAPED: Final = re.compile(rb"\\u00[4-7]")


class OllamaHandler:
    """`DialectHandler` for Ollama."""

    dialect = Dialect.OLLAMA

    def read_call(self, operation: Operation, content_type: bytes, body: bytes) -> Call:
        document = decode_object(body)
        check_names(body, document, _CRITICAL[operation.name])
        if body.count(_BOUND) > 1 or (rb"\u00" in body and _ESCAPED.search(body)):
            options = scan(body, ("options",)).members.get("options")
            if options is not None and options.raw.startswith(b"{"):
                scan(options.raw, unique=("num_predict",))
        return call_of(operation, document, text_bound(operation.name, document))

    def large_call(self, operation: Operation, content_type: bytes) -> LargeCall:
        return large_call(operation, b"", _CRITICAL[operation.name], _TEXTS[operation.name], call_of)

    def rewrite(self, operation: Operation, call: Call, content_type: bytes, body: bytes, model: str) -> bytes:
        return body if model == call.route else with_model(body, call.route, model)

    def meter(self, operation: Operation, call: Call, status: int, content_type: bytes) -> Meter:
        if operation.name == SHOW:
            return NullMeter(Usage())
        if status >= 400:
            return NullMeter()
        return OllamaStreamMeter(call) if call.stream else OllamaAnswerMeter(call)

    def render_error(self, error: SluicegateError, request_id: str) -> bytes:
        told = {"code": error.code, "fix": error.fix, "request_id": request_id, **error.fields}
        # ASCII alone: clients cut streams at U+2028 and U+2029 too.
        return json.dumps({"error": str(error), "sluicegate": told}, default=str, separators=(",", ":")).encode()

    def render_stream_error(
        self, error: SluicegateError, request_id: str, content_type: bytes, meter: Meter | None
    ) -> bytes:
        """A line of its own."""
        if not isinstance(meter, OllamaStreamMeter):
            return b""
        return b"%b%b\n" % (b"\n" if meter.within_line else b"", self.render_error(error, request_id))

    def render_listing(self, operation: Operation, names: Sequence[str], query: bytes = b"") -> bytes:
        if operation.name == VERSION:
            return orjson.dumps({"version": SPOKEN_VERSION})
        return orjson.dumps({"models": [_described(name) for name in names]})

    def credential_headers(self, secret: str) -> Sequence[tuple[bytes, bytes]]:
        return ((b"authorization", b"Bearer " + secret.encode()),)


def _described(name: str) -> dict[str, Any]:
    """A route as `/api/tags` lists a model; what a route has not is empty."""
    details = {
        "parent_model": "",
        "format": "",
        "family": "",
        "families": [],
        "parameter_size": "",
        "quantization_level": "",
    }
    return {
        "name": name,
        "model": name,
        "modified_at": "1970-01-01T00:00:00Z",
        "size": 0,
        "digest": "",
        "details": details,
    }


def call_of(operation: Operation, document: Mapping[str, Any], bound: int) -> Call:
    """What a decoded body asks for; `bound` is of its input. Raises BadRequest."""
    name = operation.name
    if name == SHOW:  # free of charge: no tokens are used
        return Call(route=read_model(document), output_bound=0)
    options = document.get("options")
    if options is not None and not isinstance(options, dict):
        raise wrong("options", 'an object, e.g. {"num_predict": 100}')
    return Call(
        route=read_model(document),
        stream=name in _STREAMED and (document.get("stream") is None or read_bool(document, "stream")),
        input_bound=bound,
        input_estimate=estimate_of(bound),
        output_bound=0 if name == EMBED else _most_output(options or {}),
    )


def _most_output(options: Mapping[str, Any]) -> int | None:
    """`num_predict`; -1 (endless) and -2 (as long as the context lasts) are no bound."""
    return None if options.get("num_predict") in (-1, -2) else read_count(options, "num_predict")


def text_bound(name: str, document: Mapping[str, Any]) -> int:
    """No more input tokens than this."""
    bound = 0
    for field in _TEXTS[name]:
        value = document.get(field)
        if value is None:
            continue
        if field == "messages":
            bound += messages_bound(value)
        elif field in ("tools", "format"):
            bound += schema_bytes(value)
        elif field in ("input", "context"):
            bound += token_input_bound(value)
        else:
            bound += content_bytes(value, field) + MESSAGE_TOKENS
    return bound


def _find(method: bytes, path: bytes) -> Operation | None:
    if path == VERSION_PATH and method in (b"GET", b"HEAD"):
        return Operation(name=VERSION, dialect=Dialect.OLLAMA, upstream_path="/api/version", listing=True)
    return models_listing(Dialect.OLLAMA, TAGS_PATH, method, path) if path == TAGS_PATH else None


SURFACE: Final = Surface(
    handler=OllamaHandler(),
    calls=OPERATIONS,
    find=_find,
    owns=(*(path.encode() for path in OPERATIONS), TAGS_PATH, VERSION_PATH),
    version=b"",
)
