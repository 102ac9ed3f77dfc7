"""Engines and sessions for the two databases: SQLite (WAL) and PostgreSQL through psycopg 3.

Everything here blocks: call it from a thread or from the keeper, never from a worker's event loop.
"""

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.orm import Session

BUSY_TIMEOUT_MS: Final = 5_000
"""How long a SQLite writer waits for its turn."""
CONNECT_TIMEOUT_S: Final = 5

_WRITES: Final = "sluicegate_writes"


def make_engine(url: str, *, pool_size: int = 5) -> Engine:
    """An engine with the pragmas, pool and transaction rules that the store relies on.

    `url` is a SQLAlchemy URL with its driver named, as `Settings.database_url` gives it. No connection is made yet.
    """
    if url.startswith("sqlite"):
        engine = create_engine(url, pool_size=pool_size, hide_parameters=True)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    return create_engine(
        url,
        pool_size=pool_size,
        pool_pre_ping=True,
        hide_parameters=True,
        connect_args={"connect_timeout": CONNECT_TIMEOUT_S},
    )


@contextmanager
def read_session(engine: Engine) -> Iterator[Session]:
    """A session that sees one state of the database throughout, and whose changes are thrown away."""
    options: dict[str, Any] = {}
    if engine.dialect.name == "postgresql":
        options = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
    with Session(engine.execution_options(**options), expire_on_commit=False) as session:
        yield session


@contextmanager
def write_session(engine: Engine) -> Iterator[Session]:
    """One transaction: committed at the end, rolled back when the body raises.

    On SQLite it begins as a writer (`BEGIN IMMEDIATE`), so that two writers queue instead of failing half-way.
    """
    with Session(engine.execution_options(**{_WRITES: True}), expire_on_commit=False) as session, session.begin():
        yield session


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN comes too late and never says IMMEDIATE
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    _switch_to_wal(cursor)
    cursor.execute("PRAGMA synchronous = NORMAL")  # power loss may cost a second, never the file (contract "Ledger")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _switch_to_wal(cursor: sqlite3.Cursor) -> None:
    """Takes a lock that another process may hold for a moment: two that begin at once. SQLite does not always wait for
    it, whatever the busy timeout says, lest both wait for each other. Raises sqlite3.OperationalError."""
    give_up_s = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_s:
                raise
            time.sleep(0.01)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
