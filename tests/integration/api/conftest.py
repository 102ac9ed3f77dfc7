"""The REST API on both databases, and a gateway with two teams to ask about."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api.served import ServedApi, served
from tests.support.ports import free_port


@pytest.fixture
def api(migrated_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[ServedApi]:
    """An empty gateway, on SQLite and on PostgreSQL, with what the test's mark `settings` says."""
    mark = request.node.get_closest_marker("settings")
    with served(tmp_path, migrated_url, **(mark.kwargs if mark else {})) as found:
        yield found


@pytest.fixture
def sqlite_api(migrated_sqlite_url: str, tmp_path: Path) -> Iterator[ServedApi]:
    """An empty gateway on SQLite, where the database cannot make a difference."""
    with served(tmp_path, migrated_sqlite_url) as found:
        yield found


@pytest.fixture
def unused_port() -> int:
    """Of loopback, on which nobody listens."""
    return free_port()
