"""What becomes of the host's network when gateway or agent die (pitfall 1; interception.md §1: 1, 2, 8, 9, 10).

The kernel's heartbeat lasts 3 s: after that long without an agent, traffic goes direct where the rule says `open`.
Where it says `closed`, nothing ever passes ungoverned, not for a moment.
"""

import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.support.lab import servers
from tests.support.lab.probing import WAYS, Fate, Way, probe, wait_for_fate
from tests.support.lab.servers import TcpServer
from tests.support.lab.talking import wait_until
from tests.support.lab.world import World, make_world

HEARTBEAT_S = 3.0
every_way = pytest.mark.parametrize("way", WAYS, ids=str)


@pytest.fixture(scope="module")
def _breakable() -> Iterator[World]:
    """A world of this module's own: its gateway dies in every test."""
    with make_world() as made:
        yield made


@pytest.fixture
def world(_breakable: World) -> Iterator[World]:
    """Alive and armed at the beginning of each test, whatever the one before killed."""
    revive(_breakable)
    with _breakable.lab.scope():
        yield _breakable


def revive(world: World) -> None:
    if not world.gateway.agent.running:
        world.gateway.agent.start()
    if not world.gateway.processes():
        world.gateway.start()
    world.gateway.wait_armed()


class Prober:
    """Probes every way of a server without end, one thread a way; `told` says when each ended how."""

    def __init__(self, world: World, server: TcpServer) -> None:
        self.told: dict[str, list[tuple[float, float, Fate]]] = {str(way): [] for way in WAYS}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._go, args=(world, way, server), daemon=True) for way in WAYS]
        for thread in self._threads:
            thread.start()

    def _go(self, world: World, way: Way, server: TcpServer) -> None:
        while not self._stop.is_set():
            begun = time.monotonic()
            fate = probe(world.lab, way, server)
            self.told[str(way)].append((begun, time.monotonic(), fate))
            time.sleep(0.01)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def after(self, way: str, moment: float) -> list[Fate]:
        """Of attempts that began after `moment`."""
        return [fate for begun, _, fate in self.told[way] if begun >= moment]

    def outage_s(self, way: str, well: set[Fate]) -> float:
        """The longest time between two attempts that went well: what a user would call the downtime."""
        ends = [ended for _, ended, fate in self.told[way] if fate in well]
        return max((later - earlier for earlier, later in itertools.pairwise(ends)), default=0.0)


KILLS: dict[str, Callable[[World], None]] = {
    "everything": lambda world: world.gateway.kill_everything(),
    "agent": lambda world: world.gateway.agent.kill(),
}


@pytest.mark.parametrize("victim", KILLS)
def test_open_goes_direct_within_the_heartbeat(world: World, victim: str) -> None:
    server = world.serve(servers.echo, "open")
    assert {probe(world.lab, way, server) for way in WAYS} == {Fate.CAPTURED}
    prober = Prober(world, server)
    time.sleep(0.3)
    killed = time.monotonic()
    KILLS[victim](world)
    time.sleep(HEARTBEAT_S + 1 + 1)
    prober.stop()
    for way in map(str, WAYS):
        fates = prober.after(way, killed + HEARTBEAT_S + 1)
        assert fates, f"{way}: no attempt"
        assert set(fates) == {Fate.DIRECT}, f"{way}: {[str(fate) for fate in fates]}"
        assert prober.outage_s(way, {Fate.CAPTURED, Fate.DIRECT}) < HEARTBEAT_S + 1


