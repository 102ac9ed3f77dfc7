"""An HTTP proxy on a real socket: CONNECT and absolute-form, with or without a password, and faults on demand.

Names below `.test` lead to 127.0.0.1, whatever DNS says: what reaches a provider under such a name came through here.
"""

import asyncio
import base64
import contextlib
import ssl
import threading
from typing import Self
from urllib.parse import urlsplit


class ForwardProxy:
    """`with ForwardProxy() as proxy:` serves on `proxy.url` until the block ends."""

    def __init__(self, *, user: str = "", password: str = "", tls: ssl.SSLContext | None = None) -> None:
        self.heads: list[bytes] = []
        """Of each request, as it came."""
        self.reply: bytes | None = None
        """In place of what it would do: written as it is, then the connection ends."""
        self.silent = False
        """Accept, read, and never answer."""
        self._authorization = b"Basic " + base64.b64encode(f"{user}:{password}".encode()) if user else None
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="forward-proxy", daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        ready = threading.Event()
        self._loop.call_soon(self._loop.create_task, self._listen(ready))
        self._thread.start()
        assert ready.wait(5)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _listen(self, ready: threading.Event) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        ready.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = self._loop.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, OSError):
            await self._converse(reader, writer)
        writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if self.silent:
            await reader.read()
            return
        if self.reply is not None:
            writer.write(self.reply)
            return
        lines = head[:-4].split(b"\r\n")
        shown = next((line[21:] for line in lines if line.lower().startswith(b"proxy-authorization: ")), None)
        if self._authorization is not None and shown != self._authorization:
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nproxy-authenticate: Basic\r\n\r\n")
            return
        method, target, _ = lines[0].split(b" ")
        parts = urlsplit("//" + target.decode() if method == b"CONNECT" else target.decode())
        host, port = parts.hostname or "", parts.port or 80
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1" if host.endswith(".test") else host, port)
        if method == b"CONNECT":
            writer.write(b"HTTP/1.1 200 Connection established\r\nvia: test\r\n\r\n")
        else:
            kept = [line for line in lines[1:] if not line.lower().startswith(b"proxy-")]
            far_writer.write(b"\r\n".join([b"%b %b HTTP/1.1" % (method, _path(target)), *kept]) + b"\r\n\r\n")
        try:
            await asyncio.gather(_pipe(reader, far_writer), _pipe(far_reader, writer))
        finally:
            far_writer.close()


def _path(target: bytes) -> bytes:
    parts = urlsplit(target)
    return (parts.path or b"/") + (b"?" + parts.query if parts.query else b"")


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65536):
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
    else:
        writer.close()
