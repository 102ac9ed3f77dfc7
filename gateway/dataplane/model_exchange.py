"""A call with a model: the body is read whole, routed by the model it names, rewritten for the target and metered."""

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from gateway.dataplane.compressed import decoding
from gateway.dataplane.forwarding import (
    MODEL_REQUEST_DROP,
    RESPONSE_DROP,
    forwarded_lines,
    header_value,
    media_type,
    passed_on,
    without_key,
)
from gateway.dataplane.forwarding_exchange import Failure, Fault, ForwardingExchange
from gateway.dataplane.identity import identify
from gateway.dataplane.large_body import spliced, spliced_length
from gateway.dataplane.plane import Plane
from gateway.dataplane.request import Headers, Request
from gateway.dataplane.upstream import UpstreamConnection
from gateway.dialects.base import Call, LargeCall, Meter, Operation
from gateway.dialects.registry import upstream_target
from gateway.errors import DialectUnsupported, RouteNotAllowed, RouteNotFound, SluicegateError
from gateway.policy.model import Credential, Route, Target
from gateway.policy.quota import NOTHING, Amounts
from gateway.policy.usage import Outcome, Usage, cost_bound_microusd, cost_microusd

if TYPE_CHECKING:
    from gateway.dataplane.protocol import ClientConnection

HOLD_BYTES: Final = 256 * 1024
"""A plain answer up to this size is held until complete: its cost can stand in the head, and a target that breaks off
in the middle of it can still be replaced by another."""
HOLD_REFUSAL_BYTES: Final = 1024 * 1024
NAMES_SHOWN: Final = 50


