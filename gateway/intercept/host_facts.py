"""What this host is like, where it matters to interception: read from /proc and /sys, nothing changed."""

import fcntl
import pwd
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")
NET: Final = Path("/sys/class/net")
IPV6_ADDRESSES: Final = Path("/proc/net/if_inet6")
SIOCGIFADDR: Final = 0x8915
"""linux/sockios.h"""


@dataclass(frozen=True, slots=True)
class Bridges:
    """Of this host."""

    all: tuple[str, ...] = ()
    v4: tuple[str, ...] = ()
    """Those on which this host has an address: it may be the router of what is behind them."""
    v6: tuple[str, ...] = ()


def bridges() -> Bridges:
    try:
        found = tuple(sorted(each.name for each in NET.iterdir() if (each / "bridge").is_dir()))
    except OSError:
        found = ()
    if not found:
        return Bridges()
    with_v6 = _interfaces_with_ipv6()
    return Bridges(found, tuple(filter(_has_ipv4, found)), tuple(name for name in found if name in with_v6))


def uid_of(user: str) -> int:
    """Of a name or a number. Raises ValueError."""
    if user.isdigit():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise ValueError(f"this host has no user {user}") from None


def cgroup_path(path: str) -> tuple[int, str]:
    """Level and path of a cgroup as nftables wants them. Raises ValueError where there is no such cgroup, or its path
    would end the quotes that it stands in among nftables' commands.

    nft looks below /sys/fs/cgroup; where both versions are mounted, version 2 is in `unified`."""
    if not path.isprintable() or '"' in path:
        raise ValueError(f"nftables cannot be told of the cgroup {path!r}")
    plain = path.strip("/").removeprefix("sys/fs/cgroup/")
    for prefix in ("", "unified/"):
        whole = prefix + plain.removeprefix("unified/")
        folder = CGROUP_ROOT / whole
        if (folder / "cgroup.procs").is_file() and (folder / "cgroup.controllers").is_file():
            return len([part for part in plain.removeprefix("unified/").split("/") if part]), whole
    raise ValueError(f"there is no cgroup {path} (version 2)")


def cgroup_inodes(paths: Iterable[str]) -> dict[str, int]:
    """By path, 0 where there is no such cgroup. A cgroup that is made anew has another: a rule in the kernel then means
    one that is gone."""
    found = {}
    for path in paths:
        try:
            found[path] = (CGROUP_ROOT / cgroup_path(path)[1]).stat().st_ino
        except (ValueError, OSError):
            found[path] = 0
    return found


def has_ipv6() -> bool:
    return IPV6_ADDRESSES.exists()


def _has_ipv4(interface: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            fcntl.ioctl(asking, SIOCGIFADDR, struct.pack("16s24x", interface.encode()))
        except OSError:
            return False
    return True


def _interfaces_with_ipv6() -> frozenset[str]:
    """A line is address, index, prefix, scope, flags, name."""
    try:
        return frozenset(line.split()[5] for line in IPV6_ADDRESSES.read_text(encoding="ascii").splitlines())
    except OSError:
        return frozenset()
