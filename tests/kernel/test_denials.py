"""Connections that the kernel refuses (gateway/probes/denials.py)."""

import contextlib
import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.probes import bpf_calls
from gateway.probes.bpf_calls import Link
from gateway.probes.program import CGROUP_SOCK_ADDR
from gateway.probes.toolchain import load_bcc
from tests.support.lab import Lab
from tests.support.lab.lab import SERVER4, SERVER6, SERVERS4
from tests.support.lab.talking import wait_until
from tests.support.own_cgroup import cgroup_name, cgroup_root
from tests.support.probes import Probes, probes

pytestmark = pytest.mark.timeout(120)
USER = 64322
TRY = """
import errno, json, socket, sys
said = []
for target in json.loads(sys.argv[1]):
    address, port, kind = target
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM if kind == "sendto" else socket.SOCK_STREAM) as sock:
        sock.settimeout(3)
        try:
            sock.sendto(b"x", (address, port)) if kind == "sendto" else sock.connect((address, port))
            said.append("passed")
        except OSError as error:
            said.append(errno.errorcode.get(error.errno, str(error)))
print(json.dumps(said))
"""


@pytest.fixture
def running() -> Iterator[Probes]:
    with probes() as made:
        yield made


@pytest.fixture
def port() -> Iterator[int]:
    """Of a listener on both loopbacks."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096) as made:
        yield made.getsockname()[1]


def rule(number: int = 1, **conditions: Any) -> dict[str, Any]:
    return {"id": number, "on_failure": "open", **conditions}


def deny(running: Probes, *rules: dict[str, Any], within_s: float = 2.0) -> None:
    """And wait until they are in force."""
    running.messages.clear()
    running.tell({"type": "denials", "items": list(rules)})
    wanted = {each["id"] for each in rules}
    running.wait_for(
        "denial_state", lambda said: {each["id"] for each in said["items"] if each["in_force"]} == wanted, within_s
    )


def attempt(*targets: tuple[Any, ...], user: int | None = None, python: str = sys.executable, **how: Any) -> list[str]:
    """By a process of its own: "passed" or the error's name for each (address, port[, "sendto"])."""
    given = json.dumps([(*target, "connect")[:3] for target in targets])
    argv = [python, "-c", TRY, given]
    done = subprocess.run(argv, capture_output=True, text=True, user=user, check=True, timeout=20, **how)
    said: list[str] = json.loads(done.stdout)
    return said


def test_a_user_is_denied_at_once_and_others_are_not(running: Probes, port: int) -> None:
    deny(running, rule(uid=USER, cidrs=["127.0.0.0/8", "::1/128"], ports=[port]))
    targets = [("127.0.0.1", port), ("::1", port), ("::ffff:127.0.0.1", port), ("127.0.0.1", port, "sendto")]
    begun_s = time.monotonic()
    assert attempt(*targets, user=USER) == ["EPERM"] * 4
    assert time.monotonic() - begun_s < 2
    assert attempt(*targets) == ["passed"] * 4
    assert attempt(("127.0.0.1", port + 1), user=USER) == ["ECONNREFUSED"], "another port"
    running.wait_for("denial_state", lambda said: said["items"][0]["denied"] == 4)
    deny(running)
    assert attempt(*targets, user=USER) == ["passed"] * 4


def test_ipv6_networks_do_not_hold_ipv4(running: Probes, port: int) -> None:
    deny(running, rule(uid=USER, cidrs=["::/0"]))
    assert attempt(("127.0.0.1", port), ("::1", port), user=USER) == ["passed", "EPERM"]
    deny(running, rule(1, uid=USER, cidrs=["127.0.0.1"]), rule(2, uid=USER, cidrs=["127.0.0.0/8"]))
    deny(running, rule(2, uid=USER, cidrs=["127.0.0.0/8"]))
    assert attempt(("127.0.0.1", port), ("::1", port), user=USER) == ["EPERM", "passed"]


