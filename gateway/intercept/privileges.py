"""Keep the capabilities that a feature needs and give up all others (capabilities(7)), for good.

What each is for stands in docs/interception.md, and tests run with exactly these.
"""

import ctypes
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

NET_ADMIN: Final = 12
NET_RAW: Final = 13
SYS_ADMIN: Final = 21
SYS_PTRACE: Final = 19
PERFMON: Final = 38
BPF: Final = 39
LAST: Final = 63
VERSION_3: Final = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3 (linux/capability.h)"""
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
SYS_CAPSET: Final = {"x86_64": 126, "aarch64": 91}


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def effective() -> frozenset[int]:
    """Those of this process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    mask = int(line.split()[1], 16)
    return frozenset(number for number in range(LAST + 1) if mask >> number & 1)


def keep_only(wanted: Iterable[int]) -> frozenset[int]:
    """Give up all capabilities but these, of which those that we have stay. Programs that we start get no more. Raises
    OSError."""
    kept = effective() & frozenset(wanted)
    libc = ctypes.CDLL(None, use_errno=True)
    for number in range(LAST + 1):
        if number not in kept:
            libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)  # fails beyond the kernel's last one, and without SETPCAP
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    mask = sum(1 << number for number in kept)
    header = _Header(VERSION_3, 0)
    data = (_Data * 2)(
        _Data(mask & 0xFFFFFFFF, mask & 0xFFFFFFFF, 0),
        _Data(mask >> 32, mask >> 32, 0),
    )
    if libc.syscall(SYS_CAPSET[os.uname().machine], ctypes.byref(header), ctypes.byref(data)):
        raise OSError(ctypes.get_errno(), f"capset: {os.strerror(ctypes.get_errno())}")
    return kept
