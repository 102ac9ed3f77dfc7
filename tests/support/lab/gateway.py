"""`sluicegate serve` and `sluicegate agent` in the router of a lab.

    with Lab() as lab, gateway(lab, yaml) as running:
        running.wait_armed()

Serve runs as an unprivileged user with CAP_NET_RAW alone, as the service does; the agent as root. Any of their
processes may be killed and started again. The end is part of the test: both exit 0, leave no process and no traceback.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from tests.support import live
from tests.support.lab.lab import UNPRIVILEGED, Lab
from tests.support.lab.namespace import REPOSITORY
from tests.support.live import SUSPICIOUS, keys_of
from tests.support.own_cgroup import cgroup_root
from tests.support.preparation import prepare
from tests.support.processes import MARK, marked

PORT = 8080
CAPABILITIES = ("net_raw",)
ARMED_WITHIN_S = 45.0
Row = dict[str, Any]


class Agent:
    """`sluicegate agent`, which is root's."""

    def __init__(self, lab: Lab, data: Path, env: Mapping[str, str], *, probes: bool) -> None:
        self.socket = data / "agent.sock"
        self.log_file = lab.folder / f"agent-{data.parent.name}.log"
        self.tolerated: list[str] = []
        self._lab = lab
        self._mark = uuid.uuid4().hex
        self._env = {"SLUICEGATE_DATA": str(data), MARK: self._mark, "PYTHONUNBUFFERED": "1", **env}
        self._env["SLUICEGATE_PROBES"] = str(probes).lower()
        self._env.setdefault("SLUICEGATE_CGROUP", str(cgroup_root()))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str, cgroup: Path | None = None, bounding: Sequence[str] = ()) -> None:
        """`bounding`: all the capabilities that it may ever have."""
        confined = ["setpriv", "--bounding-set", ",".join(["-all", *(f"+{name}" for name in bounding)])]
        command = [
            *(confined if bounding else []),
            str(Path(sys.executable).parent / "sluicegate"),
            "agent",
            "--socket",
            str(self.socket),
            *options,
        ]
        with self.log_file.open("ab") as log:
            self._process = self._lab.router.popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self._env, cgroup=cgroup
            )

    @property
    def pid(self) -> int:
        assert self._process is not None, "the agent was not started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """`kill -9`, of all its processes."""
        for process in marked(self._mark):
            process.kill()
        if self._process is not None:
            self._process.wait(5)

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None, "the agent was not started"
        self._process.send_signal(number)

    def stop(self, within_s: float = 20) -> int:
        """SIGTERM, and the exit code."""
        assert self._process is not None, "the agent was not started"
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the agent does not end; log:\n{self.log()}") from None

    def restart(self) -> None:
        assert self.stop() == 0, self.log()
        self.start()

    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def finish(self) -> None:
        code = self.stop() if self.running else None
        left = marked(self._mark)
        for process in left:
            process.kill()
        if "PYTEST_CURRENT_TEST" in os.environ:
            print(f"--- log of the agent\n{self.log()[-20000:]}")
        assert code in (None, 0), f"the agent ended with {code} after SIGTERM:\n{self.log()}"
        assert not left, f"the agent left running: {left}"
        complaints = [line for line in self.log().splitlines() if SUSPICIOUS.search(line)]
        assert self.tolerated or not complaints, f"the agent's log holds:\n{self.log()}"


class Gateway(live.Live):
    """A running gateway with its agent; `api`, `apply`, `ledger` and the rest as of `Live`."""

    def __init__(
        self,
        lab: Lab,
        folder: Path,
        *,
        workers: int,
        user: int | None,
        env: Mapping[str, str],
        listen: str,
        options: Sequence[str],
        capabilities: Sequence[str],
        probes: bool,
    ) -> None:
        super().__init__(folder, workers=workers, database_url=None, env=env)
        self.lab = lab
        self.port = PORT
        self.url = f"http://127.0.0.1:{PORT}"
        self.agent = Agent(lab, self.data, env, probes=probes)
        self._listen = listen
        self._options = list(options)
        self._capabilities = capabilities
        self._user = user
        self._env = {
            name: value for name, value in self._env.items() if not name.startswith("SLUICEGATE_") or name == MARK
        }
        self._env |= {"SLUICEGATE_DATA": str(self.data), "PYTHONPATH": str(REPOSITORY), **env}

    # ---- life --------------------------------------------------------------------------------------------------------
    def command(self, *options: str) -> list[str]:
        prefix = self.lab.router.prefix(user=self._user, capabilities=self._capabilities)
        words = super().command(*self._options, *options)
        words[words.index("--listen") + 1] = f"{self._listen}:{PORT}"
        return [*prefix, *words, "--agent-socket", str(self.agent.socket)]

    def is_ready(self) -> bool:
        with self.lab.router.http(timeout=2) as client:
            return client.get(self.url + "/readyz").status_code == 200

    @property
    def api(self) -> httpx2.Client:
        if self._api is None:
            headers = {"authorization": f"Bearer {self.token}"}
            self._api = self.lab.router.http(base_url=self.url, headers=headers, timeout=10)
        return self._api

    def cli(
        self, *words: str, check: bool = True, within_s: float = 60.0, **how: Any
    ) -> subprocess.CompletedProcess[str]:
        """`sluicegate …` as root types it on the router."""
        env = {
            "SLUICEGATE_DATA": str(self.data),
            "SLUICEGATE_AGENT_SOCKET": str(self.agent.socket),
            **how.pop("env", {}),
        }
        env |= {"SLUICEGATE_URL": self.url, "SLUICEGATE_TOKEN": self.token}
        return self.lab.router.run("sluicegate", *words, check=check, within_s=within_s, env=env, **how)

    def kill_workers(self) -> None:
        """`kill -9` of each worker; the supervisor starts others."""
        for worker in self.workers():
            worker.kill()

    def kill_everything(self) -> None:
        """`kill -9` of supervisor, keeper, workers and agent at once."""
        everything = [*self.processes(), *marked(self.agent._mark)]
        for process in everything:
            process.kill(signal.SIGSTOP)
        for process in everything:
            process.kill()
        for process in everything:
            process.wait(5)
        if self._process is not None:
            self._process.wait(5)
        with contextlib.suppress(AssertionError):
            self.agent.kill()

    # ---- interception ------------------------------------------------------------------------------------------------
    def interception(self) -> Row:
        """What `GET /api/v1/interception` says."""
        answer = self.api.get("/api/v1/interception")
        assert answer.status_code == 200, answer.text
        told: Row = answer.json()
        return told

    def rule(self, name: str) -> Row:
        """One rule as it stands in the kernel."""
        rules = self.interception()["rules"]
        found = [rule for rule in rules if rule["rule"] == name]
        assert found, f"no rule {name}: {rules}"
        one: Row = found[0]
        return one

    def wait_armed(self, *names: str, within_s: float = ARMED_WITHIN_S) -> None:
        """Return once these rules (default: all that there are) are armed."""
        told: list[Any] = [None]

        def armed() -> bool:
            try:
                told[0] = self.interception()
            except httpx2.TransportError as error:
                told[0] = error
                return False
            rules = [rule for rule in told[0]["rules"] if not names or rule["rule"] in names]
            return bool(rules) and len(rules) >= len(names) and all(rule["armed"] for rule in rules)

        self.until(armed, within_s, lambda: f"not armed: {told[0]}\nthe agent:\n{self.agent.log()[-4000:]}")

    def wait_unarmed(self, name: str, within_s: float = ARMED_WITHIN_S) -> str:
        """Return the reason once this rule is not armed."""
        self.until(lambda: not self.rule(name)["armed"], within_s, lambda: f"still armed: {self.rule(name)}")
        return str(self.rule(name)["reason"])

    def ledger_rows(self, **query: str) -> list[Row]:
        """The ledger over REST, oldest first."""
        answer = self.api.get("/api/v1/ledger", params={"order": "asc", "limit": "1000", **query})
        assert answer.status_code == 200, answer.text
        rows: list[Row] = answer.json()["items"]
        return rows

    def settled_rows(self) -> int:
        """How many rows there are once those of the test before have all come."""
        while True:
            before = len(self.ledger_rows())
            time.sleep(0.5)
            if len(self.ledger_rows()) == before:
                return before

    def wait_for_ledger(self, count: int, within_s: float = 5.0, **query: str) -> list[Row]:
        """Its rows once there are that many; more of them is a failure too."""
        rows: list[Row] = []

        def enough() -> bool:
            rows[:] = self.ledger_rows(**query)
            return len(rows) >= count

        self.until(enough, within_s, lambda: f"{len(rows)} of {count} ledger rows: {rows[-3:]}")
        assert len(rows) == count, f"{len(rows)} ledger rows, not {count}: {rows}"
        return rows

    def finish(self) -> None:
        """Serve first, the agent after it: as on a host that shuts down."""
        try:
            super().finish()
        finally:
            self.agent.finish()


@contextmanager
def gateway(
    lab: Lab,
    yaml: str,
    *,
    workers: int = 2,
    agent: bool = True,
    armed: bool = True,
    user: int | None = UNPRIVILEGED,
    env: Mapping[str, str] | None = None,
    listen: str = "127.0.0.1",
    options: Sequence[str] = (),
    capabilities: Sequence[str] = CAPABILITIES,
    probes: bool = False,
) -> Iterator[Gateway]:
    """Serve `yaml` in the router until the block ends. With `agent` it runs too, and with `armed` its rules stand.

    `user=None` runs serve as root; another user has `capabilities` alone. `listen`: the address of its explicit
    listener, port 8080. `probes`: with those in the kernel, which take a second more to start.
    """
    folder = lab.folder / uuid.uuid4().hex[:8]
    folder.mkdir(mode=0o755)
    running = Gateway(
        lab,
        folder,
        workers=workers,
        user=user,
        env=env or {},
        listen=listen,
        options=options,
        capabilities=capabilities,
        probes=probes,
    )
    running.token = prepare(running.data, None, yaml)
    running.keys = keys_of(yaml)
    if user is not None:
        for path in (folder, running.data, *running.data.rglob("*")):
            os.chown(path, user, user)
    try:
        if agent:
            running.agent.start()
        running.start()
        if agent and armed:
            running.wait_armed()
        yield running
    finally:
        running.finish()


def downtime_s(attempt: Callable[[], bool], within_s: float, gap_s: float = 0.02) -> float:
    """Seconds until `attempt` succeeds for the first time. Raises AssertionError after `within_s`."""
    begun = time.monotonic()
    while not attempt():
        assert time.monotonic() - begun < within_s, f"still down after {within_s} s"
        time.sleep(gap_s)
    return time.monotonic() - begun