def test_a_cgroup_is_denied_with_those_below_it(running: Probes, port: int) -> None:
    folder = cgroup_root() / "denied"
    (folder / "below").mkdir(parents=True)
    try:
        deny(running, rule(cgroup=cgroup_name(folder), cidrs=["127.0.0.1"]))
        for where in (folder, folder / "below"):
            shell = ["sh", "-c", 'echo $$ >"$0/cgroup.procs" && exec "$@"', str(where)]
            argv = [*shell, sys.executable, "-c", TRY, json.dumps([("127.0.0.1", port, "connect")])]
            assert json.loads(subprocess.check_output(argv)) == ["EPERM"]
        assert attempt(("127.0.0.1", port)) == ["passed"]
    finally:
        (folder / "below").rmdir()
        folder.rmdir()


@contextmanager
def program(folder: Path, code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A copy of Python in a file of its own."""
    copy = folder / "denied-program"
    if not copy.exists():
        shutil.copy(os.path.realpath(sys.executable), copy)
    argv = [str(copy), "-c", code, *arguments]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_an_executable_is_denied_whoever_starts_it(running: Probes, port: int, tmp_path: Path) -> None:
    """One that runs already, one that starts later, a child of it that it forks, and its open connections."""
    copy = tmp_path / "denied-program"
    code = """
import errno, json, os, socket, sys
def attempt():
    try:
        return socket.create_connection(("127.0.0.1", int(sys.argv[1])), 3)
    except OSError as error:
        return errno.errorcode[error.errno]
held = attempt()
print("open", flush=True)
held.settimeout(5)
try:
    print(held.recv(1) and "", flush=True)
except OSError as error:
    print(errno.errorcode[error.errno], flush=True)
print(attempt(), flush=True)
if not os.fork():
    print(attempt(), flush=True)
    os._exit(0)
os.wait()
"""
    with program(tmp_path, code, str(port)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        begun_s = time.monotonic()
        deny(running, rule(executable=str(copy), cidrs=["127.0.0.1"], ports=[port], on_failure="closed"))
        assert process.stdout.readline() == "ECONNABORTED\n", "the open connection is cut"
        assert time.monotonic() - begun_s < 1.5
        assert [process.stdout.readline() for _ in range(2)] == ["EPERM\n"] * 2
    assert attempt(("127.0.0.1", port), python=str(copy)) == ["EPERM"]
    assert attempt(("127.0.0.1", port)) == ["passed"]
    linked = tmp_path / "another-name"
    linked.hardlink_to(copy)
    assert attempt(("127.0.0.1", port), python=str(linked)) == ["EPERM"], "the same file by another name"
    deny(running)
    assert attempt(("127.0.0.1", port), python=str(copy)) == ["passed"]


def test_an_open_rule_lets_pass_what_is_not_judged_and_cuts_it(running: Probes, port: int, tmp_path: Path) -> None:
    """A child connects the moment it is forked; nobody has judged it, and within a moment its connection is gone."""
    code = """
import errno, os, socket, sys
for _ in range(20):
    if not os.fork():
        try:
            sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 3)
            sock.settimeout(5)
            said = "kept" if sock.recv(1) else "ended"
        except OSError as error:
            said = errno.errorcode.get(error.errno, "kept")
        os.write(1, said.encode() + b"\\n")
        os._exit(0)
for _ in range(20):
    os.wait()
"""
    copy = tmp_path / "denied-program"
    with program(tmp_path, "") as process:
        process.wait(5)
    deny(running, rule(executable=str(copy), cidrs=["127.0.0.1"], ports=[port]))
    with program(tmp_path, code, str(port)) as process:
        out, _ = process.communicate(timeout=20)
    assert len(out.split()) == 20
    assert set(out.split()) <= {"EPERM", "ECONNABORTED"}, out


def test_hosts_are_denied_by_their_addresses_as_they_change(lab: Lab) -> None:
    """Those of the provider's hosts, too; in a namespace with name servers of its own."""
    names = lab.names()
    names.set("api.provider.test", SERVER4, SERVER6, ttl_s=1)
    lab.serve(lambda sock: None, 443)
    with probes(lab.router) as running:
        running.tell(
            {"type": "catalogue", "providers": {"mine": {"title": "Mine", "hosts": ["api.provider.test", "*.x.test"]}}}
        )
        deny(running, rule(1, uid=USER, provider="mine", ports=[443]))

        def tried(address: str, user: int | None = USER) -> str:
            given = json.dumps([(address, 443, "connect")])
            said: list[str] = lab.router.python(TRY, given, user=user)
            return said[0]

        assert [tried(SERVER4), tried(SERVER6), tried(SERVERS4[1])] == ["EPERM", "EPERM", "passed"]
        assert tried(SERVER4, user=None) == "passed"
        names.set("eu.x.test", SERVERS4[2])
        assert tried(SERVERS4[2]) == "passed"
        lab.client.python("import socket; socket.gethostbyname('eu.x.test')")
        wait_until(lambda: tried(SERVERS4[2]) == "EPERM", 5)
        names.set("api.provider.test", SERVERS4[1], ttl_s=1)
        deadline = time.monotonic() + 15
        while tried(SERVERS4[1]) != "EPERM":
            assert time.monotonic() < deadline, "a new address is not followed"
            time.sleep(0.2)


