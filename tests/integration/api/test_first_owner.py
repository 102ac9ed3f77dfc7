"""The first owner: made once, with the operator's password or with one that is shown once."""

import pytest
from sqlalchemy import Engine, delete, select

from gateway.settings import Settings
from gateway.store import identity, passwords
from gateway.store.database import make_engine, read_session, write_session
from gateway.store.models import User


@pytest.fixture
def engine(migrated_url: str) -> Engine:
    return make_engine(Settings(database=migrated_url).database_url)


@pytest.mark.parametrize("chosen", [None, "secret"])
def test_the_first_owner_is_made_once(engine: Engine, chosen: str | None) -> None:
    with write_session(engine) as session:
        shown = identity.ensure_owner(session, chosen)
    assert shown is not None
    assert shown == chosen or (chosen is None and len(shown) == 20)
    with write_session(engine) as session:
        assert identity.ensure_owner(session, "another") is None  # an upgrade resets no password
    with read_session(engine) as session:
        user = session.scalars(select(User)).one()
        assert (user.name, user.role) == ("admin", "owner")
        assert user.password_hash is not None
        assert shown not in user.password_hash
        assert passwords.password_matches(user.password_hash, shown)
        assert not passwords.password_matches(user.password_hash, "another")
        assert not passwords.needs_rehash(user.password_hash)
    engine.dispose()


def test_an_owner_of_another_name_is_enough(engine: Engine) -> None:
    with write_session(engine) as session:
        identity.ensure_owner(session, "secret")
        session.execute(delete(User))
        session.add(User(name="jane", role="owner", password_hash=None, disabled=False))
    with write_session(engine) as session:
        assert identity.ensure_owner(session, None) is None
    engine.dispose()


def test_nobodys_password_matches_nothing() -> None:
    assert not passwords.password_matches(None, "")
    assert not passwords.password_matches(None, "secret")
    assert not passwords.password_matches("not a hash", "secret")
