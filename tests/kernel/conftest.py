"""Tests that need a kernel of their own to play with: each has network namespaces of its own (tests/support/lab).

They need root and the tools that `tests/run` installs. Without root they are skipped, and say so; in CI as root they
are not: what cannot run there has failed.

Where each pitfall of interception has its test (numbers as in docs/interception.md):

    1 test_failure · 2, 5, 6, 12, 22, 24, 39 test_guards · 9, 10, 14, 16 to 21, 36, 37 test_splice
    3 test_rules (the agent asks a name server on its way to the rule) · 7, 8, 13, 38 test_rules
    4, 26, 27 test_neighbours · 15, 25 test_bridge, test_docker

Not staged here, and why:

    11      UDP is never proxied, only refused (QUIC), so no listener asks for its original destination.
    23      DNS over HTTPS hides names from a DNS proxy; rules go by address, and there is no DNS proxy.
    28, 35  cgroup and sockmap programs of others: with the probes' own tests, where programs are attached.
    29 to 34  process identity, ring buffers, uprobes: the probes' too.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.lab import Lab
from tests.support.lab.world import World, make_world

HERE = Path(__file__).parent
TOOLS = ("ip", "nft", "ss", "tcpdump", "conntrack", "nsenter", "setpriv", "unshare")


def _hindrance() -> str:
    if os.geteuid() != 0:
        return "network namespaces need root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    return f"missing: {', '.join(missing)}; tests/run installs them" if missing else ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    hindrance = _hindrance()
    must_run = bool(os.environ.get("CI")) and os.geteuid() == 0
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.kernel)
            if hindrance and not must_run:
                item.add_marker(pytest.mark.skip(reason=hindrance))


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A network of the test's own: client, router, server."""
    with Lab() as made:
        yield made


@pytest.fixture
def lab_with_container() -> Iterator[Lab]:
    """The same with a container behind a bridge of the router."""
    with Lab(container=True) as made:
        yield made


class _Shared:
    """The world that the tests of this pytest process share; made anew when a test has left it out of order."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._world: World | None = None

    def get(self) -> World:
        if self._world is not None and not self._world.well:
            self.close()
        if self._world is None:
            self._world = self._stack.enter_context(make_world())
        return self._world

    def close(self) -> None:
        self._world = None
        self._stack.close()


@pytest.fixture(scope="session")
def _shared() -> Iterator[_Shared]:
    shared = _Shared()
    yield shared
    shared.close()


@pytest.fixture
def world(_shared: _Shared) -> Iterator[World]:
    """Gateway and agent with the usual rules (tests/support/lab/world.py), armed. Servers end with the test."""
    made = _shared.get()
    with made.lab.scope():
        yield made
