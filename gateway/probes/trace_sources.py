"""What is traced: one source a kind. Its program is loaded when the first taker comes, and goes with the last one.

A source gives each taker what happened as a flat dictionary (docs/telemetry.md names the fields), and counts what the
ring buffer had no room for.
"""

import asyncio
import ctypes
import errno
import ipaddress
import time
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

from gateway.probes import bpf_calls, tracefs
from gateway.probes.bpf_calls import ArrayMap
from gateway.probes.owners import Owners
from gateway.probes.program import CGROUP_SOCK_ADDR, SOCK_OPS_PROGRAM, Program, ProgramRefused
from gateway.probes.scope import Scope
from gateway.probes.trace_events import EXEC_BEGUN, EXEC_FAILED, RESULTS, Connect, Exec

RING_PAGES: Final = 256
"""A power of two; 1 MB."""
UNJOINED: Final = 4096
"""Beginnings kept whose end has not been seen."""
Event: TypeAlias = dict[str, Any]
Taker: TypeAlias = Callable[[Event], None]


class Source(ABC):
    """One kind; used from the event loop."""

    kind: ClassVar[str]

    def __init__(self, owners: Owners, scope: Scope) -> None:
        self.owners = owners
        self.scope = scope
        self.program: Program | None = None
        self._takers: list[Taker] = []
        self._ring = -1
        self._losses: ArrayMap | None = None
        self._lost_before = 0

    def add(self, taker: Taker) -> None:
        """Raises BccMissing, ProgramRefused, OSError."""
        if self.program is None:
            self._open()
        self._takers.append(taker)

    def remove(self, taker: Taker) -> None:
        self._takers.remove(taker)
        if not self._takers:
            self.close()

    def close(self) -> None:
        program, self.program = self.program, None
        if program is not None:
            self._lost_before += self._count_lost()
            self._losses = None
            asyncio.get_running_loop().remove_reader(self._ring)
            program.close()

    @property
    def lost(self) -> int:
        """Events, since the process started."""
        return self._lost_before + (self._count_lost() if self._losses is not None else 0)

    def expire(self) -> None:  # noqa: B027 - most wait for nothing
        """Give up waiting for what will not come; each second."""

    # -- for each kind

    @abstractmethod
    def _load(self) -> Program:
        """Compiled, loaded, attached. Raises BccMissing, ProgramRefused, OSError."""

    @abstractmethod
    def _take(self, raw: bytes) -> None:
        """An event from the ring buffer."""

    def _emit(self, event: Event) -> None:
        for taker in self._takers:
            taker(event)

    # -- the ring

    def _open(self) -> None:
        program = self._load()
        self.program = program
        self._losses = ArrayMap(program.table("losses").map_fd, 8, per_cpu=True)
        self._ring = program.listen("events", self._take)
        asyncio.get_running_loop().add_reader(self._ring, program.receive)

    def _count_lost(self) -> int:
        assert self._losses is not None
        return sum(int.from_bytes(copy, "little") for copy in self._losses.copies(self._losses.read(0)))


def constants(event: type[ctypes.Structure]) -> dict[str, int]:
    """What a program is compiled with; an event that is laid out otherwise than here does not compile."""
    return {"RING_PAGES": RING_PAGES, "EVENT_BYTES": ctypes.sizeof(event)}


class Connects(Source):
    """`connect`, and the first datagram to each destination."""

    kind = "connect"

    def _load(self) -> Program:
        program = Program("trace_connect", constants(Connect))
        try:
            root = self.scope.folder
            program.attach("on_socket", SOCK_OPS_PROGRAM, bpf_calls.SOCK_OPS, root)
            for function, hook in (
                ("on_connect4", bpf_calls.INET4_CONNECT),
                ("on_connect6", bpf_calls.INET6_CONNECT),
                ("on_sendmsg4", bpf_calls.UDP4_SENDMSG),
                ("on_sendmsg6", bpf_calls.UDP6_SENDMSG),
            ):
                program.attach(function, CGROUP_SOCK_ADDR, hook, root)
        except (ProgramRefused, OSError):
            program.close()
            raise
        return program

    def _take(self, raw: bytes) -> None:
        event = Connect.from_buffer_copy(raw)
        established = RESULTS[event.stage] == "established"
        self._emit(
            {
                "at_s": unix_s(event.at_ns),
                **self.owners.describe(event.who),
                "protocol": "udp" if event.stage == 3 else "tcp",
                "destination": address_of(bytes(event.to), event.family),
                "port": int.from_bytes(event.port.to_bytes(2, "little"), "big"),
                "source": address_of(bytes(event.source), event.family) if established else None,
                "source_port": event.source_port if established else None,
                "result": RESULTS[event.stage],
                "latency_ms": round(event.took_ns / 1e6, 4) if event.took_ns else None,
            }
        )


