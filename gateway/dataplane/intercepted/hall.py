"""A worker's transparent listeners and all that came in by them. Console and REST API are never to be had here.

The listeners are the agent's, one a rule, shared with the other workers: whoever is free accepts.
"""

import asyncio
import contextlib
import logging
import os
import socket
import ssl
from collections import Counter, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from gateway.dataplane.intercepted import arrival, terminating
from gateway.dataplane.intercepted.agreed import Agreed
from gateway.dataplane.intercepted.direct import Directs
from gateway.dataplane.intercepted.flow import Flow, give_up_transparency, place_of, redirected_from
from gateway.dataplane.intercepted.hosts import Hosts
from gateway.dataplane.intercepted.terminating import H2, Terminator
from gateway.dataplane.intercepted.whose import Asker, Whose
from gateway.dataplane.splice import Splice, Splices
from gateway.policy.interception import CANARY_PORT, CANARY_V4, CANARY_V6, InterceptionRule

if TYPE_CHECKING:
    from gateway.dataplane.dialer import Dialer
    from gateway.dataplane.intercepted.session import InterceptedSession
    from gateway.dataplane.plane import Plane

log = logging.getLogger("sluicegate.dataplane")

ACCEPTED_AT_ONCE: Final = 64
NO_DESCRIPTOR_PAUSE_S: Final = 0.1
LAST_ACCEPTS_S: Final = 3.0
"""How long a listener that is given up is still accepted from: a heartbeat's length, after which nothing new comes."""
LEAVING_S: Final = 0.5
"""The same where this worker ends: what the kernel has caught before the agent knew is not left behind."""
ENDED_KEPT: Final = 256
CANARY: Final = ""
"""In place of a rule's name: the agent's own connections, to see whether we answer (`intercept.canary`)."""
CANARY_PLACES: Final = ((CANARY_V4, CANARY_PORT), (CANARY_V6, CANARY_PORT))
CANARY_S: Final = 5.0
CANARY_BYTES: Final = 64


class SessionFactory(Protocol):
    def __call__(
        self,
        hall: "Hall",
        flow: Flow,
        server: socket.socket | None,
        tls: ssl.SSLContext | None,
        kind: "type[InterceptedSession] | None" = None,
    ) -> "InterceptedSession":
        """`server`: a connection to the destination that is there already; `tls`: how to speak to it where TLS ends
        here; `kind`: None = the ordinary one."""


class SplicedFlow:
    """Stands for a splice among the server's connections: a worker that drains waits for it."""

    __slots__ = ()

    def shutdown(self) -> None:
        return


