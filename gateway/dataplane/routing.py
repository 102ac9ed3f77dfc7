"""Whose a request is: an HTTP route's (by host), a dialect's (by path), an HTTP route's (by path), or FastAPI's."""

from typing import TYPE_CHECKING, Final

from gateway.dataplane.account_exchange import AccountExchange
from gateway.dataplane.asgi import AsgiRequest
from gateway.dataplane.http_exchange import HttpExchange
from gateway.dataplane.listeners import Serves
from gateway.dataplane.model_exchange import ModelExchange
from gateway.dataplane.preflight import PreflightExchange, is_preflight
from gateway.dataplane.realtime_exchange import RealtimeExchange
from gateway.dataplane.unknown_path import ElsewhereExchange, UnknownPathExchange
from gateway.dialects.accounts import AccountOperation
from gateway.dialects.base import Operation
from gateway.dialects.registry import classify, classify_beside, dialect_of, is_data_plane_path
from gateway.policy.model import Dialect, Route

if TYPE_CHECKING:
    from gateway.dataplane.exchange import Exchange
    from gateway.dataplane.plane import Plane
    from gateway.dataplane.protocol import ClientConnection
    from gateway.dataplane.request import Request

OURS: Final = (
    b"/console", b"/api/v1", b"/api/docs", b"/api/openapi", b"/scim/v2", b"/healthz", b"/readyz", b"/metrics",
)  # fmt: skip
HEALTH: Final = (b"/healthz", b"/readyz")
"""Load balancers ask for these where the traffic goes: every listener has them."""


def operation_of(plane: "Plane", request: "Request") -> Operation | None:
    """The dialect's operation that this request asks for; None where it is somebody else's."""
    if plane.http_routes and route_by_host(plane, request) is not None:
        return None
    return classify(request.method, request.path, request.query, request.headers)


def exchange_for(
    plane: "Plane", client: "ClientConnection", request: "Request", operation: Operation | None
) -> "Exchange | AsgiRequest":
    """Who serves the request. `operation` as `operation_of` found it."""
    if client.serves is Serves.ADMIN:
        return AsgiRequest(client, request)
    if operation is not None:
        exchange = ModelExchange(plane, client, request, operation.dialect)
        exchange.operation = operation
        return exchange
    path = request.path
    if plane.http_routes:
        route = route_by_host(plane, request)
        pages = client.serves is not Serves.TRANSPARENT and (path == b"/" or path.startswith(OURS))
        if route is None and not is_data_plane_path(path) and not pages:
            route = plane.http_routes.by_path(path.decode("latin-1"))
        if route is not None:
            if request.method == b"OPTIONS" and plane.snapshot.cors and is_preflight(request, route):
                return PreflightExchange(plane, client, request, route)
            return HttpExchange(plane, client, request, route)
    if is_data_plane_path(path):
        if request.method == b"OPTIONS" and plane.snapshot.cors and is_preflight(request, None):
            return PreflightExchange(plane, client, request, None)
        beside = classify_beside(request.method, path, request.query, request.headers)
        if isinstance(beside, AccountOperation):
            return AccountExchange(plane, client, request, beside)
        if beside is not None:
            return RealtimeExchange(plane, client, request)
        return UnknownPathExchange(plane, client, request, dialect_of(path, request.query, request.headers))
    if client.serves is Serves.TRANSPARENT or (client.serves is Serves.DATA and path not in HEALTH):
        return ElsewhereExchange(plane, client, request, Dialect.HTTP)
    return AsgiRequest(client, request)


def route_by_host(plane: "Plane", request: "Request") -> Route | None:
    host = (request.header(b"host") or b"").decode("latin-1").lower()
    host = host[: host.rindex("]") + 1] if host.startswith("[") and "]" in host else host.partition(":")[0]
    return plane.http_routes.by_host(host, request.path.decode("latin-1"))
