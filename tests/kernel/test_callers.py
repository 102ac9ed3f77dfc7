"""Who opened a connection, by the kernel's stamp and /proc (gateway/probes/callers.py)."""

import hashlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.probes.callers import Callers
from gateway.probes.scope import Scope
from tests.support.own_cgroup import cgroup_name, cgroup_root
from tests.support.probes import Probes, probes

pytestmark = pytest.mark.timeout(120)
BEGIN = """
import array, ctypes, json, os, socket, subprocess, sys, threading, time
def connect():
    sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    return sock
def stay():
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def running() -> Iterator[Probes]:
    with probes() as made:
        yield made


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.settimeout(10)
        yield made


@contextmanager
def client(
    listener: socket.socket, code: str, *prefix: str, more: Sequence[str] = (), **how: Any
) -> Iterator[subprocess.Popen[str]]:
    """A Python program with the listener's address as arguments, which lives until it is left alone."""
    address, port = listener.getsockname()[:2]
    argv = [*prefix, sys.executable, "-c", BEGIN + code, address, str(port), *more]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **how) as process:
        try:
            yield process
        finally:
            process.kill()


def accepted(listener: socket.socket, running: Probes) -> tuple[socket.socket, dict[str, Any]]:
    sock, peer = listener.accept()
    return sock, running.who(peer, sock.getsockname())


