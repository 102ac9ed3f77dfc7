"""Which machines and containers, whose packets this host forwards, talk to AI providers past the gateway. They pass no
cgroup hook, so a table of nftables' copies the packets that tell (`watch_table`), and NFLOG brings them (`nflog`).
Tells findings as `gateway.probes.discovery` does, with `client`, their address, in place of the process.

A connection is decided by its ClientHello, its HTTP head, or where neither comes, by its address, if a name server gave
that for a provider's host or another connection's ClientHello named it. Each counts once. Bytes are those of IP packets
of both directions, by client, address and port: where two providers' hosts share these, the one seen last has them.

Not a finding: what interception has captured, which is never forwarded; what a filter refuses; and connections of
containers that `callers` or `discovery` know as a program's of this host, which tell more of them.
"""

import asyncio
import logging
import socket
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from gateway.intercept.libnftables import Nftables, NftablesRefused
from gateway.probes import packets, watch_table
from gateway.probes.callers import Callers
from gateway.probes.catalogue import Catalogue
from gateway.probes.discovery import Discovery
from gateway.probes.feature import Tell
from gateway.probes.nflog import PacketLog
from gateway.probes.packets import Packet
from gateway.probes.program import Program
from gateway.probes.sightings import Evidence, Sightings, told
from gateway.probes.stamps import Address, Flow

log = logging.getLogger("sluicegate.probes")

TELL_S: Final = 1.0
SETTLE_S: Final = 0.7
"""So long a connection to a known address may take to say more than its address."""
SAME_S: Final = 30.0
"""A hello or head within so long is the same connection's: sent again, or the next request."""
REFILL_S: Final = 10.0
"""Between two times that forgotten addresses are taken out of the kernel's sets."""
MOST_FINDINGS: Final = 1000
"""In one report; more are counted as lost."""
MOST_FLOWS: Final = 8192
DNS_PORT: Final = 53
HANDSHAKE: Final = b"\x16\x03"
NOBODY: Final = dict.fromkeys(("process", "pid", "executable", "uid", "user", "cgroup", "unit", "container"))

Conversation = tuple[Address, Address, int]
"""Client, address and port."""


@dataclass(slots=True)
class _Decided:
    opening: int | None
    at_s: float


