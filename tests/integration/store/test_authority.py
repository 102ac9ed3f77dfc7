"""The certificate authority in SQL: made, renewed, replaced, removed; audited; compared with what is wanted."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from sqlalchemy import Engine, select

from gateway.errors import NotFound
from gateway.settings import Settings
from gateway.store import authority, models, sealing
from gateway.store.authority import LIFETIME, AuthorityView, MakeAction, NothingToSignFor, concern
from gateway.store.config import InterceptionRules
from gateway.store.database import read_session, write_session
from gateway.store.patches import InterceptionPatch
from gateway.store.sealing import Sealer, SealingKeyError
from tests.support.authority import SEALER, AuthorityStore

HOST = "api.openai.example"


@pytest.fixture
def store(migrated_url: str) -> Iterator[AuthorityStore]:
    store = AuthorityStore(Settings(database=migrated_url).database_url)
    yield store
    store.engine.dispose()


def _view(engine: Engine) -> AuthorityView:
    with read_session(engine) as session:
        return authority.view(session, datetime.now(UTC))


def _wrong(engine: Engine) -> str:
    found = concern(_view(engine), datetime.now(UTC))
    return "" if found is None else str(found)


def _change(store: AuthorityStore, **destinations: list[str]) -> None:
    patch = InterceptionPatch.model_validate({"destinations": destinations})
    with store.editing() as editing:
        InterceptionRules(editing).update("ai", patch)


def _parsed(pem: str | None) -> x509.Certificate:
    assert pem is not None
    return x509.load_pem_x509_certificate(pem.encode())


def test_none_is_made_for_nobody(store: AuthorityStore) -> None:
    assert _wrong(store.engine) == ""
    store.intercept("seen", ["passed.example"], tls="passthrough")
    with pytest.raises(NothingToSignFor, match="no interception rule terminates TLS"):
        store.make()
    with pytest.raises(NotFound, match="sluicegate ca create"):
        store.make(MakeAction.RENEW)
    assert _view(store.engine).covers
    assert _wrong(store.engine) == ""
    store.intercept("ai", ["a..b"])
    with pytest.raises(NothingToSignFor, match=r"ai intercepts: a\.\.b"):
        store.make()
    _change(store, hosts=["a..b", HOST])
    assert "sluicegate ca create" in _wrong(store.engine)
    assert not _view(store.engine).covers
    store.make()
    assert _view(store.engine).missing == ["a..b"], "what no certificate can name is told, and the rest is served"


def test_it_follows_the_rules_when_it_is_renewed(store: AuthorityStore) -> None:
    store.intercept("ai", [HOST])
    store.intercept("seen", ["passed.example"], tls="passthrough")
    first = store.make()
    assert store.make() == first, "made once"
    assert _view(store.engine).permitted.hosts == [HOST]
    assert _wrong(store.engine) == ""

    _change(store, hosts=[HOST, "api.mistral.example"], cidrs=["10.0.0.0/8"])
    assert _view(store.engine).missing == ["api.mistral.example", "10.0.0.0/8"]
    assert "sluicegate ca renew" in _wrong(store.engine)
    second = store.make(MakeAction.RENEW)
    shown = _view(store.engine)
    assert (shown.permitted.hosts, shown.permitted.cidrs) == (["api.mistral.example", HOST], ["10.0.0.0/8"])
    assert (shown.covers, shown.missing, shown.surplus, shown.rules) == (True, [], [], ["ai"])
    old, new = _parsed(first.certificate), _parsed(second.certificate)
    assert (first.key, old.subject, old.public_key()) == (second.key, new.subject, new.public_key())
    assert old.serial_number != new.serial_number

    _change(store, hosts=[HOST], cidrs=[])
    assert _view(store.engine).surplus == ["api.mistral.example", "10.0.0.0/8"]
    assert _wrong(store.engine) == "", "more than is needed keeps nobody from being served"
    third = store.make(MakeAction.REPLACE)
    assert third.key != second.key
    key = load_pem_private_key(third.key.encode(), None)
    assert key.public_key() == _parsed(third.certificate).public_key()
    assert _view(store.engine).surplus == []


def test_it_is_told_before_it_expires(store: AuthorityStore) -> None:
    store.intercept("ai", [HOST])
    now = datetime.now(UTC)
    store.make(now=now - LIFETIME + timedelta(days=59))
    assert _view(store.engine).covers
    assert "expires at" in _wrong(store.engine)
    store.make(MakeAction.RENEW, now=now - LIFETIME - timedelta(days=1))
    assert not _view(store.engine).covers
    assert "expired at" in _wrong(store.engine)
    store.make(MakeAction.RENEW)
    assert _wrong(store.engine) == ""


def test_all_is_audited_and_the_key_never(store: AuthorityStore) -> None:
    store.intercept("ai", [HOST])
    with read_session(store.engine) as session:
        before = session.scalars(select(models.Meta.generation)).one()
    keys = [store.make(action).key for action in (MakeAction.CREATE, MakeAction.RENEW, MakeAction.REPLACE)]
    with store.editing() as editing:
        authority.remove(editing)
    with pytest.raises(NotFound), store.editing() as editing:
        authority.remove(editing)
    with read_session(store.engine) as session:
        chosen = select(models.AuditEntry).where(models.AuditEntry.kind == "certificate authority")
        entries = session.scalars(chosen.order_by(models.AuditEntry.seq)).all()
        assert session.scalars(select(models.Meta.generation)).one() == before + 4, "workers hear of each"
        assert session.scalars(select(models.CertificateAuthority)).all() == []
    assert [each.action for each in entries] == ["create", "renew", "replace", "delete"]
    told = json.loads(entries[1].after or "")
    assert told["permitted"] == {"hosts": [HOST], "cidrs": []}
    assert json.loads(entries[1].before or "")["fingerprint"] != told["fingerprint"]
    said = "".join(f"{each.before}{each.after}" for each in entries)
    assert not [line for key in keys for line in key.splitlines() if line in said]


def test_its_key_is_sealed_and_follows_a_rotation(store: AuthorityStore) -> None:
    store.intercept("ai", [HOST])
    made = store.make()
    new = Sealer(lambda: [b"n" * 32])
    with write_session(store.engine) as session:
        row = session.scalars(select(models.CertificateAuthority)).one()
        assert made.key.encode() not in row.sealed
        assert SEALER.open_row(row) == made.key
        assert sealing.rotate(session, SEALER, new, "cli:root") == 1
    with read_session(store.engine) as session:
        row = session.scalars(select(models.CertificateAuthority)).one()
        assert new.open_row(row) == made.key
        with pytest.raises(SealingKeyError):
            SEALER.open_row(row)
    with pytest.raises(SealingKeyError, match="sluicegate ca renew --new-key"):
        store.make(MakeAction.RENEW)
    assert store.make(MakeAction.REPLACE).key != made.key, "who lost the sealing key makes another authority"
