"""`python -m gateway.supervisor`, what `sluicegate serve` becomes: the supervisor of one keeper and N workers.

It keeps the listening sockets open (one a worker, SO_REUSEPORT): a worker that dies leaves its queue of connections to
its successor. It does no work of its own, so that little can go wrong in it, and imports little, so that it is small:
what has to be checked and opened `gateway.server` has done and hands over (`gateway.handover`). Keeper and workers are
forked from a process that has imported what they need (`gateway.nursery`).

    SIGTERM, SIGINT   drain and end
    SIGHUP            read settings and certificate again, replace the workers one by one; where settings have changed,
                      the keeper, too
    SIGUSR2           upgrade: become the release that is installed now, then replace everything

A worker that is replaced goes on until its last answer has ended; only a new SIGTERM limits that.
"""

import contextlib
import json
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

import gateway
from gateway import handover
from gateway.certificate import CertificateRefused, load_certificate, stamp_of
from gateway.dataplane.listeners import Serves
from gateway.handover import Adopted, Handover, Process, Turn
from gateway.lifetime import REPLACED
from gateway.listening import sockets_of
from gateway.logs import log_to_stderr
from gateway.nursery import Argument, Nursery, NurseryFailed
from gateway.serve_settings import ServeSettings

log = logging.getLogger("sluicegate.serve")

READY_SECONDS: Final = 180.0
"""A busy machine may take long to start a process; until it is ready its predecessor serves."""
CHECK_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0
KEEPER_GRACE_S: Final = 10.0
EXPORTER_GRACE_S: Final = 6.0
CERTIFICATE_PAUSE_S: Final = 5.0
"""How often the certificate's files are looked at."""


@dataclass(slots=True)
class Child:
    """One supervised process. `sockets` are its listeners (none for the keeper)."""

    name: str
    module: str
    options: list[str] = field(default_factory=list)
    sockets: list[tuple[Serves, socket.socket]] = field(default_factory=list)
    process: Process | None = None
    started_s: float = 0.0
    pause_s: float = 0.05
    restart_at_s: float = 0.0

    def start(self, environment: dict[str, str]) -> None:
        """As an interpreter of its own."""
        argv = [sys.executable, "-m", self.module, *self.options, "--parent", str(os.getpid())]
        self.process = subprocess.Popen(argv, env=environment)  # noqa: S603 - our own interpreter
        self.started_s = time.monotonic()

    def bear(self, nursery: Nursery, variables: dict[str, str], certificate: int | None) -> int:
        """Have it forked; returns the read end of its readiness pipe. Raises NurseryFailed."""
        read_fd, write_fd = os.pipe()
        arguments: list[Argument] = [*self.options, "--parent", str(os.getpid()), "--ready-fd", ("", write_fd)]
        for serves, sock in self.sockets:
            arguments += ["--listener", (f"{serves}:", sock.fileno())]
        if self.sockets and certificate is not None:
            arguments += ["--tls-fd", ("", certificate)]
        try:
            self.process = nursery.bear(self.module, arguments, variables)
        except NurseryFailed:
            os.close(read_fd)
            raise
        finally:
            os.close(write_fd)
        self.started_s = time.monotonic()
        return read_fd

    def ended(self, now: float) -> None:
        """It is gone: start it again soon, later where it does not live long."""
        lived = now - self.started_s
        self.pause_s = 0.05 if lived > 5 else min(self.pause_s * 2, LONGEST_PAUSE_S)
        self.restart_at_s = now + self.pause_s
        self.process = None


