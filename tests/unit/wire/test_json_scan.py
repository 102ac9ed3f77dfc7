import json
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.errors import WireError
from gateway.wire.json_scan import TopLevelScanner
from tests.unit.wire.cutting import SIZES, cut, cut_at


def scanned(body: bytes, size: int, *wanted: str, **options: Any) -> TopLevelScanner:
    scanner = TopLevelScanner(wanted, **options)
    for piece in cut(body, size):
        scanner.feed(piece)
    scanner.close()
    return scanner


@dataclass(frozen=True)
class Case:
    name: str
    body: bytes
    raw: bytes | None


CASES = (
    Case("first", b'{"model":"a","x":1}', b'"a"'),
    Case("last, spaced", b' {"x" : [1, {"model":"no"}],\r\n\t"model" : "a" } \n', b'"a"'),
    Case("escaped name", b'{"mod\\u0065l":"a"}', b'"a"'),
    Case("escaped quotes before", b'{"x":"\\\\\\"model\\":","model":"a\\""}', b'"a\\""'),
    Case("a number", b'{"model":-1.5e+3}', b"-1.5e+3"),
    Case("a literal", b'{"model":null}', b"null"),
    Case("an object", b'{"model":{"a":"}]{["}}', b'{"a":"}]{["}'),
    Case("absent", b'{"x":{"model":1}}', None),
    Case("empty", b"{}", None),
    Case("many brackets", b'{"x":' + b'[{"a":[[]]},' * 500 + b"0" + b"]" * 500 + b',"model":1}', b"1"),
    Case("long strings", b'{"x":["' + b"A" * 70_000 + b'","' + b'\\"' * 40_000 + b'"],"model":1}', b"1"),
    Case("many short tokens", b'{"x":[' + b'{"k":"v","w":[1,2]},' * 4000 + b'{}],"model":1}', b"1"),
)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("case", CASES, ids=attrgetter("name"))
def test_finds_the_member(case: Case, size: int) -> None:
    member = scanned(case.body, size, "model").members.get("model")
    assert (member.raw if member else None) == case.raw
    if member is not None:
        assert case.body[member.start : member.end] == case.raw


REFUSED = {
    "twice": (b'{"model":"a","model":"b"}', "twice"),
    "twice, one escaped": (b'{"model":"a","\\u006dodel":"b"}', "twice"),
    "another case": (b'{"Model":"b"}', "spelling"),
    "a sign that folds to the same": ('{"\u017ftream":true}'.encode(), "spelling"),
    "an array": (b"[]", "not a JSON object"),
    "nothing": (b"", "breaks off"),
    "early end": (b'{"a":1', "breaks off"),
    "early end in a string": (b'{"a":"x', "breaks off"),
    "two objects": (b"{}{}", "more follows"),
    "no colon": (b'{"a" 1}', "expected"),
    "no comma": (b'{"a":1 "b":2}', "expected"),
    "no value": (b'{"a":,"b":2}', "no JSON"),
    "bare word": (b'{"a":nul}', "no JSON"),
    "not a number": (b'{"a":NaN}', "no JSON"),
    "comma at the end": (b'{"a":1,}', "name was expected"),
    "deep": (b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "deeper"),
    "deep objects": (b'{"a":' + b'{"a":' * 10_000, "deeper"),
    "endless name": (b'{"' + b"a" * 5000, "longer"),
    "endless number": (b'{"a":' + b"1" * 5000, "longer"),
    "long wanted value": (b'{"model":"' + b"a" * 70_000 + b'"}', "longer"),
    "too many members": (b"{" + b",".join(b'"k%d":1' % i for i in range(2000)) + b"}", "members"),
    "surrogate escape in a name": (b'{"\\x":1}', "no JSON string"),
}


@pytest.mark.parametrize("size", [1, 7, 65_536])
@pytest.mark.parametrize("name", REFUSED)
def test_refuses(name: str, size: int) -> None:
    body, words = REFUSED[name]
    with pytest.raises(WireError, match=words) as caught:
        scanned(body, size, "model", "stream")
    assert caught.value.status == 400


@pytest.mark.parametrize("size", [1000, 16_384, 65_536])
def test_counts_what_opaque_strings_exceed(size: int) -> None:
    image = b"A" * 200_000
    body = b'{"m":[{"image_url":{"url": "' + image + b'"}},"' + image + b'"],"data":"' + image + b'"}'
    seen: list[tuple[bytes, bytes]] = []

    def judge(name: bytes, head: bytes) -> bool:
        seen.append((name, head))
        return name in (b"url", b"data")

    members = scanned(body, size, opaque_bytes=50_000, is_opaque=judge).members
    assert [name for name, _ in seen] == [b"url", b"", b"data"]
    assert all(head == image[: len(head)] and len(head) >= 500 for _, head in seen)
    assert members["m"].opaque_excess == 150_000
    assert members["data"].opaque_excess == 150_000


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=12,
)


@given(
    document=st.dictionaries(st.text(st.characters(categories=["Lu", "Ll", "Nd"])).map("k".__add__), _JSON, max_size=6),
    model=_JSON,
    indent=st.sampled_from([None, 0, 2]),
    ascii_only=st.booleans(),
    places=st.lists(st.integers(0, 10_000), max_size=6),
)
def test_agrees_with_a_decoder(
    document: dict[str, Any], model: Any, indent: int | None, ascii_only: bool, places: list[int]
) -> None:
    items = [*document.items()]
    items.insert(len(items) // 2, ("model", model))
    body = json.dumps(dict(items), indent=indent, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    scanner = TopLevelScanner(["model"])
    for piece in cut_at(body, places):
        scanner.feed(piece)
    scanner.close()
    assert list(scanner.members) == [name for name, _ in items]
    for name, value in items:
        member = scanner.members[name]
        assert json.loads(body[member.start : member.end]) == value
    assert json.loads(scanner.members["model"].raw) == model


@given(
    parts=st.lists(_JSON, min_size=1, max_size=6),
    times=st.integers(1, 400),
    levels=st.integers(0, 60),
    ascii_only=st.booleans(),
    size=st.sampled_from([300, 1000, 16_384, 1_000_000]),
)
def test_skips_large_values_of_any_shape(
    parts: list[Any], times: int, levels: int, ascii_only: bool, size: int
) -> None:
    """What is skipped a window at a time ends exactly where it ends."""
    value: Any = parts * times
    for _ in range(levels):
        value = {'"\\': [value, "]}"]}
    document = {"x": value, "model": "m", "y": value}
    body = json.dumps(document, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    members = scanned(body, size, "model").members
    at = body.rindex(b'"model": "m", "y": ')
    assert members["model"].start == at + 9
    assert members["x"].end == at - 2
    assert (members["y"].start, members["y"].end) == (at + 19, len(body) - 1)
