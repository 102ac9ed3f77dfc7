"""LiteLLM's file with the line of everything in it, and what was asked for: the rest goes into the report."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError

from gateway.errors import BadRequest

VARIABLE: Final = re.compile(r"os\.environ/([A-Za-z_][A-Za-z0-9_]*)")


@dataclass(frozen=True, slots=True, order=True)
class Remark:
    line: int
    what: str
    """Path of the setting in the file."""
    text: str


@dataclass(slots=True)
class Report:
    """What a person must know after the import."""

    lost: list[Remark] = field(default_factory=list)
    """Not carried over."""
    notes: list[Remark] = field(default_factory=list)
    """Carried over, but not word for word."""


class Part:
    """One mapping of the file. What nobody asks for is reported as lost when it is closed."""

    def __init__(self, values: CommentedMap, path: str, report: Report) -> None:
        self._values = values
        self._asked: set[str] = set()
        self.path = path
        self.report = report

    @property
    def line(self) -> int:
        return int(self._values.lc.line) + 1

    def names(self) -> list[str]:
        return [str(name) for name in self._values]

    def get(self, name: str) -> Any:
        """The value with `os.environ/NAME` as `${NAME}`, None where there is none."""
        self._asked.add(name)
        return carried(self._values.get(name))

    def ignore(self, *names: str) -> None:
        """What has no bearing on a gateway's state."""
        self._asked.update(names)

    def part(self, name: str) -> "Part":
        """A mapping in it, empty where there is none."""
        self._asked.add(name)
        value = self._values.get(name)
        if value is None:
            return Part(CommentedMap(), f"{self.path}{name}.", self.report)
        if not isinstance(value, CommentedMap):
            raise self.refusal(name, "is not a mapping")
        return Part(value, f"{self.path}{name}.", self.report)

    def parts(self, name: str) -> Iterator["Part"]:
        """The mappings of a list in it."""
        self._asked.add(name)
        value = self._values.get(name)
        if value is None:
            return
        if not isinstance(value, CommentedSeq):
            raise self.refusal(name, "is not a list")
        for number, each in enumerate(value):
            if not isinstance(each, CommentedMap):
                raise self.refusal(name, f"holds something else than mappings: {str(each)[:60]!r}")
            yield Part(each, f"{self.path}{name}[{number}].", self.report)

    def line_of(self, name: str) -> int:
        try:
            return int(self._values.lc.key(name)[0]) + 1
        except KeyError:
            return self.line

    def lose(self, name: str, why: str) -> None:
        self._asked.add(name)
        self.report.lost.append(Remark(self.line_of(name), self.path + name, why))

    def note(self, name: str, text: str) -> None:
        self.report.notes.append(Remark(self.line_of(name), self.path + name, text))

    def refusal(self, name: str, problem: str) -> BadRequest:
        return BadRequest(
            f"line {self.line_of(name)}: {self.path}{name} {problem}", fix="is this LiteLLM's config.yaml?"
        )

    def close(self, reasons: dict[str, str], otherwise: str) -> None:
        """Report what was not asked for: with its reason where there is one."""
        for name in self._values:
            if name not in self._asked:
                self.lose(str(name), reasons.get(str(name), otherwise))


def read(text: str) -> Part:
    """Raises BadRequest where it is not YAML, or not a mapping."""
    try:
        values = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadRequest(f"line {line}: not YAML: {error.problem}", fix="correct it, or give another file") from None
    if not isinstance(values, CommentedMap):
        raise BadRequest("the file is not a mapping", fix="is this LiteLLM's config.yaml?")
    return Part(values, "", Report())


def carried(value: Any) -> Any:
    """Texts as sluicegate.yaml writes them: `os.environ/NAME` is `${NAME}`, any other `$` is `$$`."""
    if not isinstance(value, str):
        return value
    found = VARIABLE.fullmatch(value.strip())
    return f"${{{found[1]}}}" if found else value.strip().replace("$", "$$")
