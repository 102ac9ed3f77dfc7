"""`sluicegate agent`: the privileged helper beside `serve`. It holds what only root may do, and little else.

    rules ← workers' snapshots      listeners → workers (SCM_RIGHTS)      tables, routes, heartbeat → kernel

It may die and return at any time: what it captured lives on in the workers, and what it must not leave open it has put
into a table that outlives it (docs/interception.md).
"""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import signal
import socket
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import gateway
from gateway import privileges
from gateway.intercept import ruleset
from gateway.intercept.capture import Capture, Wanted
from gateway.intercept.desk import Desk, open_socket
from gateway.intercept.libnftables import Nftables
from gateway.intercept.listeners import Listeners
from gateway.intercept.marks import Marks, choose, used_bits
from gateway.intercept.memory import Known, Memory
from gateway.intercept.names import Names
from gateway.intercept.policy_routes import PolicyRoutes, changes
from gateway.intercept.status import status_of
from gateway.intercept.table_events import TableEvents
from gateway.intercept.tables import remove
from gateway.policy.interception import InterceptionRule

log = logging.getLogger("sluicegate.agent")

KEPT_CAPABILITIES: Final = frozenset((privileges.NET_ADMIN,))
"""For tables, policy routes and transparent sockets. docs/interception.md has the table by feature."""
BEAT_S: Final = 1.0
SETTLE_S: Final = 0.05
"""Changes that come together are acted upon together."""
LOOK_S: Final = 10.0
"""How often the tables are looked at although nobody has told of a change."""
FIRST_NAMES_S: Final = 1.0
RTNETLINK_WATCHED: Final = ("RTM_DELRULE", "RTM_NEWRULE", "RTM_DELROUTE", "RTM_NEWLINK", "RTM_DELLINK")


class AgentFailed(Exception):
    """The agent cannot start; the text says why and what to do."""


class Agent:
    """The running agent; what `Desk` serves (`desk.Interceptor`)."""

    def __init__(self, capture: Capture, memory: Memory, known: Known, sock: socket.socket, owner_uid: int) -> None:
        self._capture = capture
        self._memory = memory
        self._known = known
        self._desk = Desk(self, sock, owner_uid)
        self._due = asyncio.Event()
        self._again = False
        self._settled = asyncio.Event()
        self._try_until_s: float | None = None
        """Unix time at which interception goes down by itself, unless it is confirmed."""
        self.started_at_s = time.time()
        self._told: tuple[tuple[str, int], ...] = ()
        """Listeners that the workers have been told of."""
        capture.wanted = Wanted(rules=known.rules, up=known.up)

    # -- what the desk asks

    @property
    def upstream_mark(self) -> int:
        return self._capture.marks.upstream

    @property
    def listening(self) -> dict[str, socket.socket]:
        return self._capture.listeners.all

    @property
    def host_names(self) -> dict[str, list[str]]:
        hosts = {host for rule in self._known.rules for host in rule.hosts}
        return {host: list(self._capture.names.addresses(host)) for host in sorted(hosts)}

    def rules_told(self, rules: list[InterceptionRule]) -> None:
        if rules == self._known.rules:
            return
        self._known.rules = rules
        self._remember()
        self._wake()

    def workers_changed(self) -> None:
        if not self._desk.living:
            self._capture.stop_beating()  # at once: nobody would answer what is captured from now on
        self._wake()

    def status(self) -> dict[str, Any]:
        self._capture.read_counters()
        return status_of(
            self._capture,
            self._desk,
            release=gateway.__version__,
            started_at_s=self.started_at_s,
            try_until_s=self._try_until_s,
        )

    async def order(self, what: str, options: dict[str, Any]) -> dict[str, Any]:
        """`up` (with `try_s`: seconds after which it goes down again unless `up` comes once more) and `down`."""
        if what == "up":
            seconds = options.get("try_s")
            if seconds is not None and not 0 < float(seconds) <= 86400:
                raise ValueError("a trial takes more than 0 s and at most a day")
            self._try_until_s = None if seconds is None else time.time() + float(seconds)
            self._set_up(True)
            if seconds is not None:
                asyncio.get_running_loop().call_later(float(seconds), self._end_trial, self._try_until_s)
        elif what == "down":
            self._try_until_s = None
            self._set_up(False)
        else:
            raise ValueError(f"this agent knows no order {what!r}")
        self._settled.clear()
        self._wake()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5.0):
                await self._settled.wait()
        return self.status()

    def _set_up(self, up: bool) -> None:
        self._capture.wanted.up = self._known.up = up
        self._remember()

    def _remember(self) -> None:
        """A trial that nobody confirms is down, also where the agent does not live to see its end."""
        self._memory.write(replace(self._known, up=self._known.up and self._try_until_s is None))

    def _end_trial(self, until_s: float | None) -> None:
        if self._try_until_s is None or self._try_until_s != until_s:
            return
        log.warning("nobody confirmed the trial: interception goes down")
        self._try_until_s = None
        self._set_up(False)
        self._wake()

    # -- the loop

    def _wake(self) -> None:
        self._due.set()

    def names_changed(self) -> None:
        self._desk.tell_names()
        self._wake()

    async def run(self) -> None:
        self._desk.open()
        async with asyncio.TaskGroup() as group:
            for coroutine in (
                self._capture.names.run(),
                self._desk.run(),
                self._act(),
                self._beat(),
                self._watch_tables(),
                self._watch_routes(),
            ):
                group.create_task(coroutine)

    async def _act(self) -> None:
        """Bring what stands into line with what is wanted."""
        capture = self._capture
        capture.names.follow(host for rule in self._known.rules for host in rule.hosts)
        await asyncio.sleep(0)
        await capture.names.looked_up(FIRST_NAMES_S)
        while True:
            self._due.clear()
            wanted = capture.wanted
            wanted.rules = self._known.rules
            wanted.alive = bool(self._desk.living)
            wanted.served = self._desk.served
            wanted.exempt_uids = self._desk.exempt_uids
            wanted.flows = self._desk.flows.total()
            again, self._again = self._again, False
            numbers = dict(capture.numbers)
            await capture.reconcile(again=again)
            if capture.numbers != numbers:
                self._remember()
            told = tuple((name, sock.getsockname()[1]) for name, sock in self.listening.items())
            if told != self._told:
                self._told = told
                self._desk.tell_listeners()
                self._desk.tell_names()
            self._settled.set()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0 if wanted.flows and not wanted.up else LOOK_S):
                    await self._due.wait()
            await asyncio.sleep(SETTLE_S)

    async def _beat(self) -> None:
        while True:
            if self._desk.living and self._capture.wanted.alive:
                self._capture.beat()
            self._capture.read_counters()
            if self._capture.cgroups_moved():
                self._wake()
            await asyncio.sleep(BEAT_S)

    # -- what others do

    async def _watch_tables(self) -> None:
        """`nft flush ruleset`, `nft delete table`, … by somebody else: mended as soon as it is seen."""
        with TableEvents() as events:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await events.next()
                await asyncio.sleep(SETTLE_S)
                if not self._capture.stands():
                    self._capture.note_repair("our nftables rules had been changed or deleted")
                    self._again = True
                    self._wake()

    async def _watch_routes(self) -> None:
        async for event in changes():
            if event in RTNETLINK_WATCHED:
                self._wake()


