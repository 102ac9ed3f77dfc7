"""A request on an HTTP route: streamed both ways as it is, WebSocket upgrades tunnelled, counted but not parsed."""

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from gateway.dataplane.failure import Failure, Fault
from gateway.dataplane.forwarding import (
    FORWARDED,
    REQUEST_DROP,
    RESPONSE_DROP,
    forwarded_lines,
    header_value,
    passed_on,
    takes_trailers,
    trailer_fields,
    trailer_lines,
    without_fields,
    without_key,
    without_secret,
)
from gateway.dataplane.forwarding_exchange import ANONYMOUS, SAFE_TO_REPEAT, ForwardingExchange
from gateway.dataplane.identity import Caller, identify
from gateway.dataplane.plane import Plane
from gateway.dataplane.request import Headers, Request
from gateway.dataplane.route_choice import targets_of_key
from gateway.dataplane.target_plan import CallPlan, TargetPlan
from gateway.dataplane.upstream import UpstreamConnection
from gateway.errors import RouteNotAllowed, SluicegateError, Unauthenticated
from gateway.policy.cors import ANSWER_HEADERS as CORS_HEADERS
from gateway.policy.model import App, Auth, Dialect, Key, Route, Target
from gateway.policy.quota import Amounts
from gateway.policy.usage import Outcome
from gateway.wire.answer_head import AnswerHead

if TYPE_CHECKING:
    from gateway.dataplane.protocol import ClientConnection

REPLAYABLE_BYTES: Final = 64 * 1024
"""A complete body up to this size can be sent again to another target."""
CONTINUE_WAIT_S: Final = 1.0
"""How long an upstream may leave an expectation unanswered before the body goes to it all the same (as curl does)."""
EARLY_CLIENT_BYTES: Final = 256 * 1024
"""What a WebSocket client may send before the upstream has agreed to switch."""


