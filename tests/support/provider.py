"""A fake provider on a real socket: scriptable faults, exact records of what it was asked, counts of what it served.

It runs an event loop in a thread of its own, so that sync and async tests use it alike. What it records is what came
over the wire, byte for byte; what it counts is the truth that a ledger is compared with.
"""

import asyncio
import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from tests.support import shapes, shapes_gemini, shapes_media, shapes_mistral, shapes_ollama
from tests.support.accounts import Accounts, Told
from tests.support.shapes import Tokens

REASONS = {
    200: b"OK",
    404: b"Not Found",
    401: b"Unauthorized",
    429: b"Too Many Requests",
    500: b"Internal Server Error",
}
USUAL = Tokens()
STREAMED = (b"text/event-stream", b"application/x-ndjson")
METERED = (
    "completions", "/messages", "/responses", "/embeddings", "enerateContent",
    "/api/chat", "/api/generate", "/api/embed",
)  # fmt: skip
Headers = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Behaviour:
    """How one request is answered. The default: at once, as the dialect of its path would."""

    status: int = 200
    headers: Headers = ()
    body: bytes | None = None
    """In place of what the path's dialect would say."""
    tokens: Tokens = USUAL
    head_delay_s: float = 0.0
    gap_s: float = 0.0
    """Between the events of a stream (or the pieces of a plain body, where `piece_bytes` is set)."""
    piece_bytes: int = 0
    """The body goes out in pieces of this size, events split anywhere; 0: an event, or the whole body, at a time."""
    cut_after_pieces: int | None = None
    """Break the connection off after so many events or pieces; 0: right after the head."""
    hang_after_pieces: int | None = None
    """Fall silent after so many events or pieces and stay so; 0: right after the head."""
    reset: bool = False
    """Break off with RST, not FIN."""
    hang: bool = False
    """Read the request and never answer."""
    drop: bool = False
    """Read the request and close without a byte of answer, as a keep-alive connection that has just died does."""
    raw: bytes | None = None
    """Write exactly this, then close."""
    close_after: bool = False
    """Answer with `connection: close`, and close."""
    close_silently: bool = False
    """Close after the answer without saying so: the pool learns it only when it looks, or tries."""
    chunked: bool = False
    """Send a plain body with transfer-encoding chunked."""


PLAIN = Behaviour()


@dataclass(slots=True, kw_only=True)
class Request:
    """A request as it came in. `complete` once its body was read; `answered` once the whole answer was written."""

    connection: int
    peer: str
    """The address that it came from."""
    head: bytes
    method: str
    target: str
    headers: Headers
    body: bytes = b""
    body_bytes: int = 0
    complete: bool = False
    answered: bool = False
    aborted: threading.Event = field(default_factory=threading.Event)
    """Set when the connection was lost before the answer was whole."""

    def header(self, name: str) -> str | None:
        """The value of a header, several joined by `, `; None where there is none."""
        values = [value.decode("latin-1") for key, value in self.headers if key.lower() == name.lower().encode()]
        return ", ".join(values) if values else None

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True, kw_only=True)
class Served:
    """Answers that went out whole, and the tokens that they said they used."""

    answers: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    failures: int = 0
    aborted: int = 0


@dataclass(slots=True)
class _Rule:
    behaviour: Behaviour
    fits: Callable[[Request], bool]
    left: int | None


