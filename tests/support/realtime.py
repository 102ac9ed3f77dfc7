"""A provider of Realtime sessions on a real WebSocket (the library `websockets`), scripted by what the client says.

`response.create` is answered with deltas and a `response.done`; the client's `metadata` may ask for something else.
"""

import contextlib
import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Self

from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import Server, ServerConnection, serve
from websockets.typing import Subprotocol

from tests.support.shapes import Tokens

USUAL = Tokens(input=132, output=121, cached=64)


@dataclass
class Session:
    """One session as the provider saw it."""

    path: str
    headers: dict[str, str]
    events: list[dict[str, Any]] = field(default_factory=list)
    closed: threading.Event = field(default_factory=threading.Event)
    close_code: int | None = None
    close_reason: str = ""


class RealtimeProvider:
    """`with RealtimeProvider() as provider:` serves on `provider.url` until the block ends."""

    def __init__(self) -> None:
        self.sessions: list[Session] = []
        self.refuse_with: int | None = None
        self.tokens = USUAL
        self.input_tokens = 0
        self.output_tokens = 0
        self._server: Server | None = None

    def __enter__(self) -> Self:
        self._server = serve(
            self._session, "127.0.0.1", 0, process_request=self._head, select_subprotocol=_subprotocol, max_size=None
        )  # it takes compression where it is offered
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.socket.getsockname()[1]}/v1"
        return self

    def __exit__(self, *exc_info: object) -> None:
        assert self._server is not None
        self._server.shutdown()

    @property
    def last(self) -> Session:
        return self.sessions[-1]

    def forget(self) -> None:
        self.sessions.clear()
        self.refuse_with, self.tokens = None, USUAL
        self.input_tokens = self.output_tokens = 0

    def _head(self, connection: ServerConnection, request: Request) -> Response | None:
        headers = {name.lower(): value for name, value in request.headers.raw_items()}
        self.sessions.append(Session(request.path, headers))
        connection.session = self.last  # type: ignore[attr-defined]
        if self.refuse_with is not None:
            return connection.respond(HTTPStatus(self.refuse_with), '{"error":{"message":"asked to fail"}}')
        return None

    def _session(self, connection: ServerConnection) -> None:
        session: Session = connection.session  # type: ignore[attr-defined]
        made = {"type": "realtime", "model": "gpt-realtime"}
        connection.send(json.dumps({"type": "session.created", "event_id": "e1", "session": made}))
        with contextlib.suppress(ConnectionClosed):
            self._converse(connection, session)
        session.close_code, session.close_reason = connection.close_code or 0, connection.close_reason or ""
        session.closed.set()

    def _converse(self, connection: ServerConnection, session: Session) -> None:
        send = lambda value: connection.send(json.dumps(value))  # noqa: E731
        for text in connection:
            event = json.loads(text)
            session.events.append(event)
            if event["type"] == "response.create":
                self._respond(connection, (event.get("response") or {}).get("metadata") or {})
            elif event["type"] == "input_audio_buffer.commit":
                usage = {"type": "tokens", "input_tokens": 22, "output_tokens": 13, "total_tokens": 35}
                self._count(22, 13)
                kind = "conversation.item.input_audio_transcription.completed"
                send({"event_id": "e2", "type": kind, "item_id": "i1", "transcript": "hello", "usage": usage})
            elif event["type"] == "conversation.item.create":
                connection.close(4000, "you asked me to go")

    def _respond(self, connection: ServerConnection, wish: dict[str, str]) -> None:
        def send(**event: Any) -> None:
            connection.send(json.dumps(event))

        send(type="response.created", event_id="e3", response={"id": "resp_1", "usage": None})
        for number in range(int(wish.get("texts", 3))):
            send(type="response.output_text.delta", event_id=f"d{number}", delta=' "response.done" ')
        for number in range(int(wish.get("audios", 2))):
            send(event_id=f"a{number}", type="response.output_audio.delta", delta="A" * 3200 * 5)
        if "hang" in wish:
            return
        if "drop" in wish:
            connection.socket.close()
            return
        tokens = self.tokens
        usage = {
            "total_tokens": tokens.input + tokens.output,
            "input_tokens": tokens.input,
            "output_tokens": tokens.output,
            "input_token_details": {"text_tokens": 119, "audio_tokens": 13, "cached_tokens": tokens.cached},
            "output_token_details": {"text_tokens": 30, "audio_tokens": 91},
        }
        self._count(tokens.input, tokens.output)
        done = {
            "id": "resp_1",
            "status": "completed",
            "output": [{"pad": "x" * int(wish.get("pad", 0))}],
            "usage": usage,
        }
        connection.send(_halves(json.dumps({"type": "response.done", "event_id": "e9", "response": done})))

    def _count(self, given: int, made: int) -> None:
        self.input_tokens += given
        self.output_tokens += made


def _subprotocol(connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return next((one for one in offered if one == "realtime"), None)


def _halves(text: str) -> list[str]:
    """In two fragments."""
    return [text[: len(text) // 2], text[len(text) // 2 :]]
