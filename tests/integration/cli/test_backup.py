"""A backup brings everything back, into either database, or changes nothing."""

import gzip
import io
import os
import re
import shutil
import stat
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import openai
import pytest
from sqlalchemy import text

from gateway.store import migrate
from gateway.store.database import make_engine, write_session
from tests.support import live
from tests.support.cli import Cli, Said
from tests.support.provider import Provider

YAML = """\
providers:
  - name: local
    dialect: openai
    base_url: http://127.0.0.1:9/v1
    credentials: [{name: main, value: s3cret-s3cret}]
routes:
  - name: chat
    targets: [{provider: local, model: small}]
teams:
  - name: search
    apps: [{name: indexer, routes: [chat], keys: [{name: ci, value: sk-sg-a-key-of-thirty-characters}]}]
interception: [{name: watch, destinations: {hosts: [api.openai.com]}, mode: observe}]
"""


def apply(cli: Cli, yaml: str = YAML, *words: str) -> Said:
    return cli("apply", "-f", "-", *words, stdin=yaml).ok()


def members(file: Path) -> list[str]:
    with tarfile.open(file) as archive:
        return archive.getnames()


def test_everything_comes_back(cli: Cli, tmp_path: Path) -> None:
    apply(cli)
    password = cli("user", "bootstrap").ok().last_line
    assert password
    before = cli("export").ok().out
    file = tmp_path / "backup.tar.gz"
    cli("backup", str(file)).ok()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert b"s3cret-s3cret" not in gzip.decompress(file.read_bytes())
    assert "sealing.key" not in members(file)

    apply(cli, "providers: []", "--prune")
    later = cli("token", "create", "--role", "viewer").ok().last_line
    restored = cli("restore", str(file)).ok()
    assert "restored" in restored.out
    assert restored.err == "", "the sealing key is still the right one"
    assert cli("export").ok().out == before
    assert later not in cli("token", "list").ok().out
    apply(cli, YAML.replace("search", "search-2").replace("indexer", "indexer-2").replace("a-key", "b-key"))


def test_ids_are_not_given_twice_after_a_restore(cli: Cli, tmp_path: Path) -> None:
    """Ledger rows and counters outlive what they name."""
    apply(cli)
    cli("key", "create", "--app", "indexer", "--name", "gone").ok()
    cli("key", "revoke", "indexer/gone").ok()
    file = tmp_path / "backup.tar.gz"
    cli("backup", str(file)).ok()
    cli("restore", str(file)).ok()
    cli("key", "create", "--app", "indexer", "--name", "next").ok()
    listed = cli("key", "list").ok().out.splitlines()
    assert [line.split("\t")[0] for line in listed[1:]] == ["1", "3"]


@pytest.mark.parametrize("with_key", [True, False])
def test_from_sqlite_into_postgresql_on_another_host(tmp_path: Path, postgres_url: str, with_key: bool) -> None:
    here, there = Cli(tmp_path / "here"), Cli(tmp_path / "there", postgres_url)
    apply(here)
    file = tmp_path / "backup.tar.gz"
    here("backup", str(file), *(["--with-key"] if with_key else [])).ok()
    restored = there("restore", str(file)).ok()
    if with_key:
        assert there("export").ok().out == here("export").ok().out
        assert there("doctor").ok().out.count("broken\t") == 0
    else:
        assert "no sealing key" in restored.err, "credentials that cannot be opened are told of at once"
        assert "sealing.key" in restored.err


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.98, -1])
def test_half_a_backup_changes_nothing(sqlite_cli: Cli, tmp_path: Path, kept: float) -> None:
    apply(sqlite_cli)
    file = tmp_path / "backup.tar.gz"
    sqlite_cli("backup", str(file)).ok()
    apply(sqlite_cli, YAML.replace("small", "large"))
    before = sqlite_cli("export").ok().out
    whole = file.read_bytes()
    file.write_bytes(whole[: int(kept * len(whole)) if 0 < kept < 1 else int(kept)])
    said = sqlite_cli("restore", str(file))
    assert said.code == 1
    assert "backup" in said.err
    assert "Traceback" not in said.err
    assert sqlite_cli("export").ok().out == before
    assert not list(sqlite_cli.data.glob("*restor*"))


def test_a_backup_that_cannot_be_written_leaves_nothing(sqlite_cli: Cli, tmp_path: Path) -> None:
    assert sqlite_cli("backup", str(tmp_path / "x.tar.gz")).code == 1
    assert not (tmp_path / "x.tar.gz").exists()
    apply(sqlite_cli)
    assert sqlite_cli("backup", str(tmp_path / "nowhere" / "x.tar.gz")).code == 1


def test_a_backup_of_an_older_schema_is_restored_and_brought_up_to_date(database_url: str, tmp_path: Path) -> None:
    """The advice before an upgrade is a backup: made by either release, it must come back into the newer one."""
    old, new = Cli(tmp_path / "old"), Cli(tmp_path / "new", database_url)
    old.data.mkdir(mode=0o700)
    engine = make_engine(f"sqlite:///{old.data}/sluicegate.sqlite")
    migrate.upgrade(engine, "0002")
    with write_session(engine) as session:
        session.execute(text("INSERT INTO team (name, version, created_at, updated_at) VALUES ('kept', 1, 5, 6)"))
        session.execute(text("UPDATE meta SET generation = 7"))
    engine.dispose()
    file = tmp_path / "backup.tar.gz"
    old("backup", str(file)).ok()
    apply(new)
    new("restore", str(file)).ok()
    assert new("export").ok().out == "teams:\n- name: kept\n"
    assert new("doctor").ok().out.count("broken\t") == 0
    apply(new)