class HttpExchange(ForwardingExchange):
    """One request of a route with a `match`."""

    def __init__(
        self,
        plane: Plane,
        client: "ClientConnection",
        request: Request,
        route: Route | None,
        dialect: Dialect = Dialect.HTTP,
    ) -> None:
        """`route`: None where the exchange itself finds it."""
        super().__init__(plane, client, request, dialect)
        if route is not None:
            self.route = route
            self.row.route = route.name
        self.caller: Caller | None = None
        self._held: list[bytes] | None = None
        """Body of a refusal (401, 429, 5xx …) that another target may still replace; None while relaying."""
        self._status = 0
        self._headers: Headers = []
        self._writable: asyncio.Event = asyncio.Event()
        self._tunnel_up = False
        self._trailers_welcome = takes_trailers(request)
        self._early: list[bytes] = []
        self._body_taken = False
        """Bytes of a streamed body have been taken: it cannot be sent a second time."""
        self._body_sent = False
        self._permission: asyncio.Future[bool] | None = None
        """What is waited for before the body is asked of a client that expects 100: the upstream's own word."""

    def at_once(self) -> bool:
        self._identify()
        now_s = self.loop.time()
        key = self.key
        plan = CallPlan(
            self.plane,
            self.snapshot,
            self.caller,
            self.app or ANONYMOUS,
            key,
            self.route,
            targets_of_key(key, self.route, self.route.targets),
        )
        self.plan_attempts(plan, now_s)
        return self._at_hand() and self.attempt_at_once(now_s)

    async def serve(self) -> None:
        request = self.request
        if request.body.refusal is not None:
            await request.body.wait_complete()
        await self.attempt_all()

    def _identify(self) -> None:
        route, request = self.route, self.request
        if route.auth is Auth.KEY:
            self.caller = request.caller_in(self.snapshot) or identify(request, self.snapshot, self.now_s)
            self._admit_caller(self.caller.app, self.caller.key)
        else:
            with contextlib.suppress(Unauthenticated):
                self.caller = identify(request, self.snapshot, self.now_s)  # asked for or not, it stays with us
            if route.auth is Auth.SOURCE:
                self._admit_caller(self._app_by_source(), None)
            else:
                self.admit_to(ANONYMOUS, None)
        if request.upgrade:
            self.row.stream = True

    def _admit_caller(self, app: App, key: Key | None) -> None:
        self.admit_to(app, key)
        if app.routes is not None and self.route.name not in app.routes:
            raise RouteNotAllowed(
                f"app {app.name} may not call route {self.route.name}", fix="ask its operator for access"
            )

    def _app_by_source(self) -> App:
        name = self.snapshot.sources.app_at(self.row.client_ip or "")
        if name is None:
            raise Unauthenticated(
                f"route {self.route.name} knows its callers by their address, and {self.row.client_ip} is no app's",
                fix="name the network in an app's `sources`, or set `auth: key` on the route",
            )
        return self.snapshot.apps[name]

    def _at_hand(self) -> bool:
        """The whole request is here and small enough to be sent again."""
        body = self.request.body
        return body.complete and not body.in_file and not self._body_taken and body.size <= REPLAYABLE_BYTES

    def amounts(self, target: Target) -> Amounts:
        return Amounts(0, 0, target.price.per_request if target.price else 0)

    # -- to the upstream

    def send_at_once(self, connection: UpstreamConnection, plan: TargetPlan) -> bool:
        if not self._at_hand():
            return False
        body = self.request.body.whole()
        if self._chunked_request():
            body = (_chunk(body) if body else b"") + self._last_chunk()
        connection.write(self._head(plan) + body)
        self._body_sent = True
        return True

    async def send(self, connection: UpstreamConnection, plan: TargetPlan) -> None:
        body = self.request.body
        if self.request.expect_continue and not body.complete and not body.size:
            if not await self._ask_permission(connection, plan):
                return
        else:
            connection.write(self._head(plan))
        self._body_taken = True
        self.enter_phase("idle", self.route.timeouts.idle_s)  # the upload may take its time, if it goes on
        await self._stream_body(connection)
        if self._body_sent and not self.first_byte_ns:
            self.enter_phase("first byte", self.route.timeouts.first_byte_s)

    async def _ask_permission(self, connection: UpstreamConnection, plan: TargetPlan) -> bool:
        """Pass the expectation on (RFC 9110 10.1.1): the client hears 100 when the upstream says so, or says nothing
        for a while, as old ones do. False: it answered without the body, or is gone."""
        permission: asyncio.Future[bool] = self.loop.create_future()
        self._permission = permission
        connection.write(self._head(plan, expecting=True))
        timer = self.loop.call_later(CONTINUE_WAIT_S, self.end_expectation, True)
        try:
            granted = await permission
        finally:
            timer.cancel()
            self._permission = None
        if granted and not self.gone:
            self.client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return granted

    def end_expectation(self, granted: bool) -> None:
        """Whether the body is to be sent is settled, if it was not."""
        permission = self._permission
        if permission is not None and not permission.done():
            permission.set_result(granted)

    def on_interim(self, head: AnswerHead) -> None:
        if head.status == 100:
            self.end_expectation(True)
        elif self.request.version == "1.1" and not self.answer.started and not self.gone:
            # 102, 103: the client may act upon them.
            lines = b"".join(passed_on(head.headers, RESPONSE_DROP))
            self.client.write(b"HTTP/1.1 %d \r\n%b\r\n" % (head.status, lines))

    async def _stream_body(self, connection: UpstreamConnection) -> None:
        body, chunked = self.request.body, self._chunked_request()
        offset = 0
        if body.in_file:
            await body.wait_complete()
        else:
            body.stream()
        try:
            while True:
                if body.in_file:
                    piece = body.read_file(offset, 256 * 1024)
                    offset += len(piece)
                else:
                    piece = await body.next_chunk()
                if connection.closed or self.upstream is not connection:
                    return
                if not piece:
                    break
                self.active = True
                if self.capture is not None:
                    self.capture.add_request(piece)
                connection.write(_chunk(piece) if chunked else piece)
                while connection.write_paused and not connection.closed:
                    self._writable.clear()
                    await self._writable.wait()
        except SluicegateError as error:
            self.drop_upstream()
            self.fail_attempt(error)
            return
        if body.gone:
            return  # client_gone has ended the attempt
        if chunked:
            connection.write(self._last_chunk())
        self._body_sent = True

    def _last_chunk(self) -> bytes:
        trailers = self.request.trailers
        if not trailers:
            return b"0\r\n\r\n"
        announced = {name.strip() for name in (self.request.header(b"trailer") or b"").lower().split(b",")}
        return b"0\r\n%b\r\n" % trailer_lines(pair for pair in trailers if pair[0] in announced)

    def _chunked_request(self) -> bool:
        return header_value(self.request.headers, b"transfer-encoding") is not None

    def _head(self, plan: TargetPlan, *, expecting: bool = False) -> bytes:
        request, route, settings = self.request, self.route, self.plane.settings
        origin, credential = plan.pool.origin, plan.credential
        path = request.path
        prefix = (route.match.path or "").rstrip("/").encode() if route.match else b""
        if route.strip_prefix and prefix and path.startswith(prefix):
            path = b"/" + path[len(prefix) :].lstrip(b"/")  # `//host` would name another host
        query = self.query()
        drop = REQUEST_DROP
        if self.caller is not None:
            drop = drop | self.caller.headers_with_key(request.headers, self.snapshot)  # any other Authorization passes
        if credential is not None:
            drop = drop | {b"authorization"}
        rules = route.request_headers
        if rules.drop:
            drop = drop | rules.drop
        host = (request.header(b"host") or origin.authority) if route.preserve_host else origin.authority
        pieces = [
            b"%b %b%b%b%b HTTP/1.1\r\nhost: %b\r\n%b"
            % (
                request.method,
                plan.pool.absolute,
                origin.prefix,
                path,
                b"?" + query if query else b"",
                host,
                plan.pool.lines,
            )
        ]
        if credential is not None:
            pieces += [b"%b: %b\r\n" % pair for pair in self.handler.credential_headers(credential.secret)]
        pieces += passed_on(request.headers, drop)
        forwarded = forwarded_lines(request, self.client.client_ip, self.client.scheme, settings.trusted_hops)
        pieces.append(forwarded if not rules.drop & FORWARDED else without_fields(forwarded, rules.drop))
        pieces.append(rules.lines)
        if request.upgrade:
            pieces.append(b"connection: upgrade\r\nupgrade: %b\r\n" % request.upgrade)
        elif self._trailers_welcome:
            pieces.append(b"connection: te\r\nte: trailers\r\n")
        if expecting:
            pieces.append(b"expect: 100-continue\r\n")
        if request.upgrade:
            pass
        elif self._chunked_request():
            pieces.append(b"transfer-encoding: chunked\r\n")
            announced = request.header(b"trailer")
            if announced is not None:
                pieces.append(b"trailer: %b\r\n" % announced)
        else:
            length = header_value(request.headers, b"content-length")
            if length is not None:
                pieces.append(b"content-length: %b\r\n" % length)
        pieces.append(b"\r\n")
        return b"".join(pieces)

    def query(self) -> bytes:
        """What goes on of it."""
        return self.request.query if self.caller is None else without_key(self.request.query)

    def may_repeat(self, failure: Failure) -> bool:
        """Only what changes nothing, or what the upstream never saw, and only with the whole body still at hand."""
        if self._body_taken:
            return False
        return not failure.sent or self.request.method in SAFE_TO_REPEAT

    # -- from the upstream

    def on_head(self, head: AnswerHead) -> None:
        self.end_expectation(False)
        status, self._headers = head.status, head.headers
        self._status = status
        self.row.upstream_status = status
        self.enter_phase("idle", self.route.timeouts.idle_s)
        if not self.first_byte_ns:
            self.first_byte_ns = time.perf_counter_ns()
        repeatable = self.request.method in SAFE_TO_REPEAT and not self._body_taken
        if (repeatable and _retryable(status)) or (status >= 400 and self.chosen and self.chosen.credential):
            self._held = []
            return
        self._held = None
        if status == 101:
            return
        self._start_answer()

    def is_failure(self, status: int) -> bool:
        """Whether an answer that was held means that the attempt failed; else it goes to the client as it is."""
        return _retryable(status) or status == 401

    def _start_answer(self) -> None:
        headers = self._headers
        length = header_value(headers, b"content-length")
        lines = self._answer_lines(headers)
        size = int(length) if length is not None and length.isdigit() else None
        if not self.request.body.complete:
            self.answer.keep_alive = False  # whether the rest of the body still comes is the client's to decide
        self.row.status = self._status
        self._judge_answer()
        if not self.gone:
            head = self.answer.start(self._status, lines, size)
            announced = header_value(headers, b"trailer")
            if announced is not None and self.answer.chunked and self._trailers_welcome:
                head = b"%btrailer: %b\r\n\r\n" % (head[:-2], announced)
            self.client.write(head)

    def _answer_lines(self, headers: Headers) -> list[bytes]:
        """The upstream's head as it goes on, with ours and the route's own lines."""
        rules = self.route.response_headers
        drop = RESPONSE_DROP | rules.drop if rules.drop else RESPONSE_DROP
        if self.answer.extra:
            drop = drop | CORS_HEADERS  # the caller's app has rules of its own
        return [*passed_on(headers, drop), rules.lines, self.our_lines()]

    def _judge_answer(self) -> None:
        """What goes to the client as it is, since the request cannot be repeated, is learnt from all the same."""
        status = self._status
        ours = self.chosen is not None and self.chosen.credential is not None
        if status >= 500 or status == 429 or (ours and status in (401, 403)):
            self.spoilt = True
            self.spoilt_by = Failure(Fault.STATUS, "", sent=True, status=status, headers=self._headers)
        else:
            self.attempt_answered()

    def on_body(self, payload: bytes, framed: bytes | None) -> None:
        self.active = True
        held = self._held
        if held is not None:
            held.append(payload)
            if sum(map(len, held)) > REPLAYABLE_BYTES:
                self._held = None  # too much to keep for a choice: it goes out as the answer
                self._start_answer()
                self.answer.write(b"".join(held))
            return
        if self.gone:
            return
        if self._tunnel_up:
            self.client.write(payload)
        else:
            self.answer.write(payload, b"", framed)

    def on_end(self) -> None:
        upstream = self.upstream
        trailers = upstream.trailers if upstream is not None else []
        if upstream is not None and self._body_sent and not self._tunnel_up:
            self.upstream = None
            upstream.release()
        else:
            self.drop_upstream()  # it answered before it had the whole body: what follows would be misread
        if self._held is not None:
            failure = Failure(
                Fault.STATUS,
                f"{self.row.target} answered {self._status}",
                sent=True,
                status=self._status,
                headers=self._headers,
                body=b"".join(self._held),
            )
            if self.is_failure(self._status):
                self.settle_verdict(failure)
            else:
                self.deliver(failure)
                self.settle_verdict(None)
            return
        if self._tunnel_up:
            self.answer.ended = True
            self.answer.keep_alive = False
        elif not self.gone:
            passed = trailers and self.answer.chunked and self._trailers_welcome
            self.record_end()
            self.answer.end(b"", trailer_lines(trailer_fields(trailers)) if passed else b"")
        self._writable.set()
        self.settle_verdict(None)

    def on_writable(self) -> None:
        self._writable.set()

    def on_broken(self, reason: str) -> None:
        self.drop_upstream()
        super().on_broken(reason)

    def drop_upstream(self) -> None:
        """The upload ends with the upstream, wherever it waits."""
        super().drop_upstream()
        self._writable.set()
        self.end_expectation(False)
        if self._body_taken and not self._body_sent:
            self.request.body.abandon()

    def deliver(self, failure: Failure) -> None:
        assert failure.status is not None
        self.row.status = failure.status
        lines = self._answer_lines(failure.headers)
        if not self.request.body.complete:
            self.answer.keep_alive = False
        secret = self.chosen.credential.secret if self.chosen and self.chosen.credential else None
        self.record_end()
        self.answer.whole(
            failure.status, [without_secret(line, secret) for line in lines], without_secret(failure.body, secret)
        )

    # -- WebSocket and other upgrades

    def on_tunnel(self, rest: bytes) -> None:
        if not self.request.upgrade or self.upstream is None:
            self.drop_upstream()
            super().on_broken("switched protocols unasked")
            return
        self._tunnel_up = True
        self.attempt_answered()
        self.row.status = 101
        self.answer.started = True
        switch = [
            b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n",
            b"upgrade: %b\r\n" % (header_value(self._headers, b"upgrade") or self.request.upgrade),
            *self._answer_lines(self._headers),
            self.answer.extra,
            b"\r\n",
            rest,
        ]
        self.client.write(b"".join(switch))
        for early in self._early:
            self.upstream.write(early)
        self._early = []

    def on_client_bytes(self, payload: bytes) -> None:
        self.active = True
        if self._tunnel_up and self.upstream is not None:
            self.upstream.write(payload)
            if self.upstream.write_paused:
                self.client.flow.pause_reading()
                self._early_resume()
            return
        self._early.append(payload)
        if sum(map(len, self._early)) > EARLY_CLIENT_BYTES:
            self.client.abort()

    def _early_resume(self) -> None:
        """Wait in a task of the loop until the upstream has taken what was written, then read on."""

        async def resume() -> None:
            while self.upstream is not None and self.upstream.write_paused:
                self._writable.clear()
                await self._writable.wait()
            self.client.flow.resume_reading()

        task = self.loop.create_task(resume())
        self.client.server_state.tasks.add(task)
        task.add_done_callback(self.client.server_state.tasks.discard)

    def client_half_closed(self) -> None:
        if self._tunnel_up and self.upstream is not None and self.upstream.transport.can_write_eof():
            self.plane.turn.flush()
            self.upstream.transport.write_eof()

    def client_gone(self) -> None:
        self._writable.set()
        if self._tunnel_up:
            # The end of a tunnel is how it ends, not an abort: whoever hangs up first completes the exchange.
            self.drop_upstream()
            self.gone = True
            self.settle_verdict(None)
            return
        super().client_gone()

    # -- at the end

    def used(self) -> Amounts:
        price = self.chosen.target.price if self.chosen else None
        cost = price.per_request if price else 0
        self.row.cost_usd_micros = cost
        if self.row.outcome == Outcome.OPEN and self.row.status >= 500:
            self.row.outcome = Outcome.UPSTREAM_FAILED
        return Amounts(0, 0, cost)

    def stream_error(self, error: SluicegateError) -> bytes:
        return b""


def _retryable(status: int) -> bool:
    return status in (408, 425, 429) or status >= 500


def _chunk(payload: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(payload), payload)
