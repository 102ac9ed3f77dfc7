"""OpenAI's Realtime API: a WebSocket to a route's target. Frames pass untouched; the provider's events tell the usage.

Limits hold within the session: each response is reserved before it can begin, and charged when it is done. Where the
next one cannot be reserved, the session ends with an `error` event and a close that says which limit it was.
"""

from hashlib import sha256
from typing import TYPE_CHECKING, Final

import orjson

from gateway.dataplane.forwarding import without_key
from gateway.dataplane.identity import Caller, check_expiry
from gateway.dataplane.plane import Plane
from gateway.dataplane.provider_exchange import DROP, ProviderExchange
from gateway.dataplane.request import Request
from gateway.dataplane.route_choice import find_route, targets_for, targets_of_key
from gateway.dataplane.session_quota import SessionQuota
from gateway.dataplane.target_plan import CallPlan, TargetPlan
from gateway.dialects import realtime
from gateway.dialects.openai import error_object
from gateway.dialects.registry import upstream_target
from gateway.errors import BadRequest, SluicegateError
from gateway.policy.model import Target
from gateway.policy.quota import Amounts
from gateway.policy.usage import Outcome, Usage, cost_bound_microusd, cost_microusd
from gateway.wire.errors import WireError
from gateway.wire.websocket import Opcode, WebSocketReader, close_frame, server_frame

if TYPE_CHECKING:
    from gateway.dataplane.protocol import ClientConnection

PROTOCOLS: Final = b"sec-websocket-protocol"
EXTENSIONS: Final = b"sec-websocket-extensions"
SESSION_DROP: Final = DROP | {PROTOCOLS, EXTENSIONS}
"""No extension is offered upstream: the events could not be read in compressed frames."""
KEPT_BYTES: Final = 1 << 20
"""Of one event. What reports usage is far shorter; a longer event passes unread."""
GOING_AWAY: Final = 1001
POLICY_VIOLATION: Final = 1008
TRY_AGAIN_LATER: Final = 1013
"""Close codes (RFC 6455 7.4.1 and IANA's registry)."""


