"""Buckets as the kernel's programs fill them, and what is read from them."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from gateway.probes.histogram import BUCKETS, bucket_of, lower_ns, middle_ns, percentiles_ms
from gateway.store.kernel_series import Measured, total

LONGEST_NS = lower_ns(BUCKETS) - 1
times = st.integers(0, LONGEST_NS)
histograms = st.dictionaries(st.integers(0, BUCKETS - 1), st.integers(1, 1000), max_size=12)
measured = st.builds(
    Measured,
    st.dictionaries(st.sampled_from(["rtt", "gap"]), histograms, max_size=2),
    st.dictionaries(st.sampled_from(["bytes_in", "retransmits"]), st.integers(0, 10**12)),
    st.dictionaries(st.just("open"), st.integers(0, 1000)),
)


@given(times)
def test_a_time_lies_within_its_bucket_and_near_its_middle(ns: int) -> None:
    bucket = bucket_of(ns)
    assert lower_ns(bucket) <= ns < lower_ns(bucket + 1)
    assert abs(middle_ns(bucket) - ns) <= max(1024, ns / 8)


@given(st.integers(LONGEST_NS, 1 << 62))
def test_what_is_longer_than_the_last_bucket_falls_into_it(ns: int) -> None:
    assert bucket_of(ns) == BUCKETS - 1


@given(st.lists(times, min_size=1, max_size=200))
def test_percentiles_are_within_an_eighth(values: list[int]) -> None:
    histogram: dict[int, int] = {}
    for ns in values:
        histogram[bucket_of(ns)] = histogram.get(bucket_of(ns), 0) + 1
    found = percentiles_ms(histogram)
    assert found is not None
    assert found.count == len(values)
    ordered = sorted(values)
    for share, told in ((0.5, found.p50), (0.95, found.p95), (0.99, found.p99)):
        true_ns = ordered[max(0, -(-len(values) * int(share * 100) // 100) - 1)]
        assert abs(told * 1e6 - true_ns) <= max(1100, true_ns / 8 + 100)


def test_of_nothing_there_is_none() -> None:
    assert percentiles_ms({}) is None


@given(st.lists(measured, max_size=6))
def test_sums_do_not_depend_on_how_they_are_cut_or_packed(parts: list[Measured]) -> None:
    whole = total(parts)
    halves = total([total(parts[: len(parts) // 2]), total(parts[len(parts) // 2 :])])
    assert whole == halves
    assert Measured.unpacked(whole.packed()) == whole
    for name in ("rtt", "gap"):
        counted: Counter[int] = Counter()
        for part in parts:
            counted.update(part.histograms.get(name, {}))
        assert whole.histograms.get(name, {}) == counted
