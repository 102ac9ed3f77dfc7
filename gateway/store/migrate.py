"""Bring a database's schema up, take it back, or refuse to work with one that does not fit.

Every change runs in one transaction that only one process at a time can hold, so that two starts at once are safe and
an interrupted one leaves the schema as it was.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, inspect, text

import gateway
from gateway.errors import SluicegateError

_LOCK: Final = 0x51_01CE  # of pg_advisory_xact_lock: any number, the same in all processes


class SchemaMismatch(SluicegateError):
    """The database cannot be served by this release as it is."""

    status, code = 500, "schema_mismatch"


def migrations_folder() -> Path:
    """In a wheel the migrations lie in the package, in a checkout beside it."""
    package = Path(gateway.__file__).parent
    packed = package / "migrations"
    return packed if packed.is_dir() else package.parent / "migrations"


def newest_revision() -> str:
    """The schema that this release works with."""
    head = ScriptDirectory(str(migrations_folder())).get_current_head()
    if head is None:
        raise SchemaMismatch(f"no migrations in {migrations_folder()}", fix="install Sluicegate again")
    return head


def revisions() -> set[str]:
    """Every schema that this release can bring up to date."""
    return {script.revision for script in ScriptDirectory(str(migrations_folder())).walk_revisions()}


def current_revision(engine: Engine) -> str | None:
    """The schema that the database has; None where it is empty. Raises SchemaMismatch on tables without a revision."""
    with engine.connect() as connection:
        return _current(connection)


def upgrade(engine: Engine, revision: str | None = None) -> bool:
    """Bring an empty or older schema to `revision` (default: this release's). Returns whether anything was done.

    Raises SchemaMismatch where the database is newer or not ours.
    """

    def change(connection: Connection) -> bool:
        present = _current(connection)
        _refuse_newer(present)
        if present == (revision or newest_revision()):
            return False
        command.upgrade(_alembic(connection), revision or "head")
        return True

    return _exclusively(engine, change)


def downgrade(engine: Engine, revision: str) -> bool:
    """Take the schema back to `revision` (`base`: drop all tables). What newer tables hold is lost."""

    def change(connection: Connection) -> bool:
        present = _current(connection)
        _refuse_newer(present)
        if present is None or present == revision:
            return False
        command.downgrade(_alembic(connection), revision)
        return True

    return _exclusively(engine, change)


def check(engine: Engine) -> None:
    """Raises SchemaMismatch unless the schema is exactly this release's, down to every table and column."""
    newest = newest_revision()
    with engine.connect() as connection:
        present = _current(connection)
        _refuse_newer(present)
        if present != newest:
            found = f"of revision {present}" if present else "empty"
            raise SchemaMismatch(
                f"the database is {found}, this release needs {newest}",
                fix="run `sluicegate serve`, which brings it up to date, or `sluicegate backup` first",
            )
        missing = _missing(connection)
    if missing:
        raise SchemaMismatch(
            f"the database says revision {newest} but lacks {', '.join(missing)}",
            fix="restore a backup with `sluicegate restore FILE`",
        )


def refuse_unfit(engine: Engine) -> None:
    """Raises SchemaMismatch where `upgrade` would."""
    with engine.connect() as connection:
        _refuse_newer(_current(connection))


def _alembic(connection: Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _current(connection: Connection) -> str | None:
    revisions = MigrationContext.configure(connection).get_current_heads()
    if len(revisions) > 1:
        raise SchemaMismatch(f"the database names {len(revisions)} revisions", fix="restore a backup")
    if not revisions and "provider" in inspect(connection).get_table_names():
        raise SchemaMismatch(
            "the database has our tables but names no revision", fix="restore a backup, or name another database"
        )
    return revisions[0] if revisions else None


def _refuse_newer(present: str | None) -> None:
    known = revisions()
    if present is not None and present not in known:
        raise SchemaMismatch(
            f"the database has the schema {present} of a newer release, this one knows up to {newest_revision()}",
            fix="install the newer release with `install.sh`, or restore a backup made before it",
        )


def _missing(connection: Connection) -> list[str]:
    from gateway.store import tables

    present = inspect(connection)
    columns = {name: {column["name"] for column in present.get_columns(name)} for name in present.get_table_names()}
    lacking: list[str] = []
    for table in tables.metadata.sorted_tables:
        if table.name not in columns:
            lacking.append(table.name)
        else:
            lacking += [f"{table.name}.{each.name}" for each in table.columns if each.name not in columns[table.name]]
    return sorted(lacking)


def _exclusively(engine: Engine, change: Callable[[Connection], bool]) -> bool:
    with engine.connect() as connection, _alone(connection):
        return change(connection)


@contextmanager
def _alone(connection: Connection) -> Iterator[None]:
    if connection.dialect.name == "postgresql":
        with connection.begin():
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            yield
        return
    # Rebuilding a table drops it for a moment: with foreign keys on, that would take along what refers to it.
    driver = connection.connection.dbapi_connection
    assert driver is not None
    driver.execute("PRAGMA foreign_keys = OFF")
    try:
        with connection.execution_options(sluicegate_writes=True).begin():
            yield
            broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
            if broken:
                raise SchemaMismatch(f"rows of {broken[0][0]} refer to nothing", fix="restore a backup")
    finally:
        driver.execute("PRAGMA foreign_keys = ON")
