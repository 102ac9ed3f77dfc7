"""`sluicegate service`: the same words under systemd and without it.

install.sh names the unit in `SLUICEGATE_UNIT` (set by the installed command) where it made one; anything else runs as a
guarded background process with its lock and log in the data folder.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from gateway.cli import output
from gateway.cli.address import api_url, console_url, readiness
from gateway.cli.background import BackgroundProcess
from gateway.cli.owner import become_owner
from gateway.settings import Settings

START_PATIENCE_S = 60.0
LINES_TOLD = 12
"""Of the log, where a start fails."""
UPGRADE_PATIENCE_S = 600.0
KILL_MARGIN_S = 15.0
"""Beyond `drain`: keeper's last batch, then the guard's own end."""


@dataclass(frozen=True, slots=True)
class State:
    running: bool
    how: str
    """e.g. "background process 4711" or "systemd unit sluicegate.service"."""


class Service(Protocol):
    """One way to keep `sluicegate serve` running."""

    def state(self) -> State: ...

    def start(self) -> None:
        """Begin. Raises RuntimeError with the reason where that fails at once."""

    def stop(self) -> None:
        """Drain and end. Raises RuntimeError where it did not."""

    def failed(self) -> str | None:
        """Why it ended since `start`, None while it lives."""

    def follow(self, lines: int, follow: bool) -> int:
        """Print the log's end, with `follow` until interrupted; the exit code."""


def _installed() -> list[str]:
    """The command that leads to whichever release is installed, now or later; else this one."""
    command = os.environ.get("SLUICEGATE_COMMAND")
    return [command] if command and os.access(command, os.X_OK) else [sys.executable, "-m", "gateway.cli"]


@dataclass(frozen=True, slots=True)
class Serving:
    """What the supervisor wrote down of itself (`serve.json`)."""

    pid: int
    version: str
    state: str
    since: float
    """Unix time of the state."""


def serving(data: Path) -> Serving | None:
    """The supervisor that works in this data folder, if it lives."""
    try:
        told = json.loads((data / "serve.json").read_text())
        found = Serving(pid=told["pid"], version=told["version"], state=told["state"], since=told["since"])
        alive = b"serve" in Path(f"/proc/{found.pid}/cmdline").read_bytes()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if alive else None


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
        return subprocess.call(
            ["journalctl", "-u", self.unit, "-n", str(lines), *(["-f"] if follow else ["--no-pager"])]
        )

    def _must(self, verb: str) -> None:
        done = self._run(verb)
        if done.returncode != 0:
            raise RuntimeError(done.stderr.strip() or f"systemctl {verb} {self.unit} failed with {done.returncode}")

    def _run(self, *words: str) -> "subprocess.CompletedProcess[str]":
        verb, *options = words
        return subprocess.run(["systemctl", verb, *options, self.unit], capture_output=True, text=True, check=False)


class BackgroundService:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.process = BackgroundProcess(
            lock=settings.data / "service.lock",
            log=settings.data / "log" / "sluicegate.log",
            command=[*_installed(), "serve", "--data", str(settings.data)],
        )
        self.guard: subprocess.Popen[bytes] | None = None

    def state(self) -> State:
        pid = self.process.guard_pid()
        return State(running=pid is not None, how=f"background process {pid}" if pid else "background process")

    def start(self) -> None:
        self.settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        become_owner(self.settings.data)
        self.guard = self.process.start()

    def stop(self) -> None:
        patience_s = self.settings.drain + KILL_MARGIN_S
        if not self.process.stop(patience_s=patience_s):
            raise RuntimeError(f"{self.state().how} did not end within {patience_s:.0f} s; see {self.process.log}")

    def failed(self) -> str | None:
        if self.guard is None or self.guard.poll() is None:
            return None
        tail = "\n    ".join(self.process.last_lines(12))
        return f"it ended with code {self.guard.returncode}; the end of {self.process.log}:\n    {tail}"

    def follow(self, lines: int, follow: bool) -> int:
        log = self.process.log
        if not log.exists():
            output.fail(f"there is no log at {log}", fix="start the service: sluicegate service start")
        return subprocess.call(["tail", "-n", str(lines), *(["-F"] if follow else []), str(log)])


