"""When a code is accepted, and how a recovery code may be typed."""

from datetime import UTC, datetime, timedelta

import pyotp
import pytest

from gateway.store import factors

SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # RFC 6238 appendix B: the ASCII digits 1234567890 twice


@pytest.mark.parametrize(("at_s", "code"), [(59, "287082"), (1111111109, "081804"), (20000000000, "353130")])
def test_codes_are_those_of_rfc_6238(at_s: int, code: str) -> None:
    assert factors._matching_step(SECRET, code, datetime.fromtimestamp(at_s, UTC)) == at_s // 30


@pytest.mark.parametrize(
    ("late_s", "accepted"), [(-31, False), (-30, True), (0, True), (29, True), (59, True), (60, False)]
)
def test_a_code_is_good_from_half_a_minute_before_to_half_a_minute_after(late_s: int, accepted: bool) -> None:
    begins = datetime(2026, 11, 28, 12, tzinfo=UTC)
    code = pyotp.TOTP(SECRET).at(begins)
    step = factors._matching_step(SECRET, code, begins + timedelta(seconds=late_s))
    assert step == (int(begins.timestamp()) // 30 if accepted else None)


@pytest.mark.parametrize(
    "typed",
    ["0h1k-9abc-defg-hjkm", "0H1K 9ABC DEFG HJKM", "oh1k9abcdefghjkm", "OHIK-9abc-defg-hjkm\n", " 0hlk-9abcdefg-hjkm"],
)
def test_recovery_codes_are_read_as_they_are_meant(typed: str) -> None:
    assert factors._normal(typed) == "0h1k9abcdefghjkm"


def test_recovery_codes_are_long_and_all_different() -> None:
    codes = {factors._random_code() for _ in range(1000)}
    assert len(codes) == 1000
    assert all(
        len(factors._normal(code)) == 16 and set(factors._normal(code)) <= set(factors.RECOVERY_LETTERS)
        for code in codes
    )
