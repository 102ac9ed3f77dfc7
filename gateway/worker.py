"""`python -m gateway.worker`: one worker process, composed of data plane, REST API and the link to the keeper.

Started by `gateway.supervisor` with its listening sockets as inherited file descriptors; writes one byte to the
readiness pipe once it serves with a snapshot.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from functools import partial

import uvicorn
import uvloop

from gateway.api.app import create_app
from gateway.certificate import context_of
from gateway.dataplane import condition
from gateway.dataplane.agent_link import AgentLink
from gateway.dataplane.checks import Checks
from gateway.dataplane.doors import Factory, open_door
from gateway.dataplane.explain import explain
from gateway.dataplane.intercepted.connection import intercepted_class
from gateway.dataplane.intercepted.flow import Flow
from gateway.dataplane.intercepted.hall import Hall, SessionFactory
from gateway.dataplane.intercepted.session import InterceptedSession
from gateway.dataplane.keeper_link import KeeperLink
from gateway.dataplane.leases import LeaseBook
from gateway.dataplane.listeners import Serves
from gateway.dataplane.plane import Plane
from gateway.dataplane.protocol import ClientConnection, protocol_class
from gateway.dataplane.provider_trials import ProviderTrials
from gateway.dataplane.spool import Spool
from gateway.dataplane.upstream import Upstreams
from gateway.lifetime import REPLACED, calm_collector, end_with_parent, raise_file_limit
from gateway.logs import log_to_stderr
from gateway.policy.codec import decode_snapshot
from gateway.policy.explanation import Explanation, Question
from gateway.settings import Settings
from gateway.wire.proxy_preamble import Preamble

log = logging.getLogger("sluicegate.worker")

GIL_SWITCH_SECONDS = 0.0005
"""How long a thread of a console query may hold up the event loop (the default, 5 ms, would be seen in p99)."""


FIRST_SNAPSHOT_SECONDS = 5.0
STARTUP_FAILURE = 3
"""Exit code, as uvicorn's."""
REPLACED_DRAIN_S = 24 * 3600
"""A replaced worker goes on until its last answer has ended: the routes' own timeouts bound that."""
REPLACED_IDLE_S = 5.0
"""How long it waits on idle connections for a last request, whose answer says that it is the last."""


class SnapshotFeed:
    """Takes the keeper's documents, decodes the newest in a thread, and gives it to the plane."""

    def __init__(self) -> None:
        self._newest: bytes | None = None
        self._arrived = asyncio.Event()
        self.first_used = asyncio.Event()

    def offer(self, document: bytes) -> None:
        self._newest = document
        self._arrived.set()

    async def run(self, plane: Plane, agent: AgentLink) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            document, self._newest = self._newest, None
            if document is None:
                continue
            started = time.perf_counter()
            try:
                plane.use(await asyncio.to_thread(decode_snapshot, document))
            except Exception:
                log.exception("snapshot refused; the one before stays in force")
                continue
            took_ms = round((time.perf_counter() - started) * 1000)
            agent.tell_rules()
            log.info("snapshot in force", extra={"generation": plane.snapshot.generation, "took_ms": took_ms})
            self.first_used.set()


class WorkerServer(uvicorn.Server):
    """uvicorn's server on listeners of our own; from SIGTERM on no answer keeps its connection alive, and live feeds
    end."""

    def __init__(
        self,
        config: uvicorn.Config,
        plane: Plane,
        feeds_ending: asyncio.Event,
        listeners: list[tuple[Serves, socket.socket]],
        tls: ssl.SSLContext | None,
        protocol: Callable[[Serves], type[ClientConnection]],
        agent: AgentLink,
    ) -> None:
        super().__init__(config)
        self._protocol = protocol
        self._plane = plane
        self._feeds_ending = feeds_ending
        self._listeners = listeners
        self._tls = tls
        self._agent = agent
        self._hall: Hall | None = None
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        self._hall = Hall(self._plane, self._intercepted(), self.server_state.connections, self._agent.ask)
        self._agent.furnish(self._hall)
        await self._agent.introduced()
        doors = [
            await open_door(
                sock,
                self._factory(serves),
                self._tls,
                preamble=self._plane.settings.proxy_protocol,
                tls_optional=serves is Serves.PROXY,
            )
            for serves, sock in self._listeners
        ]
        self.servers = doors  # type: ignore[assignment]  # closed and waited for, as asyncio's servers are
        self.started = True
        self.listening.set()

    def _factory(self, serves: Serves) -> Factory:
        protocol = self._protocol(serves)

        def make(preamble: Preamble | None) -> asyncio.Protocol:
            connection = protocol(self.config, self.server_state, self.lifespan.state)
            connection.announced = preamble
            return connection

        return make

    def _intercepted(self) -> SessionFactory:
        protocol = intercepted_class(self._plane)

        def make(
            hall: Hall,
            flow: Flow,
            server: socket.socket | None,
            tls: ssl.SSLContext | None,
            kind: type[InterceptedSession] | None = None,
        ) -> InterceptedSession:
            connection = protocol(self.config, self.server_state, self.lifespan.state)
            connection.intercepted = flow
            return (kind or InterceptedSession)(hall, flow, connection, server, tls)

        return make

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._feeds_ending.set()
        if self._hall is not None:
            self._hall.close()
        await super().shutdown(sockets)
        if self._hall is not None:
            self._hall.end()

    def handle_exit(self, sig: int, frame: object) -> None:
        plane = self._plane
        if plane.draining and sig != REPLACED:  # the whole gateway ends: what still drains has as long as all others
            asyncio.get_running_loop().call_later(plane.settings.drain, self._end_at_once)
            return
        plane.draining = True
        if sig == REPLACED:
            plane.idle_grace_s = REPLACED_IDLE_S
            self.config.timeout_graceful_shutdown = REPLACED_DRAIN_S
        super().handle_exit(sig, frame)  # type: ignore[arg-type]  # uvicorn's FrameType

    def _end_at_once(self) -> None:
        self.force_exit = True

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # as uvicorn declares it
        # uvicorn raises the signal again after a clean shutdown; a drained worker ends with 0, whatever comes then: the
        # handler would find no event loop any more.
        in_main_thread = threading.current_thread() is threading.main_thread()
        signals = (signal.SIGTERM, signal.SIGINT, REPLACED) if in_main_thread else ()
        for sig in signals:
            signal.signal(sig, self.handle_exit)
        yield
        for sig in signals:
            signal.signal(sig, signal.SIG_IGN)


