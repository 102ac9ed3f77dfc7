"""Multipart forms: only WireError is raised; the parts are the same at any chunking and lie within the
body, in order."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.wire.errors import WireError
from gateway.wire.multipart import MultipartScanner, Part
from tests.fuzz.mutations import mutated
from tests.unit.wire.cutting import cut_at
from tests.unit.wire.test_multipart import FORM

TOKENS = [
    b"\r\n--xyz",
    b"--",
    b"\r\n",
    b"\r",
    b"\n",
    b"--xyz--",
    b'name="a"',
    b'filename="f"',
    b";",
    b'"',
    b"\\",
    b"\0",
]


def parse(pieces: list[bytes]) -> list[Part] | str:
    scanner = MultipartScanner(b"xyz", ("model", "a"))
    try:
        for piece in pieces:
            scanner.feed(piece)
        scanner.close()
    except WireError as refusal:
        return refusal.message
    return scanner.parts


@settings(max_examples=150)
@given(body=mutated([FORM], TOKENS), places=st.lists(st.integers(0, 400), max_size=8))
def test_forms(body: bytes, places: list[int]) -> None:
    parts = parse([body])
    assert parse(cut_at(body, places)) == parts
    if isinstance(parts, str):
        return
    ends = [0]
    for part in parts:
        assert ends[-1] <= part.start <= part.end <= len(body)
        ends.append(part.end)
        if part.content:
            assert body[part.start : part.end] == part.content
