"""The keeper's connection to the agent: what probes find comes in, what they must know goes out.

Connected for ever, as the agent comes and goes. A message goes to whoever follows its type (`follow`); what is told
(`tell`) is kept by its type and told again to an agent that is new.
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeAlias

from gateway.agent_channel import VERSION, Channel

log = logging.getLogger(__name__)

FIRST_DELAY_S: Final = 0.05
LONGEST_DELAY_S: Final = 1.0
Message: TypeAlias = dict[str, Any]


class AgentFeed:
    """`run` is its one task. Used from the keeper's event loop."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._followers: dict[str, list[Callable[[Message], None]]] = {}
        self._told: dict[str, Message] = {}
        self._channel: Channel | None = None
        self._ended = asyncio.Event()
        self.connected = False

    def follow(self, kind: str, follower: Callable[[Message], None]) -> None:
        """Be called with each message of this type. `connected` and `lost` are messages of our own."""
        self._followers.setdefault(kind, []).append(follower)

    def tell(self, message: Message) -> None:
        """Have the probes know this, from now on (`desk.PROBE_STATE` lists the types)."""
        self._told[message["type"]] = message
        if self._channel is not None:
            self._channel.send(message)

    async def run(self) -> None:
        delay_s = FIRST_DELAY_S
        loop = asyncio.get_running_loop()
        while True:
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            try:
                await loop.sock_connect(sock, str(self._path))
            except OSError:
                sock.close()
                await asyncio.sleep(delay_s)
                delay_s = min(LONGEST_DELAY_S, delay_s * 2)
                continue
            self._ended.clear()
            channel = self._channel = Channel(sock, self._hear, self._ended.set)
            try:
                channel.send({"type": "hello", "v": VERSION, "role": "observer"})
                for message in self._told.values():
                    channel.send(message)
                await self._ended.wait()
            finally:
                self._channel = None
                channel.close()
                if self.connected:
                    self.connected = False
                    self._pass_on({"type": "lost"})
            await asyncio.sleep(delay_s)

    def _hear(self, message: Message, descriptors: list[int]) -> None:
        for number in descriptors:
            os.close(number)
        if message["type"] == "welcome":
            self.connected = True
            self._pass_on({"type": "connected"})
        elif message["type"] == "refused":
            log.error("the agent refuses us", extra={"reason": message["reason"]})
        else:
            self._pass_on(message)

    def _pass_on(self, message: Message) -> None:
        for follower in self._followers.get(message["type"], ()):
            follower(message)
