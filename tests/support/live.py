"""The real gateway as a user runs it: `sluicegate serve` with a data folder, a port and a configuration of its own.

    with live.gateway(tmp_path, yaml, workers=2) as running:
        client = openai.OpenAI(base_url=running.url + "/v1", api_key=running.key("ci"))

Its end is part of the test: it must exit 0 after SIGTERM and leave no process and no traceback behind.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import sqlalchemy
from ruamel.yaml import YAML

from tests.support.ports import free_port
from tests.support.preparation import prepare
from tests.support.processes import MARK, Process, marked

READY_WITHIN_S = float(os.environ.get("SLUICEGATE_TEST_READY_S", "60"))
"""A machine that does other things too needs more."""
DRAIN_S = 5.0
SUSPICIOUS = re.compile(r"Traceback|never retrieved|never awaited|ResourceWarning|Exception ignored")

Row = dict[str, Any]


class Live:
    """A running gateway. All waits are bounded and raise AssertionError with what was there instead."""

    def __init__(
        self, folder: Path, *, workers: int, database_url: str | None, env: Mapping[str, str], scheme: str = "http"
    ) -> None:
        self.data = folder / "data"
        self.port = free_port()
        self.url = f"{scheme}://127.0.0.1:{self.port}"
        self.database_url = database_url
        self.workers_wanted = workers
        self.log_file = folder / "serve.log"
        self.token = ""
        self.keys: dict[str, str] = {}
        self.tolerated: list[str] = []
        """Patterns of lines that a test's own doings put into the log, tracebacks included."""
        self._mark = uuid.uuid4().hex
        self._env = {**os.environ, MARK: self._mark, "PYTHONUNBUFFERED": "1", "PYTHONFAULTHANDLER": "1", **env}
        self._process: subprocess.Popen[bytes] | None = None
        self._engine: sqlalchemy.Engine | None = None
        self._api: httpx2.Client | None = None

    # ---- life --------------------------------------------------------------------------------------------------------
    def start(self, *options: str, ready: bool = True) -> None:
        """Start `sluicegate serve` (again); with `ready`, return once /readyz is 200 for every worker to be."""
        command = self.command(*options)
        with self.log_file.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self._env)
        if ready:
            self.wait_ready()

    def command(self, *options: str) -> list[str]:
        """The words that start it."""
        words = [str(Path(sys.executable).parent / "sluicegate"), "serve", "--listen", f"127.0.0.1:{self.port}"]
        words += ["--data", str(self.data), "--workers", str(self.workers_wanted), "--drain", str(DRAIN_S), *options]
        return [*words, "--database", self.database_url] if self.database_url else words

    def is_ready(self) -> bool:
        """What /readyz says, over a connection of its own."""
        return httpx2.get(self.url + "/readyz", timeout=2, verify=False).status_code == 200

    def wait_ready(self, within_s: float = READY_WITHIN_S) -> None:
        def all_workers() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, f"serve ended with {self._process.returncode}:\n{self.log_tail()}"
            return len(self.workers()) == self.workers_wanted

        def ready() -> bool:
            try:
                return self.is_ready()
            except httpx2.TransportError:
                return False

        # Each worker has its own socket and answers for itself: a few questions in a row reach them all.
        self.until(lambda: all_workers() and all(ready() for _ in range(6)), within_s)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor."""
        assert self._process is not None, "the gateway was not started"
        self._process.send_signal(number)

    def stop(self) -> int:
        """SIGTERM, and the exit code once it drained."""
        assert self._process is not None, "the gateway was not started"
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(DRAIN_S + 10)
        except subprocess.TimeoutExpired:
            for process in self.processes():
                process.kill(signal.SIGABRT)  # faulthandler writes their stacks into the log
            self._process.wait(5)
            raise

    @property
    def pid(self) -> int:
        """The supervisor's."""
        assert self._process is not None, "the gateway was not started"
        return self._process.pid

    def workers(self) -> list[Process]:
        return [process for process in marked(self._mark) if "gateway.worker" in process.command]

    def keeper(self) -> Process:
        found: list[Process] = []

        def there() -> bool:
            found[:] = [process for process in marked(self._mark) if "gateway.store.keeper_main" in process.command]
            return len(found) == 1

        self.until(there, 5)
        return found[0]

    def processes(self) -> list[Process]:
        return marked(self._mark)

    def kill_all(self) -> None:
        """`kill -9` of every process at once, as when the host's power goes."""
        for process in self.processes():
            process.kill(signal.SIGSTOP)
        for process in self.processes():
            process.kill()
        if self._process is not None:
            self._process.wait(5)

    def finish(self) -> None:
        """End it and judge how it ended."""
        code = None
        try:
            if self._process is not None and self._process.poll() is None:
                code = self.stop()
            survivors = [process for process in self.processes() if not process.wait(2)]
        finally:
            for process in self.processes():
                process.kill()
            if self._api is not None:
                self._api.close()
            if self._engine is not None:
                self._engine.dispose()
            if "PYTEST_CURRENT_TEST" in os.environ:  # shown where the test fails
                print(f"--- log of the gateway\n{self.log_tail(200)}")
        assert code in (None, 0), f"serve ended with {code} after SIGTERM"
        assert not survivors, f"left running: {survivors}"
        complaints = self.complaints()
        assert not complaints, "the log holds: " + "\n".join(complaints[:20])

    # ---- what it says and holds --------------------------------------------------------------------------------------
    def log(self) -> str:
        return self.log_file.read_text(errors="replace") if self.log_file.exists() else ""

    def log_tail(self, lines: int = 60) -> str:
        return "\n".join(self.log().splitlines()[-lines:])

    def complaints(self) -> list[str]:
        """Suspicious lines of the log, with the few that follow each."""
        lines = self.log().splitlines()
        found = [at for at, line in enumerate(lines) if SUSPICIOUS.search(line)]
        passages = ["\n".join(lines[at : at + 25]) for at in found]
        return [text for text in passages if not any(re.search(pattern, text) for pattern in self.tolerated)]

    def key(self, name: str) -> str:
        """The text of the API key that the configuration gave this name."""
        return self.keys[name]

    @property
    def api(self) -> httpx2.Client:
        """Speaks to the REST API as an owner."""
        if self._api is None:
            headers = {"authorization": f"Bearer {self.token}"}
            self._api = httpx2.Client(base_url=self.url, headers=headers, timeout=10)
        return self._api

    def apply(self, yaml: str, *, prune: bool = False) -> None:
        """Change the configuration while it runs, as `sluicegate apply --url` does."""
        query = {"prune": "true"} if prune else {}
        answer = self.api.post(
            "/api/v1/apply", content=yaml, params=query, headers={"content-type": "application/yaml"}
        )
        assert answer.status_code == 200, answer.text
        self.keys.update(keys_of(yaml))

    def ledger(self, request_id: str | None = None) -> list[Row]:
        """Every ledger row as it stands in SQL, oldest first; or the one of this request."""
        if self._engine is None:
            from gateway.settings import Settings

            url = Settings(data=self.data, database=self.database_url).database_url
            self._engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
        with self._engine.connect() as connection:
            chosen = "WHERE id = :id" if request_id else ""
            query = sqlalchemy.text(f"SELECT * FROM ledger {chosen} ORDER BY started_at_ns, id")
            rows = connection.execute(query, {"id": request_id} if request_id else {})
            return [dict(row) for row in rows.mappings()]

    def wait_for_rows(self, count: int, within_s: float = 5.0) -> list[Row]:
        """The ledger once it has that many rows; more of them is a failure too."""
        rows: list[Row] = []

        def enough() -> bool:
            rows[:] = self.ledger()
            return len(rows) >= count

        self.until(enough, within_s, lambda: f"{len(rows)} of {count} ledger rows: {rows[-3:]}")
        assert len(rows) == count, f"{len(rows)} ledger rows, not {count}"
        return rows

    def row(self, request_id: str | None, within_s: float = 5.0) -> Row:
        """The ledger row of a request."""
        assert request_id, "no request id was given"
        found: list[Row] = []

        def there() -> bool:
            found[:] = self.ledger(request_id)
            return bool(found)

        self.until(there, within_s, lambda: f"no ledger row {request_id}")
        assert len(found) == 1
        return found[0]

    def until(self, condition: Callable[[], bool], within_s: float, else_say: Callable[[], str] | None = None) -> None:
        """Wait for the condition. Raises AssertionError with the log's end when it does not come true in time."""
        deadline = time.monotonic() + within_s
        while not condition():
            if time.monotonic() > deadline:
                said = else_say() if else_say else "it did not come true"
                raise AssertionError(f"{said} within {within_s} s; log:\n{self.log_tail()}")
            time.sleep(0.02)


