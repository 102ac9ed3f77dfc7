"""Who opened a connection (bpf/callers.c). Answers the question `who`:

    {"source", "port", "destination", "destination_port"}  as the one who connected sees them
    → {"found": false} | {"found": true, "pid", "started_ticks", "process", "executable", "sha256", "uid", "user",
       "cgroup", "unit", "container": {"id", "runtime", "name", "image", "labels"} | null, "cookie", "marks": […],
       "held": {"cgroup": path | null, "container": id | null}}

`process` (comm) and `uid` are the kernel's, of the moment of connect(2). Marks say what that is worth now:

    inherited     a process other than the one that connected holds the socket, too or instead
    exec          the process has exec'ed since it connected: what it runs now is not what connected, and is not told
    exited        it is gone, or its number is another's
    pre-existing  connected before we looked: the holder of the socket is told
    unsettled     it may be about to become another program: it was never seen to be in the midst of no execve
    namespaced    its executable's path is of namespaces of its own: it may be another file than here

`held` is what of `cgroup` and `container` no user can have made so (`probes.held`).

A connection of another network namespace is only found where no two namespaces have one with the same addresses. An
option `care` (`Care`) says what the answer may cost.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Final

from gateway.probes import bpf_calls, sock_diag
from gateway.probes.bpf_calls import ArrayMap, Link
from gateway.probes.feature import Tell
from gateway.probes.held import held
from gateway.probes.identity import (
    Identities,
    Process,
    cgroup_path,
    holders,
    read_process,
    socket_by_cookie,
    user_name,
)
from gateway.probes.program import CGROUP_SOCK_ADDR, SOCK_OPS_PROGRAM, Program
from gateway.probes.scope import Scope
from gateway.probes.settled import settled
from gateway.probes.stamps import Flow, Stamp, TupleKey, own_netns

log = logging.getLogger("sluicegate.probes")

CONNECTIONS: Final = 65536
"""Open at a time; beyond, those used least are forgotten."""
IMAGES: Final = 65536
AT_ONCE: Final = 4
"""Questions that are worked on; the others wait."""
MOST_WAITING: Final = 1000
MOST_ASKED_ABOUT: Final = 1024
"""Connections that are remembered to have been."""
SETTLES_WITHIN_S: Final = 1.0
LOOKED_AGAIN_S: Final = 0.005
SCAN_SHARE: Final = 0.1
"""Of a thread's time, that looking through all processes for holders of a socket may take."""
LOSSES: Final = ("stamps", "connections")
HOOKS: Final = (
    ("on_connect4", CGROUP_SOCK_ADDR, bpf_calls.INET4_CONNECT),
    ("on_connect6", CGROUP_SOCK_ADDR, bpf_calls.INET6_CONNECT),
    ("on_socket", SOCK_OPS_PROGRAM, bpf_calls.SOCK_OPS),
)
EVENTS: Final = (("on_exec", "sched_process_exec"), ("on_exit", "sched_process_exit"))


class Care(StrEnum):
    QUICK = "quick"
    """The executable is hashed only if it was before."""
    USUAL = "usual"
    CERTAIN = "certain"
    """What somebody is let in by: other holders of the socket are looked for whatever it takes, and the executable is
    told when it is certain that it was that of the process when it connected (`probes.settled`)."""


class Unsettled(Exception):
    """It has to be asked again, shortly."""


