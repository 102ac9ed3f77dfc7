"""`GET /api/v1/events`: the live feed as server-sent events (WHATWG HTML 9.2).

`event: request` with a ledger row as it is recorded; `configuration`, `target`, `credential`, `limit`, `worker` and
`database` where a state changed; `gap` where events are missing (docs/observability.md lists their fields). Each has an
id: a reader that comes back with `Last-Event-ID` gets what it missed, as far as it is kept. A comment every 15 s keeps
proxies from closing the stream; a reader that falls behind loses the oldest events (the ledger has them all).
"""

import contextlib
import time
from collections.abc import Coroutine, Mapping
from typing import Annotated, Any, Final

import anyio
import orjson
from fastapi import APIRouter, Depends, Header, Request
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from gateway.api.caller import Desk, Permit
from gateway.api.ledger_rows import event_json
from gateway.api.services import WorkerLink
from gateway.errors import SluicegateError, Unavailable
from gateway.policy.roles import Permission

router = APIRouter(prefix="/api/v1", tags=["events"])

KEEP_ALIVE_S: Final = 15.0
BELIEVED_S: Final = 0.5
"""How long it is believed that the caller may still read: who may no more hears nothing after that, and the stream ends
with what would be next, the keep-alive at the latest."""
BELIEVED_UNASKED_S: Final = 60.0
"""The same while the database does not answer, of which the feed has to tell."""
READING: Final = Permit(Permission.USAGE_READ)
COMMENT: Final = b": keep-alive\n\n"
GREETING: Final = b"retry: 2000\n: sluicegate\n\n"
"""Browsers come back after 2 s."""


class EventStream(Response):
    """A stream that ends when the client leaves, when the worker drains, or when the caller may no longer read."""

    media_type = "text/event-stream"

    def __init__(self, request: Request, desk: Desk, link: WorkerLink, after: str | None) -> None:
        super().__init__(headers={"x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._request = request
        self._desk = desk
        self._link = link
        self._after = after
        self._asked_s = self._welcome_s = time.monotonic()
        """When it was last asked whether the caller is welcome, and when that was so."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await self._send(send, GREETING)  # the head goes out at once
        async with anyio.create_task_group() as tasks:
            for ends in (self._follow(send), self._keep_alive(send), self._leave(receive), self._drain()):
                tasks.start_soon(self._end_with, ends, tasks.cancel_scope)
        with contextlib.suppress(OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    @staticmethod
    async def _end_with(work: Coroutine[Any, Any, None], scope: anyio.CancelScope) -> None:
        await work
        scope.cancel()

    @staticmethod
    async def _send(send: Send, chunk: bytes) -> None:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _follow(self, send: Send) -> None:
        with contextlib.suppress(Unavailable):  # the stream ends, and the reader comes back
            async for event in self._link.subscribe_events(self._after):
                if visible(event, self._desk):
                    if not await self._welcome():
                        return
                    await self._send(send, encode(event))

    async def _keep_alive(self, send: Send) -> None:
        while True:
            await anyio.sleep(KEEP_ALIVE_S)
            if not await self._welcome():
                return
            await self._send(send, COMMENT)

    async def _welcome(self) -> bool:
        if time.monotonic() - self._asked_s <= BELIEVED_S:
            return True
        try:
            if not await run_in_threadpool(still_welcome, self._request):
                return False
            self._welcome_s = time.monotonic()
        except SQLAlchemyError:
            return time.monotonic() - self._welcome_s <= BELIEVED_UNASKED_S
        finally:
            self._asked_s = time.monotonic()
        return True

    @staticmethod
    async def _leave(receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def _drain(self) -> None:
        await self._desk.services.ending.wait()


@router.get(
    "/events",
    response_class=Response,
    responses={200: {"description": "Events until the caller leaves", "content": {EventStream.media_type: {}}}},
)
async def stream_events(
    request: Request,
    desk: Annotated[Desk, Depends(READING)],
    last_event_id: Annotated[str | None, Header(max_length=64, description="Go on after this event")] = None,
) -> EventStream:
    """Requests as they reach the ledger, and changes of state. Team roles get their own team's alone."""
    link = desk.services.link
    if link is None or not link.connected:
        raise Unavailable("the live feed needs the keeper, which is away", fix="try again", retry_after_s=1)
    return EventStream(request, desk, link, last_event_id)


def visible(event: Mapping[str, Any], desk: Desk) -> bool:
    """Team roles see requests and notices of their own team and nothing else."""
    if desk.team_id is None or event["type"] == "gap":
        return True
    if event["type"] == "notice":
        return bool(event["team"] == desk.caller.team)
    return bool(event["type"] == "request" and event["row"].get("team") == desk.caller.team)


def encode(event: Mapping[str, Any]) -> bytes:
    kind = event["type"]
    payload = (
        event_json(event["row"])
        if kind == "request"
        else {name: each for name, each in event.items() if name not in ("type", "id")}
    )
    id_line = f"id: {event['id']}\n".encode() if "id" in event else b""
    return id_line + b"event: " + str(kind).encode() + b"\ndata: " + orjson.dumps(payload) + b"\n\n"


def still_welcome(request: Request) -> bool:
    """Whether the caller's token or session is still good for this. Blocks (SQL)."""
    try:
        READING.admit(request)
    except SluicegateError:
        return False
    return True