def test_a_backup_of_a_newer_release_is_refused(sqlite_cli: Cli, tmp_path: Path) -> None:
    apply(sqlite_cli)
    file = tmp_path / "backup.tar.gz"
    sqlite_cli("backup", str(file)).ok()
    with tarfile.open(file) as archive, tarfile.open(tmp_path / "newer.tar.gz", "w:gz") as newer:
        for member in archive:
            content = archive.extractfile(member).read()
            if member.name == "manifest.json":
                content = re.sub(rb'"schema": "\w+"', b'"schema": "9999"', content)
                member.size = len(content)
            newer.addfile(member, io.BytesIO(content))
    before = sqlite_cli("export").ok().out
    said = sqlite_cli("restore", str(tmp_path / "newer.tar.gz"))
    assert said.code == 1
    assert "newer" in said.err
    assert sqlite_cli("export").ok().out == before


def test_while_it_serves(tmp_path: Path, database_url: str) -> None:
    """Consistent under traffic: what had ended before the backup began is in it; restoring waits for a stop."""
    with Provider() as provider:
        yaml = YAML.replace("http://127.0.0.1:9", provider.url)
        with live.gateway(tmp_path, yaml, database_url=database_url) as running:
            cli = Cli(running.data, database_url)
            client = openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key("ci"))
            for _ in range(20):
                client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "hi"}])
            file = tmp_path / "backup.tar.gz"
            cli("backup", str(file)).ok()
            for _ in range(5):
                client.chat.completions.create(model="chat", messages=[{"role": "user", "content": "hi"}])
            client.close()
            said = cli("restore", str(file))
            assert said.code == 1
            assert "service stop" in said.err
            running.wait_for_rows(25)
        cli("restore", str(file)).ok()
        running.start()
        try:
            running.until(lambda: len(running.ledger()) >= 20, 5)
            assert len(running.ledger()) == 20
        finally:
            running.stop()


def test_what_was_leased_is_free_again_on_another_host(tmp_path: Path) -> None:
    """The backup is taken while workers hold leases; where it is restored, the limit has exactly its rest."""
    limit = "limits: [{name: thirty, scope: {}, metric: requests, window: lifetime, at_most: 30}]\n"
    with Provider() as provider:
        yaml = YAML.replace("http://127.0.0.1:9", provider.url) + limit
        file = tmp_path / "backup.tar.gz"
        hi: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
        with live.gateway(tmp_path / "here", yaml, workers=2) as running:
            with openai.OpenAI(base_url=f"{running.url}/v1", api_key=running.key("ci")) as client:
                for _ in range(20):
                    client.chat.completions.create(**hi)
            Cli(running.data)("backup", str(file), "--with-key").ok()
        with live.gateway(tmp_path / "there", "providers: []") as running:
            running.stop()
            Cli(running.data)("restore", str(file)).ok()
            running.start()
            key = live.keys_of(yaml)["ci"]
            with openai.OpenAI(base_url=f"{running.url}/v1", api_key=key, max_retries=0) as client:
                running.until(lambda: len(running.ledger()) == 20, 5)
                for _ in range(10):
                    client.chat.completions.create(**hi)
                with pytest.raises(openai.RateLimitError):
                    client.chat.completions.create(**hi)


def others_may_run_python() -> bool:
    """Whether the user nobody gets at this interpreter's library (not where pyenv put it into root's home)."""
    library = Path(os.__file__).parent
    return all(folder.stat().st_mode & 0o001 for folder in [library, *library.parents])


@pytest.mark.skipif(os.geteuid() != 0, reason="root alone can be another user")
@pytest.mark.skipif(not others_may_run_python(), reason="this Python lies where no other user may look")
def test_root_works_as_the_owner_of_the_data_folder(tmp_path: Path) -> None:
    open_folder = Path(tempfile.mkdtemp(prefix="sluicegate-owner-"))  # pytest closes its own to others
    try:
        open_folder.chmod(0o711)
        as_root_for_nobody(Cli(open_folder / "data"), tmp_path)
    finally:
        shutil.rmtree(open_folder)


def as_root_for_nobody(sqlite_cli: Cli, tmp_path: Path) -> None:
    sqlite_cli.data.mkdir(mode=0o700)
    os.chown(sqlite_cli.data, 65534, 65534)
    apply(sqlite_cli)
    sqlite_cli("key", "list").ok()
    made = list(sqlite_cli.data.rglob("*"))
    assert {path.name for path in made} >= {"sluicegate.sqlite", "sealing.key"}
    for path in made:
        assert path.stat().st_uid == 65534, path
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    sqlite_cli("backup", str(private / "b.tar.gz")).ok()
    assert (private / "b.tar.gz").stat().st_uid == 0, "the backup goes where the caller may write"
    sqlite_cli("restore", str(private / "b.tar.gz")).ok()
    sqlite_cli("export", "-o", str(private / "e.yaml")).ok()
    assert "indexer" in (private / "e.yaml").read_text()
