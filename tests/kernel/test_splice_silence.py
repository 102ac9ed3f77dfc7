"""Splices whose peer is there no more and says nothing (pitfall 18): a cable pulled, a NAT that forgot.

The engine itself in the router's namespace; what would reach the server is dropped there.
"""

import socket
import time
from collections.abc import Iterator

import pytest

from tests.support.lab import Lab
from tests.support.lab.lab import CLIENT4, ROUTER4, ROUTER_OUT4, SERVER4
from tests.support.lab.namespace import Namespace
from tests.support.splicing import Link, Splicing

UNANSWERED_S = 4
NOTICED_WITHIN_S = 3 * UNANSWERED_S


def connected(one: Namespace, other: Namespace, address: str) -> tuple[socket.socket, socket.socket]:
    with other.entered():
        listener = socket.create_server((address, 0))
    with listener, one.entered():
        connecting = socket.create_connection(listener.getsockname())
        accepted, _ = listener.accept()
    return connecting, accepted


@pytest.fixture
def link(lab: Lab) -> Iterator[Link]:
    client, near_client = connected(lab.client, lab.router, ROUTER4)
    near_server, server = connected(lab.router, lab.server, SERVER4)
    with Splicing(unanswered_s=UNANSWERED_S) as splicing:
        link = splicing.join(client, near_client, near_server, server)
        client.sendall(b"ping")
        assert server.recv(4) == b"ping"
        yield link


def cut(lab: Lab) -> None:
    """The server receives nothing, and sends nothing."""
    lab.server.run(
        "nft", "add table inet cut; add chain inet cut in { type filter hook input priority 0; policy drop; }"
    )
    lab.server.run("nft", "add chain inet cut out { type filter hook output priority 0; policy drop; }")


@pytest.mark.parametrize("sending", [False, True], ids=["silent", "client-sends"])
@pytest.mark.parametrize("half_closed", [False, True], ids=["open", "half-closed"])
def test_a_dead_peer_is_noticed(lab: Lab, link: Link, sending: bool, half_closed: bool) -> None:
    """Whether there is something to send or not; the other side is told, and nothing is left."""
    if half_closed:
        link.server.shutdown(socket.SHUT_WR)
        assert link.client.recv(1) == b""
    cut(lab)
    if sending:
        link.client.sendall(b"is anybody there?")
    began = time.monotonic()
    assert link.over.wait(NOTICED_WITHIN_S)
    assert time.monotonic() - began >= UNANSWERED_S / 2
    assert link.splice.outcome == "server_reset"
    error = link.client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    assert error != 0
    left = lab.router.run("ss", "-Htan", "state", "connected", "state", "closed").stdout
    assert ROUTER_OUT4 not in left
    assert CLIENT4 not in left
