"""The common call in two steps: from a request's bytes to the upstream, from its answer's bytes to the client.

A call is common when its head was seen before, its body is whole and plain, its target, a pooled connection and leases
are at hand, and its answer comes whole and reports its usage. `set_out` and `on_whole` do then what `ModelExchange`
does in seventy functions, to the same effect: same decisions, same records, same bytes.

Whatever turns out otherwise unfolds the call into the ModelExchange that it would have been, which goes on from there.
So nothing but the common case is dealt with here; docs/performance.md says what that spares.
"""

from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Final

from gateway.dataplane.balancing import order
from gateway.dataplane.lease import LeasePlan, Reservation
from gateway.dataplane.model_exchange import HOLD_BYTES, ModelExchange
from gateway.dataplane.relay import STATUS_LINES, ClientAnswer
from gateway.dataplane.request import RequestBody
from gateway.dialects.body_memo import with_bound
from gateway.errors import LedgerUnavailable
from gateway.policy.quota import Amounts
from gateway.policy.usage import PER_MILLION, cost_bound_microusd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.dataplane.head_memo import HeadMemo
    from gateway.dataplane.plane import Plane
    from gateway.dataplane.protocol import ClientConnection
    from gateway.dataplane.request import Request
    from gateway.dataplane.target_plan import CallPlan, TargetPlan
    from gateway.dataplane.upstream import UpstreamConnection
    from gateway.dialects.base import Call
    from gateway.policy.model import Target
    from gateway.policy.records import RecordForms
    from gateway.wire.answer_head import AnswerHead

_JSON: Final = b"application/json"
_UNKNOWN: Final = b"null"
_OK: Final = STATUS_LINES[200]
NS: Final = 1e-9
"""perf_counter and the event loop read the same clock (CLOCK_MONOTONIC): this makes one of the other's."""


