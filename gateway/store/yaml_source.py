"""Read sluicegate.yaml: plain values, the line of each, and `${NAME}` from an environment.

Every fault has a line. Aliases and merge keys work, within a bound on what they may grow to; a key written twice is an
error, because the second would silently win.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.errors import Invalid
from gateway.store.problems import Path, Problem

MOST_VALUES: Final = 1_000_000
DEEPEST: Final = 32

_VARIABLE: Final = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$\{")
_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = _TAG + "merge"


@dataclass(frozen=True, slots=True)
class Located:
    """A problem and where it stands."""

    file: str
    line: int
    problem: Problem

    def __str__(self) -> str:
        field = f"{self.problem.field}: " if self.problem.path else ""
        return f"{self.file}:{self.line}: {field}{self.problem.problem}; {self.problem.remedy}"


def refusal(found: list[Located]) -> Invalid:
    """The error that tells all of it."""
    found = sorted(found, key=lambda each: each.line)
    errors = [
        {
            "file": each.file,
            "line": each.line,
            "field": each.problem.field,
            "problem": each.problem.problem,
            "remedy": each.problem.remedy,
        }
        for each in found
    ]
    fix = "nothing was changed; correct this and apply again"
    return Invalid("\n".join(map(str, found)), fix=fix, errors=errors)


class Source:
    """One file's values and lines. Raises Invalid where it is not YAML, or a variable is not set."""

    def __init__(self, text: str, *, file: str, environment: Mapping[str, str]) -> None:
        self.file = file
        self._environment = environment
        self._lines: dict[Path, int] = {(): 1}
        self._wrong: list[Located] = []
        self._count = 0
        node = self._compose(text)
        self.values: Any = {} if node is None else self._value(node, ())
        if self._wrong:
            raise refusal(self._wrong)

    def locate(self, problem: Problem) -> Located:
        """With the line of its field, or of the nearest thing around it."""
        path = problem.path
        while path not in self._lines:
            path = path[:-1]
        return Located(self.file, self._lines[path], problem)

    def _compose(self, text: str) -> Node | None:
        try:
            node: Node | None = YAML(typ="safe", pure=True).compose(text)
            return node
        except MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark is not None else 1
            problem = error.problem or "is not YAML"
            raise refusal([Located(self.file, line, Problem((), problem, "correct the YAML"))]) from None
        except YAMLError as error:
            problem = str(error).splitlines()[0]
            raise refusal([Located(self.file, 1, Problem((), problem, "correct the YAML"))]) from None

    def _value(self, node: Node, path: Path) -> Any:
        self._count += 1
        if self._count > MOST_VALUES or len(path) > DEEPEST:
            raise refusal([Located(self.file, 1, Problem((), "grows beyond all bounds", "use fewer aliases"))])
        self._lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self._value(item, (*path, place)) for place, item in enumerate(node.value)]
        assert isinstance(node, ScalarNode)
        return self._scalar(node, path)

    def _mapping(self, node: MappingNode, path: Path) -> dict[str, Any]:
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == _MERGE:
                sources = value.value if isinstance(value, SequenceNode) else [value]
                for each in reversed(sources):
                    below = self._value(each, path)
                    if isinstance(below, dict):
                        merged |= below
                    else:
                        self._note(path, line, "merges what is not a mapping", "refer to a mapping")
                continue
            if not isinstance(key, ScalarNode):
                self._note(path, line, "has a key that is not a text", "use plain names as keys")
                continue
            if key.value in own:
                self._note((*path, key.value), line, "stands twice", "remove one of the two")
            self._lines[(*path, key.value)] = line
            own[key.value] = self._value(value, (*path, key.value))
        return merged | own

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        text: str = node.value
        match (node.tag or "").removeprefix(_TAG):
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text.replace("_", ""), 0)
            case "float":
                return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
            case "str":
                return self._substituted(text, path, node.start_mark.line + 1)
            case "timestamp":
                return text  # read by the field itself, which insists on a zone
            case other:
                self._note(path, node.start_mark.line + 1, f"has the unknown tag {other}", "remove the tag")
                return text

    def _substituted(self, text: str, path: Path, line: int) -> str:
        """`${NAME}` by its value, `$$` by a dollar sign."""
        if "$" not in text:
            return text

        def value(found: re.Match[str]) -> str:
            if found[0] == "$$":
                return "$"
            name = found[1]
            if name is None:
                self._note(path, line, "has `${` without a name and `}`", "write ${NAME}, or $$ for a dollar sign")
                return ""
            if name not in self._environment:
                remedy = f"run `export {name}=…` before, or write $$ for a dollar sign"
                self._note(path, line, f"${{{name}}} is not set in the environment", remedy)
                return ""
            return self._environment[name]

        return _VARIABLE.sub(value, text)

    def _note(self, path: Path, line: int, problem: str, remedy: str) -> None:
        self._wrong.append(Located(self.file, line, Problem(path, problem, remedy)))


def expanded(text: str, *, file: str, environment: Mapping[str, str]) -> str:
    """The same document with the environment's values in it, as JSON (which is YAML): what a command sends to a gateway
    that must not look into its own environment."""
    return json.dumps(escaped(Source(text, file=file, environment=environment).values), ensure_ascii=False)


def escaped(value: Any) -> Any:
    """Values whose dollar signs survive being read again."""
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, list):
        return [escaped(each) for each in value]
    if isinstance(value, dict):
        return {name: escaped(each) for name, each in value.items()}
    return value
