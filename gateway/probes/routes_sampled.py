"""Routes and targets without BPF: round-trip times, retransmits, bytes and open connections, as the kernel lists its
sockets once a second (sock_diag(7)). Where bcc, a capability or the kernel is missing, this is what is left.

Workers tag their sockets as they do for the programs; the map is a file in memory then (memfd_create(2)) of the same
layout. Only sockets of this network namespace are seen, and nothing that happens between two looks: no first byte, no
token gaps, no resets.
"""

import asyncio
import logging
import mmap
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.places import CLIENT, OWNER_MASK, SERIES_MASK, SERIES_SHIFT, WORDS, owner_of, place_of
from gateway.probes import sock_diag
from gateway.probes.feature import Tell
from gateway.probes.histogram import bucket_of
from gateway.probes.program import Program
from gateway.probes.routes import PLACE_BITS, SERIES
from gateway.probes.sock_diag import TcpState

log = logging.getLogger("sluicegate.probes")

LOOK_S: Final = 1.0
SHARE: Final = 0.05
"""Of a thread's time: with many sockets it looks less often."""
MOST: Final = 65536
"""Connections that are followed."""


@dataclass(frozen=True, slots=True)
class _Tag:
    series: int
    client: bool


class SampledRoutes:
    """A `Feature`, in place of `Routes`."""

    name = "routes"
    kinds = frozenset(("series",))

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._seen: dict[int, TcpState] = {}
        """By cookie, as of the look before."""
        self._told_open: dict[int, dict[str, int]] = {}
        self._passed_over = 0

    @property
    def programs(self) -> Sequence[Program]:
        return []

    def load(self) -> None:
        size = WORDS * 8 << PLACE_BITS
        descriptor = os.memfd_create("sluicegate-tags", os.MFD_CLOEXEC)
        try:
            os.ftruncate(descriptor, size)
            self._tags = memoryview(mmap.mmap(descriptor, size, mmap.MAP_SHARED, mmap.PROT_READ)).cast("Q")
            self._tell({"type": "tags", "bits": PLACE_BITS, "series": SERIES}, [descriptor])
        finally:
            os.close(descriptor)

    def lost(self) -> Mapping[str, int]:
        return {"connections": self._passed_over}

    def hear(self, message: dict[str, Any], descriptors: list[int]) -> None:
        """Series are numbered by the agent; those that a tag names are told."""

    async def run(self) -> None:
        looked_s = time.monotonic()
        while True:
            begun_s = time.monotonic()
            try:
                series = await asyncio.to_thread(self._look)
            except OSError as error:
                log.error("the kernel does not list its sockets", extra={"reason": str(error)})
                series = {}
            now_s = time.monotonic()
            self._tell({"type": "figures", "at_s": time.time(), "seconds": now_s - looked_s, "series": series}, ())
            looked_s = now_s
            await asyncio.sleep(max(LOOK_S, (now_s - begun_s) / SHARE))

    def _look(self) -> dict[str, Any]:
        """What has come since the look before, as `figures.Reader` says it. Raises OSError."""
        now: dict[int, TcpState] = {}
        found: dict[int, dict[str, Any]] = {}
        for state in sock_diag.tcp_states():
            tag = self._tag_of(state.cookie)
            if tag is None:
                continue
            if len(now) >= MOST:
                self._passed_over += 1
                continue
            now[state.cookie] = state
            if tag.series:
                part = found.setdefault(
                    tag.series, {"h": {}, "c": {}, "g": {"open": 0, "client_open": 0, "sampled": 1}}
                )
                self._add(part, tag, state, self._seen.get(state.cookie))
        self._seen = now
        for series in self._told_open.keys() - found.keys():  # the last of its connections has gone
            found[series] = {"h": {}, "c": {}, "g": {"open": 0, "client_open": 0, "sampled": 1}}
        self._told_open = {
            series: part["g"] for series, part in found.items() if part["g"]["open"] or part["g"]["client_open"]
        }
        return {str(series): part for series, part in found.items()}

    def _tag_of(self, cookie: int) -> _Tag | None:
        tag = self._tags[place_of(cookie, PLACE_BITS)]
        if tag & OWNER_MASK != owner_of(cookie, PLACE_BITS):
            return None
        return _Tag(tag >> SERIES_SHIFT & SERIES_MASK, client=bool(tag & CLIENT))

    @staticmethod
    def _add(part: dict[str, Any], tag: _Tag, now: TcpState, before: TcpState | None) -> None:
        side = "client_" if tag.client else ""
        part["g"][f"{side}open"] += 1
        counts = part["c"]
        before = before or TcpState(now.cookie, 0, 0, 0, 0)
        for name, value in (
            ("bytes_out", now.bytes_acked - before.bytes_acked),
            ("bytes_in", now.bytes_received - before.bytes_received),
            ("retransmits", now.retransmits - before.retransmits),
        ):
            if value > 0:
                counts[side + name] = counts.get(side + name, 0) + value
        moved = (now.bytes_acked, now.bytes_received) != (before.bytes_acked, before.bytes_received)
        if moved and now.rtt_us:  # of an idle one nothing new is known
            histogram = part["h"].setdefault(f"{side}rtt", [])
            histogram.append([bucket_of(now.rtt_us * 1000), 1])
