"""`sluicegate service`: the same words under systemd and without it.

install.sh names the unit in `SLUICEGATE_UNIT` (set by the installed command) where it made one; anything else runs as a
guarded background process with its lock and log in the data folder.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from gateway.cli import agent_service, output
from gateway.cli.address import api_url, console_url, readiness
from gateway.cli.agent_client import AgentAway
from gateway.cli.agent_service import BackgroundAgent
from gateway.cli.background import BackgroundProcess
from gateway.cli.keeping import Service, State, SystemdService, follow_files, follow_units, installed_command
from gateway.cli.owner import become_owner
from gateway.errors import SluicegateError
from gateway.privileges import NET_RAW
from gateway.settings import Settings

START_PATIENCE_S = 60.0
LINES_TOLD = 12
"""Of the log, where a start fails."""
UPGRADE_PATIENCE_S = 600.0
KILL_MARGIN_S = 15.0
"""Beyond `drain`: keeper's last batch, then the guard's own end."""


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


class BackgroundService:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.process = BackgroundProcess(
            lock=settings.data / "service.lock",
            log=settings.data / "log" / "sluicegate.log",
            command=[*installed_command(), "serve", "--data", str(settings.data)],
        )
        self.guard: subprocess.Popen[bytes] | None = None

    def state(self) -> State:
        pid = self.process.guard_pid()
        return State(running=pid is not None, how=f"background process {pid}" if pid else "background process")

    def start(self) -> None:
        self.settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        become_owner(self.settings.data, keeping=(NET_RAW,))
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
        return follow_files([self.process.log], lines, follow)


def service_of(settings: Settings) -> Service:
    """The way that this installation runs its gateway."""
    unit = os.environ.get("SLUICEGATE_UNIT")
    if unit and Path("/run/systemd/system").is_dir() and shutil.which("systemctl"):
        return SystemdService(unit)
    return BackgroundService(settings)


def start(settings: Settings) -> None:
    """Start the service unless it runs, and wait until it is ready."""
    service = service_of(settings)
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    agent = agent_service.start(settings)  # before the gateway: starting that may make us another user
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
    reason = None if agent is None else agent.failed()
    if reason is not None:
        output.note(f"the agent did not stay up, so nothing is intercepted: {reason}")


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
    """Let the running gateway, and its agent, become the release that is installed now, without a pause."""
    _upgrade_gateway(settings)
    try:
        agent_service.upgrade(settings)
    except AgentAway:
        return
    except SluicegateError as error:
        output.note(f"the agent goes on as it is: {error.message}")


def _upgrade_gateway(settings: Settings) -> None:
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


def stop(settings: Settings, *, agent_alone: bool = False) -> None:
    """Drain and end the service, and then the agent. Fine where neither runs."""
    service, agent = service_of(settings), agent_service.agent_service_of(settings)
    running = not agent_alone and service.state().running
    if running:
        _stop_gateway(service, settings)
    if agent is not None and agent.state().running:
        try:
            agent.stop()
        except (RuntimeError, OSError) as error:
            output.fail(f"the agent: {error}")
        running = True
    output.say("stopped" if running else "not running")


def _stop_gateway(service: Service, settings: Settings) -> None:
    try:
        with output.step(f"ending, answers in progress may take {settings.drain:.0f} s"):
            service.stop()
    except (RuntimeError, OSError) as error:
        output.fail(str(error))


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
    agent_service.say_how(settings)
    if not now.ready:
        output.note(f"not ready: {now.reason}")
    return 0 if now.ready else 1


def logs(settings: Settings, *, lines: int, follow: bool) -> int:
    service, agent = service_of(settings), agent_service.agent_service_of(settings)
    if isinstance(service, SystemdService) and isinstance(agent, SystemdService):
        return follow_units([service.unit, agent.unit], lines, follow)
    if isinstance(service, BackgroundService) and isinstance(agent, BackgroundAgent):
        return follow_files([service.process.log, agent.process.log], lines, follow)
    return service.follow(lines, follow)
