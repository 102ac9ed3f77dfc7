"""A splice engine in an event loop of its own (uvloop, in a thread), and real connections through it."""

import asyncio
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import uvloop

from gateway.dataplane.splice import Splice, Splices

Result = TypeVar("Result")
TIMEOUT_S = 20.0


ADDRESSES = {"v4": "127.0.0.1", "v6": "::1", "mapped": "::ffff:127.0.0.1"}


def connected(kind: str = "v4", buffer_bytes: int | None = None) -> tuple[socket.socket, socket.socket]:
    """Both ends of a TCP connection over loopback: of the one who connected, and of the one who accepted.

    `mapped`: IPv4 on sockets of IPv6, as a dual-stack listener accepts it.
    """
    family = socket.AF_INET if kind == "v4" else socket.AF_INET6
    one = socket.socket(family)
    listening = ("127.0.0.1", 0) if kind == "v4" else ("::", 0)
    with socket.create_server(listening, family=family, dualstack_ipv6=kind != "v4") as listener:
        if buffer_bytes:
            for sock in (listener, one):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        one.connect((ADDRESSES[kind], listener.getsockname()[1]))
        other, _ = listener.accept()
    return one, other


@dataclass
class Link:
    """A spliced connection as its two users see it; `splice` is the engine's."""

    client: socket.socket
    server: socket.socket
    splice: Splice = None  # type: ignore[assignment]  # known once it runs
    over: threading.Event = field(default_factory=threading.Event)
    ends: int = 0

    def close(self) -> None:
        self.client.close()
        self.server.close()


class Splicing:
    """The engine with its loop, as a context; what was connected is closed with it."""

    def __init__(self, **options: Any) -> None:
        self._options = options
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._links: list[Link] = []
        self.failures: list[dict[str, Any]] = []
        """What the loop's exception handler was told."""

    def __enter__(self) -> "Splicing":
        self._loop.set_exception_handler(lambda _, context: self.failures.append(context))
        self._thread.start()

        async def made() -> Splices:
            return Splices(**self._options)

        self.engine = asyncio.run_coroutine_threadsafe(made(), self._loop).result(TIMEOUT_S)
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self.engine.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_S)
        self._loop.close()
        for link in self._links:
            link.close()
        assert not self.failures

    def run(self, function: Callable[[], Result]) -> Result:
        """Call in the engine's loop."""
        done: Future[Result] = Future()

        def call() -> None:
            try:
                done.set_result(function())
            except Exception as error:  # noqa: BLE001
                done.set_exception(error)

        self._loop.call_soon_threadsafe(call)
        return done.result(TIMEOUT_S)

    def link(
        self,
        *,
        kinds: tuple[str, str] = ("v4", "v4"),
        early_to_server: bytes = b"",
        early_to_client: bytes = b"",
        buffer_bytes: int | None = None,
    ) -> Link:
        client, near_client = connected(kinds[0], buffer_bytes)
        near_server, server = connected(kinds[1], buffer_bytes)
        return self.join(client, near_client, near_server, server, early_to_server, early_to_client)

    def join(
        self,
        client: socket.socket,
        near_client: socket.socket,
        near_server: socket.socket,
        server: socket.socket,
        early_to_server: bytes = b"",
        early_to_client: bytes = b"",
    ) -> Link:
        """Splice the two near sockets."""
        link = Link(client, server)
        for far in (client, server):
            far.settimeout(TIMEOUT_S)
        for near in (near_client, near_server):
            near.setblocking(False)

        def on_end(splice: Splice) -> None:
            link.ends += 1
            link.over.set()

        def start() -> None:
            link.splice = self.engine.start(near_client, near_server, on_end, early_to_server, early_to_client)

        self.run(start)
        self._links.append(link)
        return link
