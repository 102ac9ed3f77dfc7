"""What a limit's scope names: names outside, rows within."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from gateway.errors import Invalid
from gateway.store import problems
from gateway.store.documents import ScopeDocument
from gateway.store.models import App, Credential, Key, LimitRule, Provider, Route, Team

Named = TypeVar("Named", Team, App, Route, Provider)
Part = TypeVar("Part", Key, Credential)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeRows:
    """The rows that a scope's names stand for; None = not narrowed by it."""

    team: Team | None
    app: App | None
    key: Key | None
    route: Route | None
    provider: Provider | None
    credential: Credential | None
    target_provider: Provider | None
    target_model: str | None
    model: str | None

    @classmethod
    def of(cls, row: LimitRule) -> "ScopeRows":
        return cls(
            team=row.team,
            app=row.app,
            key=row.key,
            route=row.route,
            provider=row.provider,
            credential=row.credential,
            target_provider=row.target_provider,
            target_model=row.target_model,
            model=row.model,
        )

    def document(self) -> ScopeDocument:
        """The names, unambiguous."""
        target = self.target_provider.name if self.target_provider else None
        return ScopeDocument.model_construct(
            team=self.team.name if self.team else None,
            app=self.app.name if self.app else None,
            key=f"{self.key.app.name}/{self.key.name}" if self.key else None,
            route=self.route.name if self.route else None,
            provider=self.provider.name if self.provider else None,
            credential=f"{self.credential.provider.name}/{self.credential.name}" if self.credential else None,
            target=f"{target}/{self.target_model}" if self.target_model else target,
            model=self.model,
        )


def resolve(session: Session, scope: ScopeDocument, subject: str) -> ScopeRows:
    """Raises Invalid with every name that stands for nothing, or for more than one thing."""
    names = _Names(session, scope)
    found = ScopeRows(
        team=names.whole("team", Team, scope.team),
        app=names.whole("app", App, scope.app),
        key=names.key(),
        route=names.whole("route", Route, scope.route),
        provider=names.whole("provider", Provider, scope.provider),
        credential=names.credential(),
        target_provider=names.whole("target", Provider, scope.target.partition("/")[0] if scope.target else None),
        target_model=(scope.target.partition("/")[2] or None) if scope.target else None,
        model=scope.model,
    )
    if names.wrong:
        raise names.error(subject)
    return found


class _Names:
    """Looks names up and collects what is wrong with them."""

    def __init__(self, session: Session, scope: ScopeDocument) -> None:
        self.wrong: list[problems.Problem] = []
        self._session = session
        self._scope = scope

    def error(self, subject: str) -> Invalid:
        return problems.invalid(self.wrong, subject)

    def whole(self, field: str, kind: type[Named], name: str | None) -> Named | None:
        if name is None:
            return None
        found: Named | None = self._session.scalars(select(kind).where(kind.name == name)).one_or_none()
        if found is None:
            self._missing(field, kind.__name__.lower(), name)
        return found

    def key(self) -> Key | None:
        wanted = self._scope.key
        if wanted is None:
            return None
        owner, _, name = wanted.rpartition("/")
        owner = owner or self._scope.app or ""
        query = select(Key).join(App).options(joinedload(Key.app)).where(Key.name == name).order_by(App.name).limit(2)
        found = self._session.scalars(query.where(App.name == owner) if owner else query).all()
        return self._only("key", wanted, found, [each.app.name for each in found])

    def credential(self) -> Credential | None:
        wanted = self._scope.credential
        if wanted is None:
            return None
        owner, _, name = wanted.rpartition("/")
        owner = owner or self._scope.provider or ""
        query = select(Credential).join(Provider).options(joinedload(Credential.provider))
        query = query.where(Credential.name == name).order_by(Provider.name).limit(2)
        found = self._session.scalars(query.where(Provider.name == owner) if owner else query).all()
        return self._only("credential", wanted, found, [each.provider.name for each in found])

    def _only(self, field: str, wanted: str, found: Sequence[Part], owners: list[str]) -> Part | None:
        if len(found) == 1:
            return found[0]
        if found:
            name = wanted.rpartition("/")[2]
            problem = f"is ambiguous: {owners[0]} and {owners[1]} have a {field} {name!r}"
            self.wrong.append(problems.Problem(("scope", field), problem, f"write `{owners[0]}/{name}`"))
        else:
            self._missing(field, field, wanted)
        return None

    def _missing(self, field: str, kind: str, name: str) -> None:
        problem, remedy = f"names no {kind}: {name!r}", f"create the {kind} first, or correct the name"
        self.wrong.append(problems.Problem(("scope", field), problem, remedy))
