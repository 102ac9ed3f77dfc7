"""The processes of one gateway, found by a mark in their environment: also those whose parent has died."""

import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

MARK = "SLUICEGATE_TEST_MARK"


@dataclass(frozen=True, slots=True)
class Process:
    pid: int
    command: str

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
        except (FileNotFoundError, ProcessLookupError):  # the latter: it went between open and read
            return False
        return state not in "ZX"

    def wait(self, within_s: float) -> bool:
        """Whether it ended in time."""
        deadline = time.monotonic() + within_s
        while self.alive:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.01)
        return True

    @property
    def resident_bytes(self) -> int:
        """Memory of its own: what it shares with others (libraries, mapped files) is left out."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("RssAnon"))

    @property
    def open_files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))


def marked(mark: str) -> list[Process]:
    """Every live process whose environment bears the mark, oldest first."""
    wanted = f"{MARK}={mark}".encode()
    found: list[Process] = []
    for folder in sorted((path for path in Path("/proc").iterdir() if path.name.isdigit()), key=lambda p: int(p.name)):
        with contextlib.suppress(OSError):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
                found.append(Process(int(folder.name), command))
    return [process for process in found if process.alive]
