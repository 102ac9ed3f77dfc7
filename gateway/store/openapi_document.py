"""An OpenAPI document as somebody has sent it: JSON or YAML, checked to be one, and given back as JSON.

Read by the reporter (`reporter_main`), never by a worker: some hundred thousand events of a YAML document take Python's
lock from calls. It imports little. YAML is read as version 1.2 says (10.3, the core schema): `yes` and `on` are words.
"""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from gateway.errors import Invalid

DEEPEST: Final = 100
LONGEST_S: Final = 10.0
"""Of the processor's time; a mebibyte takes two at worst."""
LOOK_EVERY: Final = 4_096
"""Events of YAML."""
METHODS: Final = frozenset(("get", "put", "post", "delete", "options", "head", "patch", "trace"))

_TAG: Final = "tag:yaml.org,2002:"
_COLLECTIONS: Final = frozenset((None, "!", _TAG + "map", _TAG + "seq"))
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INTEGER: Final = re.compile(r"[-+]?[0-9]{1,20}|0o[0-7]{1,21}|0x[0-9a-fA-F]{1,16}")
"""Up to what orjson writes; longer ones become floats, as in most readers of JSON."""
_WORDS: Final[dict[str, bool | None]] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


@dataclass(frozen=True, slots=True)
class OpenApiDocument:
    title: str
    api_version: str
    operations: int
    content: str
    """JSON."""


def text_of(sent: bytes) -> str:
    """Raises Invalid for what is not UTF-8."""
    try:
        return sent.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _invalid("is not UTF-8 text", "send an OpenAPI document") from None


def read(text: str) -> OpenApiDocument:
    """Raises Invalid."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        document = _from_yaml(text)
    if not isinstance(document, dict) or not isinstance(document.get("paths"), dict):
        raise _invalid("has no `paths`", "send an OpenAPI document")
    if not str(document.get("openapi", "")).startswith("3."):
        raise _invalid("is not OpenAPI 3", "convert it, e.g. at converter.swagger.io, or with swagger2openapi")
    if _depth(document) > DEEPEST:
        raise _too_deep()
    try:
        content = orjson.dumps(document).decode()
    except orjson.JSONEncodeError:
        raise _invalid("holds what JSON cannot say", "leave out halves of surrogate pairs") from None
    told = document.get("info")
    about = told if isinstance(told, dict) else {}
    return OpenApiDocument(
        title=str(about.get("title", ""))[:200],
        api_version=str(about.get("version", ""))[:64],
        operations=sum(len(METHODS & set(path)) for path in document["paths"].values() if isinstance(path, dict)),
        content=content,
    )


def told(text: str) -> Iterator[bytes]:
    """The reporter's answer: a line of JSON (`errors`, or what the document says of itself), then the document."""
    try:
        document = read(text)
    except Invalid as error:
        yield orjson.dumps({"errors": error.fields["errors"]})
        return
    about = asdict(document)
    content = about.pop("content")
    yield orjson.dumps(about) + b"\n"
    yield content.encode()


def heard(answer: bytes) -> OpenApiDocument:
    """The worker's end of `told`. Raises Invalid."""
    line, _, content = answer.partition(b"\n")
    about = orjson.loads(line)
    if "errors" in about:
        (error,) = about["errors"]
        raise _invalid(error["problem"], error["remedy"])
    return OpenApiDocument(**about, content=content.decode())


def _from_yaml(text: str) -> Any:
    import yaml  # noqa: TID251 - libyaml: forty times faster, and it knows the lines, too

    try:
        loader = yaml.CSafeLoader(text)
        try:
            return _Builder(yaml).build(loader.get_event)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f" in line {error.problem_mark.line + 1}"
        raise _invalid(f"is neither JSON nor YAML: {error.problem}{line}", "send an OpenAPI document") from None
    except yaml.YAMLError:
        raise _invalid("is neither JSON nor YAML", "send an OpenAPI document") from None


