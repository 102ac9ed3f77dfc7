"""The client connection of an intercepted session: what is claimed is served by it as on any other connection."""

import asyncio
import time
from typing import TYPE_CHECKING, Any, ClassVar

from gateway.dataplane.asgi import AsgiRequest
from gateway.dataplane.exchange import Exchange
from gateway.dataplane.identity import Caller
from gateway.dataplane.intercepted.claims import Verdict
from gateway.dataplane.intercepted.direct import DirectHttpExchange, DirectModelExchange
from gateway.dataplane.intercepted.refused import DeniedExchange
from gateway.dataplane.listeners import Serves
from gateway.dataplane.protocol import ClientConnection
from gateway.dialects.base import Operation

if TYPE_CHECKING:
    from gateway.dataplane.intercepted.flow import Flow
    from gateway.dataplane.intercepted.session import InterceptedSession
    from gateway.dataplane.plane import Plane
    from gateway.dataplane.request import Request


class InterceptedConnection(ClientConnection):
    """Fed by its session, one request at a time."""

    __slots__ = ("denied", "direct", "expected", "host", "identity", "intercepted", "session")

    express: ClassVar[bool] = True
    session: "InterceptedSession"
    """Set by it."""
    intercepted: "Flow"

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.direct: Verdict | None = None
        """The request under way is claimed by no route, and dealt with here all the same (`unmatched`)."""
        self.denied = False
        """… by a refusal."""
        self.host: str | None = None
        """Under which it is looked for among the routes, where its own Host header leads elsewhere."""
        self.expected = False
        """The client has been told to go on already (100)."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.client, self.server = self.intercepted.client, self.intercepted.destination
        self.client_ip = self.client[0]
        self.identity = self.intercepted.identity
        rule = self.intercepted.rule
        # Whom a head is charged to, under whose credential it goes, and what its rows say of the client.
        self.scope = (
            f"{self.scope} {rule.name} {rule.app} {rule.credential} {self.identity} {self.intercepted.attested}"
        )

    def find_operation(self, request: "Request") -> Operation | None:
        self.adjust(request)
        if self.direct is not None:
            return None
        return super().find_operation(request)

    def make_exchange(self, request: "Request", operation: Operation | None) -> Exchange | AsgiRequest:
        caller = self.session.caller
        if caller is not None:
            request.remember(self.plane.snapshot, caller)
        if self.denied:
            return DeniedExchange(self.plane, self, request, self.intercepted.rule, caller)
        if self.direct is not None and caller is not None:
            return self._make_direct(request, self.direct.operation, caller)
        return super().make_exchange(request, operation)

    def _make_direct(self, request: "Request", operation: Operation | None, caller: Caller) -> Exchange:
        flow, plane, session = self.intercepted, self.plane, self.session
        pool, directs, host = session.pool, session.directs, session.called
        if operation is None or operation.listing or not request.has_body:
            return DirectHttpExchange(plane, self, request, caller, flow, pool, directs, host)
        return DirectModelExchange(plane, self, request, operation, caller, flow, pool, directs, host)

    def adjust(self, request: "Request") -> None:
        if self.expected:
            request.expect_continue = False
        if self.host is not None:
            host = self.host.encode("latin-1")
            others = [pair for pair in request.headers if pair[0] != b"host"]
            request.headers = [(b"host", host), *others]  # HTTP/1.0 may come without

    def _go_on(self) -> None:
        super()._go_on()
        self.session.answered()

    def express_done(self, now_s: float) -> None:
        super().express_done(now_s)
        self.session.answered()

    def check_deadlines(self, now_s: float) -> None:
        session = self.session
        leaves = self.plane.draining and session.is_idle
        if session.serves_inner or leaves or not (session.passed_on or session.holds):
            super().check_deadlines(now_s)
        else:
            session.check_deadlines(now_s)

    def shutdown(self) -> None:
        if self.session.is_idle or self.session.serves_inner:
            super().shutdown()

    @staticmethod
    def now_s() -> float:
        return time.time()


def intercepted_class(plane: "Plane") -> type[InterceptedConnection]:
    """The class of a worker's intercepted connections."""
    return type(
        "BoundInterceptedConnection",
        (InterceptedConnection,),
        {"__slots__": (), "plane": plane, "serves": Serves.TRANSPARENT},
    )
