"""Whose a request is: an HTTP route's (by host), a dialect's (by path), an HTTP route's (by path), or FastAPI's."""

from typing import TYPE_CHECKING, Final

from gateway.dataplane.http_exchange import HttpExchange
from gateway.dataplane.model_exchange import ModelExchange
from gateway.dataplane.unknown_path import UnknownPathExchange
from gateway.dialects.registry import classify, dialect_of, is_data_plane_path

if TYPE_CHECKING:
    from gateway.dataplane.exchange import Exchange
    from gateway.dataplane.plane import Plane
    from gateway.dataplane.protocol import ClientConnection
    from gateway.dataplane.request import Request

OURS: Final = (b"/console", b"/api/v1", b"/api/docs", b"/api/openapi", b"/healthz", b"/readyz", b"/metrics")


def start_exchange(plane: "Plane", client: "ClientConnection", request: "Request") -> "Exchange | None":
    """The exchange that serves this request; None = the FastAPI application does."""
    http_routes = plane.http_routes
    path_text = ""
    if http_routes:
        path_text = request.path.decode("latin-1")
        host = (request.header(b"host") or b"").decode("latin-1").lower()
        host = host[: host.rindex("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
        route = http_routes.by_host(host, path_text)
        if route is not None:
            return HttpExchange(plane, client, request, route)
    path = request.path
    operation = classify(request.method, path, request.query, request.headers)
    if operation is not None:
        return ModelExchange(plane, client, request, operation)
    if is_data_plane_path(path):
        return UnknownPathExchange(plane, client, request, dialect_of(path, request.headers))
    if http_routes and path != b"/" and not path.startswith(OURS):
        route = http_routes.by_path(path_text)
        if route is not None:
            return HttpExchange(plane, client, request, route)
    return None
