"""Which programs of this host talk to AI providers past the gateway (bpf/discovery.c). Tells, each second,

    {"type": "findings", "items": [{"process", "pid", "executable", "uid", "user", "cgroup", "unit", "container",
     "client": null, "provider", "host", "address", "port", "evidence", "first_seen_s", "last_seen_s", "connections",
     "bytes"}]}

with what is new since; connections and bytes (of payload, both ways) count from the report before. Evidence: `sni`,
`http` (Host, or what a proxy is asked for), `dns` (no readable name, but a name server gave the address for the
provider's host), `ech` (likewise, and the ClientHello hides a name), `address` (likewise; the host is known by another
connection's SNI).

Not a finding: what the gateway's own processes do, and what interception has captured, which ends at a socket of the
gateway's. Programs of this host (and its containers) are seen, as cgroup hooks see; machines that it forwards for are
`gateway.probes.forwarded`'s.
"""

import asyncio
import contextlib
import ctypes
import logging
import mmap
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from gateway.probes import bpf_calls, sock_diag
from gateway.probes.bpf_calls import ArrayMap
from gateway.probes.callers import Callers
from gateway.probes.catalogue import Catalogue
from gateway.probes.feature import Tell
from gateway.probes.identity import Process, holders, holders_among, read_process, user_name
from gateway.probes.program import CGROUP_SKB, SOCK_OPS_PROGRAM, Program, ProgramRefused
from gateway.probes.sightings import Evidence, Sightings, told
from gateway.probes.stamps import Address, Flow, RawAddress, Stamp, address_of, packed

log = logging.getLogger("sluicegate.probes")

TELL_S: Final = 1.0
FLOWS: Final = 8192
SETTLED_BITS: Final = 16
"""Of cookies: so many connections of the host that cost next to nothing, as nobody takes an interest in them."""
ADDRESSES: Final = 16384
RING_BYTES: Final = 1024 * 1024
MOST_FINDINGS: Final = 1000
"""In one report; more are counted as lost."""
MOST_WAITING: Final = 2048
MOST_REMEMBERED: Final = 2048
IDLE_S: Final = 3600.0
"""A connection of which nothing was heard for so long is not counted on: its end may have been missed."""
PIECE_BYTES: Final = 2048
TLS, HTTP, OTHER, DNS = 1, 2, 3, 4
LOSSES: Final = ("events", "sockets")
HOOKS: Final = (
    ("on_outgoing", CGROUP_SKB, bpf_calls.INET_EGRESS),
    ("on_incoming", CGROUP_SKB, bpf_calls.INET_INGRESS),
    ("on_socket", SOCK_OPS_PROGRAM, bpf_calls.SOCK_OPS),
)


class Seen(ctypes.Structure):
    """An event."""

    _fields_ = (
        ("stamp", Stamp), ("cookie", ctypes.c_uint64), ("source", RawAddress), ("destination", RawAddress),
        ("source_port", ctypes.c_uint32), ("destination_port", ctypes.c_uint32), ("mark", ctypes.c_uint32),
        ("socket_mark", ctypes.c_uint32), ("what", ctypes.c_uint32), ("first", ctypes.c_uint32),
        ("length", ctypes.c_uint32), ("bytes", ctypes.c_uint8 * PIECE_BYTES),
    )  # fmt: skip

    @property
    def piece(self) -> bytes:
        return bytes(memoryview(self.bytes)[: self.length])

    @property
    def flow(self) -> Flow:
        return Flow(
            address_of(bytes(self.source)), self.source_port, address_of(bytes(self.destination)), self.destination_port
        )


ASKED_WITHIN_S: Final = 0.2
"""After its first bytes, whose a captured connection is."""
ACCEPTED_S: Final = 0.5
ACCEPT_PAUSE_S: Final = 0.02
"""How long, and how often, it is looked whether the other end of a connection on this host has been accepted."""
LIST_SHARE: Final = 0.02
"""Of the time, that listing all connections may take."""


