"""What each route and target does in the kernel (bpf/routes.c): tags for the workers, figures each second."""

import asyncio
import contextlib
import ctypes
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.probes import bpf_calls
from gateway.probes.bpf_calls import ArrayMap, possible_cpus
from gateway.probes.feature import Tell
from gateway.probes.figures import Figures, Reader
from gateway.probes.program import CGROUP_SKB, SOCK_OPS_PROGRAM, CgroupHooks, Program

log = logging.getLogger("sluicegate.probes")

READ_S: Final = 1.0
PLACE_BITS: Final = 18
"""The index of a cookie: two open connections whose cookies share these bits are one too many, and the older one is
not measured."""
SERIES: Final = 512
FIGURES_BYTES: Final = 32 * 1024 * 1024
"""Of memory at most; a machine with many CPUs tells fewer series apart."""
LEAST_SERIES: Final = 64
HOOKS: Final = (
    ("on_socket", SOCK_OPS_PROGRAM, bpf_calls.SOCK_OPS),
    ("on_incoming", CGROUP_SKB, bpf_calls.INET_INGRESS),
    ("on_outgoing", CGROUP_SKB, bpf_calls.INET_EGRESS),
)


class Tag(ctypes.Structure):
    """What a worker writes (`gateway.places`)."""

    _fields_ = (("word", ctypes.c_uint64), ("accepted_ns", ctypes.c_uint64))


class Routes:
    """A `Feature`."""

    name = "routes"
    kinds = frozenset(("series", "cgroups"))

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._program: Program | None = None
        self._readers: list[Reader] = []
        self._series = max(LEAST_SERIES, min(SERIES, FIGURES_BYTES // (ctypes.sizeof(Figures) * possible_cpus())))

    @property
    def programs(self) -> Sequence[Program]:
        return [self._program] if self._program is not None else []

    def load(self) -> None:
        constants = {"PLACE_BITS": PLACE_BITS, "SERIES": self._series}
        program = Program("routes", constants, timed=[hook[0] for hook in HOOKS])
        program.check_layout("series", Figures)
        program.check_layout("tags", Tag)
        self._hooks = CgroupHooks(program, HOOKS)
        self._program = program
        self._figures = ArrayMap(program.table("series").map_fd, ctypes.sizeof(Figures), per_cpu=True)
        self._losses = ArrayMap(program.table("losses").map_fd, 8, per_cpu=True)
        self._tell({"type": "tags", "bits": PLACE_BITS, "series": self._series}, [program.table("tags").map_fd])

    def lost(self) -> Mapping[str, int]:
        return {"connections": self._losses.total(0)}

    def hear(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if message["type"] == "cgroups":
            self._hooks.follow(message["paths"])
        else:
            count = min(int(message["count"]), self._series - 1)
            while len(self._readers) < count:
                self._readers.append(Reader(self._figures, len(self._readers) + 1))

    async def run(self) -> None:
        read_s = time.monotonic()
        while True:
            await asyncio.sleep(max(0.0, read_s + READ_S - time.monotonic()))
            now_s = time.monotonic()
            series = {}
            for number, reader in enumerate(self._readers, 1):
                with contextlib.suppress(OSError):
                    found = reader.read()
                    if found is not None:
                        series[str(number)] = found
            self._tell({"type": "figures", "at_s": time.time(), "seconds": now_s - read_s, "series": series}, ())
            read_s = now_s
