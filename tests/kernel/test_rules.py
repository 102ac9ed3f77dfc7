"""Which connections a rule catches, and how rules come, change and go (pitfalls 7, 8, 13, 38)."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.support.lab import Lab, gateway, servers
from tests.support.lab.lab import CLIENT4, CLIENT6, SERVER4, SERVER6, UNPRIVILEGED
from tests.support.lab.probing import WAYS, Fate, Way, probe, probe_from, wait_for_fate
from tests.support.lab.servers import TcpServer
from tests.support.lab.talking import read_all, wait_until
from tests.support.lab.world import BASE, EVERYWHERE, NETS, World, rule
from tests.support.own_cgroup import cgroup_name, cgroup_root

PORT = 7001
PROMPT_S = 3.0
"""The contract says 1 s; a machine that runs other tests meanwhile may need more."""
every_way = pytest.mark.parametrize("way", WAYS, ids=str)
TALK = """
import json, socket, sys
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3)
own = sock.getsockname()[:2]
sock.sendall(b"x")
print(json.dumps({"answer": sock.recv(1).decode(), "own": own}))
"""


@pytest.fixture(scope="module")
def _ruled() -> Iterator[World]:
    with Lab() as lab, gateway(lab, BASE, armed=False) as running:
        yield World(lab, running, applied=BASE)


@pytest.fixture
def world(_ruled: World) -> Iterator[World]:
    """No rule at the beginning."""
    use(_ruled)
    with _ruled.lab.scope():
        yield _ruled


def use(world: World, *rules: str) -> None:
    """These rules and no others, and they stand: within the second that a change may take (contract: Promptness)."""
    wanted = BASE + ("interception:\n" + "".join(rules) if rules else "")
    if wanted == world.applied:
        return
    before = world.lab.router.ruleset()
    world.gateway.apply(wanted, prune=True)
    world.applied = wanted
    wait_until(lambda: world.lab.router.ruleset() != before, PROMPT_S, world.gateway.interception)
    if rules:
        world.gateway.wait_armed()


def fates(world: World, server: TcpServer) -> dict[str, Fate]:
    return {str(way): probe(world.lab, way, server) for way in WAYS}


def all_are(fate: Fate) -> dict[str, Fate]:
    return {str(way): fate for way in WAYS}


def talk(world: World, server: TcpServer, **who: object) -> Fate:
    """One connection of a process of its own on the router."""
    said = world.lab.router.python(TALK, SERVER4, str(server.port), **who)
    assert said["answer"] == "x"
    return Fate.DIRECT if server.last.peer == tuple(said["own"]) else Fate.CAPTURED


# ---- whose -----------------------------------------------------------------------------------------------------------
def test_without_sources_it_is_everyone(world: World) -> None:
    server = world.lab.serve(servers.echo, PORT)
    assert fates(world, server) == all_are(Fate.DIRECT)
    use(world, f"  - {{name: all, destinations: {{cidrs: {NETS}, ports: [{PORT}]}}, app: indexer}}\n")
    assert fates(world, server) == all_are(Fate.CAPTURED)


def test_forwarded_clients_by_network(world: World) -> None:
    server = world.lab.serve(servers.echo, PORT)
    use(world, rule("net", [PORT], sources=f'{{cidrs: ["{CLIENT4}/32", "{CLIENT6}/128"]}}'))
    expected = {str(way): Fate.DIRECT if way.local else Fate.CAPTURED for way in WAYS}
    assert fates(world, server) == expected
    world.lab.client.ip("addr", "add", "10.9.1.77/24", "dev", "c0")
    try:
        with world.lab.client.connect((SERVER4, PORT), source=("10.9.1.77", 0)) as connection:
            connection.sendall(b"x")
            assert connection.recv(1) == b"x"
        assert server.last.peer[0] == "10.9.1.77"
    finally:
        world.lab.client.ip("addr", "del", "10.9.1.77/24", "dev", "c0")


def test_this_host_alone(world: World) -> None:
    server = world.lab.serve(servers.echo, PORT)
    use(world, rule("own", [PORT], sources="{local: true}"))
    assert fates(world, server) == {str(way): Fate.CAPTURED if way.local else Fate.DIRECT for way in WAYS}


def test_a_user_of_this_host(world: World) -> None:
    server = world.lab.serve(servers.echo, PORT)
    use(world, rule("user", [PORT], sources=f'{{users: ["{UNPRIVILEGED + 1}", "nobody"]}}'))
    assert talk(world, server, user=UNPRIVILEGED + 1) is Fate.CAPTURED
    assert talk(world, server, user=65534) is Fate.CAPTURED
    assert talk(world, server, user=UNPRIVILEGED + 2) is Fate.DIRECT
    assert talk(world, server) is Fate.DIRECT
    assert probe(world.lab, WAYS[0], server) is Fate.DIRECT


def test_a_cgroup_of_this_host_made_anew_too(world: World) -> None:
    """Pitfall 38. A rule binds the cgroup's inode: what has its name after a restart is another, and watched for."""
    server = world.lab.serve(servers.echo, PORT)
    caught, other = world.lab.cgroup("caught"), world.lab.cgroup("other")
    use(world, rule("group", [PORT], sources=f'{{cgroups: ["{cgroup_name(caught)}"]}}'))
    assert talk(world, server, cgroup=caught) is Fate.CAPTURED
    assert talk(world, server, cgroup=other) is Fate.DIRECT
    assert talk(world, server) is Fate.DIRECT
    (caught / "inner").mkdir()
    try:
        assert talk(world, server, cgroup=caught / "inner") is Fate.CAPTURED
    finally:
        (caught / "inner").rmdir()
    caught.rmdir()
    time.sleep(0.2)
    caught.mkdir()
    wait_for_fate(lambda: talk(world, server, cgroup=caught), Fate.CAPTURED, 4)