class Counted(ctypes.Structure):
    _fields_ = (("bytes", ctypes.c_uint64), ("ended", ctypes.c_uint64))


@dataclass(slots=True)
class _Followed:
    """A connection whose bytes are counted."""

    key: tuple[Any, ...]
    bytes: int
    heard_s: float


@dataclass(slots=True)
class _Sighting:
    seen: Seen
    flow: Flow
    evidence: Evidence
    at_s: float
    process: Process | None
    """Who connected, read at once: many programs have ended a moment later."""


class Discovery:
    """A `Feature`."""

    name = "discovery"
    kinds = frozenset(("cgroups", "catalogue"))

    def __init__(self, tell: Tell, callers: Callers, saw: Callable[[str], None]) -> None:
        """`saw`: told each provider's host that a program asks for, by DNS or in a connection."""
        self.answered: Callable[[bytes], None] = lambda wire: None
        """Told name servers' answers about providers' hosts."""
        self._sighted: OrderedDict[Flow, None] = OrderedDict()
        self._tell = tell
        self._saw = saw
        self._callers = callers
        self._sightings = Sightings()
        self._program: Program | None = None
        self._gateway_pids: frozenset[int] = frozenset()
        self._gateway_mark = 0
        self._waiting: asyncio.Queue[_Sighting] = asyncio.Queue(MOST_WAITING)
        self._followed: dict[int, _Followed] = {}
        """By cookie."""
        self._known: dict[tuple[Any, ...], dict[str, Any]] = {}
        """Findings with connections that are followed, by what makes them one."""
        self._uses: Counter[tuple[Any, ...]] = Counter()
        """How many of them."""
        self._report: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._list_after_s = 0.0
        self._generation = 0
        self._dropped = 0

    @property
    def programs(self) -> Sequence[Program]:
        return [self._program] if self._program is not None else []

    def load(self) -> None:
        if not self._callers.programs:
            raise ProgramRefused("discovery needs the feature callers")
        pages = RING_BYTES // mmap.PAGESIZE
        sizes = {"FLOWS": FLOWS, "SETTLED_BITS": SETTLED_BITS, "ADDRESSES": ADDRESSES, "RING_PAGES": pages}
        sizes["SEEN_BYTES"] = ctypes.sizeof(Seen)
        program = Program("discovery", sizes, timed=[hook[0] for hook in HOOKS])
        program.check_layout("counted", Counted)
        self._counted = program.table("counted")
        self._addresses = program.table("addresses")
        self._generations = ArrayMap(program.table("generation").map_fd, 4, per_cpu=False)
        self._losses = ArrayMap(program.table("losses").map_fd, 8, per_cpu=True)
        for function, kind, hook in HOOKS:
            program.attach(function, kind, hook, self._callers.scope.folder)
        self._program = program

    def lost(self) -> Mapping[str, int]:
        found = {what: self._losses.total(index) for index, what in enumerate(LOSSES)}
        return {**found, "findings": self._dropped}

    def hear(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if message["type"] == "cgroups":
            self._gateway_pids = frozenset(message.get("pids", ()))
            self._gateway_mark = int(message.get("mark", 0))
            return
        try:
            self._sightings.catalogue = Catalogue.of(message["providers"])
        except (ValueError, KeyError, TypeError) as error:
            log.error("a catalogue is not taken", extra={"reason": str(error)})

    async def run(self) -> None:
        assert self._program is not None
        loop = asyncio.get_running_loop()
        ring = self._program.listen("events", self._event)
        loop.add_reader(ring, self._program.receive)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._gather_all())
                while True:
                    await asyncio.sleep(TELL_S)
                    self._read_counts()
                    self._forget_addresses()
                    if self._report:
                        items, self._report = list(self._report.values()), {}
                        self._tell({"type": "findings", "items": items}, ())
        finally:
            loop.remove_reader(ring)

    def sighted(self, flow: Flow) -> bool:
        """A connection of some program here, in whatever network namespace, and to a provider."""
        return flow in self._sighted

    def talks(self, source: Address, destination: Address, port: int) -> bool:
        """The same, whatever the source's port."""
        wanted = (source, destination, port)
        return any((flow.source, flow.destination, flow.destination_port) == wanted for flow in self._sighted)

    # -- what the kernel has seen

    def _event(self, record: bytes) -> None:
        seen = Seen.from_buffer_copy(record)
        if seen.what == DNS:
            host, fresh = self._sightings.answer(seen.piece)
            if host is not None:
                self._saw(host)
                self.answered(seen.piece)
            self._learn(fresh)
            return
        if seen.stamp.tgid in self._gateway_pids or (self._gateway_mark and seen.socket_mark & self._gateway_mark):
            return
        flow = seen.flow
        if seen.what == TLS:
            evidence = self._sightings.tls(seen.cookie, seen.piece, flow.destination, first=bool(seen.first))
        elif seen.what == HTTP:
            evidence = self._sightings.http(seen.piece) or self._sightings.address(flow.destination)
        else:
            evidence = self._sightings.address(flow.destination)
        if evidence is None:
            return
        self._saw(evidence.host)
        self._sighted[flow] = None
        while len(self._sighted) > MOST_REMEMBERED:
            self._sighted.popitem(last=False)
        if evidence.kind == "sni" and self._sightings.book.note(flow.destination, evidence.host, "address", 0):
            self._learn([flow.destination])
        try:
            self._waiting.put_nowait(_Sighting(seen, flow, evidence, time.time(), self._connecting(seen.stamp)))
        except asyncio.QueueFull:
            self._dropped += 1
            return
        self._counted[ctypes.c_uint64(seen.cookie)] = Counted(0, 0)  # at once: bytes are passing

    def _learn(self, fresh: Sequence[Any]) -> None:
        for address in fresh:
            self._addresses[RawAddress.from_buffer_copy(packed(address))] = ctypes.c_uint8(1)
        if fresh:
            self._generation += 1
            self._generations.write(0, self._generation.to_bytes(4, "little"))

    def _forget_addresses(self) -> None:
        for address in self._sightings.book.expired():
            try:
                del self._addresses[RawAddress.from_buffer_copy(packed(address))]
            except KeyError:
                continue

    # -- whose it is

    async def _gather_all(self) -> None:
        while True:
            sighting = await self._waiting.get()
            if sighting.seen.cookie in self._followed:
                continue
            facts = await asyncio.to_thread(self._facts, sighting)
            cookie = sighting.seen.cookie
            if facts is None:
                self._stop(cookie)
                continue
            key = (facts["pid"], facts["executable"], *_naming(sighting))
            item = self._report.get(key)
            if item is None:
                if len(self._report) >= MOST_FINDINGS:
                    self._dropped += 1
                    self._stop(cookie)
                    continue
                item = self._report[key] = {
                    **facts,
                    **told(sighting.evidence, sighting.flow, sighting.at_s),
                    "connections": 0,
                    "bytes": 0,
                }
            item["connections"] += 1
            item["last_seen_s"] = sighting.at_s
            self._known[key] = {**item, "connections": 0, "bytes": 0}
            self._uses[key] += 1
            self._followed[cookie] = _Followed(key, 0, time.monotonic())

    def _facts(self, sighting: _Sighting) -> dict[str, Any] | None:
        """None: it is the gateway's."""
        flow, stamp = sighting.flow, sighting.seen.stamp
        if self._ends_at_gateway(flow) or self._callers.was_asked_about(flow):
            return None
        if sighting.process is None and stamp.tgid:  # it has ended, and what a worker asks may be on its way
            time.sleep(max(0.0, sighting.at_s + ASKED_WITHIN_S - time.time()))
            if self._callers.was_asked_about(flow):
                return None
        pid = stamp.tgid or self._holder(flow)
        if pid in self._gateway_pids:
            return None
        facts: dict[str, Any] = dict.fromkeys(("process", "executable", "uid", "user", "cgroup", "unit", "container"))
        facts |= {"pid": pid or None, "client": None}
        if stamp.tgid:
            facts |= {"process": stamp.comm.decode(errors="replace"), "uid": stamp.uid, "user": user_name(stamp.uid)}
        process = sighting.process
        if pid and not stamp.tgid:
            with contextlib.suppress(OSError):
                process = read_process(pid)
        if process is None:
            return facts
        container = self._callers.identities.container(process)
        facts |= {
            "process": facts["process"] or process.comm,
            "executable": process.executable,
            "cgroup": process.cgroup,
            "unit": process.unit,
            "container": (container.name or container.id) if container is not None else None,
        }
        if facts["uid"] is None:
            facts |= {"uid": process.uid, "user": user_name(process.uid)}
        return facts

    def _connecting(self, stamp: Stamp) -> Process | None:
        """None: it has ended, or its number is another's by now. Without its executable where it has exec'ed since."""
        if not stamp.tgid:
            return None
        try:
            process = read_process(stamp.tgid)
        except OSError:
            return None
        if process.started_ns > stamp.at_ns:
            return None
        return process if self._callers.image_ns(stamp.tgid) == stamp.image_ns else replace(process, executable=None)

    def _ends_at_gateway(self, flow: Flow) -> bool:
        """It was captured: the other end of it is a socket of the gateway's, whatever its address. Another program of
        this host's at the other end is a provider like any."""
        backwards = Flow(flow.destination, flow.destination_port, flow.source, flow.port)
        until_s = time.monotonic() + ACCEPTED_S
        try:
            while (found := sock_diag.find(backwards)) is not None:
                if found.inode:
                    return bool(holders_among(found.inode, self._gateway_pids))
                if time.monotonic() > until_s:
                    return True  # nobody has taken it yet, as a gateway that is busy
                time.sleep(ACCEPT_PAUSE_S)
        except OSError as error:
            log.warning("whether a connection is captured is not known", extra={"reason": str(error)})
        return False

    def _holder(self, flow: Flow) -> int:
        """Of a connection that is older than we. 0: nobody knows."""
        try:
            found = sock_diag.find(flow)
        except OSError:
            return 0
        return min(holders(found.inode), default=0) if found is not None and found.inode else 0

    # -- how much it moves

    def _read_counts(self) -> None:
        now_s = time.monotonic()
        moving = self._moving(now_s)
        for cookie, followed in list(self._followed.items()):
            try:
                counted = self._counted[ctypes.c_uint64(cookie)]
            except KeyError:
                self._forget(cookie)
                continue
            moved = max(counted.bytes, moving.get(cookie, 0))
            fresh = moved - followed.bytes
            if fresh > 0:
                followed.bytes, followed.heard_s = moved, now_s
                item = self._report.setdefault(followed.key, {**self._known[followed.key]})
                item["bytes"] += fresh
                item["last_seen_s"] = time.time()
            if counted.ended or now_s - followed.heard_s > IDLE_S:
                self._stop(cookie)
                self._forget(cookie)

    def _moving(self, now_s: float) -> dict[int, int]:
        """Bytes by cookie, of this network namespace: a download says nothing by itself until it is over. Now and then,
        as the kernel lists all its connections for it."""
        if not self._followed or now_s < self._list_after_s:
            return {}
        try:
            found = {state.cookie: state.bytes_acked + state.bytes_received for state in sock_diag.tcp_states()}
        except OSError:
            found = {}
        took_s = time.monotonic() - now_s
        self._list_after_s = now_s + took_s / LIST_SHARE
        return found

    def _stop(self, cookie: int) -> None:
        try:
            del self._counted[ctypes.c_uint64(cookie)]
        except KeyError:
            return

    def _forget(self, cookie: int) -> None:
        key = self._followed.pop(cookie).key
        self._uses[key] -= 1
        if not self._uses[key]:
            del self._uses[key], self._known[key]


def _naming(sighting: _Sighting) -> tuple[Any, ...]:
    evidence, flow = sighting.evidence, sighting.flow
    return evidence.provider, evidence.host, evidence.kind, flow.destination, flow.destination_port
