"""One request and its ledger row: what every kind of exchange shares.

    identity → route → admit (reserve) → target → upstream → relay → meter → settle → ledger

`start` begins at once, `run` is the task of what has to wait. The client connection calls back into it (`client_gone`,
…), and so does the upstream connection of the kinds that forward (`forwarding_exchange`). Whatever happens, `finish`
settles the reservation and writes exactly one closing record.
"""

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final

from gateway.dataplane.answers import error_answer, route_lines
from gateway.dataplane.bodies.capture import BodyCapture, CapturedAnswer, capture_of
from gateway.dataplane.forwarding import trusted_chain
from gateway.dataplane.plane import Plane
from gateway.dataplane.relay import ClientAnswer
from gateway.dataplane.request import Request
from gateway.dialects.base import DialectHandler
from gateway.dialects.registry import HANDLERS
from gateway.errors import SluicegateError, Unavailable
from gateway.policy.model import App, Dialect, Key, Route
from gateway.policy.quota import NOTHING, Amounts
from gateway.policy.usage import Charges, LedgerRow, Outcome

if TYPE_CHECKING:
    from gateway.dataplane.lease import Reservation
    from gateway.dataplane.protocol import ClientConnection
    from gateway.dataplane.trail import Trail
    from gateway.dataplane.upstream import UpstreamConnection

log = logging.getLogger("sluicegate.dataplane")

DIALECT_NAMES: Final = {dialect: dialect.value for dialect in Dialect}
"""`Enum.value` is a descriptor call."""


class ClientGone(Exception):
    """The client closed its connection before its answer was complete."""


