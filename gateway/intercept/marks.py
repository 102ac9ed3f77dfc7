"""Bits of the packet mark (and of the connection mark) that are ours: picked free of those that others use here.

Each is set and tested by itself, under its own mask: whatever else stands in the mark stays there.
"""

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

WHOLE: Final = 0xFFFFFFFF
_SINGLES: Final = (8, 9, 10, 12, 13, 5, 6, 7, 4, 3, 2, 1, 0, 11, 28, 27, 26, 25, 24, 23, 22)
"""Candidates in order; 14 and 15 are Kubernetes', 16 to 23 Tailscale's where it is installed."""
_FIELD_BITS: Final = (6, 5, 4)
"""Sizes of the rule field that are tried: it numbers rules for this host's own connections, 63 of them at best."""
_MARK: Final = re.compile(
    r"(?:mark(?:\s+set)?|--(?:set-|x?or-|and-|save-|restore-)?x?mark|--nfmask|--ctmask)\b([^\n;]*)", re.IGNORECASE
)
_NUMBER: Final = re.compile(r"0x[0-9a-f]{1,8}\b", re.IGNORECASE)


class NoFreeMarks(Exception):
    """All bits are in use by others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """`forwarded`, `upstream` and `local` are single bits."""

    forwarded: int = 0x100
    """A captured connection that comes through this host."""
    upstream: int = 0x200
    """Made by the gateway itself: never captured."""
    local: int = 0x400
    """A captured connection of this host's own."""
    field_shift: int = 16
    field_bits: int = 6
    """Which rule captured it, on the SYN of a local one between output and prerouting."""

    @property
    def field(self) -> int:
        return ((1 << self.field_bits) - 1) << self.field_shift

    @property
    def most_local_rules(self) -> int:
        return (1 << self.field_bits) - 1

    def rule(self, number: int) -> int:
        """The field's value for the rule of this number (1 …)."""
        return number << self.field_shift

    def plain(self) -> dict[str, int]:
        return asdict(self)

    @classmethod
    def of(cls, given: dict[str, Any]) -> Self:
        return cls(**{name: int(given[name]) for name in cls.__slots__})


def used_bits(texts: Iterable[str], fwmarks: Iterable[tuple[int, int]]) -> int:
    """Bits that others use: constants beside the word mark in rule listings (`nft`, `iptables-save`), and the (value,
    mask) pairs of policy rules. A constant with the whole mask says nothing of the bits that it leaves zero."""
    used = 0
    for text in texts:
        for found in _MARK.finditer(text):
            for number in _NUMBER.findall(found[1]):
                value = int(number, 16)
                # `mark and 0xfffff0ff` keeps all but 0xf00: it is about the bits that it clears
                used |= value ^ WHOLE if (value).bit_count() > 16 else value
    for value, mask in fwmarks:
        used |= value if mask == WHOLE else value | mask
    return used


def choose(used: int) -> Marks:
    """Raises NoFreeMarks."""
    singles = [bit for bit in _SINGLES if not used >> bit & 1][:3]
    if len(singles) < 3:
        raise NoFreeMarks(f"no three bits of the packet mark are free on this host (in use: {used:#x})")
    taken = used | sum(1 << bit for bit in singles)
    forwarded, upstream, local = (1 << bit for bit in singles)
    for bits in _FIELD_BITS:
        for shift in (16, 20, 24, *range(33 - bits)):
            if shift + bits <= 32 and not taken & ((1 << bits) - 1) << shift:
                return Marks(forwarded=forwarded, upstream=upstream, local=local, field_shift=shift, field_bits=bits)
    raise NoFreeMarks(
        f"no {_FIELD_BITS[-1]} bits of the packet mark in a row are free on this host (in use: {used:#x})"
    )
