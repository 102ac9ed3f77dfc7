"""When a worker that starts may serve: its connections bear the agent's mark by then, if there is an agent."""

import asyncio
import contextlib
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from gateway.agent_channel import VERSION, Channel
from gateway.dataplane.agent_link import INTRODUCED_WITHIN_S, AgentLink
from gateway.dataplane.dialer import Dialer, may_mark

DELAY_S = 0.1


async def introduce(path: Path) -> tuple[float, int]:
    """Seconds until a new worker may serve, and the mark that it has by then."""
    hall = cast("Any", SimpleNamespace(dialer=Dialer(), doors={}))
    link = AgentLink(path, 0, lambda: None)
    link.furnish(hall)
    running = asyncio.create_task(link.run())
    begun = time.monotonic()
    await link.introduced()
    took_s = time.monotonic() - begun
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    return took_s, hall.dialer.mark


def test_without_an_agent_it_waits_for_nothing(tmp_path: Path) -> None:
    took_s, mark = asyncio.run(introduce(tmp_path / "agent.sock"))
    assert mark == 0
    assert took_s < INTRODUCED_WITHIN_S / 2


async def introduce_to_agent(path: Path, *, answers: bool) -> tuple[float, int]:
    """The same with an agent, which welcomes or says nothing."""
    loop = asyncio.get_running_loop()
    channels: list[Channel] = []

    def heard(message: dict[str, Any], _: list[int]) -> None:
        if answers and message["type"] == "hello":
            welcome = {"type": "welcome", "v": VERSION, "release": "0", "mark": 0x200}
            loop.call_later(DELAY_S, channels[0].send, welcome)

    async def accept(listener: socket.socket) -> None:
        channels.append(Channel((await loop.sock_accept(listener))[0], heard, lambda: None))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.setblocking(False)
        accepting = asyncio.create_task(accept(listener))
        told = await introduce(path)
        await accepting
        channels[0].close()
    return told


@pytest.mark.parametrize("answers", [True, False])
def test_with_one_it_waits_for_the_mark_but_not_for_ever(tmp_path: Path, answers: bool) -> None:
    took_s, mark = asyncio.run(introduce_to_agent(tmp_path / "agent.sock", answers=answers))
    if answers:
        assert DELAY_S <= took_s < INTRODUCED_WITHIN_S
        assert mark == (0x200 if may_mark() else 0)
    else:
        assert INTRODUCED_WITHIN_S <= took_s < INTRODUCED_WITHIN_S * 3
        assert mark == 0
