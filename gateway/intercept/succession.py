"""What one image of the agent leaves to the next over `exec`: an upgrade without a moment in which nothing captures.

`exec` keeps the process and its open descriptors, and so the netlink socket that our table belongs to: the table
stands, with a longer heartbeat, while the new release starts. That builds a table of its own under the other of two
names, and closes the old socket, at which the kernel takes the old table away. What is not a descriptor is told in a
memfd.
"""

import asyncio
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from gateway import privileges
from gateway.logs import LogFormat

VARIABLE: Final = "SLUICEGATE_AGENT_HANDOVER"
"""The number of the memfd."""
COMMAND_VARIABLE: Final = "SLUICEGATE_COMMAND"
"""The installed command, which always leads to the newest release; set by what install.sh writes."""
HELD_BACK: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
"""Signals that wait while nobody handles them."""
NETLINK_NETFILTER: Final = 12
CHECK_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """JSON-ready; numbers of descriptors are valid in both images."""

    socket: int
    """The Unix socket that we listen on."""
    memory: int
    netlink: list[int]
    """Whoever closes all of them takes the old table away."""
    listeners: dict[str, int]
    """Transparent, by rule."""
    path: str
    """Of the Unix socket."""
    owner_uid: int
    lock: int | None
    """Of this network namespace."""
    owner_table: str
    workers: int
    """How many there were."""
    addresses: dict[str, list[str]]
    """By host name."""
    kernel_counts: dict[str, dict[str, int]]
    worker_counts: dict[str, int]
    started_at_s: float
    try_until_s: float | None
    log_level: str
    log_format: LogFormat
    probes: bool = True
    cgroup: str | None = None


def command() -> list[str]:
    """How this agent was started, by way of the installed command where there is one."""
    installed = os.environ.get(COMMAND_VARIABLE)
    if installed and os.access(installed, os.X_OK) and "agent" in sys.argv:
        return [installed, *sys.argv[sys.argv.index("agent") :]]
    return [sys.executable, *sys.orig_argv[1:]]


def environment() -> dict[str, str]:
    """Ours, without what only a successor may see."""
    return {name: value for name, value in os.environ.items() if name != VARIABLE}


async def objection(new: list[str]) -> str | None:
    """Why the installed release would not start here; None where it would."""
    try:
        child = await asyncio.create_subprocess_exec(
            *new, "--check", env=environment(), stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
    except OSError as error:
        return f"{new[0]}: {error.strerror}"
    try:
        async with asyncio.timeout(CHECK_S):
            said, _ = await child.communicate()
    except TimeoutError:
        child.kill()
        await child.wait()
        return "it took too long to start"
    if child.returncode == 0:
        return None
    return " / ".join(said.decode(errors="replace").strip().splitlines()[-3:]) or f"exit {child.returncode}"


def hand_over(new: list[str], left: Left) -> None:
    """Become the new release; returns only by raising OSError. Signals wait until it handles them."""
    told = os.memfd_create("sluicegate-agent", os.MFD_CLOEXEC)
    os.write(told, json.dumps(asdict(left)).encode())
    descriptors = [told, *descriptors_of(left)]
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        for number in descriptors:
            os.set_inheritable(number, True)
        privileges.hand_down(privileges.effective())
        os.execve(new[0], new, {**environment(), VARIABLE: str(told)})  # noqa: S606 - the command that started us
    finally:
        for number in descriptors:
            os.set_inheritable(number, False)
        os.close(told)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)


def taken_over() -> Left | None:
    """What the image before this one left; None at an ordinary start."""
    number = os.environ.pop(VARIABLE, None)
    if number is None:
        return None
    with os.fdopen(int(number), "rb") as file:
        file.seek(0)
        told = json.load(file)
        left = Left(**{**told, "log_format": LogFormat(told["log_format"])})
    for descriptor in descriptors_of(left):
        os.set_inheritable(descriptor, False)
    return left


def descriptors_of(left: Left) -> list[int]:
    lock = [] if left.lock is None else [left.lock]
    return [left.socket, left.memory, *lock, *left.netlink, *left.listeners.values()]


def sockets_of(listeners: Mapping[str, int]) -> dict[str, socket.socket]:
    return {rule: socket.socket(fileno=number) for rule, number in listeners.items()}


def netlink_descriptors() -> list[int]:
    """Sockets of this process to nfnetlink that listen to no group: those of libnftables, which tells no number."""
    found = []
    for entry in tuple(Path("/proc/self/fd").iterdir()):
        try:
            number = int(entry.name)
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
            probe = socket.socket(fileno=os.dup(number))
        except OSError:  # the folder's own descriptor, gone by now
            continue
        with probe:
            if probe.family == socket.AF_NETLINK and probe.proto == NETLINK_NETFILTER and not probe.getsockname()[1]:
                found.append(number)
    return found


def release(descriptors: list[int]) -> None:
    """Close what belongs to the image before."""
    for number in descriptors:
        os.close(number)
