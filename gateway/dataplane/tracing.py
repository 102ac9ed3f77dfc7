"""What a trace needs and no ledger row has: the caller's `traceparent`, the operation, the server that was asked.

Only where `otel` is on: the connection class is then a subclass that tells the keeper one note a request, and the
keeper passes it on to the exporter, which joins it with the row. Where it is off none of this is imported.
"""

import os
from typing import TYPE_CHECKING, Any

from gateway.dataplane.asgi import AsgiRequest
from gateway.dataplane.exchange import Exchange
from gateway.dataplane.keeper_link import KeeperLink
from gateway.dataplane.listeners import Serves
from gateway.dataplane.protocol import ClientConnection
from gateway.dataplane.request import Request
from gateway.dialects.base import Operation
from gateway.wire.traceparent import TraceParent, read_traceparent

if TYPE_CHECKING:
    from gateway.dataplane.plane import Plane


class TracedConnection(ClientConnection):
    """One request at a time is active on a connection: what belongs to it can stand here."""

    express = False
    link: KeeperLink
    _operation = ""
    _parent: TraceParent | None = None
    _span_id = ""

    def _serve(self, request: Request, operation: Operation | None) -> None:
        self._operation = "" if operation is None else operation.name
        self._parent = None
        self._span_id = ""
        for at, (name, value) in enumerate(request.headers):
            if name == b"traceparent":
                parent = read_traceparent(value)
                if parent is not None:
                    # The upstream's spans become children of ours, so that the head is another one each time.
                    self._memo = self.known_request = None
                    self._parent, self._span_id = parent, os.urandom(8).hex()
                    request.headers[at] = (name, parent.child(self._span_id))
                break
        super()._serve(request, operation)

    def exchange_done(self, done: "Exchange | AsgiRequest") -> None:
        if isinstance(done, Exchange) and done.app is not None:
            self.link.send({"type": "trace", "note": self._note(done)})
        super().exchange_done(done)

    def _note(self, done: Exchange) -> dict[str, Any]:
        note: dict[str, Any] = {"id": done.row.id, "operation": self._operation}
        chosen = getattr(done, "chosen", None)
        if chosen is not None:
            note["server"] = [chosen.pool.origin.host, chosen.pool.origin.port]
        meter = getattr(done, "meter", None)
        if meter is not None:
            note["model"], note["finish_reason"] = meter.model, meter.finish_reason
        if self._parent is not None:
            note["parent"] = [self._parent.trace_id, self._parent.span_id, self._parent.flags]
            note["span_id"] = self._span_id
        return note


def traced_protocol_class(plane: "Plane", link: KeeperLink, serves: Serves) -> type[ClientConnection]:
    """The class of all connections to one listener, where `otel` is on."""
    return type("TracedClientConnection", (TracedConnection,), {"plane": plane, "link": link, "serves": serves})
