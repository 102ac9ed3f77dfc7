"""The agent as a service beside the gateway's: a systemd unit of its own, or a guarded background process of root's.

What root writes stands in a folder of root's, never in the data folder, which is another user's.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

from gateway import privileges
from gateway.cli import agent_client, output
from gateway.cli.agent_client import AgentAway
from gateway.cli.background import BackgroundProcess
from gateway.cli.keeping import Service, State, SystemdService, follow_files, installed_command
from gateway.errors import SluicegateError
from gateway.settings import Settings

STOP_PATIENCE_S: Final = 20.0
UPGRADE_PATIENCE_S: Final = 90.0
FOLDER: Final = Path("/var/log/sluicegate")


class BackgroundAgent:
    """Root's alone."""

    def __init__(self, settings: Settings) -> None:
        self.data = settings.data
        name = str(settings.data).strip("/").replace("/", "-")
        self.process = BackgroundProcess(
            lock=FOLDER / f"{name}-agent.lock",
            log=FOLDER / f"{name}-agent.log",
            command=[*installed_command(), "agent", "--data", str(settings.data)],
        )
        self.guard: subprocess.Popen[bytes] | None = None

    def state(self) -> State:
        pid = self.process.guard_pid()
        return State(running=pid is not None, how=f"background process {pid}" if pid else "background process")

    def start(self) -> None:
        FOLDER.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.guard = self.process.start()

    def stop(self) -> None:
        if not self.process.stop(patience_s=STOP_PATIENCE_S):
            raise RuntimeError(f"{self.state().how} did not end within {STOP_PATIENCE_S:.0f} s; see {self.process.log}")

    def failed(self) -> str | None:
        if self.guard is None or self.guard.poll() is None:
            return None
        return " / ".join(self.process.last_lines(3))

    def follow(self, lines: int, follow: bool) -> int:
        return follow_files([self.process.log], lines, follow)


def agent_service_of(settings: Settings) -> Service | None:
    """The way that this installation runs its agent; None where it has none, or none that we may look after."""
    unit = os.environ.get("SLUICEGATE_AGENT_UNIT")
    if os.environ.get("SLUICEGATE_AGENT") == "no":
        return None
    if Path("/run/systemd/system").is_dir() and shutil.which("systemctl") and os.environ.get("SLUICEGATE_UNIT"):
        return SystemdService(unit) if unit else None
    may = os.geteuid() == 0 and privileges.NET_ADMIN in privileges.effective()  # in a container root may be nobody
    return BackgroundAgent(settings) if may else None


def start(settings: Settings) -> Service | None:
    """Start it unless it runs, and return it then. The gateway works without it, so that what goes wrong is said and no
    more."""
    service = agent_service_of(settings)
    if service is None or service.state().running:
        return None
    try:
        service.start()
    except (RuntimeError, OSError) as error:
        output.note(f"the agent did not start, so nothing is intercepted: {error}")
        return None
    return service


def say_how(settings: Settings) -> None:
    """A line for `service status`."""
    service = agent_service_of(settings)
    how = f" ({service.state().how})" if service is not None and service.state().running else ""
    try:
        said = agent_client.ask(settings.agent_socket_path, "status")
    except AgentAway:
        state = "not there: nothing is intercepted" if not how else f"running, does not answer{how}"
        output.say(f"agent    {state}")
        return
    except SluicegateError as error:
        output.say(f"agent    {error.message}")
        return
    rules = said["rules"]
    armed = sum(bool(rule["armed"]) for rule in rules)
    output.say(
        f"agent    ready{how}, {armed} of {len(rules)} rules armed" if rules else f"agent    ready{how}, no rules"
    )


def upgrade(settings: Settings) -> None:
    """Let the running agent become the installed release. Raises SluicegateError (AgentAway where there is none)."""
    path = settings.agent_socket_path
    before = agent_client.ask(path, "status")["upgraded_at"]
    agent_client.ask(path, "upgrade")
    until_s = time.monotonic() + UPGRADE_PATIENCE_S
    while True:
        try:
            said = agent_client.ask(path, "status")
        except SluicegateError:
            if time.monotonic() > until_s:
                raise
        else:
            if said["upgraded_at"] != before and not said["taking_over"]:
                output.say(f"the agent is release {said['release']}")
                return
        if time.monotonic() > until_s:
            raise SluicegateError("the agent's upgrade does not end", fix="sluicegate service logs")
        time.sleep(0.1)
