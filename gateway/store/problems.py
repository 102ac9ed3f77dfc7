"""What is wrong with a document: field, problem, remedy. All of it at once, in words that an operator can act on."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel, ValidationError

from gateway.errors import Invalid

Path = tuple[str | int, ...]

_TAGS: Final = {"all", "names", "literal['*']"}
"""Parts of a location that pydantic adds for the branches of a union."""

_REMEDIES: Final = {
    "missing": "add it",
    "enum": "use one of these",
    "literal_error": "use one of these",
    "string_type": "write a text; put it in quotes where YAML reads a number or a truth value",
    "int_parsing": "write an integer",
    "int_type": "write an integer",
    "int_from_float": "write an integer",
    "bool_parsing": "write true or false",
    "bool_type": "write true or false",
    "list_type": "write a list",
    "model_type": "write a mapping of names and values",
    "dict_type": "write a mapping of names and values",
    "datetime_parsing": "write e.g. 2027-01-31T00:00:00Z",
    "datetime_from_date_parsing": "write e.g. 2027-01-31T00:00:00Z",
    "datetime_type": "write e.g. 2027-01-31T00:00:00Z",
    "too_short": "add one",
    "too_long": "remove some",
}


@dataclass(frozen=True, slots=True)
class Problem:
    path: Path
    problem: str
    remedy: str

    @property
    def field(self) -> str:
        """`targets.0.provider`"""
        return ".".join(map(str, self.path))

    def within(self, *prefix: str | int) -> "Problem":
        return Problem((*prefix, *self.path), self.problem, self.remedy)


def invalid(problems: Sequence[Problem], subject: str) -> Invalid:
    """The error that carries these problems. `subject`: what they are found in, e.g. `provider 'openai'`."""
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    place = f"{subject}: {first.field}" if first.path else subject
    errors = [{"field": each.field, "problem": each.problem, "remedy": each.remedy} for each in problems]
    return Invalid(f"{place} {first.problem}{more}", fix=first.remedy, errors=errors)


def refuse(field: str, problem: str, remedy: str, subject: str) -> Invalid:
    """The error for one field, given as `targets.0.provider`."""
    return invalid([Problem(_path(field), problem, remedy)], subject)


def _path(field: str) -> Path:
    return tuple(int(part) if part.isdecimal() else part for part in field.split("."))


def of_error(error: Invalid) -> list[Problem]:
    """The problems that an `Invalid` from this module carries."""
    return [
        Problem(
            _path(each["field"]),
            each["problem"],
            each["remedy"],
        )
        for each in error.fields.get("errors", ())
    ] or [Problem((), error.message, error.fix)]


def from_validation(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """What pydantic found, in our words. Values are not repeated: one of them may be a secret."""
    return [
        _problem(each, model) for each in error.errors(include_url=False, include_input=False, include_context=True)
    ]


def _problem(found: Any, model: type[BaseModel]) -> Problem:
    kind, context = found["type"], found.get("ctx", {})
    path: Path = tuple(part for part in found["loc"] if part not in _TAGS)
    if kind == "refused":
        if context["field"]:
            path += _path(context["field"])
        return Problem(path, context["problem"], context["remedy"])
    if kind == "extra_forbidden":
        return Problem(path, "is not known here", _known_names(path, model))
    problem = found["msg"][:1].lower() + found["msg"][1:]
    if kind == "missing":
        problem = "is missing"
    elif kind == "enum":
        return Problem(path, "is none of the allowed values", f"use {context['expected']}")
    return Problem(path, problem, _REMEDIES.get(kind, "correct it"))


def _known_names(path: Path, model: type[BaseModel]) -> str:
    names = _fields_at(path[:-1], model)
    return f"remove it, or use one of: {', '.join(names)}" if names else "remove it"


def _fields_at(path: Iterable[str | int], model: type[BaseModel]) -> list[str]:
    """Names of the fields of the model that lies at `path` within `model`."""
    present: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int):
            continue
        if present is None or part not in present.model_fields:
            return []
        present = model_in(present.model_fields[part].annotation)
    return list(present.model_fields) if present is not None else []


def model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, itself or in a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in getattr(annotation, "__args__", ()):
        found = model_in(inner)
        if found is not None:
            return found
    return None
