from dataclasses import replace
from operator import attrgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.dialects.base import Meter
from gateway.wire.sse import split_events
from tests.unit.dialects.golden import FOLDER, GOLDEN, Golden
from tests.unit.wire.cutting import SIZES, cut, cut_at


def pass_through(meter: Meter, pieces: list[bytes]) -> bytes:
    """What the caller gets."""
    passed = b""
    for piece in pieces:
        instead = meter.feed(piece)
        passed += piece if instead is None else instead
    return passed + meter.end()


def check(case: Golden, meter: Meter) -> None:
    assert meter.usage == case.usage
    assert meter.finish_reason == case.expected["finish_reason"]
    assert meter.model == case.expected["model"]


def test_every_case_names_its_source() -> None:
    assert len(GOLDEN) >= 20
    assert all((FOLDER / case.name / "source.txt").read_text().strip() for case in GOLDEN)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", GOLDEN, ids=attrgetter("name"))
def test_metered_and_passed_untouched(case: Golden, size: int) -> None:
    meter = case.meter(case.call())
    assert pass_through(meter, list(cut(case.answer, size))) == case.answer
    check(case, meter)
    assert meter.events == case.expected["events"]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", [case for case in GOLDEN if case.unasked is not None], ids=attrgetter("name"))
def test_what_metering_asked_for_is_taken_out(case: Golden, size: int) -> None:
    meter = case.meter(replace(case.call(), tells_usage=False))
    assert pass_through(meter, list(cut(case.answer, size))) == case.unasked
    check(case, meter)


@pytest.mark.parametrize("case", [case for case in GOLDEN if case.unasked is not None], ids=attrgetter("name"))
def test_event_by_event(case: Golden) -> None:
    """As most providers send: nothing is held back, and only events that tell of usage are touched."""
    meter = case.meter(replace(case.call(), tells_usage=False))
    events = split_events(case.answer)
    passed = [meter.feed(event) for event in events]
    assert b"" in passed
    assert all(b'"usage"' in event for event, edited in zip(events, passed, strict=True) if edited is not None)
    assert case.unasked is not None
    assert b"".join(e if edited is None else edited for e, edited in zip(events, passed, strict=True)) == case.unasked
    assert b'"usage"' not in case.unasked
    assert meter.end() == b""
    check(case, meter)


STREAMS = [case for case in GOLDEN if len(case.answer) < 10_000 and case.call().stream]


@given(case=st.sampled_from(STREAMS), places=st.lists(st.integers(0, 10_000), max_size=10), asked=st.booleans())
def test_any_chunking_gives_the_same(case: Golden, places: list[int], asked: bool) -> None:
    call = case.call() if asked or case.unasked is None else replace(case.call(), tells_usage=False)
    meter = case.meter(call)
    passed = pass_through(meter, cut_at(case.answer, places))
    assert passed == (case.answer if call.tells_usage else case.unasked)
    check(case, meter)
    assert meter.events == case.expected["events"]


@given(case=st.sampled_from(STREAMS), end=st.integers(0, 10_000), places=st.lists(st.integers(0, 10_000), max_size=4))
def test_a_stream_that_breaks_off_is_estimated(case: Golden, end: int, places: list[int]) -> None:
    broken = case.answer[: end % len(case.answer)]
    meter = case.meter(case.call())
    assert pass_through(meter, cut_at(broken, places)) == broken
    estimate = meter.estimate()
    if meter.events == 0:
        assert estimate.input_tokens == estimate.output_tokens == 0
    else:
        assert estimate.output_tokens >= meter.events
        assert estimate.input_tokens > 0
