"""Rows of one batch that differ in nothing but figures, taken together.

A busy worker writes the same few kinds of rows over and over. What the keeper does with a row (insert it, add it to the
sums of its hour, count it for Prometheus) it therefore does once a kind, on columns: Python then walks them in C.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from gateway.policy.records import FIGURES, SHARED, Record

_SHARED_AT: Final = {name: at for at, name in enumerate(SHARED)}
_FIGURE_AT: Final = {name: at for at, name in enumerate(FIGURES)}


class RowGroup:
    """At least one row: the values of SHARED, and of each row those of FIGURES."""

    __slots__ = ("_columns", "rows", "shared_values")

    def __init__(self, shared_values: tuple[Any, ...], rows: list[Sequence[Any]]) -> None:
        self.shared_values = shared_values
        self.rows = rows
        self._columns: list[tuple[Any, ...]] | None = None

    def shared(self, name: str) -> Any:
        """The value that a field of SHARED has in all rows."""
        return self.shared_values[_SHARED_AT[name]]

    def column(self, name: str) -> tuple[Any, ...]:
        """The values of one of FIGURES in the order of the rows."""
        if self._columns is None:
            self._columns = list(zip(*self.rows, strict=True))
        return self._columns[_FIGURE_AT[name]]

    def sum_of(self, name: str) -> int:
        """Of what is known."""
        return sum(filter(None, self.column(name)))


def grouped(records: Iterable[Record]) -> list[RowGroup]:
    """In the order of each group's first row."""
    rows_of: dict[int, list[Sequence[Any]]] = {}
    kinds: list[tuple[Any, ...]] = []
    for record in records:  # those of one form share the object
        shared = record.shared
        rows = rows_of.get(id(shared))
        if rows is None:
            rows_of[id(shared)] = [record.figures]
            kinds.append(shared)
        else:
            rows.append(record.figures)
    groups: dict[tuple[Any, ...], RowGroup] = {}
    for shared, rows in zip(kinds, rows_of.values(), strict=True):
        group = groups.get(shared)
        if group is None:
            groups[shared] = RowGroup(shared, rows)
        else:
            group.rows += rows
    return list(groups.values())
