"""`sluicegate serve`: the supervisor of one keeper and N workers.

It opens the listening sockets (one a worker, SO_REUSEPORT) and keeps them open: a worker that dies leaves its queue of
connections to its successor. It does no work of its own, so that little can go wrong in it.
"""

import contextlib
import importlib.util
import logging
import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Final

from gateway.errors import BadRequest
from gateway.logs import log_to_stderr
from gateway.settings import Settings, split_address

log = logging.getLogger("sluicegate.serve")

BACKLOG: Final = 4096
READY_SECONDS: Final = 60.0
LONGEST_PAUSE_S: Final = 2.0
KEEPER_GRACE_S: Final = 10.0
EXPORTER_GRACE_S: Final = 6.0


@dataclass(slots=True)
class Child:
    """One supervised process. `sockets` are its listeners (none for the keeper)."""

    name: str
    argv: list[str]
    sockets: list[socket.socket] = field(default_factory=list)
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    pause_s: float = 0.05
    restart_at_s: float = 0.0

    def start(self, environment: dict[str, str]) -> int:
        """Start the process; returns the read end of its readiness pipe."""
        read_fd, write_fd = os.pipe()
        argv = [*self.argv, "--parent", str(os.getpid())]
        passed = [sock.fileno() for sock in self.sockets]
        if self.sockets:
            for fd in passed:
                argv += ["--fd", str(fd)]
            argv += ["--ready-fd", str(write_fd)]
            passed.append(write_fd)
        self.process = subprocess.Popen(argv, pass_fds=passed, env=environment)  # noqa: S603 - our own interpreter
        os.close(write_fd)
        self.started_s = time.monotonic()
        return read_fd


class Supervisor:
    """Runs until SIGTERM or SIGINT; SIGHUP re-reads the settings and replaces the workers one by one."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._environment = {**os.environ, **settings.to_hand_down()}
        self._keeper = Child("keeper", [sys.executable, "-m", "gateway.store.keeper_main"])
        self._workers = [
            Child(
                f"worker {slot}",
                [sys.executable, "-m", "gateway.worker", "--slot", str(slot)],
                sockets=list(sockets),
            )
            for slot, sockets in enumerate(_listeners(settings))
        ]
        self._exporters = (
            [Child("otel", [sys.executable, "-m", "gateway.telemetry.otel_main"])] if settings.otel else []
        )
        self._stop = False
        self._reload = False

    def run(self) -> int:
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes the loop
        for child in self._children:
            os.close(child.start(self._environment))
        log.info("serving", extra={"listen": self._settings.listen, "workers": len(self._workers)})
        while not self._stop:
            with contextlib.suppress(InterruptedError):
                if select.select([wake_read], [], [], self._next_wait_s())[0]:
                    os.read(wake_read, 4096)
            self._revive()
            if self._reload and not self._stop:
                self._reload = False
                self._replace_workers()
        return self._shut_down()

    @property
    def _children(self) -> tuple[Child, ...]:
        return (self._keeper, *self._workers, *self._exporters)

    def _on_stop(self, *_: object) -> None:
        self._stop = True

    def _on_reload(self, *_: object) -> None:
        self._reload = True

    def _next_wait_s(self) -> float:
        due = [child.restart_at_s for child in self._children if child.process is None]
        return max(0.0, min(due) - time.monotonic()) if due else 3600.0

    def _revive(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.process is not None and child.process.poll() is not None:
                lived = now - child.started_s
                child.pause_s = 0.05 if lived > 5 else min(child.pause_s * 2, LONGEST_PAUSE_S)
                child.restart_at_s = now + child.pause_s
                log.warning(
                    "process ended, starts again",
                    extra={"process_name": child.name, "ending": _ending(child.process.returncode)},
                )
                child.process = None
            if child.process is None and now >= child.restart_at_s and not self._stop:
                os.close(child.start(self._environment))

    def _replace_workers(self) -> None:
        """A successor for each worker on the same sockets; the old one drains once the new one serves."""
        try:
            fresh = self._settings.read_again()
        except ValueError as error:
            log.error("settings not re-read, the present ones stay in force", extra={"error": str(error)})
            return
        self._settings = fresh
        self._environment = {**os.environ, **fresh.to_hand_down()}
        draining = []
        for child in self._workers:
            old = child.process
            ready = child.start(self._environment)
            served = bool(select.select([ready], [], [], READY_SECONDS)[0]) and os.read(ready, 1) == b"r"
            os.close(ready)
            if not served and child.process is not None:
                log.error(
                    "a worker does not come up with the new settings; the old one goes on",
                    extra={"process_name": child.name},
                )
                child.process.kill()
                child.process.wait()
                child.process = old
                continue
            if old is not None:
                old.terminate()
                draining.append(old)
        for process in draining:
            _wait(process, fresh.drain + 5)
        log.info("settings and certificates re-read, workers replaced")

    def _shut_down(self) -> int:
        """Workers drain first, then the keeper takes their last records."""
        log.info("draining", extra={"at_most_s": self._settings.drain})
        for child in self._workers:
            for sock in child.sockets:
                sock.close()
            if child.process is not None:
                child.process.terminate()
        deadline = time.monotonic() + self._settings.drain + 5
        for child in self._workers:
            if child.process is not None:
                _wait(child.process, deadline - time.monotonic())
        if self._keeper.process is not None:
            self._keeper.process.terminate()
            _wait(self._keeper.process, KEEPER_GRACE_S)
        for child in self._exporters:
            if child.process is not None:
                child.process.terminate()
                _wait(child.process, EXPORTER_GRACE_S)
        return 0


def serve(settings: Settings) -> int:
    """Run the gateway until it is told to end; returns the exit code. Raises SluicegateError when it cannot start."""
    from gateway.store.database import make_engine
    from gateway.store.migrate import upgrade

    log_to_stderr(settings.log_level, settings.log_format, "serve")
    if settings.otel:
        _require_opentelemetry()
    os.umask(0o077)
    settings.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.spool_folder.mkdir(mode=0o700, exist_ok=True)
    engine = make_engine(settings.database_url)
    upgrade(engine)
    engine.dispose()
    return Supervisor(settings).run()


def _require_opentelemetry() -> None:
    """Raises BadRequest where `otel` is on and its packages are not there."""
    for package in ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http"):
        try:
            found = importlib.util.find_spec(package) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            raise BadRequest(
                f"`otel` is on, and the package {package} is not installed",
                fix="install it: ./install.sh --with otel, or pip install 'sluicegate[otel]'; or turn `otel` off",
            )


def _listeners(settings: Settings) -> list[list[socket.socket]]:
    """For each worker its own listening sockets on the shared addresses. Raises OSError naming the address."""
    addresses = [settings.listen] + ([settings.admin_listen] if settings.admin_listen else [])
    for address in addresses:
        _refuse_taken(address)
    return [[_listen(address) for address in addresses] for _ in range(settings.workers)]


def _listen(address: str) -> socket.socket:
    host, port = split_address(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6 and host == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind((host, port))
    sock.listen(BACKLOG)
    return sock


def _refuse_taken(address: str) -> None:
    """Another gateway on the same port would share its connections with us unseen: SO_REUSEPORT allows that."""
    host, port = split_address(address)
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from error


def _wait(process: subprocess.Popen[bytes], allowed_s: float) -> None:
    try:
        process.wait(max(0.1, allowed_s))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit {code}"
