"""CONNECT: a tunnel to a host that the app may reach, and only to that host: the name in the TLS hello must agree.

identity → destination → admit → look up, judge, connect → 200 → hello agrees → bytes both ways → settle → ledger
"""

import asyncio
import time
from typing import TYPE_CHECKING, Final

from gateway.dataplane.egress import DestinationNotAllowed, connect, judge, reachable
from gateway.dataplane.exchange import Exchange
from gateway.dataplane.proxy_identity import CHALLENGE, identify_proxied
from gateway.dataplane.tunnel import TunnelPeer, reset_on_close
from gateway.errors import SluicegateError, UpstreamFailed
from gateway.policy.egress import Destination, Egress, address_of
from gateway.policy.model import Dialect, Provider, ProviderId, Route, RouteId, Strategy, Target, TargetId
from gateway.policy.quota import Amounts
from gateway.policy.usage import Outcome
from gateway.wire.client_hello import ACCESS_DENIED, ClientHello, ClientHelloReader, NotTls
from gateway.wire.errors import WireError

if TYPE_CHECKING:
    from gateway.dataplane.plane import Plane
    from gateway.dataplane.protocol import ClientConnection
    from gateway.dataplane.request import Request

ROUTE_NAME: Final = "forward-proxy"
"""What the ledger calls it; a limit's scope cannot name it."""
HELLO_SECONDS: Final = 15.0
HALF_CLOSED_SECONDS: Final = 60.0
EARLY_BYTES: Final = 64 * 1024
"""What a client may send before it is answered, or before its hello is whole."""
NEED: Final = Amounts(0, 0, 0)


_NOWHERE: Final = Provider(id=ProviderId(0), name=ROUTE_NAME, dialect=Dialect.HTTP, base_url="http://nowhere.invalid")
TARGET: Final = Target(id=TargetId(0), provider=_NOWHERE, model=None)
ROUTE: Final = Route(id=RouteId(0), name=ROUTE_NAME, strategy=Strategy.ORDERED, targets=(TARGET,), retries=0)
"""By which limits know such requests. They are in no configuration, and the same for all."""


