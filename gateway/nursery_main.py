"""`python -m gateway.nursery_main`: has imported what keeper and workers need, and forks them when asked.

It does nothing else: no thread, no event loop, no open file but the way to the supervisor (`gateway.nursery`), nothing
drawn at random before a fork. It ends with the supervisor, without a sound.
"""

import argparse
import contextlib
import ctypes
import gc
import importlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from gateway.lifetime import end_with_parent
from gateway.nursery import MOST_DESCRIPTORS, MOST_REQUEST_BYTES, READY

PROGRAMS: Final = ("gateway.worker", "gateway.store.keeper_main")
IMPORTED_LATE: Final = (
    "anyio._backends._asyncio",
    "fastapi.telemetry._runtime",
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.auto",
)
"""What libraries import when they are first used, which is at the start of every worker."""
ADOPTED_WITHIN_S: Final = 10.0
PAUSE_S: Final = 0.001

Main = Callable[[], int | None]


def main() -> int | None:
    """Returns in the nursery at its end, and in each process that was born of it when that one ends."""
    parser = argparse.ArgumentParser(description="Forks keeper and workers of `sluicegate serve`, which starts it.")
    parser.add_argument("--channel", type=int, required=True, help="a socket to the supervisor")
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args()
    end_with_parent(options.parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all of us; the supervisor decides
    channel = socket.socket(fileno=options.channel)
    gc.disable()
    for module in PROGRAMS:
        importlib.import_module(module)
    for module in IMPORTED_LATE:
        with contextlib.suppress(ImportError):  # other versions have other insides
            importlib.import_module(module)
    gc.collect()
    gc.freeze()
    channel.send(READY)
    while True:
        request, descriptors, _, _ = socket.recv_fds(
            channel, MOST_REQUEST_BYTES, MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
        )
        if not request:
            return 0
        born = bear(channel, options.parent, json.loads(request), descriptors)
        if born is not None:
            return born()


def bear(channel: socket.socket, supervisor: int, request: dict[str, Any], descriptors: list[int]) -> Main | None:
    """In the nursery None, once the supervisor was told the number; in the new process what it is to do."""
    read_fd, write_fd = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid != 0:
            os.write(write_fd, str(pid).encode())
            os._exit(0)
        os.close(read_fd)
        os.close(write_fd)
        channel.close()
        return become(supervisor, request, descriptors)
    os.close(write_fd)
    for descriptor in descriptors:
        os.close(descriptor)
    told = os.read(read_fd, 64)
    os.close(read_fd)
    os.waitpid(between, 0)  # from now on the new process is the supervisor's child
    if not told:
        sys.exit("nothing was born")
    channel.send(told)
    return None


def become(supervisor: int, request: dict[str, Any], descriptors: list[int]) -> Main:
    """Make this process look as if the supervisor had started it as `python -m MODULE ARGUMENTS`."""
    until_s = time.monotonic() + ADOPTED_WITHIN_S
    while os.getppid() != supervisor:
        if time.monotonic() > until_s:
            sys.exit(0)  # the supervisor is dead
        time.sleep(PAUSE_S)
    gc.enable()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(request["variables"])
    numbers = iter(descriptors)
    arguments = [said if isinstance(said, str) else f"{said[0]}{next(numbers)}" for said in request["arguments"]]
    module = sys.modules[request["module"]]
    sys.argv = [module.__file__ or "", *arguments]
    show_command([sys.executable, "-m", module.__name__, *arguments])
    main: Main = module.main
    return main


def show_command(command: list[str]) -> None:
    """What ps and /proc/PID/cmdline show; as much of it as there was at the start of the process (proc_pid_stat(5))."""
    fields = Path("/proc/self/stat").read_text().rpartition(") ")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start, arg_end
    if start and end > start:
        room = end - start
        text = b"\0".join(word.encode() for word in command)[: room - 1]
        ctypes.memmove(start, text.ljust(room, b"\0"), room)


if __name__ == "__main__":
    sys.exit(main())
