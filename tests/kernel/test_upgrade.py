"""The agent becomes another release under load: the same process, and not a connection that is lost or slips by."""

import signal
import threading
import time
from collections import Counter
from typing import Self

import pytest

from gateway.cli.agent_client import ask
from gateway.errors import SluicegateError
from tests.support.lab import Lab, gateway, servers
from tests.support.lab.probing import WAYS, Fate, Way, probe
from tests.support.lab.servers import TcpServer
from tests.support.lab.talking import wait_until
from tests.support.lab.world import RANGES, WORLD, World

pytestmark = pytest.mark.timeout(400)
WITHIN_S = 60.0
"""Every step of a program's start, on a machine that is busy with other tests."""


class Load:
    """Connections on every way to both servers without end: some that are short, one a way that lives through it."""

    def __init__(self, world: World, *server: TcpServer) -> None:
        self.fates: dict[str, Counter[Fate]] = {}
        self.odd: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._go, args=(world, way, each), daemon=True) for way in WAYS for each in server
        ]
        for thread in self._threads:
            thread.start()

    def _go(self, world: World, way: Way, server: TcpServer) -> None:
        told = self.fates.setdefault(f"{way} {server.port}", Counter())
        while not self._stop.is_set():
            begun = time.time()
            fate = probe(world.lab, way, server, 5.0)
            told[fate] += 1
            if fate is not Fate.CAPTURED:
                self.odd.append(f"{time.strftime('%H:%M:%S', time.gmtime(begun))}{begun % 1:.3f} {way} {fate}")
            time.sleep(0.02)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def stop(self) -> Counter[Fate]:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        return sum(self.fates.values(), Counter())


def wait_upgraded(world: World, seen: list[str | None]) -> None:
    """Return once the agent says that it was upgraded at a moment that is not in `seen`, and add it."""

    def upgraded() -> bool:
        try:
            told = ask(world.gateway.agent.socket, "status")
        except SluicegateError:
            return False  # it has just become the new release
        if told["upgraded_at"] in seen or told["taking_over"]:
            return False
        seen.append(told["upgraded_at"])
        return True

    wait_until(upgraded, WITHIN_S, world.gateway.agent.log)


def test_no_connection_is_lost_or_slips_by(lab: Lab) -> None:
    """Four upgrades in a row under load; `open` would let a gap pass by, `closed` would refuse in one."""
    with gateway(lab, WORLD) as running:
        world = World(lab, running)
        opened, closed = lab.serve(servers.echo, RANGES["open"][0]), lab.serve(servers.echo, RANGES["closed"][0])
        pid, before = running.agent.pid, set(lab.router.tables())
        captured = running.rule("open")["captured"]
        held = [lab.keep(way.start(lab).connect((way.address, opened.port))) for way in WAYS]
        load = lab.keep(Load(world, opened, closed))
        seen: list[str | None] = [None]
        tables = []
        for turn in range(4):
            time.sleep(0.5)
            if turn % 2:
                running.agent.send(signal.SIGUSR2)
            else:
                running.cli("service", "upgrade", "--agent")
            wait_upgraded(world, seen)
            wait_until(lambda: len(lab.router.tables()) == len(before), WITHIN_S, lab.router.tables)
            tables.append(set(lab.router.tables()))
            for connection in held:
                connection.sendall(b"alive")
                assert connection.recv(100) == b"alive"
        time.sleep(0.5)
        fates = load.stop()
        print(f"connections over four upgrades: {dict(fates)}")
        assert set(fates) == {Fate.CAPTURED}, load.odd
        assert fates[Fate.CAPTURED] > 400
        assert running.agent.pid == pid
        assert running.agent.running
        assert tables[0] != before, "the successor's table has the other name"
        assert tables[1] == before
        wait_until(lambda: running.rule("open")["captured"] > captured + 100, 5)
        for connection in held:
            connection.close()
    assert lab.router.policy()


def test_a_release_that_does_not_start_changes_nothing(lab: Lab) -> None:
    broken = lab.folder / "broken"
    broken.write_text("#!/bin/sh\necho 'no module named gateway' >&2\nexit 1\n")
    broken.chmod(0o755)
    with gateway(lab, WORLD, env={"SLUICEGATE_COMMAND": str(broken)}) as running:
        server = lab.serve(servers.echo, RANGES["open"][0])
        before = lab.router.ruleset()
        said = running.cli("service", "upgrade", "--agent", check=False)
        assert said.returncode != 0
        assert "no module named gateway" in said.stderr
        assert {probe(lab, way, server) for way in WAYS} == {Fate.CAPTURED}
        assert lab.router.ruleset() == before
        running.agent.tolerated.append("not upgraded")


def test_killed_on_the_way_it_is_as_if_it_had_died(lab: Lab) -> None:
    """Between the old image and the new one, too: the old table goes with the process, `closed` lets nothing by."""
    with gateway(lab, WORLD) as running:
        world = World(lab, running)
        opened, closed = lab.serve(servers.echo, RANGES["open"][0]), lab.serve(servers.echo, RANGES["closed"][0])
        for pause_s in (0.2, 0.6, 1.2):
            load = lab.keep(Load(world, closed))
            pid = running.agent.pid
            log_length = len(running.agent.log())
            running.agent.send(signal.SIGUSR2)
            wait_until(lambda since=log_length: "upgrading" in running.agent.log()[since:], WITHIN_S)
            time.sleep(pause_s)
            assert running.agent.pid == pid
            running.agent.kill()
            wait_until(lambda: not any("capture" in name for name in lab.router.tables()), 5, lab.router.tables)
            assert probe(lab, WAYS[0], opened) is Fate.DIRECT
            running.agent.start()
            running.wait_armed()
            fates = load.stop()
            assert Fate.DIRECT not in fates, f"leaked: {load.fates}"
            assert {probe(lab, way, closed) for way in WAYS} == {Fate.CAPTURED}
