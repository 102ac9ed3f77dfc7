"""The own account as a whole, and what its holder or an administrator takes from it."""

from collections.abc import Collection

from sqlalchemy import delete
from sqlalchemy.orm import Session

from gateway.errors import Conflict
from gateway.policy.roles import Authority, Role
from gateway.store import audit, factors, members, passwords, throttle
from gateway.store.account_documents import AccountView
from gateway.store.factors import Factors
from gateway.store.identity import GENERATED_PASSWORD_LENGTH, Caller, Method, end_sessions
from gateway.store.models import User
from gateway.store.scim_models import ScimMember, ScimUser
from gateway.store.sign_on_models import UserIdentity


def view(session: Session, caller: Caller, required_for: Collection[Role]) -> AccountView:
    """`required_for`: roles that take a second factor."""
    assert caller.user_id is not None
    user = session.get_one(User, caller.user_id)
    held = factors.held(session, caller.user_id)
    return AccountView(
        username=caller.name,
        role=caller.role,
        team=caller.team,
        managed=user.source is not None,
        has_password=user.password_hash is not None,
        totp=held.totp,
        passkeys=held.passkeys,
        recovery_codes=held.recovery_codes,
        second_factor_required=caller.role in required_for,
        method=caller.method or Method.PASSWORD,
    )


def require_local(session: Session, caller: Caller) -> None:
    """Before something is set up to sign in with. Raises Conflict where a provider manages the account: it would let
    nobody in."""
    assert caller.user_id is not None
    if session.get_one(User, caller.user_id).source is not None:
        raise Conflict(
            "this account signs in at its identity provider", fix="set up passwords and second factors there"
        )


def require_factor_left(session: Session, caller: Caller, required_for: Collection[Role]) -> None:
    """After a removal, before its commit. Raises Conflict where the role takes a second factor and none is left."""
    assert caller.user_id is not None
    if caller.role in required_for and not factors.held(session, caller.user_id).any:
        raise Conflict(
            f"the role {caller.role} takes a second factor, and this is the last one", fix="set up another one first"
        )


def reset_factors(session: Session, authority: Authority, reference: str) -> None:
    """Take every factor but the password from a user whose role the authority may hand on, and end their sessions.

    Raises NotFound; Conflict for oneself, who has a page of their own for it that asks for the password.
    """
    audit.lock(session)
    user = members.find_user(session, authority, reference)
    _refuse_oneself(authority, user)
    before = factors.remove_all(session, user.id)
    end_sessions(session, user.id)
    _note(session, authority.actor, "reset", user, before)


def end_sessions_of(session: Session, authority: Authority, reference: str) -> None:
    """Sign a user out everywhere. Raises as `reset_factors` does."""
    audit.lock(session)
    user = members.find_user(session, authority, reference)
    _refuse_oneself(authority, user)
    end_sessions(session, user.id)
    after = {"which": "all"}
    audit.record(session, actor=authority.actor, action="end", kind="session", name=user.name, after=after)


def break_glass(session: Session, user: User, actor: str) -> str:
    """Let a user in again, whatever has been lost: another password, which is returned; no second factor, no session,
    no wait after failures; enabled where it was not; no provider's and no directory's any more. For whoever holds the
    data folder. The caller holds `audit.lock`, and commits."""
    password = passwords.random_text(GENERATED_PASSWORD_LENGTH)
    user.password_hash = passwords.hash_password(password)
    user.disabled = False
    user.source = None  # whoever manages it may be what is lost
    for tie in (ScimMember, ScimUser, UserIdentity):
        session.execute(delete(tie).where(tie.user_id == user.id))
    session.flush()
    before = factors.remove_all(session, user.id)
    end_sessions(session, user.id)
    throttle.forget_all(session)
    _note(session, actor, "break-glass", user, before)
    return password


def _refuse_oneself(authority: Authority, user: User) -> None:
    if authority.actor == f"user:{user.name}":
        raise Conflict("this is your own account", fix="use /console/account")


def _note(session: Session, actor: str, action: str, user: User, before: Factors) -> None:
    had = {"totp": before.totp, "passkeys": before.passkeys, "recovery_codes": before.recovery_codes}
    audit.record(session, actor=actor, action=action, kind="factor", name=user.name, before=had)