class Supervisor:
    """Runs until SIGTERM or SIGINT."""

    def __init__(self, settings: ServeSettings, left: Handover) -> None:
        self._settings = settings
        self._started_by: list[str] = json.loads(os.environ.pop(handover.STARTED_BY))
        self._variables = settings.to_hand_down()
        self._certificate, self._stamp = left.certificate, stamp_of(settings)
        self._listeners = left.listeners
        self._nursery: Nursery | None = None
        self._nursing = Child("nursery", "gateway.nursery_main")
        self._keeper = Child("keeper", "gateway.store.keeper_main")
        self._workers = [
            Child(
                f"worker {slot}",
                "gateway.worker",
                ["--slot", str(slot)],
                sockets=sockets_of(self._listeners, slot, settings.workers),
            )
            for slot in range(settings.workers)
        ]
        self._exporters = [Child("otel", "gateway.telemetry.otel_main")] if settings.otel else []
        self._draining: list[Process] = []
        """Workers that were replaced and still have answers to end."""
        self._left = left
        if left.turn is not Turn.START:
            self._adopt(left)
        self._stop = self._reload = self._upgrade = False
        self._check: handover.Check | None = None

    def _adopt(self, left: Handover) -> None:
        self._draining = [Adopted(pid) for pid in left.draining]
        self._keeper.process = None if left.keeper is None else Adopted(left.keeper)
        for pid in left.exporters:  # it sends what it has, and this release's own goes on
            Adopted(pid).send_signal(signal.SIGTERM)
            self._draining.append(Adopted(pid))
        for slot, pid in enumerate(left.workers):
            if slot < len(self._workers):
                self._workers[slot].process = Adopted(pid)
            else:
                self._draining.append(Adopted(pid))
        now = time.monotonic()
        for child in self._children():
            child.started_s = now

    def run(self) -> int:
        wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGHUP, self._on_reload)
        signal.signal(signal.SIGUSR2, self._on_upgrade)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # wakes the loop
        signal.pthread_sigmask(signal.SIG_UNBLOCK, handover.HELD_BACK)
        if self._left.turn is Turn.UPGRADE:
            self._replace_keeper()
            self._replace_workers()
            self._revive()
            log.info("upgraded", extra={"release": gateway.__version__})
        else:
            self._revive()
            log.info("serving", extra={"listen": self._settings.listen, "workers": len(self._workers)})
        failed = self._left.turn is Turn.UNFIT
        self._tell("upgrade failed: the database could not be prepared, see the log" if failed else "serving")
        while not self._stop:
            with contextlib.suppress(InterruptedError):
                if wake_read in select.select(self._waited_for(wake_read), [], [], self._next_wait_s())[0]:
                    os.read(wake_read, 4096)
            self._revive()
            self._draining = [process for process in self._draining if process.poll() is None]
            if self._certificate is not None and stamp_of(self._settings) != self._stamp:
                self._reload = True
            if self._reload and not self._stop:
                self._reload = False
                self._read_again()
            if not self._stop:
                self._go_on_upgrading()
        return self._shut_down()

    def _children(self) -> tuple[Child, ...]:
        return (self._nursing, *self._exporters, *self._born())

    def _born(self) -> tuple[Child, ...]:
        """Those that the nursery bears."""
        return (self._keeper, *self._workers)

    def _on_stop(self, *_: object) -> None:
        self._stop = True

    def _on_reload(self, *_: object) -> None:
        self._reload = True

    def _on_upgrade(self, *_: object) -> None:
        self._upgrade = True

    def _nursery_is_ready(self) -> bool:
        return self._nursery is not None and self._nursery.is_ready()

    def _waited_for(self, wake: int) -> list[int]:
        """Signals, and the nursery as long as it imports."""
        return [wake] if self._nursery is None or self._nursery.is_ready() else [wake, self._nursery.fileno()]

    def _next_wait_s(self) -> float:
        startable = self._children() if self._nursery_is_ready() else (self._nursing, *self._exporters)
        due = [child.restart_at_s for child in startable if child.process is None]
        longest = 3600.0 if self._certificate is None else CERTIFICATE_PAUSE_S
        if self._check is not None:
            longest = CHECK_PAUSE_S
        return min(longest, max(0.0, min(due) - time.monotonic())) if due else longest

    def _bear(self, child: Child) -> int | None:
        """Its readiness pipe; None where it was not born and is tried again later."""
        if self._nursery is None:
            return None
        try:
            return child.bear(self._nursery, self._variables, self._certificate)
        except NurseryFailed as error:
            log.error("process not started", extra={"process_name": child.name, "error": str(error)})
            child.pause_s = min(child.pause_s * 2, LONGEST_PAUSE_S)
            child.restart_at_s = time.monotonic() + child.pause_s
            return None

    def _revive(self, *, but: Child | None = None) -> None:
        """Start again what has ended, `but` for one that is just being replaced."""
        now = time.monotonic()
        for child in self._children():
            if child is but:
                continue
            if child.process is not None and child.process.poll() is not None:
                ending = _ending(child.process.returncode)
                child.ended(now)
                if child is self._nursing:
                    self._end_nursery()
                log.warning("process ended, starts again", extra={"process_name": child.name, "ending": ending})
            if child.process is not None or now < child.restart_at_s or self._stop:
                continue
            if child is self._nursing:
                self._start_nursery()
            elif child in self._exporters:
                child.start({**os.environ, **self._variables})
            elif self._nursery_is_ready() and (ready := self._bear(child)) is not None:
                os.close(ready)

    def _start_nursery(self) -> None:
        self._end_nursery()
        self._nursery = Nursery.start(os.environ)
        self._nursing.process, self._nursing.started_s = self._nursery.process, time.monotonic()

    def _end_nursery(self) -> None:
        if self._nursery is not None:
            self._nursery.end()
        self._nursery = self._nursing.process = None

    # -- SIGHUP

    def _read_again(self) -> None:
        """Settings and certificate anew; what is wrong with them changes nothing."""
        stamp = stamp_of(self._settings)
        try:
            fresh = self._settings.read_again()
            stamp = stamp_of(fresh)
            certificate = load_certificate(fresh)
        except ValueError as error:
            log.error("settings not re-read, the present ones stay in force", extra={"error": str(error)})
            return
        except CertificateRefused as error:
            self._stamp = stamp
            log.error("certificate not re-read, the present one stays in force", extra={"error": error.message})
            return
        before, self._certificate, self._stamp = self._certificate, certificate, stamp
        if before is not None:
            os.close(before)
        changed, self._settings = fresh != self._settings, fresh
        self._variables = fresh.to_hand_down()
        if changed:  # else it is about the certificate, which is nothing to the keeper
            self._replace_keeper()
        if self._replace_workers():
            log.info("settings and certificates re-read, workers replaced")

    def _replace_workers(self) -> bool:
        """A successor for each worker on the same sockets; the old one drains once the new one serves."""
        complete = True
        for child in self._workers:
            old = child.process
            if not self._starts(child):
                log.error(
                    "a worker does not come up with the new settings; the old one goes on",
                    extra={"process_name": child.name},
                )
                child.process, complete = old, False
            elif old is not None:
                old.send_signal(REPLACED)
                self._draining.append(old)
        return complete

    def _starts(self, child: Child) -> bool:
        """Start it and wait until it is ready, the others looked after meanwhile; False where it is not, and gone."""
        until_s = time.monotonic() + READY_SECONDS
        self._revive(but=child)
        nursery = self._nursery
        while not self._nursery_is_ready():
            if nursery is None or self._nursery is not nursery or self._stop or time.monotonic() > until_s:
                return False  # one that dies of its imports will do so again
            select.select([nursery], [], [], 0.5)
            self._revive(but=child)
        ready = self._bear(child)
        if ready is None:
            return False
        try:
            while not self._stop and time.monotonic() < until_s:
                if select.select([ready], [], [], 0.5)[0]:
                    if os.read(ready, 1) == b"r":
                        return True
                    break
                self._revive(but=child)
        finally:
            os.close(ready)
        if child.process is not None:
            child.process.kill()
            child.process.wait()
        return False

    # -- SIGUSR2

    def _go_on_upgrading(self) -> None:
        """Where an upgrade is asked for, let the release that is installed now try itself first."""
        check = self._check
        if check is None:
            if self._upgrade:
                self._upgrade = False
                try:
                    self._check = handover.Check(handover.command(self._started_by))
                except OSError as error:
                    self._refuse_upgrade(str(error))
            return
        verdict = check.verdict()
        if verdict is None:
            return
        self._check = None
        if verdict:
            self._refuse_upgrade(verdict)
        else:
            self._hand_over(check.new)

    def _refuse_upgrade(self, reason: str) -> None:
        log.error("not upgraded, this release goes on", extra={"reason": reason})
        self._tell(f"upgrade failed: {reason}")

    def _hand_over(self, new: list[str]) -> None:
        """Become the new release."""
        log.info("upgrading, the installed release takes over", extra={"command": " ".join(new)})
        left = Handover(
            listeners=self._listeners,
            keeper=self._keeper.process.pid if self._keeper.process else None,
            workers=[child.process.pid for child in self._workers if child.process is not None],
            draining=[process.pid for process in self._draining],
            exporters=[child.process.pid for child in self._exporters if child.process is not None],
            certificate=self._certificate,
            turn=Turn.UPGRADE,
        )
        self._end_nursery()  # the new release's own has the new modules
        try:
            handover.hand_over(new, left)
        except OSError as error:
            self._refuse_upgrade(str(error))

    def _replace_keeper(self) -> None:
        """The successor waits for the lock, ready to go, before the old one ends: the gap is a few hundredths of a
        second. Killed, because all that it would do at its end is what the successor does at its beginning."""
        old = self._keeper.process
        if not self._starts(self._keeper):
            log.error("the new keeper does not start; the old one goes on")
            self._keeper.process = old
        elif old is not None:
            old.kill()
            old.wait()

    # -- what others may read, and the end

    def _tell(self, state: str) -> None:
        """`serve.json` in the data folder: who serves, for `sluicegate service upgrade`."""
        told = {"pid": os.getpid(), "version": gateway.__version__, "python": sys.executable, "state": state,
                "since": time.time()}  # fmt: skip
        path = self._settings.data / "serve.json"
        try:
            path.with_suffix(".new").write_text(json.dumps(told))
            path.with_suffix(".new").replace(path)
        except OSError as error:
            log.warning("serve.json cannot be written", extra={"error": error.strerror})

    def _shut_down(self) -> int:
        """Workers drain first, then the keeper takes their last records."""
        log.info("draining", extra={"at_most_s": self._settings.drain})
        self._end_nursery()
        for listener in self._listeners:
            listener.close()
        ending = [*self._draining, *(child.process for child in self._workers if child.process is not None)]
        for process in ending:
            process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._settings.drain + 5
        for process in ending:
            _wait(process, deadline - time.monotonic())
        for child, grace_s in ((self._keeper, KEEPER_GRACE_S), *((each, EXPORTER_GRACE_S) for each in self._exporters)):
            if child.process is not None:
                child.process.send_signal(signal.SIGTERM)
                _wait(child.process, grace_s)
        (self._settings.data / "serve.json").unlink(missing_ok=True)
        return 0


def _wait(process: Process, allowed_s: float) -> None:
    try:
        process.wait(max(0.1, allowed_s))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit {code}"


def main() -> int:
    left = handover.taken_over()
    if left is None:
        sys.exit("this is what `sluicegate serve` becomes; start that")
    settings = ServeSettings.handed_down()
    log_to_stderr(settings.log_level, settings.log_format, "serve")
    return Supervisor(settings, left).run()


if __name__ == "__main__":
    sys.exit(main())
