"""Keep one command running where no systemd does: `python -m gateway.cli.guard LOCK LOG -- COMMAND…`.

The guard holds an exclusive lock on LOCK, with its process id inside, for as long as it lives: the lock, never the
number alone, says that the service runs. It starts COMMAND again when that ends, after a growing pause, passes SIGHUP
on, and ends it (SIGTERM) and itself on SIGTERM or SIGINT. LOG takes the output of both; past 20 MB it moves to LOG.1.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

LOG_MAX_BYTES = 20 * 1024 * 1024
EARLY_S = 5.0
"""A command that fails this soon after the guard's start is wrongly set up: told to the starter, not tried again."""
SETTLED_S = 60.0
"""After this long a run counts as a success: the next pause is short again."""
LOCK_PATIENCE_S = 1.0
"""Who asks whether a guard lives holds the lock for a moment, too."""
PR_SET_PDEATHSIG = 1
PAUSES_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Guard:
    def __init__(self, log: Path, command: list[str]) -> None:
        self.log = log
        self.command = command
        self.child: subprocess.Popen[bytes] | None = None
        self.ending = False

    def run(self) -> int:
        """Until told to end. Returns the exit code: the command's own where it failed at once, else 0."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self.on_signal)
        failures = 0
        began_s = time.monotonic()
        while not self.is_ending():
            started_s = time.monotonic()
            self.child = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, preexec_fn=_end_with_guard)
            if self.is_ending():  # the signal came between the check above and the start
                self.child.send_signal(signal.SIGTERM)
            code = self.wait()
            if self.is_ending():
                return 0
            if code != 0 and time.monotonic() - began_s < EARLY_S:
                return code if code > 0 else 1
            failures = 0 if time.monotonic() - started_s > SETTLED_S else failures + 1
            pause_s = PAUSES_S[min(failures, len(PAUSES_S) - 1)]
            print(f"guard: command ended with {code}; starting it again in {pause_s} s", file=sys.stderr, flush=True)
            self.pause(pause_s)
        return 0

    def wait(self) -> int:
        assert self.child is not None
        while True:
            try:
                return self.child.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.trim_log()

    def is_ending(self) -> bool:
        """Asked anew each time: the signal handler changes it between any two lines."""
        return self.ending

    def pause(self, pause_s: float) -> None:
        until_s = time.monotonic() + pause_s
        while not self.is_ending() and time.monotonic() < until_s:
            time.sleep(0.05)

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGHUP:
            self.ending = True
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM if number != signal.SIGHUP else number)

    def trim_log(self) -> None:
        """Every writer has the log open for appending, so that emptying it in place is safe."""
        try:
            if self.log.stat().st_size > LOG_MAX_BYTES:
                shutil.copyfile(self.log, self.log.with_suffix(self.log.suffix + ".1"))
                os.truncate(self.log, 0)
        except OSError as error:
            print(f"guard: cannot trim {self.log}: {error}", file=sys.stderr, flush=True)


def hold(lock: Path) -> int | None:
    """Take the lock and write our process id into it. Returns its descriptor, or None where another guard has it."""
    descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until_s = time.monotonic() + LOCK_PATIENCE_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > until_s:
                os.close(descriptor)
                return None
            time.sleep(0.02)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _end_with_guard() -> None:
    """In the child, before exec: SIGTERM when the guard dies, however it dies (prctl(2)). The guard has one thread."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def main() -> None:
    lock, log, dashes, *command = sys.argv[1:]
    if dashes != "--" or not command:
        raise SystemExit("usage: python -m gateway.cli.guard LOCK LOG -- COMMAND…")
    held = hold(Path(lock))
    if held is None:
        raise SystemExit(f"{lock} is held by another guard")
    raise SystemExit(Guard(Path(log), command).run())


if __name__ == "__main__":
    main()