class ConnectExchange(Exchange):
    """One tunnel. `host` and `port` as CONNECT named them."""

    def __init__(self, plane: "Plane", client: "ClientConnection", request: "Request", host: str, port: int) -> None:
        super().__init__(plane, client, request, Dialect.HTTP)
        self.host, self.port = host, port
        self.row.dialect = "connect"
        self.row.stream = True
        self.row.host = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self.answer.keep_alive = False
        self.active = False
        """Bytes have passed since the sweep last looked."""
        self._challenge = False
        self._egress: Egress | None = None
        self._peer: TunnelPeer | None = None
        self._sniffer: ClientHelloReader | None = ClientHelloReader()
        """None once it is settled that what the client sends may pass."""
        self._early: list[bytes] = []
        self._early_bytes = 0
        self._early_from_peer: list[bytes] = []
        """What a server said before the client was told that the tunnel stands."""
        self._established = False
        self._client_half_closed = False
        self._peer_half_closed = False
        """Before the client was told that the tunnel stands."""
        self._ended: asyncio.Future[None] = self.loop.create_future()
        self._bytes_in = self._bytes_out = 0

    async def serve(self) -> None:
        try:
            caller = identify_proxied(self.request, self.snapshot, self.row.client_ip or "", self.now_s)
        except SluicegateError as error:
            self._challenge = error.status == 407
            raise
        self.admit_to(caller.app, caller.key)
        self.row.route = ROUTE_NAME
        egress = self._egress = self.plane.egress(self.snapshot).of(caller.app)
        by = judge(egress, caller.app, self.host, self.port)
        if by.opaque:
            self._sniffer = None
        await self._admit(by)
        self.admitted_ns = time.perf_counter_ns()
        addresses = await reachable(self.plane, egress, by, self.host, self.port)
        self.sent = True
        self.row.attempts = 1
        peer = await connect(self.plane.dialer, addresses, self.port, lambda: TunnelPeer(self), self.row.host or "")
        self.row.connect_ms = (time.perf_counter_ns() - self.admitted_ns) // 1000 / 1000
        if self.gone:
            peer.close(reset=True)
            self.row.outcome = Outcome.CLIENT_GONE
            return
        self._peer = peer
        self._establish()
        await self._ended

    async def _admit(self, by: Destination) -> None:
        self.row.target = by.text
        limits = self.snapshot.limits_for(self.key, self.app, ROUTE, TARGET, None) if self.app else ()
        self.reservation = await self.plane.book.reserve(limits, NEED, self.now_s)
        self.plane.spool.open(self.row, self.reservation.charges(), self.reservation.need)

    def _establish(self) -> None:
        self.answer.started = self.answer.ended = self._established = True
        self.row.status = 200
        self.client.write(b"HTTP/1.1 200 Connection established\r\n%b\r\n" % self.our_lines())
        for payload in self._early_from_peer:
            self.client.write(payload)
        self._early_from_peer = []
        self._expect(HELLO_SECONDS if self._sniffer is not None else self.plane.settings.tunnel_idle)
        early, self._early = self._early, []
        for payload in early:
            self.on_client_bytes(payload)
        if self._client_half_closed:
            self.client_half_closed()
        if self._peer_half_closed:
            self.on_peer_half_closed()

    def our_lines(self) -> bytes:
        return super().our_lines() + (CHALLENGE if self._challenge else b"")

    # -- from the client

    def on_client_bytes(self, payload: bytes) -> None:
        peer = self._peer
        if peer is None or not self._established:
            self._early.append(payload)
            self._early_bytes += len(payload)
            if self._early_bytes > EARLY_BYTES:
                self.client.abort()
            return
        if self._sniffer is not None:
            self._sniff(payload)
            return
        self._pass(peer, payload)

    def _pass(self, peer: TunnelPeer, payload: bytes) -> None:
        self.active = True
        self._bytes_in += len(payload)
        peer.transport.write(payload)
        if peer.write_paused:
            self.client.flow.pause_reading()

    def _sniff(self, payload: bytes) -> None:
        """Hold the client's first bytes until they say where it wants to go."""
        sniffer, peer = self._sniffer, self._peer
        assert sniffer is not None
        assert peer is not None
        self._early.append(payload)
        self._early_bytes += len(payload)
        try:
            hello = sniffer.feed(payload)
            if hello is None:
                if self._early_bytes > 2 * EARLY_BYTES:
                    raise WireError(400, "the ClientHello does not end")
                return
            self._judge_hello(hello)
        except NotTls:
            self._refuse_within(
                DestinationNotAllowed(
                    f"what goes through a tunnel to {self.row.host} must be TLS",
                    fix=f"an operator can allow any protocol there with the entry tcp://{self.row.host} in `egress`",
                ),
                tls=False,
            )
            return
        except (WireError, DestinationNotAllowed) as error:
            self._refuse_within(error, tls=True)
            return
        self._sniffer = None
        self._expect(self.plane.settings.tunnel_idle)
        early, self._early = self._early, []
        self._pass(peer, b"".join(early))

    def _judge_hello(self, hello: ClientHello) -> None:
        """The name in the hello is the one that CONNECT named, or for an address one that the app may reach."""
        name = hello.server_name
        assert self._egress is not None
        if address_of(self.host) is not None:
            if name is not None and self._egress.find(name, self.port) is None:
                raise DestinationNotAllowed(f"the TLS hello within the tunnel asks for {name}, which is not allowed")
            return
        if name == self.host:
            return
        if name is None:
            raise DestinationNotAllowed(f"the TLS hello within the tunnel to {self.host} names no host")
        hidden = ", with an encrypted hello inside" if hello.encrypted_hello else ""
        raise DestinationNotAllowed(f"the TLS hello within the tunnel to {self.host} asks for {name}{hidden}")

    def _refuse_within(self, error: WireError | SluicegateError, *, tls: bool) -> None:
        """The tunnel stands already: a client that speaks TLS gets an alert, one that speaks HTTP an answer."""
        self.row.outcome = Outcome.REFUSED
        self.row.error_code = error.code if isinstance(error, SluicegateError) else "malformed_hello"
        if tls:
            self.client.write(ACCESS_DENIED)
        elif isinstance(error, SluicegateError) and self._early and self._early[0][:1].isalpha():
            body = self.handler.render_error(error, self.row.id)
            self.client.write(
                b"HTTP/1.1 403 Forbidden\r\ncontent-type: application/json\r\nconnection: close\r\n"
                b"content-length: %d\r\n\r\n%b" % (len(body), body)
            )
        self._early = []
        self._end(reset=False)

    def client_half_closed(self) -> None:
        self._client_half_closed = True
        peer = self._peer
        if peer is None or not self._established:
            return
        if self._sniffer is not None:  # it left without saying what it wanted
            self._end(reset=False)
            return
        peer.end_sending()
        if peer.half_closed:
            self._end(reset=False)
        else:
            self._expect(min(HALF_CLOSED_SECONDS, self.plane.settings.tunnel_idle))

    def client_gone(self) -> None:
        super().client_gone()
        if self._established and self.row.outcome == Outcome.OPEN and self._bytes_out == 0:
            self.row.outcome = Outcome.CLIENT_GONE
        self._end(reset=not self._client_half_closed)

    def client_paused(self) -> None:
        if self._peer is not None:
            self._peer.transport.pause_reading()

    def client_resumed(self) -> None:
        self.active = True
        if self._peer is not None:
            self._peer.transport.resume_reading()

    # -- from where it leads (TunnelEnd)

    def on_peer_bytes(self, payload: bytes) -> None:
        self.active = True
        self._bytes_out += len(payload)
        if not self._established:
            self._early_from_peer.append(payload)
        elif not self.gone:
            self.client.write(payload)

    def on_peer_half_closed(self) -> None:
        if not self._established:
            self._peer_half_closed = True
        elif self._client_half_closed or not self.client.transport.can_write_eof():
            self._end(reset=False)
        elif not self.gone:
            self.plane.turn.flush()
            self.client.transport.write_eof()
            self._expect(min(HALF_CLOSED_SECONDS, self.plane.settings.tunnel_idle))

    def on_peer_gone(self, *, reset: bool) -> None:
        if reset and not self.gone and not self._ended.done():
            self.row.outcome = Outcome.UPSTREAM_FAILED
            self.row.error_code = UpstreamFailed.code
            reset_on_close(self.client.transport)
            self.client.abort()
        self._end(reset=reset)

    def on_peer_writable(self) -> None:
        self.active = True
        self.client.flow.resume_reading()

    # -- ends

    def _expect(self, within_s: float) -> None:
        self.enter_phase("tunnel", within_s)
        self.active = False
        self._within_s = within_s

    def check_deadlines(self, now_s: float) -> None:
        if not self._established or not self.phase_deadline_s:
            return
        if self.active and self._sniffer is None:
            self.active = False
            self.phase_deadline_s = now_s + self._within_s
        elif now_s >= self.phase_deadline_s:
            self.phase_deadline_s = 0.0
            self._end(reset=False)

    def _end(self, *, reset: bool) -> None:
        if self._peer is not None:
            self._peer.close(reset=reset)
        if not self._ended.done():
            self._ended.set_result(None)

    def used(self) -> Amounts:
        return NEED

    def record_end(self) -> None:
        self.row.bytes_in, self.row.bytes_out = self._bytes_in, self._bytes_out
        super().record_end()

    def finish(self) -> None:
        self._end(reset=False)
        super().finish()

    def drop_upstream(self) -> None:
        self._end(reset=True)
