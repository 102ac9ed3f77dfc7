"""SCIM's users and groups over our own accounts (RFC 7643): each a `scim2_models` resource as its client sees it.

Only accounts that SCIM made are SCIM's: others do not exist for it, but that their names are taken. Deleting a user
removes the account; `active: false` disables it; either ends its sessions with the transaction.

What is shown is read, and a PATCH worked out, without the lock on changes; `replace_…` takes what was `seen` and
refuses where somebody else was faster. Loaded when a directory asks (`gateway.late`).
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
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
    Reference,
    ScimFilter,
    ScimPolicy,
    UniquenessException,
)
from scim2_models import Group as CoreGroup
from scim2_models import GroupMember as CoreGroupMember
from scim2_models import User as CoreUser
from scim2_models.path import CompareOperator, Comparison, FilterNode, LogicalExpr, LogicalOperator
from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlalchemy.orm import Session, joinedload

from gateway.policy.roles import Role
from gateway.store import audit, scim_groups
from gateway.store.accounts import Source, as_audited, require_another_owner
from gateway.store.models import User, now
from gateway.store.scim_admission import settle
from gateway.store.scim_groups import portions
from gateway.store.scim_member_changes import MemberChange, Op, changed
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


class ChangedMeanwhile(Exception):
    """Not as it was seen any more: read it again."""


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


def list_users(
    session: Session, client: Client, filter_: str | None, start: int, count: int, left_out: Collection[str] = ()
) -> Found:
    """`start` counts from 0; `left_out`: attributes, in lower case."""
    asked = (filter_ or "").lower()  # what it compares has to be there
    query = select(ScimUser, User).join(User, User.id == ScimUser.user_id).options(joinedload(User.team))
    return _found(
        session,
        query.order_by(ScimUser.user_id),
        ScimFilter[UserResource](filter_) if filter_ is not None else None,
        {
            "username": lambda value: func.lower(User.name) == value.lower(),
            "externalid": lambda value: ScimUser.external_id == value,
            "id": lambda value: ScimUser.user_id == _number(value),
        },
        lambda rows: _shown(session, client, rows, groups="groups" not in left_out or "groups" in asked),
        start,
        count,
    )


def create_user(session: Session, client: Client, wanted: UserResource) -> str:
    """Returns its id."""
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
    settle(session, [user.id], client.actor)
    return str(user.id)


def replace_user(session: Session, client: Client, reference: str, wanted: UserResource, seen: str) -> None:
    """What PUT and PATCH come to: the resource as it is to be. `seen`: its ETag where `wanted` was made of it.

    Raises ChangedMeanwhile.
    """
    audit.lock(session)
    said, user = _user_row(session, reference)
    if etag(said.revision) != seen:
        raise ChangedMeanwhile
    before = user.name, said.external_id, said.active, dict(said.attributes)
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
    if before != (name, said.external_id, said.active, dict(said.attributes)):
        said.revision += 1
        said.changed_at = now()
    session.flush()
    settle(session, [user.id], client.actor)


def delete_user(session: Session, client: Client, reference: str, expected: str | None) -> None:
    """The account goes, with its sessions. Raises OutcomeRefused for the last owner."""
    audit.lock(session)
    said, user = _user_row(session, reference)
    require_etag(expected, etag(said.revision))
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
    session: Session, client: Client, filter_: str | None, start: int, count: int, left_out: Collection[str] = ()
) -> Found:
    """`start` counts from 0; `left_out`: attributes, in lower case, such as the members of groups that are large."""
    asked = (filter_ or "").lower()  # what it compares has to be there
    return _found(
        session,
        select(ScimGroup).order_by(ScimGroup.id),
        ScimFilter[Group](filter_) if filter_ is not None else None,
        {
            "displayname": lambda value: func.lower(ScimGroup.display_name) == value.lower(),
            "externalid": lambda value: ScimGroup.external_id == value,
            "id": lambda value: ScimGroup.id == _number(value),
        },
        lambda rows: _group_shown(
            session, client, [row for (row,) in rows], members="members" not in left_out or "members" in asked
        ),
        start,
        count,
    )


def create_group(session: Session, client: Client, wanted: Group) -> str:
    """Returns its id."""
    audit.lock(session)
    name = _good_group_name(wanted.display_name)
    _require_free_group(session, name)
    row = ScimGroup(display_name=name, external_id=wanted.external_id)
    session.add(row)
    session.flush()
    members = _members(session, wanted)
    _put_in(session, row.id, members)
    _audit_group(session, client, "create", name, None, _group_audited(name, len(members)))
    settle(session, members, client.actor)
    return str(row.id)


def replace_group(session: Session, client: Client, reference: str, wanted: Group, seen: str) -> None:
    """What PUT and PATCH come to. Whoever comes or goes has another role, and no session, at once. `seen`: its ETag
    where `wanted` was made of it.

    Raises ChangedMeanwhile.
    """
    audit.lock(session)
    row = _group_row(session, reference)
    if etag(row.version) != seen:
        raise ChangedMeanwhile
    _keep_group(session, client, row, wanted.display_name, wanted.external_id, _members(session, wanted))


def change_members(
    session: Session, client: Client, reference: str, changes: Sequence[MemberChange], expected: str | None
) -> None:
    """The same for who is in it alone. `expected`: what If-Match says."""
    audit.lock(session)
    row = _group_row(session, reference)
    require_etag(expected, etag(row.version))
    named = {each: _number(each) for change in changes for each in change.ids}
    come = {named[each] for change in changes if change.op is not Op.REMOVE for each in change.ids}
    _require_known(session, come)
    members = changed(_present(session, row.id), changes, named)
    _keep_group(session, client, row, row.display_name, row.external_id, members)


def _keep_group(
    session: Session,
    client: Client,
    row: ScimGroup,
    display_name: str | None,
    external_id: str | None,
    members: set[int],
) -> None:
    present, before = _present(session, row.id), row.display_name
    name = _good_group_name(display_name)
    if name != before:
        _require_free_group(session, name, but=row.id)
    if (name, external_id) == (before, row.external_id) and members == present:
        return
    row.display_name, row.external_id, row.updated_at = name, external_id, now()
    session.flush()
    _take_out(session, row.id, present - members)
    _put_in(session, row.id, members - present)
    _audit_group(
        session, client, "update", before, _group_audited(before, len(present)), _group_audited(name, len(members))
    )
    if name != before:
        scim_groups.forget(session, before)
    settle(session, present | members if name != before else present ^ members, client.actor)


def delete_group(session: Session, client: Client, reference: str, expected: str | None) -> None:
    audit.lock(session)
    row = _group_row(session, reference)
    require_etag(expected, etag(row.version))
    members = _present(session, row.id)
    name = row.display_name
    session.execute(delete(ScimMember).where(ScimMember.group_id == row.id))
    session.delete(row)
    session.flush()
    _audit_group(session, client, "delete", name, _group_audited(name, len(members)), None)
    scim_groups.forget(session, name)
    settle(session, members, client.actor)


# ---- what both share


def etag(version: int) -> str:
    return f'W/"{version}"'


def _found(
    session: Session,
    query: Any,
    wanted: ScimFilter[Any] | None,
    columns: Mapping[str, Callable[[str], ColumnElement[bool]]],
    show: Callable[[Sequence[Any]], Sequence[Any]],
    start: int,
    count: int,
) -> Found:
    """A page of what `query`, a select, finds. `columns`: attributes, in lower case, that SQL may compare."""
    if wanted is None:
        total = session.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0
        return Found(total=total, resources=show(session.execute(query.offset(start).limit(count)).all()))
    for name, value in _equals(wanted.ast):
        if name in columns:
            query = query.where(columns[name](value))
    fitting = [each for each in show(session.execute(query).all()) if wanted.match(each)]
    return Found(total=len(fitting), resources=fitting[start : start + count])


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


def _shown(session: Session, client: Client, rows: Sequence[Any], *, groups: bool = True) -> list[UserResource]:
    """`rows`: of `ScimUser` and `User`."""
    inside = _groups_shown_of(session, client, [user.id for _, user in rows]) if groups else {}
    return [_user_shown(client, said, user, inside.get(user.id, [])) for said, user in rows]


def _groups_shown_of(session: Session, client: Client, ids: Sequence[int]) -> dict[int, list[dict[str, str]]]:
    groups: dict[int, list[dict[str, str]]] = {}
    query = select(ScimMember.user_id, ScimGroup.id, ScimGroup.display_name).join(
        ScimGroup, ScimGroup.id == ScimMember.group_id
    )
    for some in portions(ids):
        found = session.execute(query.where(ScimMember.user_id.in_(some)).order_by(ScimGroup.id))
        for user_id, group_id, name in found:
            ref = f"{client.base_url}/Groups/{group_id}"
            group = {"value": str(group_id), "display": name, "$ref": ref, "type": "direct"}
            groups.setdefault(user_id, []).append(group)
    return groups


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
            inside.setdefault(group_id, []).append(
                GroupMember.model_construct(  # ours, and good: checking thousands of them takes its time
                    value=str(user_id), type="User", ref=Reference(f"{client.base_url}/Users/{user_id}")
                )
            )
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


def require_etag(expected: str | None, present: str) -> None:
    """`expected`: what If-Match says. Raises PreconditionFailedException."""
    if expected is not None and expected.strip() not in ("*", present, present.removeprefix("W/")):
        raise PreconditionFailedException(detail=f"it has been changed since; it is {present} now")


def _members(session: Session, wanted: Group) -> set[int]:
    asked = {_number(each.value or "") for each in wanted.members or ()}
    _require_known(session, asked)
    return asked


def _require_known(session: Session, user_ids: set[int]) -> None:
    """Raises InvalidValueException for who is no user of SCIM's."""
    known: set[int] = set()
    for ids in portions(sorted(user_ids)):
        known.update(session.scalars(select(ScimUser.user_id).where(ScimUser.user_id.in_(ids))))
    if user_ids - known:
        raise InvalidValueException(detail="members: only users that SCIM manages can be in its groups")


def _present(session: Session, group_id: int) -> set[int]:
    return set(session.scalars(select(ScimMember.user_id).where(ScimMember.group_id == group_id)))


def _put_in(session: Session, group_id: int, user_ids: set[int]) -> None:
    if user_ids:
        rows = [{"group_id": group_id, "user_id": user_id} for user_id in sorted(user_ids)]
        session.execute(insert(ScimMember.metadata.tables[ScimMember.__tablename__]), rows)


def _take_out(session: Session, group_id: int, user_ids: set[int]) -> None:
    for ids in portions(sorted(user_ids)):
        gone = delete(ScimMember).where(ScimMember.group_id == group_id, ScimMember.user_id.in_(ids))
        session.execute(gone.execution_options(synchronize_session=False))


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
