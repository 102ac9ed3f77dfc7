"""What stands in the kernel, and who keeps it there: tables, policy routes, heartbeat, counters.

`reconcile` compares what is wanted with what is there and changes the difference in one transaction. It is called after
every change of rules, addresses, workers and interfaces, and when somebody else has changed our tables.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from pyroute2.netlink.exceptions import NetlinkError

from gateway.intercept import host_facts, ruleset
from gateway.intercept.arming import Arming, arm, is_armed
from gateway.intercept.libnftables import Nftables, NftablesRefused
from gateway.intercept.listeners import Listeners
from gateway.intercept.marks import Marks
from gateway.intercept.names import Names
from gateway.intercept.policy_routes import PolicyRoutes
from gateway.intercept.ruleset import ArmedRule, HostFacts
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
    _owner: str = ""
    """The owner table as it was installed, without heartbeat and addresses; empty = there is none. `_plain` alike."""
    _plain: str = ""
    _places: dict[int, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)
    """Addresses that stand in its sets, by the rule's number."""
    _numbers: dict[int, str] = field(default_factory=dict)
    """Names of the rules by their number in the tables that stand."""
    _counted: dict[str, Counter[str]] = field(default_factory=dict)
    """By rule, of tables that are gone."""
    _counting: dict[str, Counter[str]] = field(default_factory=dict)
    """By rule, of the tables that stand."""

    @property
    def host(self) -> HostFacts:
        return HostFacts(
            marks=self.marks,
            bridges=host_facts.swallowed_bridges(),
            exempt_uids=tuple(sorted(self.wanted.exempt_uids)),
            beating=self.wanted.alive,
        )

    async def reconcile(self, *, again: bool = False) -> None:
        """`again`: whatever we believe to stand there, put it in place anew."""
        wanted = self.wanted
        rules = wanted.rules if wanted.up else ()
        self.names.follow(host for rule in wanted.rules for host in rule.hosts)
        self._listen([rule for rule in rules if rule.mode is Mode.GOVERN])
        self.arming = arm(rules, self.names, self._served_port)
        armed = self.arming.rules
        if again:
            self._owner = self._plain = ""
        if not armed and not wanted.flows:
            await self._remove()
            return
        try:
            mended = await self.routes.ensure(self.marks)
            if mended and self._plain:
                self._note(f"put back: {', '.join(mended)}")
            self._install(armed)
            self.trouble = None
        except (NftablesRefused, NetlinkError, OSError) as error:
            self.trouble = f"the kernel refused the rules: {error}"
            log.error("interception is not armed", extra={"reason": str(error)})

    def _listen(self, rules: Sequence[InterceptionRule]) -> None:
        names = {rule.name for rule in rules}
        self.listeners.drop(set(self.listeners.all) - names)
        for name in names:
            self.listeners.port(name)

    def _served_port(self, rule: InterceptionRule) -> int | None:
        port = self.listeners.port(rule.name)
        return port if port in self.wanted.served else None

    def _install(self, armed: Sequence[ArmedRule]) -> None:
        host = self.host
        owner = ruleset.owner_table(armed, host) if armed else ""
        plain = ruleset.plain_table(armed, host)
        # Neither the heartbeat nor an address makes another table of it.
        bare = [replace(each, v4=(), v6=()) for each in armed]
        resting = ruleset.owner_table(bare, replace(host, beating=False)) if armed else ""
        bare_plain = ruleset.plain_table(bare, host)
        if resting == self._owner and bare_plain == self._plain:
            changed = [each for each in armed if (each.v4, each.v6) != self._places.get(each.number)]
            if changed:
                self.nft.run("".join(ruleset.new_addresses(each) for each in changed))
                self._places |= {each.number: (each.v4, each.v6) for each in changed}
                log.info("addresses renewed", extra={"rules": ", ".join(each.rule.name for each in changed)})
            if host.beating and not self.beating:
                self.beat()
            return
        self._keep_counts()
        commands = ruleset.replace(ruleset.PLAIN_TABLE, plain)
        commands += ruleset.replace(ruleset.OWNER_TABLE, owner) if owner else ruleset.remove(ruleset.OWNER_TABLE)
        self.nft.run(commands)
        self._owner, self._plain = resting, bare_plain
        self._places = {each.number: (each.v4, each.v6) for each in armed}
        self._numbers = {each.number: each.rule.name for each in armed}
        self.beating = bool(owner) and host.beating
        log.info("rules in place", extra={"rules": len(armed), "beating": self.beating})

    async def _remove(self) -> None:
        """Leave nothing behind."""
        self.beating = False
        self._keep_counts()
        try:
            self.nft.run(ruleset.remove(ruleset.OWNER_TABLE) + ruleset.remove(ruleset.PLAIN_TABLE))
            await self.routes.remove()
        except (NftablesRefused, NetlinkError) as error:
            self.trouble = f"the rules cannot be removed: {error}"
            log.error("rules not removed", extra={"reason": str(error)})
            return
        if self._plain:
            log.info("rules removed, nothing is left")
        self._owner = self._plain = ""
        self.trouble = None

    # -- heartbeat

    def beat(self) -> None:
        """Renew the heartbeat; called once a second while a worker answers."""
        if not self._owner:
            return
        try:
            self.nft.run(ruleset.beat())
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
            self.nft.run(ruleset.stop_beating())
        except NftablesRefused as error:
            log.warning("the heartbeat ends by itself only", extra={"reason": str(error)})

    # -- drift

    def stands(self) -> bool:
        """Whether our tables are as we left them, as far as a look at their rules and sets tells."""
        for name, text in ((ruleset.OWNER_TABLE, self._owner), (ruleset.PLAIN_TABLE, self._plain)):
            if not text:
                continue
            try:
                listed = self.nft.list(f"list table inet {name}")
            except NftablesRefused:
                return False
            kinds = Counter(next(iter(each)) for each in listed)
            # A line that begins neither an object nor ends one is a rule.
            rules = sum(1 for line in text.splitlines() if not line.startswith(_NO_RULE))
            if kinds["rule"] != rules or kinds["chain"] != text.count("\nchain "):
                return False
        return True

    def note_repair(self, what: str) -> None:
        self._note(what)

    def _note(self, what: str) -> None:
        self.repairs.append(Repair(time.time(), what))
        log.warning("somebody changed what interception needs; it was mended", extra={"what": what})

    # -- figures

    def read_counters(self) -> None:
        counting: dict[str, Counter[str]] = {}
        for table, text in ((ruleset.OWNER_TABLE, self._owner), (ruleset.PLAIN_TABLE, self._plain)):
            if not text:
                continue
            try:
                listed = self.nft.list(f"list counters table inet {table}")
            except NftablesRefused:
                return
            for each in listed:
                counter = each.get("counter")
                if counter is None:
                    continue
                kind, _, number = str(counter["name"]).partition("_")
                rule = self._numbers.get(int(number))
                if rule is not None:
                    counting.setdefault(rule, Counter())[kind] += int(counter["packets"])
        self._counting = counting

    def _keep_counts(self) -> None:
        """The tables that stand are about to go, and their counters with them."""
        self.read_counters()
        for rule, counts in self._counting.items():
            self._counted.setdefault(rule, Counter()).update(counts)
        self._counting = {}

    def counts(self, rule: str) -> Counter[str]:
        """Connections by what became of them in the kernel: captured, denied, bypassed, passed."""
        return self._counted.get(rule, Counter()) + self._counting.get(rule, Counter())

    def is_armed(self, rule: str) -> bool:
        return self.trouble is None and any(
            each.rule.name == rule and is_armed(each) and (each.rule.mode is not Mode.GOVERN or self.beating)
            for each in self.arming.rules
        )


_NO_RULE: Final = ("table ", "chain ", "set ", "counter ", "flags ", "}")
