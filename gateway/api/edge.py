"""The outermost layer of API and console: request ids, safe headers, the body limit, and the last catch.

Pure ASGI, because Starlette's BaseHTTPMiddleware costs a task and a queue per request. It stands inside Starlette's
ServerErrorMiddleware and leaves that nothing to do: what nobody foresaw is answered, and logged, here.
"""

import secrets
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.api.problems import on_http_exception, on_unforeseen

NO_CONTENT_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
"""For answers that are not pages: were a browser talked into rendering one, nothing in it would run."""
MAX_BODY_BYTES: Final = 16 * 1024 * 1024
"""Of a request to the API: room for an `apply` of some ten thousand keys."""
MAX_UNKNOWN_BODY_BYTES: Final = 64 * 1024
"""Where bodies are read before anybody is known: room for a passkey with its attestation."""
BEFORE_SIGN_IN: Final = ("/api/v1/session", "/api/v1/account")


class Edge:
    """Adds only headers that the answer does not bring itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(13)
        scope["sluicegate.request_id"] = request_id
        started = False
        taken = 0
        limit = MAX_UNKNOWN_BODY_BYTES if scope["path"].startswith(BEFORE_SIGN_IN) else MAX_BODY_BYTES

        async def receive_within_limit() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                raise too_large(limit)
            return message

        async def send_with_headers(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["x-content-type-options"] = "nosniff"
                headers.setdefault("referrer-policy", "same-origin")
                headers.setdefault("content-security-policy", NO_CONTENT_POLICY)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            if declared_length(scope["headers"]) > limit:
                answer = await on_http_exception(Request(scope), too_large(limit))
                await answer(scope, receive, send_with_headers)
                return
            await self._app(scope, receive_within_limit, send_with_headers)
        except Exception as error:
            answer = await on_unforeseen(Request(scope), error)
            if started:
                raise  # the server ends the connection, so that nobody takes half an answer for a whole one
            await answer(scope, receive, send_with_headers)


def too_large(limit: int) -> HTTPException:
    return HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body may have {limit // 1024} KiB here")


def declared_length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """What `Content-Length` says; 0 where it says nothing."""
    for name, value in headers:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
