"""A real PostgreSQL of our own: its own data folder, its own port, gone when its owner is gone.

One server lives as long as a pytest process and hands out a fresh database per test; a test that stops or kills the
server takes one for itself (`own_postgres`). Durability is off: what is tested is our SQL, not PostgreSQL's fsync.
"""

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

from tests.support.ports import free_port

OLDEST_VERSION = 15
SERVER_OPTIONS = (
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "max_connections=200",
    "shared_buffers=32MB",
    "autovacuum=off",
    "timezone=Asia/Kolkata",  # nobody's UTC: times that lean on the server's zone are found out
)


def binaries() -> Path:
    """The folder of the newest PostgreSQL programs of this host. Raises FileNotFoundError naming the remedy."""
    installed = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if (path / "initdb").exists()]
    found = max(installed, key=lambda path: int(path.parent.name), default=None)
    if found is None or int(found.parent.name) < OLDEST_VERSION:
        raise FileNotFoundError("PostgreSQL 15 or newer is missing: apt-get install postgresql, or use tests/run")
    return found


def as_postgres() -> list[str | Path]:
    """PostgreSQL refuses to run as root: then it runs as the package's own user."""
    if os.geteuid() != 0:
        return []
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]


class Postgres:
    """One server. `start` and `stop` may be called in turns; `remove` ends it and deletes its folder."""

    def __init__(self) -> None:
        self.port = 0
        """From the first start on."""
        self._folder = Path(tempfile.mkdtemp(prefix="sluicegate-pg-"))
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self._folder, owner.pw_uid, owner.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._log = self._folder / "server.log"
        subprocess.run(
            [*as_postgres(), binaries() / "initdb", "--pgdata", self._folder / "data", "--username=sluicegate"]
            + ["--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd=self._folder,
        )

    def url(self, database: str) -> str:
        return f"postgresql://sluicegate@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Returns once it answers queries. Raises RuntimeError with the server's log when it does not."""
        if self.port:
            self._start()
            return
        for attempt in range(5):
            self.port = free_port()
            try:
                self._start()
            except RuntimeError as error:
                if attempt == 4 or "Address already in use" not in str(error):
                    raise  # else another test's server was quicker
            else:
                return

    def _start(self) -> None:
        options = [argument for option in SERVER_OPTIONS for argument in ("-c", option)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                # SIGINT is PostgreSQL's fast shutdown: nothing is left behind even when pytest is killed.
                [*(as_postgres() or ["setpriv"]), "--pdeathsig=INT", binaries() / "postgres"]
                + ["-D", self._folder / "data", "-p", str(self.port), *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
            )
        for attempt in itertools.count():
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError as error:
                if attempt == 400 or self._process.poll() is not None:
                    raise RuntimeError(f"PostgreSQL does not start: {self._log.read_text()[-2000:]}") from error
            time.sleep(0.025)

    def stop(self) -> None:
        """Fast shutdown: clients are cut off, as when a database host goes away."""
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)
            self._process.wait(30)
            self._process = None

    def pause(self) -> None:
        """Every process of the server stands still: connections stay open and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        assert self._process is not None, "the server is not running"
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        for pid in [self._process.pid, *map(int, children)]:
            os.kill(pid, number)

    def new_database(self, template: str = "template0") -> str:
        """A fresh database; its name."""
        name = f"test_{next(self._numbers)}"
        self._administer(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def drop_database(self, name: str) -> None:
        self._administer(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _administer(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
