"""Rows of one batch that differ in nothing but figures, taken together.

A busy worker writes the same few kinds of rows over and over. What the keeper does with a row (insert it, add it to the
sums of its hour, count it for Prometheus) it therefore does once a kind, on columns: Python then walks them in C.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from gateway.policy.records import FIGURES, SHARED, Kind, Record

_SHARED_AT: Final = {name: at for at, name in enumerate(SHARED)}
_FIGURE_AT: Final = {name: at for at, name in enumerate(FIGURES)}


class RowGroup:
    """At least one row of a kind: of each the values of FIGURES and, where it is to be charged, what each account is
    charged."""

    __slots__ = ("_columns", "amounts", "kind", "rows")

    def __init__(self, kind: Kind, rows: list[Sequence[Any]], amounts: list[Sequence[int]]) -> None:
        self.kind = kind
        self.rows = rows
        self.amounts = amounts
        self._columns: list[tuple[Any, ...]] | None = None

    def shared(self, name: str) -> Any:
        """The value that a field of SHARED has in all rows."""
        return self.kind.shared[_SHARED_AT[name]]

    def column(self, name: str) -> tuple[Any, ...]:
        """The values of one of FIGURES in the order of the rows."""
        if self._columns is None:
            self._columns = list(zip(*self.rows, strict=True))
        return self._columns[_FIGURE_AT[name]]

    def sum_of(self, name: str) -> int:
        """Of what is known."""
        return sum(filter(None, self.column(name)))


def grouped(records: Iterable[Record]) -> list[RowGroup]:
    """In the order of each group's first row. Each record is looked at once: a big batch is more than the processor's
    cache holds, so a second look would cost as much again."""
    found: dict[int, RowGroup] = {}
    for record in records:  # those of one form share the object
        kind = record.kind
        group = found.get(id(kind))
        if group is None:
            found[id(kind)] = RowGroup(kind, [record.figures], [record.amounts])
        else:
            group.rows.append(record.figures)
            group.amounts.append(record.amounts)
    groups: dict[Kind, RowGroup] = {}
    for part in found.values():
        group = groups.setdefault(part.kind, part)
        if group is not part:
            group.rows += part.rows
            group.amounts += part.amounts
    return list(groups.values())
