"""Calls within TLS that nobody intercepts, of processes that somebody chose (bpf/tls.c): their models and token counts.

    ← {"type": "tls_watched", "executables": [glob], "users": [name or number], "containers": [id]}
    → {"type": "tls_calls", "items": [{"pid", "process", "executable", "user", "container", "host", "dialect", "model",
       "input_tokens", "output_tokens", "status", "at_s"}]}           tokens are null where the answer tells none
    → {"type": "tls_coverage", "items": [{"pid", "process", "executable", "user", "container",
       "state": "covered" | "http2" | "no_libssl" | "refused", "reason"}]}       all of them, when it has changed

By default nobody is chosen, and nothing is loaded. Each probe is of one process; no other's memory is touched.
"""

import asyncio
import ctypes
import logging
import os
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gateway.probes.bpf_calls import UPROBE_MULTI, ArrayMap, Link, UprobeLink
from gateway.probes.container_ids import container_of
from gateway.probes.elf import functions
from gateway.probes.feature import Tell
from gateway.probes.identity import Process, all_pids, read_process, user_name
from gateway.probes.program import Program, ProgramRefused
from gateway.probes.scope import Scope
from gateway.probes.tls_http import Conversation
from gateway.probes.toolchain import BccMissing
from gateway.probes.watching import Watched

log = logging.getLogger("sluicegate.probes")

LOOK_S: Final = 0.5
KPROBE: Final = 2
"""`enum bpf_prog_type` (linux/bpf.h); uprobes have the same."""
RING_PAGES: Final = 512
MOST_PROCESSES: Final = 64
MOST_CONVERSATIONS: Final = 1024
ENTRIES: Final = {"SSL_read": "on_read", "SSL_write": "on_write", "SSL_read_ex": "on_read_ex",
                  "SSL_write_ex": "on_write_ex", "SSL_free": "on_free"}  # fmt: skip
LINKS_SINCE: Final = (6, 6)
"""BPF_TRACE_UPROBE_MULTI (linux/bpf.h)."""
NEEDED: Final = ("SSL_read", "SSL_write")
FREED: Final = 2


class Piece(ctypes.Structure):
    """The head of `struct piece`; its text follows."""

    _fields_ = (
        ("ssl", ctypes.c_uint64), ("position", ctypes.c_uint64), ("pid", ctypes.c_uint32), ("kind", ctypes.c_uint32),
        ("bytes", ctypes.c_uint32), ("pad", ctypes.c_uint32),
    )  # fmt: skip


class _Chosen:
    """A process that fits, and how far it is covered."""

    def __init__(self, process: Process, who: dict[str, Any]) -> None:
        self.process = process
        self.who = who
        self.links: list[Link] = []
        self.state = "no_libssl"
        self.reason: str | None = "it has mapped no libssl, or has TLS of another kind linked in"

    def coverage(self) -> dict[str, Any]:
        return {**self.who, "state": self.state, "reason": self.reason}


