"""What Gemini's request bodies ask for, and the names of the model within them.

They are protocol buffers written as JSON: each field may be spelled in lowerCamelCase or in snake_case, and a whole
number as a string (protobuf.dev/programming-guides/json). The path names the model; a body that names it too (each
request of a batch of embeddings must) names the same one, and all of these become the target's.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from gateway.dialects.base import Call, Operation
from gateway.dialects.body import (
    MOST_NAME_CHARACTERS,
    MOST_TOKENS,
    CriticalFields,
    Splice,
    apply_splices,
    check_names,
    decode_object,
    scan,
    wrong,
)
from gateway.dialects.input_bound import (
    MEDIA_TOKENS,
    MESSAGE_TOKENS,
    content_bytes,
    estimate_of,
    is_media,
    messages_bound,
    schema_bytes,
)
from gateway.errors import BadRequest
from gateway.wire.errors import WireError
from gateway.wire.json_names import Found, NamedValues
from gateway.wire.json_scan import TopLevelScanner

GENERATE: Final = "generateContent"
STREAM: Final = "streamGenerateContent"
EMBED: Final = "embedContent"
EMBED_BATCH: Final = "batchEmbedContents"
COUNT: Final = "countTokens"

_CONFIG: Final = ("generationConfig", "generation_config")
_MOST_OUTPUT: Final = ("maxOutputTokens", "max_output_tokens")
_CANDIDATES: Final = ("candidateCount", "candidate_count")
_SCHEMAS: Final = ("responseSchema", "response_schema", "responseJsonSchema", "response_json_schema")
_UNIQUE_IN_CONFIG: Final = (*_MOST_OUTPUT, *_CANDIDATES)
_OF_CONTENT: Final = CriticalFields("contents", "model", *_CONFIG, bulky=("contents",))
_CRITICAL: Final = {
    GENERATE: _OF_CONTENT,
    STREAM: _OF_CONTENT,
    COUNT: CriticalFields("model"),
    EMBED: CriticalFields("content", "model", bulky=("content",)),
    EMBED_BATCH: CriticalFields("requests", "model", bulky=("requests",)),
}
_DEPTHS: Final = {GENERATE: (1,), STREAM: (1,), EMBED: (1,), EMBED_BATCH: (1, 3), COUNT: (1, 2)}
"""At how many open brackets a body may name its model: `requests[].model`, `generateContentRequest.model`."""
_NO_TEXT: Final = frozenset({
    *_CONFIG, "model", "safetySettings", "safety_settings", "cachedContent", "cached_content", "labels", "store",
    "serviceTier", "service_tier",
})  # fmt: skip
"""Fields of which the model sees nothing; of a cached content no byte of ours tells the size."""
_NAMED: Final = re.compile(rb'"model"[ \t\r\n]*:')
_ESCAPED: Final = re.compile(rb"\\u00[4-7]")
"""Only such an escape could spell a name in another way."""
MOST_CHOICES: Final = 1024
_CONFIG_BYTES: Final = 1024 * 1024


def route_name(resource: str) -> str:
    """`models/NAME` → NAME, as routes are called; any other resource (`tunedModels/NAME`) as it is."""
    return resource.removeprefix("models/")


def resource_name(model: str) -> str:
    """How Gemini's paths and bodies write a model."""
    return model if model.startswith(("models/", "tunedModels/")) else "models/" + model


def read_body(operation: Operation, body: bytes) -> Call:
    """Raises BadRequest."""
    document = decode_object(body)
    check_names(body, document, _CRITICAL[operation.name])
    if operation.name in (GENERATE, STREAM):
        _check_config(body)
    call = call_of(operation, document, text_bound(operation.name, document))
    if _may_name_model(body):
        _check_models(call, _find_models(operation, body))
    return call


def call_of(operation: Operation, document: Mapping[str, Any], bound: int) -> Call:
    """What a decoded body asks for; `bound` is of its input, but for schemas. Raises BadRequest."""
    route = operation.model or ""
    if len(route) > MOST_NAME_CHARACTERS:
        raise BadRequest("the model's name in the path is too long", fix="call a route by its name")
    if operation.name == COUNT:  # free of charge: no tokens are used
        return Call(route=route, output_bound=0)
    if operation.name in (EMBED, EMBED_BATCH):
        return Call(route=route, input_bound=bound, input_estimate=estimate_of(bound), output_bound=0)
    config = _one_of(document, _CONFIG) or {}
    if not isinstance(config, dict):
        raise wrong("generationConfig", 'an object, e.g. {"maxOutputTokens": 100}')
    bound += sum(schema_bytes(config[name]) for name in _SCHEMAS if name in config)
    most = _count(config, _MOST_OUTPUT, MOST_TOKENS)
    choices = _count(config, _CANDIDATES, MOST_CHOICES) or 1
    return Call(
        route=route,
        stream=operation.name == STREAM,
        input_bound=bound,
        input_estimate=estimate_of(bound),
        output_bound=most * choices if most else None,  # 0 is what an unset field holds
        choices=choices,
    )


