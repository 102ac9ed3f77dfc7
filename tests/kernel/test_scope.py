"""Probes that are about one cgroup (`sluicegate agent --cgroup`) let alone what is beside it: two sets of them on one
machine, each with a program in its cgroup, and one below that."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gateway.probes.scope import NoCgroup, Scope
from tests.support.lab import Lab
from tests.support.own_cgroup import cgroup_name, cgroup_root, hierarchy
from tests.support.probes import Probes, probes

pytestmark = pytest.mark.timeout(120)
TALK = """
import json, socket, sys
held = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5)
print(json.dumps(held.getsockname()), flush=True)
for line in sys.stdin:
    try:
        socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=5).close()
        print('"passed"', flush=True)
    except OSError as error:
        print(json.dumps(error.strerror), flush=True)
    try:
        held.send(b"x")
        print("true", flush=True)
    except OSError:
        print("false", flush=True)
"""


@dataclass
class Talker:
    """A program that holds a connection, and tries another when asked."""

    process: subprocess.Popen[str]
    source: tuple[str, int]

    def attempt(self) -> tuple[str, bool]:
        """What became of another connection, and whether the first one is still open."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self._read(), self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


@pytest.fixture
def port(lab: Lab) -> Iterator[int]:
    with lab.router.entered(), socket.create_server(("127.0.0.1", 0)) as made:
        yield made.getsockname()[1]


@pytest.fixture
def tenants() -> Iterator[list[Path]]:
    folders = [cgroup_root() / name for name in ("tenant-a", "tenant-b")]
    for folder in folders:
        (folder / "below").mkdir(parents=True)
    yield folders
    for folder in folders:
        (folder / "below").rmdir()
        folder.rmdir()


@contextmanager
def talker(lab: Lab, cgroup: Path, port: int) -> Iterator[Talker]:
    argv = [sys.executable, "-c", TALK, str(port)]
    with lab.router.popen(argv, cgroup=cgroup, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        made = Talker(process, ("", 0))
        host, number = made._read()
        made.source = (host, number)
        yield made
        process.kill()


def test_each_denies_attributes_and_cuts_within_its_own_cgroup(lab: Lab, tenants: list[Path], port: int) -> None:
    to = ("127.0.0.1", port)
    with ExitStack() as stack:
        early = [stack.enter_context(talker(lab, folder, port)) for folder in tenants]  # older than any probes
        running = [stack.enter_context(probes(lab.router, cgroup=folder)) for folder in tenants]
        late = [stack.enter_context(talker(lab, folder / "below", port)) for folder in tenants]
        for talking, ours, others in ((0, 0, 1), (1, 1, 0)):
            for each in (early[talking], late[talking]):
                assert running[ours].who(each.source, to)["pid"] == each.process.pid
                assert running[others].who(each.source, to) == {"found": False}
        names = dict(zip(("source", "port", "destination", "destination_port"), (*early[1].source, *to), strict=True))
        assert running[0].ask("cut", **names) == {"cut": 0}
        assert running[0].ask("cut", pid=late[1].process.pid, address="127.0.0.1", port=port) == {"cut": 0}

        _deny(running[0], port)
        assert [each.attempt() for each in early] == [("Operation not permitted", False), ("passed", True)]
        assert [each.attempt() for each in late] == [("Operation not permitted", False), ("passed", True)]
        with lab.router.connect(to):  # nor the test itself, which is above both
            pass
        assert running[0].ask("cut", pid=os.getpid(), address="127.0.0.1", port=port) == {"cut": 0}


def _deny(running: Probes, port: int) -> None:
    rule = {"id": 1, "cidrs": ["127.0.0.1"], "ports": [port], "on_failure": "open"}
    running.tell({"type": "denials", "items": [rule]})
    running.wait_for("denial_state", lambda said: bool(said["items"]) and said["items"][0]["in_force"])


@pytest.mark.parametrize("kind", ["exec", "connect"])
def test_each_traces_within_its_own_cgroup(lab: Lab, tenants: list[Path], port: int, kind: str) -> None:
    with ExitStack() as stack:
        running = [stack.enter_context(probes(lab.router, cgroup=folder)) for folder in tenants]
        for session, each in enumerate(running):
            assert each.ask("trace", session=session, kind=kind, filters={}) == {"session": session}
        for folder in (cgroup_root(), *tenants, *(folder / "below" for folder in tenants)):
            with talker(lab, folder, port):
                pass
        for each, folder in zip(running, tenants, strict=True):
            below = cgroup_name(folder / "below")
            each.wait_for("trace", lambda said, below=below: below in _cgroups(said))
            told = [_cgroups(message) for message in each.messages if message["type"] == "trace"]
            assert set().union(*told) == {cgroup_name(folder), below}


def _cgroups(message: dict[str, Any]) -> set[str]:
    return {event["cgroup"] for event in message["events"]}


def test_what_is_named(tenants: list[Path], tmp_path: Path) -> None:
    """As a folder or as /proc has it; what is none says where they are."""
    for path in (tenants[0], Path(cgroup_name(tenants[0]))):
        scope = Scope.of(path)
        assert scope.folder == tenants[0]
        assert [scope.holds(cgroup_name(tenants[0]) + more) for more in ("", "/below", "s")] == [True, True, False]
        assert not scope.holds("/")
    assert Scope.of(None).whole
    assert Scope.of(hierarchy()).whole
    for wrong in (tmp_path, Path("/no-such-cgroup"), Path("/sys/fs/cgroup/cpu,cpuacct")):
        with pytest.raises(NoCgroup, match=f"mounted at {hierarchy()}"):
            Scope.of(wrong)
    command = [str(Path(sys.executable).parent / "sluicegate"), "agent", "--cgroup", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert f"{tmp_path} is no cgroup of the v2 hierarchy" in done.stderr