def said(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_a_connection_has_its_process_with_user_executable_and_hash(running: Probes, listener: socket.socket) -> None:
    with client(listener, "sock = connect(); stay()") as process:
        sock, found = accepted(listener, running)
        executable = os.readlink(f"/proc/{process.pid}/exe")
        assert found["found"]
        assert found["pid"] == process.pid
        assert found["executable"] == executable
        assert found["sha256"] == hashlib.sha256(Path(executable).read_bytes()).hexdigest()
        assert (found["uid"], found["user"]) == (os.getuid(), "root")
        assert found["started_ticks"] == int(
            Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
        )
        assert found["marks"] == []
        sock.close()


def test_ipv6_and_ipv4_by_an_ipv6_socket(running: Probes) -> None:
    mapped = "sock = socket.socket(socket.AF_INET6); sock.connect(('::ffff:127.0.0.1', int(sys.argv[2]))); stay()"
    for family, address, code in (
        (socket.AF_INET6, "::1", "sock = connect(); stay()"),
        (socket.AF_INET, "127.0.0.1", mapped),
    ):
        with socket.create_server((address, 0), family=family) as server, client(server, code) as process:
            sock, found = accepted(server, running)
            assert found["pid"] == process.pid
            assert found["marks"] == []
            sock.close()


def test_a_thread_is_its_process(running: Probes, listener: socket.socket) -> None:
    code = "t = threading.Thread(target=lambda: (globals().update(sock=connect()), stay())); t.start(); t.join()"
    with client(listener, code) as process:
        sock, found = accepted(listener, running)
        assert found["pid"] == process.pid
        sock.close()


def test_a_socket_that_a_fork_shares_is_marked(running: Probes, listener: socket.socket) -> None:
    """The one that connected stays the caller; that another holds its socket is said."""
    code = "sock = connect(); child = os.fork(); print(json.dumps(child), flush=True) if child else None; stay()"
    with client(listener, code) as process:
        sock, _ = listener.accept()
        said(process)
        time.sleep(0.5)  # looking through all processes is done a tenth of the time
        found = running.who(sock.getpeername(), sock.getsockname())
        assert found["pid"] == process.pid
        assert found["marks"] == ["inherited"]
        sock.close()


def test_a_socket_that_was_passed_on_is_marked(running: Probes, listener: socket.socket) -> None:
    """By SCM_RIGHTS; the process that connected has closed it."""
    code = """
ours, theirs = socket.socketpair()
if not os.fork():
    _, fds, _, _ = socket.recv_fds(theirs, 1, 1)
    print(json.dumps(os.getpid()), flush=True)
    stay()
sock = connect()
socket.send_fds(ours, [b"x"], [sock.fileno()])
sock.close()
stay()
"""
    with client(listener, code) as process:
        sock, _ = listener.accept()
        said(process)
        time.sleep(0.5)
        found = running.who(sock.getpeername(), sock.getsockname())
        assert found["pid"] == process.pid
        assert found["marks"] == ["inherited"]
        sock.close()


def test_a_program_that_execs_another_does_not_lend_it_its_connection(running: Probes, listener: socket.socket) -> None:
    """Who connects and then becomes a program that is trusted is not taken for it."""
    code = "sock = connect(); os.set_inheritable(sock.fileno(), True); os.execv('/bin/sleep', ['sleep', '30'])"
    with client(listener, code) as process:
        sock, _ = listener.accept()
        deadline = time.monotonic() + 5
        while "sleep" not in os.readlink(f"/proc/{process.pid}/exe") and time.monotonic() < deadline:
            time.sleep(0.01)
        found = running.who(sock.getpeername(), sock.getsockname())
        assert found["pid"] == process.pid
        assert "exec" in found["marks"]
        assert found["executable"] is None
        assert found["sha256"] is None
        assert found["process"].startswith("python")
        sock.close()


def test_argv_comm_and_name_of_the_file_do_not_matter(running: Probes, listener: socket.socket, tmp_path: Path) -> None:
    """A copy under another name has its own path and the hash of what it is; comm is only what it calls itself."""
    renamed = tmp_path / "trusted"
    shutil.copy(os.path.realpath("/bin/bash"), renamed)
    address, port = listener.getsockname()
    script = f"exec 3<>/dev/tcp/{address}/{port}; echo trusted-name > /proc/$$/comm; read line"
    argv = ["/usr/bin/curl", "-c", script]
    with subprocess.Popen(argv, executable=renamed, stdin=subprocess.PIPE) as process:
        sock, found = accepted(listener, running)
        assert found["pid"] == process.pid
        assert found["executable"] == str(renamed)
        assert found["sha256"] == hashlib.sha256(renamed.read_bytes()).hexdigest()
        process.kill()
        sock.close()


def test_the_user_is_that_of_the_connect(running: Probes, listener: socket.socket) -> None:
    code = "os.setuid(64321); sock = connect(); stay()"
    with client(listener, code) as process:
        sock, found = accepted(listener, running)
        assert (found["pid"], found["uid"], found["user"]) == (process.pid, 64321, None)
        sock.close()
    code = "sock = connect(); os.setuid(64321); print(1, flush=True); stay()"
    with client(listener, code) as process:
        sock, _ = listener.accept()
        said(process)
        assert running.who(sock.getpeername(), sock.getsockname())["uid"] == 0
        sock.close()


def test_another_users_sockets_are_seen(running: Probes, listener: socket.socket) -> None:
    """The probes may not list that user's descriptors."""
    code = "os.setuid(64321); sock = connect(); child = os.fork(); print(1, flush=True) if child else None; stay()"
    with client(listener, code) as process:
        sock, _ = listener.accept()
        said(process)
        time.sleep(1)
        found = running.who(sock.getpeername(), sock.getsockname())
        assert (found["pid"], found["marks"]) == (process.pid, ["inherited"])
        sock.close()


def test_a_process_in_a_network_namespace_of_its_own(running: Probes, listener: socket.socket) -> None:
    """Loopback is another there: the same addresses in two namespaces are not mixed up."""
    code = """
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), source_address=(sys.argv[1], int(sys.argv[3])))
print(1, flush=True)
stay()
"""
    with socket.create_connection(listener.getsockname()) as sock:
        addresses = sock.getsockname(), sock.getpeername()
        with client(listener, code, "unshare", "--net", more=[str(addresses[0][1])]) as other:
            said(other)
            assert running.who(*addresses)["pid"] == os.getpid()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            assert running.who(*addresses) == {"found": False}


def test_a_file_that_a_namespace_shows_at_a_trusted_path_is_marked(
    running: Probes, listener: socket.socket, tmp_path: Path
) -> None:
    copy = tmp_path / "bash"
    copy.write_bytes(Path("/bin/bash").read_bytes() + b"\0")
    copy.chmod(0o755)
    address, port = listener.getsockname()
    script = f"mount --bind {copy} /usr/bin/cat; exec /usr/bin/cat -c 'exec 3<>/dev/tcp/{address}/{port}; read line'"
    with subprocess.Popen(["unshare", "--mount", "bash", "-c", script], stdin=subprocess.PIPE) as process:
        sock, found = accepted(listener, running)
        assert found["marks"] == ["namespaced"]
        assert found["sha256"] == hashlib.sha256(copy.read_bytes()).hexdigest()
        process.kill()
        sock.close()


def test_what_was_connected_before_is_found_and_marked(listener: socket.socket) -> None:
    with client(listener, "sock = connect(); stay()") as process:
        sock, _ = listener.accept()
        with probes() as late:
            found = late.who(sock.getpeername(), sock.getsockname())
        assert found["pid"] == process.pid
        assert found["marks"] == ["pre-existing"]
        sock.close()


def test_a_cgroup_is_told(running: Probes, listener: socket.socket) -> None:
    folder = cgroup_root() / "callers"
    folder.mkdir()
    try:
        code = f"open('{folder}/cgroup.procs', 'w').write(str(os.getpid())); sock = connect(); stay()"
        with client(listener, code):
            sock, found = accepted(listener, running)
            assert found["cgroup"] == cgroup_name(folder)
            sock.close()
    finally:
        folder.rmdir()


def test_ten_thousand_connections_leave_no_entry(listener: socket.socket) -> None:
    """Refused ones, ended by either side, with and without a reset; and nothing was lost."""
    callers = Callers(lambda message, descriptors: None, Scope.of(cgroup_root()))
    callers.load()
    (program,) = callers.programs
    with program:
        address = listener.getsockname()
        ports = set()
        for turn in range(10_000):
            with socket.socket() as sock:
                if turn % 5 == 4:
                    sock.connect_ex((address[0], 1))
                    continue
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", turn % 2, 0))
                sock.connect(address)
                ports.add(sock.getsockname()[1])
                other, _ = listener.accept()
                with other if turn % 3 else sock:
                    pass
                other.close()
        left = [key for key in program.table("connections") if key.source_port in ports]
        assert [key for key in left if key.destination_port == address[1]] == []
        assert callers.lost() == {"stamps": 0, "connections": 0}