class Callers:
    """A `Feature`."""

    name = "callers"
    kinds = frozenset(("who",))

    def __init__(self, tell: Tell, scope: Scope) -> None:
        self._tell = tell
        self.scope = scope
        self._program: Program | None = None
        self.identities = Identities()
        self._asked_about: OrderedDict[Flow, None] = OrderedDict()
        self._asked: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MOST_WAITING)
        self._scan_after_s = 0.0
        self.watches: list[Link] = []
        """That keep `images` true; pinned with what goes by it."""

    @property
    def programs(self) -> Sequence[Program]:
        return [self._program] if self._program is not None else []

    def load(self) -> None:
        program = Program("callers", {"CONNECTIONS": CONNECTIONS, "IMAGES": IMAGES}, timed=[hook[0] for hook in HOOKS])
        program.check_layout("connections", Stamp)
        program.check_layout("connections", TupleKey, key=True)
        self._netns = own_netns()
        self._losses = ArrayMap(program.table("losses").map_fd, 8, per_cpu=True)
        self._connections = program.table("connections")
        self._namespaces = program.table("namespaces")
        self._images = program.table("images")
        self.watches = [program.watch(function, event) for function, event in EVENTS]
        for function, kind, hook in HOOKS:
            program.attach(function, kind, hook, self.scope.folder)
        self._program = program

    def lost(self) -> Mapping[str, int]:
        return {what: self._losses.total(index) for index, what in enumerate(LOSSES)}

    def hear(self, message: dict[str, Any], descriptors: list[int]) -> None:
        with contextlib.suppress(ValueError, TypeError, KeyError):  # they are told of where it is answered
            self._asked_about[_flow_of(message)] = None
        while len(self._asked_about) > MOST_ASKED_ABOUT:
            self._asked_about.popitem(last=False)
        self._take({**message, "until_s": time.monotonic() + SETTLES_WITHIN_S})

    def was_asked_about(self, flow: Flow) -> bool:
        """A worker has it: it was captured. Also when it has ended since."""
        return flow in self._asked_about

    def _take(self, message: dict[str, Any]) -> None:
        try:
            self._asked.put_nowait(message)
        except asyncio.QueueFull:
            self._tell({"type": "answer", "id": message["id"], "error": "too many questions at once"}, ())

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(AT_ONCE):
                tasks.create_task(self._answer_all())

    async def _answer_all(self) -> None:
        while True:
            message = await self._asked.get()
            reply: dict[str, Any] = {"type": "answer", "id": message["id"]}
            try:
                flow = _flow_of(message)
                care = Care(message.get("care", Care.USUAL))
                reply["said"] = await asyncio.to_thread(self.who, flow, care, message["until_s"])
            except Unsettled:
                asyncio.get_running_loop().call_later(LOOKED_AGAIN_S, self._take, message)
                continue
            except (ValueError, TypeError, KeyError, OSError) as error:
                reply["error"] = f"who: {error!r}"
            self._tell(reply, ())

    # -- the answer, off the event loop

    def who(self, flow: Flow, care: Care = Care.USUAL, until_s: float = 0.0) -> dict[str, Any]:
        """Raises OSError, and Unsettled before `until_s` (monotonic)."""
        stamp = self.stamp_of(flow)
        if stamp is None:
            return self._pre_existing(flow, care)
        marks: list[str] = []
        process = self._still(stamp, marks, care, until_s)
        self._mark_holders(flow, stamp, marks, care)
        told = {"found": True, "pid": stamp.tgid, "process": stamp.comm.decode(errors="replace"), "uid": stamp.uid}
        told |= {"user": user_name(stamp.uid), "cookie": stamp.cookie, "marks": marks}
        told |= self._described(process, care)
        if process is None:
            told["cgroup"] = cgroup_path(stamp.cgroup)
        elif "exec" in marks:
            told["executable"] = told["sha256"] = None
        return told

    def stamp_of(self, flow: Flow) -> Stamp | None:
        """The kernel's. One of this network namespace comes first; among the others, two of the same addresses cannot
        be told apart."""
        own = self._stamp_in(flow, self._netns)
        if own is not None or flow.within_host:
            return own
        others = (self._stamp_in(flow, each.value) for each in list(self._namespaces.keys()))
        found = [stamp for stamp in others if stamp is not None]
        return found[0] if len(found) == 1 else None

    def open_flows(self) -> Iterator[tuple[Flow, Stamp]]:
        """Those of all network namespaces; of two with the same addresses, one."""
        for key, stamp in self._connections.items():
            yield Flow.of_key(key), Stamp.from_buffer_copy(stamp)

    def _stamp_in(self, flow: Flow, netns: int) -> Stamp | None:
        with contextlib.suppress(KeyError):
            return Stamp.from_buffer_copy(self._connections[flow.key(netns)])
        return None

    def image_ns(self, pid: int) -> int:
        """When a process exec'ed last (CLOCK_BOOTTIME); 0: before we looked."""
        with contextlib.suppress(KeyError):
            return int(self._images[ctypes.c_uint32(pid)].value)
        return 0

    def _still(self, stamp: Stamp, marks: list[str], care: Care, until_s: float) -> Process | None:
        try:
            process = read_process(stamp.tgid)
        except OSError:
            marks.append("exited")
            return None
        if process.started_ns > stamp.at_ns:
            marks.append("exited")
            return None
        certain = care is not Care.CERTAIN or settled(stamp.tgid)
        if self.image_ns(stamp.tgid) != stamp.image_ns:  # in this order: see `settled`
            marks.append("exec")
        elif not certain:
            if time.monotonic() < until_s:
                raise Unsettled
            marks.append("unsettled")
        if process.namespaced:
            marks.append("namespaced")
        return process

    def _mark_holders(self, flow: Flow, stamp: Stamp, marks: list[str], care: Care) -> None:
        inode = self._inode(flow, stamp)
        if inode is None:
            if "exited" not in marks and stamp.netns != self._netns:
                marks.append("inherited")  # the process has it no longer, and yet it is open
            return
        if care is not Care.CERTAIN and time.monotonic() < self._scan_after_s:
            return
        begun_s = time.monotonic()
        if holders(inode) - {stamp.tgid}:
            marks.append("inherited")
        took_s = time.monotonic() - begun_s
        self._scan_after_s = begun_s + took_s / SCAN_SHARE

    def _inode(self, flow: Flow, stamp: Stamp) -> int | None:
        if stamp.netns == self._netns:
            found = sock_diag.find(flow)
            return found.inode if found is not None and found.cookie == stamp.cookie else None
        sock = socket_by_cookie(stamp.tgid, stamp.cookie)
        if sock is None:
            return None
        with sock:
            return os.fstat(sock.fileno()).st_ino

    def _pre_existing(self, flow: Flow, care: Care) -> dict[str, Any]:
        found = sock_diag.find(flow)
        pids = sorted(holders(found.inode)) if found is not None and found.inode else []
        processes = []
        for pid in pids:
            with contextlib.suppress(OSError):
                process = read_process(pid)
                if self.scope.holds(process.cgroup):
                    processes.append(process)
        if found is None or not processes:
            return {"found": False}
        eldest = min(processes, key=lambda process: process.started_ticks)
        marks = ["pre-existing", *(["inherited"] if len(processes) > 1 else [])]
        if eldest.namespaced:
            marks.append("namespaced")
        told = {"found": True, "pid": eldest.pid, "process": eldest.comm, "uid": eldest.uid, "marks": marks}
        return told | {"user": user_name(eldest.uid), "cookie": found.cookie} | self._described(eldest, care)

    def _described(self, process: Process | None, care: Care) -> dict[str, Any]:
        if process is None:
            names = ("started_ticks", "executable", "sha256", "cgroup", "unit", "container")
            return {**dict.fromkeys(names), "held": {"cgroup": None, "container": None}}
        container = self.identities.container(process)
        return {
            "started_ticks": process.started_ticks,
            "executable": process.executable,
            "sha256": self.identities.sha256(process, at_hand=care is Care.QUICK),
            "cgroup": process.cgroup,
            "unit": process.unit,
            "container": container.plain() if container is not None else None,
            "held": held(process.cgroups),
        }


def _flow_of(message: Mapping[str, Any]) -> Flow:
    """Raises ValueError, TypeError, KeyError."""
    return Flow.of(*(message[name] for name in ("source", "port", "destination", "destination_port")))


class ListedCallers(Callers):
    """Without programs in the kernel: who holds a connection's socket now, by sock_diag and /proc. Each is marked
    `pre-existing`, as nobody saw it connect; those of other network namespaces are not found."""

    def load(self) -> None:
        self._netns = own_netns()

    def lost(self) -> Mapping[str, int]:
        return {}

    def stamp_of(self, flow: Flow) -> Stamp | None:
        return None

    def open_flows(self) -> Iterator[tuple[Flow, Stamp]]:
        return iter(())
