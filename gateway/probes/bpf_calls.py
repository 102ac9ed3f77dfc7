"""What bcc does not offer of bpf(2) and perf_event_open(2): links that die with their
holder, run-time figures, maps read in one call.

Layouts and numbers: `union bpf_attr`, `enum bpf_cmd`, `struct bpf_prog_info` in linux/bpf.h (UAPI).
"""

import ctypes
import fcntl
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

SYS_BPF: Final = {"x86_64": 321, "aarch64": 280}
SYS_PERF_EVENT_OPEN: Final = {"x86_64": 298, "aarch64": 241}
PERF_TYPE_TRACEPOINT: Final = 2
PERF_FLAG_FD_CLOEXEC: Final = 8
PERF_EVENT_IOC_ENABLE: Final = 0x2400
PERF_EVENT_IOC_SET_BPF: Final = 0x40042408
"""linux/perf_event.h"""
MAP_LOOKUP_ELEM: Final = 1
MAP_UPDATE_ELEM: Final = 2

OBJ_PIN: Final = 6
OBJ_GET_INFO_BY_FD: Final = 15
RAW_TRACEPOINT_OPEN: Final = 17
LINK_CREATE: Final = 28
INET_INGRESS: Final = 0
INET_EGRESS: Final = 1
SOCK_OPS: Final = 3
INET4_CONNECT: Final = 10
INET6_CONNECT: Final = 11
UDP4_SENDMSG: Final = 14
UDP6_SENDMSG: Final = 15
UPROBE_MULTI: Final = 48

_libc = ctypes.CDLL(None, use_errno=True)


class _Link(ctypes.Structure):
    _fields_ = (
        ("prog_fd", ctypes.c_uint32), ("target_fd", ctypes.c_uint32), ("attach_type", ctypes.c_uint32),
        ("flags", ctypes.c_uint32), ("rest", ctypes.c_uint64 * 6),
    )  # fmt: skip


class _Info(ctypes.Structure):
    _fields_ = (("fd", ctypes.c_uint32), ("length", ctypes.c_uint32), ("info", ctypes.c_uint64))


class _Element(ctypes.Structure):
    _fields_ = (
        ("map_fd", ctypes.c_uint32), ("pad", ctypes.c_uint32), ("key", ctypes.c_uint64), ("value", ctypes.c_uint64),
        ("flags", ctypes.c_uint64),
    )  # fmt: skip


class _Pin(ctypes.Structure):
    _fields_ = (("pathname", ctypes.c_uint64), ("bpf_fd", ctypes.c_uint32), ("file_flags", ctypes.c_uint32))


class _RawTracepoint(ctypes.Structure):
    _fields_ = (("name", ctypes.c_uint64), ("prog_fd", ctypes.c_uint32), ("pad", ctypes.c_uint32))