def test_the_gateway_itself_is_spared(running: Probes, port: int) -> None:
    """By its processes and by its mark, whatever the rule; and its open connections are not cut."""
    target = ("127.0.0.1", port)
    with socket.create_connection(target) as held:
        running.tell({"type": "cgroups", "paths": [], "pids": [os.getpid()], "mark": 0x200})
        deny(running, rule(cidrs=["127.0.0.1"], ports=[port]))
        assert attempt(target) == ["EPERM"]
        socket.create_connection(target).close()
        held.sendall(b"x")
        running.tell({"type": "cgroups", "paths": [], "pids": [], "mark": 0x200})
        running.wait_for("denial_state")
        time.sleep(1.2)
        with pytest.raises(PermissionError):
            socket.create_connection(target)
        with socket.socket() as marked:
            marked.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0x201)
            marked.connect(target)


def test_a_rule_that_expires_and_one_that_cannot_be_in_force(running: Probes, port: int) -> None:
    running.tell(
        {
            "type": "denials",
            "items": [
                rule(1, uid=USER, cidrs=["127.0.0.1"], expires_at_s=time.time() + 1.5),
                rule(2, cgroup="/no-such-cgroup", cidrs=["127.0.0.1"]),
                rule(3, client="10.0.0.0/8", cidrs=["127.0.0.1"]),
                rule(4, cidrs=["nonsense"]),
            ],
        }
    )
    said = running.wait_for("denial_state", lambda said: bool(said["items"] and said["items"][0]["in_force"]))
    assert attempt(("127.0.0.1", port), user=USER) == ["EPERM"]
    reasons = {each["id"]: each["reason"] for each in said["items"] if not each["in_force"]}
    assert "no v2 cgroup" in reasons[2]
    assert "mode deny" in reasons[3]
    assert "nonsense" in reasons[4]
    time.sleep(1.6)
    assert attempt(("127.0.0.1", port), user=USER) == ["passed"]
    running.wait_for("denial_state", lambda said: said["items"][0]["reason"] == "it has expired")


def accept_all(listener: socket.socket) -> None:
    """Until it is shut down."""
    with contextlib.suppress(OSError):
        while True:
            listener.accept()[0].close()


def test_deny_and_undeny_under_load_within_a_second(running: Probes) -> None:
    """A process that connects all the time, and one that is none of the rule's."""
    code = """
import errno, socket, sys, time
last = None
while True:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
    said = errno.errorcode.get(sock.connect_ex(("127.0.0.1", int(sys.argv[1]))), "OK")
    sock.close()
    if said != last:
        print(said, time.time(), flush=True)
        last = said
"""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    port = listener.getsockname()[1]
    accepting = threading.Thread(target=accept_all, args=(listener,))
    accepting.start()
    argv = [sys.executable, "-c", code, str(port)]
    with (
        listener,
        subprocess.Popen(argv, user=USER, stdout=subprocess.PIPE, text=True) as denied,
        subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as other,
    ):
        try:
            assert denied.stdout is not None
            assert other.stdout is not None
            assert denied.stdout.readline().startswith("OK")
            assert other.stdout.readline().startswith("OK")
            for _ in range(3):
                for items, expected in ([rule(uid=USER, cidrs=["127.0.0.1"], ports=[port])], "EPERM"), ([], "OK"):
                    told_s = time.time()
                    running.tell({"type": "denials", "items": items})
                    said, at_s = denied.stdout.readline().split()
                    assert said == expected
                    assert float(at_s) - told_s < 1
        finally:
            denied.kill()
            other.kill()
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join(5)
        assert other.stdout.read() == "", "it was never refused"


