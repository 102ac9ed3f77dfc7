"""Plain HTTP routes: no body is read, no token counted, errors are plain JSON."""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from gateway.dialects.base import Call, LargeCall, Meter, Operation
from gateway.dialects.metering import NullMeter
from gateway.errors import SluicegateError
from gateway.policy.model import Dialect
from gateway.policy.usage import Usage

OPERATION: Final = Operation(name="http", dialect=Dialect.HTTP, upstream_path="")
"""What a route's `match` claims: the caller's own path goes upstream."""


class HttpHandler:
    """`DialectHandler` for APIs that the gateway does not understand and need not."""

    dialect = Dialect.HTTP

    def read_call(self, operation: Operation, content_type: bytes, body: bytes) -> Call:
        return Call(route="", output_bound=0)

    def large_call(self, operation: Operation, content_type: bytes) -> LargeCall:
        raise AssertionError("bodies of HTTP routes are relayed, never read")

    def rewrite(self, operation: Operation, call: Call, content_type: bytes, body: bytes, model: str) -> bytes:
        return body

    def meter(self, operation: Operation, call: Call, status: int, content_type: bytes) -> Meter:
        return NullMeter(Usage())

    def render_error(self, error: SluicegateError, request_id: str) -> bytes:
        told: dict[str, Any] = {
            "status": error.status,
            "code": error.code,
            "message": str(error),
            "fix": error.fix,
            "request_id": request_id,
            **error.fields,
        }
        return orjson.dumps({"error": told}, default=str)

    def render_stream_error(
        self, error: SluicegateError, request_id: str, content_type: bytes, meter: Meter | None
    ) -> bytes:
        return b""

    def render_listing(self, operation: Operation, names: Sequence[str], query: bytes = b"") -> bytes:
        return orjson.dumps({"models": list(names)})

    def credential_headers(self, secret: str) -> Sequence[tuple[bytes, bytes]]:
        """A credential written as `Scheme value` is sent as it is (`Basic …`), any other as a bearer token."""
        text = secret if " " in secret else f"Bearer {secret}"
        return ((b"authorization", text.encode()),)
