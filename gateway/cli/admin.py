"""`sluicegate admin reset`."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.cli import output
from gateway.cli.owner import become_owner, caller_name
from gateway.errors import Conflict, NotFound
from gateway.policy.roles import Role
from gateway.settings import Settings
from gateway.store import account, audit, migrate
from gateway.store.database import make_engine, write_session
from gateway.store.identity import OWNER_NAME
from gateway.store.models import User


def reset(settings: Settings, name: str | None) -> None:
    actor = f"cli:{caller_name()}"
    become_owner(settings.data)
    engine = make_engine(settings.database_url)
    try:
        migrate.check(engine)
        with write_session(engine) as session:
            audit.lock(session)  # before the user is read, so that it is read as it is
            user = _named(session, name) if name is not None else _owner(session)
            password = account.break_glass(session, user, actor)
            shown, role = user.name, user.role
    finally:
        engine.dispose()
    output.note(f"{shown} ({role}) is signed out everywhere and has no second factor; the password, shown this once:")
    output.say(password)


def _named(session: Session, name: str) -> User:
    user = session.scalars(select(User).where(User.name == name)).one_or_none()
    if user is None:
        owners = ", ".join(_owners(session)) or "none"
        raise NotFound(f"there is no user {name!r}", fix=f"name another; the owners are: {owners}")
    return user


def _owner(session: Session) -> User:
    """`admin` where that is an owner, else the only one. Raises NotFound, Conflict."""
    owners = _owners(session)
    if not owners:
        raise NotFound("there is no owner", fix="make one with `sluicegate user bootstrap`")
    if OWNER_NAME not in owners and len(owners) > 1:
        raise Conflict(f"there are {len(owners)} owners", fix=f"name one: {', '.join(owners)}")
    return _named(session, OWNER_NAME if OWNER_NAME in owners else owners[0])


def _owners(session: Session) -> list[str]:
    return list(session.scalars(select(User.name).where(User.role == Role.OWNER).order_by(User.id)))