class ModelExchange(ForwardingExchange):
    """One call of a dialect's operation."""

    repeatable = True
    call: Call | None = None
    meter: Meter | None = None
    content_type = b""
    large: LargeCall | None = None
    """Reader of a body that does not fit into memory."""
    _held: list[bytes] | None = None
    """Pieces of an answer that is held until complete; None while streaming."""
    _held_bytes = 0
    _head = b""
    """Client head of a stream, until its first payload goes out with it."""
    _status = 0
    _headers: Headers = []  # noqa: RUF012 - replaced, never changed
    _need = NOTHING
    _writable: "asyncio.Future[None] | None" = None

    def __init__(self, plane: Plane, client: "ClientConnection", request: Request, operation: Operation) -> None:
        super().__init__(plane, client, request, operation.dialect)
        self.operation = operation

    def at_once(self) -> bool:
        request = self.request
        if self.operation.listing or not request.body.complete or request.body.in_file:
            return False
        caller = identify(request, self.snapshot, self.now_s)
        self.admit_to(caller.key.app, caller.key)
        self.plan_attempts(self._read_call(request.body.whole()))
        return self.attempt_at_once()

    async def serve(self) -> None:
        if self.call is None:
            request = self.request
            caller = identify(request, self.snapshot, self.now_s)
            self.admit_to(caller.key.app, caller.key)
            if self.operation.listing:
                self._list_models()
                return
            if request.has_body and not request.body.complete:
                content_type = header_value(request.headers, b"content-type") or b""
                self.large = request.body.watcher = self.handler.large_call(self.operation, content_type)
                request.body.spill_on()
            await self.body_complete()
            if not request.body.in_file:
                self.large = None
            self.plan_attempts(self._read_call(b"" if self.large else request.body.whole()))
        await self.attempt_all()

    def _read_call(self, body: bytes) -> Sequence[Target]:
        """Understand the body, find its route; returns the targets that speak the caller's dialect."""
        self.content_type = header_value(self.request.headers, b"content-type") or b""
        call = self.large.call() if self.large else self.handler.read_call(self.operation, self.content_type, body)
        self.call = call
        row = self.row
        row.model = call.route
        if call.stream:
            row.stream = True
        route = self.route = self._find_route(call.route)
        row.route = route.name
        dialect = self.operation.dialect
        targets = [target for target in route.targets if target.provider.dialect is dialect]
        if not targets:
            spoken = sorted({target.provider.dialect.value for target in route.targets})
            raise DialectUnsupported(
                f"route {route.name} has no target that speaks {dialect.value}",
                fix=f"call it through {', '.join(spoken) or 'no'} paths, or add a target of dialect {dialect.value}",
                dialects=spoken,
            )
        return targets

    # -- before the upstream

    def _list_models(self) -> None:
        """Names of the routes that the key may call; no upstream is asked, so neither limits nor ledger know of it."""
        assert self.app is not None
        names = self._allowed_names()
        wanted = self.operation.model
        if wanted is not None:
            if wanted not in names:
                raise self._not_found(wanted)
            names = [wanted]
        body = self.handler.render_models(names, wanted is not None)
        self.answer.whole(200, [b"content-type: application/json\r\n", self.our_lines(None)], body)
        self.app = None  # nothing to record

    def _allowed_names(self) -> list[str]:
        assert self.app is not None
        allowed = self.app.routes
        return sorted(
            name
            for name, route in self.snapshot.routes.items()
            if route.match is None and (allowed is None or name in allowed)
        )

    def _find_route(self, name: str) -> Route:
        assert self.app is not None
        route = self.snapshot.routes.get(name)
        if route is None or route.match is not None:
            raise self._not_found(name)
        if self.app.routes is not None and name not in self.app.routes:
            raise RouteNotAllowed(
                f"app {self.app.name} may not call route {name}",
                fix="ask for access, or use one of: " + _few(self._allowed_names()),
                routes_allowed=self._allowed_names()[:NAMES_SHOWN],
            )
        return route

    def _not_found(self, name: str) -> RouteNotFound:
        names = self._allowed_names()
        return RouteNotFound(
            f"there is no route {name[:200]!r}",
            fix="use one of: " + _few(names) if names else "no route is allowed to this app yet",
            routes_allowed=names[:NAMES_SHOWN],
        )

    def amounts(self, target: Target) -> Amounts:
        assert self.call is not None
        call, price = self.call, target.price
        output = call.output_bound
        if output is None:
            output = self.route.max_output_tokens * call.choices
        cost = None if price is None else cost_bound_microusd(call.input_bound, output, price)
        self._need = Amounts(call.input_bound, output, cost)
        return self._need

    # -- to the upstream

    def send_at_once(self, connection: UpstreamConnection, target: Target, credential: Credential | None) -> bool:
        if self.large is not None:
            return False
        assert self.call is not None
        assert target.model is not None
        request = self.request
        pieces = self._head_pieces(target, credential)
        if request.has_body:
            body = self.handler.rewrite(
                self.operation, self.call, self.content_type, request.body.whole(), target.model
            )
            pieces.append(b"content-length: %d\r\n\r\n" % len(body))
            pieces.append(body)
        else:
            pieces.append(b"\r\n")
        connection.write(b"".join(pieces))
        return True

    async def send(self, connection: UpstreamConnection, target: Target, credential: Credential | None) -> None:
        assert self.large is not None
        assert self.call is not None
        assert target.model is not None
        edits = self.large.splices(self.call, target.model)
        body = self.request.body
        pieces = self._head_pieces(target, credential)
        pieces.append(b"content-length: %d\r\n\r\n" % spliced_length(body.size, edits))
        connection.write(b"".join(pieces))
        for piece in spliced(body, edits):
            if self.upstream is not connection:
                return
            connection.write(piece)
            self.active = True
            while connection.write_paused and self.upstream is connection:
                self._writable = self.loop.create_future()
                await self._writable

    def on_writable(self) -> None:
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    def _head_pieces(self, target: Target, credential: Credential | None) -> list[bytes]:
        """The upstream's head without its Content-Length."""
        request, trusted_hops = self.request, self.plane.settings.trusted_hops
        if request.passed_lines is None:
            client = self.client
            forwarded = (
                forwarded_lines(request, client.client_ip, client.scheme, trusted_hops)
                if trusted_hops
                else client.forwarded_lines(request)
            )
            request.passed_lines = b"".join((*passed_on(request.headers, MODEL_REQUEST_DROP), forwarded))
        return [self._static_head(target, credential), request.passed_lines]

    def _static_head(self, target: Target, credential: Credential | None) -> bytes:
        """Request line, Host and credential: the same for every call of this operation on this target."""
        memo_key = (target.id, credential.id if credential else 0, self.operation.upstream_path)
        plain = not self.request.query and self.snapshot is self.plane.snapshot
        head = self.plane.heads.get(memo_key) if plain else None
        if head is None:
            origin = self.plane.origin(target.provider)
            path = upstream_target(target.provider.base_url, self.operation).encode()
            query = without_key(self.request.query)
            lines = [
                b"%b %b%b HTTP/1.1\r\nhost: %b\r\n"
                % (self.request.method, path, b"?" + query if query else b"", origin.authority)
            ]
            if credential is not None:
                lines += [b"%b: %b\r\n" % pair for pair in self.handler.credential_headers(credential.secret)]
            lines.append(b"accept-encoding: identity\r\n")
            head = b"".join(lines)
            if plain:
                self.plane.heads[memo_key] = head
        return head

    def may_repeat(self, failure: Failure) -> bool:
        return True

    # -- from the upstream

    def on_head(self, status: int, headers: Headers) -> None:
        self._status, self._headers = status, headers
        self.row.upstream_status = status
        length = header_value(headers, b"content-length")
        kind = media_type(headers)
        if status >= 400:
            self._held, self._held_bytes = [], 0
            return
        assert self.call is not None
        self.meter = decoding(self.handler.meter(self.operation, self.call, status, kind), headers)
        if kind != b"text/event-stream" and length is not None and len(length) < 10 and int(length) <= HOLD_BYTES:
            self._held, self._held_bytes = [], 0
            return
        self._held = None
        size = int(length) if length is not None and self.call.tells_usage and length.isdigit() else None
        self._head = self.answer.start(status, [*passed_on(headers, RESPONSE_DROP), self.our_lines(None)], size)
        self.answer.started = False  # nothing has gone out yet: until then another target may still answer

    def on_body(self, payload: bytes, framed: bytes | None) -> None:
        self.active = True
        held = self._held
        if held is not None:
            held.append(payload)
            self._held_bytes += len(payload)
            if not self.first_byte_ns:
                self.first_byte_ns = time.perf_counter_ns()
                if self.upstream is not None:
                    self.enter_phase("idle", self.route.timeouts.idle_s)
            if self._held_bytes > HOLD_REFUSAL_BYTES and self.upstream is not None:
                self._end_attempt(reusable=False)
            return
        meter = self.meter
        assert meter is not None
        edited = meter.feed(payload)
        if not self.first_byte_ns and meter.events:
            self.first_byte_ns = time.perf_counter_ns()
        if edited is not None:
            payload, framed = edited, None
        if payload and not self.gone:
            head = self._head
            if head:
                self._head = b""
                self.answer.started = True
                self.row.status = self._status
                self.enter_phase("idle", self.route.timeouts.idle_s)
            self.answer.write(payload, head, framed)

    def on_end(self) -> None:
        self._end_attempt(reusable=True)

    def _end_attempt(self, *, reusable: bool) -> None:
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            if reusable:
                upstream.release()
            else:
                upstream.abort()
        if self._held is None:
            self._end_stream()
        elif self._status >= 400:
            self._end_refusal()
        else:
            self._end_plain()

    def _end_stream(self) -> None:
        assert self.meter is not None
        rest = self.meter.end()
        if not self.gone:
            self.answer.started = True
            self.row.status = self._status
            head, self._head = self._head, b""
            if rest:
                self.answer.write(rest, head)
                head = b""
            self.answer.end(head)
        else:
            self.row.outcome = Outcome.CLIENT_GONE
        self.settle_verdict(None)

    def _end_plain(self) -> None:
        assert self.meter is not None
        assert self._held is not None
        body = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        edited = self.meter.feed(body)
        rest = self.meter.end()
        if edited is not None:
            body = edited
        if rest:
            body += rest
        price = self.target.price if self.target else None
        cost = None if self.meter.usage is None or price is None else cost_microusd(self.meter.usage, price)
        self.row.status = self._status
        self.answer.whole(self._status, [*passed_on(self._headers, RESPONSE_DROP), self.our_lines(cost)], body)
        self.settle_verdict(None)

    def _end_refusal(self) -> None:
        body = b"".join(self._held or ())
        failure = Failure(
            Fault.STATUS,
            f"{self.row.target} answered {self._status}",
            sent=True,
            status=self._status,
            headers=self._headers,
            body=body,
        )
        if self._status in (401, 403, 408, 425, 429) or self._status >= 500:
            self.settle_verdict(failure)
            return
        self.deliver(failure)  # the caller's own mistake (400, 404, 422 …): no other target would judge otherwise
        self.settle_verdict(None)

    def deliver(self, failure: Failure) -> None:
        assert failure.status is not None
        self.row.status = failure.status
        lines = [*passed_on(failure.headers, RESPONSE_DROP), self.our_lines(None)]
        self.answer.whole(failure.status, lines, failure.body)

    def client_gone(self) -> None:
        meter = self.meter
        if self.answer.started and meter is not None and meter.usage is not None and meter.finish_reason is not None:
            # It has all it asked for: SDKs hang up at the last event, without waiting for the end of the body.
            self.gone = True
            self.drop_upstream()
            self.settle_verdict(None)
            return
        super().client_gone()

    # -- at the end

    def used(self) -> Amounts:
        row, meter = self.row, self.meter
        if meter is None:
            return Amounts(0, 0, 0)
        usage = meter.usage
        if usage is None:
            if not meter.events:
                return Amounts(0, 0, 0)
            usage = meter.estimate()
            row.estimated = True
        self._note_usage(usage)
        price = self.target.price if self.target else None
        row.cost_usd_micros = None if price is None else cost_microusd(usage, price)
        return Amounts(usage.input_tokens, usage.output_tokens, row.cost_usd_micros)

    def _note_usage(self, usage: Usage) -> None:
        row = self.row
        row.input_tokens, row.output_tokens = usage.input_tokens, usage.output_tokens
        row.cached_tokens, row.cache_write_tokens = usage.cached_tokens, usage.cache_write_tokens
        row.reasoning_tokens = usage.reasoning_tokens
        row.overrun = max(0, usage.input_tokens + usage.output_tokens - self._need.tokens)

    def stream_error(self, error: SluicegateError) -> bytes:
        if media_type(self._headers) != b"text/event-stream":
            return b""
        return self.handler.render_stream_error(error, self.row.id)


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return f"{shown}, … ({len(names)} in all)" if len(names) > 10 else shown or "none"