class Execs(Source):
    """`execve`, `execveat`."""

    kind = "exec"

    def __init__(self, owners: Owners, scope: Scope) -> None:
        super().__init__(owners, scope)
        self._begun: OrderedDict[int, tuple[Exec, list[str]]] = OrderedDict()
        """By thread."""

    def _load(self) -> Program:
        fork = tracefs.tracepoint("sched:sched_process_fork").offsets
        _expect("sched:sched_process_exec", filename=8, old_pid=16)
        _expect("syscalls:sys_enter_execve", filename=16, argv=24)
        _expect("syscalls:sys_enter_execveat", filename=24, argv=32)
        _expect("syscalls:sys_exit_execve", ret=16)
        scoped = {} if self.scope.whole else {"SCOPED": 1}
        program = Program("trace_exec", {**constants(Exec), "FORK_CHILD": fork["child_pid"], **scoped})
        try:
            if scoped:
                program.table("scope")[0] = str(self.scope.folder)
            program.trace("on_fork", "sched:sched_process_fork")
            program.trace("on_exec", "sched:sched_process_exec")
            program.trace("on_result", "syscalls:sys_exit_execve")
            program.trace("on_result", "syscalls:sys_exit_execveat")
            program.trace("on_execve", "syscalls:sys_enter_execve")
            program.trace("on_execveat", "syscalls:sys_enter_execveat")
        except (ProgramRefused, OSError):
            program.close()
            raise
        return program

    def _take(self, raw: bytes) -> None:
        head = Exec.from_buffer_copy(raw)
        text = raw[ctypes.sizeof(Exec) : ctypes.sizeof(Exec) + head.bytes]
        words = [word.decode(errors="replace") for word in text.split(b"\0")[:-1]]
        if head.stage == EXEC_BEGUN:
            self._begun[head.who.tid] = (head, words)
            if len(self._begun) > UNJOINED:
                self._begun.popitem(last=False)
            return
        begun = self._begun.pop(head.old_tid, None)
        failed = head.stage == EXEC_FAILED
        argv, cut = ([], True) if begun is None else (begun[1][1:], bool(begun[0].more))
        if begun is None or begun[0].unread:
            argv, cut = _argv_of(head.who.pid, argv) if not failed else (argv, True)
        executable = words[0] if words and not failed else (begun[1][0] if begun and begun[1] else None)
        parent, parent_comm = head.parent or None, head.parent_comm.decode(errors="replace") or None
        if parent is None:
            parent, parent_comm = _parent_of(head.who.pid)
        self._emit(
            {
                "at_s": unix_s(head.at_ns),
                **self.owners.describe(head.who),
                "parent": parent,
                "parent_process": parent_comm,
                "executable": executable,
                "argv": argv,
                "argv_cut": cut,
                "result": errno.errorcode.get(-head.error, str(head.error)) if failed else "done",
            }
        )


def _expect(name: str, **offsets: int) -> None:
    """Raises TracefsMissing where this kernel lays a tracepoint out otherwise."""
    found = tracefs.tracepoint(name).offsets
    if any(found.get(field) != offset for field, offset in offsets.items()):
        raise tracefs.TracefsMissing(f"the tracepoint {name} is laid out otherwise in this kernel: {found}")


def _argv_of(pid: int, known: list[str]) -> tuple[list[str], bool]:
    """What a process says of itself, where the kernel could not read it at the call, and whether that is all."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return known, True
    return ([word.decode(errors="replace")[:128] for word in words[:24]], len(words) > 24) if words else (known, True)


def _parent_of(pid: int) -> tuple[int | None, str | None]:
    """Number and name, if it is still there; proc_pid_stat(5)."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2]
        parent = int(after_name.split()[1])
        return parent, Path(f"/proc/{parent}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except (OSError, IndexError):
        return None, None


def unix_s(monotonic_ns: int) -> float:
    """When it was, by the clock on the wall."""
    return round(time.time() - (time.monotonic_ns() - monotonic_ns) * 1e-9, 6)


def address_of(raw: bytes, family: int) -> str:
    if family == 4:
        return str(ipaddress.IPv4Address(raw[:4]))
    address = ipaddress.IPv6Address(raw)
    return str(address.ipv4_mapped or address)
