"""What stands in the kernel, and who keeps it there: tables, policy routes, heartbeat, counters.

`reconcile` compares what is wanted with what is there and changes the difference in one transaction. It is called after
every change of rules, addresses, workers and interfaces, and when somebody else has changed our tables.
"""

import asyncio
import itertools
import logging
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pyroute2.netlink.exceptions import NetlinkError

from gateway.intercept import canary, host_facts, ruleset
from gateway.intercept.arming import Arming, arm, is_armed
from gateway.intercept.bridges import Bridge
from gateway.intercept.libnftables import Nftables, NftablesRefused
from gateway.intercept.listeners import Listeners
from gateway.intercept.marks import Marks
from gateway.intercept.names import Names
from gateway.intercept.policy_routes import PolicyRoutes
from gateway.intercept.ruleset import ArmedRule, HostFacts
from gateway.intercept.tables import Present, Table, present_of, put, remove
from gateway.policy.interception import InterceptionRule, Mode

log = logging.getLogger("sluicegate.agent")

REPAIRS_KEPT: Final = 50


@dataclass(slots=True)
class Wanted:
    """What the operator wants, and who is there to do it."""

    rules: Sequence[InterceptionRule] = ()
    up: bool = True
    served: frozenset[int] = frozenset()
    """Ports of listeners that some worker accepts from."""
    exempt_uids: frozenset[int] = frozenset()
    alive: bool = False
    """A worker answers."""
    flows: int = 0
    """Captured connections that workers still have."""


@dataclass(slots=True)
class Repair:
    at_s: float
    what: str


