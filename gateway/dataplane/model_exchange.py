"""A call with a model: the body is read whole, routed by the model it names, rewritten for the target and metered."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final

from gateway.dataplane.answers import cost_line
from gateway.dataplane.compressed import CompressedMeter, decoding
from gateway.dataplane.failure import Failure, Fault
from gateway.dataplane.forwarding import (
    MODEL_QUERY_DROP,
    MODEL_REQUEST_DROP,
    MODEL_RESPONSE_DROP,
    forwarded_lines,
    header_value,
    passed_on,
    passing,
    without_key,
    without_secret,
)
from gateway.dataplane.forwarding_exchange import ForwardingExchange
from gateway.dataplane.identity import Caller, check_expiry, identify
from gateway.dataplane.large_body import spliced, spliced_length
from gateway.dataplane.lease import Reservation
from gateway.dataplane.route_choice import allowed_names, find_route, route_not_found, targets_for, targets_of_key
from gateway.dataplane.target_plan import CallPlan, TargetPlan
from gateway.dataplane.upstream import UpstreamConnection
from gateway.dialects.base import Call, LargeCall, Meter, Operation
from gateway.dialects.registry import for_target, upstream_target
from gateway.errors import SluicegateError
from gateway.policy.model import Key, Route, Target
from gateway.policy.quota import NOTHING, Amounts
from gateway.policy.usage import Outcome, cost_bound_microusd, cost_microusd
from gateway.wire.answer_head import AnswerHead

HOLD_BYTES: Final = 256 * 1024
"""A plain answer up to this size is held until complete: its cost can stand in the head, and a target that breaks off
in the middle of it can still be replaced by another."""
HOLD_REFUSAL_BYTES: Final = 1024 * 1024


class ModelExchange(ForwardingExchange):
    """One call of a dialect's operation."""

    __slots__ = ("operation",)

    operation: Operation
    """Set by whoever makes the exchange."""
    repeatable = True
    call: Call | None = None
    meter: Meter | None = None
    content_type = b""
    large: LargeCall | None = None
    """Reader of a body that does not fit into memory."""
    _held: list[bytes] | None = None
    """Pieces of an answer that is held until complete; None while streaming."""
    _held_bytes = 0
    _flowing = False
    """The head and a first event have gone out: chunks that need no edit go to the client as they came."""
    _head_due = False
    """The stream's head goes out with its first payload."""
    _status = 0
    _answer: AnswerHead | None = None
    _need = NOTHING
    _cost: int | None = None
    _writable: "asyncio.Future[None] | None" = None

    def at_once(self) -> bool:
        request = self.request
        body = request.body
        if self.operation.listing or not body.complete or body.in_file:
            return False
        caller = self._identify()
        self._read_call(body.whole())
        now_s = self.loop.time()
        plan = self._plan_call(caller)
        self.plan_attempts(plan, now_s, request.order_for(plan))
        return self.attempt_at_once(now_s)

    async def serve(self) -> None:
        if self.call is None:
            request = self.request
            caller = self._identify()
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
            self._read_call(b"" if self.large else request.body.whole())
            plan = self._plan_call(caller)
            self.plan_attempts(plan, self.loop.time(), request.order_for(plan))
        await self.attempt_all()

    def _identify(self) -> Caller:
        caller = self.request.caller_in(self.snapshot)
        if caller is None:
            caller = identify(self.request, self.snapshot, self.now_s)
            self.request.remember(self.snapshot, caller)
        else:
            check_expiry(caller.key, self.now_s)
        self.admit_to(caller.key.app, caller.key)
        return caller

    def _read_call(self, body: bytes) -> None:
        """Understand the body."""
        self.content_type = header_value(self.request.headers, b"content-type") or b""
        call = self.large.call() if self.large else self.handler.read_call(self.operation, self.content_type, body)
        self.call = call
        row = self.row
        row.model = call.route
        if call.stream:
            row.stream = True

    def _plan_call(self, caller: Caller) -> CallPlan:
        """The route that the call names, and its targets that speak the caller's dialect, or else its twin."""
        assert self.call is not None
        name = self.call.route
        known = self.request.known
        assert known is not None
        plan = known.plans.get(name)
        if plan is None:
            route = find_route(self.snapshot, caller.key.app, name)
            plan = CallPlan(
                self.plane, self.snapshot, caller, caller.key.app, caller.key, route, self._speaking(route, caller.key)
            )
            plan.extra = self.answer.extra
            known.plans[name] = plan
        self.row.route = plan.route.name
        if plan.wire is not self.handler:
            self.call = for_target(self.call, plan.wire.dialect)
        return plan

    def _speaking(self, route: Route, key: Key) -> Sequence[Target]:
        self.row.route = route.name
        return targets_of_key(key, route, targets_for(route, self.operation))

    # -- before the upstream

    def _list_models(self) -> None:
        """Names of the routes that the key may call; no upstream is asked, so neither limits nor ledger know of it."""
        assert self.app is not None
        names = allowed_names(self.snapshot, self.app)
        wanted = self.operation.model
        if wanted is not None:
            if wanted not in names:
                not_found = route_not_found(self.snapshot, self.app, wanted)
                self.app = None
                raise not_found
            names = [wanted]
        body = self.handler.render_listing(self.operation, names, self.request.query)
        self.answer.whole(200, [b"content-type: application/json\r\n", self.our_lines()], body)
        self.app = None  # nothing to record

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

    def send_at_once(self, connection: UpstreamConnection, plan: TargetPlan) -> bool:
        if self.large is not None:
            return False
        assert self.call is not None
        assert plan.target.model is not None
        request = self.request
        head = plan.head
        if head is None:
            head = plan.head = self._head_for(plan)
        if request.has_body:
            body = self.plan.wire.rewrite(
                self.operation, self.call, self.content_type, request.body.whole(), plan.target.model
            )
            connection.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
        else:
            connection.write(head + b"\r\n")
        return True

    async def send(self, connection: UpstreamConnection, plan: TargetPlan) -> None:
        assert self.large is not None
        assert self.call is not None
        assert plan.target.model is not None
        edits = self.large.splices(self.call, plan.target.model)
        body = self.request.body
        length = spliced_length(body.size, edits)
        connection.write(b"%bcontent-length: %d\r\n\r\n" % (self._head_for(plan), length))
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

    def _head_for(self, plan: TargetPlan) -> bytes:
        """The upstream's request head up to its Content-Length: the same for every call with this head and target."""
        request, client, provider = self.request, self.client, plan.target.provider
        path = upstream_target(provider.base_url, self.operation, plan.target.model or "").encode()
        own = self.plan.own_lines is not None  # Google's clients may have theirs in the query
        query = request.query if own else without_key(request.query, MODEL_QUERY_DROP)
        lines = [
            b"%b %b%b%b HTTP/1.1\r\nhost: %b\r\n%b"
            % (
                request.method,
                plan.pool.absolute,
                path,
                b"?" + query if query else b"",
                plan.pool.origin.authority,
                plan.pool.lines,
            )
        ]
        if plan.credential is not None:
            lines += [b"%b: %b\r\n" % pair for pair in self.plan.wire.credential_headers(plan.credential.secret)]
        elif self.plan.own_lines is not None:
            lines.append(self.plan.own_lines)
        lines.append(b"accept-encoding: identity\r\n")
        lines += passed_on(request.headers, MODEL_REQUEST_DROP)
        hops = self.plane.settings.trusted_hops
        lines.append(forwarded_lines(request, client.client_ip, client.scheme, hops))
        return b"".join(lines)

    def may_repeat(self, failure: Failure) -> bool:
        return True

    def resume(
        self,
        call: Call,
        plan: CallPlan,
        candidates: Sequence[Target],
        chosen: TargetPlan,
        reservation: Reservation,
        connection: UpstreamConnection,
        now_s: float,
    ) -> None:
        """Go on with a call whose request went to `connection` at `now_s` (event-loop time), the first attempt."""
        assert plan.caller is not None
        self.admit_to(plan.caller.key.app, plan.caller.key)
        self.call = call
        row, timeouts = self.row, plan.route.timeouts
        row.stream = call.stream
        row.__dict__.update(plan.row_values)
        row.__dict__.update(chosen.row_values)
        row.attempts = 1
        self.content_type = header_value(self.request.headers, b"content-type") or b""
        self.plan_attempts(plan, now_s, candidates)
        self.chosen, self.reservation, self._need = chosen, reservation, reservation.need
        self.upstream = self._connection = connection
        connection.sink = self
        self.sent = self._without_task = True
        self.phase, self.phase_deadline_s = "first byte", now_s + timeouts.first_byte_s

    # -- from the upstream

    def on_head(self, head: AnswerHead) -> None:
        status = head.status
        self._status, self._answer = status, head
        self.row.upstream_status = status
        self._held_bytes = 0
        if status >= 300:
            self._held = []
            return
        assert self.call is not None
        self.meter = decoding(self.plan.wire.meter(self.operation, self.call, status, head.kind), head.encoding)
        length = head.length
        if length is not None and length <= HOLD_BYTES and head.kind != b"text/event-stream":
            self._held = []
            return
        self._held = None
        self._head_due = True

    def on_whole(self, head: AnswerHead, body: bytes) -> None:
        status = head.status
        if status >= 300 or len(body) > HOLD_BYTES or head.kind == b"text/event-stream":
            super().on_whole(head, body)
            return
        assert self.call is not None
        assert self.upstream is not None
        self._status, self._answer = status, head
        self.row.upstream_status = status
        self.first_byte_ns = time.perf_counter_ns()
        self.meter = decoding(self.plan.wire.meter(self.operation, self.call, status, head.kind), head.encoding)
        upstream, self.upstream = self.upstream, None
        upstream.release()
        self._end_plain(body)

    def on_body(self, payload: bytes, framed: bytes | None) -> None:
        self.active = True
        if self._held is not None:
            self._hold(payload)
            return
        edited = self.meter.feed(payload)  # type: ignore[union-attr]  # set by on_head
        if edited is None and framed is not None and self._flowing:
            self.client.write(framed)  # as nearly every event of a stream goes
        elif edited is None:
            self._pass_on(payload, framed)
        else:
            self._pass_on(edited, None)

    def _hold(self, payload: bytes) -> None:
        """Keep a piece of an answer that goes to the client whole, or not at all."""
        assert self._held is not None
        self._held.append(payload)
        self._held_bytes += len(payload)
        if not self.first_byte_ns:
            self.first_byte_ns = time.perf_counter_ns()
            self.phase, self.active = "idle", True  # the sweep sets its deadline
        if self._held_bytes > HOLD_REFUSAL_BYTES and self.upstream is not None:
            self._end_attempt(reusable=False)

    def _pass_on(self, payload: bytes, framed: bytes | None) -> None:
        """Send a metered piece of a stream to the client, behind the answer's head if that has not gone out."""
        assert self.meter is not None
        if not self.first_byte_ns and self.meter.events:
            self.first_byte_ns = time.perf_counter_ns()
        if payload and not self.gone:
            head = b""
            if self._head_due:
                head = self._start_answer()
                self.phase = "idle"  # the sweep sets its deadline
                self.attempt_answered()
            self.answer.write(payload, head, framed)
            if not self._flowing and self.answer.takes_chunks and self.first_byte_ns:
                self._flowing = True
                if self.upstream is not None:
                    self.upstream.offer_lane((self.meter.feed, self.client.transport, self._pass_edited))

    def _start_answer(self) -> bytes:
        """The head, made when it goes out: until then another target may still answer, and a drain may begin, of which
        the head has to tell."""
        answer = self._answer
        assert answer is not None
        assert self.call is not None
        self._head_due = False
        self.row.status = self._status
        lines = [passing(answer), self.our_lines()]
        return self.answer.start(self._status, lines, answer.length if self.call.tells_usage else None)

    def _pass_edited(self, payload: bytes) -> None:
        self._pass_on(payload, None)

    def on_end(self) -> None:
        self._end_attempt(reusable=True)

    def _end_attempt(self, *, reusable: bool) -> None:
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            if reusable and not self.uploading:
                upstream.release()
            else:
                upstream.abort()
                self.on_writable()
        if self._held is None:
            self._end_stream()
        elif self._status >= 300:
            self._end_refusal()
        else:
            self._end_plain(self._held[0] if len(self._held) == 1 else b"".join(self._held))

    def _end_stream(self) -> None:
        assert self.meter is not None
        rest = self.meter.end()
        if not self.gone:
            head = self._start_answer() if self._head_due else b""
            if rest:
                self.answer.write(rest, head)
                head = b""
            self.record_end()
            self.answer.end(head)
        else:
            self.row.outcome = Outcome.CLIENT_GONE
        self.settle_verdict(None)

    def _end_plain(self, body: bytes) -> None:
        assert self.meter is not None
        edited = self.meter.feed(body)
        rest = self.meter.end()
        if edited is not None:
            body = edited
        if rest:
            body += rest
        assert self.chosen is not None
        usage, price = self.meter.usage, self.chosen.target.price
        assert self._answer is not None
        lines = [passing(self._answer)]
        lines.append(b"x-request-id: %b\r\n%b" % (self.row.id.encode(), self.chosen.lines))
        if usage is not None and price is not None:
            self._cost = cost_microusd(usage, price)
            lines.append(cost_line(self._cost))
        self.row.status = self._status
        self.record_end()
        self.answer.whole(self._status, lines, body)
        self.settle_verdict(None)

    def _end_refusal(self) -> None:
        body = b"".join(self._held or ())
        failure = Failure(
            Fault.STATUS,
            f"{self.row.target} answered {self._status}",
            sent=True,
            status=self._status,
            headers=self._answer.headers if self._answer is not None else [],
            body=body,
        )
        if self._status in (401, 403, 408, 425, 429) or self._status >= 500 or self._status < 400:
            self.settle_verdict(failure)
            return
        self.deliver(failure)  # the caller's own mistake (400, 404, 422 …): no other target would judge otherwise
        self.settle_verdict(None)

    def deliver(self, failure: Failure) -> None:
        assert failure.status is not None
        self.row.status = failure.status
        lines = [*passed_on(failure.headers, MODEL_RESPONSE_DROP), self.our_lines()]
        secret = self.chosen.credential.secret if self.chosen and self.chosen.credential else None
        self.record_end()
        self.answer.whole(
            failure.status, [without_secret(line, secret) for line in lines], without_secret(failure.body, secret)
        )

    def client_gone(self) -> None:
        self._flowing = False
        if self.upstream is not None:
            self.upstream.offer_lane(None)
        meter = self.meter
        if self.answer.started and meter is not None and meter.usage is not None and meter.finish_reason is not None:
            # It has all it asked for: SDKs hang up at the last event, without waiting for the end of the body.
            self.gone = True
            self.drop_upstream()
            self.settle_verdict(None)
            return
        super().client_gone()

    # -- at the end

    def note_phases(self, now_ns: int) -> None:
        super().note_phases(now_ns)
        meter, row = self.meter, self.row
        if row.stream and self._held is None and self.answer.started and meter is not None:
            if not isinstance(meter, CompressedMeter):
                row.events = meter.events
            connection = self._connection
            if connection is not None and connection.longest_gap_s >= 0:
                row.longest_gap_ms = round(connection.longest_gap_s * 1000, 3)

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
        row.input_tokens, row.output_tokens = usage.input_tokens, usage.output_tokens
        row.cached_tokens, row.cache_write_tokens = usage.cached_tokens, usage.cache_write_tokens
        row.reasoning_tokens = usage.reasoning_tokens
        used_tokens = usage.input_tokens + usage.output_tokens
        if used_tokens > self._need.tokens:
            row.overrun = used_tokens - self._need.tokens
        cost = self._cost
        price = self.chosen.target.price if self.chosen else None
        if cost is None and price is not None:
            cost = cost_microusd(usage, price)
        row.cost_usd_micros = cost
        return Amounts(usage.input_tokens, usage.output_tokens, cost)

    def stream_error(self, error: SluicegateError) -> bytes:
        meter = None if isinstance(self.meter, CompressedMeter) else self.meter
        kind = b"" if self._answer is None else self._answer.kind
        return self.handler.render_stream_error(error, self.row.id, kind, meter)
