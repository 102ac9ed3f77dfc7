"""Users and tokens: made, changed and removed by those who may hand on the role in question.

Every function takes the `Authority` in whose name it acts. What lies beyond it does not exist (NotFound); handing on a
role that it may not is Forbidden. The last owner who can sign in cannot be removed, demoted or disabled. Each change is
audited in the caller's transaction, which waits for its turn first (`audit.lock`); none touches what a snapshot is
made of.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, joinedload

from gateway.errors import Conflict, Forbidden, Invalid, NotFound, PreconditionFailed
from gateway.policy.roles import GRANTABLE, TEAM_ROLES, Authority, Permission, Role, effective
from gateway.store import audit, factors, login_sessions, passwords, sign_on
from gateway.store.accounts import Source
from gateway.store.identity import GENERATED_PASSWORD_LENGTH, end_sessions
from gateway.store.member_documents import (
    TokenCreated,
    TokenDocument,
    TokenPatch,
    TokenView,
    UserCreated,
    UserDocument,
    UserPatch,
    UserView,
)
from gateway.store.models import Team, Token, User, now
from gateway.store.scim_models import ScimUser
from gateway.store.team_names import require_name_of_team

TOKEN_MARK: Final = "sgt_"  # noqa: S105  how a token begins, not a secret
TOKEN_LENGTH: Final = 40
PREFIX_LENGTH: Final = 8
NOT_AUDITED: Final = {
    "id", "created_at", "updated_at", "version", "totp", "passkeys", "sessions", "last_sign_in_at",
}  # fmt: skip
"""Of a view: what no change of a member changes."""

Member = TypeVar("Member", User, Token)


# ---- users


def list_users(session: Session, authority: Authority, *, after_id: int, limit: int) -> list[UserView]:
    return _user_views(session, session.scalars(_visible(User, authority, after_id).limit(limit)).all())


def get_user(session: Session, authority: Authority, reference: str) -> UserView:
    return _user_view(session, find_user(session, authority, reference))


def create_user(session: Session, authority: Authority, wanted: UserDocument) -> UserCreated:
    """Raises Conflict where the name is taken, Invalid where it is not one that the authority may give."""
    audit.lock(session)
    team = _team_for(session, authority, wanted.role, wanted.team)
    _require_free_name(session, authority, User, wanted.name)
    made = None if wanted.password else passwords.random_text(GENERATED_PASSWORD_LENGTH)
    password = wanted.password.get_secret_value() if wanted.password else made
    assert password is not None
    passwords.require_good_password(password, wanted.name)
    user = User(
        name=wanted.name,
        role=wanted.role,
        team=team,
        password_hash=passwords.hash_password(password),
        disabled=wanted.disabled,
    )
    session.add(user)
    session.flush()
    view = _user_view(session, user)
    _audit(session, authority, "create", "user", view.name, after=view)
    return UserCreated(**view.model_dump(), password=made)


def update_user(
    session: Session, authority: Authority, reference: str, patch: UserPatch, expected_version: int | None
) -> UserView:
    """A new role, password or a disabling ends the user's sessions. Raises Conflict for one's own password, which takes
    the present one."""
    audit.lock(session)
    user = find_user(session, authority, reference)
    _require_version(user, expected_version)
    if patch.password is not None and authority.actor == f"user:{user.name}":
        raise Conflict("this is your own password", fix="change it under /console/account")
    before = _user_view(session, user)
    changed = patch.model_fields_set
    if before.source is not Source.LOCAL:
        _require_ours(before, patch)
        if before.source is Source.SCIM and patch.disabled is not None:
            said = session.get_one(ScimUser, user.id)
            if said.active == patch.disabled:  # the directory sees another resource: another ETag
                said.active, said.revision, said.changed_at = not patch.disabled, said.revision + 1, now()
    role = patch.role if "role" in changed and patch.role is not None else Role(user.role)
    team_name = patch.team if "team" in changed else before.team
    if role is not before.role or team_name != before.team:
        user.team = _team_for(session, authority, role, team_name)
        user.team_id = user.team.id if user.team is not None else None
    disabled = patch.disabled if patch.disabled is not None else user.disabled
    if before.role is Role.OWNER and not before.disabled and (role is not Role.OWNER or disabled):
        _require_another_owner(session, user)
    if patch.name is not None and patch.name != user.name:
        _require_free_name(session, authority, User, patch.name)
        user.name = patch.name
    user.role = role
    user.disabled = disabled
    if patch.password is not None:
        password = patch.password.get_secret_value()
        passwords.require_good_password(password, user.name)
        user.password_hash = passwords.hash_password(password)
    session.flush()
    after = _user_view(session, user)
    if patch.password is not None or after.disabled or after.role is not before.role or after.team != before.team:
        end_sessions(session, user.id)
    _audit(session, authority, "update", "user", before.name, before=before, after=after)
    return after


def delete_user(session: Session, authority: Authority, reference: str, expected_version: int | None) -> None:
    audit.lock(session)
    user = find_user(session, authority, reference)
    _require_version(user, expected_version)
    before = _user_view(session, user)
    if before.role is Role.OWNER and not before.disabled:
        _require_another_owner(session, user)
    session.delete(user)
    _audit(session, authority, "delete", "user", before.name, before=before)


def _require_ours(user: UserView, patch: UserPatch) -> None:
    """What a provider manages is changed there: here it would last until the next sign-in. Raises Conflict."""
    beyond = patch.model_fields_set & (
        {"role", "team", "password"} | ({"name"} if user.source is Source.SCIM else set())
    )
    if beyond:
        raise Conflict(
            f"{', '.join(sorted(beyond))} of {user.name!r} come from its provider",
            fix="change the groups there, or the rules under Sign-on; disabling and removing it works here, too",
        )


# ---- tokens


def list_tokens(session: Session, authority: Authority, *, after_id: int, limit: int) -> list[TokenView]:
    return [_token_view(token) for token in session.scalars(_visible(Token, authority, after_id).limit(limit))]


def get_token(session: Session, authority: Authority, reference: str) -> TokenView:
    return _token_view(_find(session, Token, authority, reference))


def create_token(session: Session, authority: Authority, wanted: TokenDocument) -> TokenCreated:
    audit.lock(session)
    team = _team_for(session, authority, wanted.role, wanted.team, wanted.scopes)
    _require_no_later_end(authority, wanted.expires_at)
    name = wanted.name or f"{wanted.role}-{passwords.random_text(6)}"
    if wanted.name is not None:
        _require_free_name(session, authority, Token, name)
    text = TOKEN_MARK + passwords.random_text(TOKEN_LENGTH)
    token = Token(
        name=name,
        digest=passwords.digest(text),
        prefix=text[:PREFIX_LENGTH],
        role=wanted.role,
        team=team,
        expires_at=wanted.expires_at,
        created_by=authority.actor,
        scopes=None if wanted.scopes is None else sorted(set(wanted.scopes)),
    )
    session.add(token)
    session.flush()
    view = _token_view(token)
    _audit(session, authority, "create", "token", view.name, after=view)
    return TokenCreated(**view.model_dump(), token=text)


def update_token(
    session: Session, authority: Authority, reference: str, patch: TokenPatch, expected_version: int | None
) -> TokenView:
    audit.lock(session)
    token = _find(session, Token, authority, reference)
    _require_version(token, expected_version)
    before = _token_view(token)
    if patch.name is not None and patch.name != token.name:
        _require_free_name(session, authority, Token, patch.name)
        token.name = patch.name
    if "expires_at" in patch.model_fields_set:
        if _later(patch.expires_at, token.expires_at):
            _require_no_later_end(authority, patch.expires_at)
        token.expires_at = patch.expires_at
    session.flush()
    after = _token_view(token)
    _audit(session, authority, "update", "token", before.name, before=before, after=after)
    return after


def delete_token(session: Session, authority: Authority, reference: str, expected_version: int | None) -> None:
    audit.lock(session)
    token = _find(session, Token, authority, reference)
    _require_version(token, expected_version)
    before = _token_view(token)
    session.delete(token)
    _audit(session, authority, "delete", "token", before.name, before=before)


# ---- what both share


def find_user(session: Session, authority: Authority, reference: str) -> User:
    """By id or name. Raises NotFound where the authority may not hand on the user's role."""
    return _find(session, User, authority, reference)


