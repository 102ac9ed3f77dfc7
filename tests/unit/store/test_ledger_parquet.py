"""Parquet in row groups: however the rows arrive, each is in the file once, in order, in groups of one size."""

import io

import pyarrow.parquet
import pytest

from gateway.policy.usage import LEDGER_FIELDS
from gateway.store import ledger_files
from gateway.store.ledger_files import Format, encode

GROUP = 100


def row(number: int) -> list[object]:
    values: dict[str, object] = dict.fromkeys(LEDGER_FIELDS)
    for name in LEDGER_FIELDS:
        column = ledger_files.LEDGER.c[name]
        if not column.nullable:
            values[name] = "x" if column.type.python_type is str else 0
    values["input_tokens"] = number
    values["started_at_ns"] = number * 1_000
    return [values[name] for name in LEDGER_FIELDS]


@pytest.mark.parametrize("chunks", [[37] * 10, [GROUP, GROUP], [250, 1], [5], []], ids=str)
def test_row_groups(chunks: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_files, "ROW_GROUP_ROWS", GROUP)
    numbers = iter(range(sum(chunks)))
    pieces = encode(Format.PARQUET, ([row(next(numbers)) for _ in range(size)] for size in chunks))
    file = pyarrow.parquet.ParquetFile(io.BytesIO(b"".join(pieces)))
    assert file.read().column("input_tokens").to_pylist() == list(range(sum(chunks)))
    sizes = [file.metadata.row_group(at).num_rows for at in range(file.num_row_groups)]
    assert all(size == GROUP for size in sizes[:-1])
    assert all(size <= GROUP for size in sizes)
