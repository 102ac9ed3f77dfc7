"""The chunked coding: any cut of the bytes gives the same payload, what is not the coding is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.chunked import ChunkedDecoder
from gateway.wire.errors import WireError


def decode(wire: bytes, cuts: list[int]) -> tuple[bytes, ChunkedDecoder]:
    decoder = ChunkedDecoder()
    payload, last = b"", 0
    for cut in [*sorted({min(cut, len(wire)) for cut in cuts}), len(wire)]:
        if cut > last and not decoder.done:
            payload += decoder.feed(wire[last:cut])
        elif cut > last:
            decoder.rest += wire[last:cut]
        last = cut
    return payload, decoder


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    cuts=st.lists(st.integers(0, 400), max_size=12),
    extension=st.sampled_from([b"", b";a=b", b" ; x"]),
    trailer=st.sampled_from([b"", b"x-sum: 1\r\n", b"a: b\r\nc: d\r\n"]),
    rest=st.binary(max_size=5),
)
def test_any_cut_gives_the_payload(
    chunks: list[bytes], cuts: list[int], extension: bytes, trailer: bytes, rest: bytes
) -> None:
    wire = b"".join(b"%x%b\r\n%b\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
    payload, decoder = decode(wire + b"0\r\n" + trailer + b"\r\n" + rest, cuts)
    assert payload == b"".join(chunks)
    assert decoder.done
    assert decoder.rest == rest


def test_whole_chunks_may_be_passed_on_as_they_are() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"3\r\nabc\r\n2\r\nde\r\n") == b"abcde"
    assert decoder.whole
    for piece in (b"3\r\nab", b"c\r\n", b"2;x=1\r\nde\r\n", b"0\r\n\r\n"):
        decoder.feed(piece)
        assert not decoder.whole, piece
    assert decoder.done


@pytest.mark.parametrize(
    "wire",
    [
        b"xyz\r\n", b"0x3\r\nabc\r\n", b"+3\r\nabc\r\n", b"1_0\r\n" + b"a" * 16 + b"\r\n", b"\r\n", b"3\r\nabcd\r\n",
        b"3\nabc\n", b"-1\r\n", b"3\r\nabcX", b"f" * 16 + b"\r\n", b"3 3\r\nabc\r\n", b"0\r\na\nb", b"3\r\nabc\rX",
    ],
)  # fmt: skip
def test_what_is_not_the_coding_is_refused(wire: bytes) -> None:
    for size in (1, 2, len(wire)):
        decoder = ChunkedDecoder()
        with pytest.raises(WireError):
            for start in range(0, len(wire), size):
                decoder.feed(wire[start : start + size])
            decoder.feed(b"x" * 5000)


def test_lines_without_end_are_refused() -> None:
    decoder = ChunkedDecoder()
    with pytest.raises(WireError):
        for _ in range(100):
            decoder.feed(b"1;" + b"x" * 1000)
    decoder = ChunkedDecoder()
    decoder.feed(b"0\r\n")
    with pytest.raises(WireError):
        for _ in range(100):
            decoder.feed(b"name: " + b"x" * 1000 + b"\r\n")