def test_a_container_by_its_cgroup(world: World) -> None:
    """Who runs in the cgroup in a network namespace of its own is known by the addresses that it has there."""
    server = world.lab.serve(servers.echo, PORT)
    group = world.lab.cgroup("pod")
    use(world, rule("group", [PORT], sources=f'{{cgroups: ["{cgroup_name(group)}"]}}'))
    ways = [way for way in WAYS if not way.local]
    assert {probe(world.lab, way, server) for way in ways} == {Fate.DIRECT}
    (group / "container").mkdir()
    container = world.lab.client.popen(["sleep", "60"], cgroup=group / "container")
    try:
        for way in ways:
            wait_for_fate(lambda way=way: probe(world.lab, way, server), Fate.CAPTURED, 4)  # type: ignore[misc]
        assert {probe(world.lab, way, server) for way in WAYS if way.local} == {Fate.DIRECT}
    finally:
        container.kill()
        container.wait()
    for way in ways:
        wait_for_fate(lambda way=way: probe(world.lab, way, server), Fate.DIRECT, 4)  # type: ignore[misc]
    (group / "container").rmdir()


def test_a_cgroup_that_comes_later(world: World) -> None:
    server = world.lab.serve(servers.echo, PORT)
    name = cgroup_name(cgroup_root() / f"{world.lab.prefix}-late")
    world.gateway.apply(
        BASE + "interception:\n" + rule("group", [PORT], sources=f'{{cgroups: ["{name}"]}}'), prune=True
    )
    time.sleep(0.5)
    late = world.lab.cgroup("late")
    wait_for_fate(lambda: talk(world, server, cgroup=late), Fate.CAPTURED, 4)


# ---- where to --------------------------------------------------------------------------------------------------------
def test_only_the_ports_and_networks_that_are_named(world: World) -> None:
    server, other = world.lab.serve(servers.echo, PORT), world.lab.serve(servers.echo, PORT + 1)
    use(world, rule("narrow", [PORT], cidrs=f'["{SERVER4}/32", "{SERVER6}/128"]'))
    assert fates(world, server) == all_are(Fate.CAPTURED)
    assert fates(world, other) == all_are(Fate.DIRECT)
    for start in (world.lab.client, world.lab.router):
        assert probe_from(start, "10.9.2.3", server) is Fate.DIRECT
        assert probe_from(start, "fd09:2::3", server) is Fate.DIRECT


