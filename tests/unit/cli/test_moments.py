"""Points in time as they are typed."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from gateway.cli.moments import ahead, back, rfc3339
from gateway.errors import BadRequest

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("30d", NOW + timedelta(days=30)),
        ("12h", NOW + timedelta(hours=12)),
        (" 90 m ", NOW + timedelta(minutes=90)),
        ("2w", NOW + timedelta(weeks=2)),
        ("2027-01-31", datetime(2027, 1, 31, tzinfo=UTC)),
        ("2027-01-31T10:00:00Z", datetime(2027, 1, 31, 10, tzinfo=UTC)),
        ("2027-01-31T10:00:00+02:00", datetime(2027, 1, 31, 8, tzinfo=UTC)),
    ],
)
def test_ahead(text: str, moment: datetime) -> None:
    assert ahead(text, NOW) == moment


@pytest.mark.parametrize(
    "text", ["", "soon", "30", "-3d", "30d12h", "0m", "2026-11-23T18:00:00Z", "2026-01-01", "9" * 12 + "w"]
)
def test_not_ahead(text: str) -> None:
    with pytest.raises(BadRequest):
        ahead(text, NOW)


def test_back_counts_from_now() -> None:
    assert back("7d", NOW) == NOW - timedelta(days=7)
    assert back("2026-11-01", NOW) == datetime(2026, 11, 1, tzinfo=UTC)


def test_rfc3339_is_utc() -> None:
    assert rfc3339(datetime(2026, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))) == "2026-01-01T00:00:00Z"