class Provider:
    """`with Provider() as provider:` serves on `provider.url` until the block ends."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext | None = None,
        host: str = "127.0.0.1",
        hosts: Sequence[str] = (),
        port: int = 0,
        enter: Callable[[], None] | None = None,
    ) -> None:
        """`hosts` (several addresses) goes with a fixed `port`; `enter` is called first in the provider's thread."""
        self.requests: list[Request] = []
        self.served = Served()
        self.connections = 0
        self.open_connections = 0
        self.default = PLAIN
        self.accounts = Accounts()
        self.read_gap_s = 0.0
        """Pause after each read (64 KiB at most) of a request's body: a slow upload."""
        self._tls = tls
        self._host = host
        self._hosts = list(hosts) or host
        self._enter = enter
        self._rules: list[_Rule] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="provider", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = port

    # ---- scripting ---------------------------------------------------------------------------------------------------
    def behave(self, behaviour: Behaviour | None = None, *, model: str = "", path: str = "", times: int | None = None,
               **fields: Any) -> None:  # fmt: skip
        """Answer requests for `model` and `path` (both: any) so, `times` times; the latest rule that fits wins."""

        def fits(request: Request) -> bool:
            return (not path or request.path == path) and (not model or _model_of(request) == model)

        self._rules.insert(0, _Rule(replace(behaviour or PLAIN, **fields), fits, times))

    def refuse_authorization(self, value: str, status: int = 401) -> None:
        """Answer whatever shows this `Authorization` with `status`."""
        self._rules.insert(
            0, _Rule(Behaviour(status=status), lambda request: request.header("authorization") == value, None)
        )

    def demand_authorization(self, header: str, value: str, path: str) -> None:
        """Answer what asks for `path` and does not show exactly this with 401."""
        self._rules.insert(
            0,
            _Rule(Behaviour(status=401), lambda asked: asked.path == path and asked.header(header) != value, None),
        )

    def forget(self) -> None:
        """Drop all rules, records and counts; connections stay."""
        self._rules.clear()
        self.requests.clear()
        self.served = Served()
        self.accounts = Accounts()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    @property
    def last(self) -> Request:
        return self.requests[-1]

    def drop_connections(self) -> None:
        """Close every open connection at once, as a restart or a load balancer would."""
        self._ask(self._cancel_all)

    def _cancel_all(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _ask(self, act: Callable[[], None]) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(act)
        self._loop.call_soon_threadsafe(done.set)
        assert done.wait(5), "the provider's loop does not answer"

    # ---- life --------------------------------------------------------------------------------------------------------
    def __enter__(self) -> Self:
        ready = threading.Event()
        self._loop.call_soon(self._loop.create_task, self._listen(ready))
        self._thread.start()
        assert ready.wait(5), "the provider does not start"
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    async def _listen(self, ready: threading.Event) -> None:
        self._server = await asyncio.start_server(self._accept, self._hosts, self.port, ssl=self._tls, backlog=4096)
        self.port = self._server.sockets[0].getsockname()[1]
        ready.set()

    def stop_listening(self) -> None:
        """New connections are refused from now on; open ones go on."""
        self._ask(lambda: self._server.close() if self._server else None)

    def _run(self) -> None:
        if self._enter is not None:
            self._enter()
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        if self._server:
            self._server.close()
        self._cancel_all()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    # ---- one connection ----------------------------------------------------------------------------------------------
    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = self._loop.create_task(self._converse(self.connections, reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open_connections += 1
        try:
            while await self._serve_one(number, reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            self.open_connections -= 1
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError, ssl.SSLError):
                await writer.wait_closed()

    async def _serve_one(self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve the next request; whether the connection may be used again."""
        head = await reader.readuntil(b"\r\n\r\n")
        request = _parse_head(number, str(writer.get_extra_info("peername")[0]), head)
        self.requests.append(request)
        try:
            await self._read_body(request, reader)
            behaviour = self._behaviour_for(request)
            watcher = self._loop.create_task(self._watch(request, reader))
            try:
                return await self._answer(request, behaviour, writer)
            finally:
                watcher.cancel()
        finally:
            if not request.answered:
                request.aborted.set()
                self.served.aborted += 1

    async def _watch(self, request: Request, reader: asyncio.StreamReader) -> None:
        """Note at once when the client goes away during an answer. Nobody pipelines to us, so nothing is lost."""
        while not reader.at_eof() and reader.exception() is None:
            await asyncio.sleep(0.005)
        if not request.answered:
            request.aborted.set()

    async def _read_body(self, request: Request, reader: asyncio.StreamReader) -> None:
        pieces: list[bytes] = []
        async for piece in _body_pieces(request, reader):
            pieces.append(piece)
            request.body_bytes += len(piece)
            if self.read_gap_s:
                await asyncio.sleep(self.read_gap_s)
        request.body = b"".join(pieces)
        request.complete = True

    def _behaviour_for(self, request: Request) -> Behaviour:
        for rule in self._rules:
            if rule.left != 0 and rule.fits(request):
                if rule.left is not None:
                    rule.left -= 1
                return rule.behaviour
        return self.default

    # ---- one answer --------------------------------------------------------------------------------------------------
    async def _answer(self, request: Request, how: Behaviour, writer: asyncio.StreamWriter) -> bool:
        if how.hang:
            await self._stay_silent(request)
            return False
        await asyncio.sleep(how.head_delay_s)
        if how.drop or how.raw is not None:
            writer.write(how.raw or b"")
            return self._break_off(writer, how.reset)
        stored = self._from_account(request) if how.body is None and how.status == 200 else None
        if stored is not None:
            how = replace(how, status=stored.status)
            content_type, pieces = stored.content_type, iter([stored.body])
        else:
            content_type, pieces = _content(request, how)
        streamed = content_type in STREAMED or how.chunked or bool(how.piece_bytes)
        streamed = streamed or (how.status < 400 and request.path.endswith(":streamGenerateContent"))
        whole = b"" if streamed else b"".join(pieces)
        writer.write(_head(how, content_type, None if streamed else len(whole)))
        if streamed:
            for count, piece in enumerate(_cut(pieces, how.piece_bytes)):
                if how.hang_after_pieces == count:
                    await self._stay_silent(request)
                    return False
                if how.cut_after_pieces == count:
                    await writer.drain()
                    return self._break_off(writer, how.reset)
                if request.aborted.is_set():
                    return False
                if how.gap_s and count:
                    await asyncio.sleep(how.gap_s)
                writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
                await writer.drain()
            self._count(request, how)  # before the end goes out: whoever has seen it finds it counted
            writer.write(b"0\r\n\r\n")
        else:
            stop = next((at for at in (how.cut_after_pieces, how.hang_after_pieces) if at is not None), None)
            if stop is None:
                self._count(request, how)
            writer.write(whole if stop is None else whole[: min(stop, len(whole) - 1)])
            await writer.drain()
            if how.hang_after_pieces is not None:
                await self._stay_silent(request)
                return False
            if stop is not None:
                return self._break_off(writer, how.reset)
        await writer.drain()
        return not (how.close_after or how.close_silently)

    def _from_account(self, request: Request) -> Told | None:
        """What depends on what lies at the account whose credential was shown."""
        secret = request.header("x-api-key") or (request.header("authorization") or "").removeprefix("Bearer ")
        content_type = request.header("content-type") or ""
        anthropic = request.header("anthropic-version") is not None
        return self.accounts.answer(request.method, request.target, secret, content_type, request.body, anthropic)

    def _count(self, request: Request, how: Behaviour) -> None:
        request.answered = True
        self.served.answers += 1
        if how.status >= 400:
            self.served.failures += 1
        elif how.body is None and request.path.endswith(METERED):
            self.served.input_tokens += how.tokens.input
            self.served.output_tokens += (
                0 if request.path.endswith(("/embeddings", "/api/embed")) else how.tokens.output
            )

    async def _stay_silent(self, request: Request) -> None:
        while not request.aborted.is_set():
            await asyncio.sleep(0.005)

    @staticmethod
    def _break_off(writer: asyncio.StreamWriter, reset: bool) -> bool:
        if reset:
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        return False


def _parse_head(number: int, peer: str, head: bytes) -> Request:
    first, *lines = head[:-4].split(b"\r\n")
    method, target, _version = first.decode("latin-1").split(" ", 2)
    headers = tuple((name, value.strip()) for name, _, value in (line.partition(b":") for line in lines))
    return Request(connection=number, peer=peer, head=head, method=method, target=target, headers=headers)


async def _body_pieces(request: Request, reader: asyncio.StreamReader) -> Any:
    if "chunked" in (request.header("transfer-encoding") or ""):
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield await reader.readexactly(size)
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":  # trailers
            pass
        return
    left = int(request.header("content-length") or 0)
    while left:
        piece = await reader.read(min(left, 65536))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece


def _model_of(request: Request) -> str:
    if ":" in request.path:
        return request.path.rpartition(":")[0].partition("odels/")[2]
    with contextlib.suppress(ValueError, AttributeError):
        return str(json.loads(request.body).get("model", ""))
    return ""


def _content(request: Request, how: Behaviour) -> tuple[bytes, Iterator[bytes]]:
    """Content type and body of the natural answer: an event a piece where the caller asked for a stream."""
    if how.body is not None:
        return b"application/json", iter([how.body])
    if how.status >= 400:
        if ":" in request.path:
            return b"application/json", iter([json.dumps(shapes_gemini.error(how.status)).encode()])
        if request.path.startswith("/api/"):
            return b"application/json", iter([b'{"error":"asked to fail"}'])
        error = {"message": "asked to fail", "type": "server_error", "code": None, "param": None}
        return b"application/json", iter([json.dumps({"error": error}).encode()])
    try:
        asked = json.loads(request.body) if request.body else {}
    except ValueError:
        asked = {}
    if not isinstance(asked, dict):
        asked = {}
    for found in (
        shapes_gemini.answer_to(request.target, asked, how.tokens),
        shapes_ollama.answer_to(request.path, asked, how.tokens),
    ):
        if found is not None:
            return found
    model, stream = str(asked.get("model", "")), asked.get("stream") is True
    tells_usage = bool((asked.get("stream_options") or {}).get("include_usage"))
    if request.path.startswith("/mistral/"):
        return _mistral_content(request, how.tokens, asked, model, stream)
    match request.path.rsplit("/", 2)[-2:]:
        case ["chat", "completions"]:
            events, plain = shapes.chat_events(how.tokens, model, tells_usage), shapes.chat(how.tokens, model)
        case [_, "completions"]:
            events, plain = (
                shapes.completion_events(how.tokens, model, tells_usage),
                shapes.completion(how.tokens, model),
            )
        case [_, "responses"]:
            events, plain = shapes.response_events(how.tokens, model), shapes.response(how.tokens, model)
        case [_, "messages"]:
            events, plain = shapes.message_events(how.tokens, model), shapes.message(how.tokens, model)
        case ["messages", "count_tokens"]:
            events, plain = iter(()), {"input_tokens": how.tokens.input}
        case [_, "embeddings"]:
            texts = asked.get("input")
            events = iter(())
            shape = shapes_media.packed_embeddings if asked.get("encoding_format") == "base64" else shapes.embeddings
            plain = shape(how.tokens, model, len(texts) if isinstance(texts, list) else 1)
        case [_, "moderations"]:
            events, plain = iter(()), shapes_media.moderation(model)
        case ["images", _]:
            events, plain = shapes_media.image_events(how.tokens), shapes_media.images(how.tokens)
        case ["audio", "speech"]:
            if asked.get("stream_format") != "sse":
                return b"audio/mpeg", iter([shapes_media.SPEECH])
            events, plain, stream = shapes_media.speech_events(how.tokens), {}, True
        case ["audio", _]:
            events, plain = shapes_media.transcription_events(how.tokens), shapes_media.transcription(how.tokens)
            stream = b'name="stream"\r\n\r\ntrue' in request.body
        case _:
            events, plain = iter(()), {"ok": True, "method": request.method, "target": request.target}
    if stream:
        return b"text/event-stream", events
    return b"application/json", iter([json.dumps(plain, ensure_ascii=False).encode()])


def _mistral_content(
    request: Request, tokens: Tokens, asked: dict[str, Any], model: str, stream: bool
) -> tuple[bytes, Iterator[bytes]]:
    """A provider whose base URL ends in `/mistral/v1` answers as Mistral does."""
    if stream:
        return b"text/event-stream", shapes_mistral.events(tokens, model)
    if request.path.endswith("/embeddings"):
        plain = shapes_mistral.embeddings(tokens, model, len(asked["input"]))
    else:
        plain = shapes_mistral.completion(tokens, model)
    return b"application/json", iter([json.dumps(plain).encode()])


def _head(how: Behaviour, content_type: bytes, length: int | None) -> bytes:
    lines = [b"HTTP/1.1 %d %b" % (how.status, REASONS.get(how.status, b"Whatever")), b"content-type: " + content_type]
    lines.append(b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length)
    if how.close_after:
        lines.append(b"connection: close")
    lines += [name + b": " + value for name, value in how.headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _cut(pieces: Iterator[bytes], size: int) -> Iterator[bytes]:
    if not size:
        yield from pieces
        return
    whole = b"".join(pieces)
    for start in range(0, len(whole), size):
        yield whole[start : start + size]