class ExpressCall:
    """One call on its way. Made by `set_out`; a `ResponseSink`, and what its client connection holds as active."""

    __slots__ = (
        "admitted_ns",
        "amounts",
        "arrived_ns",
        "body",
        "call",
        "candidates",
        "chosen",
        "client",
        "connection",
        "deadline_s",
        "forms",
        "lease_plan",
        "memo",
        "plan",
        "request_id",
        "room",
        "started_text",
        "tokens_in",
        "tokens_out",
    )  # fmt: skip

    memo: "HeadMemo"
    client: "ClientConnection"
    connection: "UpstreamConnection"
    body: bytes
    call: "Call"
    """But for the bound of its input, which is `tokens_in`."""
    plan: "CallPlan"
    chosen: "TargetPlan"
    candidates: "Sequence[Target]"
    lease_plan: LeasePlan
    """Those of the time it set out, as `forms`: by its end `chosen` may have the next window's."""
    forms: "RecordForms"
    amounts: "Sequence[int]"
    tokens_in: int
    """No more than this, as `tokens_out`."""
    tokens_out: int
    request_id: bytes
    started_text: bytes
    """Unix time in nanoseconds."""
    arrived_ns: int
    """By perf_counter, as `admitted_ns`."""
    admitted_ns: int
    """When it was ready to go upstream."""
    deadline_s: float
    room: int
    """In the spool, for the close record."""

    # -- from the client's connection

    @property
    def answer(self) -> ClientAnswer:
        return self.unfold().answer

    def client_gone(self) -> None:
        self.unfold().client_gone()

    def client_paused(self) -> None:
        self.unfold().client_paused()

    def client_resumed(self) -> None:
        self.unfold().client_resumed()

    def client_half_closed(self) -> None:
        return

    def on_client_bytes(self, payload: bytes) -> None:
        return

    # -- from the plane

    def check_deadlines(self, now_s: float) -> None:
        if now_s >= self.deadline_s:
            self.unfold().check_deadlines(now_s)

    def shut_down(self) -> None:
        self.unfold().shut_down()

    # -- from the upstream

    def on_whole(self, head: "AnswerHead", body: bytes) -> None:
        """The answer is there: meter, settle, record, answer, and everything is ready for the next call."""
        client, chosen, memo = self.client, self.chosen, self.memo
        plane = client.plane
        plain = memo.plain
        used = None
        if head.plain and plain is not None and len(body) <= HOLD_BYTES and not (self.call.stream or plane.draining):
            used = plain.plain_usage(memo.operation, body)
        if used is None:
            self.unfold().on_whole(head, body)
            return
        now_ns = perf_counter_ns()
        tokens_in, cached, written, tokens_out, reasoning = used
        tokens, rates = tokens_in + tokens_out, chosen.rates
        if rates is None:
            cost, cost_text, cost_line = 0, _UNKNOWN, b""
        else:
            cost = rates.cost(used)
            cost_text = b"%d" % cost
            cost_line = b"x-sluicegate-cost-usd: %d.%06d\r\n" % divmod(cost, PER_MILLION)
        charged = plane.book.settle_at(self.lease_plan, self.amounts, (1, tokens_in, tokens_out, tokens, cost, 0))
        took_us = (now_ns - self.arrived_ns) // 1000
        took_text = b"%de-3" % took_us  # milliseconds
        overrun = tokens - self.tokens_in - self.tokens_out
        request_id, spool = self.request_id, plane.spool
        # The record first: whoever has the answer finds its row completed, even if the worker dies at this point.
        forms = self.forms
        spool.close_by_form(
            forms,
            forms.closed % (
                request_id, self.started_text, tokens_in, cached, written, tokens_out, reasoning, cost_text,
                took_text, took_text, max(0, overrun), (self.admitted_ns - self.arrived_ns) // 1000, *charged,
                spool.closed + 1,
            ),
            self.room,
        )  # fmt: skip
        client.active = None  # a client too slow for this answer must not have it become an exchange that is over
        plane.turn.post(
            client.transport,
            b"%b%bx-request-id: %b\r\n%b%bcontent-length: %d\r\n\r\n%b"
            % (_OK, head.lines, request_id, chosen.answer_lines, cost_line, len(body), body),
        )
        # What can wait until the answer is on its way.
        self.connection.release()
        chosen.state.end(answered=True, ttft_s=took_us * 1e-6)
        plane.exchanges.discard(self)
        client.express_done(now_ns * NS)

    def on_interim(self, head: "AnswerHead") -> None:
        return

    def on_head(self, head: "AnswerHead") -> None:
        self.unfold().on_head(head)

    def on_body(self, payload: bytes, framed: bytes | None) -> None:
        self.unfold().on_body(payload, framed)

    def on_end(self) -> None:
        self.unfold().on_end()

    def on_broken(self, reason: str) -> None:
        self.unfold().on_broken(reason)

    def on_tunnel(self, rest: bytes) -> None:
        self.unfold().on_tunnel(rest)

    def on_writable(self) -> None:
        return

    # -- into the ordinary way

    def unfold(self) -> ModelExchange:
        """Become the exchange that this call would have been, its first attempt under way; everybody is told."""
        client, call, chosen = self.client, self.call, self.chosen
        request = client.known_request
        assert request is not None
        plane = client.plane
        plane.exchanges.discard(self)
        request.renew(RequestBody.of(self.body), self.arrived_ns)
        exchange = ModelExchange(
            plane, client, request, self.memo.operation.dialect, (self.request_id.decode(), int(self.started_text))
        )
        exchange.operation = self.memo.operation
        lease_plan = self.lease_plan
        rates = chosen.rates
        cost = None if rates is None else rates.bound(self.tokens_in, self.tokens_out)
        need = Amounts(self.tokens_in, self.tokens_out, cost)
        reservation = Reservation(lease_plan.limits, need, lease_plan.leases, lease_plan.codes, self.amounts)
        exchange.resume(
            with_bound(call, self.tokens_in),
            self.plan,
            self.candidates,
            chosen,
            reservation,
            self.connection,
            self.arrived_ns * NS,
        )
        exchange.admitted_ns = self.admitted_ns
        plane.spool.adopt(exchange.row.id, self.room)
        plane.exchanges.add(exchange)
        client.replace_active(exchange)
        return exchange


