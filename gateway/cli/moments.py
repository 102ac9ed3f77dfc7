"""Points in time as people write them on a command line: RFC 3339, a date, or a distance from now."""

import re
from datetime import UTC, datetime, timedelta

from gateway.errors import BadRequest

DISTANCE = re.compile(r"(\d+)\s*(s|m|h|d|w)")
UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def ahead(text: str, now: datetime) -> datetime:
    """`30d` from now, or a moment that must lie ahead. Raises BadRequest."""
    moment = _moment(text, now, +1)
    if moment <= now:
        raise BadRequest(f"{text!r} is in the past", fix="give a later moment, or a distance such as 30d or 12h")
    return moment


def back(text: str, now: datetime) -> datetime:
    """`7d` ago, or a moment. Raises BadRequest."""
    return _moment(text, now, -1)


def rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _moment(text: str, now: datetime, direction: int) -> datetime:
    distance = DISTANCE.fullmatch(text.strip())
    try:
        if distance:
            return now + direction * int(distance[1]) * UNITS[distance[2]]
        moment = datetime.fromisoformat(text.strip())
    except (ValueError, OverflowError):
        raise BadRequest(
            f"{text!r} is not a point in time",
            fix="write 2027-01-31T00:00:00Z, 2027-01-31, or a distance such as 30d or 12h",
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