def test_a_name_is_all_its_addresses_and_they_change(world: World) -> None:
    """A and AAAA, by way of an alias, refreshed when their time is over; a name server that fails changes nothing."""
    server = world.lab.serve(servers.echo, PORT)
    names = world.lab.names()
    names.set("edge.example", "10.9.2.3", "10.9.2.4", "fd09:2::3", ttl_s=1)
    names.set("moving.example", alias="edge.example", ttl_s=1)
    use(world, rule("named", [PORT], cidrs="[]", hosts='["moving.example"]'))
    client = world.lab.client
    for address in ("10.9.2.3", "10.9.2.4", "fd09:2::3"):
        wait_for_fate(lambda address=address: probe_from(client, address, server), Fate.CAPTURED, 3)
    assert probe_from(client, "10.9.2.5", server) is Fate.DIRECT
    assert probe_from(client, "fd09:2::5", server) is Fate.DIRECT
    with client.connect(("10.9.2.3", PORT)) as old:
        old.sendall(b"x")
        assert old.recv(1) == b"x"
        names.set("edge.example", "10.9.2.5", "fd09:2::5", ttl_s=1)
        wait_for_fate(lambda: probe_from(client, "10.9.2.5", server), Fate.CAPTURED, 8)
        wait_for_fate(lambda: probe_from(client, "fd09:2::5", server), Fate.CAPTURED, 8)
        old.sendall(b"y")
        assert old.recv(1) == b"y"
    names.failing = True
    time.sleep(3)
    assert probe_from(client, "10.9.2.5", server) is Fate.CAPTURED


def test_a_name_of_the_hosts_file(world: World) -> None:
    """What the host's own resolver says counts: /etc/hosts before DNS, and its changes are seen."""
    server = world.lab.serve(servers.echo, PORT)
    world.lab.hosts({"filed.example": ["10.9.2.6", "fd09:2::6"]})
    try:
        use(world, rule("filed", [PORT], cidrs="[]", hosts='["filed.example"]'))
        wait_for_fate(lambda: probe_from(world.lab.client, "10.9.2.6", server), Fate.CAPTURED, 5)
        wait_for_fate(lambda: probe_from(world.lab.client, "fd09:2::6", server), Fate.CAPTURED, 5)
        assert probe_from(world.lab.client, "10.9.2.7", server) is Fate.DIRECT
        world.lab.hosts({"filed.example": ["10.9.2.7"]})
        wait_for_fate(lambda: probe_from(world.lab.client, "10.9.2.7", server), Fate.CAPTURED, 70)
    finally:
        world.lab.hosts({})


def test_a_name_is_known_at_once_though_dns_is_away(world: World) -> None:
    """No name server answers here: what the resolver knows without one does not wait for it, nor for another name."""
    server = world.lab.serve(servers.echo, PORT)
    silence = "table inet silence { chain output { type filter hook output priority 0; udp dport 53 drop; }\n}\n"
    world.lab.hosts({"filed.example": ["10.9.2.6"], "second.example": ["10.9.2.7"]})
    world.lab.router.nft(silence)
    try:
        unknown = rule("unknown", [PORT + 1], hosts='["unknown.example"]')
        use(world, unknown, rule("filed", [PORT], cidrs="[]", hosts='["filed.example"]'))
        wait_for_fate(lambda: probe_from(world.lab.client, "10.9.2.6", server), Fate.CAPTURED, PROMPT_S)
        use(world, unknown, rule("filed", [PORT], cidrs="[]", hosts='["second.example"]'))
        wait_for_fate(lambda: probe_from(world.lab.client, "10.9.2.7", server), Fate.CAPTURED, PROMPT_S)
    finally:
        world.lab.router.nft("delete table inet silence\n")
        world.lab.hosts({})


def test_names_are_found_though_port_53_is_caught(world: World) -> None:
    """Pitfall 3: the agent asks for names over what it captures itself."""
    server = world.lab.serve(servers.echo, PORT)
    names = world.lab.names()
    names.truncating = True
    use(world, rule("dns", [53], cidrs=EVERYWHERE))
    names.set("truncated.example", "10.9.2.8", ttl_s=1)
    use(world, rule("dns", [53], cidrs=EVERYWHERE), rule("named", [PORT], cidrs="[]", hosts='["truncated.example"]'))
    wait_for_fate(lambda: probe_from(world.lab.client, "10.9.2.8", server), Fate.CAPTURED, 8)
    assert names.asked_by_tcp
    asked = "import json, dns.resolver; print(json.dumps(dns.resolver.resolve('truncated.example')[0].address))"
    found = world.lab.router.python(asked)
    assert found == "10.9.2.8"


def test_a_server_with_ipv6_alone(world: World) -> None:
    """Pitfall 13: no way around over the other family."""
    server = world.lab.serve(servers.echo, PORT)
    names = world.lab.names()
    names.set("six.example", "fd09:2::8", ttl_s=30)
    use(world, rule("six", [PORT], cidrs="[]", hosts='["six.example"]'))
    wait_for_fate(lambda: probe_from(world.lab.client, "fd09:2::8", server), Fate.CAPTURED, 5)
    wait_for_fate(lambda: probe_from(world.lab.router, "fd09:2::8", server), Fate.CAPTURED, 5)