class TlsCalls:
    """A `Feature`."""

    name = "tls"
    kinds = frozenset(("tls_watched",))

    def __init__(self, tell: Tell, scope: Scope) -> None:
        self._tell = tell
        self._scope = scope
        self._watched = Watched()
        self._program: Program | None = None
        self._losses: ArrayMap | None = None
        self._chosen: dict[int, _Chosen] = {}
        self._conversations: OrderedDict[tuple[int, int], Conversation] = OrderedDict()
        self._calls: list[dict[str, Any]] = []
        self._told: list[dict[str, Any]] | None = None
        """Of coverage; None = somebody new may not have heard it."""
        self._lost_conversations = 0
        self._heard = asyncio.Event()

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
        trouble = ""
        while True:
            if self._watched or self._chosen:
                try:
                    self._open()
                    await asyncio.to_thread(self._look, self._watched)
                except (BccMissing, ProgramRefused, OSError) as error:
                    if str(error) != trouble:
                        log.error("TLS of chosen processes is not read", extra={"reason": str(error)})
                    trouble = str(error)
                self._tell_all()
            elif not self._heard.is_set():
                await self._heard.wait()
            self._heard.clear()
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._heard.wait()
            except TimeoutError:
                continue

    def _open(self) -> None:
        if self._program is not None:
            return
        constants = {"RING_PAGES": RING_PAGES, "EVENT_BYTES": ctypes.sizeof(Piece), "MOST_PROCESSES": MOST_PROCESSES}
        program = Program("tls", constants)
        try:
            program.watch("on_exec", "sched_process_exec")
            for function in (*ENTRIES.values(), "on_return"):
                program.load(function, KPROBE, UPROBE_MULTI)
        except ProgramRefused:
            program.close()
            raise
        self._program = program
        self._losses = ArrayMap(program.table("losses").map_fd, 8, per_cpu=True)
        ring = program.listen("events", self._take)
        asyncio.get_running_loop().add_reader(ring, program.receive)

    # -- who is chosen; in a thread, as a probe's end waits for the kernel

    def _look(self, watched: Watched) -> None:
        fitting = {}
        for pid in all_pids() if watched else ():
            try:
                process = read_process(pid)
            except OSError:
                continue
            if not self._scope.holds(process.cgroup):
                continue
            who = {
                "pid": pid, "process": process.comm, "executable": process.executable, "uid": process.uid,
                "user": user_name(process.uid) or str(process.uid), "container": container_of(process.cgroup),
            }  # fmt: skip
            if process.executable is not None and pid != os.getpid() and watched.fits(who, process.executable):
                fitting[pid] = (process, who)
        for pid, chosen in list(self._chosen.items()):
            now = fitting.get(pid)
            if now is None or (now[0].started_ticks, now[0].file) != (
                chosen.process.started_ticks,
                chosen.process.file,
            ):
                self._leave(pid)
        for pid, (process, who) in fitting.items():
            if pid not in self._chosen and len(self._chosen) < MOST_PROCESSES:
                self._chosen[pid] = _Chosen(process, who)
        for chosen in self._chosen.values():
            if chosen.state == "no_libssl":  # it may load it later
                self._cover(chosen)

    def _leave(self, pid: int) -> None:
        chosen = self._chosen.pop(pid)
        assert self._program is not None
        table = self._program.table("chosen")
        try:
            del table[ctypes.c_uint32(pid)]
        except KeyError:
            pass  # it has executed another program
        for link in chosen.links:
            link.close()

    def _cover(self, chosen: _Chosen) -> None:
        assert self._program is not None
        pid = chosen.process.pid
        try:
            for path in _libraries(pid):
                with path.open("rb") as file:
                    found = functions(file.fileno(), ENTRIES)
                if not all(name in found for name in NEEDED):
                    continue
                for name, function in found.items():
                    if function.why_none is not None and name != "SSL_free":
                        raise ValueError(f"{name} cannot be probed safely: {function.why_none}")
                for name, function in found.items():
                    at = [(ENTRIES[name], function.entry)]
                    at += [("on_return", each) for each in function.returns if name != "SSL_free"]
                    for program, offset in at:
                        chosen.links.append(
                            UprobeLink(self._program.load(program, KPROBE, UPROBE_MULTI), path, offset, pid)
                        )
                chosen.state, chosen.reason = "covered", None
        except (OSError, ValueError) as error:
            chosen.state, chosen.reason = "refused", str(error)
            for link in chosen.links:
                link.close()
            chosen.links.clear()
        if chosen.state == "covered":
            self._program.table("chosen")[ctypes.c_uint32(pid)] = ctypes.c_uint32(1)

    # -- what they say

    def _take(self, raw: bytes) -> None:
        piece = Piece.from_buffer_copy(raw)
        chosen = self._chosen.get(piece.pid)
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
        who = {name: value for name, value in chosen.who.items() if name != "uid"}
        self._calls += [{**who, **each} for each in found]

    def _tell_all(self) -> None:
        if self._calls:
            calls, self._calls = self._calls, []
            self._tell({"type": "tls_calls", "items": calls}, ())
        coverage = [chosen.coverage() for chosen in self._chosen.values()]
        if coverage != self._told:
            self._told = coverage
            self._tell({"type": "tls_coverage", "items": coverage}, ())


def _libraries(pid: int) -> list[Path]:
    """Files mapped to be executed that may hold TLS: libssl by its name, and the executable. Raises OSError."""
    found: dict[Path, None] = {}
    executable = str(Path(f"/proc/{pid}/exe").readlink())
    for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
        words = line.split(maxsplit=5)
        if len(words) < 6 or "x" not in words[1] or not words[5].startswith("/"):
            continue
        if words[5] == executable or "libssl" in Path(words[5]).name:
            path = Path(f"/proc/{pid}/root{words[5]}")
            if path.stat().st_ino != int(words[4]):
                raise ValueError(f"{words[5]} has been replaced since it was loaded")
            found[path] = None
    return list(found)
