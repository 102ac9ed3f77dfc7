"""The common call in two steps: from a request's bytes to the upstream, from its answer's bytes to the client.

A call is common when its head was seen before on this connection, its body is whole and plain, its target, a pooled
connection and leases are at hand, and its answer comes whole and reports its usage. `set_out` and `on_whole` do then
what `ModelExchange` does in seventy functions, to the same effect: same decisions, same records, same bytes.

Whatever turns out otherwise unfolds the call into the ModelExchange that it would have been, which goes on from there.
So nothing but the common case is dealt with here; docs/performance.md says what that spares.
"""

import time
from typing import TYPE_CHECKING, Final

from gateway.dataplane.balancing import order
from gateway.dataplane.leases import LeasePlan, Reservation
from gateway.dataplane.model_exchange import HOLD_BYTES, ModelExchange
from gateway.dataplane.relay import STATUS_LINES, ClientAnswer
from gateway.dataplane.request import RequestBody
from gateway.errors import LedgerUnavailable
from gateway.policy.quota import Amounts
from gateway.policy.usage import cost_bound_microusd, cost_microusd

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway.dataplane.head_memo import HeadMemo
    from gateway.dataplane.protocol import ClientConnection
    from gateway.dataplane.target_plan import CallPlan, TargetPlan
    from gateway.dataplane.upstream import UpstreamConnection
    from gateway.dialects.base import Call, PlainReader
    from gateway.policy.model import Price, Target
    from gateway.wire.answer_head import AnswerHead

_JSON: Final = b"application/json"
_UNKNOWN: Final = b"null"


class ExpressCall:
    """One call on its way. Made by `set_out`; a `ResponseSink`, and what its client connection holds as active."""

    __slots__ = (
        "amounts",
        "arrived_ns",
        "body",
        "call",
        "candidates",
        "chosen",
        "client",
        "connection",
        "cost_bound",
        "deadline_s",
        "lease_plan",
        "memo",
        "now_s",
        "plain",
        "plan",
        "request_id",
        "room",
        "started_at_ns",
        "tokens_in",
        "tokens_out",
    )  # fmt: skip

    memo: "HeadMemo"
    client: "ClientConnection"
    connection: "UpstreamConnection"
    body: bytes
    call: "Call"
    plain: "PlainReader"
    plan: "CallPlan"
    chosen: "TargetPlan"
    candidates: "Sequence[Target]"
    lease_plan: LeasePlan
    amounts: list[int]
    tokens_in: int
    """No more than this, as `tokens_out` and `cost_bound` (micro-USD, None = unknown)."""
    tokens_out: int
    cost_bound: int | None
    request_id: bytes
    started_at_ns: int
    arrived_ns: int
    now_s: float
    """Event-loop time of the start."""
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
        client, chosen = self.client, self.chosen
        plane = client.plane
        usage = None
        if (
            head.status == 200
            and head.kind == _JSON
            and head.encoding is None
            and not head.names_more
            and len(body) <= HOLD_BYTES
            and not self.call.stream
            and not plane.draining
        ):
            usage = self.plain.plain_usage(self.memo.operation, body)
        if usage is None:
            self.unfold().on_whole(head, body)
            return
        first_byte_ns = time.perf_counter_ns()
        self.connection.release()
        tokens_in, tokens_out, price = usage.input_tokens, usage.output_tokens, chosen.target.price
        cost, cost_text, cost_line = 0, _UNKNOWN, b""
        if price is not None:
            cost = cost_microusd(usage, price)
            cost_text = b"%d" % cost
            cost_line = b"x-sluicegate-cost-usd: %d.%06d\r\n" % divmod(cost, 1_000_000)
        request_id = self.request_id
        client.transport.write(
            b"%b%bx-request-id: %b\r\n%b%bcontent-length: %d\r\n\r\n%b"
            % (STATUS_LINES[200], head.lines, request_id, chosen.answer_lines, cost_line, len(body), body)
        )
        tokens = tokens_in + tokens_out
        charged = plane.book.settle_at(self.lease_plan, self.amounts, (1, tokens_in, tokens_out, tokens, cost, 0))
        arrived_ns = self.arrived_ns
        ttft_ns = first_byte_ns - arrived_ns
        spool = plane.spool
        forms = chosen.forms
        assert forms is not None
        spool.close_prepared(
            forms.closed(
                request_id, self.started_at_ns, 200, tokens_in, usage.cached_tokens, usage.cache_write_tokens,
                tokens_out, usage.reasoning_tokens, cost_text, (time.perf_counter_ns() - arrived_ns) / 1e6,
                ttft_ns / 1e6, 200, max(0, tokens - self.tokens_in - self.tokens_out), *charged, spool.closed + 1,
            ),
            self.room,
        )  # fmt: skip
        chosen.state.end(answered=True, ttft_s=ttft_ns / 1e9)
        plane.exchanges.discard(self)
        client.express_done()

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
        client, request, call, chosen = self.client, self.memo.request, self.call, self.chosen
        plane = client.plane
        plane.exchanges.discard(self)
        request.renew(RequestBody.of(self.body), self.arrived_ns)
        exchange = ModelExchange(
            plane, client, request, self.memo.operation.dialect, (self.request_id.decode(), self.started_at_ns)
        )
        exchange.operation = self.memo.operation
        lease_plan, amounts = self.lease_plan, self.amounts
        need = Amounts(self.tokens_in, self.tokens_out, self.cost_bound)
        reservation = Reservation(chosen.limits, need, lease_plan.leases, lease_plan.codes, amounts)
        exchange.resume(call, self.plan, self.candidates, chosen, reservation, self.connection, self.now_s)
        plane.spool.adopt(exchange.row.id, self.room)
        plane.exchanges.add(exchange)
        client.replace_active(exchange)
        return exchange