class _ProgramInfo(ctypes.Structure):
    """The fields up to those that we read; `rest` makes it as long as the kernel's may be."""

    _fields_ = (
        ("type", ctypes.c_uint32), ("id", ctypes.c_uint32), ("tag", ctypes.c_uint8 * 8),
        ("jited_prog_len", ctypes.c_uint32), ("xlated_prog_len", ctypes.c_uint32),
        ("jited_prog_insns", ctypes.c_uint64), ("xlated_prog_insns", ctypes.c_uint64), ("load_time", ctypes.c_uint64),
        ("created_by_uid", ctypes.c_uint32), ("nr_map_ids", ctypes.c_uint32), ("map_ids", ctypes.c_uint64),
        ("name", ctypes.c_char * 16), ("ifindex", ctypes.c_uint32), ("gpl_compatible", ctypes.c_uint32),
        ("netns_dev", ctypes.c_uint64), ("netns_ino", ctypes.c_uint64), ("nr_jited_ksyms", ctypes.c_uint32),
        ("nr_jited_func_lens", ctypes.c_uint32), ("jited_ksyms", ctypes.c_uint64),
        ("jited_func_lens", ctypes.c_uint64), ("btf_id", ctypes.c_uint32), ("func_info_rec_size", ctypes.c_uint32),
        ("func_info", ctypes.c_uint64), ("nr_func_info", ctypes.c_uint32), ("nr_line_info", ctypes.c_uint32),
        ("line_info", ctypes.c_uint64), ("jited_line_info", ctypes.c_uint64), ("nr_jited_line_info", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32), ("jited_line_info_rec_size", ctypes.c_uint32),
        ("nr_prog_tags", ctypes.c_uint32), ("prog_tags", ctypes.c_uint64), ("run_time_ns", ctypes.c_uint64),
        ("run_cnt", ctypes.c_uint64), ("rest", ctypes.c_uint64 * 8),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class RunTime:
    """What a program has cost so far."""

    seconds: float
    runs: int


class _PerfEvent(ctypes.Structure):
    """`struct perf_event_attr` up to its first version's end."""

    _fields_ = (
        ("type", ctypes.c_uint32), ("size", ctypes.c_uint32), ("config", ctypes.c_uint64),
        ("sample_period", ctypes.c_uint64), ("sample_type", ctypes.c_uint64), ("read_format", ctypes.c_uint64),
        ("flags", ctypes.c_uint64), ("wakeup_events", ctypes.c_uint32), ("bp_type", ctypes.c_uint32),
        ("bp_addr", ctypes.c_uint64),
    )  # fmt: skip


def _bpf(command: int, attributes: ctypes.Structure) -> int:
    """Raises OSError."""
    number = SYS_BPF.get(os.uname().machine)
    if number is None:
        raise OSError(f"bpf(2) has no number known here on {os.uname().machine}")
    result: int = _libc.syscall(number, command, ctypes.byref(attributes), ctypes.sizeof(attributes))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


class Link:
    """A program at a hook of a cgroup, beside those of others (a link implies BPF_F_ALLOW_MULTI). It is gone when the
    descriptor is closed, whatever ends its process."""

    def __init__(self, program: int, cgroup: int, attach_type: int) -> None:
        """`cgroup`: a descriptor of its folder. Raises OSError."""
        attributes = _Link(prog_fd=program, target_fd=cgroup, attach_type=attach_type)
        self._descriptor = _bpf(LINK_CREATE, attributes)

    def pin(self, path: Path) -> None:
        """It outlives its holder from now on, until the file (in a bpf file system) is removed. Raises OSError."""
        name = ctypes.create_string_buffer(os.fsencode(path))
        _bpf(OBJ_PIN, _Pin(pathname=ctypes.addressof(name), bpf_fd=self._descriptor))

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Watch(Link):
    """A program at a raw tracepoint (Documentation/bpf/libbpf/program_types.rst): needs no tracefs."""

    def __init__(self, program: int, event: str) -> None:
        """`event`: without its category. Raises OSError."""
        name = ctypes.create_string_buffer(event.encode("ascii"))
        attributes = _RawTracepoint(name=ctypes.addressof(name), prog_fd=program)
        self._descriptor = _bpf(RAW_TRACEPOINT_OPEN, attributes)


class TracepointLink(Link):
    """A program at a tracepoint, on every CPU, beside those of others; gone when the descriptor is closed."""

    def __init__(self, program: int, number: int) -> None:
        """`number`: the tracepoint's `id` in tracefs. Raises OSError."""
        attributes = _PerfEvent(type=PERF_TYPE_TRACEPOINT, size=ctypes.sizeof(_PerfEvent), config=number)
        attributes.sample_period = attributes.wakeup_events = 1
        call = SYS_PERF_EVENT_OPEN.get(os.uname().machine)
        if call is None:
            raise OSError(f"perf_event_open(2) has no number known here on {os.uname().machine}")
        descriptor = _libc.syscall(call, ctypes.byref(attributes), -1, 0, -1, ctypes.c_ulong(PERF_FLAG_FD_CLOEXEC))
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._descriptor = descriptor
        try:
            fcntl.ioctl(descriptor, PERF_EVENT_IOC_SET_BPF, program)
            fcntl.ioctl(descriptor, PERF_EVENT_IOC_ENABLE, 0)
        except OSError:
            self.close()
            raise


class UprobeLink(Link):
    """A program at instructions of a file that one process has mapped, or will; the memory of no other is touched.
    Takes Linux 6.6, whose way asks for no CAP_SYS_ADMIN, as that by perf_event_open(2) does."""

    def __init__(self, program: int, path: Path, at: Sequence[tuple[int, int]], pid: int) -> None:
        """`path`: as we see the file. `at`: offsets in it, in bytes, each with the cookie that the program gets. Raises
        OSError."""
        name = ctypes.create_string_buffer(os.fsencode(path))
        offsets, cookies = ((ctypes.c_uint64 * len(at))(*each) for each in zip(*at, strict=True))
        attributes = _Link(prog_fd=program, attach_type=UPROBE_MULTI)
        attributes.rest[0], attributes.rest[1] = ctypes.addressof(name), ctypes.addressof(offsets)
        attributes.rest[3] = ctypes.addressof(cookies)
        attributes.rest[4] = len(at)  # the upper half are flags
        attributes.rest[5] = pid
        self._descriptor = _bpf(LINK_CREATE, attributes)


def run_time(program: int) -> RunTime:
    """Of a loaded program, by its descriptor; nothing where nobody has the kernel count. Raises OSError."""
    info = _ProgramInfo()
    attributes = _Info(fd=program, length=ctypes.sizeof(info), info=ctypes.addressof(info))
    _bpf(OBJ_GET_INFO_BY_FD, attributes)
    return RunTime(info.run_time_ns * 1e-9, info.run_cnt)


class ArrayMap:
    """Elements of an array map, read into one buffer: for a per-CPU array one value for each possible CPU, each rounded
    up to eight bytes."""

    def __init__(self, descriptor: int, value_bytes: int, *, per_cpu: bool) -> None:
        self._descriptor = descriptor
        self._stride = (value_bytes + 7) // 8 * 8
        self._copies = possible_cpus() if per_cpu else 1
        self._key = ctypes.c_uint32()
        self._buffer = (ctypes.c_char * (self._stride * self._copies))()
        self._lookup = _Element(
            map_fd=descriptor, key=ctypes.addressof(self._key), value=ctypes.addressof(self._buffer)
        )
        self._value_bytes = value_bytes

    def read(self, index: int) -> bytes:
        """All copies, one behind the other, each `stride` long. Raises OSError."""
        self._key.value = index
        _bpf(MAP_LOOKUP_ELEM, self._lookup)
        return bytes(self._buffer)

    def total(self, index: int) -> int:
        """Of counters that are eight bytes each. Raises OSError."""
        return sum(int.from_bytes(copy[:8], sys.byteorder) for copy in self.copies(self.read(index)))

    def copies(self, raw: bytes) -> Iterator[bytes]:
        for start in range(0, len(raw), self._stride):
            yield raw[start : start + self._value_bytes]

    def write(self, index: int, value: bytes) -> None:
        """To an array that has one copy. Raises OSError."""
        self._key.value = index
        ctypes.memmove(self._buffer, value, min(len(value), self._stride))
        _bpf(MAP_UPDATE_ELEM, self._lookup)


def possible_cpus() -> int:
    """How many copies a per-CPU map has: /sys/devices/system/cpu/possible, e.g. `0-3,8`."""
    text = Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii")
    return int(text.strip().replace("-", ",").split(",")[-1]) + 1
