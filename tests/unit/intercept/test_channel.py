"""The agent's channel and its descriptors."""

import asyncio
import os
import socket
from typing import Any

from gateway.agent_channel import Channel

MANY = 150


def test_more_descriptors_than_fit_one_call_arrive_in_order() -> None:
    async def talk() -> list[int]:
        left, right = socket.socketpair()
        arrived: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()

        def hear(message: dict[str, Any], descriptors: list[int]) -> None:
            if message["type"] == "listeners":
                arrived.set_result(descriptors)

        receiver = Channel(right, hear, lambda: None)
        sender = Channel(left, lambda *_: None, lambda: None)
        files = [os.memfd_create(f"n{number}") for number in range(MANY)]
        sender.send({"type": "before"})
        sender.send({"type": "listeners"}, files)
        sender.send({"type": "behind"})
        async with asyncio.timeout(5):
            got = await arrived
        same = [os.path.sameopenfile(*pair) for pair in zip(files, got, strict=True)]
        for number in (*files, *got):
            os.close(number)
        sender.close()
        receiver.close()
        return [at for at, each in enumerate(same) if not each]

    assert asyncio.run(talk()) == []
