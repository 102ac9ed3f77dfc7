"""Sealed credentials: bound to their row and their key, rotated under running processes."""

import base64
import stat
import threading
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from gateway.policy.roles import Authority, Role
from gateway.settings import Settings
from gateway.store import audit_trail, sealing
from gateway.store.config import Editing, Providers
from gateway.store.database import read_session, write_session
from gateway.store.documents import ProviderDocument
from gateway.store.models import Credential
from gateway.store.patches import ProviderPatch
from gateway.store.sealing import Sealed, Sealer, SealingKeyError, key_file, load_sealer, rotate_key_file


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


def _store(engine: Engine, sealer: Sealer, secret: str) -> None:
    with write_session(engine) as session:
        providers = Providers(
            Editing(session=session, authority=Authority(actor="cli:root", role=Role.OWNER), sealer=sealer)
        )
        credentials = [{"name": "main", "value": secret}]
        if providers.list():
            providers.update("p", ProviderPatch.model_validate({"credentials": credentials}))
        else:
            wanted = {"name": "p", "dialect": "openai", "base_url": "http://a", "credentials": credentials}
            providers.create(ProviderDocument.model_validate(wanted))


def _stored(engine: Engine, sealer: Sealer) -> str:
    with read_session(engine) as session:
        return sealer.open_row(session.scalars(select(Credential)).one())


def test_a_ciphertext_opens_in_its_place_only() -> None:
    sealer = Sealer(lambda: [b"k" * 32])
    sealed = sealer.seal("sk-1", 7, "main")
    assert sealer.open(sealed, 7, "main") == "sk-1"
    assert b"sk-1" not in sealed.ciphertext
    assert sealer.seal("sk-1", 7, "main").ciphertext != sealed.ciphertext
    altered = Sealed(sealed.key_id, sealed.ciphertext[:-1] + bytes([sealed.ciphertext[-1] ^ 1]))
    for wrong, provider_id, name in ((sealed, 8, "main"), (sealed, 7, "other"), (altered, 7, "main")):
        with pytest.raises(SealingKeyError, match="was altered"):
            sealer.open(wrong, provider_id, name)
    with pytest.raises(SealingKeyError, match=r"sealed with the key .* restore the file sealing\.key"):
        Sealer(lambda: [b"x" * 32]).open(sealed, 7, "main")


def test_references_tell_sameness_and_nothing_else() -> None:
    sealer, other = Sealer(lambda: [b"k" * 32]), Sealer(lambda: [b"x" * 32])
    assert sealer.references("sk-1") == sealer.references("sk-1")
    assert sealer.references("sk-1") != sealer.references("sk-2")
    assert sealer.references("sk-1") != other.references("sk-1")


def test_nothing_secret_is_shown(settings: Settings) -> None:
    sealer = load_sealer(settings)
    material = key_file(settings).read_text().strip()
    shown = repr(sealer) + repr(sealer._keys) + repr(sealer.seal("sk-1", 1, "m"))
    assert material not in shown
    assert repr(base64.b64decode(material)) not in shown


def test_the_key_file_is_made_once_and_private(settings: Settings) -> None:
    sealers: list[Sealer] = []
    threads = [threading.Thread(target=lambda: sealers.append(load_sealer(settings))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({sealer.key_id for sealer in sealers}) == 1
    assert len(sealers) == 8
    assert stat.S_IMODE(key_file(settings).stat().st_mode) == 0o600
    assert [path.name for path in settings.data.iterdir()] == ["sealing.key"]


@pytest.mark.parametrize("text", ["", "not base64!", base64.b64encode(b"short").decode()])
def test_a_malformed_key_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "sealing.key").write_text(text)
    with pytest.raises(SealingKeyError, match="openssl rand -base64 32"):
        load_sealer(Settings(data=tmp_path))
    with pytest.raises(SealingKeyError, match="SLUICEGATE_SEALING_KEY"):
        load_sealer(Settings(data=tmp_path, sealing_key=text))


def test_the_environments_key_goes_before_the_file(tmp_path: Path) -> None:
    key = base64.b64encode(b"e" * 32).decode()
    sealer = load_sealer(Settings(data=tmp_path, sealing_key=key))
    assert not (tmp_path / "sealing.key").exists()
    both = load_sealer(Settings(data=tmp_path, sealing_key=f"{base64.b64encode(b'n' * 32).decode()},{key}"))
    assert both.open(sealer.seal("sk-1", 1, "m"), 1, "m") == "sk-1"
    assert both.key_id != sealer.key_id


def test_rotation_under_running_processes(engine: Engine, settings: Settings) -> None:
    running = load_sealer(settings)  # as a keeper or worker holds it
    _store(engine, running, "sk-before")
    before = key_file(settings).read_text()
    old_id = running.key_id
    assert rotate_key_file(engine, settings) == 1
    assert key_file(settings).read_text() != before
    assert len(key_file(settings).read_text().split()) == 1
    assert _stored(engine, running) == "sk-before"
    _store(engine, running, "sk-after")
    with read_session(engine) as session:
        assert session.scalars(select(Credential.sealing_key_id)).one() == load_sealer(settings).key_id != old_id
        assert ("rotate", old_id) in [(each.action, each.name) for each in audit_trail.entries(session)]
    assert _stored(engine, load_sealer(settings)) == "sk-after"


def test_a_rotation_interrupted_before_its_commit_loses_nothing(
    engine: Engine, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    _store(engine, load_sealer(settings), "sk-1")

    def die(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(sealing, "rotate", die)
        with pytest.raises(KeyboardInterrupt):
            rotate_key_file(engine, settings)
    assert _stored(engine, load_sealer(settings)) == "sk-1"
    assert rotate_key_file(engine, settings) == 1
    assert _stored(engine, load_sealer(settings)) == "sk-1"
