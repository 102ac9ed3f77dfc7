"""SCIM's users and groups over our own accounts (RFC 7643): each a `scim2_models` resource as its client sees it.

Only accounts that SCIM made are SCIM's: others do not exist for it, but that their names are taken. Deleting a user
removes the account; `active: false` disables it; either ends its sessions with the transaction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, ClassVar, Final, TypeAlias

from scim2_models import (
    ComplexAttribute,
    EnterpriseUser,
    InvalidValueException,
    Meta,
    Mutability,
    NotFoundException,
    PreconditionFailedException,
    ScimFilter,
    ScimPolicy,
    UniquenessException,
)
from scim2_models import Group as CoreGroup
from scim2_models import GroupMember as CoreGroupMember
from scim2_models import User as CoreUser
from scim2_models.path import CompareOperator, Comparison, FilterNode, LogicalExpr, LogicalOperator
from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, joinedload

from gateway.policy.roles import Role
from gateway.store import audit, scim_groups
from gateway.store.accounts import Source, as_audited, require_another_owner
from gateway.store.models import User, now
from gateway.store.scim_admission import settle
from gateway.store.scim_models import ScimGroup, ScimMember, ScimUser

UserResource: TypeAlias = CoreUser[EnterpriseUser]


class GroupMember(CoreGroupMember):
    display: Annotated[str | None, Mutability.read_only] = None
    """Nothing that a group has a say in, and not told: the user's own resource has it."""


class Group(CoreGroup):
    members: list[GroupMember] | None = None  # type: ignore[assignment]
    Members: ClassVar[type[ComplexAttribute]] = GroupMember


