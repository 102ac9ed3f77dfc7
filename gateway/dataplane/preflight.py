"""Preflights of browsers: answered here, without a key, without an upstream, without a ledger row."""

from typing import TYPE_CHECKING

from gateway.dataplane.exchange import Exchange
from gateway.errors import Forbidden
from gateway.policy.cors import PREFLIGHT_VARY
from gateway.policy.model import Auth, Dialect

if TYPE_CHECKING:
    from gateway.dataplane.plane import Plane
    from gateway.dataplane.protocol import ClientConnection
    from gateway.dataplane.request import Request
    from gateway.policy.model import Route


class PreflightExchange(Exchange):
    """`OPTIONS` with `Origin` and `Access-Control-Request-Method` (WHATWG Fetch, "CORS-preflight request")."""

    shows_errors = False

    def __init__(self, plane: "Plane", client: "ClientConnection", request: "Request", route: "Route | None") -> None:
        super().__init__(plane, client, request, Dialect.HTTP)
        self._route = route

    async def serve(self) -> None:
        request = self.request
        await self.body_complete()
        origin = request.header(b"origin") or b""
        method = request.header(b"access-control-request-method") or b""
        headers = request.header(b"access-control-request-headers") or b""
        route = None if self._route is None else self._route.name
        lines = self.snapshot.cors.preflight_lines(origin, method, headers, route)
        if lines is None:
            self.answer.extra = PREFLIGHT_VARY
            raise Forbidden(
                f"no app takes {method.decode('latin-1')[:32]} from pages of {origin.decode('latin-1')[:200]}",
                fix="add the origin (method, header) to the app's `cors`",
            )
        self.answer.whole(204, [lines, self.our_lines()], b"")


def is_preflight(request: "Request", route: "Route | None") -> bool:
    """Whether this is one for us: a route that asks for no key leaves it to its upstream."""
    if route is not None and route.auth is Auth.NONE:
        return False
    return request.header(b"origin") is not None and request.header(b"access-control-request-method") is not None