# ---- modes -----------------------------------------------------------------------------------------------------------
def test_deny_refuses_at_once(world: World) -> None:
    server = world.lab.serve(servers.echo, PORT)
    use(world, rule("no", [PORT], more="mode: deny"))
    for way in WAYS:
        begun = time.monotonic()
        assert probe(world.lab, way, server) is Fate.REFUSED, str(way)
        assert time.monotonic() - begun < 0.5
    assert server.connections == []
    wait_until(lambda: world.gateway.rule("no")["denied"] == 4, 5, lambda: world.gateway.rule("no"))


def test_deny_outlives_agent_and_gateway(world: World) -> None:
    server = world.lab.serve(servers.echo, PORT)
    use(world, rule("no", [PORT], more="mode: deny"))
    world.gateway.kill_everything()
    try:
        end = time.monotonic() + 4
        while time.monotonic() < end:
            for way in WAYS:
                assert probe(world.lab, way, server) is Fate.REFUSED, str(way)
    finally:
        world.gateway.agent.start()
        world.gateway.start()
        world.gateway.wait_armed()


def test_observe_counts_and_touches_nothing(world: World) -> None:
    server = world.lab.serve(servers.echo, PORT)
    use(world, rule("look", [PORT], more="mode: observe"))
    assert fates(world, server) == all_are(Fate.DIRECT)
    wait_until(lambda: world.gateway.rule("look")["passed"] == 4, 5, lambda: world.gateway.rule("look"))


def test_captured_connections_are_counted(world: World) -> None:
    server = world.lab.serve(servers.echo, PORT)
    use(world, rule("all", [PORT]))
    for _ in range(3):
        assert fates(world, server) == all_are(Fate.CAPTURED)
    wait_until(lambda: world.gateway.rule("all")["captured"] == 12, 5, lambda: world.gateway.rule("all"))


def test_the_first_rule_that_fits_decides(world: World) -> None:
    server = world.lab.serve(servers.echo, PORT)
    first, second = rule("first", [PORT], more="mode: deny"), rule("second", [PORT])
    use(world, first, second)
    assert fates(world, server) == all_are(Fate.REFUSED)
    use(world)
    use(world, second, first)
    assert fates(world, server) == all_are(Fate.CAPTURED)


# ---- coming, changing, going -----------------------------------------------------------------------------------------
@every_way
def test_flows_that_live_are_not_touched_by_what_happens_to_rules(world: World, way: Way) -> None:
    """Pitfall 7: neither a direct flow nor a captured one, by loading, changing or removing."""
    server = world.lab.serve(servers.echo, PORT)
    where = way.start(world.lab)

    def says(connection: socket.socket, word: bytes) -> None:
        connection.sendall(word)
        assert connection.recv(100) == word

    with where.connect((way.address, PORT)) as direct:
        says(direct, b"before")
        use(world, rule("all", [PORT]))
        says(direct, b"loaded")
        assert probe(world.lab, way, server) is Fate.CAPTURED
        with where.connect((way.address, PORT)) as captured:
            says(captured, b"captured")
            for number in range(3):
                use(world, rule("all", [PORT, PORT + 1 + number]))
                says(direct, b"changed")
                says(captured, b"changed")
            use(world, rule("all", [PORT + 1]))
            says(captured, b"out of the rule")
            assert probe(world.lab, way, server) is Fate.DIRECT
            use(world)
            time.sleep(0.3)
            says(direct, b"gone")
            says(captured, b"gone")
            assert probe(world.lab, way, server) is Fate.DIRECT
            captured.shutdown(socket.SHUT_WR)
            assert captured.recv(1) == b""
    received = [bytes(one.received) for one in server.connections]
    assert b"beforeloaded" + b"changed" * 3 + b"gone" in received
    assert b"captured" + b"changed" * 3 + b"out of the rulegone" in received