class Exchange(ABC):
    """Base of all exchanges. A subclass says how to serve.

    Defaults stand on the class: an exchange is made for each request, and what it does not set costs nothing. What all
    of them set has a slot: CPython 3.11 keeps up to thirty other attributes compactly, and makes a dict of 1.5 KB of
    more.
    """

    __slots__ = (
        "__dict__", "__weakref__", "admitted_ns", "answer", "app", "client", "handler", "key", "loop", "now_s", "plane",
        "request", "row", "snapshot", "trail",
    )  # fmt: skip

    reservation: "Reservation | None" = None
    upstream: "UpstreamConnection | None" = None
    first_byte_ns = 0
    sent = False
    """A byte of this request may have reached some upstream."""
    gone = False
    shows_errors = True
    """Pages of every app's origins may read why nobody was recognised."""
    capture: BodyCapture | None = None
    """Copies of the bodies, where the route records them."""
    _recorded = False
    phase_deadline_s = 0.0
    """Event-loop time at which the present phase has taken too long; 0 = no such time."""
    phase = ""

    def __init__(
        self,
        plane: Plane,
        client: "ClientConnection",
        request: Request,
        dialect: Dialect,
        begun: tuple[str, int] | None = None,
    ) -> None:
        """`begun`: id and start (Unix nanoseconds) of a request that another way has begun to serve."""
        self.plane = plane
        self.key: Key | None = None
        self.app: App | None = None
        """Known once the caller is identified: from then on the request is in the ledger."""
        self.client = client
        self.request = request
        self.snapshot = plane.snapshot
        self.handler: DialectHandler = HANDLERS[dialect]
        self.loop = client.loop
        self.answer = ClientAnswer(
            client,
            http10=request.version == "1.0",
            head_only=request.method == b"HEAD",
            keep_alive=request.keep_alive and not plane.draining,
        )
        started_at_ns = time.time_ns() if begun is None else begun[1]
        hops = plane.settings.trusted_hops
        client_ip = trusted_chain(request, client.client_ip, hops)[0] if hops else client.client_ip
        self.now_s = started_at_ns / 1e9
        self.admitted_ns = 0
        """When the first attempt began (perf_counter); 0 = none has."""
        self.trail: Trail | None = None
        """Of its attempts, where there is more to tell than the row's own figures do."""
        self.row = LedgerRow(
            id=plane.ids.make(started_at_ns) if begun is None else begun[0],
            started_at_ns=started_at_ns,
            dialect=dialect.value,
            client_ip=client_ip,
        )
        who = client.identity
        if who is not None:
            self.row.process, self.row.user, self.row.container = who.process, who.user, who.container
        if request.client_request_id is not None:
            self.row.client_request_id = request.client_request_id

    # -- what subclasses decide

    def at_once(self) -> bool:
        """Begin to serve without a task; False where something has to be waited for. Raises like `serve`."""
        return False

    @abstractmethod
    async def serve(self) -> None:
        """Answer the request. Raises SluicegateError for what is to be refused in the caller's dialect."""

    def used(self) -> Amounts:
        """What the request has used, with the row's figures filled in; called once, at the end."""
        return NOTHING

    def stream_error(self, error: SluicegateError) -> bytes:
        """What tells a client in mid-answer that there will be no end; b"" where its format has no word for that."""
        return b""

    def drop_upstream(self) -> None:
        """Cancel what is still under way upstream."""
        return

    # -- the task

    def start(self) -> None:
        """Serve: at once where nothing has to be waited for (no task to make and wake), else in a task."""
        try:
            if self.at_once():
                return
        except Exception as error:  # noqa: BLE001 - told to the client and logged
            self.end_with(error)
            return
        self.spawn()

    def spawn(self) -> None:
        tasks = self.client.server_state.tasks
        task = self.loop.create_task(self.run())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def run(self) -> None:
        try:
            await self.serve()
        except asyncio.CancelledError:
            self.shut_down()
            raise
        except Exception as error:  # noqa: BLE001 - told to the client and logged
            self.end_with(error)
        else:
            self.finish()

    def end_with(self, error: Exception) -> None:
        """End with an error, told to the client in its dialect where that is still possible."""
        if isinstance(error, ClientGone):
            self.row.outcome = Outcome.CLIENT_GONE
        elif isinstance(error, SluicegateError):
            self.refuse(error)
        else:
            log.error("internal error in a request", exc_info=error, extra={"request_id": self.row.id})
            self.refuse(SluicegateError("internal error", fix=f"tell the operator the request id {self.row.id}"))
        self.finish()

    def shut_down(self) -> None:
        """The drain limit is over."""
        self.row.outcome = Outcome.INTERRUPTED
        self.end_with(Unavailable("the gateway is shutting down", fix="send the request again"))

    def refuse(self, error: SluicegateError) -> None:
        """End with an error: a complete answer where nothing has been sent yet, else a broken-off one."""
        row = self.row
        row.error_code = error.code
        if row.outcome == Outcome.OPEN:
            row.outcome = Outcome.UPSTREAM_FAILED if error.status in (502, 504) else Outcome.REFUSED
        if self.gone:
            row.outcome = Outcome.CLIENT_GONE
        elif not self.answer.started:
            row.status = error.status
            if self.app is None and self.snapshot.cors and self.shows_errors:
                self.answer.extra = self.snapshot.cors.answer_lines(self.request.header(b"origin"))
            if not self.request.body.complete:
                self.answer.keep_alive = False
            self.record_end()
            lines, body = error_answer(error, self.handler, row.id)
            self.answer.whole(error.status, [self.our_lines(), *lines], body)
        elif not self.answer.ended:
            event = self.stream_error(error)
            if event:
                self.answer.write(event)
            self.answer.break_off()

    def finish(self) -> None:
        """Settle, record, and let the client connection go on."""
        if self.upstream is not None:
            self.drop_upstream()
        self.record_end()
        self.plane.exchanges.discard(self)
        capture = self.capture
        if capture is not None:
            capture.end(self.request.headers, self.request.body, self.row.status)
        self.request.body.close()
        self.client.exchange_done(self)

    def begin_capture(self, route: Route) -> None:
        """The route records bodies: from here on the answer keeps a copy, if this request is in the sample."""
        self.capture = capture_of(self.plane.recorder, route, self.snapshot, self.row.id)
        if self.capture is not None:
            self.answer = CapturedAnswer(self.answer, self.capture.answer)

    def record_end(self) -> None:
        """Settle and write the close record, before the last of the answer is written: whoever has it whole finds its
        row ended, even if this process dies at that very moment."""
        if self._recorded:
            return
        self._recorded = True
        plane, row = self.plane, self.row
        now_ns, arrived_ns = time.perf_counter_ns(), self.request.arrived_ns
        row.latency_ms = (now_ns - arrived_ns) // 1000 / 1000
        if self.first_byte_ns:
            row.ttft_ms = (self.first_byte_ns - arrived_ns) // 1000 / 1000
        if self.admitted_ns:
            row.admit_ms = (self.admitted_ns - arrived_ns) // 1000 / 1000
            self.note_phases(now_ns)
        if self.app is not None:
            charges: Charges = ()
            if self.reservation is not None:
                charges = plane.book.settle(self.reservation, self.used() if self.sent else NOTHING)
            if row.outcome == Outcome.OPEN:
                row.outcome = Outcome.COMPLETED
            plane.spool.close(row, charges)
        elif row.error_code:
            plane.counted[row.error_code] += 1

    def note_phases(self, now_ns: int) -> None:
        """Fill in what the row tells of its attempts; the request ends at `now_ns` (perf_counter)."""
        return

    def admit_to(self, app: App, key: Key | None) -> None:
        """From here on the request belongs to an app and will have its ledger row."""
        self.app, self.key = app, key
        self.row.team, self.row.app, self.row.key = app.team, app.name, key.name or None if key else None
        if app.cors is not None:
            self.answer.extra = app.cors.answer_lines(self.request.header(b"origin"))

    # -- deadlines (looked at by the plane's sweep)

    def enter_phase(self, name: str, allowed_s: float) -> None:
        self.phase = name
        self.phase_deadline_s = self.loop.time() + allowed_s

    def check_deadlines(self, now_s: float) -> None:
        return

    # -- the client's side

    async def body_complete(self) -> None:
        """Wait for the whole request body. Raises what it is refused for, or ClientGone."""
        body = self.request.body
        if not body.complete:
            if self.request.expect_continue and body.refusal is None:
                self.client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            await body.wait_complete()
            if body.gone:
                raise ClientGone

    def client_gone(self) -> None:
        """The client's connection ended."""
        self.gone = True
        self.request.body.abandon()

    def client_paused(self) -> None:
        """The client reads slower than we write."""
        return

    def client_resumed(self) -> None:
        """The client has caught up."""
        return

    def client_half_closed(self) -> None:
        """The client will send no more within a tunnel."""
        return

    def on_client_bytes(self, payload: bytes) -> None:
        """Bytes that follow an upgrade request."""
        return

    def our_lines(self) -> bytes:
        """`x-request-id` and what is known of route and target."""
        row = self.row
        return b"x-request-id: %b\r\n%b" % (row.id.encode(), route_lines(row.route, row.target))