class _Builder:
    """Makes values of the events of one YAML document. No aliases: a few lines of them may stand for gigabytes."""

    def __init__(self, yaml: Any) -> None:
        self._yaml = yaml
        self._root: list[Any] = []
        self._open: list[dict[str, Any] | list[Any]] = [self._root]
        self._keys: list[str | None] = [None]
        """Of each open mapping: the member that awaits its value."""

    def build(self, next_event: Callable[[], Any]) -> Any:
        """Raises Invalid, and what `next_event` does."""
        yaml = self._yaml
        end_s = time.process_time() + LONGEST_S
        for count in range(1, 2**63):
            event = next_event()
            kind = type(event)
            if kind is yaml.ScalarEvent:
                self._scalar(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._begin(event, {} if kind is yaml.MappingStartEvent else [])
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                self._open.pop()
                self._keys.pop()
            elif kind is yaml.AliasEvent:
                raise _invalid("uses YAML aliases", "write them out, or send JSON")
            elif kind is yaml.DocumentStartEvent and self._root:
                raise _invalid("is more than one YAML document", "send one")
            elif kind is yaml.StreamEndEvent:
                break
            if count % LOOK_EVERY == 0 and time.process_time() > end_s:
                raise _invalid(f"takes longer than {LONGEST_S:.0f} s to read", "send it as JSON")
        return self._root[0] if self._root else None

    def _begin(self, event: Any, made: dict[str, Any] | list[Any]) -> None:
        if event.tag not in _COLLECTIONS:
            raise _unknown_tag(event)
        if len(self._open) > DEEPEST:
            raise _too_deep()
        if isinstance(self._open[-1], dict) and self._keys[-1] is None:
            raise _invalid(f"has a key that is no text in line {event.start_mark.line + 1}", "use plain names as keys")
        self._put(made)
        self._open.append(made)
        self._keys.append(None)

    def _scalar(self, event: Any) -> None:
        present = self._open[-1]
        if isinstance(present, list) or self._keys[-1] is not None:
            self._put(_value(event))
            return
        key: str = event.value
        if key in present:
            raise _invalid(f"has {key[:100]!r} twice, again in line {event.start_mark.line + 1}", "remove one of them")
        self._keys[-1] = key

    def _put(self, value: Any) -> None:
        present, key = self._open[-1], self._keys[-1]
        if isinstance(present, list):
            present.append(value)
        else:
            assert key is not None
            present[key] = value
            self._keys[-1] = None


def _value(event: Any) -> Any:
    """A scalar's. What is quoted or tagged so is a text; infinities and NaN, which JSON lacks, are, too."""
    text: str = event.value
    if event.tag not in (None, "!", _TAG + "str"):
        if event.tag not in (_TAG + "int", _TAG + "float", _TAG + "bool", _TAG + "null"):
            raise _unknown_tag(event)
    elif event.tag is not None or not event.implicit[0]:
        return text
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        number = int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        return number if -(2**63) <= number < 2**64 else float(number)
    return float(text) if _FLOAT.fullmatch(text) else text


def _depth(value: Any) -> int:
    deepest, present = 0, [value]
    while present and deepest <= DEEPEST:
        deepest += 1
        below: list[Any] = []
        for each in present:
            if isinstance(each, dict):
                below += each.values()
            elif isinstance(each, list):
                below += each
        present = below
    return deepest


def _too_deep() -> Invalid:
    return _invalid("is nested too deeply", f"{DEEPEST} levels are read")


def _unknown_tag(event: Any) -> Invalid:
    return _invalid(f"has the tag {event.tag[:100]} in line {event.start_mark.line + 1}", "remove the tag")


def _invalid(problem: str, remedy: str) -> Invalid:
    errors = [{"field": "document", "problem": problem, "remedy": remedy}]
    return Invalid(f"document {problem}", fix=remedy, errors=errors)
