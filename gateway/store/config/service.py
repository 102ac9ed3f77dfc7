"""A route's `service` between its document (teams by name) and its row (teams by id, which outlive a renaming)."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.store import problems
from gateway.store.models import Route, Team
from gateway.store.service_documents import ServiceDocument
from gateway.store.views import ServiceView


class ServiceTeams:
    """Names of teams by id and the other way round, read at first need: most routes are for all."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._names: Mapping[int, str] | None = None

    def names(self, ids: Iterable[int]) -> list[str]:
        """Of those that are there still."""
        if self._names is None:
            rows = self._session.execute(select(Team.id, Team.name))
            self._names = {row.id: row.name for row in rows}
        return sorted(self._names[each] for each in ids if each in self._names)

    def ids(self, names: Iterable[str], subject: str) -> list[int]:
        """Raises Invalid for a team that is not there."""
        wanted = list(names)
        found = {
            name: id_ for id_, name in self._session.execute(select(Team.id, Team.name).where(Team.name.in_(wanted)))
        }
        for place, name in enumerate(wanted):
            if name not in found:
                raise problems.refuse(
                    f"service.teams.{place}", f"names no team: {name!r}", "GET /api/v1/teams lists them", subject
                )
        return sorted(found.values())


def service_of(row: Route, teams: ServiceTeams) -> ServiceDocument:
    if row.service is None:
        return ServiceDocument()
    stored = dict(row.service)
    ids = stored.pop("teams")
    return ServiceDocument.model_validate({**stored, "teams": None if ids is None else teams.names(ids)})


def stored_service(wanted: ServiceDocument, teams: ServiceTeams, subject: str) -> dict[str, Any] | None:
    """What the row keeps. Raises Invalid for a team that is not there."""
    if wanted == ServiceDocument():
        return None
    ids = None if wanted.teams is None else teams.ids(wanted.teams, subject)
    return {**wanted.model_dump(mode="json"), "teams": ids}


def service_view(row: Route, teams: ServiceTeams, team_id: int | None) -> ServiceView:
    """As a caller of this team (None: of the platform) may see it."""
    document = service_of(row, teams)
    shown = document.teams
    if shown is not None and team_id is not None:
        shown = teams.names({team_id} & set((row.service or {})["teams"]))
    return ServiceView(**document.model_dump(exclude={"teams"}), teams=shown)
