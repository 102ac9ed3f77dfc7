"""Fixtures that every test may ask for. Databases are real; each test gets one of its own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as property_settings

from gateway.settings import Settings
from gateway.store import migrate
from gateway.store.database import make_engine
from tests.support import trust
from tests.support.own_cgroup import own_cgroup
from tests.support.postgres import Postgres

trust.share()
# As many tests run at once as there are cores, and some load them: how long an example takes tells nothing.
property_settings.register_profile("loaded", deadline=None, suppress_health_check=[HealthCheck.too_slow])
property_settings.load_profile("loaded")
# `tests/run` runs what failed once more: to shrink an example again, for minutes, would tell nothing new.
property_settings.register_profile(
    "again", property_settings.get_profile("loaded"), phases=[Phase.explicit, Phase.reuse, Phase.generate]
)


@pytest.fixture(scope="session", autouse=True)
def _own_cgroup() -> Iterator[None]:
    """Set up before anything is started, and so removed behind all of it."""
    with own_cgroup():
        yield


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The PostgreSQL that the tests of this pytest process share; leave it running."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A started PostgreSQL for one test alone, which may stop, pause and start it."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """URL of an empty PostgreSQL database, dropped after the test."""
    name = postgres_server.new_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """URL of a SQLite database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'sluicegate.sqlite'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """URL of an empty database, as `--database` takes it: the test runs once on SQLite and once on PostgreSQL."""
    return str(request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url"))


def _migrated(url: str) -> None:
    engine = make_engine(Settings(database=url).database_url)
    migrate.upgrade(engine)
    engine.dispose()


@pytest.fixture(scope="session")
def _migrated_postgres(postgres_server: Postgres) -> str:
    """Name of a database that is copied for each test: migrations take ten times as long."""
    name = postgres_server.new_database()
    _migrated(postgres_server.url(name))
    return name


@pytest.fixture(scope="session")
def _migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("template") / "sluicegate.sqlite"
    _migrated(f"sqlite:///{file}")
    return file


@pytest.fixture
def migrated_sqlite_url(sqlite_url: str, _migrated_sqlite: Path) -> str:
    """As `sqlite_url`, with the present schema already in it."""
    shutil.copy(_migrated_sqlite, sqlite_url.removeprefix("sqlite:///"))
    return sqlite_url


@pytest.fixture(params=["sqlite", "postgresql"])
def migrated_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """As `database_url`, with the present schema already in it."""
    if request.param == "sqlite":
        yield request.getfixturevalue("migrated_sqlite_url")
        return
    server: Postgres = request.getfixturevalue("postgres_server")
    name = server.new_database(template=request.getfixturevalue("_migrated_postgres"))
    yield server.url(name)
    server.drop_database(name)
