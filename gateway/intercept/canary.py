"""Once a minute a connection of our own goes the way that captured ones go: through the tables and policy routes to a
worker, which echoes a word. Silence here is a bypass, or a black hole, that nobody would notice otherwise.

It is addressed to networks that lead nowhere (RFC 5737 and RFC 6666), which have a route to this host's loopback and
are refused where they are not captured: a canary never leaves the host.
"""

import asyncio
import logging
import secrets
import socket
import time
from dataclasses import dataclass
from typing import Final

from gateway.policy.interception import CANARY_PORT, CANARY_V4, CANARY_V6

log = logging.getLogger("sluicegate.agent")

PLACES: Final = {socket.AF_INET: CANARY_V4, socket.AF_INET6: CANARY_V6}
PORT: Final = CANARY_PORT
LISTENER: Final = ""
"""The name under which workers have its listener: no rule is called so."""
EACH_S: Final = 60.0
WITHIN_S: Final = 2.0
WORD_BYTES: Final = 16


@dataclass(slots=True)
class Song:
    """What became of the last one on one path, and when the last good one was (Unix seconds)."""

    error: str | None = None
    tried_s: float | None = None
    well_s: float | None = None


class Canary:
    """`songs` by path: `local-v4`, `local-v6`."""

    def __init__(self) -> None:
        self.songs: dict[str, Song] = {}
        self._due = asyncio.Event()

    def soon(self) -> None:
        """Something has changed: do not wait for the next minute."""
        self._due.set()

    async def wait(self) -> None:
        """Until it is due."""
        try:
            async with asyncio.timeout(EACH_S):
                await self._due.wait()
        except TimeoutError:
            return
        finally:
            self._due.clear()

    async def sing(self, *, ipv6: bool) -> None:
        families = (socket.AF_INET, socket.AF_INET6) if ipv6 else (socket.AF_INET,)
        await asyncio.gather(*(self._sing(family) for family in families))

    async def _sing(self, family: socket.AddressFamily) -> None:
        path = "local-v6" if family == socket.AF_INET6 else "local-v4"
        song = self.songs.setdefault(path, Song())
        before, song.error = song.error, await _try(family)
        song.tried_s = time.time()
        if song.error is None:
            song.well_s = song.tried_s
            if before is not None:
                log.info("the canary is well again", extra={"path": path})
        elif before is None:
            log.error("the canary was not captured", extra={"path": path, "reason": song.error})


async def _try(family: socket.AddressFamily) -> str | None:
    """Why it failed; None = it did not."""
    loop = asyncio.get_running_loop()
    word = secrets.token_bytes(WORD_BYTES)
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        async with asyncio.timeout(WITHIN_S):
            await loop.sock_connect(sock, (PLACES[family], PORT))
            await loop.sock_sendall(sock, word)
            heard = await loop.sock_recv(sock, WORD_BYTES)
    except TimeoutError:
        return "no worker has answered: what is captured hangs"
    except OSError as error:
        return f"it was not captured ({error.strerror})"
    finally:
        sock.close()
    return None if heard == word else "somebody else has answered"
