"""Sessions that a changed sign-on policy lets be no longer.

They end in the transaction of the change: the next request of each finds none, whichever worker it comes to.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import and_, delete, or_, select
from sqlalchemy.orm import Session

from gateway.policy.roles import Role
from gateway.policy.sign_on import Rule, admit
from gateway.store.accounts import Source
from gateway.store.identity import Method
from gateway.store.models import LoginSession, Team, User
from gateway.store.sign_on_models import SignOnSession, UserIdentity

AT_ONCE: Final = 500
"""Sessions of one statement: databases bound its parameters."""


def end_of_provider(session: Session, provider_id: int) -> None:
    """It is gone, disabled, or another one."""
    begun = select(SignOnSession.session_id).where(SignOnSession.provider_id == provider_id)
    session.execute(delete(LoginSession).where(LoginSession.id.in_(begun)))


def end_local(session: Session) -> None:
    """Passwords and passkeys are for owners only from now on."""
    others = select(User.id).where(User.role != Role.OWNER)
    local = or_(LoginSession.method.is_(None), LoginSession.method != Method.SIGN_ON)
    session.execute(delete(LoginSession).where(LoginSession.user_id.in_(others), local))


def end_unadmitted(session: Session, rules: Sequence[Rule]) -> None:
    """Of those whom the rules admit no more, or as something else: by the groups that the provider named when the
    session was begun. Their role is settled when they come again. (SCIM's users: `scim_admission`.)"""
    query = (
        select(LoginSession.id, UserIdentity.groups, User.role, Team.name)
        .join(SignOnSession, SignOnSession.session_id == LoginSession.id)
        .join(
            UserIdentity,
            and_(UserIdentity.provider_id == SignOnSession.provider_id, UserIdentity.user_id == LoginSession.user_id),
        )
        .join(User, User.id == LoginSession.user_id)
        .outerjoin(Team, Team.id == User.team_id)
        .where(User.source == Source.SIGN_ON)
    )
    gone = [
        session_id
        for session_id, groups, role, team in session.execute(query)
        if (rule := admit(groups, rules)) is None or (rule.role, rule.team) != (role, team)
    ]
    for place in range(0, len(gone), AT_ONCE):
        session.execute(delete(LoginSession).where(LoginSession.id.in_(gone[place : place + AT_ONCE])))