def test_another_program_on_the_same_hook_stays_and_works(running: Probes, port: int) -> None:
    """One that refuses port 1 and was there before; ours come and go beside it."""
    text = "int on_connect4(struct bpf_sock_addr *ctx) { return ctx->user_port != bpf_htons(9); }"
    module = load_bcc().BPF(text=text)
    loaded = module.load_func("on_connect4", CGROUP_SOCK_ADDR, attach_type=bpf_calls.INET4_CONNECT)
    folder = os.open(cgroup_root(), os.O_RDONLY | os.O_DIRECTORY)
    with Link(loaded.fd, folder, bpf_calls.INET4_CONNECT):
        for rules, ours in ((), "passed"), ((rule(uid=USER, cidrs=["127.0.0.1"]),), "EPERM"), ((), "passed"):
            deny(running, *rules)
            assert attempt(("127.0.0.1", port), user=USER) == [ours]
            assert attempt(("127.0.0.1", 9)) == ["EPERM"]
    os.close(folder)
    module.cleanup()
    assert attempt(("127.0.0.1", 9)) == ["ECONNREFUSED"]


def test_a_killed_process_leaves_nothing_that_denies(port: int) -> None:
    with probes() as running:
        deny(running, rule(uid=USER, cidrs=["127.0.0.1"]))
        assert attempt(("127.0.0.1", port), user=USER) == ["EPERM"]
        running.process.send_signal(signal.SIGKILL)
        running.process.wait(5)
        deadline = time.monotonic() + 5
        while attempt(("127.0.0.1", port), user=USER) != ["passed"]:
            assert time.monotonic() < deadline


def test_a_connection_is_cut_when_asked(running: Probes, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(5)
        mine, its = sock.getsockname(), sock.getpeername()
        names = ("source", "port", "destination", "destination_port")
        assert running.ask("cut", **dict(zip(names, (*mine, *its), strict=True))) == {"cut": 1}
        with pytest.raises(OSError) as raised:
            sock.recv(1)
        assert raised.value.errno == errno.ECONNABORTED
        assert running.ask("cut", **dict(zip(names, (*mine, *its), strict=True))) == {"cut": 0}
    with socket.create_connection(("127.0.0.1", port)), socket.create_connection(("127.0.0.1", port)):
        assert running.ask("cut", pid=os.getpid(), address="127.0.0.1", port=port) == {"cut": 2}


def test_a_rule_that_fails_closed_outlives_a_kill(lab: Lab, tmp_path: Path) -> None:
    """One that fails open does not, though it was in force beside it. The next process takes over, and takes down."""
    for port in (9000, 9001):
        lab.serve(lambda connection: None, port)
    lab.router.run("mount", "-t", "bpf", "bpf", "/sys/fs/bpf")
    copy = tmp_path / "denied-program"
    shutil.copy(os.path.realpath(sys.executable), copy)
    closed = rule(1, executable=str(copy), cidrs=[SERVER4], ports=[9000], on_failure="closed")
    opened = rule(2, uid=USER, cidrs=[SERVER4], ports=[9001])

    def tried(port: int, python: str = sys.executable, user: int | None = None) -> str:
        given = json.dumps([(SERVER4, port, "connect")])
        said: list[str] = json.loads(lab.router.run(python, "-c", TRY, given, user=user).stdout)
        return said[0]

    def pinned() -> list[str]:
        return [name for name in lab.router.run("ls", "/sys/fs/bpf").stdout.split() if "sluicegate" in name]

    with probes(lab.router) as running:
        deny(running, closed, opened)
        assert [tried(9000, str(copy)), tried(9001, user=USER), tried(9000)] == ["EPERM", "EPERM", "passed"]
        running.kill()
        wait_until(lambda: tried(9001, user=USER) == "passed", 6)
        assert tried(9000, str(copy)) == "EPERM"
        assert tried(9000) == "EPERM", "nobody can say that it is not the denied program"
        assert len(pinned()) == 1
    with probes(lab.router) as running:
        assert tried(9000, str(copy)) == "EPERM", "until the rules are told"
        deny(running, closed)
        assert [tried(9000, str(copy)), tried(9000)] == ["EPERM", "passed"]
        deny(running)
        assert tried(9000, str(copy)) == "passed"
        assert pinned() == []
