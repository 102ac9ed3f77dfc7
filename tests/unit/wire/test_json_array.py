import json
from operator import itemgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.json_array import JsonArrayScanner
from tests.unit.wire.cutting import SIZES, cut, cut_at

JSON = st.recursive(
    st.none() | st.integers() | st.sampled_from(["", "a", '"', "\\", "]}", "[{", "ü\U0001f44b\u2028"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", '"', "}"]), inner),
    max_leaves=8,
)


def elements(scanner: JsonArrayScanner, pieces: list[bytes]) -> list[bytes]:
    """What it finds, each element joined from its spans."""
    found, under_way = [], b""
    for piece in pieces:
        for span in scanner.feed(piece):
            assert span.start < span.end
            under_way += piece[span.start : span.end]
            if span.ends:
                found.append(under_way)
                under_way = b""
    assert not under_way or not scanner.between
    return found


CASES = [
    ("empty", b"[]", []),
    ("spaced", b' [ {"a" : 1} ,\r\n\t{} ] \n', [b'{"a" : 1}', b"{}"]),
    ("brackets in strings", b'[{"a":"]}{[\\"]"},{"b":["\\\\"]}]', [b'{"a":"]}{[\\"]"}', b'{"b":["\\\\"]}']),
    ("deep", b"[" + b'{"a":[' * 50 + b"]}" * 50 + b"]", [b'{"a":[' * 50 + b"]}" * 50]),
    ("not UTF-8", b'[{"a":"\xf0\x9f"}]', [b'{"a":"\xf0\x9f"}']),
    ("broken off", b'[{"a":1},{"b":', [b'{"a":1}']),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", CASES, ids=itemgetter(0))
def test_elements(case: tuple[str, bytes, list[bytes]], size: int) -> None:
    name, wire, expected = case
    scanner = JsonArrayScanner()
    assert elements(scanner, list(cut(wire, size))) == expected
    assert scanner.ended == (name != "broken off")
    assert not scanner.lost


@pytest.mark.parametrize(
    "wire", [b'{"error":{}}', b"[1,2]", b'["a"]', b"[[{}]]", b"[}", b"data: {}", b"\xef\xbb\xbf[]"]
)
def test_what_is_no_array_of_objects(wire: bytes) -> None:
    for size in SIZES:
        scanner = JsonArrayScanner()
        assert elements(scanner, list(cut(wire, size))) == []
        assert scanner.lost
        assert not scanner.between


@given(objects=st.lists(st.dictionaries(st.sampled_from(["a", "b]"]), JSON), max_size=5), ascii_only=st.booleans(),
       places=st.lists(st.integers(0, 2000), max_size=8))  # fmt: skip
def test_any_array_at_any_chunking(objects: list[object], ascii_only: bool, places: list[int]) -> None:
    wire = json.dumps(objects, ensure_ascii=ascii_only, indent=1).encode()
    scanner = JsonArrayScanner()
    found = elements(scanner, cut_at(wire, places))
    assert [json.loads(one) for one in found] == objects
    assert (scanner.count, scanner.ended, scanner.lost) == (len(objects), True, False)


@given(wire=st.lists(st.sampled_from([b"[", b"]", b"{", b"}", b'"', b"\\", b",", b" ", b"a", b"\xff"]), max_size=40),
       places=st.lists(st.integers(0, 40), max_size=5))  # fmt: skip
def test_garbage_reads_the_same_at_any_chunking(wire: list[bytes], places: list[int]) -> None:
    whole, cut_up = JsonArrayScanner(), JsonArrayScanner()
    joined = b"".join(wire)
    assert elements(whole, [joined]) == elements(cut_up, cut_at(joined, places))
    assert (whole.lost, whole.ended, whole.count) == (cut_up.lost, cut_up.ended, cut_up.count)
