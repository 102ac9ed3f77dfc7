"""Processes whose TLS is read: who fits what somebody chose, where the libssl of each is, and the link to it.

A program that runs for a tenth of a second is one, too: it is looked at as soon as it has been executed, and again
every few milliseconds until it has mapped a libssl. To set the probes takes up to 15 ms more, in which the kernel waits
for an RCU grace period. Used from one thread at a time.
"""

import os
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from gateway.probes.bpf_calls import Link
from gateway.probes.container_ids import SHORT_ID
from gateway.probes.containers import container_of
from gateway.probes.elf import Function, functions
from gateway.probes.identity import FileKey, Process, all_pids, file_key, read_process, user_name
from gateway.probes.scope import Scope
from gateway.probes.watching import Watched

MOST_PROCESSES: Final = 64
MOST_NAMED: Final = 256
"""Of chosen ones that are told of; beyond `MOST_PROCESSES` as not read."""
MOST_FILES: Final = 64
FRESH_S: Final = 1.0
"""So long after it was found a process is looked at often, as it may still be loading libraries."""
ENTRIES: Final = {"SSL_read": 0, "SSL_write": 1, "SSL_read_ex": 2, "SSL_write_ex": 3, "SSL_free": 4}
"""Functions, and cookies of probes at their entries (bpf/tls.c)."""
AT_RETURN: Final = 5
NEEDED: Final = ("SSL_read", "SSL_write")
OTHERS: Final = {"libgnutls": "GnuTLS", "libnss3": "NSS", "libmbedtls": "Mbed TLS", "libwolfssl": "wolfSSL"}
NONE: Final = "it has mapped no libssl, or has TLS of another kind linked in"
NONE_YET: Final = "it has mapped no libssl yet"

Attach = Callable[[Path, list[tuple[int, int]], int], Link]
"""Of a file, offsets with their cookies, a process. Raises OSError."""


class Chosen:
    """A process that fits, and how far it is covered."""

    def __init__(self, process: Process, image: int, who: dict[str, Any]) -> None:
        self.process = process
        self.image = image
        self.who = who
        self.links: list[Link] = []
        self.found_s = time.monotonic()
        self.state = "no_libssl"
        self.reason: str | None = NONE_YET

    @property
    def fresh(self) -> bool:
        return self.state == "no_libssl" and time.monotonic() - self.found_s < FRESH_S

    def is_still(self, process: Process, image: int) -> bool:
        """It has neither ended nor executed another program, or the same anew."""
        before = self.process
        return (before.started_ticks, before.file, self.image) == (process.started_ticks, process.file, image)

    def coverage(self) -> dict[str, Any]:
        return {**self.who, "state": self.state, "reason": self.reason}


