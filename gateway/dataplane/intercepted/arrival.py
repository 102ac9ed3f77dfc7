"""What becomes of a captured connection: its first bytes are looked at, not taken, and then it is served or passed on.

peek → HTTP/1        a session that decides request by request (`session`)
     → TLS           ends here where the rule says so (`terminating`), and goes on as HTTP
     → other TLS, HTTP/2, anything else   passed on untouched (`dataplane.splice`)
     → nothing       the server may speak first: connect to it, and see who speaks
"""

import asyncio
import contextlib
import logging
import socket
from enum import Enum
from typing import TYPE_CHECKING, Final

from gateway.dataplane.intercepted import way_out
from gateway.dataplane.intercepted.flow import Flow
from gateway.dataplane.tunnel import RESET
from gateway.policy.interception import Unmatched
from gateway.wire.client_hello import ACCESS_DENIED
from gateway.wire.opening import LONGEST_BYTES, OTHER, Kind, Opening, is_surely, read_opening

if TYPE_CHECKING:
    from gateway.dataplane.intercepted.hall import Hall

log = logging.getLogger("sluicegate.dataplane")

SILENCE_S: Final = 0.15
"""After so long without a byte the server may be the one to begin (SMTP, SSH, …)."""
UNSURE_S: Final = 0.5
"""How long an unfinished beginning is waited for that may be that of any protocol."""
SURE_S: Final = 10.0
"""The same where it can only be HTTP or TLS."""


class Speaker(Enum):
    CLIENT = 0
    SERVER = 1


async def receive(hall: "Hall", sock: socket.socket, flow: Flow) -> None:
    """Serve a captured connection, or pass it on. `sock` is ours."""
    server: socket.socket | None = None
    try:
        idle_s, denies = hall.plane.settings.tunnel_idle, flow.rule.unmatched is Unmatched.DENY
        opening = await _sniff(sock, idle_s if denies else SILENCE_S)  # who would be denied is not connected to
        if opening is None and not denies:
            server = await way_out.connect(hall.dialer, flow)
            if await _first_to_speak(sock, server, idle_s) is Speaker.CLIENT:
                opening = await _sniff(sock, None)
        _describe(flow, opening)
        if opening is not None and opening.kind is Kind.HTTP1:
            await hall.whose.known(flow)
            await hall.serve_http(sock, flow, server)
            return
        if opening is not None and opening.hello is not None and hall.terminator.wants(flow, opening.hello.alpn):
            context = await hall.terminator.context(flow)
            if context is not None:
                await hall.whose.known(flow)
                if server is not None:
                    server.close()
                    server = None
                await hall.serve_tls(sock, flow, context, opening.hello.alpn)
                return
        if denies:
            _deny(hall, sock, server, flow)
            return
        if server is None:
            server = await way_out.connect(hall.dialer, flow)
    except (OSError, EOFError) as error:
        if server is not None:
            server.close()
        reset(sock)
        hall.ended(flow, "client_gone" if isinstance(error, EOFError) else "unreachable")
        return
    except BaseException:
        if server is not None:
            server.close()
        reset(sock)
        raise
    hall.splice(sock, server, flow)


def _describe(flow: Flow, opening: Opening | None) -> None:
    """Put into the flow what its first bytes tell."""
    flow.protocol = "silent" if opening is None else opening.kind.value
    if opening is not None and opening.hello is not None:
        flow.server_name = opening.hello.server_name
        flow.encrypted_hello = opening.hello.encrypted_hello


def reset(sock: socket.socket) -> None:
    """Close so that the peer sees a reset: as it would have, had the server refused."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    sock.close()


def _deny(hall: "Hall", sock: socket.socket, server: socket.socket | None, flow: Flow) -> None:
    if server is not None:
        server.close()
    if flow.protocol == Kind.TLS.value:
        with contextlib.suppress(OSError):
            sock.send(ACCESS_DENIED)
            sock.shutdown(socket.SHUT_WR)
        sock.close()
    else:
        reset(sock)
    hall.denied(flow)


async def _sniff(sock: socket.socket, silence_s: float | None) -> Opening | None:
    """What the connection begins with; None where nothing came within `silence_s`. Raises EOFError where the client has
    ended before a byte, OSError where it has reset."""
    loop = asyncio.get_running_loop()
    seen = b""
    deadline_s = None if silence_s is None else loop.time() + silence_s
    try:
        while True:
            with contextlib.suppress(BlockingIOError, InterruptedError):
                found = sock.recv(LONGEST_BYTES, socket.MSG_PEEK)
                if not found:
                    raise EOFError
                if len(found) == len(seen):
                    return OTHER  # it has ended its side: no more will come
                if not seen or (is_surely(found) and not is_surely(seen)):
                    deadline_s = loop.time() + (SURE_S if is_surely(found) else UNSURE_S)
                seen = found
                opening = read_opening(seen)
                if opening is not None:
                    return opening
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, len(seen) + 1)  # wake for more than that
            try:
                async with asyncio.timeout_at(deadline_s):
                    await readable(sock)
            except TimeoutError:
                return OTHER if seen else None
    finally:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


async def _first_to_speak(client: socket.socket, server: socket.socket, within_s: float) -> Speaker:
    """Who sends first, or ends. Where both have, the server: what it sent must go out whatever the client wants.
    Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    spoken: asyncio.Future[None] = loop.create_future()
    for sock in (client, server):
        loop.add_reader(sock.fileno(), _set, spoken)
    try:
        async with asyncio.timeout(within_s):
            await spoken
    finally:
        for sock in (client, server):
            loop.remove_reader(sock.fileno())
    try:
        server.recv(1, socket.MSG_PEEK)
    except (BlockingIOError, InterruptedError):
        return Speaker.CLIENT
    except OSError:
        return Speaker.SERVER
    return Speaker.SERVER


async def readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(sock.fileno(), _set, ready)
    try:
        await ready
    finally:
        loop.remove_reader(sock.fileno())


def _set(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
