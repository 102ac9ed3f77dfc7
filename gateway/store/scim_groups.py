"""In which groups somebody is: as SCIM keeps them, and as a provider said at their last sign-in."""

from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.store.accounts import Source
from gateway.store.models import User
from gateway.store.scim_models import ScimGroup, ScimMember
from gateway.store.sign_on_models import UserIdentity


def forget(session: Session, name: str) -> None:
    """SCIM keeps the group no more: what providers said of it before is not believed of SCIM's users in its place."""
    query = select(UserIdentity).join(User, User.id == UserIdentity.user_id).where(User.source == Source.SCIM)
    for identity in session.scalars(query):
        if name in identity.groups:
            identity.groups = [group for group in identity.groups if group != name]
    session.flush()


def groups_of(session: Session, user: User, said: Iterable[str] | None = None) -> set[str]:
    """`said`: what a provider says now; None = what each said last.

    Of a user that SCIM manages, SCIM alone says who is in a group that it keeps: what it takes away is gone at once,
    not at the next sign-in.
    """
    if said is None:
        rows = session.scalars(select(UserIdentity.groups).where(UserIdentity.user_id == user.id))
        said = [group for groups in rows for group in groups]
    told = set(said)
    if user.source != Source.SCIM:
        return told
    kept = set(session.scalars(select(ScimGroup.display_name).where(ScimGroup.display_name.in_(told))))
    query = select(ScimGroup.display_name).join(ScimMember, ScimMember.group_id == ScimGroup.id)
    return (told - kept) | set(session.scalars(query.where(ScimMember.user_id == user.id)))
