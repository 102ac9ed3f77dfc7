"""Living with others in one kernel: their tables, marks and rules, and what they do to ours (pitfalls 4, 26, 27)."""

import re
import time
from collections.abc import Iterator

import pytest

from tests.support.lab import Lab, gateway, servers
from tests.support.lab.probing import WAYS, Fate, probe, wait_for_fate
from tests.support.lab.talking import wait_until
from tests.support.lab.world import WORLD, World

FOREIGN = """
table ip nat {
    chain POSTROUTING { type nat hook postrouting priority srcnat; policy accept;
        ip saddr 172.31.0.0/16 masquerade
    }
}
table inet theirs {
    counter marked { }
    counter lost { }
    set known { type ipv4_addr; elements = { 192.0.2.1, 192.0.2.2 } }
    chain first { type filter hook prerouting priority raw; policy accept;
        meta mark set meta mark | 0x80000
    }
    chain late { type filter hook prerouting priority -50; policy accept;
        iifname "rc" meta mark & 0x80000 == 0x80000 counter name marked
        iifname "rc" meta mark & 0x80000 == 0 counter name lost
    }
    chain out { type route hook output priority mangle - 20; policy accept;
        meta mark & 0x700 == 0x700 counter
    }
}
"""
RULE = re.compile(r"(?P<pref>\d+):.* fwmark (?P<mark>\S+) .*lookup (?P<table>\S+)")
TAKEN = ["0x100/0x100", "0x200/0x200", "0x400/0x400", "0x800/0x800", "0x1000/0x1000"]
"""Bits that others use for a route into nowhere: whoever of ours took one of them would not get far."""


def preload(lab: Lab) -> None:
    lab.router.nft(FOREIGN)
    for family in "46":
        lab.router.ip(f"-{family}", "route", "add", "blackhole", "default", "table", "77")
        for number, mark in enumerate(TAKEN):
            lab.router.ip(f"-{family}", "rule", "add", "pref", str(50 + number), "fwmark", mark, "lookup", "77")
        lab.router.ip(f"-{family}", "rule", "add", "pref", "9100", "fwmark", "0x80000000/0x80000000", "lookup", "77")


PROTOCOL = "proto 83"
"""Of our routes and rules."""


@pytest.fixture(scope="module")
def _crowded() -> Iterator[World]:
    with Lab() as lab:
        preload(lab)
        before = _theirs(lab), _their_policy(lab)
        with gateway(lab, WORLD) as running:
            world = World(lab, running)
            wait_until(lambda: running.rule("open")["last_canary"] is not None, 10)  # its line is the last to stand
            yield world
            assert (_theirs(lab), _their_policy(lab)) == before
            running.cli("intercept", "down")
            wait_until(lambda: not _ours(lab), 10, lab.router.tables)
        assert (_theirs(lab), _their_policy(lab)) == before
        assert not _ours(lab)
        assert lab.router.policy() == _their_policy(lab)


@pytest.fixture
def world(_crowded: World) -> Iterator[World]:
    with _crowded.lab.scope():
        yield _crowded


def _ours(lab: Lab) -> list[str]:
    return [name for name in lab.router.tables() if "sluicegate" in name]


def _sorted(lab: Lab) -> list[str]:
    """Tables in the order of their names: one that was made anew is listed last."""
    return sorted(part.strip() for part in re.split(r"(?m)^(?=table )", lab.router.ruleset()))


def _theirs(lab: Lab) -> str:
    """The rule set without our tables."""
    return "".join(
        part for part in re.split(r"(?m)^(?=table )", lab.router.ruleset()) if "sluicegate" not in part
    ).strip()


def _their_policy(lab: Lab) -> str:
    """Rules and routes of others: what bears no mark of ours."""
    ours = _our_rules(lab)
    tables = {found["table"] for line in ours if (found := RULE.match(line))} - {"main", "local", "default", "77"}
    lines = [line for line in lab.router.policy().splitlines() if line.strip() not in ours and PROTOCOL not in line]
    return "\n".join(line for line in lines if not any(f"table {table}" in line for table in tables))


def _our_rules(lab: Lab) -> list[str]:
    told = (lab.router.ip("rule") + lab.router.ip("-6", "rule")).splitlines()
    theirs = [*TAKEN, "0x80000000/0x80000000"]
    return [line.strip() for line in told if "fwmark" in line and not any(f"fwmark {mark} " in line for mark in theirs)]


def test_marks_that_others_use_are_neither_taken_nor_lost(world: World) -> None:
    """Pitfall 4: bits are chosen free, and set beside those that stand there."""
    server = world.serve(servers.echo)
    world.lab.router.nft("reset counters table inet theirs\n")
    for way in WAYS:
        assert probe(world.lab, way, server) is Fate.CAPTURED, str(way)
    counted = world.lab.router.nft("list counters table inet theirs\n")
    packets = dict(re.findall(r"counter (\w+) \{\s+packets (\d+)", counted))
    assert int(packets["marked"]) > 8
    assert packets["lost"] == "0"