def service_of(settings: Settings) -> Service:
    """The way that this installation runs its gateway."""
    unit = os.environ.get("SLUICEGATE_UNIT")
    if unit and Path("/run/systemd/system").is_dir() and shutil.which("systemctl"):
        return SystemdService(unit)
    return BackgroundService(settings)


def start(settings: Settings) -> None:
    """Start the service unless it runs, and wait until it is ready."""
    service = service_of(settings)
    if service.state().running:
        output.say(f"already running ({service.state().how})")
    else:
        other = readiness(settings)
        if other.answers:
            output.fail(
                f"{settings.listen} is taken by another program, perhaps a `sluicegate serve` by hand",
                fix="stop that, or set another `listen` in sluicegate.toml or SLUICEGATE_LISTEN",
            )
        try:
            service.start()
        except (RuntimeError, OSError) as error:
            output.fail(f"the service did not start: {error}", fix="sluicegate doctor")
    with output.step("waiting until the gateway is ready"):
        _wait_ready(service, settings)
    output.say(f"running ({service.state().how}): {console_url(settings)}")


def _wait_ready(service: Service, settings: Settings) -> None:
    until_s = time.monotonic() + START_PATIENCE_S
    while True:
        now = readiness(settings)
        if now.ready:
            return
        reason = service.failed()
        if reason:
            output.fail(f"the service did not stay up: {reason}", fix="sluicegate doctor")
        if time.monotonic() > until_s:
            service.follow(LINES_TOLD, follow=False)
            output.fail(
                f"not ready after {START_PATIENCE_S:.0f} s: {now.reason}",
                fix="see above; sluicegate service logs tells more, then sluicegate doctor",
            )
        time.sleep(0.1)


def upgrade(settings: Settings) -> None:
    """Let the running gateway become the release that is installed now, without a pause."""
    service = service_of(settings)
    before = serving(settings.data)
    if before is None or not service.state().running:
        output.fail(
            "no gateway runs here that could be upgraded without a pause",
            fix="sluicegate service stop, then sluicegate service start",
        )
    os.kill(before.pid, signal.SIGUSR2)
    until_s = time.monotonic() + UPGRADE_PATIENCE_S
    with output.step("handing over; requests go on meanwhile"):
        while True:
            now = serving(settings.data)
            if now is None and not service.state().running:
                output.fail(
                    "the gateway ended on the way", fix="sluicegate service logs, then sluicegate service start"
                )
            if now is not None and now.since > before.since:
                break
            if time.monotonic() > until_s:
                output.fail(
                    f"not done after {UPGRADE_PATIENCE_S:.0f} s",
                    fix="sluicegate service logs; the release before goes on as long as the new one is not ready",
                )
            time.sleep(0.1)
    if now.state != "serving":
        output.fail(now.state, fix="nothing was changed; sluicegate service logs tells more")
    output.say(f"release {now.version} serves ({service.state().how})")


def stop(settings: Settings) -> None:
    """Drain and end the service. Fine where it does not run."""
    service = service_of(settings)
    if not service.state().running:
        output.say("not running")
        return
    try:
        with output.step(f"ending, answers in progress may take {settings.drain:.0f} s"):
            service.stop()
    except (RuntimeError, OSError) as error:
        output.fail(str(error))
    output.say("stopped")


def status(settings: Settings) -> int:
    """Print whether it runs. Exit code 0: ready, 1: running but not ready, 3: not running (as systemctl's)."""
    service = service_of(settings)
    state = service.state()
    now = readiness(settings)
    if not state.running:
        output.say("not running" + (f", but another program answers at {api_url(settings)}" if now.answers else ""))
        return 3
    output.say(f"{'ready' if now.ready else 'running, not ready'} ({state.how})")
    output.say(f"console  {console_url(settings)}")
    output.say(f"data     {settings.data}")
    if not now.ready:
        output.note(f"not ready: {now.reason}")
    return 0 if now.ready else 1


def logs(settings: Settings, *, lines: int, follow: bool) -> int:
    return service_of(settings).follow(lines, follow)
