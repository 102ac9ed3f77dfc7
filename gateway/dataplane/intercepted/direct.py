"""What no route claims, under `unmatched: meter`: sent where it was going, with what the caller sent, and metered and
limited on the way as route `direct:RULE`.
"""

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Final

from gateway.dataplane.forwarding import FORWARDED, KEY_HEADERS, MODEL_REQUEST_DROP, passed_on
from gateway.dataplane.health import TargetState
from gateway.dataplane.http_exchange import HttpExchange
from gateway.dataplane.identity import Caller
from gateway.dataplane.intercepted import way_out
from gateway.dataplane.model_exchange import ModelExchange
from gateway.dataplane.target_plan import CallPlan, TargetPlan
from gateway.dataplane.upstream import Origin, OriginPool, UpstreamConnection, Way
from gateway.dialects.base import Operation
from gateway.policy.header_rules import HeaderRules
from gateway.policy.model import (
    Auth,
    Credential,
    Dialect,
    Price,
    Provider,
    ProviderId,
    Route,
    RouteId,
    Strategy,
    Target,
    TargetId,
)

if TYPE_CHECKING:
    import ssl

    from gateway.dataplane.dialer import Series
    from gateway.dataplane.intercepted.flow import Flow
    from gateway.dataplane.plane import Plane
    from gateway.dataplane.protocol import ClientConnection
    from gateway.dataplane.request import Request
    from gateway.policy.snapshot import Snapshot

_DROP: Final = MODEL_REQUEST_DROP - KEY_HEADERS - {b"cookie"}
"""The caller's own credentials pass, keys of ours do not."""
_NUMBERS: Final = count(-1, -1)
"""Ids of routes and targets that are in no configuration: never twice, so that no two are taken for one."""
MOST_REMEMBERED: Final = 2048


class DirectPool(OriginPool):
    """Connections of one session to its own destination."""

    __slots__ = ("_flow", "_plane", "_tls_out")

    def __init__(self, plane: "Plane", flow: "Flow", tls: "ssl.SSLContext | None") -> None:
        address, port = flow.destination
        super().__init__(Way(Origin(tls is not None, address, port, b"")), None, plane.turn, plane.dialer)
        self._plane = plane
        self._flow = flow
        self._tls_out = tls

    async def connect(self, timeout_s: float, series: "Series | None" = None) -> UpstreamConnection:
        async with asyncio.timeout(timeout_s):
            sock = await way_out.connect(self._plane.dialer, self._flow)
            return await way_out.speak(sock, self._flow, lambda: UpstreamConnection(self), self._tls_out)


class Directs:
    """Routes and targets by what they are for: limits and ledger know them by these."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, Dialect, str | None], Route] = {}
        self._snapshot: Snapshot | None = None
        """Whose prices they have."""

    def route(self, flow: "Flow", host: str, dialect: Dialect, model: str | None, snapshot: "Snapshot") -> Route:
        """With its one target. `host`: what the destination is called."""
        if self._snapshot is not snapshot:
            self._snapshot = snapshot
            self._known.clear()
        key = (flow.rule.name, host, dialect, model)
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MOST_REMEMBERED:
                self._known.clear()
            provider = Provider(id=ProviderId(next(_NUMBERS)), name=host, dialect=dialect, base_url=f"http://{host}")
            target = Target(
                id=TargetId(next(_NUMBERS)), provider=provider, model=model, price=_price_of(snapshot, dialect, model)
            )
            found = self._known[key] = Route(
                id=RouteId(next(_NUMBERS)),
                name=f"direct:{flow.rule.name}",
                strategy=Strategy.ORDERED,
                targets=(target,),
                retries=0,
                preserve_host=True,
                auth=Auth.NONE,
                request_headers=HeaderRules(drop=FORWARDED),
            )
        return found


class DirectPlan(CallPlan):
    """Its only target has no past, and leads where the flow was going."""

    pool: DirectPool

    def of(self, target: Target, credential: Credential | None) -> TargetPlan:
        plan = super().of(target, credential)
        plan.pool = self.pool
        plan.state = TargetState()
        plan.series = (self.route.name, target.provider.name)  # callers choose models, and there is no end of them
        return plan


class DirectModelExchange(ModelExchange):
    """A call with a model that no route has."""

    def __init__(
        self, plane: "Plane", client: "ClientConnection", request: "Request", operation: Operation, caller: Caller,
        flow: "Flow", pool: DirectPool, directs: Directs, host: str,
    ) -> None:  # fmt: skip
        super().__init__(plane, client, request, operation.dialect)
        self.operation = operation
        self._direct = (caller, flow, pool, directs, host)

    def at_once(self) -> bool:
        return False

    def _plan_call(self, caller: Caller) -> CallPlan:
        _, flow, pool, directs, host = self._direct
        assert self.call is not None
        route = directs.route(flow, host, self.operation.dialect, self.call.route, self.snapshot)
        self.row.route = route.name
        plan = DirectPlan(self.plane, self.snapshot, caller, caller.app, caller.key, route, route.targets)
        plan.pool, plan.extra = pool, self.answer.extra
        return plan

    def _head_for(self, plan: TargetPlan) -> bytes:
        request, caller = self.request, self._direct[0]
        query = caller.query_without_key(request.query, self.snapshot)
        target = request.path + (b"?" + query if query else b"")
        lines = [
            b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (request.method, target, request.header(b"host") or b""),
            b"accept-encoding: identity\r\n",
            *passed_on(request.headers, _DROP | caller.headers_with_key(request.headers, self.snapshot)),
        ]
        return b"".join(lines)


class DirectHttpExchange(HttpExchange):
    """Any other request."""

    def __init__(
        self, plane: "Plane", client: "ClientConnection", request: "Request", caller: Caller, flow: "Flow",
        pool: DirectPool, directs: Directs, host: str,
    ) -> None:  # fmt: skip
        route = directs.route(flow, host, Dialect.HTTP, None, plane.snapshot)
        super().__init__(plane, client, request, route)
        self.caller = caller
        self._pool = pool

    def at_once(self) -> bool:
        return False

    def query(self) -> bytes:
        assert self.caller is not None
        return self.caller.query_without_key(self.request.query, self.snapshot)

    async def serve(self) -> None:
        caller = self.caller
        assert caller is not None
        self.admit_to(caller.app, caller.key)
        self.row.stream = bool(self.request.upgrade)
        self.row.host = (self.request.header(b"host") or b"").decode("latin-1")[:255]
        route = self.route
        plan = DirectPlan(self.plane, self.snapshot, caller, caller.app, caller.key, route, route.targets)
        plan.pool = self._pool
        self.plan_attempts(plan, self.loop.time())
        await super().serve()


def _price_of(snapshot: "Snapshot", dialect: Dialect, model: str | None) -> Price | None:
    """That of a configured target of this model, whichever account it is with; None = not known."""
    if model is None:
        return None
    targets = (target for route in snapshot.routes.values() for target in route.targets)
    return next(
        (each.price for each in targets if each.model == model and each.provider.dialect is dialect and each.price),
        None,
    )
