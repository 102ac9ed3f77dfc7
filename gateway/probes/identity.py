"""What /proc says of a process, guarded against its number being another's by now, and its executable's hash.

The kernel's stamp says who connected and when; /proc says what a process of that number is now. The two are of one
process if it began before it connected and has not exec'ed since. A process may lie about argv and comm, which are
not used here; about the path of its executable it may lie in namespaces of its own making (prctl PR_SET_MM_MAP, bind
mounts), which is what `namespaced` says: such a path proves nothing, the hash of what the link opens may be forged by
the former alone.
"""

import contextlib
import ctypes
import hashlib
import os
import pwd
import re
import socket
import stat
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.probes.containers import Container, Containers, container_of
from gateway.probes.feature import cgroup_root
from gateway.probes.stamps import cookie_of

TICKS_S: Final = os.sysconf("SC_CLK_TCK")
HASHES: Final = 4096
PIECE_BYTES: Final = 1024 * 1024
MOST_DESCRIPTORS: Final = 4096
"""Of a process that are looked through."""
SYS_PIDFD_GETFD: Final = 438
"""On every architecture."""
_UNIT: Final = re.compile(r"/([^/]+\.(?:service|scope|socket|mount|slice))(?=/|$)")
_libc = ctypes.CDLL(None, use_errno=True)

FileKey = tuple[int, int, int, int]
"""Device, inode, ctime in ns, size: what has these four is the same file, unchanged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    pid: int
    started_ticks: int
    """Since boot."""
    uid: int
    comm: str
    executable: str | None
    """None: a kernel thread, or it has gone."""
    file: FileKey | None
    namespaced: bool
    cgroup: str
    """Of the v2 hierarchy."""
    cgroups: dict[str, str]
    """Paths of all hierarchies by their controllers; v2 has none."""

    @property
    def started_ns(self) -> int:
        """By CLOCK_BOOTTIME; a tick early at most."""
        return self.started_ticks * 1_000_000_000 // TICKS_S

    @property
    def unit(self) -> str | None:
        """The systemd unit, of the innermost."""
        for path in self.cgroups.values():
            found = [unit for unit in _UNIT.findall(path) if not unit.endswith(".slice")]
            if found:
                return str(found[-1])
        return None


def read_process(pid: int) -> Process:
    """Raises OSError where there is none."""
    folder = Path(f"/proc/{pid}")
    started_ticks = _started_ticks(folder)
    comm = (folder / "comm").read_text(errors="replace").rstrip("\n")
    uid = _real_uid(folder)
    lines = (folder / "cgroup").read_text(errors="replace").splitlines()
    paths = dict(line.split(":", 2)[1:] for line in lines)
    executable: str | None = None
    file: FileKey | None = None
    namespaced = False
    with contextlib.suppress(OSError):
        link = _executable(folder)
        executable = str(link.readlink())
        found = link.stat()
        file = file_key(found)
        namespaced = True  # unless it can be seen that it is not
        namespaced = _elsewhere(folder, executable, found)
    if _started_ticks(folder) != started_ticks:
        raise ProcessLookupError(f"process {pid} has become another")
    return Process(
        pid=pid, started_ticks=started_ticks, uid=uid, comm=comm, executable=executable, file=file,
        namespaced=namespaced, cgroup=paths.get("", "/"), cgroups=paths,
    )  # fmt: skip


def _started_ticks(folder: Path) -> int:
    """Field 22 of proc(5) stat; the name in parentheses may hold anything."""
    text = (folder / "stat").read_bytes()
    return int(text[text.rindex(b")") + 2 :].split()[19])


def _executable(folder: Path) -> Path:
    """The link to it: that of another thread where the first one has ended. Raises OSError."""
    try:
        (folder / "exe").readlink()
    except FileNotFoundError:
        for task in (folder / "task").iterdir():
            with contextlib.suppress(OSError):
                (task / "exe").readlink()
                return task / "exe"
        raise
    return folder / "exe"


def _real_uid(folder: Path) -> int:
    """As the kernel's stamp has it. The folder's owner is root for a process that may not be dumped."""
    for line in (folder / "status").read_text(errors="replace").splitlines():
        if line.startswith("Uid:"):
            return int(line.split()[1])
    raise ProcessLookupError(f"{folder} names no user")


def file_key(found: os.stat_result) -> FileKey:
    return found.st_dev, found.st_ino, found.st_ctime_ns, found.st_size


def _elsewhere(folder: Path, executable: str, found: os.stat_result) -> bool:
    if not _same(folder, "ns/user"):
        return True
    with contextlib.suppress(OSError):
        ours = host_stat(executable)
        return (ours.st_dev, ours.st_ino) != (found.st_dev, found.st_ino)
    # A file that is gone by now was at that path, if the process sees the files that the host sees.
    return not _same(folder, "ns/mnt")


def host_stat(path: str) -> os.stat_result:
    """Of a file as the host sees it: we may have a /tmp of our own. Raises OSError."""
    with contextlib.suppress(PermissionError):
        return Path(f"/proc/1/root{path}").stat()
    return Path(path).stat()


def _same(folder: Path, what: str) -> bool:
    """As the host's first process, or as ours where that one is not to be looked at."""
    found = (folder / what).readlink()
    with contextlib.suppress(PermissionError):
        return found == (Path("/proc/1") / what).readlink()
    return found == (Path("/proc/self") / what).readlink()


