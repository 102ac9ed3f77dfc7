"""Files, batches, uploads, stored responses: a request that names no model, passed to an account at a provider.

What lies at one account is unknown to any other, so the accounts stand in a fixed order: as the route that the caller
names lists its targets, else as all routes do that the caller may call, by their names. New things go to the first, and
what a path names is looked for at each in turn (docs/dialects.md).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from gateway.dataplane.failure import Failure
from gateway.dataplane.forwarding import header_value, media_type, without_key
from gateway.dataplane.http_exchange import REPLAYABLE_BYTES
from gateway.dataplane.plane import Plane
from gateway.dataplane.provider_exchange import DROP, ROUTE_HEADER, ProviderExchange
from gateway.dataplane.request import Request
from gateway.dataplane.route_choice import allowed_names, find_route, targets_for
from gateway.dataplane.target_plan import CallPlan, TargetPlan
from gateway.dialects import accounts
from gateway.dialects.accounts import AccountOperation
from gateway.dialects.registry import upstream_target
from gateway.errors import BadRequest, DialectUnsupported
from gateway.policy.model import Credential, Dialect, Provider, Target
from gateway.policy.quota import Amounts

if TYPE_CHECKING:
    from gateway.dataplane.lease import Reservation
    from gateway.dataplane.protocol import ClientConnection

MOST_EDITED_BYTES: Final = 4 * 1024 * 1024
"""A longer answer passes as it is."""


@dataclass(frozen=True, slots=True)
class _Account:
    """Where an id means something: one credential of one provider, reached through one route."""

    plan: CallPlan
    target: Target
    credential: Credential | None


class AccountExchange(ProviderExchange):
    """One such request."""

    operation: AccountOperation

    def __init__(self, plane: Plane, client: "ClientConnection", request: Request, operation: AccountOperation) -> None:
        super().__init__(plane, client, request, operation)
        self._accounts: list[_Account] = []
        self._whole: list[bytes] | None = None
        """An answer that names a URL of the provider's, held until it is complete."""
        body = request.body
        body.allow(plane.settings.max_upload_bytes, request.headers)
        if not body.complete:
            body.stream()  # from the first byte on: it is to wait in the client, not in a file of ours

    async def serve(self) -> None:
        self.identify()
        self._accounts = self._find_accounts()
        self.route = self._accounts[0].plan.route
        self.row.route = self.route.name
        self.total_deadline_s = self.loop.time() + self.route.timeouts.total_s
        self._attempts_left = 1 + self.route.retries
        length = header_value(self.request.headers, b"content-length")
        if length is not None and int(length) <= REPLAYABLE_BYTES:
            await self.body_complete()
        try:
            await super().serve()
        except BadRequest as error:
            if error.code != "price_unknown":
                raise
            later = BadRequest(
                f"limit {error.fields.get('limit')} counts cost, and what a batch will cost is not known beforehand",
                fix="send the requests one by one, or let the operator set the limit's `unpriced: admit`",
                **error.fields,
            )
            later.code = error.code
            raise later from None

    def _find_accounts(self) -> list[_Account]:
        """In order, each once. Raises RouteNotFound, RouteNotAllowed and DialectUnsupported."""
        app, key, operation = self.app, self.key, self.operation
        assert app is not None
        named = self.request.header(ROUTE_HEADER)
        if named is not None:
            routes = [find_route(self.snapshot, app, named.decode("latin-1"))]
            targets_for(routes[0], operation)
        else:
            routes = [self.snapshot.routes[name] for name in allowed_names(self.snapshot, app)]
        accounts: dict[tuple[int, int], _Account] = {}
        for route in routes:
            targets = [target for target in route.targets if target.provider.dialect is operation.dialect]
            if key is not None and key.only_target is not None:
                targets = [target for target in targets if target.name == key.only_target]
            if targets:
                plan = CallPlan(self.plane, self.snapshot, self.caller, app, key, route, targets)
                for target in targets:
                    for credential in self._in_order(target.provider):
                        place = (target.provider.id, credential.id if credential is not None else 0)
                        accounts.setdefault(place, _Account(plan, target, credential))
        if not accounts:
            raise DialectUnsupported(
                f"no route that app {app.name} may call has a target that speaks {operation.dialect}",
                fix=f"ask for access to a route with a target of dialect {operation.dialect}",
            )
        found = list(accounts.values())
        if operation.names_object:
            return found
        return [account for account in found if account.target.provider is found[0].target.provider]

    def _in_order(self, provider: Provider) -> list[Credential | None]:
        """The provider's credentials; those that it has refused lately come last."""
        now_s, health = self.loop.time(), self.plane.health
        found = sorted(provider.credentials, key=lambda one: health.is_aside(provider, one, now_s))
        return [*found] or [None]

    # -- attempts

    def _choose(self, now_s: float) -> TargetPlan | None:
        if self._attempts_left <= 0:
            return None
        for step in range(len(self._accounts)):
            at = (self._at + step) % len(self._accounts)
            account = self._accounts[at]
            choice = account.plan.of(account.target, account.credential)
            if self._refusals is not None and self._refusals.cover(choice, self.amounts(account.target)):
                continue
            if choice.state.available(now_s):
                self._at, self.plan = at, account.plan
                self.route = account.plan.route
                self.row.route = self.route.name
                return choice
        return None

    def _admitted(self, chosen: TargetPlan, reservation: "Reservation") -> None:
        super()._admitted(chosen, reservation)
        self.row.model = None

    def _learn(self, chosen: TargetPlan, failure: Failure) -> None:
        if failure.status != 404:  # which says nothing of the target's health
            super()._learn(chosen, failure)

    def _digest(self, failure: Failure) -> bool:
        at = self._at
        if failure.status == 404:
            del self._accounts[at]
            self._at = 0 if at >= len(self._accounts) else at
            return bool(self._accounts)
        again = super()._digest(failure)
        self._at = (at + 1) % len(self._accounts)
        return again

    def _give_up(self, last: Failure) -> None:
        if last.status == 404:
            self.deliver(last)
        else:
            super()._give_up(last)

    def is_refusal(self, status: int) -> bool:
        elsewhere = status == 404 and len(self._accounts) > 1 and self.operation.names_object and not self._body_taken
        return elsewhere or super().is_refusal(status)

    def amounts(self, target: Target) -> Amounts:
        return Amounts(0, 0, None if self.operation.spends_later else 0)

    # -- an answer that leads elsewhere

    def _start_answer(self) -> None:
        if self._leads_elsewhere() and self._status == 200 and media_type(self._headers) == b"application/json":
            self._whole = []
            self.attempt_answered()
        else:
            super()._start_answer()

    def _leads_elsewhere(self) -> bool:
        """Anthropic's batches name the URL of their results, and the SDK goes there: with our key, past the gateway."""
        operation = self.operation
        return operation.dialect is Dialect.ANTHROPIC and operation.name == accounts.BATCHES

    def on_body(self, payload: bytes, framed: bytes | None) -> None:
        whole = self._whole
        if whole is None:
            super().on_body(payload, framed)
            return
        whole.append(payload)
        if sum(map(len, whole)) > MOST_EDITED_BYTES:
            self._whole = None
            super()._start_answer()
            self.answer.write(b"".join(whole))

    def on_end(self) -> None:
        if self._whole is not None and not self.gone:
            body = accounts.with_results_here(b"".join(self._whole), self._own_url())
            self.row.status = self._status
            self.record_end()
            self.answer.whole(self._status, self._answer_lines(self._headers), body)
        super().on_end()

    def _own_url(self) -> bytes:
        """Where the caller found us, up to the version."""
        request, trusted = self.request, self.plane.settings.trusted_hops > 0
        scheme = (request.header(b"x-forwarded-proto") if trusted else None) or self.client.scheme.encode()
        host = (request.header(b"x-forwarded-host") if trusted else None) or request.header(b"host") or b""
        prefix = b"/anthropic" if request.path.startswith(b"/anthropic/") else b""
        return b"%b://%b%b" % (scheme, host, prefix)

    def _head(self, plan: TargetPlan, *, expecting: bool = False) -> bytes:
        path = upstream_target(plan.target.provider.base_url, self.operation, "").encode()
        query = without_key(self.request.query)
        target = b"%b?%b" % (path, query) if query else path
        extra = b"expect: 100-continue\r\n" if expecting else b""
        if self._leads_elsewhere():
            extra += b"accept-encoding: identity\r\n" + self.body_lines()
            return self.request_head(plan, target, DROP | {b"accept-encoding"}, extra)
        return self.request_head(plan, target, DROP, extra + self.body_lines())

    # -- at the end

    def used(self) -> Amounts:
        self.row.cost_usd_micros = None if self.operation.spends_later else 0
        return Amounts(0, 0, 0)
