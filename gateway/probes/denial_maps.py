"""The maps of bpf/denials.c: which rules (bits, "slots") fit what. Changes never pass through a state in which a rule
that stays denies less, or one denies more than it should: what a new rule needs is written before it is live.
"""

import ctypes
import time
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any, Final

from gateway.probes.allowances import Allowance, RawAllowance, spent_of
from gateway.probes.bpf_calls import ArrayMap
from gateway.probes.denial_rules import Network
from gateway.probes.program import Program
from gateway.probes.stamps import RawAddress

SLOTS: Final = 64
PREFIXES: Final = 16384
ALIVE_S: Final = 3.0
MAPPED_BITS: Final = 96
MAPPED_VALUE: Final = 0xFFFF << 32
"""Of ::ffff:0:0/96, in which IPv4 lies."""


class Prefix(ctypes.Structure):
    _fields_ = (("bits", ctypes.c_uint32), ("address", RawAddress))


class Verdict(ctypes.Structure):
    _fields_ = (("image_ns", ctypes.c_uint64), ("slots", ctypes.c_uint64))


NAMES: Final = (
    "live", "closed", "any_user", "any_cgroup", "any_destination", "any_port", "any_process", "limited", "metered",
    "mark",
)  # fmt: skip


class Settings(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in NAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What a rule is at this moment. None: whatever it be."""

    uid: int | None
    cgroup: int | None
    """Its id."""
    networks: frozenset[Network] | None
    ports: frozenset[int] | None
    runs: tuple[str | None, str | None] | None
    """Executable and container."""
    closed: bool
    expires_at_s: float | None
    allowance: Allowance | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Of an allowance."""

    used: int
    """Connections or bytes of the present window."""
    dropped_bytes: int
    """Since the rule is in force."""
    resets_at_s: float
    """Unix time at which the next window begins."""


@dataclass(frozen=True, slots=True)
class _Begun:
    """An allowance in a slot."""

    allowance: Allowance
    from_ns: int
    from_s: float
    """The same as Unix time."""
    dropped_before: int


class MapRefused(Exception):
    """The kernel did not take an entry; the text says why."""


class DenialMaps:
    """What the kernel goes by."""

    def __init__(self, program: Program) -> None:
        """Raises ProgramRefused."""
        program.check_layout("destinations", Prefix, key=True)
        program.check_layout("settings", Settings)
        program.check_layout("verdicts", Verdict)
        program.check_layout("allowances", RawAllowance)
        self._users = _Masks(program.table("users"), ctypes.c_uint32)
        self._cgroups = _Masks(program.table("cgroups"), ctypes.c_uint64)
        self._ports = _Masks(program.table("ports"), ctypes.c_uint32)
        self._destinations = _Masks(program.table("destinations"), _prefix)
        self._settings = ArrayMap(program.table("settings").map_fd, ctypes.sizeof(Settings), per_cpu=False)
        self._until = ArrayMap(program.table("until").map_fd, 8, per_cpu=False)
        self._denied = ArrayMap(program.table("denied").map_fd, 8, per_cpu=True)
        self._allowances = ArrayMap(program.table("allowances").map_fd, ctypes.sizeof(RawAllowance), per_cpu=False)
        self._spent = ArrayMap(program.table("spent").map_fd, 8, per_cpu=False)
        self._dropped_bytes = ArrayMap(program.table("dropped_bytes").map_fd, 8, per_cpu=True)
        self._begun: dict[int, _Begun] = {}
        """By slot."""
        self._verdicts = program.table("verdicts")
        self._gateway = _Masks(program.table("gateway"), ctypes.c_uint32)
        self._mark = 0
        self._alive = ArrayMap(program.table("alive").map_fd, 8, per_cpu=False)

    def spare(self, pids: Iterable[int], mark: int) -> None:
        """The gateway's own; the mark holds from the next `write` on. Raises MapRefused."""
        own: dict[Hashable, int] = dict.fromkeys(pids, 1)
        self._gateway.add(own)
        self._gateway.reduce(own)
        self._mark = mark

    def write(self, rules: Mapping[int, Compiled]) -> None:
        """These by slot, and no others. A slot that was in use is only used again for a rule that goes on. Raises
        MapRefused, OSError."""
        wanted: list[tuple[_Masks, dict[Hashable, int]]] = [
            (self._users, _masks({slot: [rule.uid] for slot, rule in rules.items() if rule.uid is not None})),
            (self._cgroups, _masks({slot: [rule.cgroup] for slot, rule in rules.items() if rule.cgroup is not None})),
            (self._ports, _masks({slot: rule.ports for slot, rule in rules.items() if rule.ports is not None})),
            (
                self._destinations,
                _covered({s: rule.networks for s, rule in rules.items() if rule.networks is not None}),
            ),
        ]
        for masks, values in wanted:
            masks.add(values)
        for slot, rule in rules.items():
            self._until.write(slot, boot_ns(rule.expires_at_s).to_bytes(8, "little"))
        self._begin(rules)
        settings = Settings(
            live=_bits(rules),
            closed=_bits(slot for slot, rule in rules.items() if rule.closed),
            any_user=_bits(slot for slot, rule in rules.items() if rule.uid is None),
            any_cgroup=_bits(slot for slot, rule in rules.items() if rule.cgroup is None),
            any_destination=_bits(slot for slot, rule in rules.items() if rule.networks is None),
            any_port=_bits(slot for slot, rule in rules.items() if rule.ports is None),
            any_process=_bits(slot for slot, rule in rules.items() if rule.runs is None),
            limited=_bits(slot for slot, rule in rules.items() if rule.allowance is not None),
            metered=_bits(
                slot for slot, rule in rules.items() if rule.allowance is not None and rule.allowance.in_bytes
            ),
            mark=self._mark,
        )
        self._settings.write(0, bytes(settings))
        for masks, values in wanted:
            masks.reduce(values)

    def _begin(self, rules: Mapping[int, Compiled]) -> None:
        """Allowances that are new; those that go on keep what was spent of them."""
        self._begun = {slot: begun for slot, begun in self._begun.items() if slot in rules}
        for slot, rule in rules.items():
            if rule.allowance is None or slot in self._begun:
                continue
            now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            raw = RawAllowance(now_ns, rule.allowance.window_s * 1_000_000_000, rule.allowance.amount)
            self._spent.write(slot, bytes(8))
            self._allowances.write(slot, bytes(raw))
            self._begun[slot] = _Begun(rule.allowance, now_ns, time.time(), self._dropped_bytes.total(slot))

    def usage(self, slot: int) -> Usage | None:
        """None: the rule of this slot has no allowance."""
        begun = self._begun.get(slot)
        if begun is None:
            return None
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        word = int.from_bytes(self._spent.read(slot), "little")
        spent = spent_of(word, begun.allowance, begun.from_ns, now_ns)
        return Usage(
            spent.used,
            self._dropped_bytes.total(slot) - begun.dropped_before,
            round(begun.from_s + (spent.ends_ns - begun.from_ns) / 1e9, 3),
        )

    def beat(self) -> None:
        """We live; where links outlive us, rules that fail open end `ALIVE_S` from now."""
        until_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int(ALIVE_S * 1e9)
        self._alive.write(0, until_ns.to_bytes(8, "little"))

    def judged(self, pid: int, image_ns: int, slots: int) -> None:
        self._verdicts[ctypes.c_uint32(pid)] = self._verdicts.Leaf(image_ns, slots)

    def denied(self, slot: int) -> int:
        """Since the load, by whatever rules had this slot."""
        return self._denied.total(slot)


class _Masks:
    """A map of something to the slots that it fits."""

    def __init__(self, table: Any, key: Any) -> None:
        self._table = table
        self._key = key
        self._held: dict[Hashable, int] = {}

    def add(self, values: Mapping[Hashable, int]) -> None:
        """To what is there."""
        for each, mask in values.items():
            self._set(each, self._held.get(each, 0) | mask)

    def reduce(self, values: Mapping[Hashable, int]) -> None:
        """To exactly these."""
        for each in list(self._held):
            if each in values:
                self._set(each, values[each])
            else:
                del self._table[self._key(each)]
                del self._held[each]

    def _set(self, each: Hashable, mask: int) -> None:
        if self._held.get(each) != mask:
            try:
                self._table[self._key(each)] = self._table.Leaf(mask)
            except Exception as error:  # bcc raises nothing narrower
                raise MapRefused(f"{each} was not written to a map: {error}") from error
            self._held[each] = mask


def _bits(slots: Any) -> int:
    return sum(1 << slot for slot in slots)


def _masks(by_slot: Mapping[int, Any]) -> dict[Hashable, int]:
    found: dict[Hashable, int] = {}
    for slot, values in by_slot.items():
        for value in values:
            found[value] = found.get(value, 0) | 1 << slot
    return found


def _covered(by_slot: Mapping[int, frozenset[Network]]) -> dict[Hashable, int]:
    """The kernel finds the longest prefix alone, so it holds the rules of all that it lies in. IPv4 lies in no IPv6
    network, though its addresses are written as if it did."""
    own = {_bits_of(network): mask for network, mask in _masks(by_slot).items()}
    own.setdefault((MAPPED_BITS, MAPPED_VALUE), 0)
    lengths = sorted({length for length, _ in own})
    found: dict[Hashable, int] = {}
    for length, value in own:
        shortest = MAPPED_BITS if length >= MAPPED_BITS and value >> 32 == MAPPED_VALUE >> 32 else 0
        mask = 0
        for shorter in lengths:
            if shortest <= shorter <= length:
                mask |= own.get((shorter, value >> (128 - shorter) << (128 - shorter)), 0)
        found[length, value] = mask
    return found


def _bits_of(network: Any) -> tuple[int, int]:
    """Length and value of a network as the maps have it."""
    value = int(network.network_address)
    if isinstance(network, IPv4Network):
        return network.prefixlen + MAPPED_BITS, value | MAPPED_VALUE
    return int(network.prefixlen), value


def _prefix(each: tuple[int, int]) -> Prefix:
    length, value = each
    return Prefix(length, RawAddress.from_buffer_copy(value.to_bytes(16, "big")))


def boot_ns(at_s: float | None) -> int:
    """Unix time as the kernel's CLOCK_BOOTTIME. 0: None."""
    if at_s is None:
        return 0
    return max(1, time.clock_gettime_ns(time.CLOCK_BOOTTIME) + int((at_s - time.time()) * 1e9))