async def serve(
    settings: Settings,
    opened: list[tuple[Serves, socket.socket]],
    tls: ssl.SSLContext | None,
    ready_fd: int | None,
    slot: int = 0,
) -> None:
    feed = SnapshotFeed()
    link = KeeperLink(settings, on_snapshot=feed.offer, program=f"worker-{slot}")
    book = LeaseBook(link)
    spool = Spool(settings.spool_folder, link.incarnation, settings.spool_segment_bytes, settings.spool_max_bytes)
    link.watch(spool)
    plane = Plane(settings, book, spool, Upstreams(ssl.create_default_context()))
    plane.own_addresses = tuple(sock.getsockname()[:2] for _, sock in opened)
    agent = AgentLink(
        settings.agent_socket_path, slot, lambda: plane.snapshot.interception if plane.snapshot.generation else None
    )
    checks = Checks(plane, link.send)
    link.follow(checks)

    def explain_here(question: Question) -> Explanation:
        return explain(plane, question, asyncio.get_running_loop().time())

    app = create_app(
        settings,
        link,
        lambda: plane.snapshot.generation,
        plane,
        explain_here,
        agent,
        ProviderTrials(plane).run,
        lambda: plane.snapshot,
    )
    config = uvicorn.Config(
        app,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, round(settings.drain)),
    )
    server = WorkerServer(
        config, plane, app.state.services.ending, opened, tls, partial(connection_class, settings, plane, link), agent
    )

    async def tell_ready() -> None:
        await feed.first_used.wait()
        await server.listening.wait()
        calm_collector()
        if ready_fd is not None:
            with contextlib.suppress(BrokenPipeError):  # only a replacement is waited for
                os.write(ready_fd, b"r")
            os.close(ready_fd)

    async with asyncio.TaskGroup() as group:
        running = [
            group.create_task(coroutine)
            for coroutine in (
                link.run(),
                feed.run(plane, agent),
                agent.run(),
                plane.sweep(),
                condition.report(plane, link),
                checks.run(),
            )
        ]
        running.append(group.create_task(tell_ready()))
        # Callers wait in the backlog until there is something to decide by; without a keeper they are told so in time.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_SNAPSHOT_SECONDS):
                await feed.first_used.wait()
        try:
            await server.serve(sockets=[sock for _, sock in opened])
        finally:
            for exchange in tuple(plane.exchanges):
                exchange.shut_down()
            plane.upstreams.close()
            plane.recorder.close()
            condition.tell_rejected(plane, link)
            link.tell_leaving()
            await asyncio.sleep(0)  # the link writes at the end of this turn
            for task in running:
                task.cancel()


def connection_class(settings: Settings, plane: Plane, link: KeeperLink, serves: Serves) -> type[ClientConnection]:
    """Where `otel` is on one that takes notes for traces."""
    if not settings.otel:
        return protocol_class(plane, serves)
    from gateway.dataplane.tracing import traced_protocol_class

    return traced_protocol_class(plane, link, serves)


def main() -> int:
    parser = argparse.ArgumentParser(description="One worker of `sluicegate serve`, which starts it.")
    parser.add_argument("--listener", action="append", required=True, help="SERVES:FD, an inherited listening socket")
    parser.add_argument("--tls-fd", type=int, help="a memory file with chain and key")
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--slot", type=int, default=0, help="which of the workers this is")
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args()
    end_with_parent(options.parent)
    settings = Settings.handed_down()
    log_to_stderr(settings.log_level, settings.log_format, f"worker-{options.slot}")
    raise_file_limit()
    sys.setswitchinterval(GIL_SWITCH_SECONDS)
    opened = [
        (Serves(serves), socket.socket(fileno=int(number)))
        for serves, number in (each.split(":") for each in options.listener)
    ]
    tls = None if options.tls_fd is None else context_of(options.tls_fd)
    uvloop.run(serve(settings, opened, tls, options.ready_fd, options.slot))
    return 0


if __name__ == "__main__":
    sys.exit(main())