@pytest.mark.parametrize("victim", KILLS)
def test_closed_never_lets_anything_pass(world: World, victim: str) -> None:
    """From the first moment on, and refused rather than left hanging once the heartbeat has run out."""
    server = world.serve(servers.echo, "closed")
    assert {probe(world.lab, way, server) for way in WAYS} == {Fate.CAPTURED}
    prober = Prober(world, server)
    time.sleep(0.3)
    killed = time.monotonic()
    KILLS[victim](world)
    time.sleep(HEARTBEAT_S + 1 + 1)
    prober.stop()
    for way in map(str, WAYS):
        assert Fate.DIRECT not in prober.after(way, 0), f"{way} leaked"
        late = [(ended - begun, fate) for begun, ended, fate in prober.told[way] if begun >= killed + HEARTBEAT_S]
        assert late, f"{way}: no attempt"
        assert {fate for _, fate in late} == {Fate.REFUSED}, f"{way}: {late}"
        assert sorted(took for took, _ in late)[len(late) // 2] < 0.1, f"{way}: refused, but not at once: {late}"


def test_a_worker_that_dies_is_not_missed(world: World) -> None:
    """The others go on accepting: nobody waits, nothing goes past the gateway."""
    opened, closed = world.serve(servers.echo, "open"), world.serve(servers.echo, "closed")
    probers = [Prober(world, opened), Prober(world, closed)]
    time.sleep(0.3)
    world.gateway.workers()[0].kill()
    time.sleep(2)
    for prober in probers:
        prober.stop()
        for way in map(str, WAYS):
            fates = [str(fate) for fate in prober.after(way, 0)]
            broken = [fate for fate in fates if fate != Fate.CAPTURED]
            # what was in the dead worker's hands (accepted or queued) is broken off, no more
            assert len(broken) <= 3, f"{way}: {broken}"
            assert prober.outage_s(way, {Fate.CAPTURED}) < 1.5
    assert all(Fate.DIRECT not in probers[1].after(str(way), 0) for way in WAYS)
    world.gateway.until(lambda: len(world.gateway.workers()) == world.gateway.workers_wanted, 15)
    world.gateway.wait_armed()


def test_all_workers_gone_but_not_the_agent(world: World) -> None:
    """The agent sees their sockets end: capture stops in milliseconds, and begins again with the first new worker."""
    opened, closed = world.serve(servers.echo, "open"), world.serve(servers.echo, "closed")
    probers = [Prober(world, opened), Prober(world, closed)]
    time.sleep(0.3)
    killed = time.monotonic()
    world.gateway.kill_workers()
    time.sleep(0.5)
    world.gateway.until(lambda: len(world.gateway.workers()) == world.gateway.workers_wanted, 15)
    world.gateway.wait_armed()
    wait_for_fate(lambda: probe(world.lab, WAYS[0], opened), Fate.CAPTURED, 10)
    for prober in probers:
        prober.stop()
    for way in map(str, WAYS):
        early = [fate for begun, _, fate in probers[0].told[way] if killed + 0.1 < begun]
        assert Fate.HUNG not in early, f"{way}: {early}"
        assert probers[0].outage_s(way, {Fate.CAPTURED, Fate.DIRECT}) < 1.0
        assert Fate.DIRECT not in probers[1].after(way, 0), f"{way} leaked"


def test_workers_that_hang(world: World) -> None:
    """No answer for 2 s, and capture stops: `open` goes direct, `closed` is refused. They wake, and serve again."""
    opened, closed = world.serve(servers.echo, "open"), world.serve(servers.echo, "closed")
    workers = world.gateway.workers()
    try:
        for worker in workers:
            worker.kill(signal.SIGSTOP)
        stopped = time.monotonic()
        for way in WAYS:
            wait_for_fate(lambda way=way: probe(world.lab, way, opened), Fate.DIRECT, 6)
            wait_for_fate(lambda way=way: probe(world.lab, way, closed), Fate.REFUSED, 6)
        assert time.monotonic() - stopped < 8
        assert Fate.DIRECT not in {probe(world.lab, way, closed) for way in WAYS}
    finally:
        for worker in workers:
            worker.kill(signal.SIGCONT)
    for way in WAYS:
        wait_for_fate(lambda way=way: probe(world.lab, way, opened), Fate.CAPTURED, 10)
        wait_for_fate(lambda way=way: probe(world.lab, way, closed), Fate.CAPTURED, 10)


def test_an_agent_that_hangs_is_no_obstacle_to_the_dead_mans_switch(world: World) -> None:
    """Its table stands, but nobody beats: after 3 s the kernel captures no more, though nobody tells it so."""
    opened, closed = world.serve(servers.echo, "open"), world.serve(servers.echo, "closed")
    os.kill(world.gateway.agent.pid, signal.SIGSTOP)
    try:
        world.gateway.kill_workers()
        time.sleep(HEARTBEAT_S + 1)
        # Workers that came meanwhile have no listeners: the agent that would hand them over does not answer.
        for way in WAYS:
            assert probe(world.lab, way, opened) is Fate.DIRECT, str(way)
            begun = time.monotonic()
            assert probe(world.lab, way, closed) is Fate.REFUSED, str(way)
            assert time.monotonic() - begun < 0.5
    finally:
        os.kill(world.gateway.agent.pid, signal.SIGCONT)
    for way in WAYS:
        wait_for_fate(lambda way=way: probe(world.lab, way, opened), Fate.CAPTURED, 30)
        wait_for_fate(lambda way=way: probe(world.lab, way, closed), Fate.CAPTURED, 10)


@every_way
def test_a_flow_that_lives_outlives_the_agent(world: World, way: Way) -> None:
    server = world.serve(servers.echo, "open")
    with way.start(world.lab).connect((way.address, server.port)) as connection:
        connection.sendall(b"before")
        assert connection.recv(100) == b"before"
        world.gateway.agent.kill()
        end = time.monotonic() + HEARTBEAT_S + 0.5
        while time.monotonic() < end:
            connection.sendall(b"meanwhile")
            assert connection.recv(100) == b"meanwhile"
            time.sleep(0.1)
        world.gateway.agent.start()
        world.gateway.wait_armed()
        connection.sendall(b"after")
        assert connection.recv(100) == b"after"
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert server.last.received.startswith(b"before")
    assert len(server.connections) == 1


def test_the_agent_may_die_and_return_without_a_connection_lost(world: World) -> None:
    """In service again within seconds; meanwhile `open` is direct, and no attempt fails."""
    server = world.serve(servers.echo, "open")
    prober = Prober(world, server)
    time.sleep(0.2)
    world.gateway.agent.kill()
    world.gateway.agent.start()
    world.gateway.wait_armed()
    wait_for_fate(lambda: probe(world.lab, WAYS[0], server), Fate.CAPTURED, 5)
    prober.stop()
    for way in map(str, WAYS):
        fates = prober.after(way, 0)
        assert set(fates) <= {Fate.CAPTURED, Fate.DIRECT}, f"{way}: {[str(fate) for fate in fates]}"


@pytest.mark.parametrize("victim", KILLS)
def test_the_next_life_has_the_same_rules(world: World, victim: str) -> None:
    """To the last port: listeners that workers have kept are taken back, others made anew where they were."""
    before = world.lab.router.ruleset()
    for _ in range(2):
        KILLS[victim](world)
        revive(world)
        wait_until(lambda: world.lab.router.ruleset() == before, 10, world.lab.router.ruleset)


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("victim", ["worker", "agent", "everything"])
def test_twenty_kills_under_load(world: World, victim: str) -> None:
    """The rule set of the twentieth life is that of the first; `closed` never leaks; downtime is bounded."""
    opened, closed = world.serve(servers.echo, "open"), world.serve(servers.echo, "closed")
    before, policy_before = world.lab.router.ruleset(), world.lab.router.policy()
    probers = [Prober(world, opened), Prober(world, closed)]
    for _ in range(20):
        if victim == "worker":
            world.gateway.workers()[0].kill()
        elif victim == "agent":
            world.gateway.agent.kill()
        else:
            world.gateway.kill_everything()
        time.sleep(0.5)
        revive(world)
        world.gateway.until(lambda: len(world.gateway.workers()) == world.gateway.workers_wanted, 20)
    for prober in probers:
        prober.stop()
    downtimes = {way: round(probers[0].outage_s(way, {Fate.CAPTURED, Fate.DIRECT}), 3) for way in map(str, WAYS)}
    print(f"longest outage of `open` per way, {victim} killed 20 times: {downtimes} s")
    for way in map(str, WAYS):
        assert Fate.DIRECT not in probers[1].after(way, 0), f"{way} leaked"
        assert downtimes[way] < HEARTBEAT_S + 1
    assert {probe(world.lab, way, closed) for way in WAYS} == {Fate.CAPTURED}
    wait_until(lambda: world.lab.router.ruleset() == before, 5)
    assert world.lab.router.policy() == policy_before