class Hall:
    """`rules` and listeners change while connections of before go on as they began."""

    def __init__(self, plane: "Plane", sessions: SessionFactory, connections: set[Any], ask: Asker) -> None:
        """`connections`: of uvicorn's server, which waits for them when it ends; `ask`: the agent."""
        self.plane = plane
        self.hosts = Hosts()
        self.terminator = Terminator(plane)
        self.directs = Directs()
        self.flows: Counter[str] = Counter()
        """Open captured connections by rule."""
        self.counts: Counter[str] = Counter()
        """`RULE kind` → connections: arrived, passed, denied, governed; unattributed: of a process that could not be
        told (`whose`)."""
        self.whose = Whose(ask, self.counts)
        self.ended_flows: deque[dict[str, Any]] = deque(maxlen=ENDED_KEPT)
        """Told to the agent, and forgotten then."""
        self.session = sessions
        self.connections = connections
        self._doors: dict[tuple[str, int], socket.socket] = {}
        self._rules: dict[str, InterceptionRule] = {}
        """Those by which something was caught, or will be; as they were last."""
        self._left: list[socket.socket] = []
        """Listeners that we leave to the other workers."""
        self.on_leaving: Callable[[], None] = lambda: None
        """Tells the agent."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()
        self._splices: Splices | None = None

    @property
    def dialer(self) -> "Dialer":
        return self.plane.dialer

    @property
    def serving(self) -> list[int]:
        """Ports of the listeners."""
        return sorted(port for _, port in self._doors)

    @property
    def doors(self) -> dict[str, int]:
        """Descriptors of the listeners, by rule."""
        return {rule: sock.fileno() for (rule, _), sock in self._doors.items()}

    # -- listeners

    def take(self, listeners: list[tuple[str, int, int]]) -> None:
        """All there are: rule, port, descriptor. Descriptors of listeners that we have already are closed."""
        wanted = {(rule, port) for rule, port, _ in listeners}
        for door in self._doors.keys() - wanted:
            self._loop.call_later(LAST_ACCEPTS_S, self._give_up, self._doors.pop(door))
            self._loop.call_later(LAST_ACCEPTS_S, self._rules.pop, door[0], None)
        for rule, port, descriptor in listeners:
            self._rule(rule)
            if (rule, port) in self._doors or self.plane.draining:
                os.close(descriptor)
                continue
            sock = socket.socket(fileno=descriptor)
            sock.setblocking(False)
            self._doors[rule, port] = sock
            self._loop.add_reader(sock.fileno(), self._accept, sock, rule)

    def close(self) -> None:
        """Accept no more once the agent knows of it. What came in goes on."""
        self._left += self._doors.values()
        self._doors.clear()
        self.on_leaving()
        for sock in self._left:
            self._loop.call_later(LEAVING_S, self._give_up, sock)

    def end(self) -> None:
        """End what is still there."""
        for sock in (*self._doors.values(), *self._left):
            self._give_up(sock)
        for task in self._tasks:
            task.cancel()
        self.whose.close()
        if self._splices is not None:
            self._splices.close()

    def _give_up(self, sock: socket.socket) -> None:
        if sock.fileno() >= 0:
            self._loop.remove_reader(sock.fileno())
            sock.close()

    def _accept(self, listener: socket.socket, rule_name: str) -> None:
        port = listener.getsockname()[1]
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                log.error("a captured connection cannot be accepted", extra={"error": str(error)})
                self._loop.remove_reader(listener.fileno())
                self._loop.call_later(NO_DESCRIPTOR_PAUSE_S, self._resume, listener, rule_name)
                return
            sock.setblocking(False)
            rule = self._rule(rule_name)
            try:
                destination = place_of(sock.getsockname())
            except OSError:
                arrival.reset(sock)
                continue
            if rule_name == CANARY and destination in CANARY_PLACES:
                self._keep(self._loop.create_task(_echo(sock)))
                continue
            if rule is None:
                arrival.reset(sock)
                continue
            wanted = None
            if destination[1] == port:
                wanted = redirected_from(sock, destination)
                if wanted is None and port not in rule.ports:
                    # Asked for directly, by whoever found the port: that leads nowhere but to ourselves.
                    arrival.reset(sock)
                    continue
            self.flows[rule_name] += 1
            self.counts[f"{rule_name} arrived"] += 1
            if wanted is not None:
                give_up_transparency(sock)
            flow = Flow(rule, place_of(peer), wanted or destination, redirected=wanted is not None)
            self._keep(self._loop.create_task(self._receive(sock, flow)))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _resume(self, listener: socket.socket, rule_name: str) -> None:
        if listener.fileno() >= 0:
            self._loop.add_reader(listener.fileno(), self._accept, listener, rule_name)

    def _rule(self, name: str) -> InterceptionRule | None:
        """As it was last, where it is gone: the kernel still hands over what it caught by it until then."""
        rule = next((rule for rule in self.plane.snapshot.interception if rule.name == name), self._rules.get(name))
        if rule is not None:
            self._rules[name] = rule
        return rule

    async def _receive(self, sock: socket.socket, flow: Flow) -> None:
        try:
            self.whose.asked(flow)
            await arrival.receive(self, sock, flow)
        except asyncio.CancelledError:
            self.ended(flow, "shut_down")
            raise
        except Exception:
            log.exception("a captured connection could not be served")
            self.ended(flow, "failed")

    # -- what becomes of them

    async def serve_http(self, sock: socket.socket, flow: Flow, server: socket.socket | None) -> None:
        """`server`: a connection to the destination that is there already."""
        await self._loop.connect_accepted_socket(lambda: self.session(self, flow, server, None), sock)

    async def serve_tls(
        self, sock: socket.socket, flow: Flow, context: ssl.SSLContext, alpn: tuple[bytes, ...]
    ) -> None:
        """The client's TLS ends here. `alpn`: what the client offers to speak inside."""
        upstream = await self.terminator.upstream()
        flow.terminated = True
        try:
            await self._loop.connect_accepted_socket(
                lambda: Agreed(self, flow, upstream, alpn) if H2 in alpn else self.session(self, flow, None, upstream),
                sock,
                ssl=context,
                ssl_handshake_timeout=terminating.HANDSHAKE_S,
            )
        except OSError as error:  # ssl.SSLError is one
            if self.terminator.failed(flow, error):
                self.counts[f"{flow.rule.name} refused_certificate"] += 1
            sock.close()
            self.ended(flow, "handshake_failed")

    def splice(self, client: socket.socket, server: socket.socket, flow: Flow) -> None:
        if self._splices is None:
            self._splices = Splices(idle_s=self.plane.settings.tunnel_idle)
        place = SplicedFlow()

        def on_end(splice: Splice) -> None:
            self.connections.discard(place)
            flow.bytes_in, flow.bytes_out = splice.bytes_in, splice.bytes_out
            self.ended(flow, splice.outcome.value)

        self.counts[f"{flow.rule.name} passed"] += 1
        try:
            self._splices.start(client, server, on_end)
        except OSError:
            self.ended(flow, "client_gone")
            return
        self.connections.add(place)

    def denied(self, flow: Flow) -> None:
        self.counts[f"{flow.rule.name} denied"] += 1
        self.ended(flow, "denied")

    def ended(self, flow: Flow, outcome: str) -> None:
        """Once a flow."""
        if flow.outcome != "open":
            return
        self.ended_flows.append(flow.ended(outcome))
        self.flows[flow.rule.name] -= 1
        if not self.flows[flow.rule.name]:
            del self.flows[flow.rule.name]
        log.debug("captured connection ended", extra={"rule": flow.rule.name, "outcome": outcome})


async def _echo(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError):  # TimeoutError is one
        async with asyncio.timeout(CANARY_S):
            await loop.sock_sendall(sock, await loop.sock_recv(sock, CANARY_BYTES))
    sock.close()