MOST_RESULTS: Final = 200
"""On a page."""
LONGEST_NAME: Final = 128
POLICY: Final = ScimPolicy(
    unknown=ScimPolicy.Unknown.ignore,
    remove_value_as_filter=ScimPolicy.RemoveValue.apply,
    unmatched_path_filter=ScimPolicy.UnmatchedPathFilter.create,
)
"""As Microsoft Entra needs it, beside those who keep to the RFC."""
OURS: Final = {"id", "meta", "schemas", "groups", "password", "userName", "externalId", "active"}
"""Of a user, what is not kept as it came: we know it better, or never keep it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """Who asks, and where it finds us."""

    actor: str
    base_url: str
    """Without a slash at the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One page of a list."""

    total: int
    resources: Sequence[Any]


# ---- users


def get_user(session: Session, client: Client, reference: str) -> UserResource:
    return _shown(session, client, [_user_row(session, reference)])[0]


def list_users(session: Session, client: Client, filter_: str | None, start: int, count: int) -> Found:
    """`start` counts from 0."""
    query = select(ScimUser, User).join(User, User.id == ScimUser.user_id).options(joinedload(User.team))
    query = query.order_by(ScimUser.user_id)
    if filter_ is None:
        total = session.scalar(select(func.count()).select_from(ScimUser)) or 0
        rows = session.execute(query.offset(start).limit(count)).all()
        return Found(total=total, resources=_shown(session, client, [(said, user) for said, user in rows]))
    wanted = ScimFilter[UserResource](filter_)
    for name, value in _equals(wanted.ast):
        if name == "username":
            query = query.where(func.lower(User.name) == value.lower())
        elif name == "externalid":
            query = query.where(ScimUser.external_id == value)
        elif name == "id":
            query = query.where(ScimUser.user_id == _number(value))
    rows = session.execute(query).all()
    fitting = [each for each in _shown(session, client, [(said, user) for said, user in rows]) if wanted.match(each)]
    return Found(total=len(fitting), resources=fitting[start : start + count])


def create_user(session: Session, client: Client, wanted: UserResource) -> UserResource:
    audit.lock(session)
    name = _good_name(wanted.user_name)
    _require_free(session, name)
    user = User(name=name, role=Role.VIEWER, password_hash=None, disabled=wanted.active is False, source=Source.SCIM)
    session.add(user)
    session.flush()
    session.refresh(user, ["team"])
    said = ScimUser(user_id=user.id, attributes={}, active=wanted.active is not False)
    _take(said, wanted)
    session.add(said)
    session.flush()
    audit.record(session, actor=client.actor, action="create", kind="user", name=name, after=as_audited(user))
    settle(session, user.id, client.actor)
    return get_user(session, client, str(user.id))


def replace_user(
    session: Session, client: Client, reference: str, wanted: UserResource, expected: str | None
) -> UserResource:
    """What PUT and PATCH come to: the resource as it is to be."""
    audit.lock(session)
    said, user = _user_row(session, reference)
    _require_etag(expected, said.revision)
    before = as_audited(user), said.external_id, said.active, dict(said.attributes)
    name = _good_name(wanted.user_name)
    if name != user.name:
        _require_free(session, name, but=user.id)
        old = as_audited(user)
        user.name = name
        session.flush()
        audit.record(
            session, actor=client.actor, action="update", kind="user", name=old["name"], before=old,
            after=as_audited(user),
        )  # fmt: skip
    said.active = wanted.active is not False
    _take(said, wanted)
    session.flush()
    settle(session, user.id, client.actor)
    if before != (as_audited(user), said.external_id, said.active, dict(said.attributes)):
        said.revision += 1
        said.changed_at = now()
    session.flush()
    return get_user(session, client, reference)


def delete_user(session: Session, client: Client, reference: str, expected: str | None) -> None:
    """The account goes, with its sessions. Raises OutcomeRefused for the last owner."""
    audit.lock(session)
    said, user = _user_row(session, reference)
    _require_etag(expected, said.revision)
    if user.role == Role.OWNER and not user.disabled:
        require_another_owner(session, user)
    before = as_audited(user)
    session.execute(delete(ScimMember).where(ScimMember.user_id == user.id))
    session.delete(said)
    session.flush()
    session.delete(user)
    session.flush()
    audit.record(session, actor=client.actor, action="delete", kind="user", name=before["name"], before=before)


# ---- groups


def get_group(session: Session, client: Client, reference: str) -> Group:
    return _group_shown(session, client, [_group_row(session, reference)])[0]


def list_groups(
    session: Session, client: Client, filter_: str | None, start: int, count: int, *, members: bool = True
) -> Found:
    """`start` counts from 0. Without `members` they are left out, of groups that are large."""
    query = select(ScimGroup).order_by(ScimGroup.id)
    if filter_ is None:
        total = session.scalar(select(func.count()).select_from(ScimGroup)) or 0
        rows = session.scalars(query.offset(start).limit(count)).all()
        return Found(total=total, resources=_group_shown(session, client, rows, members=members))
    wanted = ScimFilter[Group](filter_)
    for name, value in _equals(wanted.ast):
        if name == "displayname":
            query = query.where(func.lower(ScimGroup.display_name) == value.lower())
        elif name == "externalid":
            query = query.where(ScimGroup.external_id == value)
        elif name == "id":
            query = query.where(ScimGroup.id == _number(value))
    fitting = [each for each in _group_shown(session, client, session.scalars(query).all()) if wanted.match(each)]
    if not members:
        for each in fitting:
            each.members = None
    return Found(total=len(fitting), resources=fitting[start : start + count])


def create_group(session: Session, client: Client, wanted: Group) -> Group:
    audit.lock(session)
    name = _good_group_name(wanted.display_name)
    _require_free_group(session, name)
    row = ScimGroup(display_name=name, external_id=wanted.external_id)
    session.add(row)
    session.flush()
    members = _members(session, wanted)
    session.add_all(ScimMember(group_id=row.id, user_id=user_id) for user_id in sorted(members))
    session.flush()
    _audit_group(session, client, "create", name, None, _group_audited(name, len(members)))
    _settle_all(session, client, members)
    return get_group(session, client, str(row.id))


def replace_group(session: Session, client: Client, reference: str, wanted: Group, expected: str | None) -> Group:
    """What PUT and PATCH come to. Whoever comes or goes has another role, and no session, at once."""
    audit.lock(session)
    row = _group_row(session, reference)
    _require_etag(expected, row.version)
    present = set(session.scalars(select(ScimMember.user_id).where(ScimMember.group_id == row.id)))
    before = row.display_name
    name = _good_group_name(wanted.display_name)
    if name != before:
        _require_free_group(session, name, but=row.id)
    members = _members(session, wanted)
    if (name, wanted.external_id) == (before, row.external_id) and members == present:
        return get_group(session, client, reference)
    row.display_name, row.external_id, row.updated_at = name, wanted.external_id, now()
    gone = ScimMember.user_id.in_(present - members)
    session.execute(delete(ScimMember).where(ScimMember.group_id == row.id, gone))
    session.add_all(ScimMember(group_id=row.id, user_id=user_id) for user_id in sorted(members - present))
    session.flush()
    _audit_group(
        session, client, "update", before, _group_audited(before, len(present)), _group_audited(name, len(members))
    )
    if name != before:
        scim_groups.forget(session, before)
    _settle_all(session, client, present | members if name != before else present ^ members)
    return get_group(session, client, reference)


def delete_group(session: Session, client: Client, reference: str, expected: str | None) -> None:
    audit.lock(session)
    row = _group_row(session, reference)
    _require_etag(expected, row.version)
    members = set(session.scalars(select(ScimMember.user_id).where(ScimMember.group_id == row.id)))
    name = row.display_name
    session.execute(delete(ScimMember).where(ScimMember.group_id == row.id))
    session.delete(row)
    session.flush()
    _audit_group(session, client, "delete", name, _group_audited(name, len(members)), None)
    scim_groups.forget(session, name)
    _settle_all(session, client, members)


# ---- what both share


def etag(version: int) -> str:
    return f'W/"{version}"'


def _user_row(session: Session, reference: str) -> tuple[ScimUser, User]:
    query = select(ScimUser, User).join(User, User.id == ScimUser.user_id).options(joinedload(User.team))
    row = session.execute(query.where(ScimUser.user_id == _number(reference))).one_or_none()
    if row is None:
        raise NotFoundException(detail=f"there is no user {reference[:64]!r} that SCIM manages")
    said, user = row
    return said, user


def _group_row(session: Session, reference: str) -> ScimGroup:
    row = session.get(ScimGroup, _number(reference))
    if row is None:
        raise NotFoundException(detail=f"there is no group {reference[:64]!r}")
    return row


def _number(reference: str) -> int:
    """An id, or one that nothing has."""
    return int(reference) if reference.isascii() and reference.isdigit() and len(reference) < 10 else -1


def _shown(session: Session, client: Client, rows: Sequence[tuple[ScimUser, User]]) -> list[UserResource]:
    ids = [user.id for _, user in rows]
    groups: dict[int, list[dict[str, str]]] = {}
    query = select(ScimMember.user_id, ScimGroup.id, ScimGroup.display_name).join(
        ScimGroup, ScimGroup.id == ScimMember.group_id
    )
    for user_id, group_id, name in session.execute(query.where(ScimMember.user_id.in_(ids)).order_by(ScimGroup.id)):
        ref = f"{client.base_url}/Groups/{group_id}"
        groups.setdefault(user_id, []).append({"value": str(group_id), "display": name, "$ref": ref, "type": "direct"})
    return [_user_shown(client, said, user, groups.get(user.id, [])) for said, user in rows]


def _user_shown(client: Client, said: ScimUser, user: User, groups: list[dict[str, str]]) -> UserResource:
    shown = UserResource.model_validate(
        {
            "schemas": [str(CoreUser.__schema__)],
            **said.attributes,
            "id": str(user.id),
            "userName": user.name,
            "externalId": said.external_id,
            "active": not user.disabled,
            "groups": groups or None,
        },
        scim_policy=POLICY,
    )
    place = f"{client.base_url}/Users/{user.id}"
    shown.meta = _meta("User", place, said.created_at, said.changed_at, said.revision)
    return shown


def _group_shown(session: Session, client: Client, rows: Sequence[ScimGroup], *, members: bool = True) -> list[Group]:
    inside: dict[int, list[GroupMember]] = {}
    if members:
        query = select(ScimMember.group_id, ScimMember.user_id).order_by(ScimMember.user_id)
        for group_id, user_id in session.execute(query.where(ScimMember.group_id.in_([row.id for row in rows]))):
            place = f"{client.base_url}/Users/{user_id}"
            member = GroupMember.model_validate({"value": str(user_id), "type": "User", "$ref": place})
            inside.setdefault(group_id, []).append(member)
    shown = []
    for row in rows:
        group = Group(
            id=str(row.id),
            external_id=row.external_id,
            display_name=row.display_name,
            members=inside.get(row.id),
        )
        place = f"{client.base_url}/Groups/{row.id}"
        group.meta = _meta("Group", place, row.created_at, row.updated_at, row.version)
        shown.append(group)
    return shown


def _meta(kind: str, place: str, created: datetime, changed: datetime, version: int) -> Meta:
    return Meta(resource_type=kind, created=created, last_modified=changed, location=place, version=etag(version))


def _take(said: ScimUser, wanted: UserResource) -> None:
    said.external_id = wanted.external_id
    kept = wanted.model_dump(scim_policy=POLICY)
    said.attributes = {name: value for name, value in kept.items() if name not in OURS}
    if str(EnterpriseUser.__schema__) in said.attributes:
        said.attributes["schemas"] = [str(CoreUser.__schema__), str(EnterpriseUser.__schema__)]


def _good_name(name: str | None) -> str:
    text = (name or "").strip()
    if not text or len(text) > LONGEST_NAME or text.isdecimal() or "/" in text or text == "*" or not text.isprintable():
        raise InvalidValueException(
            detail=f"userName {text[:64]!r} is not 1 to {LONGEST_NAME} visible signs, has a slash, or digits alone"
        )
    return text


def _good_group_name(name: str | None) -> str:
    text = (name or "").strip()
    if not text or len(text) > 512 or not text.isprintable():
        raise InvalidValueException(detail="displayName has 1 to 512 visible characters")
    return text


def _require_free(session: Session, name: str, but: int = 0) -> None:
    """UserName is unique, whatever its case, also among accounts that SCIM does not manage."""
    taken = select(User.id).where(func.lower(User.name) == name.lower(), User.id != but)
    if session.scalar(taken) is not None:
        raise UniquenessException(detail=f"there is a user {name!r} already")


def _require_free_group(session: Session, name: str, but: int = 0) -> None:
    if session.scalar(select(ScimGroup.id).where(ScimGroup.display_name == name, ScimGroup.id != but)) is not None:
        raise UniquenessException(detail=f"there is a group {name!r} already")


def _require_etag(expected: str | None, version: int) -> None:
    if expected is not None and expected.strip() not in ("*", etag(version), etag(version).removeprefix("W/")):
        raise PreconditionFailedException(detail=f"it has been changed since; it is {etag(version)} now")


def _members(session: Session, wanted: Group) -> set[int]:
    """Raises InvalidValueException for who is no user of SCIM's."""
    asked = {_number(each.value or "") for each in wanted.members or ()}
    known = set(session.scalars(select(ScimUser.user_id).where(ScimUser.user_id.in_(asked))))
    if asked - known:
        raise InvalidValueException(detail="members: only users that SCIM manages can be in its groups")
    return known


def _settle_all(session: Session, client: Client, user_ids: Iterable[int]) -> None:
    for user_id in sorted(user_ids):
        settle(session, user_id, client.actor)


def _group_audited(name: str, members: int) -> dict[str, Any]:
    return {"name": name, "members": members}


def _audit_group(
    session: Session,
    client: Client,
    action: str,
    name: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
) -> None:
    audit.record(session, actor=client.actor, action=action, kind="group", name=name, before=before, after=after)


def _equals(node: FilterNode) -> Iterable[tuple[str, str]]:
    """Comparisons that every fitting resource satisfies, so that SQL may do them: attribute in lower case, and text."""
    if isinstance(node, LogicalExpr) and node.op is LogicalOperator.and_:
        for term in node.terms:
            yield from _equals(term)
    elif (
        isinstance(node, Comparison)
        and node.op is CompareOperator.eq
        and node.attr_path.sub_attr is None
        and isinstance(node.value, str)
    ):
        yield node.attr_path.attr.lower(), node.value
