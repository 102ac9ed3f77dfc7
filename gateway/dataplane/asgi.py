"""Requests that are not data plane, handed to FastAPI through uvicorn's own request cycle."""

import asyncio
import logging
import urllib.parse
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from gateway.dataplane.request import Request, RequestBody
from gateway.errors import MalformedRequest

if TYPE_CHECKING:
    from gateway.dataplane.protocol import ClientConnection

log = logging.getLogger("uvicorn.error")
access_log = logging.getLogger("uvicorn.access")


DECODED: Final = (b"/api/", b"/console/")
"""Elsewhere an escape stays one: no path becomes API or console only by being decoded, past whoever guards these."""


class _Answer:
    """The part of `ClientAnswer` that the connection asks for."""

    __slots__ = ("_cycle",)

    def __init__(self, cycle: RequestResponseCycle) -> None:
        self._cycle = cycle

    @property
    def keep_alive(self) -> bool:
        return self._cycle.keep_alive

    @keep_alive.setter
    def keep_alive(self, value: bool) -> None:
        self._cycle.keep_alive = value

    @property
    def started(self) -> bool:
        return self._cycle.response_started


class CycleBody:
    """The body of a request to FastAPI: bytes go straight into uvicorn's cycle, which pauses the socket when behind."""

    __slots__ = ("_client", "_cycle", "_left", "complete")

    def __init__(self, cycle: RequestResponseCycle, client: "ClientConnection", max_bytes: int) -> None:
        self._cycle = cycle
        self._client = client
        self._left = max_bytes
        self.complete = False

    def take_over(self, earlier: RequestBody) -> None:
        """What arrived before the request was recognised (or waited in the pipeline)."""
        if earlier.size:
            self.feed(earlier.read_file(0, earlier.size) if earlier.in_file else earlier.whole())
        if earlier.complete:
            self.end()
        elif isinstance(earlier.refusal, MalformedRequest):
            self.refuse(earlier.refusal)
        earlier.close()

    def feed(self, chunk: bytes) -> None:
        self._left -= len(chunk)
        if self._left < 0:
            self._client.abort()
            return
        if self._cycle.response_complete:
            return
        self._cycle.body += chunk
        if len(self._cycle.body) > HIGH_WATER_LIMIT:
            self._client.flow.pause_reading()  # the cycle resumes it when the application asks for more
        self._cycle.message_event.set()

    def end(self) -> None:
        self.complete = True
        self._cycle.more_body = False
        self._cycle.message_event.set()

    def refuse(self, error: MalformedRequest) -> None:
        """The rest will not come. The application hears that its client has gone; the client hears why."""
        self._client.refuse_body(error, started=self._cycle.response_started)
        self.abandon()

    def abandon(self) -> None:
        self._cycle.disconnected = True
        self._cycle.message_event.set()

    def close(self) -> None:
        self._cycle.body.clear()


class AsgiRequest:
    """One request on its way through the ASGI application."""

    def __init__(self, client: "ClientConnection", request: Request) -> None:
        self._client = client
        self._request = request
        path = request.path.decode("latin-1")
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": client.config.asgi_version, "spec_version": "2.3"},
            "http_version": request.version,
            "server": client.server,
            "client": client.client,
            "scheme": client.scheme,
            "root_path": "",
            "headers": request.headers,
            "state": client.app_state.copy(),
            "method": request.method.decode("ascii"),
            "path": urllib.parse.unquote(path) if "%" in path and request.path.startswith(DECODED) else path,
            "raw_path": request.path,
            "query_string": request.query,
            "sluicegate.peer": _peer_host(client.transport),
        }
        self._cycle = RequestResponseCycle(
            scope=scope,  # type: ignore[arg-type]  # the HTTPScope of the ASGI specification
            transport=client.transport,
            flow=client.flow,
            logger=log,
            access_logger=access_log,
            access_log=False,
            default_headers=client.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=request.expect_continue,
            keep_alive=request.keep_alive
            and request.body.refusal is None
            and request.version != "1.0"
            and not client.plane.draining,
            on_response=self._answered,
        )
        self.answer = _Answer(self._cycle)

    def start(self) -> None:
        client, request = self._client, self._request
        body = CycleBody(self._cycle, client, client.plane.settings.max_body_bytes)
        body.take_over(request.body)
        request.sink = body
        task = client.loop.create_task(self._run())
        client.server_state.tasks.add(task)
        task.add_done_callback(client.server_state.tasks.discard)

    async def _run(self) -> None:
        try:
            await self._cycle.run_asgi(self._client.config.loaded_app)
        finally:
            self._client.exchange_done(self)

    def _answered(self) -> None:
        """The answer is written; `_run` goes on to the next request once the application has returned."""

    def client_gone(self) -> None:
        self._request.sink.abandon()

    def client_half_closed(self) -> None:
        return

    def on_client_bytes(self, payload: bytes) -> None:
        return

    def client_paused(self) -> None:
        return

    def client_resumed(self) -> None:
        return


def _peer_host(transport: asyncio.BaseTransport) -> str:
    """Who is at the other end of the socket, whatever a PROXY preamble says; "" for a Unix socket."""
    name = transport.get_extra_info("peername")
    return str(name[0]) if isinstance(name, tuple) else ""
