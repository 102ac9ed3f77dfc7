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
SYS_PTRACE: Final = 19
SYS_ADMIN: Final = 21
PERFMON: Final = 38
BPF: Final = 39
NAMES: Final = {NET_ADMIN: "CAP_NET_ADMIN", NET_RAW: "CAP_NET_RAW", SYS_PTRACE: "CAP_SYS_PTRACE",
                SYS_ADMIN: "CAP_SYS_ADMIN", PERFMON: "CAP_PERFMON", BPF: "CAP_BPF"}  # fmt: skip
"""linux/capability.h"""
LAST: Final = 63
VERSION_3: Final = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3 (linux/capability.h)"""
PR_SET_KEEPCAPS: Final = 8
PR_CAPBSET_DROP: Final = 24
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_RAISE: Final = 2
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
SYS_CAPSET: Final = {"x86_64": 126, "aarch64": 91}


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def effective() -> frozenset[int]:
    """Those of this process."""
    return effective_of("self")


def effective_of(process: int | str) -> frozenset[int]:
    """Those of a process (its number). Raises OSError."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    mask = int(line.split()[1], 16)
    return frozenset(number for number in range(LAST + 1) if mask >> number & 1)


def named(capabilities: Iterable[int]) -> str:
    """For people."""
    return ", ".join(NAMES.get(number, str(number)) for number in sorted(capabilities))


def keep_only(wanted: Iterable[int]) -> frozenset[int]:
    """Give up all capabilities but these, of which those that we have stay. Programs that we start get no more. Raises
    OSError."""
    kept = effective() & frozenset(wanted)
    libc = _libc()
    for number in range(LAST + 1):
        if number not in kept:
            libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0)  # fails beyond the kernel's last one, and without SETPCAP
    libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    _prctl(libc, PR_SET_NO_NEW_PRIVS, 1)
    _set(libc, kept, inheritable=frozenset())
    return kept


def change_user(uid: int, gid: int, name: str | None, *, keeping: Iterable[int] = ()) -> None:
    """Become another user with that user's groups (`gid` alone where it has no name), for good. Of what we may, only
    `keeping` is left, also to programs that we start. Raises OSError."""
    kept = effective() & frozenset(keeping)
    libc = _libc()
    if kept:
        _prctl(libc, PR_SET_KEEPCAPS, 1)
    if name is None:
        os.setgroups([])
    else:
        os.initgroups(name, gid)
    os.setgid(gid)
    os.setuid(uid)
    if kept:
        hand_down(kept)


def hand_down(kept: frozenset[int]) -> None:
    """Have these capabilities and no others, and leave them to what we exec, whoever we are. Raises OSError."""
    libc = _libc()
    _set(libc, kept, inheritable=kept)
    for number in kept:
        _prctl(libc, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(libc: ctypes.CDLL, option: int, *arguments: int) -> None:
    values = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    if libc.prctl(option, *values):
        raise OSError(ctypes.get_errno(), f"prctl {option}: {os.strerror(ctypes.get_errno())}")


def _set(libc: ctypes.CDLL, kept: frozenset[int], *, inheritable: frozenset[int]) -> None:
    mask, handed = (sum(1 << number for number in each) for each in (kept, inheritable))
    header = _Header(VERSION_3, 0)
    low = 0xFFFFFFFF
    data = (_Data * 2)(_Data(mask & low, mask & low, handed & low), _Data(mask >> 32, mask >> 32, handed >> 32))
    if libc.syscall(SYS_CAPSET[os.uname().machine], ctypes.byref(header), ctypes.byref(data)):
        raise OSError(ctypes.get_errno(), f"capset: {os.strerror(ctypes.get_errno())}")
