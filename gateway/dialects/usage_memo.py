"""Meter answers that end as one before did, but for the figures: those of one model nearly all do.

Where the figures of the usage stand in such an end is found out once, by reading an end in which every number is
another power of two: what then comes out as a field's value tells which numbers it is the sum of.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import astuple
from typing import Any, Final, TypeAlias

from gateway.dialects.metering import QUOTED_USAGE, usage_at_end
from gateway.policy.usage import Figures, Usage

MOST_BYTES: Final = 1024
"""Longer ends are not remembered."""
MOST_ENDS: Final = 1024
LEARN_EVERY: Final = 8
"""One in so many unknown ends is remembered: where none is like another that would be in vain."""
_MOST_NUMBERS: Final = 20
"""Two marks for each are no more than MAX_TOKENS."""
_AS_ZEROS: Final = bytes.maketrans(b"123456789", b"0" * 9)
_NUMBER: Final = re.compile(rb"(?<=[: \t\r\n])-?[0-9][-+.0-9eE]*(?=[,} \t\r\n])")
_COUNT: Final = re.compile(rb"0|[1-9][0-9]{0,11}")
"""A whole number of JSON, none above MAX_TOKENS."""
_NOWHERE: Final = slice(0, 0)

_Numbers: TypeAlias = list[slice]
_Details: TypeAlias = tuple[slice, slice, slice, _Numbers]
"""Where tokens cached, written to the cache and reasoned stand, and what else is added to the input."""
_Places: TypeAlias = tuple[slice, slice, _Details | None]
"""Where input and output stand. No details: all else is 0."""


class UsageMemo:
    """Of all answers of a dialect."""

    __slots__ = ("_known", "_read", "_unknown")

    def __init__(self, read: Callable[[Mapping[str, Any]], Usage | None]) -> None:
        """`read`: a report's usage. Each figure is a number of the report; the input may be the sum of several."""
        self._read = read
        self._known: dict[bytes, _Places] = {}
        self._unknown = 0

    def figures_of(self, body: bytes) -> Figures | None:
        """What the top-level `usage` of a whole JSON answer tells; None: look for it with care."""
        at = body.rfind(QUOTED_USAGE)
        if at < 0:
            return None
        end = body[at:]
        places = self._known.get(end.translate(_AS_ZEROS)) if len(end) <= MOST_BYTES else None
        if places is None:
            return self._unknown_end(end)
        read, written, details = places
        if details is None:
            return int(end[read]), 0, 0, int(end[written]), 0
        return _detailed(end, read, written, details)

    def _unknown_end(self, end: bytes) -> Figures | None:
        figures = self._decoded(end)
        if figures is not None and len(end) <= MOST_BYTES:
            self._unknown += 1
            if self._unknown % LEARN_EVERY == 1:
                self._remember(end, figures)
        return figures

    def _decoded(self, end: bytes) -> Figures | None:
        report = usage_at_end(end)
        usage = None if report is None else self._read(report)
        return None if usage is None else astuple(usage)

    def _remember(self, end: bytes, figures: Figures) -> None:
        numbers = [slice(*found.span()) for found in _NUMBER.finditer(end)]
        if len(numbers) > _MOST_NUMBERS or b"\\" in end:  # a digit may be part of an escape
            return
        # Marked twice, with no mark the same: what else a field counts differs from one of the two.
        sums = self._sums(end, numbers, 1)
        if sums is None or sums != self._sums(end, numbers, 1 << _MOST_NUMBERS):
            return
        read, cached, stored, written, reasoning = sums
        if not read or max(len(cached), len(stored), len(written), len(reasoning)) > 1:
            return
        if not all(_COUNT.fullmatch(end[place]) for field in sums for place in field):
            return  # of another that is written alike more may count than of this one
        details = (_place(cached), _place(stored), _place(reasoning), read[1:])
        if _detailed(end, read[0], _place(written), details) != figures:
            return
        if len(self._known) >= MOST_ENDS:
            self._known.clear()
        flat = len(read) == len(written) == 1 and not (cached or stored or reasoning)
        self._known[end.translate(_AS_ZEROS)] = (read[0], _place(written), None if flat else details)

    def _sums(self, end: bytes, numbers: _Numbers, first_mark: int) -> list[_Numbers] | None:
        """For each field of Usage the numbers that it is the sum of; None where one is no such sum."""
        marks = [first_mark << at for at in range(len(numbers))]
        marked = bytearray(end)
        for place, mark in zip(reversed(numbers), reversed(marks), strict=True):
            marked[place] = b"%d" % mark
        totals = self._decoded(bytes(marked))
        if totals is None or any(total & ~sum(marks) for total in totals):
            return None
        return [[place for place, mark in zip(numbers, marks, strict=True) if total & mark] for total in totals]


def _place(numbers: _Numbers) -> slice:
    return numbers[0] if numbers else _NOWHERE


def _detailed(end: bytes, read: slice, written: slice, details: _Details) -> Figures:
    cached, stored, reasoning, more = details
    tokens_in: int = int(end[read])
    for place in more:
        tokens_in += int(end[place])
    return tokens_in, int(end[cached] or 0), int(end[stored] or 0), int(end[written] or 0), int(end[reasoning] or 0)
