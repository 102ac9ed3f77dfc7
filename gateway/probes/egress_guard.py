"""Where the gateway's own processes may go (bpf/egress.c): hears `egress` (`egress_maps`) and `cgroups` (whose
processes). In mode `observe` what is not allowed becomes an alert, in mode `enforce` it is refused too (EPERM).

Without tracefs a process that was just forked is not known for up to a second.
"""

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gateway.intercept.names import Names
from gateway.probes import bpf_calls, tracefs
from gateway.probes.alerting import Alerts
from gateway.probes.bpf_calls import ArrayMap, Link
from gateway.probes.egress_maps import Allowed, EgressEvent, EgressMaps, Wanted
from gateway.probes.own_processes import executable_of, family_of
from gateway.probes.owners import Owners
from gateway.probes.program import CGROUP_SOCK_ADDR, SOCK_OPS_PROGRAM, CgroupHooks, Program, ProgramRefused
from gateway.probes.trace_sources import address_of, constants, unix_s

log = logging.getLogger("sluicegate.probes")

LOOK_S: Final = 1.0
HOOKS: Final = (
    ("on_connect4", CGROUP_SOCK_ADDR, bpf_calls.INET4_CONNECT),
    ("on_connect6", CGROUP_SOCK_ADDR, bpf_calls.INET6_CONNECT),
    ("on_sendmsg4", CGROUP_SOCK_ADDR, bpf_calls.UDP4_SENDMSG),
    ("on_sendmsg6", CGROUP_SOCK_ADDR, bpf_calls.UDP6_SENDMSG),
    ("on_socket", SOCK_OPS_PROGRAM, bpf_calls.SOCK_OPS),
)
RESOLV_CONF: Final = Path("/etc/resolv.conf")


class EgressGuard:
    """A `Feature`."""

    name = "egress_guard"
    kinds = frozenset(("egress", "cgroups"))

    def __init__(self, alerts: Alerts) -> None:
        self._alerts = alerts
        self._owners = Owners()
        self._names = Names()
        self._names.on_change = self._wake
        self._program: Program | None = None
        self._links: dict[str, list[Link]] = {}
        self._wanted = Wanted()
        self._workers: list[int] = []
        self._paths: frozenset[str] = frozenset()
        self._due = asyncio.Event()
        self._without_room = 0
        self._refused_names: dict[str, str] = {}
        self.allowed = Allowed(Wanted(), {}, ())
        self.family: frozenset[int] = frozenset()

    @property
    def programs(self) -> Sequence[Program]:
        return [self._program] if self._program is not None else []

    @property
    def refuses(self) -> bool:
        return self._wanted.guard == "enforce"

    def load(self) -> None:
        given = constants(EgressEvent)
        try:
            given["FORK_CHILD"] = tracefs.tracepoint("sched:sched_process_fork").offsets["child_pid"]
        except tracefs.TracefsMissing as error:
            log.warning("children of the gateway's processes are found late", extra={"reason": str(error)})
        program = Program("egress", given, timed=[hook[0] for hook in HOOKS])
        try:
            self._maps = EgressMaps(program)
            self._losses = ArrayMap(program.table("losses").map_fd, 8, per_cpu=True)
            self._hooks = CgroupHooks(program, HOOKS)
            program.watch("on_exit", "sched_process_exit")
            if "FORK_CHILD" in given:
                program.trace("on_fork", "sched:sched_process_fork")
        except ProgramRefused:
            program.close()
            raise
        self._program = program

    def lost(self) -> Mapping[str, int]:
        return {
            "events": self._losses.total(0),
            "processes": self._losses.total(1),
            "destinations": self._without_room,
            "alerts": self._alerts.lost,
        }

    def hear(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if message["type"] == "cgroups":
            self._paths = frozenset(message["paths"])
            self._workers = [int(pid) for pid in message.get("workers", ())]
        else:
            try:
                self._wanted = Wanted.of(message)
            except (ValueError, KeyError, TypeError) as error:
                log.error("an egress list is not taken", extra={"reason": str(error)})
                return
            self._names.follow(host for host, _ in self._wanted.hosts)
        self._wake()

    def _wake(self) -> None:
        self._due.set()

    async def run(self) -> None:
        assert self._program is not None
        ring = self._program.listen("events", self._take)
        asyncio.get_running_loop().add_reader(ring, self._program.receive)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._names.run())
            while True:
                if self._due.is_set():
                    self._due.clear()
                    self._bring_in_line()
                self._look_for_processes()
                self._alerts.flush()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_S):
                        await self._due.wait()

    def _bring_in_line(self) -> None:
        """Addresses first, then processes and hooks: nothing is refused because half of the list is there."""
        hosts = {host for host, _ in self._wanted.hosts}
        addresses = {host: self._names.addresses(host) for host in hosts}
        self.allowed = Allowed(self._wanted, addresses, name_servers())
        if self.allowed.refused_names != self._refused_names:
            self._refused_names = self.allowed.refused_names
            for host, address in self._refused_names.items():
                log.warning("a name leads where no name may", extra={"host": host, "address": address})
        self._without_room += self._maps.write(self.allowed, enforcing=self.refuses and self._known(addresses))
        self._hooks.follow(self._paths if self._wanted.guard != "off" else ())

    def _known(self, addresses: Mapping[str, Sequence[str]]) -> bool:
        """Each name has been looked up, or cannot be: until then nothing is refused."""
        return all(found or self._names.tried(host) for host, found in addresses.items())

    def _look_for_processes(self) -> None:
        self.family = family_of(self._workers)
        before = self._maps.owned()
        self._maps.own(self.family - before)
        gone = [pid for pid in before - self.family if not Path(f"/proc/{pid}").exists()]
        self._maps.disown(gone)

    def _take(self, raw: bytes) -> None:
        event = EgressEvent.from_buffer_copy(raw)
        if not event.port:
            return  # getaddrinfo(3) asks by such a connect which address it would have; nothing is sent
        address = address_of(bytes(event.to), 6)
        refused = bool(event.refused)
        if not refused and self.allowed.permits(ipaddress.ip_address(address), event.port):
            return  # it has become known meanwhile
        who = self._owners.describe(event.who)
        self._alerts.add(
            ("connect", who["process"], who["uid"], address, event.port),
            {
                "kind": "connect",
                "at_s": unix_s(event.at_ns),
                **who,
                "executable": executable_of(event.who.pid),
                "destination": address,
                "port": event.port,
                "refused": refused,
                "reason": "a process of the gateway went where nothing in its configuration leads",
            },
        )


def name_servers() -> list[str]:
    """As resolv.conf(5) has them."""
    try:
        lines = RESOLV_CONF.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = [words[1] for words in map(str.split, lines) if len(words) > 1 and words[0] == "nameserver"]
    return [each for each in found if _is_address(each)]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.split("%")[0])
    except ValueError:
        return False
    return True
