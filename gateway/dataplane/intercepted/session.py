"""A captured connection that speaks HTTP/1: each of its requests is claimed by a route, and then served like any other,
or passed on byte for byte to where it was going.

                 ┌ ours ──→ InterceptedConnection (a ClientConnection) ──→ exchange
    client bytes ┤
                 └ theirs ─→ TunnelPeer, a connection to the original destination

Requests that follow each other unanswered pass on as they come, as long as none of them is claimed: one that is waits
until those before it are answered, and those behind it wait for its own answer. What cannot be cut into requests is
passed on for good.
"""

import asyncio
import logging
import socket
import ssl
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from gateway.dataplane.identity import Caller, KeyExpired
from gateway.dataplane.intercepted import way_out
from gateway.dataplane.intercepted.arrival import SILENCE_S
from gateway.dataplane.intercepted.claims import THEIRS, Claim, Verdict, Whose, host_of, judge, names_route
from gateway.dataplane.intercepted.connection import InterceptedConnection
from gateway.dataplane.intercepted.direct import DirectPool, Directs
from gateway.dataplane.intercepted.flow import Flow
from gateway.dataplane.intercepted.hold import Hold
from gateway.dataplane.intercepted.identity import caller_of
from gateway.dataplane.tunnel import TunnelPeer, reset_on_close
from gateway.policy.interception import Unmatched
from gateway.wire.cutting import MOST_HEAD_BYTES, AnswerCutter, RequestCutter, RequestHead
from gateway.wire.errors import WireError

if TYPE_CHECKING:
    from gateway.dataplane.intercepted.hall import Hall

log = logging.getLogger("sluicegate.dataplane")

AHEAD_BYTES: Final = 256 * 1024
"""What is read of requests that wait behind the one being served."""
MOST_AWAITED: Final = 64
"""Requests that may follow each other unanswered."""
CONTINUE: Final = b"HTTP/1.1 100"


