"""Bring the configuration to what a sluicegate.yaml says: all of it in the caller's transaction, or nothing.

What a document nests (targets, credentials) is replaced. Whole entries that the document does not name stay, unless
`prune`; then the document is the whole configuration, and a section left out is an empty one. A plan is the execution
itself, rolled back: what a dry run prints is what a run does.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import ValidationError
from sqlalchemy import delete

from gateway.errors import Conflict, Invalid, SluicegateError
from gateway.store import problems
from gateway.store.config import Apps, InterceptionRules, Keys, Limits, Prices, Providers, Routes, Teams
from gateway.store.config.editing import Change, Collection, Editing
from gateway.store.document import Document
from gateway.store.documents import AppEntry, GatewayDocument, KeyEntry, ProviderDocument, TeamEntry
from gateway.store.export import export
from gateway.store.models import AppRoute, Entity
from gateway.store.portal_models import AccessRequestRoute
from gateway.store.problems import Path, Problem
from gateway.store.views import EntityView
from gateway.store.yaml_source import Located, Source, refusal

__all__ = ["Applied", "MadeKey", "apply", "export", "rehearse", "validated"]

Row = TypeVar("Row", bound=Entity)
Wanted = TypeVar("Wanted", bound=Document)
Shown = TypeVar("Shown", bound=EntityView)
Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True)
class MadeKey:
    app: str
    name: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Applied:
    changes: Sequence[Change]
    keys: Sequence[MadeKey]
    """Keys that were made because the document gave them no value: shown this once. None in a dry run."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """A wanted thing and where the document names it."""

    path: Path
    wanted: Any


def apply(
    editing: Editing,
    text: str,
    *,
    file: str,
    environment: Mapping[str, str],
    dry_run: bool = False,
    prune: bool = False,
) -> Applied:
    """Apply a document. `environment`: whose `${NAME}` it may name: of a command the caller's own, over the network
    none. Raises Invalid with every problem's file, line, field and remedy; the session must then be rolled back.
    """
    if dry_run:
        done, _ = rehearse(editing, text, file=file, environment=environment, prune=prune, look=lambda: None)
        return Applied(done.changes, ())
    source = Source(text, file=file, environment=environment)
    document = validated(source)
    editing.lock()
    return _Run(editing, source, document, prune=prune).run()


def rehearse(
    editing: Editing,
    text: str,
    *,
    file: str,
    environment: Mapping[str, str],
    prune: bool,
    look: Callable[[], Seen],
) -> tuple[Applied, Seen]:
    """Apply a document, let `look` see what the configuration then is, and undo it. Raises Invalid as `apply` does."""
    source = Source(text, file=file, environment=environment)
    document = validated(source)
    editing.lock()
    present, written = dict(editing.session.info), len(editing.journal)
    with editing.session.begin_nested() as savepoint:
        try:
            done = _Run(editing, source, document, prune=prune).run()
            seen = look()
        finally:
            savepoint.rollback()
            editing.session.info.clear()
            editing.session.info.update(present)
    del editing.journal[written:]
    return done, seen


def validated(source: Source) -> GatewayDocument:
    """The document that a file holds. Raises Invalid with every problem's line."""
    try:
        document = GatewayDocument.model_validate(source.values)
    except ValidationError as error:
        found = problems.from_validation(error, GatewayDocument)
        raise refusal([source.locate(each) for each in found]) from None
    repeated = [source.locate(each) for each in _repeated(document)]
    if repeated:
        raise refusal(repeated)
    return document


def _repeated(document: GatewayDocument) -> Iterable[Problem]:
    """Names that stand twice where they must be unique."""
    sections: list[list[_Entry]] = [
        [_Entry(("providers", place), each.name) for place, each in enumerate(document.providers)],
        [_Entry(("routes", place), each.name) for place, each in enumerate(document.routes)],
        [_Entry(("teams", place), each.name) for place, each in enumerate(document.teams)],
        [_Entry(entry.path, entry.wanted.name) for entry in _apps(document)],
        [_Entry(("prices", place), f"{each.provider}/{each.model}") for place, each in enumerate(document.prices)],
        [_Entry(("limits", place), each.name) for place, each in enumerate(document.limits)],
        [_Entry(("interception", place), each.name) for place, each in enumerate(document.interception)],
    ]
    for section in sections:
        seen: set[str] = set()
        for entry in section:
            if entry.wanted in seen:
                yield Problem(entry.path, f"{entry.wanted!r} stands twice", "give each its own name, or remove one")
            seen.add(entry.wanted)


def _apps(document: GatewayDocument) -> list[_Entry]:
    return [
        _Entry(
            ("teams", team_place, "apps", place),
            AppEntry.model_construct(
                team=team.name, name=app.name, routes=app.routes, cors=app.cors, egress=app.egress, sources=app.sources
            ),
        )
        for team_place, team in enumerate(document.teams)
        for place, app in enumerate(team.apps)
    ]


def _keys(document: GatewayDocument) -> list[_Entry]:
    return [
        _Entry(
            ("teams", team_place, "apps", app_place, "keys", place),
            KeyEntry.model_construct(app=app.name, name=key.name, value=key.value, expires_at=key.expires_at),
        )
        for team_place, team in enumerate(document.teams)
        for app_place, app in enumerate(team.apps)
        for place, key in enumerate(app.keys)
    ]


