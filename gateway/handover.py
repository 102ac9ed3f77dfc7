"""What one supervisor leaves to the next: sockets, certificate and children, told in a variable over `exec`.

`exec` keeps the process: its number (systemd's main process), its children and its open descriptors. So an upgrade
opens no socket anew and no connection waits in a queue that nobody serves (docs/operations.md).
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from gateway.dataplane.listeners import Serves
from gateway.listening import Listener

VARIABLE: Final = "SLUICEGATE_HANDOVER"
COMMAND_VARIABLE: Final = "SLUICEGATE_COMMAND"
"""The installed command, which always leads to the newest version; set by what install.sh writes."""
STARTED_BY: Final = "SLUICEGATE_STARTED_BY"
"""The command that became the supervisor."""
CHECK_SECONDS: Final = 300.0
HELD_BACK: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD)
"""Signals that wait while nobody handles them."""


class Process(Protocol):
    """The part of `subprocess.Popen` that the supervisor uses."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...

    def send_signal(self, sig: int, /) -> None: ...

    def kill(self) -> None: ...


class Adopted:
    """A child that an earlier image of this very process started."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self.returncode = 0  # waited for before the exec, but not told
            else:
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        until = None if timeout is None else time.monotonic() + timeout
        while self.poll() is None:
            if until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired([str(self.pid)], timeout or 0.0)
            time.sleep(0.02)
        return self.returncode or 0

    def send_signal(self, sig: int, /) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Turn(StrEnum):
    """What the one who takes over is to do."""

    START = "start"
    """Start children: there are none yet."""
    UPGRADE = "upgrade"
    """Replace the children by ones of this release."""
    UNFIT = "unfit"
    """Keep the children: the database could not be prepared for this release."""


@dataclass(slots=True, kw_only=True)
class Handover:
    listeners: list[Listener] = field(default_factory=list)
    keeper: int | None = None
    workers: list[int] = field(default_factory=list)
    draining: list[int] = field(default_factory=list)
    exporters: list[int] = field(default_factory=list)
    certificate: int | None = None
    turn: Turn = Turn.START


def command(started_by: list[str] | None = None) -> list[str]:
    """How `sluicegate serve` was started, by way of the installed command where there is one. `started_by`: what this
    process was before it became the supervisor."""
    installed = os.environ.get(COMMAND_VARIABLE)
    if installed and os.access(installed, os.X_OK) and "serve" in sys.argv:
        return [installed, *sys.argv[sys.argv.index("serve") :]]
    return started_by or [sys.executable, *sys.orig_argv[1:]]


class Check:
    """The new release tries itself with these settings and this database, while the present one goes on."""

    def __init__(self, new: list[str]) -> None:
        self.new = new
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
        self._told = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the verdict
        self._until_s = time.monotonic() + CHECK_SECONDS
        self._process = subprocess.Popen(  # noqa: S603 - the command that started us
            [*new, "--check"], env=environment, stdin=subprocess.DEVNULL, stdout=self._told, stderr=self._told
        )

    def verdict(self) -> str | None:
        """None while it is not known, "" where the new release would start, else why it would not."""
        code = self._process.poll()
        if code is None:
            if time.monotonic() < self._until_s:
                return None
            self._process.kill()
            self._process.wait()
        self._told.seek(0)
        told = self._told.read().decode(errors="replace").strip().splitlines()
        self._told.close()
        if code == 0:
            return ""
        return " / ".join(told[-3:]) or ("it took too long" if code is None else f"exit {code}")


def hand_over(new: list[str], left: Handover) -> None:
    """Become the new release; returns only by raising OSError. Signals wait until it handles them."""
    descriptors = [sock.fileno() for listener in left.listeners for sock in listener.sockets]
    if left.certificate is not None:
        descriptors.append(left.certificate)
    told = {
        "listeners": [
            [listener.serves.value, listener.address, [sock.fileno() for sock in listener.sockets]]
            for listener in left.listeners
        ],
        "keeper": left.keeper,
        "workers": left.workers,
        "draining": left.draining,
        "exporters": left.exporters,
        "certificate": left.certificate,
        "turn": left.turn,
    }
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD_BACK)
    try:
        _set_inheritable(descriptors, True)
        os.execve(new[0], new, {**os.environ, VARIABLE: json.dumps(told)})  # noqa: S606
    finally:
        _set_inheritable(descriptors, False)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD_BACK)


def taken_over() -> Handover | None:
    """What the image before this one left; None at an ordinary start."""
    told = os.environ.pop(VARIABLE, None)
    if told is None:
        return None
    left = json.loads(told)
    listeners = [
        Listener(Serves(serves), address, [socket.socket(fileno=descriptor) for descriptor in descriptors])
        for serves, address, descriptors in left["listeners"]
    ]
    certificate = left["certificate"]
    _set_inheritable([sock.fileno() for listener in listeners for sock in listener.sockets], False)
    if certificate is not None:
        os.set_inheritable(certificate, False)
    return Handover(
        listeners=listeners,
        keeper=left["keeper"],
        workers=left["workers"],
        draining=left["draining"],
        exporters=left.get("exporters", []),
        certificate=certificate,
        turn=Turn(left.get("turn", Turn.UPGRADE)),
    )


def _set_inheritable(descriptors: Iterable[int], inheritable: bool) -> None:
    for descriptor in descriptors:
        os.set_inheritable(descriptor, inheritable)