class InterceptedSession(asyncio.Protocol):
    """One connection. `flow.destination` is where its requests go that no route claims."""

    def __init__(
        self,
        hall: "Hall",
        flow: Flow,
        inner: InterceptedConnection,
        server: socket.socket | None,
        tls: ssl.SSLContext | None,
    ) -> None:
        """`server`: a connection to the destination that is there already; `tls`: how to speak to it where the client's
        TLS ends here."""
        self._hall = hall
        self._plane = hall.plane
        self._flow = flow
        self._inner = inner
        self._tls = tls
        self._server = server
        inner.session = self
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = None  # type: ignore[assignment]  # set by connection_made
        self._cutter: RequestCutter | None = None
        self._head: RequestHead | None = None
        """Of the request under way."""
        self._caller: Caller | None = None
        self._verdict: Verdict | None = None
        self._hold: Hold | None = None
        self._whose = Whose.NOBODYS
        self._request_whole = False
        """The request under way has come to its end; it is under way still, where it is not decided or ours."""
        self._ahead = b""
        self._answers: deque[AnswerCutter] = deque()
        """Still to come from the destination."""
        self._blind = False
        """Bytes pass as they are, for good."""
        self._peer: TunnelPeer | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._asking: asyncio.Task[None] | None = None
        self._unsent: list[bytes] = []
        """For the destination, until there is a connection to it."""
        self._unsent_bytes = 0
        self._interim = b""
        """Of a 100 that is not passed on."""
        self._client_ended = False
        self._closed = False
        self._governs = False
        """Some request was claimed."""
        self._expired = False
        """The request under way shows a key of ours that is no longer good."""
        self._pool: DirectPool | None = None
        self._spliced = False
        """Some request was passed on."""
        self._active_s = self._loop.time()

    # -- asyncio.Protocol, the client's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._inner.connection_made(transport)
        if self._tls is not None:
            self._loop.call_later(SILENCE_S, self._after_silence)

    def _after_silence(self) -> None:
        """Within TLS, too, the server may be the one to begin."""
        silent = self._whose is Whose.NOBODYS and self._cutter is None
        if silent and not (self._closed or self._blind or self._answers or self._spliced or self._connecting):
            self._connecting = self._loop.create_task(self._connect())

    def data_received(self, data: bytes) -> None:
        self._active_s = self._loop.time()
        if self._blind:
            self._send(data)
            return
        if self._whose is Whose.OURS and self._head is not None and self._head.upgrade:
            self._inner.data_received(data)  # what follows an upgrade is no request
            return
        self._ahead = self._ahead + data if self._ahead else data
        self._work()

    def eof_received(self) -> bool:
        self._plane.turn.work()
        self._client_ended = True
        if self._whose is Whose.OURS:
            return self._inner.eof_received()
        if self._whose is Whose.QUEUED or (self._whose is Whose.ASKED and self._request_whole):
            return True  # it is all there, and will be served
        if self._whose in (Whose.ASKED, Whose.HELD) or (self._cutter is not None and self._cutter.held):
            self._go_blind(b"")
        if self._peer is None and self._connecting is None and not self._blind:
            return False
        if self._peer is not None:
            self._peer.end_sending()
            return not self._peer.half_closed
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._inner.connection_lost(exc)
        for task in (self._connecting, self._asking):
            if task is not None:
                task.cancel()
        if self._hold is not None:
            self._hold.close()
        if self._server is not None:
            self._server.close()
        if self._pool is not None:
            self._pool.retired = True
            self._pool.close()
        if self._peer is not None:
            self._peer.close(reset=exc is not None or not self._client_ended)
        self._ended("completed" if exc is None else "client_reset")

    def _ended(self, outcome: str) -> None:
        self._hall.ended(self._flow, outcome)

    def pause_writing(self) -> None:
        self._inner.pause_writing()
        if self._peer is not None:
            self._peer.transport.pause_reading()

    def resume_writing(self) -> None:
        self._inner.resume_writing()
        if self._peer is not None:
            self._peer.transport.resume_reading()

    # -- cutting

    def _work(self) -> None:
        """Take what has come, up to the end of the request under way."""
        while self._ahead and not (self._blind or self._closed or self._request_whole or self._asked_enough):
            data, self._ahead = self._ahead, b""
            cutter = self._cutter
            if cutter is None:
                cutter = self._cutter = RequestCutter()
            try:
                rest = cutter.feed(data)
            except WireError as error:
                self._not_http(cutter, data, error)
                return
            self._ahead = rest
            if cutter.ended:
                self._cutter = None
                self._request_whole = True
            if cutter.taken:
                self._take(cutter)
        if len(self._ahead) > AHEAD_BYTES:
            self._inner.flow.pause_reading()

    @property
    def _asked_enough(self) -> bool:
        """So many answers are awaited that no further request is looked at."""
        return len(self._answers) >= MOST_AWAITED and self._whose is Whose.NOBODYS

    def _take(self, cutter: RequestCutter) -> None:
        if self._whose is Whose.NOBODYS:
            self._begin(cutter)
        elif self._whose is Whose.OURS:
            self._inner.data_received(cutter.taken)
        elif self._whose is Whose.THEIRS:
            self._send(cutter.taken)
        elif self._hold is not None:
            self._hold.feed(cutter.taken, cutter.payload)
            if self._whose is Whose.HELD and self._hold.size > self._most_held_bytes:
                self._verdict = THEIRS
                self._settle(False, b"")  # no route takes so much, whatever it says
            elif self._whose is Whose.HELD and self._request_whole:
                self._judge_body()
            elif self._whose in (Whose.ASKED, Whose.QUEUED) and self._hold.size > AHEAD_BYTES:
                self._inner.flow.pause_reading()
        if self._whose is Whose.THEIRS and self._request_whole:
            self._next()

    def _not_http(self, cutter: RequestCutter, data: bytes, error: WireError) -> None:
        """No request, or one that could be understood in two ways."""
        if self._whose is Whose.OURS:
            self._inner.data_received(data)  # it says so
            return
        held = cutter.held if cutter.head is None else data
        unmatched = self._flow.rule.unmatched
        governs = self._governs or unmatched is Unmatched.METER
        if unmatched is Unmatched.DENY or (governs and self._answers):
            self._deny_bytes()
            return
        if governs:
            self._whose = Whose.OURS  # it is told so: what is governed is not left for a malformed line
            self._inner.data_received(held)
            return
        log.debug("passed on as it is", extra={"rule": self._flow.rule.name, "reason": error.message})
        self._go_blind(held)

    def _deny_bytes(self) -> None:
        self._hall.counts[f"{self._flow.rule.name} denied"] += 1
        reset_on_close(self._transport)
        self._transport.abort()

    # -- deciding

    def _begin(self, cutter: RequestCutter) -> None:
        """A request's head is there."""
        head = cutter.head
        assert head is not None
        self._head = head
        self._expired = False
        try:
            self._caller = caller_of(head, self._plane.snapshot, self._flow, self._inner.now_s())
        except KeyExpired:
            self._caller, self._expired = None, True
        host = host_of(head)
        flow = self._flow
        if self._plane.http_routes.by_any_host:
            agreed = self._hall.hosts.judge_at_once(host, flow.rule, flow.destination[0])
            if agreed is None:
                self._whose = Whose.ASKED
                self._keep(cutter, None)
                self._asking = self._loop.create_task(self._ask(host))
                return
            host = agreed
        self._judge(cutter, host)

    async def _ask(self, host: str) -> None:
        flow = self._flow
        agreed = await self._hall.hosts.judge(host, flow.rule, flow.destination[0])
        if self._whose is Whose.ASKED and not (self._blind or self._closed):
            self._judge(None, agreed)
            self._work()

    def _judge(self, cutter: RequestCutter | None, host: str) -> None:
        """`cutter`: None where what came is held already."""
        head = self._head
        assert head is not None
        verdict = self._verdict = judge(self._plane, head, host, self._caller)
        self._inner.host = host if host != host_of(head) else None
        if self._expired and verdict.operation is not None:
            self._settle(True, b"" if cutter is None else cutter.taken)  # answered 401, as anywhere else
            return
        if verdict.claim is Claim.BODY:
            self._whose = Whose.HELD
            if cutter is not None:
                self._keep(cutter, verdict)
            elif self._hold is not None:
                held, self._hold = self._hold, None
                self._hold = self._new_hold(verdict)
                self._hold.refeed(held)
            expects = (head.header(b"expect") or b"").lower() == b"100-continue"
            if expects and not self._request_whole and not self._answers:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # whose it is, only its body tells
                self._inner.expected = True
            if self._request_whole:
                self._judge_body()
            return
        self._settle(verdict.claim is Claim.OURS, b"" if cutter is None else cutter.taken)

    def _keep(self, cutter: RequestCutter, verdict: Verdict | None) -> None:
        self._hold = self._new_hold(verdict)
        self._hold.feed(cutter.taken, cutter.payload)

    @property
    def _most_held_bytes(self) -> int:
        settings = self._plane.settings
        return max(settings.max_body_bytes, settings.max_upload_bytes) + MOST_HEAD_BYTES

    def _new_hold(self, verdict: Verdict | None) -> Hold:
        settings = self._plane.settings
        assert self._head is not None
        operation = None if verdict is None else verdict.operation
        return Hold(self._head, operation, settings.data, settings.body_memory_bytes)

    def _judge_body(self) -> None:
        assert self._hold is not None
        assert self._head is not None
        assert self._verdict is not None
        assert self._verdict.operation is not None
        caller = self._caller
        ours: bool | None = False
        if caller is not None:
            ours = names_route(self._plane, self._verdict.operation, self._head, self._hold.body(), caller)
        if ours is None:
            self._verdict = THEIRS
        self._settle(bool(ours), b"")

    def _settle(self, ours: bool, taken: bytes) -> None:
        """Whose the request is has been decided; `taken` came of it, if it is not held."""
        rule = self._flow.rule
        metered = rule.unmatched is Unmatched.METER and self._caller is not None
        if not ours and (metered or rule.unmatched is Unmatched.DENY):
            self._inner.direct = self._verdict
            self._inner.denied = rule.unmatched is Unmatched.DENY
            ours = True
        if ours and self._answers:
            self._whose = Whose.QUEUED
            if self._hold is None:
                self._hold = self._new_hold(None)
                self._hold.feed(taken, b"")
            return
        hold, self._hold = self._hold, None
        self._inner.flow.resume_reading()
        try:
            self._begin_serving(ours, [taken] if hold is None else hold.pieces())
        finally:
            if hold is not None:
                hold.close()

    def _begin_serving(self, ours: bool, pieces: Iterable[bytes]) -> None:
        head = self._head
        assert head is not None
        if ours:
            self._whose, self._governs = Whose.OURS, True
            self._hall.counts[f"{self._flow.rule.name} {'denied' if self._inner.denied else 'governed'}"] += 1
            for piece in pieces:
                self._inner.data_received(piece)
            if head.upgrade and self._ahead:
                ahead, self._ahead = self._ahead, b""
                self._inner.data_received(ahead)  # what follows an upgrade is no request
            return
        self._whose = Whose.THEIRS
        self._note_passed()
        self._answers.append(AnswerCutter(bodiless=head.method == b"HEAD"))
        for piece in pieces:
            self._send(piece)
        if self._client_ended and self._peer is not None:
            self._peer.end_sending()
        if self._request_whole:
            self._next()

    def _note_passed(self) -> None:
        if not self._spliced:
            self._spliced = True
            self._hall.counts[f"{self._flow.rule.name} passed"] += 1

    def answered(self) -> None:
        """The request under way was ours, and is answered."""
        if self._whose is Whose.OURS and self._request_whole and not self._closed:
            self._next()
            self._inner.expected = False
            if self._client_ended and not self._ahead:
                self._transport.close()
                return
            if self._ahead:
                self._loop.call_soon(self._work)
            self._inner.flow.resume_reading()

    def _next(self) -> None:
        """Be ready for another request."""
        self._whose, self._request_whole = Whose.NOBODYS, False
        self._head = self._verdict = None
        self._inner.direct = None
        self._inner.denied = False
        self._inner.host = None

    # -- to the destination

    def _go_blind(self, data: bytes) -> None:
        """From here on bytes pass as they are."""
        self._blind = True
        self._note_passed()
        self._answers.clear()
        if self._hold is not None:
            hold, self._hold = self._hold, None
            for piece in hold.pieces():
                self._send(piece)
            hold.close()
        held = b"" if self._cutter is None or data else self._cutter.held
        self._cutter = None
        ahead, self._ahead = self._ahead, b""
        for piece in (data or held, ahead):
            if piece:
                self._send(piece)
        if self._peer is None and self._connecting is None:
            self._connecting = self._loop.create_task(self._connect())

    def _send(self, data: bytes) -> None:
        self._flow.bytes_in += len(data)
        peer = self._peer
        if peer is not None and not peer.closed:
            peer.transport.write(data)
            if peer.write_paused:
                self._inner.flow.pause_reading()
            return
        self._unsent.append(data)
        self._unsent_bytes += len(data)
        if self._unsent_bytes > AHEAD_BYTES:
            self._inner.flow.pause_reading()
        if self._connecting is None:
            self._connecting = self._loop.create_task(self._connect())

    async def _connect(self) -> None:
        flow = self._flow
        try:
            sock, self._server = self._server, None
            if sock is None:
                sock = await way_out.connect(self._hall.dialer, flow)
            peer = await way_out.speak(sock, flow, lambda: TunnelPeer(self), self._tls)
        except OSError as error:
            log.info("a destination cannot be reached", extra={"rule": flow.rule.name, "error": str(error)})
            self._connecting = None
            if not self._closed and self._whose is not Whose.OURS:  # what is ours does not hang on it
                reset_on_close(self._transport)
                self._transport.abort()
            return
        self._connecting = None
        if self._closed:
            peer.close(reset=True)
            return
        self._peer = peer
        unsent, self._unsent, self._unsent_bytes = self._unsent, [], 0
        for piece in unsent:
            peer.transport.write(piece)
        if self._client_ended:
            peer.end_sending()
        if not peer.write_paused:
            self._inner.flow.resume_reading()

    # -- from the destination (TunnelEnd)

    def on_peer_bytes(self, payload: bytes) -> None:
        self._active_s = self._loop.time()
        if self._closed:
            return
        self._flow.bytes_out += len(payload)
        if self._inner.expected:
            payload = self._without_continue(payload)
        self._inner.write(payload)
        if not self._blind:
            self._cut_answers(payload)

    def _cut_answers(self, payload: bytes) -> None:
        try:
            while payload and self._answers:
                answer = self._answers[0]
                payload = answer.feed(payload)
                if answer.switched:
                    self._lose_track()
                    return
                if not answer.ended:
                    break
                self._answers.popleft()
        except WireError:
            self._lose_track()
            return
        if not self._answers and self._whose is Whose.QUEUED:
            self._settle(True, b"")
        if self._ahead and not (self._asked_enough or self._request_whole):
            self._work()
            if len(self._ahead) <= AHEAD_BYTES:
                self._inner.flow.resume_reading()

    def _lose_track(self) -> None:
        """Where this answer ends, nobody can know."""
        if self._whose is Whose.QUEUED:  # claimed, and so not the destination's to see
            reset_on_close(self._transport)
            self._transport.abort()
        else:
            self._go_blind(b"")

    def _without_continue(self, payload: bytes) -> bytes:
        """The client was told to go on by us; the destination's own word for it would be one too many."""
        payload = self._interim + payload
        if not payload.startswith(CONTINUE[: len(payload)]):
            self._inner.expected = False
            self._interim = b""
            return payload
        end = payload.find(b"\r\n\r\n")
        if end < 0:
            self._interim = payload
            return b""
        self._inner.expected = False
        self._interim = b""
        return payload[end + 4 :]

    def on_peer_half_closed(self) -> None:
        if self._closed:
            return
        if self._needs_no_peer:
            if self._peer is not None:
                self._peer.leave()  # if anything more goes there, it takes another connection
                self._peer = None
            return
        self._plane.turn.flush()
        idle = self._whose is Whose.NOBODYS and not self._answers and not self._blind
        if self._client_ended or not self._transport.can_write_eof() or idle:
            self._transport.close()
        else:
            self._transport.write_eof()

    @property
    def _needs_no_peer(self) -> bool:
        """A request is on its way that hangs on no connection to the destination, so far."""
        on_its_way = self._whose in (Whose.OURS, Whose.ASKED, Whose.HELD)
        return on_its_way and not (self._answers or self._blind)

    def on_peer_gone(self, *, reset: bool) -> None:
        self._peer = None
        if self._closed or self._needs_no_peer:
            return
        if reset:
            self._plane.turn.flush()
            reset_on_close(self._transport)
            self._transport.abort()
        else:
            self._transport.close()

    def on_peer_writable(self) -> None:
        self._inner.flow.resume_reading()

    # -- looked at once a second

    def check_deadlines(self, now_s: float) -> None:
        """Of the times in which a request is not ours."""
        if now_s - self._active_s > self._plane.settings.tunnel_idle:
            self._transport.abort()

    @property
    def serves_inner(self) -> bool:
        """Whether the connection's own deadlines hold at present."""
        return self._whose is Whose.OURS

    @property
    def holds(self) -> bool:
        """Whether a request is on its way whose it is not decided, or whose turn has not come."""
        return self._hold is not None

    @property
    def passed_on(self) -> bool:
        """Whether anything went on untouched: such a connection is the two ends' own to close."""
        return self._spliced

    @property
    def is_idle(self) -> bool:
        return self._whose is Whose.NOBODYS and not (self._blind or self._ahead or self._answers)

    @property
    def pool(self) -> DirectPool:
        """Connections to the destination for what is metered."""
        if self._pool is None:
            self._pool = DirectPool(self._plane, self._flow, self._tls)
        return self._pool

    @property
    def directs(self) -> Directs:
        return self._hall.directs

    @property
    def called(self) -> str:
        """What the destination is called: in the ledger, and in limits."""
        if self._flow.server_name is not None:
            return self._flow.server_name
        return self._hall.hosts.name_of(self._flow.rule, self._flow.destination[0])

    @property
    def caller(self) -> Caller | None:
        return self._caller
