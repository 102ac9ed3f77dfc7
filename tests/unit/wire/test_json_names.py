import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.wire.errors import WireError
from gateway.wire.json_names import MOST_FOUND, NamedValues
from tests.unit.wire.cutting import SIZES, cut, cut_at


def found(wire: bytes, pieces: list[bytes], *depths: int) -> list[tuple[bytes, str | None]]:
    finder = NamedValues("model", depths)
    for piece in pieces:
        finder.feed(piece)
    return [(wire[one.start : one.end], one.value) for one in finder.found]


CASES: dict[str, tuple[bytes, tuple[int, ...], list[tuple[bytes, str | None]]]] = {
    "at the top": (b'{"model":"a"}', (1,), [(b'"a"', "a")]),
    "spaced, a role of that name": (b'{ "x":["model"], "role":"model", "model" :\n"a" }', (1,), [(b'"a"', "a")]),
    "in each item": (b'{"r":[{"model":"a"},{"c":{"model":"no"},"model":"b"}]}', (3,), [(b'"a"', "a"), (b'"b"', "b")]),
    "spelled in escapes": (b'{"mod\\u0065l":"\\u0061\\""}', (1,), [(b'"\\u0061\\""', 'a"')]),
    "in a text": (b'{"t":"\\"model\\":\\"a\\""}', (1,), []),
    "a longer name": (b'{"xmodel":"a","modelx":"b","":"c"}', (1,), []),
    "elsewhere": (b'{"a":{"model":"a"}}', (1, 3), []),
    "twice": (b'{"model":"a","model":"b"}', (1,), [(b'"a"', "a"), (b'"b"', "b")]),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", CASES)
def test_finds(name: str, size: int) -> None:
    wire, depths, expected = CASES[name]
    assert found(wire, list(cut(wire, size)), *depths) == expected


@pytest.mark.parametrize("value", [b"5", b"null", b'{"a":1}', b'["a"]', b'"' + b"x" * 5000 + b'"'])
def test_what_is_no_name(value: bytes) -> None:
    wire = b'{"model":' + value + b',"x":1}'
    for size in SIZES:
        assert [one[1] for one in found(wire, list(cut(wire, size)), 1)] == [None]


def test_not_endlessly_many() -> None:
    finder = NamedValues("model", (1,))
    with pytest.raises(WireError, match="more than"):
        finder.feed(b"{" + b'"model":"a",' * (MOST_FOUND + 1))


def values(document: Any, depth: int) -> list[str]:
    here = [document["model"]] if depth == 1 and isinstance(document, dict) and "model" in document else []
    inner = document.values() if isinstance(document, dict) else document if isinstance(document, list) else ()
    return here if depth == 1 else [one for part in inner for one in values(part, depth - 1)]


NAMES = st.sampled_from(["model", "role", 'a"', "\\", "ü"])
TEXTS = st.sampled_from(["a", "model", '"model":"x"', "\\", "}", "ü\U0001f44b"])
DOCUMENTS = st.recursive(
    TEXTS,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(NAMES.filter(lambda name: name != "model"), inner)
        | st.fixed_dictionaries({"model": TEXTS}, optional={"role": inner})
    ),
    max_leaves=8,
)


@given(
    document=DOCUMENTS, depth=st.integers(1, 4), places=st.lists(st.integers(0, 500), max_size=6), plain=st.booleans()
)
def test_as_a_decoder_finds_them(document: Any, depth: int, places: list[int], plain: bool) -> None:
    wire = json.dumps(document, ensure_ascii=plain).encode()
    told = found(wire, cut_at(wire, places), depth)
    assert sorted(str(value) for _, value in told) == sorted(values(document, depth))
    assert all(json.loads(raw) == value for raw, value in told)
