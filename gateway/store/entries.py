"""A configuration document as its single entries, to be compared, brought together and written again.

Teams, apps and keys are entries of their own, however the YAML nests them. An entry is a mapping without what is as it
would be anyway, so that two say the same exactly where they are equal.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeAlias

from pydantic import ValidationError

from gateway.errors import Conflict, Invalid
from gateway.store import problems
from gateway.store.document import Document
from gateway.store.documents import (
    AppEntry,
    GatewayDocument,
    InterceptionDocument,
    LimitDocument,
    PriceDocument,
    ProviderDocument,
    RouteDocument,
    TeamEntry,
)
from gateway.store.problems import Path, Problem
from gateway.store.upstream_documents import proxy_from_text


class EntryId(NamedTuple):
    kind: str
    """As messages and the audit log write it: `provider`, `route`, `team`, `app`, `key`, `price`, `limit`,
    `interception rule`."""
    name: str


Entry: TypeAlias = dict[str, Any]
Entries: TypeAlias = dict[EntryId, Entry]

_SECTIONS: Final[Mapping[str, str]] = {
    "providers": "provider",
    "routes": "route",
    "prices": "price",
    "limits": "limit",
    "interception": "interception rule",
}
_DOCUMENTS: Final[Mapping[str, type[Document]]] = {
    "provider": ProviderDocument,
    "route": RouteDocument,
    "team": TeamEntry,
    "app": AppEntry,
    "price": PriceDocument,
    "limit": LimitDocument,
    "interception rule": InterceptionDocument,
}
KINDS: Final = ("provider", "route", "team", "app", "key", "price", "limit", "interception rule")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflicting:
    """What two have changed in different ways. None: the entry or the field is not there."""

    kind: str
    name: str
    field: str | None
    """None: the one has removed the entry, the other has changed it."""
    base: Any
    mine: Any
    theirs: Any


def entries_of(document: GatewayDocument) -> Entries:
    """With secrets as they are written: the caller sees to it that they are references."""
    found: Entries = {}
    values = document.model_dump(mode="json", exclude_defaults=True)
    _open_secrets(document, values)
    for section in ("providers", "routes"):
        _put(found, section, values)
    for team in values.get("teams", ()):
        found[EntryId("team", team["name"])] = {"name": team["name"]}
        for app in team.get("apps") or ():
            keys = app.pop("keys", None) or ()
            found[EntryId("app", app["name"])] = {**app, "team": team["name"]}
            for key in keys:
                found[EntryId("key", f"{app['name']}/{key['name']}")] = {**key, "app": app["name"]}
    for limit, wanted in zip(values.get("limits", ()), document.limits, strict=True):
        amount = wanted.at_most
        limit["at_most"] = int(amount) if amount % 1 == 0 else float(amount)
    for section in ("prices", "limits", "interception"):
        _put(found, section, values)
    return found


def values_of(entries: Entries) -> dict[str, Any]:
    """The document again. Raises Conflict where an app or key has lost what it belongs to."""
    values: dict[str, Any] = {}
    teams: dict[str, Entry] = {}
    apps: dict[str, Entry] = {}
    kinds = {kind: section for section, kind in _SECTIONS.items()}
    for (kind, name), entry in sorted(entries.items(), key=lambda item: KINDS.index(item[0].kind)):
        if kind in kinds:
            values.setdefault(kinds[kind], []).append(entry)
        elif kind == "team":
            teams[name] = dict(entry)
            values.setdefault("teams", []).append(teams[name])
        elif kind == "app":
            apps[name] = {field: value for field, value in entry.items() if field != "team"}
            _owner(teams, "app", name, "team", entry).setdefault("apps", []).append(apps[name])
        else:
            key = {field: value for field, value in entry.items() if field != "app"}
            _owner(apps, "key", name, "app", entry).setdefault("keys", []).append(key)
    return values


def name_of(kind: str, entry: Mapping[str, Any]) -> str:
    """The name that an entry goes by."""
    if kind == "price":
        return f"{entry.get('provider')}/{entry.get('model', '*')}"
    return f"{entry.get('app')}/{entry.get('name')}" if kind == "key" else str(entry.get("name"))


def checked(entry_id: EntryId, wanted: Entry) -> Entry:
    """An entry that somebody wrote, in the form of `entries_of`. Raises Invalid, which names the entry's own fields."""
    model = _DOCUMENTS[entry_id.kind]
    try:
        model.model_validate(wanted)
    except ValidationError as error:
        raise problems.invalid(problems.from_validation(error, model), _subject(entry_id)) from None
    if isinstance(wanted.get("proxy"), str):
        parts = proxy_from_text(wanted["proxy"])
        return {**wanted, "proxy": {name: part for name, part in parts.items() if part is not None}}
    return wanted


def own_problems(error: Invalid, entry_id: EntryId, entries: Entries) -> Invalid:
    """What is wrong with the document of `entries` by the fields of one entry, where all of it is in that entry."""
    path = _path_of(entry_id, entries)
    found = problems.of_error(error)
    if any(each.path[: len(path)] != path for each in found):
        return error
    own = [Problem(each.path[len(path) :], each.problem, each.remedy) for each in found]
    return problems.invalid(own, _subject(entry_id))


