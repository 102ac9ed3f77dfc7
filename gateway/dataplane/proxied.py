"""Whose a request to the forward proxy is. What a route claims goes the way of explicit requests; all else is passed on
where the app may go there. Console and REST API are never to be had here."""

import time
from typing import TYPE_CHECKING, Final

from gateway.dataplane.account_exchange import AccountExchange
from gateway.dataplane.asgi import AsgiRequest
from gateway.dataplane.connect_exchange import ConnectExchange
from gateway.dataplane.forwarded_exchange import ForwardedExchange, RefusedExchange
from gateway.dataplane.http_exchange import HttpExchange
from gateway.dataplane.model_exchange import ModelExchange
from gateway.dataplane.proxy_identity import CHALLENGE, ProxyAuthenticationRequired, identify_proxied
from gateway.dataplane.realtime_exchange import RealtimeExchange
from gateway.dataplane.routing import HEALTH, route_by_host
from gateway.dialects.accounts import AccountOperation
from gateway.dialects.base import Operation
from gateway.dialects.registry import classify, classify_beside
from gateway.errors import BadRequest, SluicegateError
from gateway.wire.heads import connect_target, split_absolute

if TYPE_CHECKING:
    from gateway.dataplane.exchange import Exchange
    from gateway.dataplane.plane import Plane
    from gateway.dataplane.protocol import ClientConnection
    from gateway.dataplane.request import Request

HTTP_PORT: Final = 80


def proxied_operation(plane: "Plane", request: "Request") -> Operation | None:
    """The dialect's operation that is asked for at a provider's own address; None where it is something else."""
    host, port = _destination(request)
    if not host or (host, port) not in plane.egress(plane.snapshot).provider_hosts:
        return None
    if plane.http_routes and route_by_host(plane, request) is not None:
        return None
    return classify(request.method, request.path, request.query, request.headers)


def proxied_exchange(
    plane: "Plane", client: "ClientConnection", request: "Request", operation: Operation | None
) -> "Exchange | AsgiRequest":
    if request.method == b"CONNECT":
        host, port = connect_target(request.target, request.header(b"host"))
        return ConnectExchange(plane, client, request, host, port)
    host, port = _destination(request)
    if not host:
        if request.path in HEALTH:
            return AsgiRequest(client, request)
        return RefusedExchange(plane, client, request, _form_error(request))
    snapshot = plane.snapshot
    try:
        caller = identify_proxied(request, snapshot, client.client_ip, time.time())
    except SluicegateError as error:
        lines = CHALLENGE if isinstance(error, ProxyAuthenticationRequired) else b""
        return RefusedExchange(plane, client, request, error, lines)
    request.remember(snapshot, caller)
    if operation is not None:
        exchange = ModelExchange(plane, client, request, operation.dialect)
        exchange.operation = operation
        return exchange
    route = route_by_host(plane, request) if plane.http_routes else None
    if route is not None:
        return HttpExchange(plane, client, request, route)
    if (host, port) in plane.egress(snapshot).provider_hosts:
        beside = classify_beside(request.method, request.path, request.query, request.headers)
        if isinstance(beside, AccountOperation):
            return AccountExchange(plane, client, request, beside)
        if beside is not None:
            return RealtimeExchange(plane, client, request)
    return ForwardedExchange(plane, client, request, caller, host, port)


def _destination(request: "Request") -> tuple[str, int]:
    """Host (lower case, without brackets) and port of an absolute `http:` target; no host for any other."""
    if request.target[:7].lower() != b"http://":
        return "", 0
    authority = split_absolute(request.target)[0].decode("latin-1").lower()
    if authority.startswith("["):
        host, _, port = authority[1:].partition("]")
        port = port.removeprefix(":")
    else:
        host, _, port = authority.partition(":")
    number = int(port) if port else HTTP_PORT
    return host.removesuffix("."), number if number < 65536 else 0


def _form_error(request: "Request") -> BadRequest:
    if request.target[:8].lower() == b"https://":
        return BadRequest(
            "the forward proxy passes https: on in tunnels only", fix="send CONNECT, as every client does by itself"
        )
    return BadRequest(
        "this address is a forward proxy, and no URL was asked for",
        fix="name it as HTTPS_PROXY and HTTP_PROXY, or call the gateway's own address",
    )