@dataclass(slots=True)
class Capture:
    """Made once. Not for use by two tasks at a time: the agent's one loop calls it."""

    nft: Nftables
    routes: PolicyRoutes
    names: Names
    listeners: Listeners
    marks: Marks
    wanted: Wanted = field(default_factory=Wanted)
    arming: Arming = field(default_factory=Arming)
    trouble: str | None = None
    """Why nothing at all is armed."""
    repairs: deque[Repair] = field(default_factory=lambda: deque(maxlen=REPAIRS_KEPT))
    beating: bool = False
    numbers: dict[str, int] = field(default_factory=dict)
    """Of rules, by name: a rule keeps its number as long as there is one, over restarts too."""
    owner_name: str = ruleset.OWNER_TABLES[0]
    counted_before: dict[str, Counter[str]] = field(default_factory=dict)
    """By rule, in tables that are gone: those of a release before this one, and those from before `down`."""
    _owner: Table | None = None
    """As it was put into the kernel; None = there is none, or nobody knows. `_plain` alike."""
    _plain: Table | None = None
    _members: dict[int, tuple[tuple[str, ...], ...]] = field(default_factory=dict)
    """What stands in the sets, by the rule's number."""
    _cgroups: dict[str, int] = field(default_factory=dict)
    """Inodes of the rules' cgroups when the tables were made."""
    _containers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Addresses of containers by the rules' cgroups, as `find_containers` found them last."""
    bridges: tuple[Bridge, ...] = ()
    """As they were when it was looked last."""
    _counting: dict[str, Counter[str]] = field(default_factory=dict)
    """By rule, as the kernel's counters stood when they were read last."""

    @property
    def host(self) -> HostFacts:
        return HostFacts(
            marks=self.marks,
            bridges=self.bridges,
            exempt_uids=tuple(sorted(self.wanted.exempt_uids)),
            canary_port=self._canary_port(),
            owner=self.owner_name,
        )

    async def reconcile(self, *, again: bool = False) -> None:
        """`again`: whatever we believe to stand there, put it in place anew."""
        wanted = self.wanted
        rules = wanted.rules if wanted.up else ()
        self.names.follow(host for rule in wanted.rules for host in rule.hosts)
        self._number(wanted.rules)
        try:
            self._listen([rule for rule in rules if rule.mode is Mode.GOVERN])
        except (OSError, OverflowError) as error:
            self.trouble = f"no transparent listener can be opened: {error}"
            log.error("interception is not armed", extra={"reason": str(error)})
            return
        arming = arm(rules, self.numbers, self.names, self._served_port, self.marks.most_local_rules, self._containers)
        if again:
            self._owner = self._plain = None
        if not arming.rules and not wanted.flows:
            await self._remove()
            self.arming = arming
            return
        try:
            mended = await self.routes.ensure(self.marks)
            self.bridges = await self.routes.bridges()
            if mended and self._plain is not None:
                self.note(f"put back: {', '.join(mended)}")
            self._install(arming.rules)
            self.trouble = None
        except (NftablesRefused, NetlinkError, OSError) as error:
            self.trouble = f"the kernel refused the rules: {error}"
            log.error("interception is not armed", extra={"reason": str(error)})
        self.arming = arming  # not before: what is told as armed stands in the kernel

    def _listen(self, rules: Sequence[InterceptionRule]) -> None:
        names = {rule.name for rule in rules}
        if names:
            names.add(canary.LISTENER)
        self.listeners.drop(set(self.listeners.all) - names)
        for name in names:
            self.listeners.port(name)

    @property
    def sings(self) -> bool:
        """Whether a canary must be captured at this moment."""
        return self.beating and self._canary_port() is not None

    def _canary_port(self) -> int | None:
        if canary.LISTENER not in self.listeners.all:
            return None
        port = self.listeners.port(canary.LISTENER)
        return port if port in self.wanted.served else None

    def _served_port(self, rule: InterceptionRule) -> int | None:
        port = self.listeners.port(rule.name)
        return port if port in self.wanted.served else None

    def _number(self, rules: Sequence[InterceptionRule]) -> None:
        """Each rule has a number of its own; those of rules that are gone are free again."""
        names = [rule.name for rule in rules]
        gone = self.numbers.keys() - set(names)
        for name in names:
            if name not in self.numbers:  # not the number of one that goes just now: its counter stands there still
                taken = set(self.numbers.values())
                self.numbers[name] = next(number for number in itertools.count(1) if number not in taken)
        for name in gone:
            del self.numbers[name]
            self.counted_before.pop(name, None)

    def _install(self, armed: Sequence[ArmedRule]) -> None:
        owner = ruleset.owner_table(armed, self.host) if armed else None
        plain = ruleset.plain_table(armed, self.host)
        cgroups = self._inodes()
        same = _shape(owner) == _shape(self._owner) and _shape(plain) == _shape(self._plain)
        if same and cgroups == self._cgroups:
            changed = [each for each in armed if each.members != self._members.get(each.number)]
            if changed:
                self.nft.run("".join(ruleset.new_addresses(each, self.owner_name) for each in changed))
                log.info("addresses renewed", extra={"rules": ", ".join(each.rule.name for each in changed)})
        else:
            commands = put(plain, self._present(plain.name))
            if owner is not None:
                commands += put(owner, self._present(owner.name))
                if self.wanted.alive:
                    commands += ruleset.beat(owner.name)  # a table without a beat would take marks from another's
            else:
                commands += remove(self.owner_name, owner=True)
            self.nft.run(commands)
            self._owner, self._plain, self._cgroups = owner, plain, cgroups
            log.info("rules in place", extra={"rules": len(armed)})
        self._members = {each.number: each.members for each in armed}
        if owner is None:
            self.beating = False
        elif self.wanted.alive and not self.beating:
            self.beat()

    def _present(self, name: str) -> Present | None:
        try:
            return present_of(self.nft.shape(f"inet {name}"))
        except NftablesRefused:
            return None

    async def _remove(self) -> None:
        """Leave nothing behind."""
        self.beating = False
        self.read_counters()
        for rule, counts in self._counting.items():  # they go with their tables
            self.counted_before.setdefault(rule, Counter()).update(counts)
        self._counting = {}
        try:
            self.nft.run(remove(self.owner_name, owner=True) + remove(ruleset.PLAIN_TABLE))
            await self.routes.remove()
        except (NftablesRefused, NetlinkError) as error:
            self.trouble = f"the rules cannot be removed: {error}"
            log.error("rules not removed", extra={"reason": str(error)})
            return
        if self._plain is not None:
            log.info("rules removed, nothing is left")
        self._owner = self._plain = None
        self.trouble = None

    # -- heartbeat

    def beat(self, seconds: int = ruleset.HEARTBEAT_S) -> None:
        """Renew the heartbeat; called once a second while a worker answers."""
        if self._owner is None:
            return
        try:
            self.nft.run(ruleset.beat(self.owner_name, seconds))
            self.beating = True
        except NftablesRefused as error:
            self.beating = False
            log.warning("no heartbeat", extra={"reason": str(error)})

    def stop_beating(self) -> None:
        """No worker is left: nothing is captured from this moment on."""
        if not self.beating:
            return
        self.beating = False
        try:
            self.nft.run(ruleset.stop_beating(self.owner_name))
        except NftablesRefused as error:
            log.warning("the heartbeat ends by itself only", extra={"reason": str(error)})

    # -- drift

    def stands(self) -> bool:
        """Whether our tables are as we left them, as far as a look at their rules and sets tells."""
        for table in (self._owner, self._plain):
            if table is None:
                continue
            found = self._present(table.name)
            if found is None or found.rules != table.rule_count or len(found.chains) != len(table.chains):
                return False
            if not found.sets >= {kept.name for kept in table.sets}:
                return False
        return True

    def cgroups_moved(self) -> bool:
        """Whether one was made, removed or made anew since: containers do so when they start again."""
        return self.wanted.up and self._inodes() != self._cgroups

    async def find_containers(self) -> bool:
        """Look which addresses the containers in the rules' cgroups have. Whether there are others than before."""
        paths = {path for rule in self.wanted.rules for path in rule.sources.cgroups} if self.wanted.up else set()
        if not paths and not self._containers:
            return False
        before, self._containers = self._containers, await asyncio.to_thread(host_facts.container_addresses, paths)
        return self._containers != before

    def _inodes(self) -> dict[str, int]:
        return host_facts.cgroup_inodes(path for rule in self.wanted.rules for path in rule.sources.cgroups)

    def note(self, what: str) -> None:
        """Somebody has undone what we need, and it is mended."""
        self.repairs.append(Repair(time.time(), what))
        log.warning("somebody changed what interception needs; it was mended", extra={"what": what})

    # -- figures

    def read_counters(self) -> None:
        counting: dict[str, Counter[str]] = {}
        names = {number: name for name, number in self.numbers.items()}
        for table in (self._owner, self._plain):
            if table is None:
                continue
            try:
                listed = self.nft.list(f"list counters table inet {table.name}")
            except NftablesRefused:
                return
            for each in listed:
                counter = each.get("counter")
                if counter is None:
                    continue
                kind, _, number = str(counter["name"]).partition("_")
                rule = names.get(int(number))
                if rule is not None:
                    counting.setdefault(rule, Counter())[kind] += int(counter["packets"])
        self._counting = counting

    def counts(self, rule: str) -> Counter[str]:
        """Connections by what became of them in the kernel: captured, denied, bypassed, passed."""
        return self._counting.get(rule, Counter()) + self.counted_before.get(rule, Counter())

    def counted(self) -> dict[str, dict[str, int]]:
        """By rule, what the next release would not find in the plain table, which stays."""
        kept = {rule: Counter(self.counted_before.get(rule, Counter())) for rule in self.numbers}
        for rule, counts in kept.items():
            counts["captured"] = self.counts(rule)["captured"]
        return {rule: dict(counts) for rule, counts in kept.items()}

    def is_armed(self, rule: str) -> bool:
        return self.trouble is None and any(
            each.rule.name == rule and is_armed(each) and (each.rule.mode is not Mode.GOVERN or self.beating)
            for each in self.arming.rules
        )


def _shape(table: Table | None) -> tuple[object, ...]:
    return () if table is None else table.shape
