"""Accounts that others manage (an identity provider, SCIM): where they come from, and their role by the mapping."""

from enum import StrEnum
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.errors import Conflict
from gateway.policy.roles import Role
from gateway.policy.sign_on import Rule
from gateway.store.models import Team, User


class Source(StrEnum):
    """Who manages an account. In the database null is `local`."""

    LOCAL = "local"
    SIGN_ON = "sign-on"
    SCIM = "scim"


class OutcomeRefused(Conflict):
    """What the mapping says cannot be: no owner would be left."""

    code = "last_owner"


def set_role(session: Session, user: User, rule: Rule) -> bool:
    """Give a user the role and team of a rule. Whether that changed anything. Raises OutcomeRefused; `user` with its
    team loaded, or new."""
    team = None if rule.team is None else session.scalars(select(Team).where(Team.name == rule.team)).one()
    team_id = None if team is None else team.id
    if (user.role, user.team_id) == (rule.role, team_id):
        return False
    if user.role == Role.OWNER and rule.role is not Role.OWNER and not user.disabled:
        require_another_owner(session, user)
    user.role, user.team, user.team_id = rule.role, team, team_id
    return True


def require_another_owner(session: Session, user: User) -> None:
    """Raises OutcomeRefused where nobody but `user` is an owner. Locks them, so that two cannot go at once."""
    owners = select(User.id).where(User.role == Role.OWNER, ~User.disabled).order_by(User.id).with_for_update()
    if set(session.scalars(owners)) <= {user.id}:
        raise OutcomeRefused(f"{user.name!r} is the last owner", fix="make another owner first")


def as_audited(user: User) -> dict[str, Any]:
    """`user` with its team loaded."""
    return {
        "name": user.name,
        "role": user.role,
        "team": user.team.name if user.team is not None else None,
        "disabled": user.disabled,
        "source": user.source or Source.LOCAL,
    }
