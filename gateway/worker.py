"""`python -m gateway.worker`: one worker process, composed of data plane, REST API and the link to the keeper.

Started by `gateway.server` with its listening sockets as inherited file descriptors; writes one byte to the readiness
pipe once it serves with a snapshot.
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

import uvicorn
import uvloop

from gateway.api.app import create_app
from gateway.dataplane import condition
from gateway.dataplane.checks import Checks
from gateway.dataplane.explain import explain
from gateway.dataplane.keeper_link import KeeperLink
from gateway.dataplane.leases import LeaseBook
from gateway.dataplane.listeners import Listeners
from gateway.dataplane.plane import Plane
from gateway.dataplane.protocol import ClientConnection, protocol_class
from gateway.dataplane.spool import Spool
from gateway.dataplane.upstream import Upstreams
from gateway.lifetime import calm_collector, end_with_parent, raise_file_limit
from gateway.logs import log_to_stderr
from gateway.policy.codec import decode_snapshot
from gateway.policy.explanation import Explanation, Question
from gateway.settings import Settings

log = logging.getLogger("sluicegate.worker")

GIL_SWITCH_SECONDS = 0.0005
"""How long a thread of a console query may hold up the event loop (the default, 5 ms, would be seen in p99)."""


FIRST_SNAPSHOT_SECONDS = 5.0


class SnapshotFeed:
    """Takes the keeper's documents, decodes the newest in a thread, and gives it to the plane."""

    def __init__(self) -> None:
        self._newest: bytes | None = None
        self._arrived = asyncio.Event()
        self.first_used = asyncio.Event()

    def offer(self, document: bytes) -> None:
        self._newest = document
        self._arrived.set()

    async def run(self, plane: Plane) -> None:
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
            log.info("snapshot in force", extra={"generation": plane.snapshot.generation, "took_ms": took_ms})
            self.first_used.set()


class WorkerServer(uvicorn.Server):
    """uvicorn's server; from SIGTERM on no answer keeps its connection alive, and live feeds end."""

    def __init__(self, config: uvicorn.Config, plane: Plane, feeds_ending: asyncio.Event) -> None:
        super().__init__(config)
        self._plane = plane
        self._feeds_ending = feeds_ending
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._feeds_ending.set()
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: object) -> None:
        self._plane.draining = True
        super().handle_exit(sig, frame)  # type: ignore[arg-type]  # uvicorn's FrameType

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # as uvicorn declares it
        # uvicorn raises the signal again after a clean shutdown; a drained worker ends with 0.
        if threading.current_thread() is threading.main_thread():
            for sig in (signal.SIGTERM, signal.SIGINT):
                signal.signal(sig, self.handle_exit)
        yield


async def serve(settings: Settings, sockets: list[socket.socket], ready_fd: int | None, slot: int = 0) -> None:
    feed = SnapshotFeed()
    link = KeeperLink(settings, on_snapshot=feed.offer, program=f"worker-{slot}")
    book = LeaseBook(link)
    spool = Spool(settings.spool_folder, link.incarnation, settings.spool_segment_bytes, settings.spool_max_bytes)
    link.watch(spool)
    listeners = Listeners([sock.getsockname() for sock in sockets])
    plane = Plane(settings, book, spool, Upstreams(ssl.create_default_context()), listeners)
    checks = Checks(plane, link.send)
    link.follow(checks)

    def explain_here(question: Question) -> Explanation:
        return explain(plane, question, asyncio.get_running_loop().time())

    app = create_app(settings, link, lambda: plane.snapshot.generation, plane, explain_here)
    config = uvicorn.Config(
        app,
        http=connection_class(settings, plane, link),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=max(1, round(settings.drain)),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    server = WorkerServer(config, plane, app.state.services.ending)

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
                feed.run(plane),
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
            await server.serve(sockets=sockets)
        finally:
            for exchange in tuple(plane.exchanges):
                exchange.shut_down()
            plane.upstreams.close()
            condition.tell_rejected(plane, link)
            link.tell_leaving()
            await asyncio.sleep(0)  # the link writes at the end of this turn
            for task in running:
                task.cancel()


def connection_class(settings: Settings, plane: Plane, link: KeeperLink) -> type[ClientConnection]:
    """Where `otel` is on one that takes notes for traces."""
    if not settings.otel:
        return protocol_class(plane)
    from gateway.dataplane.tracing import traced_protocol_class

    return traced_protocol_class(plane, link)


def main() -> int:
    parser = argparse.ArgumentParser(description="One worker of `sluicegate serve`, which starts it.")
    parser.add_argument("--fd", type=int, action="append", required=True, help="an inherited listening socket")
    parser.add_argument("--ready-fd", type=int)
    parser.add_argument("--slot", type=int, default=0, help="which of the workers this is")
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args()
    end_with_parent(options.parent)
    settings = Settings.handed_down()
    log_to_stderr(settings.log_level, settings.log_format, f"worker-{options.slot}")
    raise_file_limit()
    sys.setswitchinterval(GIL_SWITCH_SECONDS)
    sockets = [socket.socket(fileno=fd) for fd in options.fd]
    uvloop.run(serve(settings, sockets, options.ready_fd, options.slot))
    return 0


if __name__ == "__main__":
    sys.exit(main())