@pytest.mark.parametrize("which", ["plain", "capture"])
def test_a_table_that_somebody_deletes_is_back(world: World, which: str) -> None:
    """Pitfall 26. Others cannot delete the owner's table; what they can is repaired, and said."""
    before = _sorted(world.lab)
    server = world.serve(servers.echo)
    for name in _ours(world.lab):
        if ("capture" in name) == (which == "capture"):
            world.lab.router.nft(f"delete table {name}\n", check=False)
    wait_until(lambda: _sorted(world.lab) == before, 10, world.lab.router.ruleset)
    for way in WAYS:
        wait_for_fate(lambda way=way: probe(world.lab, way, server), Fate.CAPTURED, 3)
    if which == "plain":
        assert "nftables" in world.gateway.interception()["repairs"][-1]["what"]


def test_a_flushed_ruleset_is_back_and_captured_flows_live_through_it(world: World) -> None:
    theirs = _theirs(world.lab)
    before = _sorted(world.lab)
    server = world.serve(servers.echo)
    held = [way.start(world.lab).connect((way.address, server.port)) for way in WAYS]
    for connection in held:
        connection.sendall(b"before")
        assert connection.recv(100) == b"before"
    world.lab.router.nft("flush ruleset\n", check=False)
    for connection in held:
        connection.sendall(b"after")
        assert connection.recv(100) == b"after"
        connection.close()
    world.lab.router.nft(theirs + "\n")
    wait_until(lambda: len(_ours(world.lab)) == 2, 10, world.lab.router.ruleset)
    for way in WAYS:
        wait_for_fate(lambda way=way: probe(world.lab, way, server), Fate.CAPTURED, 5)
    wait_until(lambda: _sorted(world.lab) == before, 10, world.lab.router.ruleset)


@pytest.mark.parametrize("what", ["rules", "routes", "some-rules"])
def test_policy_rules_and_routes_that_somebody_deletes_are_back(world: World, what: str) -> None:
    """systemd-networkd does so when it restarts: forwarded captures would go nowhere until they are back."""
    before = world.lab.router.policy()
    server = world.serve(servers.echo)
    for family in "46":
        told = [line.strip() for line in world.lab.router.ip(f"-{family}", "rule").splitlines()]
        ours = [found for line in told if line in _our_rules(world.lab) and (found := RULE.match(line))]
        assert len(ours) >= 3, told
        if what == "routes":
            for table in {found["table"] for found in ours} - {"main"}:
                world.lab.router.ip(f"-{family}", "route", "flush", "table", table)
        else:
            for found in ours if what == "rules" else ours[:1]:
                world.lab.router.ip(f"-{family}", "rule", "del", "pref", found["pref"], "fwmark", found["mark"])
    deleted = time.monotonic()
    wait_until(lambda: world.lab.router.policy() == before, 10, world.lab.router.policy)
    print(f"back after {time.monotonic() - deleted:.2f} s")
    for way in WAYS:
        wait_for_fate(lambda way=way: probe(world.lab, way, server), Fate.CAPTURED, 5)


def test_a_second_agent_is_refused(world: World) -> None:
    """Pitfall 27: one a host; the second says so and changes nothing."""
    before = world.lab.router.ruleset()
    said = world.lab.router.run(
        "sluicegate", "agent", "--socket", str(world.gateway.agent.socket), check=False, within_s=20,
        env={"SLUICEGATE_DATA": str(world.gateway.data)},
    )  # fmt: skip
    assert said.returncode != 0
    assert said.stderr.strip() or said.stdout.strip()
    (world.lab.folder / "other").mkdir()
    other = world.lab.folder / "other" / "agent.sock"
    said = world.lab.router.run(
        "sluicegate", "agent", "--socket", str(other), check=False, within_s=20,
        env={"SLUICEGATE_DATA": str(world.lab.folder / "other")},
    )  # fmt: skip
    assert said.returncode != 0
    assert "another data folder" in said.stderr
    assert world.lab.router.ruleset() == before
    server = world.serve(servers.echo)
    assert {probe(world.lab, way, server) for way in WAYS} == {Fate.CAPTURED}


DROPPING = """table inet dropping { chain input { type filter hook input priority filter; policy drop;
    iif lo accept; ct state established,related accept; }\n}\n"""


def test_a_firewall_that_drops_what_is_captured_is_told_of(world: World) -> None:
    """Forwarded connections come in by input: the canary, which is this host's own, would sing on."""
    server, forwarded = world.serve(servers.echo), [way for way in WAYS if not way.local]
    world.lab.router.nft(DROPPING)
    try:
        deadline = time.monotonic() + 60
        while "none came" not in (world.gateway.rule("open")["reason"] or ""):
            assert time.monotonic() < deadline
            assert {probe(world.lab, way, server, 0.5) for way in forwarded} == {Fate.HUNG}
        told = world.gateway.cli("doctor", check=False).stdout
        assert "none came to a worker" in told
        assert "nft insert rule inet dropping input meta mark" in told
    finally:
        world.lab.router.nft("delete table inet dropping\n")
    assert {probe(world.lab, way, server) for way in forwarded} == {Fate.CAPTURED}
    wait_until(lambda: world.gateway.rule("open")["reason"] is None, 25)