class _Run:
    """One execution of a document."""

    def __init__(self, editing: Editing, source: Source, document: GatewayDocument, *, prune: bool) -> None:
        self._editing = editing
        self._source = source
        self._document = document
        self._prune = prune
        self._first_change = len(editing.journal)
        self._wrong: list[Located] = []
        self._consequences: set[str] = set()
        self._made: list[MadeKey] = []

    def run(self) -> Applied:
        document, edit = self._document, self._editing
        routes = _placed("routes", document.routes)
        prices = _placed("prices", document.prices)
        limits = _placed("limits", document.limits)
        rules = _placed("interception", document.interception)
        providers = _placed("providers", document.providers)
        teams = [
            _Entry(("teams", place), TeamEntry.model_construct(name=each.name))
            for place, each in enumerate(document.teams)
        ]
        apps, keys = _apps(document), _keys(document)
        if self._prune:  # what others refer to goes last, what would be in the way of a new entry first
            self._remove_all(InterceptionRules(edit), rules)
            self._remove_all(Limits(edit), limits)
            self._remove_all(Prices(edit), prices)
            self._remove_all(Keys(edit), keys)
            self._remove_all(Routes(edit), routes, self._take_from_apps)
        self._put_all(Providers(edit), providers)
        self._put_all(Teams(edit), teams)
        self._put_all(Routes(edit), routes)
        self._put_all(Apps(edit), apps)
        self._put_keys(keys)
        self._put_all(Prices(edit), prices)
        self._put_all(Limits(edit), limits)
        self._put_all(InterceptionRules(edit), rules)
        if self._prune:
            self._remove_all(Apps(edit), apps)
            self._remove_all(Teams(edit), teams)
            self._remove_all(Providers(edit), providers)
        if self._wrong:
            raise refusal(self._wrong)
        return Applied(tuple(edit.journal[self._first_change :]), self._made)

    def _put_all(self, collection: Collection[Row, Wanted, Shown], entries: Iterable[_Entry]) -> None:
        present = {collection.name_of(row): row for row in collection.rows()}
        for entry in entries:
            self._try(entry, collection, lambda row, wanted: _put(collection, row, wanted), present)

    def _put_keys(self, entries: Iterable[_Entry]) -> None:
        collection = Keys(self._editing)

        def put(row: Any, wanted: KeyEntry) -> None:
            if row is not None:
                collection.change(row, wanted)
                return
            _, text = collection.make(wanted)
            if text is not None:
                self._made.append(MadeKey(wanted.app, wanted.name, text))

        present = {collection.name_of(row): row for row in collection.rows()}
        for entry in entries:
            self._try(entry, collection, put, present)

    def _try(
        self,
        entry: _Entry,
        collection: Collection[Row, Wanted, Shown],
        put: Callable[[Row | None, Wanted], None],
        present: Mapping[str, Row],
    ) -> None:
        """Put one entry; what is wrong with it is noted, so that all is told at once."""
        name = collection.name_in(entry.wanted)
        try:
            put(present.get(name), entry.wanted)
        except Invalid as error:
            found = [each for each in problems.of_error(error) if each.problem not in self._consequences]
            self._wrong += [self._source.locate(each.within(*entry.path)) for each in found]
            self._expect_consequences(collection.kind, entry.wanted, name)
        except SluicegateError as error:
            self._wrong.append(self._source.locate(Problem(entry.path, error.message, error.fix)))
            self._expect_consequences(collection.kind, entry.wanted, name)

    def _expect_consequences(self, kind: str, wanted: Document, name: str) -> None:
        """What names the entry that failed will not find it: that is no fault of its own."""
        missing = [(kind, name), (kind, name.rpartition("/")[2])]
        if isinstance(wanted, ProviderDocument):
            for each in wanted.credentials:
                missing += [("credential", each.name), ("credential", f"{name}/{each.name}")]
        self._consequences |= {f"names no {what}: {called!r}" for what, called in missing}

    def _remove_all(
        self,
        collection: Collection[Row, Wanted, Shown],
        entries: Iterable[_Entry],
        prepare: Callable[[Row], None] | None = None,
    ) -> None:
        """Remove what the document does not name."""
        named = {collection.name_in(entry.wanted) for entry in entries}
        for row in collection.rows():
            if collection.name_of(row) in named:
                continue
            try:
                if prepare is not None:
                    prepare(row)
                else:
                    collection.refuse_deletion(row)
            except Conflict as error:
                self._wrong.append(self._source.locate(Problem((), error.message, error.fix)))
            else:
                collection.remove(row)

    def _take_from_apps(self, route: Entity) -> None:
        """Apps that the document names lose the route; if it still lists it for one, that is found when it is put."""
        self._editing.session.execute(delete(AppRoute).where(AppRoute.route_id == route.id))
        self._editing.session.execute(delete(AccessRequestRoute).where(AccessRequestRoute.route_id == route.id))


def _put(collection: Collection[Row, Wanted, Shown], row: Row | None, wanted: Wanted) -> None:
    if row is None:
        collection.add(wanted)
    else:
        collection.change(row, wanted)


def _placed(section: str, documents: Sequence[Document]) -> list[_Entry]:
    return [_Entry((section, place), each) for place, each in enumerate(documents)]
