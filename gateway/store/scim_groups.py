"""In which groups somebody is: as SCIM keeps them, and as a provider said at their last sign-in."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, TypeVar

from sqlalchemy import Text, cast, select, update
from sqlalchemy.orm import Session

from gateway.store.accounts import Source
from gateway.store.models import User
from gateway.store.scim_models import ScimGroup, ScimMember
from gateway.store.sign_on_models import UserIdentity

AT_ONCE: Final = 5_000
"""Parameters of a statement: SQLite takes 32,766 (SQLITE_MAX_VARIABLE_NUMBER), PostgreSQL 65,535."""

Value = TypeVar("Value", int, str)


def forget(session: Session, name: str) -> None:
    """SCIM keeps the group no more: what providers said of it before is not believed of SCIM's users in its place."""
    written = json.dumps(name)[1:-1]
    query = (
        select(UserIdentity.id, UserIdentity.groups)
        .join(User, User.id == UserIdentity.user_id)
        .where(User.source == Source.SCIM, cast(UserIdentity.groups, Text).contains(written, autoescape=True))
    )
    told = [
        {"id": row.id, "groups": [group for group in row.groups if group != name]} for row in session.execute(query)
    ]
    if told:
        session.execute(update(UserIdentity), told)


def groups_of(session: Session, user: User, said: Iterable[str]) -> set[str]:
    """`said`: what a provider says now.

    Of a user that SCIM manages, SCIM alone says who is in a group that it keeps: what it takes away is gone at once,
    not at the next sign-in.
    """
    told = set(said)
    if user.source != Source.SCIM:
        return told
    kept = set(session.scalars(select(ScimGroup.display_name).where(ScimGroup.display_name.in_(told))))
    query = select(ScimGroup.display_name).join(ScimMember, ScimMember.group_id == ScimGroup.id)
    return (told - kept) | set(session.scalars(query.where(ScimMember.user_id == user.id)))


def groups_of_each(session: Session, user_ids: Sequence[int]) -> dict[int, set[str]]:
    """The same of many users that SCIM manages, by what each provider said last."""
    told = select(UserIdentity.user_id, UserIdentity.groups).where(UserIdentity.user_id.in_(user_ids))
    said = session.execute(told).all()
    kept: set[str] = set()
    for names in portions(sorted({group for row in said for group in row.groups})):
        kept.update(session.scalars(select(ScimGroup.display_name).where(ScimGroup.display_name.in_(names))))
    found: dict[int, set[str]] = {user_id: set() for user_id in user_ids}
    for user_id, groups in said:
        found[user_id].update(group for group in groups if group not in kept)
    inside = select(ScimMember.user_id, ScimGroup.display_name).join(ScimGroup, ScimGroup.id == ScimMember.group_id)
    for user_id, name in session.execute(inside.where(ScimMember.user_id.in_(user_ids))):
        found[user_id].add(name)
    return found


def portions(values: Sequence[Value]) -> Iterator[Sequence[Value]]:
    """As many as a statement takes."""
    for at in range(0, len(values), AT_ONCE):
        yield values[at : at + AT_ONCE]