def _visible(kind: type[Member], authority: Authority, after_id: int = 0) -> Select[Member]:
    """Those whose role the authority may hand on, by id."""
    found = select(kind).options(joinedload(kind.team)).where(kind.role.in_(authority.grantable))
    if authority.team_id is not None:
        found = found.where(kind.team_id == authority.team_id)
    return found.where(kind.id > after_id).order_by(kind.id)


def _find(session: Session, kind: type[Member], authority: Authority, reference: str) -> Member:
    """By id (digits) or name: no name consists of digits alone."""
    found = _visible(kind, authority)
    chosen = _id_or_none(reference)
    found = found.where(kind.name == reference) if chosen is None else found.where(kind.id == chosen)
    member = session.scalars(found).one_or_none()
    if member is None:
        word = kind.__name__.lower()
        raise NotFound(f"there is no {word} {reference!r}", fix=f"GET /api/v1/{word}s lists them")
    return member


def _id_or_none(reference: str) -> int | None:
    if not (reference.isascii() and reference.isdigit()):
        return None
    return min(int(reference[:20]), 2**62)


def _team_for(
    session: Session,
    authority: Authority,
    role: Role,
    team_name: str | None,
    scopes: Sequence[Permission] | None = None,
) -> Team | None:
    """The team of a new or changed member. Raises Forbidden for what is beyond the authority, Invalid for a bad team.

    `scopes`: what a token is to be confined to."""
    if not effective(role, scopes) <= authority.permissions:
        raise Forbidden("a token cannot hand on more than its own scopes", fix="choose scopes among its own")
    if role not in GRANTABLE[authority.role]:
        raise Forbidden(f"the role {authority.role} may not hand on the role {role}", fix="ask an owner")
    if role not in TEAM_ROLES:
        if team_name is not None:
            raise _invalid_team(f"the role {role} is not confined to a team", "set `team` to null")
        return None
    if team_name is None:
        raise _invalid_team(f"a {role} belongs to a team", "name its team")
    team = session.scalars(select(Team).where(Team.name == team_name)).one_or_none()
    if team is None or (authority.team_id is not None and team.id != authority.team_id):
        raise _invalid_team(f"there is no team {team_name!r}", "GET /api/v1/teams lists them")
    return team


