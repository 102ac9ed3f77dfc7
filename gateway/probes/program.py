"""One C file of `bpf/`, compiled and loaded: its functions at hooks, its maps, what it costs."""

import atexit
import ctypes
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from gateway.probes import tracefs
from gateway.probes.bpf_calls import ArrayMap, Link, RunTime, TracepointLink, Watch, run_time
from gateway.probes.toolchain import load_bcc, sources

log = logging.getLogger("sluicegate.probes")

CGROUP_SKB: Final = 8
SOCK_OPS_PROGRAM: Final = 13
TRACEPOINT: Final = 5
RAW_TRACEPOINT: Final = 17
CGROUP_SOCK_ADDR: Final = 18
"""`enum bpf_prog_type` (linux/bpf.h)"""


class Timing(ctypes.Structure):
    """`struct timing` of bpf/sluicegate.h."""

    _fields_ = (("runs", ctypes.c_uint64), ("timed", ctypes.c_uint64), ("ns", ctypes.c_uint64))


class ProgramRefused(Exception):
    """A program was not compiled, not loaded, or not attached; the text says which and why."""


class Program:
    """Not thread-safe; compilation takes a fifth of a second."""

    def __init__(self, name: str, constants: Mapping[str, int] | None = None, *, timed: Sequence[str] = ()) -> None:
        """`name`: of the file without `.c`. `constants`: macros that it is compiled with. `timed`: functions that time
        themselves, in the order of the map `timings`. Raises BccMissing, ProgramRefused."""
        bcc = load_bcc()
        self.name = name
        folder = sources()
        flags = [
            f"-DPAGE_SIZE={os.sysconf('SC_PAGE_SIZE')}",
            f"-I{folder}",
            "-O2",
            "-Wno-macro-redefined",
            "-Wno-unknown-attributes",
        ]
        flags += [f"-D{macro}={value}" for macro, value in (constants or {}).items()]
        text = (folder / f"{name}.c").read_text(encoding="utf-8")
        try:
            self._module = bcc.BPF(text=text, cflags=flags)
        except Exception as error:  # bcc raises nothing narrower
            raise ProgramRefused(f"bpf/{name}.c was not compiled: {error}") from error
        self._loaded: dict[str, Any] = {}
        self._timed = timed
        self._links: list[Link] = []

    def close(self) -> None:
        for link in self._links:
            link.close()
        self._links.clear()
        atexit.unregister(self._module.cleanup)  # or bcc keeps it in memory until the process ends
        self._module.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def table(self, name: str) -> Any:
        """A map, as bcc's table."""
        return self._module[name]

    def check_layout(self, table: str, structure: type[ctypes.Structure], *, key: bool = False) -> None:
        """Whether a map's value (or key) lies in memory as our Python reads it. Raises ProgramRefused."""
        found = self._module[table]
        theirs = found.Key if key else getattr(found, "sLeaf", found.Leaf)  # of one CPU, where there are many
        if _layout(theirs) != _layout(structure):
            raise ProgramRefused(
                f"{self.name}: {table} is laid out as {_layout(theirs)} in C, and as {_layout(structure)} in Python"
            )

    def load(self, function: str, kind: int, attach_type: int | None = None) -> int:
        """The descriptor of a function that the kernel has verified. Raises ProgramRefused."""
        if function not in self._loaded:
            extra = {} if attach_type is None else {"attach_type": attach_type}
            try:
                self._loaded[function] = self._module.load_func(function, kind, **extra)
            except Exception as error:
                raise ProgramRefused(f"{self.name}.{function} was not loaded: {error}") from error
        descriptor: int = self._loaded[function].fd
        return descriptor

    def attach(self, function: str, kind: int, attach_type: int, cgroup: Path) -> Link:
        """To a hook of a cgroup; the caller keeps the link, or the program does until it is closed. Raises
        ProgramRefused."""
        program = self.load(function, kind, attach_type)
        try:
            folder = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                link = Link(program, folder, attach_type)
            finally:
                os.close(folder)
        except OSError as error:
            raise ProgramRefused(f"{self.name}.{function} was not attached to {cgroup}: {error.strerror}") from error
        self._links.append(link)
        return link

    def detach(self, links: Iterable[Link]) -> None:
        for link in links:
            link.close()
            self._links.remove(link)

    def watch(self, function: str, event: str) -> Link:
        """At a raw tracepoint, by the event's name alone, until the program is closed. Raises ProgramRefused."""
        program = self.load(function, RAW_TRACEPOINT)
        try:
            link = Watch(program, event)
        except OSError as error:
            raise ProgramRefused(f"{self.name}.{function} was not attached to {event}: {error.strerror}") from error
        self._links.append(link)
        return link

    def trace(self, function: str, tracepoint: str) -> None:
        """At `category:event`, until it is closed. Raises ProgramRefused."""
        program = self.load(function, TRACEPOINT)
        try:
            self._links.append(TracepointLink(program, tracefs.tracepoint(tracepoint).number))
        except OSError as error:
            raise ProgramRefused(f"{self.name}.{function} was not attached to {tracepoint}: {error}") from error

    def listen(self, table: str, hear: Callable[[bytes], None]) -> int:
        """Each record of a ring buffer comes to `hear` when `receive` is called, which is due when the descriptor
        returned is readable. `hear` must not raise."""

        def heard(_: object, address: int, size: int) -> int:
            hear(ctypes.string_at(address, size))
            return 0

        ring = self._module[table]
        ring.open_ring_buffer(heard)
        descriptor: int = ring.map_fd
        return descriptor

    def receive(self) -> None:
        """What ring buffers hold."""
        self._module.ring_buffer_consume()

    def run_times(self) -> dict[str, RunTime]:
        """By function: as it times itself, else as the kernel counts while somebody has that turned on
        (kernel.bpf_stats_enabled). What is neither is left out."""
        found = {name: run_time(function.fd) for name, function in self._loaded.items()}
        found = {name: told for name, told in found.items() if told.runs}
        if self._timed:
            timings = ArrayMap(self._module["timings"].map_fd, ctypes.sizeof(Timing), per_cpu=True)
            for index, name in enumerate(self._timed):
                copies = [Timing.from_buffer_copy(copy) for copy in timings.copies(timings.read(index))]
                runs, timed, ns = (sum(getattr(copy, field) for copy in copies) for field in ("runs", "timed", "ns"))
                found[name] = RunTime(runs * ns / timed * 1e-9 if timed else 0.0, runs)
        return found


