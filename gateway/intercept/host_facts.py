"""What this host is like, where it matters to interception: read from /proc and /sys, nothing changed."""

import contextlib
import pwd
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from gateway.intercept.container_addresses import addresses_of

CGROUP_ROOT: Final = Path("/sys/fs/cgroup")


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
        with contextlib.suppress(OSError):  # a name that is too long
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


def container_addresses(paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Of cgroups, by path. Blocks for some milliseconds each."""
    found = {}
    for path in set(paths):
        try:
            found[path] = addresses_of(CGROUP_ROOT / cgroup_path(path)[1])
        except ValueError:
            found[path] = ()
    return found


def has_ipv6() -> bool:
    return Path("/proc/net/if_inet6").exists()
