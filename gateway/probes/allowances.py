"""Allowances of rules: what fits a rule is refused only beyond so many connections or bytes in each window of time.

Windows are fixed, and the first begins when the rule comes into force. The kernel has one word for each rule: which
window, and what was spent in it (bpf/allowances.h).
"""

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

PERIODS_S: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86_400}
AMOUNT_BITS: Final = 40
MOST: Final = (1 << AMOUNT_BITS - 1) - 1
"""Connections or bytes: half of what the word can hold, as a packet for each CPU may come on top."""
WINDOW_MASK: Final = (1 << 64 - AMOUNT_BITS) - 1


class RawAllowance(ctypes.Structure):
    """`struct allowance`."""

    _fields_ = (("from_ns", ctypes.c_uint64), ("window_ns", ctypes.c_uint64), ("amount", ctypes.c_uint64))


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    amount: int
    """Of bytes (payload, both ways), or of connections."""
    in_bytes: bool
    window_s: int


@dataclass(frozen=True, slots=True)
class Spent:
    """In the present window."""

    used: int
    ends_ns: int
    """When the next window begins (CLOCK_BOOTTIME)."""


def allowance_of(item: Mapping[str, Any]) -> Allowance:
    """Of `{"connections": N | "bytes": N, "per": one of PERIODS_S}`. Raises ValueError, TypeError."""
    given = [name for name in ("connections", "bytes") if item.get(name) is not None]
    if len(given) != 1:
        raise ValueError("a limit is of connections or of bytes")
    amount = int(item[given[0]])
    window_s = PERIODS_S.get(str(item.get("per")))
    if window_s is None:
        raise ValueError(f"a limit is per {', '.join(PERIODS_S)}, not {item.get('per')}")
    if not 1 <= amount <= MOST:
        raise ValueError(f"a limit is from 1 to {MOST}, not {amount}")
    return Allowance(amount=amount, in_bytes=given == ["bytes"], window_s=window_s)


def spent_of(word: int, allowance: Allowance, from_ns: int, now_ns: int) -> Spent:
    """What the kernel's word says now. Those who came at once when it was nearly spent may have added to it and been
    refused; of connections, no more than the allowance is told."""
    window_ns = allowance.window_s * 1_000_000_000
    number = max(0, now_ns - from_ns) // window_ns
    used = word & (1 << AMOUNT_BITS) - 1 if word >> AMOUNT_BITS == number & WINDOW_MASK else 0
    if not allowance.in_bytes:
        used = min(used, allowance.amount)
    return Spent(used, from_ns + (number + 1) * window_ns)