def keys_of(yaml: str) -> dict[str, str]:
    """Name → text of the API keys that a configuration spells out."""
    teams = (YAML(typ="safe").load(yaml) or {}).get("teams", [])
    apps = [app for team in teams for app in team.get("apps", [])]
    return {key["name"]: key["value"] for app in apps for key in app.get("keys", []) if "value" in key}


@contextmanager
def gateway(
    folder: Path,
    yaml: str,
    *,
    workers: int = 1,
    database_url: str | None = None,
    env: Mapping[str, str] | None = None,
    options: tuple[str, ...] = (),
    scheme: str = "http",
) -> Iterator[Live]:
    """Serve `yaml` from `folder` (which lasts) until the block ends. `env` and `options` are for `sluicegate serve`."""
    running = Live(folder, workers=workers, database_url=database_url, env=env or {}, scheme=scheme)
    running.token = prepare(running.data, database_url, yaml)
    running.keys = keys_of(yaml)
    try:
        running.start(*options)
        yield running
    finally:
        running.finish()


@contextmanager
def beside(first: Live, folder: Path, *, workers: int = 1, env: Mapping[str, str] | None = None) -> Iterator[Live]:
    """Another gateway with a folder of its own, on the database of one that runs (PostgreSQL)."""
    running = Live(folder, workers=workers, database_url=first.database_url, env=env or {})
    running.data.mkdir(mode=0o700, parents=True)
    shutil.copy(first.data / "sealing.key", running.data)
    running.token, running.keys = first.token, first.keys
    try:
        running.start()
        yield running
    finally:
        running.finish()
