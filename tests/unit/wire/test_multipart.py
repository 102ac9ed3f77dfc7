import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.errors import WireError
from gateway.wire.multipart import MultipartScanner, boundary_of
from tests.unit.wire.cutting import SIZES, cut, cut_at

FORM = (
    b"preamble --xy\r\n--xyz\r\n"
    b'Content-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    b"\r\n--xyw\r\n--x\r\n\r\n"
    b"\r\n--xyz  \r\ncontent-disposition: form-data; name=model\r\n\r\n"
    b"whisper-1"
    b"\r\n--xyz\r\nContent-Disposition: form-data; name=\"empty\"\r\n\r\n"
    b"\r\n--xyz--\r\nepilogue"
)  # fmt: skip


def parts_of(wire: bytes, size: int) -> MultipartScanner:
    scanner = MultipartScanner(b"xyz", ("model",))
    for piece in cut(wire, size):
        scanner.feed(piece)
    scanner.close()
    return scanner


@pytest.mark.parametrize("size", SIZES)
def test_parts(size: int) -> None:
    parts = parts_of(FORM, size).parts
    assert [(part.name, part.is_file, FORM[part.start : part.end]) for part in parts] == [
        ("file", True, b"\r\n--xyw\r\n--x\r\n\r\n"),
        ("model", False, b"whisper-1"),
        ("empty", False, b""),
    ]
    assert [part.content for part in parts] == [b"", b"whisper-1", b""]


REFUSED = {
    "twice": FORM.replace(b'"empty"', b'"model"'),
    "early end": FORM[:-20],
    "no name": FORM.replace(b'; name="empty"', b""),
    "no head": FORM.replace(b'Content-Disposition: form-data; name="empty"\r\n', b""),
    "endless head": FORM.replace(b'"empty"', b'"' + b"e" * 20_000 + b'"'),
    "endless model": FORM.replace(b"whisper-1", b"w" * 70_000),
}


@pytest.mark.parametrize("size", [1, 7, 65_536])
@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str, size: int) -> None:
    with pytest.raises(WireError):
        parts_of(REFUSED[name], size)


def test_boundary() -> None:
    assert boundary_of(b'multipart/form-data; boundary="a b"') == b"a b"
    assert boundary_of(b"multipart/form-data; charset=utf-8; Boundary=abc") == b"abc"
    with pytest.raises(WireError):
        boundary_of(b"multipart/form-data")


@given(
    contents=st.lists(
        st.binary() | st.sampled_from([b"\r\n--xy", b"--xyz", b"\r\n--xyz!", b"\r"]), min_size=1, max_size=5
    ),
    places=st.lists(st.integers(0, 1000), max_size=8),
)
def test_any_content_any_chunking(contents: list[bytes], places: list[int]) -> None:
    contents = [content for content in contents if b"\r\n--xyz\r\n" not in content]
    wire = b"".join(
        b'--xyz\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n%b\r\n' % item for item in enumerate(contents)
    )
    wire += b"--xyz--\r\n"
    scanner = MultipartScanner(b"xyz", ("f0",))
    for piece in cut_at(wire, places):
        scanner.feed(piece)
    scanner.close()
    assert [wire[part.start : part.end] for part in scanner.parts] == contents
    assert [part.content for part in scanner.parts[:1]] == contents[:1]
