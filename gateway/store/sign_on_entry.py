"""Somebody comes from an identity provider: who they are here, as what they may come in, and their session.

A user is made at the first sign-in, and role and team are settled anew at each. Who is refused is told why. A local
account is never taken over by a name that a provider gives. Accounts that SCIM made are found once, by the directory's
provider, or where none is marked so by the only one that is enabled: another could name people of its own so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session, joinedload

from gateway.policy import sign_on as claims_policy
from gateway.policy.roles import Role
from gateway.policy.sign_on import Rule
from gateway.store import audit, login_sessions, sign_on
from gateway.store.accounts import OutcomeRefused, Source, as_audited, set_role
from gateway.store.identity import Method, end_sessions
from gateway.store.login_sessions import SignedIn, Visitor
from gateway.store.models import User
from gateway.store.scim_groups import groups_of
from gateway.store.scim_models import ScimUser
from gateway.store.sealing import Sealer
from gateway.store.sign_on import KnownProvider
from gateway.store.sign_on_models import SignOnProvider, SignOnSession, UserIdentity

ASK: Final = "ask an owner of this gateway"


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Who a provider says that somebody is."""

    subject: str
    name: str
    directory_name: str | None
    """As a directory's account has to be called to be theirs; None = none is."""
    email: str | None
    """Only where the provider calls it verified."""
    groups: tuple[str, ...]

    @classmethod
    def of(cls, claims: Mapping[str, Any], provider: KnownProvider) -> "Person":
        """`claims`: of a good ID token, with the userinfo's where the groups stand there."""
        return cls(
            subject=claims["sub"],
            name=claims_policy.name_in(claims, provider.name_claim),
            directory_name=claims_policy.directory_name_in(claims, provider.name_claim),
            email=claims_policy.directory_name_in(claims, "email"),
            groups=claims_policy.groups_in(claims, provider.groups_claim) or (),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why somebody whom the provider knows does not come in."""

    code: str
    reason: str
    fix: str


def enter(
    session: Session,
    sealer: Sealer,
    provider: KnownProvider,
    person: Person,
    id_token: str,
    visitor: Visitor,
    at: datetime,
) -> SignedIn | Refusal:
    """A new session, or why not; either is audited. The caller commits. Raises NotFound where the provider has been
    removed, disabled or made another one meanwhile."""
    audit.come_from(session, visitor.address)
    audit.lock(session)  # two first sign-ins of one person at once make one user
    sign_on.require_unchanged(session, provider)
    identity = _identity(session, provider, person)
    user = identity.user if identity is not None else _provisioned(session, provider, person)
    groups = set(person.groups) if user is None else groups_of(session, user, person.groups)
    rule = claims_policy.admit(groups, sign_on.rules(session))
    refusal = _refusal(session, provider, person, user, rule)
    if refusal is None and rule is not None:
        try:
            user = _admitted(session, provider, person, user, rule)
        except OutcomeRefused as error:
            refusal = Refusal(code="last_owner", reason=error.message, fix=error.fix)
    if refusal is not None or user is None:
        assert refusal is not None
        _note_refusal(session, provider, person, user, refusal, visitor)
        return refusal
    if identity is None:
        identity = UserIdentity(provider_id=provider.id, subject=person.subject, user_id=user.id)
        session.add(identity)
        if user.source == Source.SCIM:
            audit.record(
                session, actor=f"sign-on:{provider.name}", action="link", kind="user", name=user.name,
                after={"provider": provider.name, "subject": person.subject},
            )  # fmt: skip
    identity.groups, identity.seen_at = sorted(set(person.groups)), at
    session.flush()
    signed_in = login_sessions.begin(session, user, Method.SIGN_ON, visitor, at)
    assert signed_in.caller.session_id is not None
    begun = SignOnSession(session_id=signed_in.caller.session_id, provider_id=provider.id)
    sealer.seal_row(begun, id_token)
    session.add(begun)
    session.flush()
    return signed_in


def _identity(session: Session, provider: KnownProvider, person: Person) -> UserIdentity | None:
    query = select(UserIdentity).where(UserIdentity.provider_id == provider.id, UserIdentity.subject == person.subject)
    return session.scalars(query.options(joinedload(UserIdentity.user).joinedload(User.team))).one_or_none()


def _provisioned(session: Session, provider: KnownProvider, person: Person) -> User | None:
    """The account that SCIM made for them, where nobody has come to it yet.

    The directory's own provider may know it by what the directory calls them (`externalId` is the subject: Okta), or by
    a verified address; one that is merely the only one, by just its name.
    """
    accounts = select(User).join(ScimUser, ScimUser.user_id == User.id).where(User.source == Source.SCIM)
    ways: list[ColumnElement[bool]] = []
    if provider.provisions:
        ways.append(ScimUser.external_id == person.subject)
    elif not _is_the_only_one(session):
        return None
    if person.directory_name is not None:
        ways.append(User.name == person.directory_name)
    if provider.provisions and person.email is not None:
        ways.append(func.lower(User.name) == person.email.lower())
    free = User.id.not_in(select(UserIdentity.user_id))
    for way in ways:
        found = session.scalars(accounts.where(way, free).options(joinedload(User.team)).limit(2)).all()
        if len(found) == 1:
            return found[0]
    return None


def _is_the_only_one(session: Session) -> bool:
    """Whether there is one provider enabled, and none marked as the directory's."""
    if session.scalar(select(SignOnProvider.id).where(SignOnProvider.provisions).limit(1)) is not None:
        return False
    return session.scalar(select(func.count()).select_from(SignOnProvider).where(SignOnProvider.enabled)) == 1


def _refusal(
    session: Session, provider: KnownProvider, person: Person, user: User | None, rule: Rule | None
) -> Refusal | None:
    if rule is None:
        held = ", ".join(sorted(person.groups)[:20]) or "none"
        return Refusal(
            code="not_admitted",
            reason=f"{provider.label} knows you as {person.name}, but none of your groups may use this gateway "
            f"(groups that it names: {held})",
            fix=f"{ASK} to let one of them in, or to put you into one that is",
        )
    if user is not None:
        if not user.disabled:
            return None
        return Refusal(code="disabled", reason=f"the account {user.name} is disabled here", fix=ASK)
    present = session.execute(select(User.source).where(User.name == person.name)).one_or_none()
    if present is not None and present.source == Source.SCIM:
        return Refusal(
            code="name_taken",
            reason=f"there is an account {person.name} of the directory's, and it is not certain that it is yours",
            fix=f"{ASK}: such an account goes to the first who comes by the directory's provider (the one marked so, "
            f"else the only one that is enabled) with just this name in its claim {provider.name_claim} (an address "
            "only if verified)",
        )
    if present is not None:
        return Refusal(
            code="name_taken",
            reason=f"there is an account {person.name} here already, which is not {provider.label}'s",
            fix=f"{ASK} to rename or to remove it; you get one of your own then",
        )
    return None


def _admitted(session: Session, provider: KnownProvider, person: Person, user: User | None, rule: Rule) -> User:
    """The user with the role that the rule says; made where there is none. Raises OutcomeRefused."""
    actor = f"sign-on:{provider.name}"
    if user is None:
        user = User(name=person.name, role=Role.TEAM_MEMBER, password_hash=None, disabled=False, source=Source.SIGN_ON)
        set_role(session, user, rule)
        session.add(user)
        session.flush()
        audit.record(session, actor=actor, action="create", kind="user", name=user.name, after=as_audited(user))
        return user
    before = as_audited(user)
    if set_role(session, user, rule):
        session.flush()
        end_sessions(session, user.id)
        audit.record(
            session, actor=actor, action="update", kind="user", name=user.name, before=before, after=as_audited(user)
        )
    return user


def _note_refusal(
    session: Session, provider: KnownProvider, person: Person, user: User | None, refusal: Refusal, visitor: Visitor
) -> None:
    """Whom the provider's groups admit no more has no session either."""
    if user is not None:
        end_sessions(session, user.id)
    after = {"provider": provider.name, "person": person.name, "reason": refusal.code}
    actor = f"user:{user.name}" if user is not None else f"sign-on:{provider.name}"
    audit.record(session, actor=actor, action="refuse", kind="session", name=visitor.address, after=after)
