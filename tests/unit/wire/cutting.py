"""Cut bytes the way a network may."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

SIZES = (1, 2, 3, 7, 64, 65_536)


def cut(wire: bytes, size: int) -> Iterator[bytes]:
    """Pieces of equal size."""
    return (wire[start : start + size] for start in range(0, len(wire), size))


def cut_at(wire: bytes, places: Sequence[int]) -> list[bytes]:
    """Pieces between these places, whatever their order or range."""
    marks = sorted({0, len(wire), *(place % (len(wire) + 1) for place in places)})
    return [wire[start:end] for start, end in pairwise(marks)]
