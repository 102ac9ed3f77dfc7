"""Events of bpf/trace_*.c as they lie in the ring buffer."""

import ctypes
from typing import Final


class Who(ctypes.Structure):
    """`struct who` of bpf/trace.h"""

    _fields_ = (
        ("cgroup", ctypes.c_uint64), ("pid", ctypes.c_uint32), ("tid", ctypes.c_uint32), ("uid", ctypes.c_uint32),
        ("gid", ctypes.c_uint32), ("comm", ctypes.c_char * 16),
    )  # fmt: skip


class Exec(ctypes.Structure):
    """The head of `struct exec_event`; its text follows."""

    _fields_ = (
        ("who", Who), ("at_ns", ctypes.c_uint64), ("stage", ctypes.c_uint32), ("error", ctypes.c_int32),
        ("parent", ctypes.c_uint32), ("old_tid", ctypes.c_uint32), ("parent_comm", ctypes.c_char * 16),
        ("arguments", ctypes.c_uint32), ("bytes", ctypes.c_uint32), ("more", ctypes.c_uint32),
        ("unread", ctypes.c_uint32),
    )  # fmt: skip


EXEC_BEGUN, EXEC_DONE, EXEC_FAILED = 1, 2, 3


class Connect(ctypes.Structure):
    """`struct connect_event`"""

    _fields_ = (
        ("who", Who), ("at_ns", ctypes.c_uint64), ("took_ns", ctypes.c_uint64), ("cookie", ctypes.c_uint64),
        ("stage", ctypes.c_uint32), ("family", ctypes.c_uint16), ("port", ctypes.c_uint16),
        ("to", ctypes.c_uint8 * 16), ("source", ctypes.c_uint8 * 16), ("source_port", ctypes.c_uint32),
        ("pad", ctypes.c_uint32),
    )  # fmt: skip


RESULTS: Final = {1: "established", 2: "failed", 3: "datagrams"}
"""By `stage`."""


class Packet(ctypes.Structure):
    """The head of `struct packet_event`; its payload follows."""

    _fields_ = (
        ("who", Who), ("at_ns", ctypes.c_uint64), ("cookie", ctypes.c_uint64), ("outgoing", ctypes.c_uint32),
        ("local_port", ctypes.c_uint32), ("remote_port", ctypes.c_uint32), ("bytes", ctypes.c_uint32),
        ("head", ctypes.c_uint8 * 40),
    )  # fmt: skip
