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
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import gateway
from gateway import privileges
from gateway.intercept import arrivals, host_facts, ruleset, succession
from gateway.intercept.arrivals import Arrivals
from gateway.intercept.canary import Canary
from gateway.intercept.capture import Capture, Wanted
from gateway.intercept.desk import Desk, open_socket
from gateway.intercept.libnftables import Nftables, NftablesMissing
from gateway.intercept.listeners import Listeners
from gateway.intercept.marks import Marks, choose, used_bits
from gateway.intercept.memory import Known, Memory
from gateway.intercept.names import Names
from gateway.intercept.policy_routes import PolicyRoutes, changes
from gateway.intercept.status import status_of
from gateway.intercept.succession import Left
from gateway.intercept.table_events import TableEvents
from gateway.intercept.tables import remove
from gateway.logs import LogFormat
from gateway.policy.interception import InterceptionRule
from gateway.probes import pins, tracefs
from gateway.probes.prober import Prober
from gateway.probes.scope import NoCgroup, Scope

log = logging.getLogger("sluicegate.agent")

KEPT_CAPABILITIES: Final = frozenset((privileges.NET_ADMIN, privileges.BPF, privileges.PERFMON, privileges.SYS_PTRACE))
"""NET_ADMIN for tables, policy routes and transparent sockets, the others for probes. docs/interception.md has the
table by feature."""
BEAT_S: Final = 1.0
SETTLE_S: Final = 0.05
"""Changes that come together are acted upon together."""
FOLDER_PAUSE_S: Final = 0.2
LOOK_S: Final = 10.0
"""How often the tables are looked at although nobody has told of a change."""
LOCKS: Final = Path("/run/sluicegate-agent")
FIRST_NAMES_S: Final = 1.0
WORKERS_RETURN_S: Final = 10.0
"""How long an upgraded agent waits for the workers before it builds a table of its own."""
ORDER_S: Final = 3.0
"""How long an order's answer waits for what was ordered."""
ANSWER_S: Final = 0.1
"""Between an order to upgrade and the upgrade itself: the answer has left by then."""
RTNETLINK_WATCHED: Final = (
    "RTM_DELRULE", "RTM_NEWRULE", "RTM_DELROUTE", "RTM_NEWLINK", "RTM_DELLINK", "RTM_NEWADDR", "RTM_DELADDR",
)  # fmt: skip


class AgentFailed(Exception):
    """The agent cannot start; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """What an agent starts with."""

    sock: socket.socket
    path: str
    owner_uid: int
    """The gateway's user; it and root may speak with us."""
    lock: int | None
    """Of this network namespace."""
    log_level: str
    log_format: LogFormat
    probes: bool = True
    cgroup: str | None = None
    """That the probes are about; its folder."""
    left: Left | None = None
    """By the release before, where this one takes over."""

    @property
    def owner_table(self) -> str:
        """The name that the release before does not use."""
        first, second = ruleset.OWNER_TABLES
        return second if self.left is not None and self.left.owner_table == first else first


