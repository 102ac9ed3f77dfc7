"""Calls within TLS that nobody intercepts, of processes that somebody chose (bpf/tls.c): their models and token counts.

    ← {"type": "tls_watched", "executables": [glob], "users": [name or number], "containers": [id]}
    → {"type": "tls_calls", "items": [{"pid", "process", "executable", "user", "container", "host", "dialect", "model",
       "input_tokens", "output_tokens", "status", "at_s"}]}           tokens are null where the answer tells none
    → {"type": "tls_coverage", "items": [{"pid", "process", "executable", "user", "container",
       "state": "covered" | "http2" | "no_libssl" | "refused", "reason"}]}       all of them, when it has changed

By default nobody is chosen, and nothing is loaded. Each probe is of one process; no other's memory is touched.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import re
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gateway.probes.bpf_calls import UPROBE_MULTI, ArrayMap, Link, UprobeLink
from gateway.probes.feature import Tell
from gateway.probes.program import Program, ProgramRefused
from gateway.probes.scope import Scope
from gateway.probes.tls_http import Conversation
from gateway.probes.tls_processes import MOST_PROCESSES, Processes
from gateway.probes.toolchain import BccMissing
from gateway.probes.watching import Watched

log = logging.getLogger("sluicegate.probes")

LOOK_S: Final = 1.0
FRESH_LOOK_S: Final = 0.005
"""Also between looks at what was executed: of a thousand programs a second most have ended by then."""
KPROBE: Final = 2
"""`enum bpf_prog_type` (linux/bpf.h); uprobes have the same."""
RING_PAGES: Final = 512
MOST_CONVERSATIONS: Final = 1024
MOST_EXECUTED: Final = 1024
"""Between two looks; what is beyond is found by the next look at all."""
LINKS_SINCE: Final = (6, 6)
"""BPF_TRACE_UPROBE_MULTI (linux/bpf.h)."""
FREED: Final = 2
EXECUTED: Final = 3


class Piece(ctypes.Structure):
    """The head of `struct piece`; its text follows."""

    _fields_ = (
        ("ssl", ctypes.c_uint64), ("position", ctypes.c_uint64), ("pid", ctypes.c_uint32), ("kind", ctypes.c_uint32),
        ("bytes", ctypes.c_uint32), ("pad", ctypes.c_uint32),
    )  # fmt: skip


class TlsCalls:
    """A `Feature`."""

    name = "tls"
    kinds = frozenset(("tls_watched",))

    def __init__(self, tell: Tell, scope: Scope) -> None:
        self._tell = tell
        self._watched = Watched()
        self._program: Program | None = None
        self._losses: ArrayMap | None = None
        self._processes = Processes(self._attach, scope)
        self._executed: set[int] = set()
        self._conversations: OrderedDict[tuple[int, int], Conversation] = OrderedDict()
        self._calls: list[dict[str, Any]] = []
        self._told: list[dict[str, Any]] | None = None
        """Of coverage; None = somebody new may not have heard it."""
        self._lost_conversations = 0
        self._heard = asyncio.Event()
        self._ended: asyncio.Queue[Link] = asyncio.Queue()

    @property
    def programs(self) -> Sequence[Program]:
        return [self._program] if self._program is not None else []

    def load(self) -> None:
        release = os.uname().release
        numbers = re.match(r"(\d+)\.(\d+)", release)
        if numbers is not None and (int(numbers[1]), int(numbers[2])) < LINKS_SINCE:
            raise ProgramRefused(f"it takes Linux 6.6, which has links of uprobes; this is {release}")
        if not Path("/sys/bus/event_source/devices/uprobe/type").exists():
            raise ProgramRefused("this kernel has no uprobes")

    def lost(self) -> Mapping[str, int]:
        pieces = self._losses.total(0) if self._losses is not None else 0
        return {"pieces": pieces, "conversations": self._lost_conversations}

    def hear(self, message: dict[str, Any], descriptors: list[int]) -> None:
        self._watched = Watched.of(message)
        self._told = None
        self._heard.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._look_for_ever())
            tasks.create_task(self._close_for_ever())

    async def _look_for_ever(self) -> None:
        trouble, whole_at_s = "", 0.0
        while True:
            while not self._watched and not self._processes.chosen:
                self._heard.clear()
                await self._heard.wait()
            fresh = self._processes.fresh()
            whole = self._told is None or time.monotonic() >= whole_at_s
            pids, self._executed = self._executed | fresh, set()
            self._heard.clear()
            try:
                self._open()
                gone = await asyncio.to_thread(self._processes.look, self._watched, None if whole else pids)
            except (BccMissing, ProgramRefused, OSError) as error:
                if str(error) != trouble:
                    log.error("TLS of chosen processes is not read", extra={"reason": str(error)})
                trouble = str(error)
            else:
                self._leave(gone)
            if whole:
                whole_at_s = time.monotonic() + LOOK_S
            self._tell_all()
            await asyncio.sleep(FRESH_LOOK_S)
            if not self._processes.fresh():
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(max(0.0, whole_at_s - time.monotonic())):
                        await self._heard.wait()

    async def _close_for_ever(self) -> None:
        """The end of a link waits for the kernel, which nobody else should."""
        while True:
            link = await self._ended.get()
            await asyncio.to_thread(link.close)

    def _open(self) -> None:
        if self._program is not None:
            return
        constants = {"RING_PAGES": RING_PAGES, "EVENT_BYTES": ctypes.sizeof(Piece), "MOST_PROCESSES": MOST_PROCESSES}
        program = Program("tls", constants)
        try:
            program.load("on_probe", KPROBE, UPROBE_MULTI)
            program.watch("on_exec", "sched_process_exec")
        except ProgramRefused:
            program.close()
            raise
        self._program = program
        self._losses = ArrayMap(program.table("losses").map_fd, 8, per_cpu=True)
        ring = program.listen("events", self._take)
        asyncio.get_running_loop().add_reader(ring, program.receive)

    def _attach(self, path: Path, at: list[tuple[int, int]], pid: int) -> Link:
        assert self._program is not None
        try:
            self._program.table("chosen")[ctypes.c_uint32(pid)] = ctypes.c_uint32(1)
        except Exception as error:  # bcc raises nothing narrower
            raise OSError(f"the kernel has no room for another process: {error}") from error
        return UprobeLink(self._program.load("on_probe", KPROBE, UPROBE_MULTI), path, at, pid)

    def _leave(self, gone: Sequence[int]) -> None:
        """After what they have still said."""
        if not gone:
            return
        assert self._program is not None
        self._program.receive()
        table = self._program.table("chosen")
        for pid in gone:
            for key in [key for key in self._conversations if key[0] == pid]:
                self._keep(pid, self._conversations.pop(key).close())
            try:
                del table[ctypes.c_uint32(pid)]
            except KeyError:
                pass  # it was not read, or has executed another program
            for link in self._processes.leave(pid):
                self._ended.put_nowait(link)
        self._executed |= set(gone)  # it may have become another that is chosen
        self._heard.set()

    # -- what they say

    def _take(self, raw: bytes) -> None:
        piece = Piece.from_buffer_copy(raw)
        if piece.kind == EXECUTED:
            if len(self._executed) < MOST_EXECUTED:
                self._executed.add(piece.pid)
            self._heard.set()
            return
        chosen = self._processes.chosen.get(piece.pid)
        key = (piece.pid, piece.ssl)
        if chosen is None:
            self._conversations.pop(key, None)
            return
        if piece.kind == FREED:
            ended = self._conversations.pop(key, None)
            found = ended.close() if ended is not None else []
        else:
            conversation = self._conversations.get(key)
            if conversation is None:
                conversation = self._conversations[key] = Conversation()
                if len(self._conversations) > MOST_CONVERSATIONS:
                    self._conversations.popitem(last=False)
                    self._lost_conversations += 1
            begin = ctypes.sizeof(Piece)
            found = conversation.feed(piece.kind == 1, piece.position, raw[begin : begin + piece.bytes])
            if conversation.http2:
                chosen.state, chosen.reason = "http2", "it speaks HTTP/2, which is not read"
        self._keep(piece.pid, found)

    def _keep(self, pid: int, found: Sequence[Mapping[str, Any]]) -> None:
        chosen = self._processes.chosen[pid]
        who = {name: value for name, value in chosen.who.items() if name != "uid"}
        self._calls += [{**who, **each} for each in found]

    def _tell_all(self) -> None:
        if self._calls:
            calls, self._calls = self._calls, []
            self._tell({"type": "tls_calls", "items": calls}, ())
        coverage = [chosen.coverage() for chosen in self._processes.chosen.values()]
        if coverage != self._told:
            self._told = coverage
            self._tell({"type": "tls_coverage", "items": coverage}, ())
