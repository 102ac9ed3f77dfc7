"""The supervisor's side of the nursery (`gateway.nursery_main`), from which keeper and workers are forked.

They need the same modules: imported once and shared, these take memory once and the time of a start once, and what died
is back in a few hundredths of a second. The supervisor itself stays small, and a new release has a nursery of its own.

A process so born is the supervisor's child as if it had been started by it: the nursery forks twice, and the orphan
falls to the supervisor, which for that moment is the reaper of what its descendants leave (prctl(2)).
"""

import ctypes
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from gateway.handover import Adopted, Process

PR_SET_CHILD_SUBREAPER: Final = 36
"""linux/prctl.h"""
READY: Final = b"r"
MOST_REQUEST_BYTES: Final = 128 * 1024
"""Below what one message of a socket may have by default (net.core.wmem_default)."""
MOST_DESCRIPTORS: Final = 253
"""SCM_MAX_FD, unix(7)."""
ANSWERS_WITHIN_S: Final = 30.0
"""To a request; forking takes some milliseconds."""

Argument = str | tuple[str, int]
"""As it is, or what goes before the number of a descriptor and the descriptor: it has another number over there."""


class NurseryFailed(Exception):
    """It did not give birth; its process is gone, or is ended by this."""


class Nursery:
    """The process and the way to it."""

    def __init__(self, process: Process, channel: socket.socket) -> None:
        self.process = process
        self._channel = channel
        self._ready = False

    @classmethod
    def start(cls, environment: Mapping[str, str]) -> "Nursery":
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            argv = [sys.executable, "-m", "gateway.nursery_main"]
            argv += ["--channel", str(its.fileno()), "--parent", str(os.getpid())]
            process = subprocess.Popen(argv, pass_fds=[its.fileno()], env=dict(environment))  # noqa: S603 - our own interpreter
        return cls(process, ours)

    def fileno(self) -> int:
        """Readable when it gets ready and when it is gone."""
        return self._channel.fileno()

    def is_ready(self) -> bool:
        """Whether it has all modules. Does not wait."""
        if not self._ready and select.select([self], [], [], 0)[0]:
            self._ready = self._hear() == READY
        return self._ready

    def bear(self, module: str, arguments: Sequence[Argument], variables: Mapping[str, str]) -> Process:
        """A process that runs `module.main()` with these arguments and additional environment variables, as our child.
        Raises NurseryFailed."""
        descriptors = [argument[1] for argument in arguments if not isinstance(argument, str)]
        said = [argument if isinstance(argument, str) else [argument[0]] for argument in arguments]
        request = json.dumps({"module": module, "arguments": said, "variables": dict(variables)}).encode()
        if len(request) > MOST_REQUEST_BYTES or len(descriptors) > MOST_DESCRIPTORS:
            raise NurseryFailed("the settings are too long to be handed down")
        _be_reaper(True)
        try:
            socket.send_fds(self._channel, [request], descriptors)
            if not select.select([self], [], [], ANSWERS_WITHIN_S)[0]:
                raise NurseryFailed(f"no answer within {ANSWERS_WITHIN_S:.0f} s")
            answer = self._hear()
            if not answer:
                raise NurseryFailed("it is gone")
            return Adopted(int(answer))
        except OSError as error:
            raise NurseryFailed(str(error)) from error
        except NurseryFailed:
            self.process.kill()
            raise
        finally:
            _be_reaper(False)

    def end(self) -> None:
        """What was born of it stays."""
        self._channel.close()
        self.process.kill()
        self.process.wait()

    def _hear(self) -> bytes:
        try:
            return self._channel.recv(64)
        except OSError:
            return b""


def _be_reaper(wanted: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, int(wanted), 0, 0, 0) != 0:
        raise NurseryFailed(f"prctl: {os.strerror(ctypes.get_errno())}")
