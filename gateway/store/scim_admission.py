"""What SCIM's groups make of its users: role and team by the sign-on rules.

Whom no rule admits keeps the account, without a session and with no way in until a rule does (`sign_on_entry`): the
groups may be the provider's to say.
"""

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from gateway.policy.roles import Role
from gateway.policy.sign_on import Rule, admit
from gateway.store import audit, sign_on
from gateway.store.accounts import as_audited, require_another_owner, set_role
from gateway.store.identity import end_sessions
from gateway.store.models import User
from gateway.store.scim_groups import groups_of
from gateway.store.scim_models import ScimUser


def settle_all(session: Session, actor: str) -> None:
    """After the rules have changed. Raises OutcomeRefused where no owner would be left."""
    rules = sign_on.rules(session)
    for user_id in session.scalars(select(ScimUser.user_id).order_by(ScimUser.user_id)).all():
        settle(session, user_id, actor, rules)


def settle(session: Session, user_id: int, actor: str, rules: list[Rule] | None = None) -> bool:
    """Bring one user to what the client and the rules say; whether that changed them. Who is inactive, comes to another
    role or is admitted no more has no session left. Raises OutcomeRefused where no owner would be left."""
    user = session.scalars(select(User).where(User.id == user_id).options(joinedload(User.team))).one()
    active = session.get_one(ScimUser, user_id).active
    rule = admit(groups_of(session, user), rules if rules is not None else sign_on.rules(session))
    before = as_audited(user)
    if not active and not user.disabled and user.role == Role.OWNER:
        require_another_owner(session, user)
    user.disabled = not active
    if rule is not None:
        set_role(session, user, rule)
    after = as_audited(user)
    if rule is None or before != after:
        end_sessions(session, user.id)
    if before == after:
        return False
    session.flush()
    audit.record(session, actor=actor, action="update", kind="user", name=user.name, before=before, after=after)
    return True
