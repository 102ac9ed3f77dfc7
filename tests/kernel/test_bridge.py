"""Containers behind a bridge of this host (pitfall 25): caught where that works, left alone where it would hang."""

from collections.abc import Iterator

import pytest

from tests.support.lab import Lab, gateway, servers
from tests.support.lab.lab import SERVER4, SERVER6
from tests.support.lab.probing import Fate, probe_from, wait_for_fate
from tests.support.lab.world import BASE, World, rule

SOURCES = '{cidrs: ["10.9.1.0/24", "fd09:1::/64", "10.9.3.0/24", "fd09:3::/64"], local: true}'
OPEN, CLOSED = 4001, 4002
YAML = (
    BASE
    + "interception:\n"
    + rule("open", [OPEN], sources=SOURCES)
    + rule("closed", [CLOSED], sources=SOURCES, more="on_failure: closed")
)
SWITCHES = ("net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables")


@pytest.fixture(params=[0, 1], ids=["bridge-nf-off", "bridge-nf-on"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with Lab(container=True) as lab:
        for switch in SWITCHES:
            lab.router.sysctl(switch, request.param)
        with gateway(lab, YAML) as running:
            yield World(lab, running)
            assert [lab.router.sysctl(switch) for switch in SWITCHES] == [str(request.param)] * 2


def test_a_container_behind_a_bridge_is_never_cut_off(world: World) -> None:
    """With bridge netfilter TPROXY would swallow it: caught in another way, or let go as the rule says, and said."""
    lab = world.lab
    assert lab.container is not None
    opened, closed = lab.serve(servers.echo, OPEN), lab.serve(servers.echo, CLOSED)
    swallowed = lab.router.sysctl(SWITCHES[0]) == "1"
    for address in (SERVER4, SERVER6):
        fate, strict = probe_from(lab.container, address, opened), probe_from(lab.container, address, closed)
        if swallowed:
            assert fate in (Fate.CAPTURED, Fate.DIRECT)
            assert strict in (Fate.CAPTURED, Fate.REFUSED)
        else:
            assert (fate, strict) == (Fate.CAPTURED, Fate.CAPTURED)
        assert probe_from(lab.client, address, opened) is Fate.CAPTURED
        assert probe_from(lab.router, address, opened) is Fate.CAPTURED
    if swallowed and fate is not Fate.CAPTURED:
        assert world.gateway.interception()["bridges_left_alone"] == ["br0"]
        assert "br0" in world.gateway.cli("intercept", "status").stdout


def test_bridge_netfilter_that_comes_later_is_noticed(world: World) -> None:
    """Docker loads it when it starts: the container must not lose its network for long."""
    lab = world.lab
    assert lab.container is not None
    opened = lab.serve(servers.echo, OPEN)
    before = [lab.router.sysctl(switch) for switch in SWITCHES]
    try:
        for value in ("1", "0"):
            for switch in SWITCHES:
                lab.router.sysctl(switch, value)
            wanted = Fate.CAPTURED if value == "0" else Fate.DIRECT
            for address in (SERVER4, SERVER6):
                wait_for_fate(lambda a=address, c=lab.container: probe_from(c, a, opened), wanted, 15)
    finally:
        for switch, value in zip(SWITCHES, before, strict=True):
            lab.router.sysctl(switch, value)