def set_out(client: "ClientConnection", memo: "HeadMemo", body: bytes) -> bool:
    """Send a call on its way, if it is a common one. False: it is to be served the ordinary way."""
    plane = client.plane
    asked = memo.call_of(body)
    if asked is None or plane.draining:
        return False
    call, tokens_in = asked
    plan = memo.plans.get(call.route)
    if plan is None or plan.wire is not memo.handler:
        return False
    started_at_ns = time_ns()
    arrived_ns = perf_counter_ns()
    now_s = arrived_ns * NS
    candidates, chosen = plan.targets, plan.only
    if chosen is None:
        assert client.known_request is not None
        candidates, chosen = _choose(plane, client.known_request, plan, call, tokens_in, now_s)
    if not chosen.from_ns <= started_at_ns < chosen.until_ns and not chosen.prepare(plane.book, started_at_ns):
        return False
    state = chosen.state
    if state.tripped or state.down or state.cooling_until_s > now_s:
        return False
    # What it may need there, whether the leases hold it, and who brings it there.
    tokens_out, rates = call.output_bound, chosen.rates
    if tokens_out is None:
        tokens_out = chosen.most_tokens_out * call.choices
    if rates is None:
        cost, cost_text = 0, _UNKNOWN
    else:
        cost = rates.bound(tokens_in, tokens_out)
        cost_text = b"%d" % cost
    connection = chosen.pool.take()
    if connection is None:
        return False
    lease_plan, forms = chosen.lease_plan, chosen.forms
    amounts = lease_plan.take((1, tokens_in, tokens_out, tokens_in + tokens_out, cost, 1))
    if amounts is None:
        chosen.pool.give_back(connection)
        return False
    # From here on the call belongs to the gateway: open record, upstream.
    admitted_ns = perf_counter_ns()
    request_id = plane.ids.make_bytes(started_at_ns)
    started_text = b"%d" % started_at_ns
    spool, stream = plane.spool, call.stream
    charges = lease_plan.charges(amounts) if lease_plan.counts_slots else amounts
    try:
        room = spool.open_by_form(
            forms,
            forms.opened % (
                request_id, started_text, b"true" if stream else b"false", *charges, spool.closed, tokens_in,
                tokens_out, cost_text,
            ),
        )  # fmt: skip
    except LedgerUnavailable:
        lease_plan.put_back(amounts)
        chosen.pool.give_back(connection)
        return False
    plane.tags.mark(chosen.series, client.tag, connection.tag, False)
    sent = body
    if stream or not chosen.keeps_model:
        assert chosen.target.model is not None
        sent = memo.handler.rewrite(memo.operation, call, _JSON, body, chosen.target.model)
    plane.turn.post(connection.transport, b"%bcontent-length: %d\r\n\r\n%b" % (chosen.express_head, len(sent), sent))
    # What can wait until the request is on its way.
    made = ExpressCall()
    made.memo, made.client, made.connection, made.body = memo, client, connection, body
    made.call, made.plan, made.chosen, made.candidates = call, plan, chosen, candidates
    made.lease_plan, made.forms, made.amounts = lease_plan, forms, amounts
    made.tokens_in, made.tokens_out = tokens_in, tokens_out
    made.request_id, made.room, made.started_text = request_id, room, started_text
    made.arrived_ns, made.admitted_ns = arrived_ns, admitted_ns
    made.deadline_s = now_s + chosen.patience_s
    state.begin(now_s)
    connection.answered = False
    connection.sink = client.active = made
    plane.exchanges.add(made)
    if len(candidates) > 1 and client.known_request is not None:
        client.known_request.order_for(plan)  # served: the next request has an order of its own
    return True


def _choose(
    plane: "Plane", request: "Request", plan: "CallPlan", call: "Call", tokens_in: int, now_s: float
) -> "tuple[Sequence[Target], TargetPlan]":
    """The first of the targets that the route's strategy puts in order, with a credential."""
    route, targets, health = plan.route, plan.targets, plane.health
    candidates = targets
    if len(targets) > 1:
        tokens_out = call.output_bound
        if tokens_out is None:
            tokens_out = route.max_output_tokens * call.choices
        bounds = (tokens_in, tokens_out)

        def cost_bound(target: "Target") -> int | None:
            return None if target.price is None else cost_bound_microusd(*bounds, target.price)

        candidates = order(route, targets, health, now_s, cost_bound)
        request.keep_order(plan, candidates)
    target = candidates[0]
    return candidates, plan.of(target, plan.credential(target, now_s))
