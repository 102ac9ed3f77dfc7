"""The splice engine as a TCP relay, for comparison with nginx `stream`: `splice_relay.py PORT TARGET_PORT`.

A worker without its HTTP: uvloop, one listener, each connection spliced to the target.
"""

import asyncio
import socket
import sys
from contextlib import suppress

import uvloop

from gateway.dataplane.splice import Splice, Splices
from gateway.lifetime import calm_collector, raise_file_limit

BACKLOG = 65_535


async def relay(port: int, target_port: int) -> None:
    loop = asyncio.get_running_loop()
    splices = Splices()
    with socket.create_server(("127.0.0.1", port), backlog=BACKLOG, reuse_port=True) as listener:
        listener.setblocking(False)
        connecting: set[asyncio.Task[None]] = set()

        async def connect(client: socket.socket) -> None:
            server = socket.socket()
            server.setblocking(False)
            await loop.sock_connect(server, ("127.0.0.1", target_port))
            splices.start(client, server, ended)

        def ended(_: Splice) -> None:
            pass

        def accept() -> None:
            with suppress(BlockingIOError):
                for _ in range(64):
                    client, _ = listener.accept()
                    client.setblocking(False)
                    task = loop.create_task(connect(client))
                    connecting.add(task)
                    task.add_done_callback(connecting.discard)

        loop.add_reader(listener, accept)
        await loop.create_future()


if __name__ == "__main__":
    raise_file_limit()
    calm_collector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(relay(int(sys.argv[1]), int(sys.argv[2])))