def text_bound(name: str, document: Mapping[str, Any]) -> int:
    """No more input tokens than this, but for the schemas of the configuration."""
    if name == COUNT:
        return 0
    bound = 0
    for field, value in document.items():
        if field in _NO_TEXT:
            continue
        if field == "contents" or field == "requests":
            bound += messages_bound(value)
        elif field in ("tools", "toolConfig", "tool_config"):
            bound += schema_bytes(value)
        else:
            bound += content_bytes(value) + MESSAGE_TOKENS
    return bound


def with_model(operation: Operation, call: Call, body: bytes, model: str) -> bytes:
    """The body with the target's model wherever it names the route."""
    if model == call.route or not _may_name_model(body):
        return body
    return apply_splices(body, _renaming(_find_models(operation, body), model))


class LargeGeminiCall:
    """A body that is never held whole."""

    __slots__ = ("_models", "_operation", "_problem", "_scanner")

    def __init__(self, operation: Operation) -> None:
        critical = _CRITICAL[operation.name]
        self._operation = operation
        self._problem: WireError | None = None
        self._models = NamedValues("model", _DEPTHS[operation.name])
        self._scanner = TopLevelScanner(
            critical.small,
            unique=critical.names,
            max_value_bytes=_CONFIG_BYTES,
            opaque_bytes=MEDIA_TOKENS,
            is_opaque=is_media,
        )

    def feed(self, chunk: bytes) -> None:
        if self._problem is None:
            try:
                self._scanner.feed(chunk)
                self._models.feed(chunk)
            except WireError as problem:
                self._problem = problem

    def call(self) -> Call:
        if self._problem is None:
            try:
                self._scanner.close()
            except WireError as problem:
                self._problem = problem
        if self._problem is not None:
            raise BadRequest(self._problem.message, fix="send one JSON object that names each field once")
        members = self._scanner.members
        document: dict[str, Any] = {}
        for name in _CONFIG:
            if name in members and members[name].raw:
                document[name] = _decoded(members[name].raw)
                _check_config_value(members[name].raw)
        bound = sum(
            member.end - member.start - member.opaque_excess + MESSAGE_TOKENS
            for name, member in members.items()
            if name not in _NO_TEXT
        )
        call = call_of(self._operation, document, bound)
        _check_models(call, self._models.found)
        return call

    def splices(self, call: Call, model: str) -> Sequence[Splice]:
        return [] if model == call.route else _renaming(self._models.found, model)


def _decoded(raw: bytes) -> Any:
    """A member's value. Raises BadRequest."""
    return decode_object(raw) if raw.startswith(b"{") else decode_object(b'{"v":%b}' % raw)["v"]


def _may_name_model(body: bytes) -> bool:
    """False is sure. `"model"` alone is in most bodies: it is a role."""
    return _NAMED.search(body) is not None or (rb"\u00" in body and _ESCAPED.search(body) is not None)


def _find_models(operation: Operation, body: bytes) -> list[Found]:
    finder = NamedValues("model", _DEPTHS[operation.name])
    try:
        finder.feed(body)
    except WireError as problem:
        raise BadRequest(problem.message, fix="send fewer at a time") from None
    return finder.found


def _check_models(call: Call, found: Sequence[Found]) -> None:
    """The body must not ask for another model than the path, which is what was routed and allowed."""
    for named in found:
        if named.value is None or route_name(named.value) != call.route:
            told = "no name" if named.value is None else repr(named.value[:200])
            raise BadRequest(
                f"the path names the model {call.route[:200]!r}, the body {told}",
                fix="name the same model in both, or leave it out of the body",
                param="model",
            )


def _renaming(found: Sequence[Found], model: str) -> list[Splice]:
    """A name that was written as a resource stays one."""
    return [
        (
            named.start,
            named.end,
            orjson.dumps(resource_name(model) if (named.value or "").startswith("models/") else model),
        )
        for named in found
    ]


def _check_config(body: bytes) -> None:
    """Raises BadRequest if the configuration names a bound twice: two parsers would disagree on which counts."""
    if all(body.count(b'"%b"' % name.encode()) <= 1 for name in _UNIQUE_IN_CONFIG) and not (
        rb"\u00" in body and _ESCAPED.search(body)
    ):
        return
    for member in scan(body, _CONFIG).members.values():
        if member.raw:
            _check_config_value(member.raw)


def _check_config_value(raw: bytes) -> None:
    if raw.startswith(b"{"):
        scan(raw, unique=_UNIQUE_IN_CONFIG)


def _one_of(document: Mapping[str, Any], spellings: Sequence[str]) -> Any:
    """The value of a field in either spelling. Raises BadRequest where both are given."""
    given = [name for name in spellings if document.get(name) is not None]
    if len(given) > 1:
        raise BadRequest(f'"{given[0]}" and "{given[1]}" are the same field', fix="send one", param=given[0])
    return document[given[0]] if given else None


def _count(config: Mapping[str, Any], spellings: Sequence[str], at_most: int) -> int | None:
    value = _one_of(config, spellings)
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if type(value) is float and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= at_most:
        raise wrong(spellings[0], f"a whole number from 0 to {at_most}")
    return value
