"""Rows of one batch that differ in nothing but figures, taken together.

A busy worker writes the same few kinds of rows over and over. What the keeper does with a row (insert it, add it to the
sums of its hour, count it for Prometheus) it therefore does once a kind, on columns: Python then walks them in C.
"""

from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Final

from gateway.policy.usage import LEDGER_FIELDS

FIGURES: Final = (
    "id",
    "started_at_ns",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "cost_usd_micros",
    "latency_ms",
    "ttft_ms",
    "overrun",
    "client_request_id",
    "client_ip",
)
"""Fields in which the rows of a group may differ."""
SHARED: Final = tuple([name for name in LEDGER_FIELDS if name not in FIGURES])
AT: Final = {name: at for at, name in enumerate(LEDGER_FIELDS)}

shared_of: Final = itemgetter(*[AT[name] for name in SHARED])
figures_of: Final = itemgetter(*[AT[name] for name in FIGURES])

Row = Sequence[Any]
"""Values in the order of LEDGER_FIELDS."""


class RowGroup:
    """At least one row."""

    __slots__ = ("_columns", "rows")

    def __init__(self, row: Row) -> None:
        self.rows = [row]
        self._columns: list[tuple[Any, ...]] | None = None

    def shared(self, name: str) -> Any:
        """The value that a field, none of FIGURES, has in all rows."""
        return self.rows[0][AT[name]]

    def column(self, name: str) -> tuple[Any, ...]:
        """A field's values in the order of the rows."""
        if self._columns is None:
            self._columns = list(zip(*self.rows, strict=True))
        return self._columns[AT[name]]

    def sum_of(self, name: str) -> int:
        """Of what is known."""
        return sum(filter(None, self.column(name)))


def grouped(rows: Iterable[Row]) -> list[RowGroup]:
    """In the order of each group's first row."""
    groups: dict[tuple[Any, ...], RowGroup] = {}
    for row in rows:
        kind = shared_of(row)
        group = groups.get(kind)
        if group is None:
            groups[kind] = RowGroup(row)
        else:
            group.rows.append(row)
    return list(groups.values())