def _require_no_later_end(authority: Authority, end: datetime | None) -> None:
    """Raises Forbidden where a token that ends would hand on more time than it has, to itself or to others."""
    if authority.expires_at is not None and _later(end, authority.expires_at):
        own = authority.expires_at.isoformat(timespec="seconds")
        raise Forbidden(
            f"a token that ends ({own}) makes and extends none beyond that",
            fix=f"set `expires_at` to {own} or before, or have a user do it",
        )


def _later(end: datetime | None, other: datetime | None) -> bool:
    """Whether the one end comes after the other; None = never."""
    return other is not None and (end is None or end > other)


def _invalid_team(problem: str, remedy: str) -> Invalid:
    return Invalid(f"team: {problem}", fix=remedy, errors=[{"field": "team", "problem": problem, "remedy": remedy}])


def _require_free_name(session: Session, authority: Authority, kind: type[Member], name: str) -> None:
    """Names are one space for all teams: see `team_names`. Raises Conflict, Invalid."""
    word = kind.__name__.lower()
    holder = session.scalars(select(kind).where(kind.name == name)).one_or_none()
    if authority.team_id is not None and (holder is None or holder.team_id != authority.team_id):
        require_name_of_team(session, authority, name, field="name", subject=f"{word} {name!r}")
    if holder is not None:
        raise Conflict(f"the {word} {name!r} exists already", fix="choose another name")


def _require_version(member: User | Token, expected: int | None) -> None:
    if expected is not None and member.version != expected:
        raise PreconditionFailed(
            f"{member.name!r} has been changed since (version {member.version}, not {expected})",
            fix="read it again, and repeat the change on what you see",
        )


def _require_another_owner(session: Session, user: User) -> None:
    """Locks the owners, so that two of them cannot remove each other at the same moment."""
    owners = select(User.id).where(User.role == Role.OWNER, ~User.disabled).order_by(User.id).with_for_update()
    if set(session.scalars(owners)) <= {user.id}:
        raise Conflict(f"{user.name!r} is the last owner", fix="make another owner first")


def _user_view(session: Session, user: User) -> UserView:
    return _user_views(session, [user])[0]


def _user_views(session: Session, users: Sequence[User]) -> list[UserView]:
    ids = [user.id for user in users]
    held, signed_in = factors.held_by(session, ids), login_sessions.counts(session, ids, now())
    came_by = sign_on.came_by(session, ids)
    return [
        UserView(
            id=user.id,
            name=user.name,
            role=Role(user.role),
            team=user.team.name if user.team is not None else None,
            disabled=user.disabled,
            source=Source(user.source or Source.LOCAL),
            provider=came_by.get(user.id),
            totp=held[user.id].totp,
            passkeys=held[user.id].passkeys,
            sessions=signed_in.get(user.id, 0),
            last_sign_in_at=user.last_sign_in_at,
            created_at=user.created_at,
            updated_at=user.updated_at,
            version=user.version,
        )
        for user in users
    ]


def _token_view(token: Token) -> TokenView:
    return TokenView(
        id=token.id,
        name=token.name,
        role=Role(token.role),
        team=token.team.name if token.team is not None else None,
        prefix=token.prefix,
        scopes=None if token.scopes is None else [each for each in Permission if each in token.scopes],
        expires_at=token.expires_at,
        created_by=token.created_by,
        created_at=token.created_at,
        updated_at=token.updated_at,
        version=token.version,
    )


def _audit(
    session: Session,
    authority: Authority,
    action: str,
    kind: str,
    name: str,
    *,
    before: UserView | TokenView | None = None,
    after: UserView | TokenView | None = None,
) -> None:
    audit.record(
        session,
        actor=authority.actor,
        action=action,
        kind=kind,
        name=name,
        before=_audited(before),
        after=_audited(after),
    )


def _audited(view: UserView | TokenView | None) -> dict[str, Any] | None:
    return view.model_dump(mode="json", exclude=NOT_AUDITED) if view else None