class RealtimeExchange(ProviderExchange):
    """One session."""

    def __init__(self, plane: Plane, client: "ClientConnection", request: Request) -> None:
        super().__init__(plane, client, request, realtime.OPERATION)
        self._meter = realtime.SessionMeter()
        self._from_provider = WebSocketReader(masked=False, keep_bytes=KEPT_BYTES)
        self._from_client = WebSocketReader(masked=True, keep_bytes=0)
        self._quota: SessionQuota | None = None
        self._charged_cost = 0
        self._last_turn = Usage()
        self._said_goodbye = False
        """A close frame has passed, either way."""
        self._ending: SluicegateError | None = None
        """Why the session must end, as soon as a message of ours can be put between the provider's."""
        self._over = False
        self._began_s = self.loop.time()

    async def serve(self) -> None:
        request = self.request
        protocols = _tokens(request, PROTOCOLS)
        self._identify_by(protocols)
        if not request.upgrade:
            raise BadRequest(
                "/v1/realtime is a WebSocket", fix="connect with a WebSocket client: wss://…/v1/realtime?model=ROUTE"
            )
        name = realtime.route_of(request.query)
        assert self.app is not None
        self.row.model = name
        route = find_route(self.snapshot, self.app, name)
        self.row.route = route.name
        self.row.stream = True
        targets = targets_of_key(self.key, route, targets_for(route, self.operation))
        plan = CallPlan(self.plane, self.snapshot, self.caller, self.app, self.key, route, targets)
        self.plan_attempts(plan, self.loop.time())
        await self.attempt_all()

    def _identify_by(self, protocols: list[bytes]) -> None:
        """By the subprotocol that holds a key, where there is one, else as every caller."""
        text = realtime.key_in(protocols)
        key = self.snapshot.keys.get(sha256(text).digest()) if text else None
        if text is None or key is None or self.request.caller_in(self.snapshot) is not None:
            self.identify()
            return
        self.caller = Caller(check_expiry(key, self.now_s), text)
        self.admit_to(key.app, key)

    # -- to the upstream

    def amounts(self, target: Target) -> Amounts:
        """The next response at most: all that was said so far is its input again."""
        last, output = self._last_turn, self.route.max_output_tokens
        given = last.input_tokens + last.output_tokens
        price = target.price
        return Amounts(given, output, None if price is None else cost_bound_microusd(given, output, price))

    def _head(self, plan: TargetPlan, *, expecting: bool = False) -> bytes:
        assert plan.target.model is not None
        path = upstream_target(plan.target.provider.base_url, self.operation, "").encode()
        query = realtime.query_for(without_key(self.request.query), plan.target.model)
        offered = [one for one in _tokens(self.request, PROTOCOLS) if not one.startswith(realtime.KEY_PROTOCOL)]
        extra = b"connection: upgrade\r\nupgrade: websocket\r\n"
        if offered:
            extra += b"%b: %b\r\n" % (PROTOCOLS, b", ".join(offered))
        return self.request_head(plan, b"%b?%b" % (path, query), SESSION_DROP, extra)

    # -- the session

    def on_tunnel(self, rest: bytes) -> None:
        if any(name == EXTENSIONS for name, _ in self._headers):
            self.drop_upstream()
            self.on_broken("agreed to a WebSocket extension that it was not offered")
            return
        assert self.reservation is not None
        self._quota = SessionQuota(self.plane.book, self.reservation)
        self.total_deadline_s = float("inf")  # a session lasts as long as both want
        early, self._early = self._early, []
        super().on_tunnel(b"")
        if rest:
            self.on_body(rest, None)
        for piece in early:
            self.on_client_bytes(piece)

    def on_body(self, payload: bytes, framed: bytes | None) -> None:
        if not self._tunnel_up:
            super().on_body(payload, framed)
            return
        self.active = True
        if self._over:
            return
        try:
            messages = self._from_provider.feed(payload)
        except WireError as error:
            self.row.outcome = Outcome.UPSTREAM_FAILED
            self.row.error_code = "upstream_failed"
            self._close(close_frame(error.status, error.message))
            return
        ending = self._ending is not None
        if ending and self._from_provider.message_end:
            payload = payload[: self._from_provider.message_end]
        if payload and not self.gone:
            self.client.write(payload)
        for message in messages:
            if message.opcode is Opcode.CLOSE:
                self._said_goodbye = True
            elif message.opcode is Opcode.TEXT and message.payload is not None:
                used = self._meter.read(message.payload)
                if used is not None:
                    self._charge(used)
        reader = self._from_provider
        if self._ending is not None and (reader.message_end if ending else reader.between_messages):
            self._say_the_end()

    def on_client_bytes(self, payload: bytes) -> None:
        if self._over:
            return
        if self._tunnel_up and not self._said_goodbye:
            try:
                messages = self._from_client.feed(payload)
            except WireError as error:
                self.row.error_code = "bad_request"
                self._close(close_frame(error.status, error.message))
                return
            self._said_goodbye = any(message.opcode is Opcode.CLOSE for message in messages)
        super().on_client_bytes(payload)

    # -- limits

    def _charge(self, used: Usage) -> None:
        """A response has ended: its tokens are charged, and the next one is reserved."""
        assert self._quota is not None
        self._last_turn = used
        self._quota.end_turn(self._amounts_of(used))
        self._note_usage()
        if self._ending is None:
            self._reserve_next()

    def _reserve_next(self) -> None:
        assert self._quota is not None
        assert self.chosen is not None
        need = self.amounts(self.chosen.target)
        try:
            if self._quota.try_turn(need, self._now_s()):
                self._record_open(need)
                return
        except SluicegateError as error:
            self._ending = error
            return
        self.client.flow.pause_reading()  # so that no response is asked for before it is reserved
        task = self.loop.create_task(self._ask_for_turn(need))
        self.client.server_state.tasks.add(task)
        task.add_done_callback(self.client.server_state.tasks.discard)

    async def _ask_for_turn(self, need: Amounts) -> None:
        assert self._quota is not None
        try:
            await self._quota.reserve_turn(need, self._now_s())
            if not self._over:
                self._record_open(need)
        except SluicegateError as error:
            self._ending = error
            if self._from_provider.between_messages and not self._over:
                self._say_the_end()
        finally:
            self.client.flow.resume_reading()

    def _record_open(self, need: Amounts) -> None:
        """What the session has used and reserved so far survives the death of this worker."""
        assert self._quota is not None
        total = self._meter.total
        bound = Amounts(total.input_tokens + need.input_tokens, total.output_tokens + need.output_tokens, None)
        self.plane.spool.open(self.row, self._quota.open_charges(), bound)

    def _now_s(self) -> float:
        return self.now_s + self.loop.time() - self._began_s

    def _amounts_of(self, used: Usage) -> Amounts:
        """`used` and what it adds to the session's cost, which is rounded once."""
        price = self.chosen.target.price if self.chosen else None
        if price is None:
            return Amounts(used.input_tokens, used.output_tokens, None)
        cost = cost_microusd(self._meter.total, price)
        added, self._charged_cost = cost - self._charged_cost, cost
        return Amounts(used.input_tokens, used.output_tokens, added)

    def _say_the_end(self) -> None:
        error = self._ending
        assert error is not None
        self.row.outcome, self.row.error_code = Outcome.REFUSED, error.code
        told = {"type": "error", "event_id": f"event_{self.row.id}", "error": error_object(error, self.row.id)}
        code = TRY_AGAIN_LATER if error.status >= 500 else POLICY_VIOLATION
        event = server_frame(Opcode.TEXT, orjson.dumps(told, default=str))
        self._close(event + close_frame(code, f"{error.code}: {error.message}"))

    def _close(self, last_words: bytes) -> None:
        """End the session from our side: the client is told, the provider stops at once."""
        self._over = True
        self.record_end()
        if not self.gone:
            self.client.write(last_words)
        self.drop_upstream()
        self.answer.ended = True
        self.answer.keep_alive = False
        self.settle_verdict(None)

    # -- at the end

    def on_end(self) -> None:
        if self._tunnel_up and not self._over:
            self._over = True
            if not self._said_goodbye:
                self.row.outcome = Outcome.UPSTREAM_FAILED
        super().on_end()

    def client_half_closed(self) -> None:
        """The end of its stream without a close frame is the client's end (RFC 6455 7.1.5)."""
        if self._said_goodbye:
            super().client_half_closed()
        elif self._tunnel_up:
            self.client_gone()

    def client_gone(self) -> None:
        if self._tunnel_up and not self._over:
            self._over = True
            if not self._said_goodbye:
                self.row.outcome = Outcome.CLIENT_GONE
        super().client_gone()

    def _time_out(self, name: str) -> None:
        if self._tunnel_up and not self._over:
            self.row.error_code = "idle_timeout"
            self._close(close_frame(GOING_AWAY, f"nothing passed for {self.route.timeouts.idle_s:g} s"))
            return
        super()._time_out(name)

    def stream_error(self, error: SluicegateError) -> bytes:
        if self._over or not self._tunnel_up or not self._from_provider.between_messages:
            return b""
        self._over = True
        return close_frame(GOING_AWAY, error.message)

    def _note_usage(self) -> None:
        row, total = self.row, self._meter.total
        row.input_tokens, row.output_tokens = total.input_tokens, total.output_tokens
        row.cached_tokens, row.cache_write_tokens, row.reasoning_tokens = total.cached_tokens, 0, 0
        price = self.chosen.target.price if self.chosen else None
        row.cost_usd_micros = None if price is None else cost_microusd(total, price)

    def used(self) -> Amounts:
        quota = self._quota
        if quota is None or self.reservation is None:
            return Amounts(0, 0, 0)  # no session came about
        rest = self._meter.unreported()
        if rest is not None:
            self.row.estimated = True
        unpaid = self._amounts_of(rest or Usage())
        self._note_usage()
        quota.end(self.reservation, unpaid)
        self.row.overrun = quota.overrun
        return unpaid


def _tokens(request: Request, name: bytes) -> list[bytes]:
    """The elements of a list header, which may come in several lines (RFC 9110 5.6.1)."""
    values = [value for found, value in request.headers if found == name]
    return [token.strip() for value in values for token in value.split(b",") if token.strip()]
