"""Tables as lines of JSON, the same for both databases: what SQLite wrote, PostgreSQL reads, and back.

They are taken as the database describes them, not as our models do, so that a schema of any age can be saved and
brought back. A chunk is the list of its columns, then one list of values a row. What JSON lacks is tagged:
`{"b": BASE64}` bytes, `{"j": VALUE}` a JSON column's value.
"""

import base64
from collections.abc import Iterator
from typing import Any, Final

import orjson
from sqlalchemy import JSON, MetaData, Table, select, text
from sqlalchemy.orm import Session

CHUNK_ROWS: Final = 20_000


def described(session: Session) -> MetaData:
    """All tables of the schema as the database has them, but Alembic's own."""
    metadata = MetaData()
    metadata.reflect(bind=session.connection(), only=lambda name, _: name != "alembic_version")
    return metadata


def dump(session: Session, table: Table) -> Iterator[tuple[bytes, int]]:
    """The table's rows in chunks of (lines, number of rows); an empty table has none."""
    columns = list(table.columns)
    json_columns = [index for index, column in enumerate(columns) if isinstance(column.type, JSON)]
    heading = orjson.dumps([column.name for column in columns])
    found = session.execute(
        select(*columns).order_by(*table.primary_key.columns).execution_options(yield_per=CHUNK_ROWS)
    )
    for rows in found.partitions():
        lines = [heading]
        for row in rows:
            values = list(row)
            for index in json_columns:
                values[index] = None if values[index] is None else {"j": values[index]}
            lines.append(orjson.dumps(values, default=_tagged))
        yield b"\n".join(lines) + b"\n", len(rows)


def load(session: Session, table: Table, content: bytes) -> int:
    """Insert a chunk's rows. Returns how many."""
    heading, *lines = content.splitlines()
    columns = orjson.loads(heading)
    rows = [dict(zip(columns, map(_plain, orjson.loads(line)), strict=True)) for line in lines]
    if rows:
        session.execute(table.insert(), rows)
    return len(rows)


def sequences(session: Session, metadata: MetaData) -> dict[str, int]:
    """The last id given out in each table that never gives one twice."""
    if session.get_bind().dialect.name == "sqlite":
        return {row.name: row.seq for row in session.execute(text("SELECT name, seq FROM sqlite_sequence"))}
    found = {}
    for table in metadata.sorted_tables:
        name = _sequence_of(session, table)
        if name is not None:
            last, called = session.execute(text(f"SELECT last_value, is_called FROM {name}")).one()  # noqa: S608 - ours
            if called:
                found[str(table.name)] = last  # a plain str: SQLAlchemy has its own kind
    return found


def set_sequences(session: Session, metadata: MetaData, last: dict[str, int]) -> None:
    """Go on after these ids: rows that were deleted before the backup do not give theirs to new ones."""
    sqlite = session.get_bind().dialect.name == "sqlite"
    if sqlite:
        session.execute(text("DELETE FROM sqlite_sequence"))
    for table in metadata.sorted_tables:
        if table.name not in last:
            continue
        if sqlite:
            session.execute(
                text("INSERT INTO sqlite_sequence (name, seq) VALUES (:name, :seq)"),
                {"name": table.name, "seq": last[table.name]},
            )
        elif (name := _sequence_of(session, table)) is not None:
            session.execute(
                text("SELECT setval(CAST(:name AS regclass), :seq)"), {"name": name, "seq": last[table.name]}
            )


def _sequence_of(session: Session, table: Table) -> str | None:
    """PostgreSQL's name of the sequence behind the table's id, None where it has none."""
    if "id" not in table.columns:
        return None
    found: str | None = session.execute(
        text("SELECT pg_get_serial_sequence(:table, 'id')"), {"table": f'"{table.name}"'}
    ).scalar_one()
    return found


def _tagged(value: object) -> dict[str, Any]:
    if isinstance(value, bytes | memoryview):
        return {"b": base64.b64encode(bytes(value)).decode()}
    raise TypeError(f"{type(value).__name__} has no place in a backup")


def _plain(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((tag, inner),) = value.items()
    match tag:
        case "b":
            return base64.b64decode(inner)
        case "j":
            return inner
        case _:
            raise KeyError(f"unknown tag {tag!r}")