def set_out(client: "ClientConnection", memo: "HeadMemo", body: bytes) -> bool:
    """Send a call on its way, if it is a common one. False: nothing has been done."""
    plane, request, operation = client.plane, memo.request, memo.operation
    plain = memo.plain
    if plain is None:
        return False
    call = plain.plain_call(operation, body)
    if call is None:
        return False
    plan = request.plans.get(call.route)
    if plan is None or plan.wire is not memo.handler or plane.draining:
        return False
    started_at_ns = time.time_ns()
    arrived_ns = time.perf_counter_ns()
    wall_s = started_at_ns / 1e9
    if plan.expires_at_s <= wall_s:
        return False
    now_s = client.loop.time()
    route, targets, health = plan.route, plan.targets, plane.health
    tokens_in, tokens_out = call.input_bound, call.output_bound
    if tokens_out is None:
        tokens_out = route.max_output_tokens * call.choices
    if len(targets) == 1:
        candidates = targets
    else:
        bounds = (tokens_in, tokens_out)
        candidates = order(route, targets, health, now_s, lambda target: _cost_bound(*bounds, target.price))
        request.keep_order(plan, candidates)
    target = candidates[0]
    chosen = plan.only
    if chosen is None:
        chosen = plan.of(target, health.credential(target.provider, now_s))
    head, state = chosen.head, chosen.state
    if head is None or state.tripped or state.down or state.cooling_until_s > now_s:
        return False
    # What it may need there, and whether the leases hold it.
    cost = _cost_bound(tokens_in, tokens_out, target.price)
    lease_plan = chosen.lease_plan
    if lease_plan is None or chosen.forms is None or not lease_plan.from_s <= wall_s < lease_plan.until_s:
        lease_plan = chosen.plan_leases(plane.book, wall_s)
    forms = chosen.forms
    if forms is None or (cost is None and lease_plan.counts_cost):
        return False
    vector = (1, tokens_in, tokens_out, tokens_in + tokens_out, cost or 0, 1)
    amounts = [vector[code] for code in lease_plan.codes]
    if not lease_plan.fits(amounts):
        return False
    connection = chosen.pool.take()
    if connection is None:
        return False
    # From here on the call belongs to the gateway: open record, reservation, upstream.
    request_id = plane.ids.make_bytes(started_at_ns)
    spool = plane.spool
    try:
        room = spool.open_prepared(
            forms.opened(
                request_id, started_at_ns, b"true" if call.stream else b"false",
                lease_plan.charges(amounts), spool.closed, tokens_in,
                tokens_out, _UNKNOWN if cost is None else b"%d" % cost,
            )
        )  # fmt: skip
    except LedgerUnavailable:
        chosen.pool.give_back(connection)
        return False
    lease_plan.take(amounts)
    made = ExpressCall()
    made.memo, made.client, made.connection, made.body = memo, client, connection, body
    made.call, made.plain, made.plan, made.chosen, made.candidates = call, plain, plan, chosen, candidates
    made.lease_plan, made.amounts = lease_plan, amounts
    made.tokens_in, made.tokens_out, made.cost_bound = tokens_in, tokens_out, cost
    made.request_id, made.room, made.started_at_ns, made.arrived_ns = request_id, room, started_at_ns, arrived_ns
    made.now_s = now_s
    made.deadline_s = now_s + min(route.timeouts.first_byte_s, route.timeouts.total_s)
    state.begin(now_s)
    connection.begin(made)
    assert target.model is not None
    if target.model != call.route or call.stream:
        body = memo.handler.rewrite(operation, call, _JSON, body, target.model)
    connection.transport.write(b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body))
    plane.exchanges.add(made)
    client.begin_express(made)
    return True


def _cost_bound(tokens_in: int, tokens_out: int, price: "Price | None") -> int | None:
    return None if price is None else cost_bound_microusd(tokens_in, tokens_out, price)
