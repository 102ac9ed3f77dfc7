"""OpenAPI documents as people send them: read as YAML 1.2 or JSON, bounded in depth and time, no alias expanded."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from gateway.errors import Invalid
from gateway.store import openapi_document
from gateway.store.openapi_document import heard, read, text_of, told

HEAD = "openapi: 3.1.0\ninfo: {title: CRM, version: 2}\npaths:\n  /a: {get: {responses: {200: {description: ok}}}}\n"


def sent(more: str) -> Any:
    return json.loads(read(HEAD + more).content)


def test_a_document_says_what_it_is() -> None:
    for text in (HEAD, json.dumps(YAML(typ="safe").load(HEAD))):
        document = read(text)
        assert (document.title, document.api_version, document.operations) == ("CRM", "2", 1)
        assert json.loads(document.content)["paths"]["/a"]["get"]["responses"]["200"]["description"] == "ok"


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("NO", "NO"),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("'true'", "true"),
        ('"1"', "1"),
        ("12", 12),
        ("-12", -12),
        ("0o17", 15),
        ("0x1F", 31),
        ("017", 17),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2026-11-28", "2026-11-28"),
        ("18446744073709551615", 18446744073709551615),
        ("184467440737095516150", 184467440737095516150.0),
        ("1.5e3", 1500.0),
        (".5", 0.5),
        (".inf", ".inf"),
        ("1.2.3", "1.2.3"),
        ("!!str 12", "12"),
        ("!!int 12", 12),
        ("! 12", "12"),
        ("|\n  two\n  lines\n", "two\nlines\n"),
        ("{a: [1, b]}", {"a": [1, "b"]}),
        ("&anchor fine", "fine"),
    ],
)
def test_yaml_is_read_as_version_1_2_says(written: str, value: Any) -> None:
    assert sent(f"x: {written}")["x"] == value


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ("x: &a [1]\ny: *a\n", "aliases"),
        ("x: &a [*a]\n", "aliases"),
        ("x: !python/object:os.system {}\n", "tag"),
        ("x: !!python/object:os.system a\n", "tag"),
        ("x: 1\nx: 2\n", "'x' twice, again in line 6"),
        ("? {a: b}\n: c\n", "no text in line 5"),
        ("--- \nx: 1\n", "more than one"),
        ("x: [\n", "in line"),
        ("x: \x00", "neither JSON nor YAML"),
        ("x: " + "[" * 200 + "]" * 200, "nested"),
        ("x: " + "{a: " * 200 + "1" + "}" * 200, "nested"),
        ("x: " + "[" * 500_000, "nesting"),
        ("x:\n" + "".join(f"{' ' * each}-\n" for each in range(1, 200)), "nested"),
        ('x: "\\ud800"', "document"),
    ],
)
def test_what_is_no_plain_document_is_refused(more: str, problem: str) -> None:
    with pytest.raises(Invalid, match=problem):
        read(HEAD + more)


@pytest.mark.parametrize(
    "text",
    ["", "1", "[]", "{}", "paths: {}", '{"swagger": "2.0", "paths": {}}', '{"openapi": "3.0.0", "paths": 1}'],
)
def test_what_is_not_openapi_3_is_refused(text: str) -> None:
    with pytest.raises(Invalid, match="document"):
        read(text)
    with pytest.raises(Invalid, match="UTF-8"):
        text_of(b"\xff\xfe")


def test_depth_is_bounded_in_json_too() -> None:
    with pytest.raises(Invalid, match="nested"):
        read('{"openapi": "3.0.0", "paths": {"/": ' + '{"a":' * 200 + "1" + "}" * 200 + "}}")


BOMBS = {
    "flow sequence": "x: [" + "a," * 500_000 + "a]",
    "block sequence": "x:\n" + "- \n" * 330_000,
    "explicit keys": "x:\n" + "".join(f"  ? {number}\n" for number in range(90_000)),
    "anchors": "x: [" + "".join(f"&a{number} b," for number in range(90_000)) + "]",
    "one long text": "x: " + "a" * 1_000_000,
    "one long number": "x: " + "9" * 1_000_000,
    "comments": "# a\n" * 250_000,
    "quoted": 'x: "' + "\\x41" * 250_000 + '"',
    "blank lines": "x: |\n" + "\n" * 1_000_000 + "  a\n",
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS.keys())
def test_a_mebibyte_is_read_in_bounded_time_whatever_it_is(text: str) -> None:
    begun_s = time.process_time()
    try:
        read(HEAD + text)
    except Invalid:
        pass
    assert time.process_time() - begun_s < openapi_document.LONGEST_S


def test_what_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openapi_document, "LONGEST_S", 0.0)
    with pytest.raises(Invalid, match="takes longer"):
        read(HEAD + "x: [" + "a," * 5_000 + "a]")


TEXTS = st.text(st.characters(categories=["L", "N", "P", "S", "Zs"]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-1e6, 1e6) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150)
@given(value=VALUES)
def test_json_is_yaml_and_reads_the_same(value: Any) -> None:
    """What the builder makes of a document is what a JSON reader makes of it (YAML 1.2, 1.3)."""
    text = json.dumps({"openapi": "3.0.0", "paths": {}, "x": value}, ensure_ascii=False)
    assert json.loads(read(text + "\n# not JSON any more").content) == json.loads(text)


def test_the_reporters_answer_is_heard_as_it_was_meant() -> None:
    assert heard(b"".join(told(HEAD))) == read(HEAD)
    with pytest.raises(Invalid) as refused:
        heard(b"".join(told("x: *a")))
    assert refused.value.fields["errors"][0]["field"] == "document"
    assert "aliases" in str(refused.value)
