"""What is passed to a model provider's account as it is: streamed both ways, under our credential, in its dialect."""

import time
from typing import TYPE_CHECKING, Final

from gateway.dataplane.failure import Failure
from gateway.dataplane.forwarding import (
    KEY_HEADERS,
    MODEL_RESPONSE_DROP,
    REQUEST_DROP,
    forwarded_lines,
    header_value,
    passed_on,
)
from gateway.dataplane.http_exchange import REPLAYABLE_BYTES, HttpExchange
from gateway.dataplane.identity import Caller, identify
from gateway.dataplane.plane import Plane
from gateway.dataplane.request import Headers, Request
from gateway.dataplane.target_plan import TargetPlan
from gateway.dialects.base import Operation
from gateway.wire.answer_head import AnswerHead

if TYPE_CHECKING:
    from gateway.dataplane.protocol import ClientConnection

ROUTE_HEADER: Final = b"x-sluicegate-route"
"""By which a caller names a route where the request itself names no model."""
DROP: Final = REQUEST_DROP | KEY_HEADERS | {b"cookie", ROUTE_HEADER}


class ProviderExchange(HttpExchange):
    """Base of what names no model in its body. What the provider answers is judged as an answer to a call is."""

    operation: Operation

    def __init__(self, plane: Plane, client: "ClientConnection", request: Request, operation: Operation) -> None:
        super().__init__(plane, client, request, None, operation.dialect)
        self.operation = operation

    def at_once(self) -> bool:
        return False

    def identify(self) -> Caller:
        known = self.request.caller_in(self.snapshot)  # the forward proxy has found it out already
        self.caller = caller = known or identify(self.request, self.snapshot, self.now_s)
        self.admit_to(caller.key.app, caller.key)
        return caller

    def request_head(self, plan: TargetPlan, target: bytes, drop: frozenset[bytes], extra: bytes) -> bytes:
        """`target`: path and query; `extra`: framing and what else the request has, without the empty line."""
        request, client = self.request, self.client
        lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (request.method, target, plan.pool.origin.authority)]
        if plan.credential is not None:
            lines += [b"%b: %b\r\n" % pair for pair in self.handler.credential_headers(plan.credential.secret)]
        lines += passed_on(request.headers, drop)
        hops = self.plane.settings.trusted_hops
        lines += (forwarded_lines(request, client.client_ip, client.scheme, hops), extra, b"\r\n")
        return b"".join(lines)

    def body_lines(self) -> bytes:
        if self._chunked_request():
            return b"transfer-encoding: chunked\r\n"
        length = header_value(self.request.headers, b"content-length")
        return b"" if length is None else b"content-length: %b\r\n" % length

    def is_refusal(self, status: int) -> bool:
        """Whether another target may answer better, or the caller is to be told in our words."""
        return status in (401, 403, 408, 425, 429) or status >= 500

    def is_failure(self, status: int) -> bool:
        return self.is_refusal(status)

    def on_head(self, head: AnswerHead) -> None:
        self.end_expectation(False)
        status, self._headers = head.status, head.headers
        self._status = status
        self.row.upstream_status = status
        self.enter_phase("idle", self.route.timeouts.idle_s)
        self.first_byte_ns = self.first_byte_ns or time.perf_counter_ns()
        self._held = [] if self.is_refusal(status) else None
        if self._held is None and status != 101:
            self._start_answer()

    def _answer_lines(self, headers: Headers) -> list[bytes]:
        return [*passed_on(headers, MODEL_RESPONSE_DROP), self.our_lines()]

    def on_body(self, payload: bytes, framed: bytes | None) -> None:
        held = self._held
        if held is None:
            super().on_body(payload, framed)
        elif sum(map(len, held)) < REPLAYABLE_BYTES:
            held.append(payload)

    def may_repeat(self, failure: Failure) -> bool:
        """What a provider refused for who asks, or for where it asks, has changed nothing there."""
        if failure.status in (401, 403, 404, 429):
            return not self._body_taken
        return super().may_repeat(failure)
