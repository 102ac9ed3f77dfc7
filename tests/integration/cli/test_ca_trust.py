"""`sluicegate ca trust` and `untrust` on a copy of this host's store, which a mount namespace shows in its place."""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.cli.trust_store import TrustStore
from gateway.dataplane.leaves import LeafMinter
from tests.integration.cli.test_ca import HOSTS, in_snapshot, intercept
from tests.support.cli import COMMAND, Cli, Said
from tests.support.leaf_server import LeafServer

LOCAL, SYSTEM = Path("/usr/local/share/ca-certificates"), Path("/etc/ssl/certs")
JAVA_STORE = SYSTEM / "java/cacerts"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("update-ca-certificates", path="/usr/sbin") is None,
    reason="needs root and the package ca-certificates",
)


@dataclass(frozen=True, slots=True)
class OwnStore:
    """A shell whose trust store is a copy of this host's."""

    folder: Path

    def run(self, *words: str | Path, **env: str) -> Said:
        mounts = " && ".join(f"mount --bind {self.copy_of(place)} {place}" for place in (LOCAL, SYSTEM))
        command = ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh", *words]
        own = {
            name: value for name, value in os.environ.items() if not name.startswith(("SLUICEGATE_", "SSL_", "CURL_"))
        }
        done = subprocess.run(
            command, env=own | env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=150, check=False
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def copy_of(self, place: Path) -> Path:
        return self.folder / place.name

    def seen(self) -> dict[str, str | bytes]:
        """Every file and link of the store, with what it holds or leads to; Java's by what it lists."""
        found: dict[str, str | bytes] = {}
        for place in (LOCAL, SYSTEM):
            for path in sorted(self.copy_of(place).rglob("*")):
                name = str(place / path.relative_to(self.copy_of(place)))
                if path.is_symlink():
                    found[name] = os.readlink(path)
                elif path.is_file() and name != str(JAVA_STORE):
                    found[name] = path.read_bytes()
        if self.copy_of(SYSTEM).joinpath("java/cacerts").exists() and shutil.which("keytool"):
            listed = self.run("keytool", "-list", "-keystore", JAVA_STORE, "-storepass", "changeit").ok().out
            found["java"] = "\n".join(sorted(line for line in listed.splitlines() if "SHA-256" in line))
        return found


@pytest.fixture
def store(tmp_path: Path) -> OwnStore:
    made = OwnStore(tmp_path / "store")
    made.folder.mkdir()
    for place in (LOCAL, SYSTEM):
        shutil.copytree(place, made.copy_of(place), symlinks=True)
    made.run("update-ca-certificates").ok()  # so that what a hook had not yet done is not taken for our doing
    return made


@pytest.mark.timeout(400)
def test_trusted_and_taken_out_again_exactly(store: OwnStore, sqlite_cli: Cli) -> None:
    intercept(sqlite_cli)
    before = store.seen()
    data = str(sqlite_cli.data)
    trusted = store.run(COMMAND, "ca", "trust", "--data", data).ok()
    assert "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt" in trusted.err
    assert "NODE_EXTRA_CA_CERTS=/usr/local/share/ca-certificates/sluicegate-interception-" in trusted.err
    said = store.run(COMMAND, "ca", "status", "--data", data).ok()
    assert "this host      trusts it" in said.out
    assert "already" in store.run(COMMAND, "ca", "trust", "--data", data).ok().out
    made = in_snapshot(sqlite_cli)
    assert made is not None
    server = LeafServer(LeafMinter(made))
    try:
        there = ("--resolve", f"{HOSTS}:{server.port}:127.0.0.1")
        fetched = store.run("curl", "-sS", *there, f"https://{HOSTS}:{server.port}/")
        assert HOSTS in fetched.ok().out
        between = store.seen()
        assert between != before
        if "java" in between:
            assert len(str(between["java"]).splitlines()) == len(str(before["java"]).splitlines()) + 1

        sqlite_cli("ca", "renew").ok()
        assert "does not trust it" in store.run(COMMAND, "ca", "status", "--data", data).ok().out
        store.run(COMMAND, "ca", "trust", "--data", data).ok()
        assert len([name for name in store.seen() if name.startswith(str(LOCAL / "sluicegate"))]) == 1
        assert HOSTS in store.run("curl", "-sS", *there, f"https://{HOSTS}:{server.port}/").ok().out

        store.run(COMMAND, "ca", "untrust", "--data", data).ok()
        after = store.seen()
        assert {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} == set()
        assert store.run("curl", "-sS", *there, f"https://{HOSTS}:{server.port}/").code == 60
    finally:
        server.close()
    assert "trusts no certificate authority" in store.run(COMMAND, "ca", "untrust", "--data", data).ok().out


@pytest.mark.timeout(400)
def test_untrust_without_the_gateway(store: OwnStore, sqlite_cli: Cli, tmp_path: Path) -> None:
    intercept(sqlite_cli)
    other = Cli(tmp_path / "other")
    intercept(other)
    before = store.seen()
    for cli in (sqlite_cli, other):
        store.run(COMMAND, "ca", "trust", "--data", str(cli.data)).ok()
    shutil.rmtree(other.data)
    several = store.run(COMMAND, "ca", "untrust", "--data", str(other.data))
    assert several.code == 1
    assert "--all" in several.err
    sqlite_cli("ca", "remove").ok()
    store.run(COMMAND, "ca", "untrust", "--data", str(sqlite_cli.data)).ok()
    left = [name for name in store.seen() if name.startswith(str(LOCAL / "sluicegate"))]
    assert len(left) == 1, "a gateway takes out its own, whether it still has it or not"
    store.run(COMMAND, "ca", "untrust", "--data", str(other.data)).ok()
    assert store.seen() == before
    assert not other.data.exists()


def test_only_root_may(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "SLUICEGATE_DATA": str(tmp_path)}
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", COMMAND, "ca", "trust"],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "only root may change what this host trusts" in done.stderr
    assert "sudo" in done.stderr


def test_a_host_that_is_not_debian_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(Exception, match=r"no update-ca-certificates.*sluicegate ca export"):
        TrustStore().require_writable()
