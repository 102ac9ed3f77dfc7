"""What every answer of the API and console carries: a request id and the headers that keep a browser safe.

Pure ASGI, because Starlette's BaseHTTPMiddleware costs a task and a queue per request.
"""

import secrets
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NO_CONTENT_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
"""For answers that are not pages: were a browser talked into rendering one, nothing in it would run."""


class Edge:
    """Outermost layer. Sets only headers that the answer does not bring itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(13)
        scope["sluicegate.request_id"] = request_id

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request_id
                headers["x-content-type-options"] = "nosniff"
                headers.setdefault("referrer-policy", "same-origin")
                headers.setdefault("content-security-policy", NO_CONTENT_POLICY)
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)
