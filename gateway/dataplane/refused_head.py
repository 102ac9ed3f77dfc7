"""The answer to what is no request: in the dialect of the path that it asked for, as far as that was readable."""

from http import HTTPStatus
from typing import Final

import orjson

from gateway.dataplane.answers import error_answer
from gateway.dataplane.request import Request
from gateway.dialects.registry import HANDLERS, dialect_of, is_data_plane_path
from gateway.errors import MalformedRequest
from gateway.policy.model import Dialect
from gateway.wire.errors import WireError

API: Final = b"/api/"
PROBLEM_LINE: Final = b"content-type: application/problem+json\r\n"

ALLOW_LINE = b"allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"
"""What is served of the methods that RFC 9110 names; a 405 must say so (15.5.6)."""


def refusal(error: WireError, request: Request | None, request_id: str) -> tuple[list[bytes], bytes]:
    """Header lines and body. `request` is what was read of it; None where not even its target is known."""
    path, _, query = (b"" if request is None else request.target).partition(b"?")
    told = MalformedRequest(error.status, error.message)
    id_line = b"x-request-id: %b\r\n" % request_id.encode()
    if error.status == HTTPStatus.METHOD_NOT_ALLOWED:
        id_line += ALLOW_LINE
    if path.startswith(API):
        problem = {
            "type": "/api/docs#problem-" + told.code,
            "title": HTTPStatus(told.status).phrase,
            "status": told.status,
            "detail": told.message,
            "instance": path[:200].decode("ascii", "replace"),
            "code": told.code,
            "fix": told.fix,
            "request_id": request_id,
        }
        return [id_line, PROBLEM_LINE], orjson.dumps(problem)
    dialect = Dialect.OPENAI
    if is_data_plane_path(path):
        dialect = dialect_of(path, query, [] if request is None else request.headers)
    lines, body = error_answer(told, HANDLERS[dialect], request_id)
    return [id_line, *lines], body
