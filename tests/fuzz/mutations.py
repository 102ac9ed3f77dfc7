"""Bytes that are almost right: real ones with parts cut, doubled, overwritten or moved."""

from collections.abc import Sequence

from hypothesis import strategies as st


@st.composite
def mutated(draw: st.DrawFn, seeds: Sequence[bytes], tokens: Sequence[bytes]) -> bytes:
    """One of the seeds after up to eight edits; `tokens` are what a parser of this format trips over."""
    wire = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(0, 8))):
        start = draw(st.integers(0, len(wire)))
        end = min(len(wire), start + draw(st.sampled_from([0, 0, 1, 2, 16, 200])))
        insert = draw(st.sampled_from(tokens) | st.binary(max_size=4) | st.just(wire[start:end] * 2))
        wire = wire[:start] + insert + wire[end:]
    return wire
