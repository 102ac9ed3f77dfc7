"""An absolute-form request (`GET http://host/path`) that no route claims: forwarded to a host that the app may reach.

It is an HTTP route's exchange but for its target, which is where the URL leads; nothing of the client's address or of
the gateway's key goes there.
"""

import dataclasses
from collections.abc import Sequence
from socket import AddressFamily
from typing import TYPE_CHECKING, Final

from gateway.dataplane import egress
from gateway.dataplane.answers import route_lines
from gateway.dataplane.connect_exchange import ROUTE, ROUTE_NAME
from gateway.dataplane.dialer import Dialer, Series
from gateway.dataplane.forwarding import FORWARDED
from gateway.dataplane.health import TargetState
from gateway.dataplane.http_exchange import HttpExchange
from gateway.dataplane.target_plan import CallPlan, TargetPlan
from gateway.dataplane.turn import Turn
from gateway.dataplane.upstream import Origin, OriginPool, UpstreamConnection, Way
from gateway.errors import SluicegateError
from gateway.policy.egress import Address
from gateway.policy.header_rules import HeaderRules
from gateway.policy.model import Credential, Target

if TYPE_CHECKING:
    from gateway.dataplane.identity import Caller
    from gateway.dataplane.plane import Plane
    from gateway.dataplane.protocol import ClientConnection
    from gateway.dataplane.request import Request

_PASSED_ON: Final = dataclasses.replace(ROUTE, preserve_host=True, request_headers=HeaderRules(drop=FORWARDED))


class OneUse(OriginPool):
    """Connections to addresses that were judged for one request: none is kept for another."""

    def __init__(
        self, origin: Origin, addresses: Sequence[tuple[AddressFamily, Address]], turn: Turn, dialer: Dialer
    ) -> None:
        super().__init__(Way(origin), None, turn, dialer)
        self._addresses = addresses

    def take(self) -> UpstreamConnection | None:
        return None

    async def connect(self, timeout_s: float, series: Series | None = None) -> UpstreamConnection:
        return await egress.connect(
            self.dialer,
            self._addresses,
            self.origin.port,
            lambda: UpstreamConnection(self),
            self.origin.authority.decode(),
        )

    def give_back(self, connection: UpstreamConnection) -> None:
        connection.abort()


class DirectPlan(CallPlan):
    """One request's only target: it has no past and leaves no trace."""

    pool: OriginPool
    entry = ""
    """Of the app's `egress`, by which the request may go there."""

    def of(self, target: Target, credential: Credential | None) -> TargetPlan:
        plan = super().of(target, credential)
        plan.pool = self.pool
        plan.series = (self.route.name, target.provider.name)
        plan.state = TargetState()
        plan.row_values = {"target": self.entry, "provider": None, "model": None}
        plan.lines = route_lines(ROUTE_NAME, self.entry)
        return plan


class ForwardedExchange(HttpExchange):
    """`host` and `port` as the URL names them."""

    def __init__(
        self,
        plane: "Plane",
        client: "ClientConnection",
        request: "Request",
        caller: "Caller",
        host: str,
        port: int,
    ) -> None:
        super().__init__(plane, client, request, ROUTE)
        self.caller = caller
        self.host, self.port = host, port
        self.row.host = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def at_once(self) -> bool:
        return False

    async def serve(self) -> None:
        caller = self.caller
        assert caller is not None
        self.admit_to(caller.app, caller.key)
        self.row.route = ROUTE_NAME
        allowed = self.plane.egress(self.snapshot).of(caller.app)
        by = egress.judge(allowed, caller.app, self.host, self.port)
        addresses = await egress.reachable(self.plane, allowed, by, self.host, self.port)
        self.route = _PASSED_ON
        plan = DirectPlan(self.plane, self.snapshot, caller, caller.app, caller.key, self.route, self.route.targets)
        plan.pool = OneUse(Origin(False, self.host, self.port, b""), addresses, self.plane.turn, self.plane.dialer)
        plan.entry = by.text
        self.plan_attempts(plan, self.loop.time())
        await super().serve()


class RefusedExchange(HttpExchange):
    """A request to the forward proxy that cannot be served: no identity, or no such form."""

    def __init__(
        self, plane: "Plane", client: "ClientConnection", request: "Request", error: SluicegateError, lines: bytes = b""
    ) -> None:
        super().__init__(plane, client, request, ROUTE)
        self.row.route = None
        self._error = error
        self._lines = lines

    def at_once(self) -> bool:
        raise self._error

    def our_lines(self) -> bytes:
        return super().our_lines() + self._lines