def _path_of(entry_id: EntryId, entries: Entries) -> Path:
    """Where `values_of` puts an entry."""
    kind, name = entry_id
    if kind == "app":
        team = entries[entry_id]["team"]
        siblings = [each.name for each, entry in entries.items() if each.kind == kind and entry["team"] == team]
        return (*_path_of(EntryId("team", team), entries), "apps", siblings.index(name))
    section = next((section for section, of in _SECTIONS.items() if of == kind), "teams")
    return (section, [each.name for each in entries if each.kind == kind].index(name))


def _subject(entry_id: EntryId) -> str:
    return f"{entry_id.kind} {entry_id.name!r}"


def merge(base: Entries, mine: Entries, theirs: Entries) -> tuple[Entries, list[Conflicting]]:
    """Both changes of `base` in one, field by field; where they contradict each other, mine, and the contradiction."""
    merged: Entries = {}
    conflicts: list[Conflicting] = []
    for entry_id in dict.fromkeys((*theirs, *mine, *base)):
        before, my, their = base.get(entry_id), mine.get(entry_id), theirs.get(entry_id)
        if my == before:
            chosen = their
        elif (before in (their, None) and their in (before, None)) or my == their:
            chosen = my
        elif my is None or their is None:
            conflicts.append(_conflict(entry_id, None, before, my, their))
            chosen = my
        else:
            chosen = {}
            for field in dict.fromkeys((*their, *my, *(before or {}))):
                _merge_field(entry_id, field, (before or {}, my, their), chosen, conflicts)
        if chosen is not None:
            merged[entry_id] = chosen
    return merged, conflicts


def _merge_field(
    entry_id: EntryId, field: str, three: tuple[Entry, Entry, Entry], chosen: Entry, conflicts: list[Conflicting]
) -> None:
    before, my, their = (entry.get(field) for entry in three)
    value = their if my == before else my
    if before not in (my, their) and my != their:
        conflicts.append(_conflict(entry_id, field, before, my, their))
    if value is not None:
        chosen[field] = value


def _conflict(entry_id: EntryId, field: str | None, before: Any, my: Any, their: Any) -> Conflicting:
    return Conflicting(kind=entry_id.kind, name=entry_id.name, field=field, base=before, mine=my, theirs=their)


def keep_secrets(mine: Entries, present: Entries) -> None:
    """Where `mine` leaves a secret out, the one that is there stays: it says so by the same reference. A secret goes
    with what it belongs to."""
    for entry_id, entry in mine.items():
        before = present.get(entry_id)
        if before is None:
            continue
        if entry_id.kind == "key" and "value" in before:
            entry.setdefault("value", before["value"])
        if entry_id.kind == "provider":
            stored = {each["name"]: each["value"] for each in before.get("credentials", ()) if "value" in each}
            for each in entry.get("credentials", ()):
                if each["name"] in stored:
                    each.setdefault("value", stored[each["name"]])
            for part, owner, field in (("proxy", "user", "password"), ("tls", "cert", "key")):
                if owner in entry.get(part, {}) and field in before.get(part, {}):
                    entry[part].setdefault(field, before[part][field])


def secrets_in(entries: Entries) -> Iterator[tuple[Entry, str]]:
    """The mapping and field of each provider's secret that is written down."""
    for entry_id, entry in entries.items():
        if entry_id.kind != "provider":
            continue
        for holder, field in (
            *[(each, "value") for each in entry.get("credentials", ())],
            (entry.get("proxy", {}), "password"),
            (entry.get("tls", {}), "key"),
        ):
            if holder.get(field) is not None:
                yield holder, field


def _put(found: Entries, section: str, values: Mapping[str, Any]) -> None:
    kind = _SECTIONS[section]
    for entry in values.get(section, ()):
        found[EntryId(kind, name_of(kind, entry))] = entry


def _owner(owners: Mapping[str, Entry], kind: str, name: str, owner_kind: str, entry: Entry) -> Entry:
    owner = owners.get(entry[owner_kind])
    if owner is None:
        raise Conflict(
            f"the {kind} {name!r} belongs to the {owner_kind} {entry[owner_kind]!r}, which is not there (any more)",
            fix=f"remove the {kind}, too, or keep the {owner_kind}",
        )
    return owner


def _open_secrets(document: GatewayDocument, values: dict[str, Any]) -> None:
    """`model_dump` masks what a document holds as a secret: put the text back."""
    for provider, shown in zip(document.providers, values.get("providers", ()), strict=True):
        for credential, entry in zip(provider.credentials, shown.get("credentials", ()), strict=True):
            if credential.value is not None:
                entry["value"] = credential.value.get_secret_value()
        if provider.proxy is not None and provider.proxy.password is not None:
            shown["proxy"]["password"] = provider.proxy.password.get_secret_value()
        if provider.tls is not None and provider.tls.key is not None:
            shown["tls"]["key"] = provider.tls.key.get_secret_value()
    for team, shown_team in zip(document.teams, values.get("teams", ()), strict=True):
        for app, shown_app in zip(team.apps, shown_team.get("apps", ()) or (), strict=True):
            for key, shown_key in zip(app.keys, shown_app.get("keys", ()) or (), strict=True):
                if key.value is not None:
                    shown_key["value"] = key.value.get_secret_value()
