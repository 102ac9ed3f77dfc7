"""The Gemini dialect: paths that name the model, errors, model lists (ai.google.dev/api).

Requests are read in `gemini_body`, answers in `gemini_answers`.
"""

import re
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import unquote_to_bytes

import orjson

from gateway.dialects.base import Call, LargeCall, Meter, Operation
from gateway.dialects.gemini_answers import GeminiAnswerMeter, GeminiArrayMeter, GeminiStreamMeter
from gateway.dialects.gemini_body import (
    COUNT,
    EMBED,
    EMBED_BATCH,
    GENERATE,
    STREAM,
    LargeGeminiCall,
    read_body,
    resource_name,
    route_name,
    with_model,
)
from gateway.dialects.metering import NullMeter
from gateway.dialects.surface import Headers, Surface
from gateway.errors import SluicegateError
from gateway.policy.model import Dialect
from gateway.policy.usage import Usage

METHODS: Final = (GENERATE, STREAM, EMBED, EMBED_BATCH, COUNT)
_PATH: Final = re.compile(rb"/(v1(?:alpha|beta)?)/(models|tunedModels)(?:/(.*))?", re.DOTALL)
_SSE: Final = b"text/event-stream"


class GeminiHandler:
    """`DialectHandler` for the Gemini API and what is compatible with it."""

    dialect = Dialect.GEMINI

    def read_call(self, operation: Operation, content_type: bytes, body: bytes) -> Call:
        return read_body(operation, body)

    def large_call(self, operation: Operation, content_type: bytes) -> LargeCall:
        return LargeGeminiCall(operation)

    def rewrite(self, operation: Operation, call: Call, content_type: bytes, body: bytes, model: str) -> bytes:
        return with_model(operation, call, body, model)

    def meter(self, operation: Operation, call: Call, status: int, content_type: bytes) -> Meter:
        if operation.name == COUNT:
            return NullMeter(Usage())
        if status >= 400:
            return NullMeter()
        if content_type == _SSE:
            return GeminiStreamMeter(call)
        return GeminiArrayMeter(call) if operation.name == STREAM else GeminiAnswerMeter(call)

    def render_error(self, error: SluicegateError, request_id: str) -> bytes:
        return orjson.dumps({"error": error_object(error, request_id)}, default=str)

    def render_stream_error(
        self, error: SluicegateError, request_id: str, content_type: bytes, meter: Meter | None
    ) -> bytes:
        """Google's own: an event, or an element of the array, that is an error."""
        told = self.render_error(error, request_id)
        if isinstance(meter, GeminiArrayMeter):
            return meter.last_element(told)
        if not isinstance(meter, GeminiStreamMeter):
            return b""
        return b"%bdata: %b\r\n\r\n" % (b"\r\n\r\n" if meter.within_event else b"", told)

    def render_listing(self, operation: Operation, names: Sequence[str], query: bytes = b"") -> bytes:
        models = [
            {
                "name": resource_name(name),
                "baseModelId": name,
                "version": "",
                "displayName": name,
                "description": "",
                "supportedGenerationMethods": METHODS,
            }
            for name in names
        ]
        return orjson.dumps(models[0] if operation.model is not None else {"models": models})

    def credential_headers(self, secret: str) -> Sequence[tuple[bytes, bytes]]:
        return ((b"x-goog-api-key", secret.encode()),)


_STATUS: Final = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
"""google.rpc.Code by HTTP status."""


def error_object(error: SluicegateError, request_id: str) -> dict[str, Any]:
    """A google.rpc.Status (cloud.google.com/apis/design/errors); for programs `sluicegate`, as in other dialects."""
    facts = {"fix": error.fix, "request_id": request_id, **error.fields}
    details: list[dict[str, Any]] = [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": error.code.upper(),
            "domain": "sluicegate",
            "metadata": {name: value if isinstance(value, str) else _plain(value) for name, value in facts.items()},
        }
    ]
    if error.retry_after_s is not None:
        delay = f"{max(0.0, error.retry_after_s):.3f}s"
        details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay})
    return {
        "code": error.status,
        "message": str(error),
        "status": _STATUS.get(error.status, "INTERNAL" if error.status >= 500 else "INVALID_ARGUMENT"),
        "details": details,
        "sluicegate": {"code": error.code, **facts},
    }


def _plain(value: object) -> str:
    """A fact as text: `metadata` is a map of strings."""
    return orjson.dumps(value, default=str).decode()


def _find(method: bytes, path: bytes) -> Operation | None:
    found = _PATH.fullmatch(path)
    if found is None:
        return None
    version, kind = found.group(1).decode(), found.group(2).decode()
    name = unquote_to_bytes(found.group(3) or b"").decode(errors="replace")
    if method == b"POST":
        name, _, verb = name.rpartition(":")
        if not name or verb not in METHODS:
            return None
        return Operation(
            name=verb,
            dialect=Dialect.GEMINI,
            upstream_path=f"/{version}/{{model}}:{verb}",
            model=_route_of(kind, name),
            path_model=resource_name,
        )
    if method not in (b"GET", b"HEAD"):
        return None
    return Operation(
        name="models",
        dialect=Dialect.GEMINI,
        upstream_path=f"/{version}/{kind}",
        listing=True,
        model=_route_of(kind, name) if name else None,
    )


def _route_of(kind: str, name: str) -> str:
    return route_name(f"{kind}/{name}")


def _speaks(headers: Headers, query: bytes) -> bool:
    """`?key=` and this header are nobody else's."""
    return query.startswith(b"key=") or b"&key=" in query or any(name == b"x-goog-api-key" for name, _ in headers)


SURFACE: Final = Surface(
    handler=GeminiHandler(), calls={}, find=_find, owns=(b"/v1beta",), version=b"/v1beta", speaks=_speaks
)
