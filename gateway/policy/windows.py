"""Calendar windows of limits, in UTC: when one began and when it ends (contract "Limits").

Times are whole Unix seconds. A lifetime has neither beginning nor end: it starts at 0 and ends `NEVER_S`.
"""

from datetime import UTC, datetime
from typing import Final

from gateway.policy.model import Window

NEVER_S: Final = 1 << 62

_EVEN_S: Final = {Window.SECOND: 1, Window.MINUTE: 60, Window.HOUR: 3_600, Window.DAY: 86_400}
_WEEK_S: Final = 7 * 86_400
_FIRST_MONDAY_S: Final = 4 * 86_400  # 1970-01-05; the epoch was a Thursday


def window_start_s(window: Window, now_s: float) -> int:
    """When the window that holds `now_s` began."""
    whole_s = int(now_s // 1)
    even_s = _EVEN_S.get(window)
    if even_s is not None:
        return whole_s - whole_s % even_s
    if window is Window.LIFETIME:
        return 0
    if window is Window.WEEK:
        return whole_s - (whole_s - _FIRST_MONDAY_S) % _WEEK_S
    now = datetime.fromtimestamp(whole_s, UTC)
    return int(datetime(now.year, now.month, 1, tzinfo=UTC).timestamp())


def window_end_s(window: Window, start_s: int) -> int:
    """The first second after the window that began at `start_s`."""
    even_s = _EVEN_S.get(window)
    if even_s is not None:
        return start_s + even_s
    if window is Window.LIFETIME:
        return NEVER_S
    if window is Window.WEEK:
        return start_s + _WEEK_S
    start = datetime.fromtimestamp(start_s, UTC)
    year, month = (start.year + 1, 1) if start.month == 12 else (start.year, start.month + 1)
    return int(datetime(year, month, 1, tzinfo=UTC).timestamp())


def rfc3339(unix_s: float) -> str:
    """`2026-11-23T18:05:00Z`: UTC, whole seconds."""
    return datetime.fromtimestamp(int(unix_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