class Identities:
    """Facts that are dear to find, kept. Used off the event loop, from several threads."""

    def __init__(self) -> None:
        self.containers = Containers()
        self._hashes: OrderedDict[FileKey, str] = OrderedDict()
        self._hashing = threading.Lock()

    def container(self, process: Process) -> Container | None:
        found = container_of(process.cgroups.values())
        return self.containers.named(*found) if found is not None else None

    def sha256(self, process: Process, *, at_hand: bool = False) -> str | None:
        """Of the executable's content; None where it cannot be read or changes meanwhile. `at_hand`: it is not read,
        only looked up."""
        if process.file is None:
            return None
        if at_hand:
            return self._hashes.get(process.file)
        with self._hashing:  # two at a time would read the same file twice
            kept = self._hashes.get(process.file)
            if kept is None:
                with contextlib.suppress(OSError):
                    kept = _hash(process.pid, process.file)
            if kept is not None:
                self._hashes[process.file] = kept
                while len(self._hashes) > HASHES:
                    self._hashes.popitem(last=False)
            return kept


def _hash(pid: int, expected: FileKey) -> str | None:
    digest = hashlib.sha256()
    with Path(f"/proc/{pid}/exe").open("rb") as file:
        if file_key(os.fstat(file.fileno())) != expected:
            return None
        while piece := file.read(PIECE_BYTES):
            digest.update(piece)
        if file_key(os.fstat(file.fileno())) != expected:
            return None
    return digest.hexdigest()


def user_name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def cgroup_path(number: int) -> str | None:
    """Of a v2 cgroup by its id, which is its folder's inode. Looks through all of them. None: it is gone."""
    root = cgroup_root()
    with contextlib.suppress(OSError):
        for folder, _, _ in os.walk(root):
            if Path(folder).stat().st_ino == number:
                return "/" + str(Path(folder).relative_to(root)).removeprefix(".")
    return None


# -- who holds a socket


def holders(inode: int) -> set[int]:
    """Processes with a descriptor of a socket. Looks through all there are."""
    return holders_among(inode, all_pids())


def holders_among(inode: int, pids: Iterable[int]) -> set[int]:
    """Those of these processes that have a descriptor of a socket."""
    wanted = f"socket:[{inode}]"
    return {pid for pid in pids if any(link == wanted for _, link in _descriptors(str(pid)))}


def all_pids() -> list[int]:
    with os.scandir("/proc") as entries:
        return [int(entry.name) for entry in entries if entry.name.isdigit()]


def socket_by_cookie(pid: int, cookie: int) -> socket.socket | None:
    """A descriptor of our own of a process's socket, in whatever network namespace it is. None: the process has no
    such socket, or is not to be touched."""
    for number, link in _descriptors(str(pid))[:MOST_DESCRIPTORS]:
        if link.startswith("socket:"):
            with contextlib.suppress(OSError), _taken(pid, [number]) as copies:
                for copy in copies.values():
                    sock = socket.socket(fileno=os.dup(copy))
                    with contextlib.suppress(OSError):
                        if cookie_of(sock) == cookie:
                            return sock
                    sock.close()
    return None


def _descriptors(pid: str) -> list[tuple[int, str]]:
    found = []
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    found.append((int(entry.name), os.readlink(entry.path)))  # noqa: PTH115 - ten thousands of them
    except PermissionError:  # another user's, and we are root without CAP_DAC_READ_SEARCH
        with contextlib.suppress(OSError):
            return _sockets_of(int(pid))
    except OSError:
        return []
    return found


def _sockets_of(pid: int) -> list[tuple[int, str]]:
    """As `_descriptors`, sockets alone; found by trying each number that the process may have. Raises OSError."""
    size = 0
    for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
        if line.startswith("FDSize:"):
            size = min(int(line.split()[1]), MOST_DESCRIPTORS)
    with _taken(pid, range(size)) as copies:
        facts = {number: os.fstat(copy) for number, copy in copies.items()}
    return [(number, f"socket:[{fact.st_ino}]") for number, fact in facts.items() if stat.S_ISSOCK(fact.st_mode)]


@contextmanager
def _taken(pid: int, numbers: Iterable[int]) -> Iterator[dict[int, int]]:
    """Copies of a process's descriptors (pidfd_getfd(2), with CAP_SYS_PTRACE), by number. Raises OSError."""
    handle = os.pidfd_open(pid)
    copies: dict[int, int] = {}
    try:
        for number in numbers:
            copy = _libc.syscall(SYS_PIDFD_GETFD, handle, number, 0)
            if copy >= 0:
                copies[number] = copy
        yield copies
    finally:
        os.close(handle)
        for copy in copies.values():
            os.close(copy)
