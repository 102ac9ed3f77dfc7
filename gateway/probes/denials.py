"""Connections that are refused (bpf/denials.c): hears `denials` (`denial_rules`), and answers it, and tells what
changes, with

    {"type": "denial_state", "items": [{"id", "in_force", "reason": text | null, "denied": connections since the load,
    and of a rule with a limit: "used": connections or bytes of the present window, "dropped_bytes" since the load,
    "resets_at_s": Unix time at which the next window begins; null while nothing is used}]}

and answers the question `cut`: {"source", "port", "destination", "destination_port"} of one connection, or {"pid",
"address", "port"} of all that a process has there → {"cut": how many}.

The gateway's own connections are never refused: those of its processes, and those that bear its mark.

Nothing is attached while there is no rule. All links die with this process, unless a rule fails closed: then they are
pinned (`pins`), the kernel goes on with the rules that fail closed, and the next process replaces them once it has been
told the rules. What a rule newly denies is also cut where it is open already; one with a limit cuts nothing, and counts
the bytes of connections that were made since it is in force.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any, Final

from gateway.intercept.names import Names
from gateway.probes import bpf_calls
from gateway.probes.bpf_calls import ArrayMap, Link
from gateway.probes.callers import IMAGES, Callers
from gateway.probes.catalogue import Catalogue, HostPatterns
from gateway.probes.cutting import Cutter
from gateway.probes.denial_maps import PREFIXES, SLOTS, Compiled, DenialMaps, MapRefused
from gateway.probes.denial_rules import DenialRule, Network, RuleRefused, rule_of
from gateway.probes.feature import Tell, cgroup_root
from gateway.probes.identity import all_pids, read_process
from gateway.probes.pins import Pins
from gateway.probes.program import CGROUP_SKB, CGROUP_SOCK_ADDR, Program, ProgramRefused
from gateway.probes.stamps import Flow, plain_address

log = logging.getLogger("sluicegate.probes")

LOOK_S: Final = 1.0
"""How often cgroups, expiry and counts are looked at; also how often the state is told at most."""
FIRST_NAMES_S: Final = 0.5
"""How long a new rule waits for the addresses of its hosts; it is in force for those that are known by then."""
BEAT_S: Final = 0.5
AGAIN_S: Final = 0.3
"""A connection that passed unjudged may be found only some moments later."""
MOST_EVENTS: Final = 4096
MOST_SEEN: Final = 1024
"""Hosts of providers that programs have asked for."""
HOOKS: Final = (
    ("on_connect4", bpf_calls.INET4_CONNECT),
    ("on_connect6", bpf_calls.INET6_CONNECT),
    ("on_sendmsg4", bpf_calls.UDP4_SENDMSG),
    ("on_sendmsg6", bpf_calls.UDP6_SENDMSG),
)
METERS: Final = (("on_incoming", bpf_calls.INET_INGRESS), ("on_outgoing", bpf_calls.INET_EGRESS))
"""For limits of bytes: these see every packet of the host."""
TIMED: Final = (*(hook[0] for hook in HOOKS), "on_incoming", "on_outgoing")
EVENTS: Final = (("on_exec", "sched_process_exec"), ("on_exit", "sched_process_exit"))


@dataclass(slots=True)
class _Standing:
    """A rule, and how it stands."""

    rule: DenialRule
    compiled: Compiled | None = None
    slot: int | None = None
    reason: str | None = None
    before: int = 0
    """Denied in slots that it had."""
    base: int = 0
    """Denied in its slot by others before."""


class Denials:
    """A `Feature`. Rules, maps and verdicts are touched by one thread of its own, never by the event loop."""

    name = "denials"
    kinds = frozenset(("denials", "catalogue", "cut", "cgroups"))

    def __init__(self, tell: Tell, callers: Callers) -> None:
        self._tell = tell
        self._callers = callers
        self._cutter = Cutter(callers)
        self._catalogue = Catalogue.shipped()
        self._names = Names()
        self._names.on_change = self._wake
        self._program: Program | None = None
        self._links: list[Link] = []
        self._meters: list[Link] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="denials")
        self._standing: dict[int, _Standing] = {}
        self._refused: dict[int, str] = {}
        self._events: dict[int, bool] = {}
        """Processes to judge, and whether they are connecting."""
        self._cuts: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MOST_EVENTS)
        self._given: list[dict[str, Any]] | None = None
        self._due = asyncio.Event()
        self._addresses: dict[str, tuple[str, ...]] = {}
        """Of hosts; as of now, for the thread."""
        self._seen: dict[str, None] = {}
        """Hosts, the oldest first."""
        self._pins = Pins(callers.scope)
        self._pinned: list[Link] | None = None
        """None: links of the process before may be."""
        self._not_kept: str | None = None
        """Why rules that fail closed will end with us."""
        self._spared: tuple[frozenset[int], int] = (frozenset(), 0)
        """The gateway's processes, and the mark of its connections."""
        self._now_spared = self._spared
        self._told: list[dict[str, Any]] = []
        self._dropped = 0
        self._written: set[int] = set()
        """Slots that are live."""

    @property
    def programs(self) -> Sequence[Program]:
        return [self._program] if self._program is not None else []

    def load(self) -> None:
        if not self._callers.programs:
            raise ProgramRefused("denials need the feature callers")
        program = Program("denials", {"SLOTS": SLOTS, "PREFIXES": PREFIXES, "PROCESSES": IMAGES}, timed=TIMED)
        self._maps = DenialMaps(program)
        self._losses = ArrayMap(program.table("losses").map_fd, 8, per_cpu=True)
        for function, hook in HOOKS:
            program.load(function, CGROUP_SOCK_ADDR, hook)
        for function, hook in METERS:
            program.load(function, CGROUP_SKB, hook)
        self._watches = [program.watch(function, event) for function, event in EVENTS]
        self._maps.beat()
        self._program = program

    def lost(self) -> Mapping[str, int]:
        return {"processes": self._losses.total(0) + self._dropped, "sockets": self._losses.total(1)}

    # -- on the event loop

    def hear(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if message["type"] == "denials":
            self._given = message["items"]
        elif message["type"] == "catalogue":
            try:
                self._catalogue = Catalogue.of(message["providers"])
            except (ValueError, KeyError, TypeError) as error:
                log.error("a catalogue is not taken", extra={"reason": str(error)})
        elif message["type"] == "cgroups":
            self._spared = frozenset(message.get("pids", ())), int(message.get("mark", 0))
            self._cutter.spared = self._spared[0]
        else:
            try:
                self._cuts.put_nowait(message)
            except asyncio.QueueFull:
                self._tell({"type": "answer", "id": message["id"], "error": "too many questions at once"}, ())
        self._due.set()

    def saw(self, host: str) -> None:
        """Some program of this host asks for a provider's host: of a name with `*`, those that are seen are denied, by
        the addresses that our own resolver gives for them."""
        if host not in self._seen:
            if len(self._seen) >= MOST_SEEN:
                self._seen.pop(next(iter(self._seen)))
            self._seen[host] = None
            self._due.set()

    def _wake(self) -> None:
        self._due.set()

    async def run(self) -> None:
        assert self._program is not None
        loop = asyncio.get_running_loop()
        ring = self._program.listen("events", self._event)
        loop.add_reader(ring, self._program.receive)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._names.run())
                tasks.create_task(self._answer_cuts())
                tasks.create_task(self._beat())
                while True:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_S):
                            await self._due.wait()
                    self._due.clear()
                    await self._turn()
        finally:
            loop.remove_reader(ring)
            self._thread.shutdown(wait=False, cancel_futures=True)

    async def _beat(self) -> None:
        while True:
            self._maps.beat()
            await asyncio.sleep(BEAT_S)

    async def _turn(self) -> None:
        loop = asyncio.get_running_loop()
        given, self._given = self._given, None
        if given is not None:
            self._take(given)
        self._names.follow(sorted(self._hosts()))
        if given is not None:
            await self._names.looked_up(FIRST_NAMES_S)
        self._addresses = {host: self._names.addresses(host) for host in self._hosts()}
        events, self._events = self._events, {}
        if events:
            denied = await loop.run_in_executor(self._thread, self._judge_all, events)
            if denied:
                loop.call_later(AGAIN_S, self._look_again, denied)
        if self._standing or self._links or given is not None:
            await loop.run_in_executor(self._thread, self._apply)
        self._tell_state(asked=given is not None)

    def _look_again(self, pids: set[int]) -> None:
        for pid in pids:
            self._note(pid, True)

    def _event(self, record: bytes) -> None:
        self._note(int.from_bytes(record[:4], "little"), record[4] != 0)

    def _note(self, pid: int, connecting: bool) -> None:
        if len(self._events) >= MOST_EVENTS:
            self._dropped += 1
            return
        self._events[pid] = self._events.get(pid, False) or connecting
        self._due.set()

    def _take(self, items: list[dict[str, Any]]) -> None:
        """The whole list of rules; those that stay keep their slots and counts."""
        found: dict[int, _Standing] = {}
        self._refused = {}
        for item in items:
            number = int(item["id"])
            try:
                rule = rule_of(item)
            except RuleRefused as error:
                self._refused[number] = str(error)
                continue
            standing = self._standing.get(number) or _Standing(rule)
            if standing.rule != rule:
                standing = replace(standing, rule=rule)
            found[number] = standing
        self._standing = found

    def _hosts(self) -> set[str]:
        """That are looked up."""
        found: set[str] = set()
        for standing in self._standing.values():
            with contextlib.suppress(RuleRefused):
                for patterns in standing.rule.patterns(self._catalogue):
                    found |= self._hosts_of(patterns)
        return found

    def _hosts_of(self, patterns: HostPatterns) -> set[str]:
        return {*patterns.exact, *(host for host in list(self._seen) if patterns.fits(host))}

    def _tell_state(self, *, asked: bool) -> None:
        items: list[dict[str, Any]] = []
        for number, standing in self._standing.items():
            denied = standing.before
            if standing.slot is not None:
                denied += self._maps.denied(standing.slot) - standing.base
            in_force = standing.slot is not None
            reason = self._not_kept if in_force and standing.rule.closed else standing.reason
            item: dict[str, Any] = {"id": number, "in_force": in_force, "reason": reason, "denied": denied}
            if standing.rule.allowance is not None:
                item |= self._usage(standing)
            items.append(item)
        for number, reason in self._refused.items():
            items.append({"id": number, "in_force": False, "reason": reason, "denied": 0})
        if asked or items != self._told:
            self._told = items
            self._tell({"type": "denial_state", "items": items}, ())

    def _usage(self, standing: _Standing) -> dict[str, Any]:
        usage = None if standing.slot is None else self._maps.usage(standing.slot)
        if usage is None:
            return {"used": 0, "dropped_bytes": 0, "resets_at_s": None}
        return {
            "used": usage.used, "dropped_bytes": usage.dropped_bytes,
            "resets_at_s": usage.resets_at_s if usage.used else None,
        }  # fmt: skip

    # -- in the thread

    def _apply(self) -> None:
        """Have the kernel do what the rules say now, and cut what they newly deny."""
        for standing in self._standing.values():
            standing.reason = None
        wanted: dict[int, Compiled] = {}
        for number, standing in self._standing.items():
            try:
                wanted[number] = self._compiled(standing.rule)
            except RuleRefused as error:
                standing.reason = str(error)
        changed = {number for number, rule in wanted.items() if self._standing[number].compiled != rule}
        gone = {n for n, s in self._standing.items() if s.slot is not None and n not in wanted}
        settled = self._spared == self._now_spared and self._pinned is not None
        if settled and not changed and not gone and self._slots_in_use() == self._written:
            return
        judged = self._place(wanted, changed, gone)
        by_slot = {s.slot: s.compiled for s in self._standing.values() if s.slot is not None and s.compiled is not None}
        if judged:
            self._judge_everyone()
        try:
            spared = self._spared
            self._maps.spare(*spared)
            self._maps.write(by_slot)
            self._now_spared = spared
            self._attach(bool(by_slot))
            self._meter(any(rule.allowance is not None and rule.allowance.in_bytes for rule in by_slot.values()))
        except (MapRefused, ProgramRefused, OSError) as error:
            log.error("denials are not in force", extra={"reason": str(error)})
            for number in changed:
                self._standing[number].reason = f"the kernel did not take it: {error}"
                self._free(self._standing[number])
            return
        self._written = set(by_slot)
        self._keep_closed()
        for number in changed:
            standing = self._standing[number]
            if standing.compiled is not None and standing.rule.allowance is None:
                self._cutter.cut_by_rule(standing.rule, standing.compiled)

    def _keep_closed(self) -> None:
        """Rules that fail closed outlive us; what the process before left is in force until this."""
        closed = [s for s in self._standing.values() if s.slot is not None and s.rule.closed]
        links = [*self._links, *self._meters, *self._watches, *self._callers.watches] if closed else []
        if self._pinned != links:
            self._not_kept = self._pins.put(links)
            self._pinned = links

    def _slots_in_use(self) -> set[int]:
        return {standing.slot for standing in self._standing.values() if standing.slot is not None}

    def _free(self, standing: _Standing) -> None:
        if standing.slot is not None:
            standing.before += self._maps.denied(standing.slot) - standing.base
        standing.slot = standing.compiled = None

    def _place(self, wanted: Mapping[int, Compiled], changed: set[int], gone: set[int]) -> bool:
        """Slots for rules. A rule that changes keeps its own where it only gets more or fewer destinations. True:
        processes must be judged anew."""
        anew = False
        used = self._slots_in_use() | self._written
        for number in gone:
            self._free(self._standing[number])
        for number in sorted(changed):
            standing, rule = self._standing[number], wanted[number]
            before = standing.compiled
            same = before is not None and replace(before, networks=rule.networks) == rule
            if not same:
                free = next((slot for slot in range(SLOTS) if slot not in used), None)
                self._free(standing)
                if free is None:
                    standing.reason = f"no more than {SLOTS} rules can be in force"
                    continue
                used.add(free)
                standing.slot, standing.base = free, self._maps.denied(free)
                anew = anew or rule.runs is not None
            standing.compiled = rule
        return anew

    def _attach(self, wanted: bool) -> None:
        assert self._program is not None
        if wanted and not self._links:
            for function, hook in HOOKS:
                self._links.append(self._program.attach(function, CGROUP_SOCK_ADDR, hook, self._callers.scope.folder))
        elif not wanted:
            self._program.detach(self._links)
            self._links = []

    def _meter(self, wanted: bool) -> None:
        assert self._program is not None
        if wanted and not self._meters:
            for function, hook in METERS:
                self._meters.append(self._program.attach(function, CGROUP_SKB, hook, self._callers.scope.folder))
        elif not wanted:
            self._program.detach(self._meters)
            self._meters = []

    def _compiled(self, rule: DenialRule) -> Compiled:
        """Raises RuleRefused."""
        if rule.expires_at_s is not None and rule.expires_at_s <= time.time():
            raise RuleRefused("it has expired")
        cgroup: int | None = None
        if rule.cgroup is not None:
            try:
                cgroup = (cgroup_root() / rule.cgroup.lstrip("/")).stat().st_ino
            except OSError:
                raise RuleRefused(f"there is no v2 cgroup {rule.cgroup}") from None
        networks = None if rule.anywhere else self._networks(rule)
        if networks is not None and not networks:
            raise RuleRefused("no address of its hosts is known yet")
        return Compiled(
            uid=rule.uid,
            cgroup=cgroup,
            networks=networks,
            ports=rule.ports or None,
            runs=(rule.executable, rule.container) if rule.judges else None,
            closed=rule.closed,
            expires_at_s=rule.expires_at_s,
            allowance=rule.allowance,
        )

    def _networks(self, rule: DenialRule) -> frozenset[Network]:
        """Raises RuleRefused."""
        found = set(rule.networks)
        for patterns in rule.patterns(self._catalogue):
            for host in self._addresses.keys() & self._hosts_of(patterns):
                found |= {ip_network(str(plain_address(text))) for text in self._addresses[host]}
        return frozenset(found)

    def _judge_everyone(self) -> None:
        for pid in all_pids():
            self._judge(pid)

    def _judge_all(self, events: Mapping[int, bool]) -> set[int]:
        """Those that were connecting and are denied something."""
        denied = set()
        for pid, connecting in events.items():
            if self._judge(pid) and connecting:
                denied.add(pid)
        if denied:
            for standing in self._standing.values():
                if standing.compiled is not None and standing.rule.judges and standing.rule.allowance is None:
                    self._cutter.cut_by_rule(standing.rule, standing.compiled, pids=denied)
        return denied

    def _judge(self, pid: int) -> int:
        """Which slots' rules fit what a process runs; told to the kernel."""
        for _ in range(2):  # it may exec meanwhile
            image_ns = self._callers.image_ns(pid)
            try:
                process = read_process(pid)
            except OSError:
                return 0
            if self._callers.image_ns(pid) == image_ns:
                break
        container = self._callers.identities.container(process)
        slots = 0
        for standing in self._standing.values():
            if standing.slot is not None and standing.rule.judges and standing.rule.fits_process(process, container):
                slots |= 1 << standing.slot
        self._maps.judged(pid, image_ns, slots)
        return slots

    # -- the question

    async def _answer_cuts(self) -> None:
        while True:
            message = await self._cuts.get()
            reply: dict[str, Any] = {"type": "answer", "id": message["id"]}
            try:
                reply["said"] = {"cut": await asyncio.to_thread(self._cut, message)}
            except (ValueError, TypeError, KeyError, OSError) as error:
                reply["error"] = f"cut: {error!r}"
            self._tell(reply, ())

    def _cut(self, message: Mapping[str, Any]) -> int:
        if "pid" in message:
            return self._cutter.cut_of_process(
                int(message["pid"]), plain_address(message["address"]), int(message["port"])
            )
        names = ("source", "port", "destination", "destination_port")
        return int(self._cutter.cut(Flow.of(*(message[name] for name in names))))
