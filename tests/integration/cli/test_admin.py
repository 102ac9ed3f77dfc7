"""`sluicegate admin reset`: in again, whatever was lost."""

from datetime import UTC, datetime

import pyotp
from sqlalchemy import select

from gateway.policy.roles import Role
from gateway.settings import Settings
from gateway.store import factors, passwords, sealing
from gateway.store.database import make_engine, read_session, write_session
from gateway.store.factor_models import RecoveryCode, Totp
from gateway.store.identity import Caller
from gateway.store.models import AuditEntry, LoginSession, User
from gateway.store.scim_models import ScimGroup, ScimMember, ScimUser
from gateway.store.sign_on_models import SignOnProvider, UserIdentity
from tests.support.cli import Cli


def test_an_owner_gets_in_again(cli: Cli, database_url: str) -> None:
    first = cli("user", "bootstrap").ok().out.strip()
    settings = Settings(data=cli.data, database=database_url)
    engine = make_engine(settings.database_url)
    try:
        now = datetime.now(UTC)
        with write_session(engine) as session:
            admin = session.scalars(select(User)).one()
            admin.disabled = True
            session.add(LoginSession(digest=b"x" * 32, user_id=admin.id, expires_at=now))
            sealer = sealing.load_sealer(settings)
            group = ScimGroup(display_name="platform")
            provider = SignOnProvider(
                name="corp", label="Corp", issuer="https://idp.example", client_id="us", scopes="openid",
                groups_claim="groups", name_claim="preferred_username",
            )  # fmt: skip
            session.add_all([group, provider])
            session.flush()
            session.add(ScimUser(user_id=admin.id, attributes={}))
            session.flush()
            session.add(ScimMember(group_id=group.id, user_id=admin.id))
            session.add(UserIdentity(provider_id=provider.id, subject="s-1", user_id=admin.id))
            caller = Caller(name="admin", role=Role.OWNER, team_id=None, team=None, user_id=admin.id)
            begun = factors.begin_totp(session, sealer, caller, "gw")
            factors.confirm_totp(session, sealer, caller, pyotp.TOTP(begun.secret).at(now), now)
        assert "secrets sealed with a new key: 1" in cli("sealing", "rotate").ok().out
        with read_session(engine) as session:
            assert sealing.load_sealer(settings).open_row(session.scalars(select(Totp)).one()) == begun.secret
        said = cli("admin", "reset").ok()
        password = said.out.splitlines()[-1]
        assert password != first
        assert "admin (owner)" in said.err
        with read_session(engine) as session:
            admin = session.scalars(select(User)).one()
            assert passwords.password_matches(admin.password_hash, password)
            assert not admin.disabled
            assert not session.scalars(select(Totp)).all()
            assert not session.scalars(select(RecoveryCode)).all()
            assert not session.scalars(select(LoginSession)).all()
            for tie in (ScimUser, ScimMember, UserIdentity):
                assert not session.scalars(select(tie)).all(), "neither provider nor directory has it any more"
            last = session.scalars(select(AuditEntry).order_by(AuditEntry.seq.desc())).first()
            assert last is not None
            assert (last.action, last.kind, last.name) == ("break-glass", "factor", "admin")
            assert last.actor.startswith("cli:")
            assert password not in (last.before or "")
    finally:
        engine.dispose()


def test_whom_it_is_about_must_be_plain(sqlite_cli: Cli) -> None:
    assert sqlite_cli("admin", "reset").code == 1, "there is no database yet"
    sqlite_cli("user", "bootstrap").ok()
    said = sqlite_cli("admin", "reset", "nobody")
    assert said.code == 1
    assert "the owners are: admin" in said.err
