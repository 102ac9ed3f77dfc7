"""What keeps one of our commands running: systemd, or a guarded process in the background. For gateway and agent."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.cli import output


@dataclass(frozen=True, slots=True)
class State:
    running: bool
    how: str
    """e.g. "background process 4711" or "systemd unit sluicegate.service"."""


class Service(Protocol):
    """One way to keep one command running."""

    def state(self) -> State: ...

    def start(self) -> None:
        """Begin. Raises RuntimeError with the reason where that fails at once."""

    def stop(self) -> None:
        """Drain and end. Raises RuntimeError where it did not."""

    def failed(self) -> str | None:
        """Why it ended since `start`, None while it lives."""

    def follow(self, lines: int, follow: bool) -> int:
        """Print the log's end, with `follow` until interrupted; the exit code."""


class SystemdService:
    def __init__(self, unit: str) -> None:
        self.unit = unit

    def state(self) -> State:
        return State(running=self._run("is-active", "--quiet").returncode == 0, how=f"systemd unit {self.unit}")

    def start(self) -> None:
        self._must("start")

    def stop(self) -> None:
        self._must("stop")

    def failed(self) -> str | None:
        return None if self.state().running else f"see `journalctl -u {self.unit}`"

    def follow(self, lines: int, follow: bool) -> int:
        return follow_units([self.unit], lines, follow)

    def _must(self, verb: str) -> None:
        done = self._run(verb)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip() or f"systemctl {verb} {self.unit} failed with {done.returncode}")

    def _run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        verb, *options = words
        return subprocess.run(["systemctl", verb, *options, self.unit], capture_output=True, text=True, check=False)


def follow_units(units: Sequence[str], lines: int, follow: bool) -> int:
    named = [word for unit in units for word in ("-u", unit)]
    return subprocess.call(["journalctl", *named, "-n", str(lines), *(["-f"] if follow else ["--no-pager"])])


def follow_files(logs: Sequence[Path], lines: int, follow: bool) -> int:
    present = [str(log) for log in logs if log.exists()]
    if not present:
        output.fail(f"there is no log at {logs[0]}", fix="start the service: sluicegate service start")
    return subprocess.call(["tail", "-n", str(lines), *(["-F"] if follow else []), *present])


def installed_command() -> list[str]:
    """The command that leads to whichever release is installed, now or later; else this one."""
    command = os.environ.get("SLUICEGATE_COMMAND")
    return [command] if command and os.access(command, os.X_OK) else [sys.executable, "-m", "gateway.cli"]