class Processes:
    """`chosen` by pid."""

    def __init__(self, attach: Attach, scope: Scope) -> None:
        self._attach = attach
        self._scope = scope
        self._files: OrderedDict[FileKey, dict[str, Function]] = OrderedDict()
        self.chosen: dict[int, Chosen] = {}

    def look(self, watched: Watched, pids: Iterable[int] | None) -> list[int]:
        """At these, or at all. Returns those that are chosen no more, to be left. Raises nothing for a process that
        ends meanwhile."""
        whole = pids is None
        seen = {}
        for pid in (all_pids() if watched else ()) if pids is None else pids:
            found = _fitting(pid, watched)
            if found is not None and self._scope.holds(found[0].cgroup):
                seen[pid] = found
        asked = list(self.chosen) if whole else [pid for pid in pids or () if pid in self.chosen]
        gone = [pid for pid in asked if pid not in seen or not self.chosen[pid].is_still(*seen[pid][:2])]
        for pid, found in seen.items():
            if pid not in self.chosen and len(self.chosen) < MOST_NAMED:
                self.chosen[pid] = Chosen(*found)
        for pid in seen:
            chosen = self.chosen.get(pid)
            if chosen is not None and chosen.state == "no_libssl" and pid not in gone:  # it may load it later
                self._cover(chosen)
        return gone

    def leave(self, pid: int) -> list[Link]:
        """To be closed, which waits for the kernel."""
        chosen = self.chosen.pop(pid, None)
        return chosen.links if chosen is not None else []

    def fresh(self) -> set[int]:
        return {pid for pid, chosen in self.chosen.items() if chosen.fresh}

    def _cover(self, chosen: Chosen) -> None:
        pid = chosen.process.pid
        try:
            files, reason = _mapped(pid)
            chosen.reason = NONE_YET if chosen.fresh else reason
            found = [(path, _instructions(self._functions(path))) for path in files]
            found = [(path, at) for path, at in found if at]
            if not found:
                return
            if sum(bool(each.links) for each in self.chosen.values()) >= MOST_PROCESSES:
                raise ValueError(f"{MOST_PROCESSES} other processes are read already")
            for path, at in found:
                chosen.links.append(self._attach(path, at, pid))
        except (OSError, ValueError) as error:
            for link in chosen.links:
                link.close()
            chosen.links.clear()
            if Path(f"/proc/{pid}/maps").exists():  # else it has ended, and the next look says so
                chosen.state, chosen.reason = "refused", str(error)
            return
        chosen.state, chosen.reason = "covered", None

    def _functions(self, path: Path) -> dict[str, Function]:
        """Kept by the file, as the one of a large executable takes some time to read. Raises OSError, ValueError."""
        with path.open("rb") as file:
            key = file_key(os.fstat(file.fileno()))
            found = self._files.get(key)
            if found is None:
                found = self._files[key] = functions(file.fileno(), ENTRIES)
                if len(self._files) > MOST_FILES:
                    self._files.popitem(last=False)
        return found


def _fitting(pid: int, watched: Watched) -> tuple[Process, int, dict[str, Any]] | None:
    try:
        if watched.executables_alone and not watched.names(str(Path(f"/proc/{pid}/exe").readlink())):
            return None  # most of all there are: a tenth of the work
        process, image = read_process(pid), _image(pid)
    except OSError:
        return None
    if process.executable is None or pid == os.getpid():
        return None
    who = {
        "pid": pid, "process": process.comm, "executable": process.executable, "uid": process.uid,
        "user": user_name(process.uid) or str(process.uid), "container": _container(process),
    }  # fmt: skip
    return (process, image, who) if watched.fits(who, process.executable) else None


def _container(process: Process) -> str | None:
    """Its short id."""
    found = container_of(process.cgroups.values())
    return found[0][:SHORT_ID] if found is not None else None


def _image(pid: int) -> int:
    """Where its stack begins (field 28 of proc(5) stat): another place after each execve(2), though by chance."""
    text = Path(f"/proc/{pid}/stat").read_bytes()
    return int(text[text.rindex(b")") + 2 :].split()[25])


def _mapped(pid: int) -> tuple[list[Path], str]:
    """Files mapped to be executed that may hold TLS (libssl by its name, and the executable), and what is to be said if
    none of them does. Raises OSError, and ValueError for one that is not there any more."""
    found: dict[Path, None] = {}
    others = []
    executable = str(Path(f"/proc/{pid}/exe").readlink())
    for line in Path(f"/proc/{pid}/maps").read_text(errors="replace").splitlines():
        words = line.split(maxsplit=5)
        if len(words) < 6 or "x" not in words[1] or not words[5].startswith("/"):
            continue
        name = Path(words[5]).name
        if words[5] == executable or "libssl" in name:
            path = Path(f"/proc/{pid}/root{words[5]}")
            if path.stat().st_ino != int(words[4]):
                raise ValueError(f"{words[5]} has been replaced since it was loaded")
            found[path] = None
        others += [title for library, title in OTHERS.items() if name.startswith(library)]
    return list(found), f"its TLS is {others[0]}'s, which is not read" if others else NONE


def _instructions(found: dict[str, Function]) -> list[tuple[int, int]]:
    """Where probes go in a file, with their cookies; nowhere if it exports no libssl. Raises ValueError."""
    if not all(name in found for name in NEEDED):
        return []
    at = []
    for name, function in found.items():
        at.append((function.entry, ENTRIES[name]))
        if name == "SSL_free":
            continue
        if function.why_none is not None:
            raise ValueError(f"{name} cannot be probed safely: {function.why_none}")
        at += [(each, AT_RETURN) for each in function.returns]
    return at