def choose_marks(nft: Nftables, fwmarks: list[tuple[int, int]], before: Marks | None) -> Marks:
    """Bits that nobody else uses; those of our last life, where that is still so: connections of then carry them."""
    texts = []
    for listed in nft.list("list tables"):
        table = listed.get("table")
        if table is not None and not str(table["name"]).startswith("sluicegate"):
            texts.append(nft.text(f"list table {table['family']} {table['name']}"))
    used = used_bits(texts, fwmarks)
    if before is not None and not used & (before.forwarded | before.upstream | before.local | before.field):
        return before
    return choose(used)


async def serve(sock: socket.socket, memory: Memory, owner_uid: int) -> None:
    """Run until SIGTERM or SIGINT. Raises NftablesMissing, NoFreeMarks, NetlinkError."""
    known = memory.read()
    nft = Nftables()
    holder: list[Agent] = []
    names = Names(lambda: holder[0].names_changed())
    async with PolicyRoutes() as routes:
        known.marks = choose_marks(nft, await routes.fwmarks(), known.marks)
        memory.write(known)
        capture = Capture(nft, routes, names, Listeners(), known.marks, numbers=known.numbers)
        agent = Agent(capture, memory, known, sock, owner_uid)
        holder.append(agent)
        running = asyncio.get_running_loop().create_task(agent.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        log.info("agent ready", extra={"rules": len(known.rules), "up": known.up})
        with contextlib.suppress(asyncio.CancelledError):
            await running
    nft.close()
    log.info("agent ended; on_failure of each rule decides from now on")


def clean_up(path: Path) -> None:
    """Take away what an agent left behind, and keep it so. Raises AgentFailed, OSError."""
    nft = Nftables()
    nft.run(remove(ruleset.OWNER_TABLE, owner=True) + remove(ruleset.PLAIN_TABLE))

    async def remove_routes() -> None:
        async with PolicyRoutes() as routes:
            await routes.remove()

    asyncio.run(remove_routes())
    if path.parent.is_dir():
        memory = Memory(path.with_suffix(".state"))
        known = memory.read()
        known.up = False
        memory.write(known)


def lock_network() -> AbstractContextManager[object]:
    """Held as long as this agent lives: a second one in this network namespace, whatever its data folder, would undo
    what the first does. Raises AgentFailed."""
    path = Path(f"/run/sluicegate-agent-{Path('/proc/self/ns/net').stat().st_ino}.lock")
    try:
        held = path.open("w")
    except OSError as error:  # a unit may make /run read-only
        log.warning("a second agent would not be noticed", extra={"path": str(path), "reason": error.strerror})
        return contextlib.nullcontext()
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held.close()
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise AgentFailed("an agent of another data folder runs on this host: stop it first") from error
        raise
    return held


def run(path: Path) -> None:
    """Raises AgentFailed."""
    if privileges.NET_ADMIN not in privileges.effective():
        raise AgentFailed("the agent needs CAP_NET_ADMIN: start it as root (sudo sluicegate agent)")
    try:
        folder = path.parent.stat()
        memory = Memory(path.with_suffix(".state"))
    except FileNotFoundError as error:
        raise AgentFailed(
            f"{path.parent} does not exist: start `sluicegate serve` first, or name its --data"
        ) from error
    try:
        fcntl.flock(memory.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise AgentFailed(f"an agent runs already on {path}") from error
        raise
    only_one = lock_network()
    os.umask(0o077)
    sock = open_socket(path, folder.st_uid, folder.st_gid)
    kept = privileges.keep_only(KEPT_CAPABILITIES)
    log.info("privileges given up", extra={"capabilities": len(kept)})
    with only_one:
        asyncio.run(serve(sock, memory, folder.st_uid))
