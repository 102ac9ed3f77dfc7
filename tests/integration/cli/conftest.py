"""The command line on a data folder of its own, with either database."""

from pathlib import Path

import pytest

from tests.support.cli import Cli


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def cli(data: Path, database_url: str) -> Cli:
    """Once with SQLite, once with PostgreSQL."""
    return Cli(data, database_url)


@pytest.fixture
def sqlite_cli(data: Path) -> Cli:
    """With the database that an installation has by default."""
    return Cli(data)
