"""One network namespace: processes, threads and sockets in it.

A thread enters a namespace (`with namespace.entered():`) and leaves it again; the sockets that it made meanwhile stay
where they were made. So tests and their servers run in pytest's own process and look at each other's records, while
the kernel sees hosts of their own. What reads /etc/hosts or must be another user's is a process: `run`, `popen`.
"""

import contextlib
import ctypes
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

REPOSITORY = Path(__file__).resolve().parents[3]
CLONE_NEWNET = 0x40000000  # linux/sched.h
WITHIN_S = 60.0
_libc = ctypes.CDLL(None, use_errno=True)

Address = tuple[str, int]


class Namespace:
    """A namespace that `ip netns` knows by `name`; `holder` is a process in it whose mounts commands see.

    The holder says `ready` on its standard output once it has them.
    """

    def __init__(self, name: str, holder: "subprocess.Popen[str]") -> None:
        self.name = name
        self.path = Path("/run/netns") / name
        self._holder = holder
        self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        self._processes: list[subprocess.Popen[Any]] = []

    # ---- threads and sockets -----------------------------------------------------------------------------------------
    def enter(self) -> None:
        """Move the calling thread here for good."""
        _setns(self._fd)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is here until the block ends."""
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _setns(self._fd)
            try:
                yield
            finally:
                _setns(before)
        finally:
            os.close(before)

    def thread(self, work: Callable[[], object], name: str = "lab") -> threading.Thread:
        """A started daemon thread that works here."""

        def working() -> None:
            self.enter()
            work()

        started = threading.Thread(target=working, name=name, daemon=True)
        started.start()
        return started

    def make_socket(
        self, family: socket.AddressFamily = socket.AF_INET, kind: socket.SocketKind = socket.SOCK_STREAM
    ) -> socket.socket:
        with self.entered():
            return socket.socket(family, kind)

    def connect(
        self, address: Address, *, within_s: float = 5.0, source: Address | None = None, mark: int = 0
    ) -> socket.socket:
        """A TCP connection from here; its later time limit is `within_s` too."""
        made = self.make_socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        try:
            made.settimeout(within_s)
            if mark:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            if source is not None:
                made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                made.bind(source)
            made.connect(address)
        except BaseException:
            made.close()
            raise
        return made

    def http(self, **options: Any) -> httpx2.Client:
        """A client whose connections are made from here. It resolves no names: base URLs bear addresses."""
        return httpx2.Client(transport=_Transport(self), **options)

    # ---- processes ---------------------------------------------------------------------------------------------------
    def prefix(
        self, *, user: int | None = None, cgroup: Path | None = None, capabilities: Sequence[str] = ()
    ) -> list[str]:
        """The words that have a command run here: as a user (uid = gid), with ambient capabilities, in a cgroup.

        The process dies with the thread that started it.
        """
        words = [
            "setpriv",
            "--pdeathsig",
            "KILL",
            "nsenter",
            f"--net={self.path}",
            f"--mount=/proc/{self._holder.pid}/ns/mnt",
        ]
        words += [f"--wdns={REPOSITORY}"]
        if cgroup is not None:
            words += ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(cgroup)]
        if user is not None:
            words += ["setpriv", "--reuid", str(user), "--regid", str(user), "--clear-groups"]
            if capabilities:
                kept = ",".join(f"+{name}" for name in capabilities)
                words += [
                    "--inh-caps",
                    f"-all,{kept}",
                    "--ambient-caps",
                    f"-all,{kept}",
                    "--bounding-set",
                    f"-all,{kept}",
                ]
            words += ["--pdeathsig", "KILL"]  # a change of user takes the first one away
        return words

    def popen(
        self,
        command: Sequence[str],
        *,
        user: int | None = None,
        cgroup: Path | None = None,
        capabilities: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        **options: Any,
    ) -> subprocess.Popen[Any]:
        """A process here; the lab kills what is left of it at its end."""
        words = [*self.prefix(user=user, cgroup=cgroup, capabilities=capabilities), *command]
        started = subprocess.Popen(words, env={**_environment(), **(env or {})}, **options)
        self._processes.append(started)
        return started

    def run(
        self, *command: str, stdin: str = "", within_s: float = WITHIN_S, check: bool = True, **how: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here to its end. With `check`, a failure raises AssertionError with what it said."""
        process = self.popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **how
        )
        try:
            out, err = process.communicate(stdin, timeout=within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{' '.join(command)}: not ended within {within_s} s\n{out}\n{err}") from None
        finally:
            self._processes.remove(process)
        if check:
            assert process.returncode == 0, f"{' '.join(command)}: exit {process.returncode}\n{out}\n{err}"
        return subprocess.CompletedProcess(list(command), process.returncode, out, err)

    def python(self, code: str, *arguments: str, **how: Any) -> Any:
        """Run Python code here (the repository's environment); the JSON that it prints on its last line."""
        said = self.run(sys.executable, "-c", code, *arguments, **how).stdout.strip()
        return json.loads(said.splitlines()[-1]) if said else None

    def pids(self) -> list[int]:
        """Processes that are here, pytest's own threads aside."""
        mine, known = self.inode, (os.getpid(), self._holder.pid)
        found: list[int] = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    if os.stat(folder / "ns/net").st_ino == mine and int(folder.name) not in known:
                        found.append(int(folder.name))
        return found

    # ---- the kernel's state ------------------------------------------------------------------------------------------
    @property
    def inode(self) -> int:
        return os.fstat(self._fd).st_ino

    def ip(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(["ip", "-n", self.name, *words], capture_output=True, text=True, check=False)
        if check:
            assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"
        return done.stdout

    def ip_batch(self, lines: str) -> None:
        """Many `ip` commands in one process."""
        done = subprocess.run(
            ["ip", "-n", self.name, "-batch", "-"], input=lines, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{lines}\n{done.stderr}"

    def nft(self, script: str, check: bool = True) -> str:
        """Run an nft script (`list ruleset`, `add table …`) here."""
        done = subprocess.run(
            ["nsenter", f"--net={self.path}", "nft", "-f", "-"],
            input=script,
            capture_output=True,
            text=True,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{script}\n{done.stderr}"
        return done.stdout

    def ruleset(self) -> str:
        """Every table, without handles, counts and times: two equal texts are two equal rule sets."""
        return without_counts(self.nft("list ruleset\n"))

    def tables(self) -> list[str]:
        return re.findall(r"^table (\S+ \S+) ", self.nft("list ruleset\n"), re.MULTILINE)

    def policy(self) -> str:
        """Rules and routes of both families, all tables."""
        told = [
            self.ip(f"-{family}", *words) for family in "46" for words in (("rule",), ("route", "show", "table", "all"))
        ]
        # What the kernel itself says about a route's age and hints changes by itself.
        return "\n".join(re.sub(r" (expires \S+|pref \w+|error -?\d+)", "", text).strip() for text in told)

    def sysctl(self, name: str, value: str | int | None = None) -> str:
        """Read `net.ipv4.conf.all.rp_filter`, or write it."""
        file = Path("/proc/sys") / name.replace(".", "/")
        with self.entered():
            if value is not None:
                file.write_text(f"{value}\n")
            return file.read_text().strip()

    def sockets(self, *filters: str) -> Counter[str]:
        """How many TCP sockets are in which state; `filters` as of ss (`dport = :80`)."""
        words = ["nsenter", f"--net={self.path}", "ss", "-Htan", *filters]
        said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
        return Counter(line.split()[0] for line in said.splitlines() if line.strip())

    # ---- end ---------------------------------------------------------------------------------------------------------
    def kill_all(self) -> list[str]:
        """Kill what still runs here, and tell what it was."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait(5)
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
        self._processes.clear()
        told: list[str] = []
        deadline = time.monotonic() + 5
        while (pids := self.pids()) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(OSError):
                    command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    if command:  # a zombie has none
                        told.append(f"{pid} {command.strip()}")
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)
        return sorted(set(told))

    def wait_ready(self) -> None:
        """Return once commands can run here."""
        assert self._holder.stdout is not None
        said = self._holder.stdout.readline().strip()
        assert said == "ready", "no mounts of our own: a lab needs root with CAP_SYS_ADMIN"

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait(5)
        if self._holder.stdout is not None:
            self._holder.stdout.close()
        Path(f"/run/sluicegate-agent/{self.inode}.lock").unlink(missing_ok=True)
        os.close(self._fd)


class _Transport(httpx2.BaseTransport):
    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace
        self._inner = httpx2.HTTPTransport(verify=False)

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        with self._namespace.entered():
            return self._inner.handle_request(request)

    def close(self) -> None:
        self._inner.close()


def without_counts(ruleset: str) -> str:
    """An nft listing without what changes by itself: packet counts, time left in sets, handles."""
    text = re.sub(r"packets \d+ bytes \d+", "", ruleset)
    text = re.sub(r" expires \d[0-9a-z]*", "", text)
    return re.sub(r" ?# handle \d+", "", text).strip()


def without_ages(routes: str) -> str:
    """A listing of rules or routes without what the kernel changes by itself."""
    return re.sub(r" (expires \S+|pref \w+|error -?\d+)", "", routes).strip()


def _environment() -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith("SLUICEGATE_") or "TEST" in name}
    path = f"{Path(sys.executable).parent}:{own.get('PATH', '/usr/bin:/bin')}"
    return {**own, "PATH": path, "PYTHONPATH": str(REPOSITORY)}


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
