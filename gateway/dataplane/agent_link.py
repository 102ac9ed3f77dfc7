"""A worker's connection to the agent (`gateway.agent`): rules go out, transparent listeners come in.

The gateway works without it, and never waits for it. It reconnects for ever; what was captured before lives on.
"""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from gateway.agent_channel import VERSION, Channel
from gateway.dataplane.dialer import may_mark
from gateway.dataplane.intercepted.hall import Hall
from gateway.errors import Unavailable
from gateway.policy.interception import InterceptionRule, plain

log = logging.getLogger("sluicegate.dataplane")

FIRST_DELAY_S: Final = 0.02
LONGEST_DELAY_S: Final = 0.5
ANSWERS_WITHIN_S: Final = 8.0
INTRODUCED_WITHIN_S: Final = 0.5
NO_AGENT: Final = "the agent is not connected, so nothing is captured: start `sluicegate agent` as root on this host"


class AgentLink:
    """`run` is its one task. It begins once there is a hall."""

    def __init__(self, path: Path, slot: int, rules: Callable[[], Sequence[InterceptionRule] | None]) -> None:
        self._path = path
        self._slot = slot
        self._rules = rules
        self._channel: Channel | None = None
        self._hall: Hall | None = None
        self._furnished = asyncio.Event()
        self._ended = asyncio.Event()
        self._introduced = asyncio.Event()
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next = 0
        self.connected = False
        """The agent has welcomed us."""

    def furnish(self, hall: Hall) -> None:
        self._hall = hall
        hall.on_leaving = self._tell_alive
        self._furnished.set()

    async def introduced(self) -> None:
        """Wait until connections of ours bear the agent's mark, or there is no agent that could capture them; not for
        long. A worker that served before would have its first calls captured as if an application had made them."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(INTRODUCED_WITHIN_S):
                await self._introduced.wait()

    async def run(self) -> None:
        """For ever."""
        await self._furnished.wait()
        delay_s = FIRST_DELAY_S
        while True:
            sock = None
            try:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                await asyncio.get_running_loop().sock_connect(sock, str(self._path))
            except OSError:
                if sock is not None:
                    sock.close()
                self._introduced.set()
                await asyncio.sleep(delay_s)
                delay_s = min(LONGEST_DELAY_S, delay_s * 2)
                continue
            self._ended.clear()
            channel = self._channel = Channel(sock, self._heard, self._ended.set)
            try:
                doors = self._hall.doors if self._hall is not None else {}
                channel.send(
                    {
                        "type": "hello", "v": VERSION, "role": "worker", "slot": self._slot, "may_mark": may_mark(),
                        "doors": list(doors),
                    },
                    list(doors.values()),
                )  # fmt: skip
                self.tell_rules()
                await self._ended.wait()
            finally:
                self._lost(channel)
            if delay_s == FIRST_DELAY_S:
                log.warning("the agent is gone; captured connections go on")
            await asyncio.sleep(delay_s)

    def tell_rules(self) -> None:
        """Those of the snapshot in force. Nothing is said before there is one: that would disarm what stands."""
        rules = self._rules()
        if self._channel is not None and rules is not None:
            self._channel.send({"type": "rules", "rules": [plain(rule) for rule in rules]})

    async def ask(self, what: str, **options: Any) -> dict[str, Any]:
        """`status`, or an order. Raises Unavailable without an agent, ValueError where it refuses."""
        channel = self._channel
        if channel is None or not self.connected:
            raise Unavailable(NO_AGENT, fix="sluicegate doctor tells what is missing", retry_after_s=2)
        self._next += 1
        number = self._next
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        channel.send({"type": "ask", "id": number, "what": what, "options": options})
        try:
            async with asyncio.timeout(ANSWERS_WITHIN_S):
                reply = await answer
        except TimeoutError:
            raise Unavailable("the agent does not answer", fix="see its log", retry_after_s=2) from None
        finally:
            del self._answers[number]
        if "error" in reply:
            raise ValueError(reply["error"])
        said: dict[str, Any] = reply["said"]
        return said

    def _ask_number(self, route: str, target: str) -> None:
        if self._channel is not None:
            self._channel.send({"type": "series", "route": route, "target": target})

    def _lost(self, channel: Channel) -> None:
        channel.close()
        self.connected = False
        self._channel = None
        if self._hall is not None:
            self._hall.dialer.tags.ask_by(None)
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(Unavailable("the agent has just gone", fix="try again shortly", retry_after_s=2))

    def _heard(self, message: dict[str, Any], descriptors: list[int]) -> None:
        kind = message["type"]
        hall = self._hall
        if kind == "listeners" and hall is not None:
            rules = message["rules"]
            hall.take([(each["name"], each["port"], number) for each, number in zip(rules, descriptors, strict=True)])
            self._tell_alive()
            return
        if kind == "tags" and hall is not None:
            hall.dialer.tags.use(descriptors[0], message["bits"])
        for number in descriptors:
            os.close(number)
        if kind == "welcome":
            self.connected = True
            if hall is not None:
                hall.dialer.tags.ask_by(self._ask_number)
                hall.dialer.mark = int(message["mark"]) if may_mark() else 0
            self._introduced.set()
        elif kind == "beat":
            self._tell_alive()
        elif kind == "series" and hall is not None:
            hall.dialer.tags.know({(route, target): number for route, target, number in message["known"]})
        elif kind == "names" and hall is not None:
            hall.hosts.follow(message["hosts"])
        elif kind == "answer":
            answer = self._answers.get(message["id"])
            if answer is not None and not answer.done():
                answer.set_result(message)
        elif kind == "refused":
            log.error("the agent refuses us", extra={"reason": message["reason"]})

    def _tell_alive(self) -> None:
        hall, channel = self._hall, self._channel
        if hall is None or channel is None:
            return
        ended = list(hall.ended_flows)
        hall.ended_flows.clear()
        channel.send(
            {
                "type": "alive",
                "serving": hall.serving,
                "flows": dict(hall.flows),
                "counts": dict(hall.counts),
                "ended": ended,
            }
        )
