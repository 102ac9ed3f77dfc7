"""`python -m gateway.store.keeper_main`: the keeper as a process of its own, started by `sluicegate serve`.

Settings are handed down by it, else from the usual sources. SIGTERM and SIGINT end it; what is then
still in spools is taken by its successor.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import threading
from typing import Final

from gateway.lifetime import calm_collector, end_with_parent
from gateway.logs import log_to_stderr
from gateway.settings import Settings
from gateway.store.keeper import Keeper

END_WITHIN_S: Final = 6.0

log = logging.getLogger(__name__)


async def serve(settings: Settings, ready_fd: int | None) -> None:
    keeper = asyncio.get_running_loop().create_task(Keeper(settings).run())
    if ready_fd is not None:
        with contextlib.suppress(BrokenPipeError):  # only a successor is waited for
            os.write(ready_fd, b"r")
        os.close(ready_fd)

    def end() -> None:
        keeper.cancel()
        # A database that does not answer holds its thread for ever. Ending hard costs nothing: what is not in SQL is in
        # the spools.
        last = threading.Timer(END_WITHIN_S, os._exit, [0])
        last.daemon = True
        last.start()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)
    try:
        await keeper
    except asyncio.CancelledError:
        log.info("keeper ends")


def main() -> None:
    parser = argparse.ArgumentParser(description="The keeper of `sluicegate serve`, which starts it.")
    parser.add_argument("--parent", type=int, help="end when this process ends")
    parser.add_argument("--ready-fd", type=int, help="is told once nothing but the lock is waited for")
    options = parser.parse_args()
    if options.parent is not None:
        end_with_parent(options.parent)
    settings = Settings.handed_down()
    log_to_stderr(settings.log_level, settings.log_format, "keeper")
    calm_collector()
    asyncio.run(serve(settings, options.ready_fd))


if __name__ == "__main__":
    main()
