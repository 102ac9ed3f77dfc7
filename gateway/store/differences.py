"""What publishing a document would change: entry by entry, in plain words and as YAML.

Both sides are what `export` writes, so that only what differs in effect is told.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import BaseModel

from gateway.store import problems
from gateway.store.documents import (
    AppEntry,
    InterceptionDocument,
    KeyEntry,
    LimitDocument,
    PriceDocument,
    ProviderDocument,
    RouteDocument,
    TeamEntry,
)
from gateway.store.entries import KINDS, Entries, Entry, EntryId
from gateway.store.export import to_yaml

_IDENTITIES: Final = ("name", "provider", "app")
"""Fields by which an entry of a list is known."""
_SECRETS: Final = frozenset({"value", "password", "key"})
_REFERENCES: Final = ("sealed:", "sha256:")
_SINGULAR: Final[Mapping[str, str]] = {
    "targets": "target",
    "credentials": "credential",
    "callers": "caller",
    "routes": "route",
    "tags": "tag",
    "prefer": "preferred tag",
    "sources": "source",
    "teams": "team",
}
LONGEST_VALUE: Final = 80
_MODELS: Final[Mapping[str, type[BaseModel]]] = {
    "provider": ProviderDocument,
    "route": RouteDocument,
    "team": TeamEntry,
    "app": AppEntry,
    "key": KeyEntry,
    "price": PriceDocument,
    "limit": LimitDocument,
    "interception rule": InterceptionDocument,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    action: Literal["create", "update", "delete"]
    kind: str
    name: str
    words: tuple[str, ...]
    """What an update changes, a line each."""
    before: str | None
    """YAML of the entry; None = there is none."""
    after: str | None


def differences(before: Entries, after: Entries) -> list[Difference]:
    """By kind, then in the order of the documents; what goes comes last in each kind."""
    found = []
    for entry_id in sorted(dict.fromkeys((*after, *before)), key=lambda each: KINDS.index(each.kind)):
        old, new = before.get(entry_id), after.get(entry_id)
        if old != new:
            found.append(_difference(entry_id, old, new))
    return found


def _difference(entry_id: EntryId, old: Entry | None, new: Entry | None) -> Difference:
    return Difference(
        action="create" if old is None else "delete" if new is None else "update",
        kind=entry_id.kind,
        name=entry_id.name,
        words=tuple(_words("", _full(entry_id.kind, old), _full(entry_id.kind, new))) if old and new else (),
        before=None if old is None else to_yaml(old),
        after=None if new is None else to_yaml(new),
    )


def _full(kind: str, entry: Entry) -> Any:
    """With what is as it would be anyway, so that a change away from it says what it was."""
    return _with_defaults(_MODELS[kind], entry)


def _with_defaults(model: type[BaseModel], value: Any) -> Any:
    if isinstance(value, list):
        return [_with_defaults(model, each) for each in value]
    if not isinstance(value, dict):
        return value
    full = dict(value)
    for name, field in model.model_fields.items():
        below = problems.model_in(field.annotation)
        if name in value:
            if below is not None:
                full[name] = _with_defaults(below, value[name])
        elif isinstance(default := field.get_default(call_default_factory=True), str | int | float) and default != "":
            full[name] = default
        elif isinstance(default, BaseModel):
            full[name] = _with_defaults(type(default), {})
    return full


def _words(path: str, old: Any, new: Any) -> Iterator[str]:
    if old == new:
        return
    if path.rpartition(".")[2].rpartition(" ")[2] in _SECRETS and _is_reference(old, new):
        of = path.removesuffix(": value")
        yield f"{of}: another secret" if old and new else f"{of}: a secret {'is added' if new else 'is taken out'}"
    elif _is(dict, old, new):
        for field in dict.fromkeys((*(old or {}), *(new or {}))):
            below = field if not path else f"{path}: {field}" if " " in path else f"{path}.{field}"
            yield from _words(below, (old or {}).get(field), (new or {}).get(field))
    elif _is(list, old, new):
        yield from _list_words(path, old or [], new or [])
    elif old is None:
        yield f"{path}: {_shown(new)} (was not set)"
    elif new is None:
        yield f"{path}: not set any more (was {_shown(old)})"
    else:
        yield f"{path}: {_shown(old)} → {_shown(new)}{' s' if path.startswith('timeout.') else ''}"


def _list_words(path: str, old: Sequence[Any], new: Sequence[Any]) -> Iterator[str]:
    olds, news = _by_identity(old), _by_identity(new)
    one = _SINGULAR.get(path, path)
    for name in news:
        if name not in olds:
            yield f"{one} {name} added{_rest(news[name])}"
    for name in olds:
        if name not in news:
            yield f"{one} {name} removed"
    for name, value in news.items():
        if name in olds:
            yield from _words(f"{one} {name}", olds[name], value)
    kept = [name for name in news if name in olds]
    if kept != [name for name in olds if name in news]:
        yield f"{path} in another order: {', '.join(news)}"


def _by_identity(values: Sequence[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for place, value in enumerate(values):
        if isinstance(value, dict):
            parts = [str(value[field]) for field in (*_IDENTITIES, "model") if value.get(field) is not None]
            name = "/".join(parts) or f"number {place + 1}"
        else:
            name = _shown(value)
        found[name if name not in found else f"{name} (number {place + 1})"] = value
    return found


def _rest(value: Any) -> str:
    """What an entry that is new in a list says beside its name."""
    if not isinstance(value, dict):
        return ""
    rest = [
        f"{field} {_shown(each)}"
        for field, each in value.items()
        if field not in (*_IDENTITIES, "model", *_SECRETS) and not isinstance(each, dict | list)
    ]
    return f" ({', '.join(rest)})" if rest else ""


def _is(kind: type, old: Any, new: Any) -> bool:
    """Whether both are of a kind, one of them perhaps not there."""
    return all(value is None or isinstance(value, kind) for value in (old, new))


def _is_reference(*values: Any) -> bool:
    return all(value is None or (isinstance(value, str) and value.startswith(_REFERENCES)) for value in values)


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        value = f"{value:g}"
    if isinstance(value, dict | list):
        value = ", ".join(map(str, value))
    text = str(value)
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 1] + "…"
