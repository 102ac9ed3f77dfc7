"""The ledger as files: CSV, JSON lines, Parquet. Rows in, bytes out, piece by piece: ten million rows need no more
memory than ten thousand.

Columns are those of the ledger's rows (contract "Ledger"), in one order for all formats. Absent values are empty in
CSV, null elsewhere: not known, never 0. `attempt_log` is a list in JSON lines, and the list as JSON text elsewhere.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import orjson
from sqlalchemy import BigInteger, Boolean, Float, Integer, String

from gateway.policy.attempts import told
from gateway.policy.usage import LEDGER_FIELDS, LedgerRow
from gateway.store.ingest import LEDGER
from gateway.store.report import rfc3339

if TYPE_CHECKING:
    import pyarrow

Rows: TypeAlias = Sequence[Sequence[Any]]
"""Values in the order of LEDGER_FIELDS."""

COLUMNS: Final = ("id", "started_at", *(name for name in LEDGER_FIELDS if name not in ("id", "started_at_ns")))
_ORDER: Final = tuple(LEDGER_FIELDS.index("started_at_ns" if name == "started_at" else name) for name in COLUMNS)
_STARTED: Final = LEDGER_FIELDS.index("started_at_ns")
_STARTED_AT: Final = COLUMNS.index("started_at")

_KINDS: Final = {name: LEDGER.c[name].type for name in COLUMNS if name != "started_at"}
BOOLEANS: Final = frozenset(name for name, kind in _KINDS.items() if isinstance(kind, Boolean))
_TEXTS: Final = tuple(
    index
    for index, name in enumerate(COLUMNS)
    if isinstance(_KINDS.get(name), String) and name not in ("id", "outcome", "dialect")
)
"""What callers and operators wrote."""
_BOOLEANS: Final = tuple(index for index, name in enumerate(COLUMNS) if name in BOOLEANS)
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠")
"""What spreadsheets take for the beginning of a formula (OWASP, "CSV Injection")."""
ROW_GROUP_ROWS: Final = 65_536
"""Of Parquet: some 20 MB in memory as columns, and enough for its readers to skip by."""


class Format(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"


MEDIA_TYPES: Final = {
    Format.CSV: "text/csv; charset=utf-8; header=present",
    Format.JSONL: "application/jsonl",
    Format.PARQUET: "application/vnd.apache.parquet",
}


class RowEncoder(Protocol):
    """Called in this order: `begin`, `rows` as often as there are some, `end`."""

    def begin(self) -> bytes: ...

    def rows(self, rows: Rows) -> bytes: ...

    def end(self) -> bytes: ...


def encoder_of(wanted: Format) -> RowEncoder:
    match wanted:
        case Format.CSV:
            return CsvEncoder()
        case Format.JSONL:
            return JsonLinesEncoder()
        case Format.PARQUET:
            return ParquetEncoder()


def encode(wanted: Format, chunks: Iterator[Rows]) -> Iterator[bytes]:
    """The whole file, in pieces. What keeps the first rows from being read is raised before the first piece."""
    encoder = encoder_of(wanted)
    first = next(chunks, [])
    yield encoder.begin()
    if first:
        yield encoder.rows(first)
    for rows in chunks:
        yield encoder.rows(rows)
    yield encoder.end()


class CsvEncoder:
    """RFC 4180, UTF-8, one heading line. A text that a spreadsheet would run as a formula gets an apostrophe in front:
    names, models and request ids are what callers wrote. The other formats hold them as they are."""

    def __init__(self) -> None:
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text)

    def begin(self) -> bytes:
        self._writer.writerow(COLUMNS)
        return self._take()

    def rows(self, rows: Rows) -> bytes:
        shown = []
        for row in rows:
            cells = [row[at] for at in _ORDER]
            cells[_STARTED_AT] = rfc3339(row[_STARTED])
            for at in _BOOLEANS:
                cells[at] = "true" if cells[at] else "false"
            for at in _TEXTS:
                text = cells[at]
                if text and text.startswith(_FORMULA):
                    cells[at] = "'" + text
            shown.append(cells)
        self._writer.writerows(shown)
        return self._take()

    def end(self) -> bytes:
        return b""

    def _take(self) -> bytes:
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        return text.encode("utf-8", "replace")


class JsonLinesEncoder:
    """One object a line, as `GET /api/v1/ledger` shows a row."""

    def begin(self) -> bytes:
        return b""

    def rows(self, rows: Rows) -> bytes:
        return b"".join([orjson.dumps(_named(row), option=orjson.OPT_APPEND_NEWLINE) for row in rows])

    def end(self) -> bytes:
        return b""


def shown(row: LedgerRow) -> dict[str, Any]:
    """One row by the names of its columns, JSON-ready."""
    return _named([getattr(row, name) for name in LEDGER_FIELDS])


def _named(row: Sequence[Any]) -> dict[str, Any]:
    named = told(dict(zip(COLUMNS, [row[at] for at in _ORDER], strict=True)))
    named["started_at"] = rfc3339(row[_STARTED])
    for name in BOOLEANS:
        named[name] = bool(named[name])
    return named


class ParquetEncoder:
    """Apache Parquet: `started_at` as microseconds in UTC, counts and micro-USD as 64-bit integers, zstd."""

    def __init__(self) -> None:
        import pyarrow.parquet  # 0.2 s and 60 MB, which nothing else needs

        self._arrow = pyarrow
        self._sink = _Drain()
        self._schema = self.schema()
        self._writer = pyarrow.parquet.ParquetWriter(self._sink, self._schema, compression="zstd")
        self._waiting: list[pyarrow.RecordBatch] = []
        """Less than a row group. As columns: rows of Python objects take ten times the memory."""

    @staticmethod
    def schema() -> "pyarrow.Schema":
        import pyarrow

        def kind(name: str) -> "pyarrow.DataType":
            match _KINDS.get(name):
                case None:  # started_at
                    return pyarrow.timestamp("us", tz="UTC")
                case Boolean():
                    return pyarrow.bool_()
                case BigInteger():
                    return pyarrow.int64()
                case Integer():
                    return pyarrow.int32()
                case Float():
                    return pyarrow.float64()
                case _:
                    return pyarrow.string()

        def nullable(name: str) -> bool:
            return name != "started_at" and bool(LEDGER.c[name].nullable)

        return pyarrow.schema([pyarrow.field(name, kind(name), nullable=nullable(name)) for name in COLUMNS])

    def begin(self) -> bytes:
        return self._sink.take()

    def rows(self, rows: Rows) -> bytes:
        self._waiting.append(self._columns(rows))
        if sum(batch.num_rows for batch in self._waiting) >= ROW_GROUP_ROWS:
            table = self._arrow.Table.from_batches(self._waiting)
            whole = table.num_rows - table.num_rows % ROW_GROUP_ROWS
            self._write(table.slice(0, whole))
            self._waiting = table.slice(whole).to_batches()
        return self._sink.take()

    def end(self) -> bytes:
        if self._waiting:
            self._write(self._arrow.Table.from_batches(self._waiting))
            self._waiting = []
        self._writer.close()
        return self._sink.take()

    def _columns(self, rows: Rows) -> "pyarrow.RecordBatch":
        columns = list(zip(*rows, strict=True))
        arrays = []
        for at, field in zip(_ORDER, self._schema, strict=True):
            values: Sequence[Any] = columns[at]
            if at == _STARTED:
                values = [value // 1_000 for value in values]
            elif field.name in BOOLEANS:
                values = [bool(value) for value in values]
            arrays.append(self._arrow.array(values, type=field.type))
        return self._arrow.RecordBatch.from_arrays(arrays, schema=self._schema)

    def _write(self, table: "pyarrow.Table") -> None:
        self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)


class _Drain(io.RawIOBase):
    """A file that pyarrow writes to and that keeps only what has not been taken yet."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        kept = bytes(piece)
        self._pieces.append(kept)
        self._size += len(kept)
        return len(kept)

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken
