"""Names of what a team makes by itself, where the setting `team_names` wants them prefixed by the team's own.

Names of apps, users and tokens are one space for all teams: `exists already` tells whoever tries names there what
others have. So a team role then names nothing but `TEAM.REST`, and any other name is refused in the same words, whether
or not it is taken. What is refused within the team's part is the team's, or the platform's people gave it to others.
"""

from typing import Final

from sqlalchemy.orm import Session

from gateway.policy.roles import Authority
from gateway.store import problems
from gateway.store.models import NAME_LENGTH, Team

OF_TEAM: Final = "."
"""Stands between a team's name and the rest. A sign that names of teams seldom have: `ads.eu` would be within `ads`."""


def require_name_of_team(session: Session, authority: Authority, name: str, *, field: str, subject: str) -> None:
    """Of whoever gives the name. Raises Invalid."""
    if not authority.names_prefixed or authority.team_id is None:
        return
    mark = session.get_one(Team, authority.team_id).name + OF_TEAM
    if not name.startswith(mark):
        proposal = mark + name if len(mark) + len(name) <= NAME_LENGTH else f"{mark}…"
        remedy = f"call it {proposal}, or ask an operator"
        raise problems.refuse(field, "does not begin with your team's name", remedy, subject)
