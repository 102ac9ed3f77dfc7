"""A migrated database for each test, on SQLite and on PostgreSQL."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from gateway.settings import Settings
from gateway.store.database import make_engine


@pytest.fixture
def empty_engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(Settings(database=database_url).database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def engine(migrated_url: str) -> Iterator[Engine]:
    engine = make_engine(Settings(database=migrated_url).database_url)
    yield engine
    engine.dispose()
