"""The answer to what no route claims where the rule says `unmatched: deny`."""

from typing import TYPE_CHECKING

from gateway.dataplane.exchange import Exchange
from gateway.dataplane.identity import Caller
from gateway.dialects.registry import dialect_of, is_data_plane_path
from gateway.errors import Forbidden
from gateway.policy.interception import InterceptionRule
from gateway.policy.model import Dialect

if TYPE_CHECKING:
    from gateway.dataplane.plane import Plane
    from gateway.dataplane.protocol import ClientConnection
    from gateway.dataplane.request import Request


class DestinationDenied(Forbidden):
    code = "destination_denied"


class DeniedExchange(Exchange):
    """Refuses in the caller's dialect. It is in the ledger where somebody is charged."""

    def __init__(
        self,
        plane: "Plane",
        client: "ClientConnection",
        request: "Request",
        rule: InterceptionRule,
        caller: Caller | None,
    ) -> None:
        known = is_data_plane_path(request.path)
        dialect = dialect_of(request.path, request.query, request.headers) if known else Dialect.HTTP
        super().__init__(plane, client, request, dialect)
        self._rule = rule
        self._caller = caller

    def at_once(self) -> bool:
        if self._caller is not None:
            self.admit_to(self._caller.app, self._caller.key)
        raise DestinationDenied(
            f"interception rule {self._rule.name} lets nothing pass that no route claims",
            fix="call a model or path that a route of the gateway has, or ask its operator for one",
        )

    async def serve(self) -> None:
        self.at_once()