class Agent:
    """The running agent; what `Desk` serves (`desk.Interceptor`)."""

    def __init__(self, capture: Capture, memory: Memory, known: Known, begin: Beginning) -> None:
        self._capture = capture
        self._memory = memory
        self._known = known
        self._begin = begin
        self._prober = Prober(
            wanted=begin.probes, cgroup=begin.cgroup, log_level=begin.log_level, log_format=begin.log_format
        )
        self._desk = Desk(self, self._prober, begin.sock, begin.owner_uid)
        self._due = asyncio.Event()
        self.canary = Canary()
        self._arrivals = Arrivals()
        self._again = False
        self._settled = asyncio.Event()
        self._try_until_s: float | None = None
        """Unix time at which interception goes down by itself, unless it is confirmed."""
        self.started_at_s = time.time()
        self.upgraded_at_s: float | None = None
        self._upgrading = False
        self._inherited: list[int] = []
        """Netlink sockets of the release before: with them goes its table."""
        self._told: tuple[tuple[str, int], ...] = ()
        """Listeners that the workers have been told of."""
        capture.wanted = Wanted(rules=known.rules, up=known.up)
        capture.names.on_change = self.names_changed
        if begin.left is not None:
            self._take_over(begin.left)

    def _take_over(self, left: Left) -> None:
        self.started_at_s, self.upgraded_at_s = left.started_at_s, time.time()
        self._inherited = left.netlink
        self._try_until_s = left.try_until_s
        self._desk.counted.update(left.worker_counts)
        self._capture.names.know(left.addresses)
        self._capture.counted_before = {rule: Counter(counts) for rule, counts in left.kernel_counts.items()}
        if left.try_until_s is not None:
            self._capture.wanted.up = self._known.up = True
            wait_s = max(0.0, left.try_until_s - time.time())
            asyncio.get_running_loop().call_later(wait_s, self._end_trial, left.try_until_s)

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

    def offered(self, listeners: Mapping[str, socket.socket]) -> None:
        for rule, sock in listeners.items():
            current = self.listening.get(rule)
            served = current is not None and current.getsockname()[1] in self._desk.served
            if not served:
                self._capture.listeners.adopt(rule, sock)

    def rules_told(self, rules: list[InterceptionRule]) -> None:
        if rules == self._known.rules:
            return
        self._known.rules = rules
        self._remember()
        self._wake()

    def workers_changed(self) -> None:
        self._prober.watch([worker.peer.pid for worker in self._desk.living], self.upstream_mark)
        if not self._desk.living:
            self._capture.stop_beating()  # at once: nobody would answer what is captured from now on
        self._wake()

    def status(self) -> dict[str, Any]:
        self._capture.read_counters()
        return status_of(
            self._capture,
            self._desk,
            self._prober,
            release=gateway.__version__,
            started_at_s=self.started_at_s,
            upgraded_at_s=self.upgraded_at_s,
            taking_over=bool(self._inherited),
            try_until_s=self._try_until_s,
            canary=self.canary,
            arrivals=self._arrivals,
        )

    async def order(self, what: str, options: dict[str, Any]) -> dict[str, Any]:
        """`up` (with `try_s`: seconds after which it goes down again unless `up` comes once more), `down`, and
        `upgrade`: become the installed release."""
        if what == "up":
            seconds = options.get("try_s")
            if seconds is not None and not 0 < float(seconds) <= 86400:
                raise ValueError("a trial takes more than 0 s and at most a day")
            self._try_until_s = None if seconds is None else time.time() + float(seconds)
            self._set_up(True)
            await self._act_upon(lambda: all(self._capture.is_armed(rule.name) for rule in self._known.rules))
            if seconds is not None:
                asyncio.get_running_loop().call_later(float(seconds), self._end_trial, self._try_until_s)
        elif what == "down":
            self._try_until_s = None
            self._set_up(False)
            await self._act_upon(lambda: True)
        elif what == "upgrade":
            await self._prepare_upgrade()
        else:
            raise ValueError(f"this agent knows no order {what!r}")
        return self.status()

    async def _act_upon(self, done: Callable[[], bool]) -> None:
        """Bring the kernel into line, until `done` or for `ORDER_S`: then the status says what is missing."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ORDER_S):
                while True:
                    self._settled.clear()
                    self._wake()
                    await self._settled.wait()
                    if done():
                        return

    def _set_up(self, up: bool) -> None:
        self._capture.wanted.up = self._known.up = up
        self._remember()

    def _remember(self) -> None:
        """A trial that nobody confirms is down, also where the agent does not live to see its end."""
        try:
            self._memory.write(replace(self._known, up=self._known.up and self._try_until_s is None))
        except OSError as error:
            log.error("a restart would not know of this change", extra={"error": str(error)})

    def _end_trial(self, until_s: float | None) -> None:
        if self._try_until_s is None or self._try_until_s != until_s:
            return
        log.warning("nobody confirmed the trial: interception goes down")
        self._try_until_s = None
        self._set_up(False)
        self._wake()

    # -- upgrade

    def upgrade_asked(self) -> None:
        """By SIGUSR2."""
        self._tasks.create_task(self._upgrade_or_say_why())

    async def _upgrade_or_say_why(self) -> None:
        try:
            await self._prepare_upgrade()
        except ValueError as error:
            log.error("not upgraded, this release goes on", extra={"reason": str(error)})

    async def _prepare_upgrade(self) -> None:
        """Hand over shortly. Raises ValueError where the installed release would not start."""
        if self._upgrading or self._inherited:
            raise ValueError("an upgrade is under way already")
        self._upgrading = True
        new = succession.command()
        reason = await succession.objection(new)
        if reason is not None:
            self._upgrading = False
            raise ValueError(f"the installed release does not start: {reason}")
        asyncio.get_running_loop().call_later(ANSWER_S, self._hand_over, new)

    def _hand_over(self, new: list[str]) -> None:
        capture, begin = self._capture, self._begin
        capture.read_counters()
        if capture.beating:
            capture.beat(ruleset.UPGRADE_S)
        counted = self._desk.counted
        left = Left(
            socket=begin.sock.fileno(), memory=self._memory.fileno(), netlink=succession.netlink_descriptors(),
            listeners={rule: sock.fileno() for rule, sock in self.listening.items()},
            path=begin.path, owner_uid=begin.owner_uid, lock=begin.lock, owner_table=capture.owner_name,
            workers=len(self._desk.living), addresses=self.host_names,
            kernel_counts=capture.counted(), worker_counts=dict(counted),
            started_at_s=self.started_at_s, try_until_s=self._try_until_s,
            log_level=begin.log_level, log_format=begin.log_format,
            probes=begin.probes, cgroup=begin.cgroup,
        )  # fmt: skip
        log.info("upgrading, the installed release takes over", extra={"command": " ".join(new)})
        self._prober.close()
        try:
            succession.hand_over(new, left)
        except OSError as error:
            log.error("not upgraded, this release goes on", extra={"reason": str(error)})
            self._upgrading = False

    async def _workers_return(self) -> None:
        """Wait until they have told what they serve; what stands captures meanwhile."""
        left = self._begin.left
        if left is None:
            return
        ports = {sock.getsockname()[1] for sock in self.listening.values()}
        until_s = time.monotonic() + WORKERS_RETURN_S
        while sum(worker.serving >= ports for worker in self._desk.living) < left.workers:
            if time.monotonic() > until_s:
                log.warning("not all workers have come back", extra={"were": left.workers})
                return
            await asyncio.sleep(SETTLE_S)

    def _release_inherited(self) -> None:
        if self._inherited:
            succession.release(self._inherited)
            self._inherited = []
            log.info("upgraded", extra={"release": gateway.__version__})

    # -- the loop

    def _wake(self) -> None:
        self._due.set()

    def names_changed(self) -> None:
        self._desk.tell_names()
        self._wake()

    async def run(self) -> None:
        self._desk.open()
        async with asyncio.TaskGroup() as self._tasks:
            for coroutine in (
                self._capture.names.run(),
                self._desk.run(),
                self._act(),
                self._beat(),
                self._watch_tables(),
                self._watch_routes(),
                self._sing(),
                self._count_arrivals(),
                self._find_containers(),
                self._prober.run(),
            ):
                self._tasks.create_task(coroutine)

    async def _act(self) -> None:
        """Bring what stands into line with what is wanted."""
        capture = self._capture
        capture.names.follow(host for rule in self._known.rules for host in rule.hosts)
        await asyncio.sleep(0)
        await capture.names.looked_up(FIRST_NAMES_S)
        sang = False
        await self._workers_return()
        while True:
            self._due.clear()
            wanted = capture.wanted
            if capture.beating and not (wanted.up and self._known.rules):
                # What was captured just now must be known, or its last packets find nothing of ours.
                wanted.alive = False  # no beat meanwhile
                capture.stop_beating()
                await asyncio.sleep(SETTLE_S)
                await self._desk.ask_all()
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
            if capture.trouble is None or time.time() - (self.upgraded_at_s or 0) > ruleset.UPGRADE_S:
                self._release_inherited()
            told = tuple((name, sock.getsockname()[1]) for name, sock in self.listening.items())
            if told != self._told:
                self._told = told
                self._known.ports = dict(told)
                self._remember()
                self._desk.tell_listeners()
                self._desk.tell_names()
            self._settled.set()
            if capture.sings is not sang:
                sang = capture.sings
                self.canary.soon()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0 if wanted.flows and not wanted.up else LOOK_S):
                    await self._due.wait()
            await asyncio.sleep(SETTLE_S)

    async def _beat(self) -> None:
        while True:
            if self._desk.living and self._capture.wanted.alive:
                self._capture.beat()
            if self._capture.cgroups_moved():
                self._wake()
            await asyncio.sleep(BEAT_S)

    async def _sing(self) -> None:
        """The canary, while anything is captured at all."""
        while True:
            await self.canary.wait()
            if self._capture.sings:
                await self.canary.sing(ipv6=self._capture.routes.ipv6 and host_facts.has_ipv6())

    async def _find_containers(self) -> None:
        while True:
            if await self._capture.find_containers():
                self._wake()
            await asyncio.sleep(BEAT_S)

    async def _count_arrivals(self) -> None:
        while True:
            await asyncio.sleep(arrivals.LOOK_S)
            self._capture.read_counters()
            for rule in self._known.rules:
                captured = self._capture.counts(rule.name)["captured"]
                self._arrivals.look(rule.name, captured, self._desk.count(rule.name, "arrived"))
            self._arrivals.forget_others({rule.name for rule in self._known.rules})

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
                    self._capture.note("our nftables rules had been changed or deleted")
                    self._again = True
                    self._wake()

    async def _watch_routes(self) -> None:
        async for event in changes():
            if event in RTNETLINK_WATCHED:
                self._wake()


def choose_marks(nft: Nftables, fwmarks: list[tuple[int, int]], before: Marks | None) -> Marks:
    """Bits that nobody else uses; those of our last life, where that is still so: connections of then carry them."""
    texts = []
    for family, name in nft.tables():
        if not name.startswith("sluicegate"):
            texts.append(nft.text(f"list table {family} {name}"))
    used = used_bits(texts, fwmarks)
    if before is not None and not used & (before.forwarded | before.upstream | before.local | before.field):
        return before
    return choose(used)


async def serve(memory: Memory, begin: Beginning) -> None:
    """Run until SIGTERM or SIGINT. Raises NftablesMissing, NoFreeMarks, NetlinkError."""
    known = memory.read()
    nft = Nftables()
    async with PolicyRoutes() as routes:
        left = begin.left
        if left is None or known.marks is None:
            known.marks = choose_marks(nft, await routes.fwmarks(), known.marks)
            memory.write(known)
        capture = Capture(
            nft,
            routes,
            Names(),
            Listeners(succession.sockets_of(left.listeners) if left is not None else None, known.ports),
            known.marks,
            numbers=known.numbers,
            owner_name=begin.owner_table,
        )
        agent = Agent(capture, memory, known, begin)
        running = asyncio.get_running_loop().create_task(agent.run())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, running.cancel)
        loop.add_signal_handler(signal.SIGUSR2, agent.upgrade_asked)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, succession.HELD_BACK)
        log.info("agent ready", extra={"rules": len(known.rules), "up": known.up})
        with contextlib.suppress(asyncio.CancelledError):
            await running
    nft.close()
    log.info("agent ended; on_failure of each rule decides from now on")


def clean_up(path: Path) -> None:
    """Take away what an agent left behind, and keep it so. Raises AgentFailed, OSError."""
    nft = Nftables()
    nft.run("".join(remove(name, owner=True) for name in ruleset.OWNER_TABLES) + remove(ruleset.PLAIN_TABLE))

    async def remove_routes() -> None:
        async with PolicyRoutes() as routes:
            await routes.remove()

    asyncio.run(remove_routes())
    if path.parent.is_dir():
        memory = Memory.open(path.with_suffix(".state"))
        known = memory.read()
        known.up = False
        memory.write(known)


def lock_network() -> int | None:
    """Held as long as this agent lives, over upgrades too: a second one in this network namespace, whatever its data
    folder, would undo what the first does. None where nobody may write there. Raises AgentFailed."""
    path = LOCKS / f"{Path('/proc/self/ns/net').stat().st_ino}.lock"
    try:
        LOCKS.mkdir(mode=0o700, exist_ok=True)
        held = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        log.warning("a second agent would not be noticed", extra={"path": str(path), "reason": error.strerror})
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(held)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise AgentFailed("an agent of another data folder runs on this host: stop it first") from error
        raise
    return held


def check() -> None:
    """Whether this release would start here. Raises AgentFailed."""
    try:
        Nftables().close()
    except NftablesMissing as error:
        raise AgentFailed(str(error)) from error


def take_over(left: Left) -> None:
    """Go on in place of the release before."""
    begin = Beginning(
        sock=socket.socket(fileno=left.socket),
        path=left.path,
        owner_uid=left.owner_uid,
        lock=left.lock,
        log_level=left.log_level,
        log_format=left.log_format,
        probes=left.probes,
        cgroup=left.cgroup,
        left=left,
    )
    privileges.keep_only(KEPT_CAPABILITIES)
    asyncio.run(serve(Memory(left.memory), begin))


def wait_for(folder: Path) -> None:
    """Gateway and agent may start in either order: `serve` makes its data folder, which tells whose the gateway is."""
    if folder.is_dir():
        return
    log.info("waiting for the folder, which `sluicegate serve` makes", extra={"folder": str(folder)})
    while not folder.is_dir():
        time.sleep(FOLDER_PAUSE_S)


def run(
    path: Path,
    *,
    data: Path | None,
    log_level: str,
    log_format: LogFormat,
    probes: bool = True,
    cgroup: Path | None = None,
) -> None:
    """`data`: the folder whose owner the gateway runs as; None = that of the socket. `cgroup`: that the probes are
    about; None = all. Raises AgentFailed."""
    if privileges.NET_ADMIN not in privileges.effective():
        raise AgentFailed("the agent needs CAP_NET_ADMIN: start it as root (sudo sluicegate agent)")
    try:
        scope = Scope.of(cgroup)
    except NoCgroup as error:
        raise AgentFailed(str(error)) from error
    wait_for(path.parent)
    folder = (data if data is not None and data.is_dir() else path.parent).stat()
    memory = Memory.open(path.with_suffix(".state"))
    try:
        fcntl.flock(memory.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            raise AgentFailed(f"an agent runs already on {path}") from error
        raise
    only_one = lock_network()
    os.umask(0o077)
    sock = open_socket(path, folder.st_uid, folder.st_gid)
    if probes:
        missing = tracefs.mount()
        if missing is not None:
            log.warning("exec cannot be traced", extra={"reason": missing})
        missing = pins.mount()
        if missing is not None:
            log.warning("no denial outlives the agent", extra={"reason": missing})
    kept = privileges.keep_only(KEPT_CAPABILITIES)
    log.info("privileges given up", extra={"capabilities": len(kept)})
    begin = Beginning(
        sock=sock,
        path=str(path),
        owner_uid=folder.st_uid,
        lock=only_one,
        log_level=log_level,
        log_format=log_format,
        probes=probes,
        cgroup=str(scope.named) if scope.named is not None else None,
    )
    asyncio.run(serve(memory, begin))