class CgroupHooks:
    """Functions of a program at hooks of cgroups that come and go."""

    def __init__(self, program: Program, hooks: Sequence[tuple[str, int, int]]) -> None:
        """`hooks`: function, program type, attach type. Loads them. Raises ProgramRefused."""
        self._program = program
        self._hooks = hooks
        self._links: dict[str, list[Link]] = {}
        for function, kind, hook in hooks:
            program.load(function, kind, hook)

    def follow(self, paths: Iterable[str]) -> None:
        """Be at these cgroups and no others. One that refuses is logged, and tried again the next time."""
        wanted = set(paths)
        for gone in self._links.keys() - wanted:
            self._program.detach(self._links.pop(gone))
        for path in sorted(wanted - self._links.keys()):
            made: list[Link] = []
            try:
                for function, kind, hook in self._hooks:
                    made.append(self._program.attach(function, kind, hook, Path(path)))
            except ProgramRefused as error:
                log.error("a cgroup is not watched", extra={"reason": str(error)})
                self._program.detach(made)
            else:
                self._links[path] = made


def _layout(structure: Any) -> tuple[tuple[str, int, int], ...] | int:
    """(field, offset, size) of each; the size where it is no structure."""
    fields = getattr(structure, "_fields_", None)
    if fields is None:
        return ctypes.sizeof(structure)
    named = (field[0] for field in fields if not field[0].startswith("__pad"))
    return tuple((name, getattr(structure, name).offset, getattr(structure, name).size) for name in named)
