"""`sluicegate ca`: made, renewed, replaced, removed; sealed at rest; with and without a running gateway."""

import base64
import gzip
import json
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from gateway.policy.model import CertificateAuthority
from gateway.settings import Settings
from gateway.store.compiler import compile_snapshot
from gateway.store.database import make_engine, read_session
from gateway.store.sealing import load_sealer
from tests.support import live
from tests.support.cli import Cli, Said

HOSTS = "api.openai.example"
PROVIDER = (
    "providers: [{name: p, dialect: openai, base_url: 'http://127.0.0.1:9', credentials: [{name: a, value: s3cret}]}]"
)


def intercept(cli: Cli, hosts: str = HOSTS, more: str = "") -> Said:
    rule = f"interception: [{{name: ai, destinations: {{hosts: [{hosts}]}}, tls: terminate}}]"
    return cli("apply", "-f", "-", stdin=f"{rule}\n{more}\n").ok()


def in_snapshot(cli: Cli) -> CertificateAuthority | None:
    """As the next snapshot carries it to the workers."""
    settings = Settings(data=cli.data, **({"database": cli.database} if cli.database else {}))
    engine = make_engine(settings.database_url)
    try:
        with read_session(engine) as session:
            row = compile_snapshot(session, load_sealer(settings))["authority"]
    finally:
        engine.dispose()
    return None if row is None else CertificateAuthority(certificate=row[0], key=row[1])


@pytest.mark.timeout(400)
def test_made_by_export_and_renewed(sqlite_cli: Cli, tmp_path: Path) -> None:
    refused = sqlite_cli("ca", "create")
    assert refused.code == 1
    assert "no interception rule terminates TLS" in refused.err
    intercept(sqlite_cli)
    said = sqlite_cli("ca", "status")
    assert (said.code, "sluicegate ca create" in said.err) == (1, True)
    first = sqlite_cli("ca", "export").ok().out
    assert first.startswith("-----BEGIN CERTIFICATE-----")
    assert first.count("-----BEGIN") == 1
    file = tmp_path / "ca.pem"
    sqlite_cli("ca", "export", str(file)).ok()
    assert file.read_text() == first
    assert stat.S_IMODE(file.stat().st_mode) == 0o644

    intercept(sqlite_cli, hosts=f"{HOSTS}, api.mistral.example")
    said = sqlite_cli("ca", "status")
    assert said.code == 1
    assert "sluicegate ca renew" in said.err
    assert "may not sign for api.mistral.example" in sqlite_cli("doctor").out
    sqlite_cli("ca", "renew").ok()
    said = sqlite_cli("ca", "status").ok()
    assert f"signs for      api.mistral.example, {HOSTS}" in said.out
    assert said.err == ""


def test_the_key_is_sealed_at_rest(sqlite_cli: Cli, tmp_path: Path) -> None:
    intercept(sqlite_cli)
    sqlite_cli("ca", "create").ok()
    held = in_snapshot(sqlite_cli)
    assert held is not None
    key = load_pem_private_key(held.key.encode(), None)
    number = key.private_numbers().private_value  # type: ignore[union-attr]
    plain = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    backup = tmp_path / "b.tar.gz"
    sqlite_cli("backup", str(backup)).ok()
    kept = b"".join(path.read_bytes() for path in sqlite_cli.data.rglob("*") if path.is_file())
    kept += gzip.decompress(backup.read_bytes()) + sqlite_cli("export").ok().out.encode()
    assert held.certificate.splitlines()[1].encode() in kept, "what is public is there to be found"
    for secret in (
        b"PRIVATE KEY",
        number.to_bytes(32),
        number.to_bytes(32).hex().encode(),
        base64.b64encode(plain)[40:80],
        held.key.splitlines()[1].encode(),
    ):
        assert secret not in kept


@pytest.mark.timeout(400)
def test_it_survives_rotation_backup_and_restore(sqlite_cli: Cli, tmp_path: Path, postgres_url: str) -> None:
    intercept(sqlite_cli, more=PROVIDER)
    sqlite_cli("ca", "create").ok()
    before = in_snapshot(sqlite_cli)
    assert before is not None
    assert "secrets sealed with a new key: 2" in sqlite_cli("sealing", "rotate").ok().out
    assert in_snapshot(sqlite_cli) == before
    file = tmp_path / "backup.tar.gz"
    sqlite_cli("backup", str(file), "--with-key").ok()
    sqlite_cli("ca", "remove").ok()
    assert in_snapshot(sqlite_cli) is None
    sqlite_cli("restore", str(file)).ok()
    assert in_snapshot(sqlite_cli) == before
    there = Cli(tmp_path / "there", postgres_url)
    there("restore", str(file)).ok()
    assert in_snapshot(there) == before
    assert "2 sealed secrets, all open" in there("doctor").out
    there("ca", "renew").ok()
    renewed = in_snapshot(there)
    assert renewed is not None
    assert (renewed.key, renewed.certificate == before.certificate) == (before.key, False)


RULES = f"interception: [{{name: ai, destinations: {{hosts: [{HOSTS}]}}, tls: terminate}}]\n"


@pytest.mark.timeout(400)
def test_over_a_running_gateway_by_role(tmp_path: Path) -> None:
    with live.gateway(tmp_path, RULES) as running:

        def as_role(role: str) -> Cli:
            made = running.api.post("/api/v1/tokens", json={"role": role, "name": role}).raise_for_status().json()
            place = {"SLUICEGATE_URL": running.url, "SLUICEGATE_TOKEN": made["token"]}
            return Cli(tmp_path / "elsewhere", env=place)

        viewer, operator, admin = map(as_role, ("viewer", "operator", "admin"))
        refused = viewer("ca", "export")
        assert refused.code == 1
        assert "authority:write" in refused.err
        admin("ca", "create").ok()
        assert viewer("ca", "export").ok().out == Cli(running.data, running.database_url)("ca", "export").ok().out
        assert operator("ca", "renew").code == 1
        admin("ca", "renew").ok()
        viewer("ca", "status").ok()
        answer = running.api.get("/api/v1/authority").json()
        assert "PRIVATE" not in json.dumps(answer)
        assert (answer["covers"], answer["rules"]) == (True, ["ai"])
        admin("ca", "remove").ok()
        running.api.post("/api/v1/authority", params={"dry_run": "true"}, json={}).raise_for_status()
        assert running.api.get("/api/v1/authority").json()["certificate"] is None
        assert running.api.post("/api/v1/authority", json={"action": "renew"}).status_code == 404
        assert running.api.post("/api/v1/authority", json={"action": "steal"}).status_code == 422
    assert "PRIVATE KEY" not in running.log_file.read_text()


@pytest.mark.parametrize("words", [["export"], ["trust"]])
def test_where_there_is_no_gateway_none_is_made(tmp_path: Path, words: list[str]) -> None:
    nowhere = tmp_path / "nowhere"
    said = Cli(nowhere)("ca", *words)
    assert said.code == 1
    assert "no data folder" in said.err or "update-ca-certificates" in said.err
    assert not nowhere.exists()
