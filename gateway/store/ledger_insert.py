"""New rows into the table `ledger`, many at a time.

SQLite takes rows of one group as few long statements: what they share is bound once, and a statement that goes on keeps
its place at the end of each index, where a new one would look for it (7.5 instead of 19 µs a row with six indexes).
psycopg sends rows in a pipeline of its own.
"""

from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import Connection

from gateway.policy.records import FIGURES, SHARED
from gateway.store.row_groups import RowGroup
from gateway.store.statements import Statement

SIZES: Final = (48, 8, 1)
"""Rows of one statement. SQLite before 3.32 binds 999 values at most."""

RARE: Final = ("process", "user", "container", "host", "bytes_in", "bytes_out")
"""Of SHARED: null in nearly all rows."""
_OFTEN: Final = tuple([name for name in SHARED if name not in RARE])
_rare_of: Final = itemgetter(*[SHARED.index(name) for name in RARE])
_often_of: Final = itemgetter(*[SHARED.index(name) for name in _OFTEN])


def _columns(names: Sequence[str]) -> str:
    return ", ".join([f'"{name}"' for name in names])


def _insert(names: Sequence[str]) -> Statement:
    return Statement(f"INSERT INTO ledger ({_columns(names)}) VALUES ({', '.join(['?'] * len(names))})")  # noqa: S608 - constants


def _insert_alike(rows: int) -> str:
    """The shared values are `?1`, `?2`, … of every row."""
    shared = [f"?{number}" for number in range(1, len(SHARED) + 1)]
    first = range(len(SHARED) + 1, len(SHARED) + 1 + rows * len(FIGURES), len(FIGURES))
    values = [", ".join([*shared, *[f"?{start + at}" for at in range(len(FIGURES))]]) for start in first]
    return f"INSERT INTO ledger ({_columns((*SHARED, *FIGURES))}) VALUES ({'), ('.join(values)})"  # noqa: S608 - constants


_INSERT_ALIKE: Final = {size: _insert_alike(size) for size in SIZES}
_INSERT: Final = _insert((*SHARED, *FIGURES))
_INSERT_OFTEN: Final = _insert((*_OFTEN, *FIGURES))


def insert(connection: Connection, groups: Sequence[RowGroup]) -> None:
    """Insert rows that are new. Raises IntegrityError where one is not."""
    if connection.dialect.name == "sqlite":
        _insert_statements(connection, groups)
    elif any(any(_rare_of(group.kind.shared)) for group in groups):
        _INSERT.run_each(connection, [(*group.kind.shared, *figures) for group in groups for figures in group.rows])
    else:  # what most rows never have need not be handed over
        often = [(_often_of(group.kind.shared), group.rows) for group in groups]
        _INSERT_OFTEN.run_each(connection, [(*shared, *figures) for shared, rows in often for figures in rows])


def _insert_statements(connection: Connection, groups: Sequence[RowGroup]) -> None:
    values: dict[int, list[tuple[Any, ...]]] = {size: [] for size in SIZES}
    for group in groups:
        # Python's driver looks for an adapter of every bool that it binds.
        shared = [int(value) if isinstance(value, bool) else value for value in group.kind.shared]
        figures = group.rows
        at = 0
        for size in SIZES:
            while len(figures) - at >= size:
                values[size].append((*shared, *chain.from_iterable(figures[at : at + size])))
                at += size
    for size in SIZES:
        if values[size]:
            connection.exec_driver_sql(_INSERT_ALIKE[size], values[size])
