"""Tests that need a kernel of their own to play with: each has network namespaces of its own (tests/support/lab).

They need root and the tools that `tests/run` installs. Without root they are skipped, and say so; in CI as root they
are not: what cannot run there has failed.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.lab import Lab

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
