"""A guarded process in the background: started, found again, ended, by a lock file that only a live guard holds."""

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


class BackgroundProcess:
    """One command under `gateway.cli.guard`. `lock` and `log` identify it; any process may hold this object."""

    def __init__(self, *, lock: Path, log: Path, command: Sequence[str]) -> None:
        self.lock = lock
        self.log = log
        self.command = list(command)
        self._said: int | None = None
        """The log as `start` opened it: who started the guard may be another user by now, who may not open it."""

    def guard_pid(self) -> int | None:
        """Process id of the guard, None where none lives."""
        try:
            descriptor = os.open(self.lock, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(descriptor, 32, 0).strip()
            return int(text) if text.isdigit() and _is_guard(int(text)) else None
        finally:
            os.close(descriptor)
        return None

    def start(self, env: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
        """Start the guard in a session of its own; `env` adds to ours. The caller sees to it that it stays up."""
        self.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.log, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._said = os.dup(descriptor)
        with os.fdopen(descriptor, "ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "gateway.cli.guard", str(self.lock), str(self.log), "--", *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd="/",
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
            )

    def stop(self, *, patience_s: float) -> bool:
        """SIGTERM to the guard, then wait. False where it outlived `patience_s`, or there was none: True."""
        pid = self.guard_pid()
        if pid is None:
            return True
        os.kill(pid, signal.SIGTERM)
        until_s = time.monotonic() + patience_s
        while time.monotonic() < until_s:
            if self.guard_pid() is None:
                return True
            time.sleep(0.05)
        return False

    def last_lines(self, count: int) -> list[str]:
        """The end of the log, at most its last 256 KiB."""
        try:
            descriptor = os.open(self.log, os.O_RDONLY | os.O_CLOEXEC) if self._said is None else os.dup(self._said)
        except FileNotFoundError:
            return []
        with os.fdopen(descriptor, "rb") as log:
            log.seek(max(0, os.fstat(descriptor).st_size - 262_144))
            return log.read().decode(errors="replace").splitlines()[-count:]


def _is_guard(pid: int) -> bool:
    """Between a new guard's lock and its writing, the file still names the old one: its number may be another's now."""
    try:
        return b"gateway.cli.guard" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
