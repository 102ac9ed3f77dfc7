"""When a budget will be gone, if its use goes on as it went in this window. Pure; times are Unix seconds."""

from dataclasses import dataclass
from typing import Final

SOONEST: Final = 0.02
"""Of a window: nothing is foretold from less."""


@dataclass(frozen=True, slots=True)
class Forecast:
    expected: int
    """Used by the window's end."""
    gone_at_s: int | None
    """When all of it is used; None = not in this window."""


def forecast(used: int, at_most: int, start_s: int, end_s: int, now_s: float) -> Forecast | None:
    """Linear by the part of the window that has passed. None where too little of it has, or it never ends."""
    length_s, passed_s = end_s - start_s, now_s - start_s
    if start_s <= 0 or passed_s < SOONEST * length_s:
        return None
    expected = round(used * length_s / passed_s)
    if used >= at_most:
        return Forecast(max(used, expected), int(now_s))
    gone_at_s = start_s + round(passed_s * at_most / used) if used > 0 else None
    return Forecast(expected, gone_at_s if gone_at_s is not None and gone_at_s < end_s else None)
