"""SQL written out for the keeper's busy paths, the same text on both databases.

SQLAlchemy's constructs cost 100 to 300 µs a statement there, several times what the databases need. Everything that is
not asked for once a request or once a batch stays with constructs.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, CursorResult


class Statement:
    """SQL text with `?` for each parameter. Only constant text: values never become part of it."""

    __slots__ = ("_texts",)

    def __init__(self, text: str, *, lock: bool = False, postgresql: str | None = None) -> None:
        """`lock`: rows that are read are locked until the end of the transaction (SQLite's writer holds all).
        `postgresql`: its own text where the two differ."""
        other = (postgresql or text).replace("?", "%s") + (" FOR UPDATE" if lock else "")
        self._texts = {"sqlite": text, "postgresql": other}

    def run(self, connection: Connection, *values: Any) -> CursorResult[Any]:
        return connection.exec_driver_sql(self._texts[connection.dialect.name], values)

    def run_each(self, connection: Connection, rows: Sequence[Sequence[Any]]) -> None:
        """Once for each row of values."""
        if rows:
            connection.exec_driver_sql(self._texts[connection.dialect.name], [tuple(row) for row in rows])