@every_way
def test_a_download_goes_on_while_its_rule_goes(world: World, way: Way) -> None:
    """Pitfall 8: removal drains."""
    pump = world.lab.serve(servers.pump(4 << 20, gap_s=0.02, piece=32 << 10), PORT)
    use(world, rule("all", [PORT]))
    with way.start(world.lab).connect((way.address, PORT), within_s=15) as connection:
        connection.sendall(b"go\n")
        assert pump.wait_for(1)[0].peer != connection.getsockname()[:2]
        timer = threading.Timer(0.5, lambda: use(world))
        timer.start()
        got = read_all(connection)
        timer.join(15)
    assert got == servers.BLOCK * 4


def test_twenty_times_the_same_is_the_same(world: World) -> None:
    """Whether it changed meanwhile or not: the rule set depends on the rules, not on their history."""
    names = rule("all", [PORT]), rule("closed", [PORT + 1], more="on_failure: closed")
    use(world, *names)
    before, policy = world.lab.router.ruleset(), world.lab.router.policy()
    for number in range(20):
        if number % 2:
            use(world, rule("all", [PORT, PORT + 2]), names[1])
        use(world, *names)
        assert len(world.lab.router.tables()) == 2
    wait_until(lambda: world.lab.router.ruleset() == before, 5)
    assert world.lab.router.policy() == policy


def test_down_leaves_nothing_and_up_brings_it_back(world: World) -> None:
    """New connections are direct at once, flows end in their own time, then nothing is left."""
    server = world.lab.serve(servers.echo, PORT)
    use(world, rule("all", [PORT]), rule("closed", [PORT + 1], more="on_failure: closed"))
    with world.lab.client.connect((SERVER4, PORT)) as connection:
        connection.sendall(b"one")
        assert connection.recv(10) == b"one"
        world.gateway.cli("intercept", "down")
        assert fates(world, server) == all_are(Fate.DIRECT)
        connection.sendall(b"two")
        assert connection.recv(10) == b"two"
    wait_until(lambda: not world.lab.router.tables(), 15, world.lab.router.ruleset)
    wait_until(lambda: "fwmark" not in world.lab.router.policy(), 5, world.lab.router.policy)
    assert "dev lo table" not in world.lab.router.policy().replace("dev lo table local", "")
    assert not world.gateway.rule("all")["armed"]
    assert world.gateway.rule("all")["reason"]
    world.gateway.cli("intercept", "up")
    world.gateway.wait_armed()
    assert fates(world, server) == all_are(Fate.CAPTURED)


# ---- more that a rule may say ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("address", [SERVER4, SERVER6])
def test_the_server_sees_the_client_where_the_rule_says_so(world: World, address: str) -> None:
    """Pitfall 14: `source_address: client`, and the answers find their way back. The host's own keep the host's."""
    server = world.lab.serve(servers.echo, PORT)
    use(world, rule("worn", [PORT], more="source_address: client"))
    before = world.gateway.rule("worn")["captured"]
    held = [world.lab.client.connect((address, PORT)) for _ in range(20)]
    for number, connection in enumerate(held):
        connection.sendall(servers.BLOCK[: 10_000 + number])
        connection.shutdown(socket.SHUT_WR)
        assert read_all(connection) == servers.BLOCK[: 10_000 + number]
        connection.close()
    assert {one.peer[0] for one in server.connections} == {CLIENT6 if ":" in address else CLIENT4}
    assert all(one.end == "fin" for one in server.connections)
    wait_until(lambda: world.gateway.rule("worn")["captured"] == before + 20, 5, lambda: world.gateway.rule("worn"))
    with world.lab.router.connect((address, PORT)) as own:
        own.sendall(b"x")
        assert own.recv(1) == b"x"


def test_a_trial_takes_itself_back_unless_it_is_confirmed(world: World) -> None:
    """`sluicegate intercept up --try`: as people do with firewalls."""
    server = world.lab.serve(servers.echo, PORT)
    use(world, rule("all", [PORT]))
    world.gateway.cli("intercept", "down")
    wait_for_fate(lambda: probe(world.lab, WAYS[0], server), Fate.DIRECT, 3)
    world.gateway.cli("intercept", "up", "--try", "4s")
    world.gateway.wait_armed()
    assert fates(world, server) == all_are(Fate.CAPTURED)
    wait_for_fate(lambda: probe(world.lab, WAYS[0], server), Fate.DIRECT, 8)
    assert fates(world, server) == all_are(Fate.DIRECT)
    world.gateway.cli("intercept", "up", "--try", "4s")
    world.gateway.cli("intercept", "up")
    time.sleep(5)
    world.gateway.wait_armed()
    assert fates(world, server) == all_are(Fate.CAPTURED)