class Forwarded:
    """A `Feature`."""

    name = "forwarded"
    kinds = frozenset(("cgroups", "catalogue"))

    def __init__(self, tell: Tell, callers: Callers, discovery: Discovery) -> None:
        self._tell = tell
        self._callers = callers
        self._discovery = discovery
        discovery.answered = self._answered
        self._sightings = Sightings()
        self._nft: Nftables | None = None
        self._log: PacketLog | None = None
        self._table = ""
        self._mark = 0
        self._new_mark = 0
        self._thread = ThreadPoolExecutor(1, "nft")
        self._fresh: list[Address] = []
        """Not in the kernel's sets yet."""
        self._stale = False
        self._refilled_s = 0.0
        self._due = asyncio.Event()
        self._open: OrderedDict[Flow, tuple[int | None, float]] = OrderedDict()
        """Undecided connections to known addresses: the sequence number of their SYN, and since when."""
        self._decided: OrderedDict[Flow, _Decided] = OrderedDict()
        self._latest: OrderedDict[Conversation, dict[str, Any]] = OrderedDict()
        """The finding that bytes are of; empty for what is none."""
        self._bytes: dict[Conversation, int] = {}
        self._unexplained: dict[Conversation, float] = {}
        """Bytes without a connection that was seen to open, since when."""
        self._report: dict[tuple[Any, ...], dict[str, Any]] = {}
        self._dropped = 0
        self._not_copied: dict[str, int] = {}

    @property
    def programs(self) -> Sequence[Program]:
        return []

    def load(self) -> None:
        packet_log = PacketLog(watch_table.COPIED_BYTES)
        nft: Nftables | None = None
        try:
            nft = Nftables()
            self._table = self._make_table(nft, packet_log.group)
        except OSError:
            packet_log.close()
            if nft is not None:
                nft.close()
            raise
        self._nft, self._log = nft, packet_log

    def _make_table(self, nft: Nftables, group: int) -> str:
        """Its name. Raises NftablesRefused."""
        taken = {name for family, name in nft.tables() if family == "inet"}
        name = next((name for name in watch_table.NAMES if name not in taken), None)
        if name is None:
            raise NftablesRefused(f"other tables have the names {' and '.join(watch_table.NAMES)}")
        try:
            nft.run(watch_table.table(name, group, self._mark, payloads=True))
        except NftablesRefused as error:
            nft.run(watch_table.table(name, group, self._mark, payloads=False))
            log.warning("of forwarded connections the addresses alone are seen", extra={"reason": str(error)})
        return name

    def lost(self) -> Mapping[str, int]:
        packet_losses = self._log.lost if self._log is not None else 0
        return {"packets": packet_losses + sum(self._not_copied.values()), "findings": self._dropped}

    def hear(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if message["type"] == "cgroups":
            self._new_mark = int(message.get("mark", 0))
            self._due.set()
            return
        try:
            self._sightings.catalogue = Catalogue.of(message["providers"])
        except (ValueError, KeyError, TypeError) as error:
            log.error("a catalogue is not taken", extra={"reason": str(error)})

    async def run(self) -> None:
        assert self._nft is not None
        assert self._log is not None
        loop = asyncio.get_running_loop()
        loop.add_reader(self._log.fileno(), self._read)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._keep_sets())
                while True:
                    await asyncio.sleep(TELL_S)
                    counted, self._not_copied = await loop.run_in_executor(self._thread, self._list_counts)
                    self._settle()
                    self._take_counts(counted)
                    if self._report:
                        items, self._report = list(self._report.values()), {}
                        self._tell({"type": "findings", "items": items}, ())
        finally:
            loop.remove_reader(self._log.fileno())
            self._thread.shutdown(wait=True, cancel_futures=True)
            self._log.close()
            self._nft.close()

    # -- what passes

    def _read(self) -> None:
        assert self._log is not None
        for data in self._log.packets():
            packet = packets.parse(data)
            if packet is None:
                continue
            if packet.protocol == socket.IPPROTO_TCP:
                self._see(packet)
            elif packet.flow.port == DNS_PORT:
                self._answered(packet.payload)
            else:
                self._open_one(packet.flow, None)  # QUIC: its name is for the server's eyes

    def _answered(self, wire: bytes) -> None:
        _, fresh = self._sightings.answer(wire)
        self._learn(fresh)

    def _learn(self, fresh: Sequence[Address]) -> None:
        if fresh:
            self._fresh += fresh
            self._due.set()

    def _see(self, packet: Packet) -> None:
        flow = packet.flow
        if packet.opening is not None:
            self._open_one(flow, packet.opening)
            return
        first = packet.payload.startswith(HANDSHAKE) and packet.payload[5:6] == b"\x01"
        if first or self._sightings.unfinished(flow):
            if first and self._is_decided(flow):
                return
            evidence = self._sightings.tls(flow, packet.payload, flow.destination, first=first)
            if not self._sightings.unfinished(flow):
                self._decide(flow, evidence)
        elif packet.payload[:1].isalpha() and not self._is_decided(flow):
            self._decide(flow, self._sightings.http(packet.payload) or self._sightings.address(flow.destination))

    def _open_one(self, flow: Flow, opening: int | None) -> None:
        before = self._decided.get(flow)
        if flow in self._open or (before is not None and before.opening == opening):
            return
        self._decided.pop(flow, None)
        self._open[flow] = (opening, time.time())
        if len(self._open) > MOST_FLOWS:
            self._open.popitem(last=False)
            self._dropped += 1

    def _is_decided(self, flow: Flow) -> bool:
        before = self._decided.get(flow)
        return before is not None and time.time() - before.at_s < SAME_S

    def _decide(self, flow: Flow, evidence: Evidence | None) -> None:
        now_s = time.time()
        opening, since_s = self._open.pop(flow, (None, now_s))
        self._decided.pop(flow, None)
        self._decided[flow] = _Decided(opening, now_s)
        if len(self._decided) > MOST_FLOWS:
            self._decided.popitem(last=False)
        if evidence is None or self._is_known_here(flow):
            self._explain(_conversation(flow), {})
            return
        if evidence.kind == "sni" and self._sightings.book.note(flow.destination, evidence.host, "address", 0):
            self._learn([flow.destination])
        self._find(flow, evidence, since_s, now_s)

    def _is_known_here(self, flow: Flow) -> bool:
        if not self._callers.programs:  # nor discovery: that needs them
            return False
        return self._discovery.sighted(flow) or self._callers.stamp_of(flow) is not None

    def _settle(self) -> None:
        """Those that say nothing: by their address."""
        until_s = time.time() - SETTLE_S
        for flow in [flow for flow, (_, since_s) in self._open.items() if since_s <= until_s]:
            self._decide(flow, self._sightings.address(flow.destination))

    def _find(self, flow: Flow, evidence: Evidence, since_s: float, at_s: float) -> None:
        key = (flow.source, evidence.provider, evidence.host, evidence.kind, flow.destination, flow.destination_port)
        item = self._report.get(key)
        if item is None:
            if len(self._report) >= MOST_FINDINGS:
                self._dropped += 1
                return
            where_to = told(evidence, flow, since_s)
            item = {**NOBODY, "client": str(flow.source), **where_to, "connections": 0, "bytes": 0}
            self._report[key] = item
        item["connections"] += 1
        item["last_seen_s"] = at_s
        self._explain(_conversation(flow), {"key": key, "item": {**item, "connections": 0, "bytes": 0}})

    # -- how much

    def _explain(self, conversation: Conversation, finding: dict[str, Any]) -> None:
        """`finding`: empty where it is none; then one of another connection stays."""
        self._unexplained.pop(conversation, None)
        before = self._latest.pop(conversation, {})
        self._latest[conversation] = finding or before
        if len(self._latest) > MOST_FLOWS:
            self._latest.popitem(last=False)

    def _list_counts(self) -> tuple[list[tuple[Conversation, int]], dict[str, int]]:
        """By the thread."""
        assert self._nft is not None
        place = f"inet {self._table}"
        try:
            found = [
                each for kind in ("4", "6") for each in watch_table.counted(self._nft.text(f"list set {place} b{kind}"))
            ]
            over = {
                kind: watch_table.not_copied(self._nft.text(f"list counter {place} over_{kind}"))
                for kind in watch_table.KINDS
            }
        except NftablesRefused as error:
            log.error("bytes of forwarded connections are not known", extra={"reason": str(error)})
            return [], self._not_copied
        return found, over

    def _take_counts(self, counted: list[tuple[Conversation, int]]) -> None:
        opening = {_conversation(flow) for flow in self._open}
        before, self._bytes = self._bytes, {}
        now_s = time.time()
        for conversation, count in counted:
            known = before.get(conversation, 0)
            fresh = count - known if count >= known else count
            latest = self._latest.get(conversation)
            if latest is None and fresh and conversation not in opening:
                latest = self._by_address_alone(conversation, now_s)
            self._bytes[conversation] = known if latest is None else count
            if not fresh or not latest:
                continue
            item = self._report.get(latest["key"])
            if item is None:
                if len(self._report) >= MOST_FINDINGS:
                    self._dropped += 1
                    continue
                item = self._report[latest["key"]] = {**latest["item"]}
            item["bytes"] += fresh
            item["last_seen_s"] = now_s
        self._unexplained = {each: since for each, since in self._unexplained.items() if each in self._bytes}

    def _by_address_alone(self, conversation: Conversation, now_s: float) -> dict[str, Any] | None:
        """A connection whose opening nobody saw: it is older than we, or than what we know of the address."""
        since_s = self._unexplained.setdefault(conversation, now_s)
        if now_s - since_s < SETTLE_S:
            return None
        client, address, port = conversation
        flow = Flow(client, 0, address, port)
        evidence = self._sightings.address(address)
        if evidence is None or self._discovery.talks(*conversation):
            self._explain(conversation, {})
            return {}
        self._find(flow, evidence, since_s, now_s)
        return self._latest.get(conversation, {})

    # -- the kernel's sets

    async def _keep_sets(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with asyncio.timeout(REFILL_S):
                    await self._due.wait()
            except TimeoutError:
                self._stale = bool(self._sightings.book.expired()) or self._stale
            self._due.clear()
            commands = watch_table.ours(self._table, self._new_mark) if self._new_mark != self._mark else ""
            if self._stale and time.monotonic() - self._refilled_s > REFILL_S:
                commands += watch_table.set_addresses(self._table, self._sightings.book.addresses())
                self._fresh, self._stale, self._refilled_s = [], False, time.monotonic()
            fresh, self._fresh = self._fresh, []
            commands += watch_table.add_addresses(self._table, fresh)
            if commands:
                await loop.run_in_executor(self._thread, self._run, commands, self._new_mark)

    def _run(self, commands: str, mark: int) -> None:
        assert self._nft is not None
        try:
            self._nft.run(commands)
            self._mark = mark
        except NftablesRefused as error:
            self._stale = True
            log.error("what is forwarded to some addresses is not seen", extra={"reason": str(error)})


def _conversation(flow: Flow) -> Conversation:
    return flow.source, flow.destination, flow.destination_port
