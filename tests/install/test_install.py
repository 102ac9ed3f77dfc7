"""install.sh from nothing: a bare Debian (debootstrap), no systemd, an empty package cache; then again; then away.

The root file system is Debian's, the network is this machine's: `--listen` is a free loopback port.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.support.ports import answers, free_port

CHECKOUT = Path(__file__).resolve().parents[2]
ENTER = """\
mount -t proc proc "$0/proc"; mount --rbind /dev "$0/dev"; mount -t tmpfs tmpfs "$0/run"
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \\
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt PIP_CERT=/etc/ssl/certs/ca-certificates.crt \\
    NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt ${PIP_INDEX_URL:+PIP_INDEX_URL="$PIP_INDEX_URL"} \\
    chroot "$0" /bin/bash -c "$1"
"""

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("debootstrap") is None, reason="needs root and debootstrap"),
]


class Machine:
    """A Debian of its own; commands run in a mount namespace that ends with them."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, command: str, *, within_s: float = 900) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["unshare", "--mount", "--propagation", "private", "bash", "-c", ENTER, str(self.root), command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=within_s,
            check=False,
        )

    def ok(self, command: str, *, within_s: float = 900) -> str:
        done = self.run(command, within_s=within_s)
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bare Debian 12 that can reach the package registries as this machine does."""
    root = tmp_path_factory.mktemp("debian")
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    mirror = re.search(r"^URIs: (\S+)", sources.read_text(), re.MULTILINE) if sources.exists() else None
    words = ["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", str(root)]
    subprocess.run([*words, mirror[1]] if mirror else words, check=True, capture_output=True, timeout=900)
    root.chmod(0o755)  # as a root is; pytest's own folders are closed to others
    for name in ("resolv.conf", "hosts", "ssl/certs/ca-certificates.crt"):
        shutil.copy(Path("/etc") / name, root / "etc" / name)
    for settings in Path("/etc/apt/apt.conf.d").glob("*registry*"):
        shutil.copy(settings, root / "etc/apt/apt.conf.d")
    return root


@pytest.fixture
def machine(bare: Path, tmp_path: Path) -> Iterator[Machine]:
    """A fresh copy, with the checkout as a clone would bring it."""
    root = tmp_path / "root"
    subprocess.run(["cp", "-a", "--reflink=auto", str(bare), str(root)], check=True)
    clone = root / "root" / "sluicegate"
    clone.mkdir()
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    ).stdout.split(b"\0")
    present = b"\0".join(file for file in files if file and (CHECKOUT / os.fsdecode(file)).exists())
    packed = subprocess.run(
        ["tar", "-c", "--null", "--files-from=-"], cwd=CHECKOUT, input=present, check=True, capture_output=True
    )
    subprocess.run(["tar", "-x", "-C", str(clone)], input=packed.stdout, check=True)
    machine = Machine(root)
    try:
        yield machine
    finally:
        machine.run(
            "for c in /opt/sluicegate/bin/sluicegate /srv/gate/bin/sluicegate; do $c demo --down; $c service stop; done"
        )


def test_from_nothing_with_the_demo_then_again_then_away(machine: Machine) -> None:
    port = free_port()
    began_s = time.monotonic()
    first = machine.ok(f"cd /root/sluicegate && ./install.sh --listen 127.0.0.1:{port}")
    print(f"from nothing: {time.monotonic() - began_s:.0f} s")
    assert f"http://127.0.0.1:{port}/console/" in first
    password = re.search(r"password (\S+)", first)
    assert password
    assert "sluicegate demo" in first

    url = f"http://127.0.0.1:{port}"
    assert httpx2.get(f"{url}/readyz").status_code == 200
    assert "<div id=" in httpx2.get(f"{url}/console/").text
    credentials = {"username": "admin", "password": password[1]}
    assert httpx2.post(f"{url}/api/v1/session", json=credentials).status_code == 201

    data = machine.root / "var/lib/sluicegate"
    assert data.stat().st_mode & 0o777 == 0o700
    owner = data.stat().st_uid
    assert owner != 0, "it has a user of its own"
    # the agent's memory is root's
    assert {path.stat().st_uid for path in data.rglob("*") if path.name != "agent.state"} == {owner}

    assert "agent    ready" in machine.ok("sluicegate service status"), "it has no rules, and does nothing"

    shown = machine.ok("sluicegate demo")
    assert re.search(r"\d+ tokens in · \d+ out · \$0\.\d{6}", shown)
    machine.ok("echo 'teams: [{name: kept, apps: [{name: mine, routes: \"*\"}]}]' | sluicegate apply -f -")
    key = machine.ok("sluicegate key create --app mine").splitlines()[-1]

    began_s = time.monotonic()
    second = machine.ok("cd /root/sluicegate && ./install.sh")
    print(f"in place: {time.monotonic() - began_s:.0f} s")
    assert "upgraded" in second
    assert f"http://127.0.0.1:{port}/console/" in second, "the address is kept"
    assert "password " not in second.replace("forgotten password", "")
    assert httpx2.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200
    assert httpx2.post(f"{url}/api/v1/session", json=credentials).status_code == 201
    assert int(machine.ok("sluicegate usage --group-by team | grep ^demo").split("\t")[1]) > 2
    assert machine.run("sluicegate doctor").returncode == 0

    machine.ok("cd /root/sluicegate && ./install.sh --without-agent")
    assert "agent    not there" in machine.ok("sluicegate service status")
    machine.ok("cd /root/sluicegate && ./install.sh --with-agent")
    assert "agent    ready" in machine.ok("sluicegate service status")

    machine.ok("cd /root/sluicegate && ./install.sh --uninstall")
    assert not (machine.root / "var/log/sluicegate").exists()
    assert not answers(port)
    assert not (machine.root / "opt/sluicegate").exists()
    assert (data / "sluicegate.sqlite").exists(), "state stays"
    machine.ok(f"cd /root/sluicegate && ./install.sh --prefix /srv/gate --listen 127.0.0.1:{port}")
    assert httpx2.get(f"{url}/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200
    machine.ok("cd /root/sluicegate && ./install.sh --prefix /srv/gate --uninstall --purge")
    assert not data.exists()
    assert "sluicegate" not in (machine.root / "etc/passwd").read_text()


def test_what_it_refuses_it_refuses_with_a_reason(machine: Machine) -> None:
    for options, reason in (
        ("--frobnicate", "unknown option"),
        ("--purge", "--uninstall"),
        ("--listen 8080", "HOST:PORT"),
        ("--with telepathy", "no extra telepathy"),
        ("--demo --no-start", "--demo"),
        ("--uninstall", "no Sluicegate is installed"),
    ):
        done = machine.run(f"cd /root/sluicegate && ./install.sh {options}")
        assert done.returncode != 0
        assert reason in done.stderr, done.stderr
    done = machine.run("cd /root/sluicegate && SLUICEGATE_SOURCE=/nowhere bash < install.sh")
    assert done.returncode != 0
    assert "/nowhere" in done.stderr


def test_a_wheel_without_a_checkout_a_chosen_password_no_start(machine: Machine, tmp_path: Path) -> None:
    """What `curl … | bash` does, with SLUICEGATE_SOURCE naming a wheel."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    shutil.copy(wheel, machine.root / "root")
    shutil.copy(CHECKOUT / "install.sh", machine.root / "root/install.sh")
    said = machine.ok(
        f"SLUICEGATE_ADMIN_PASSWORD='correct horse battery' SLUICEGATE_SOURCE=/root/{wheel.name} "
        "bash -s -- --prefix /srv/gate --data /srv/state --no-start --without-agent < /root/install.sh"
    )
    assert "correct horse" not in said
    assert "/srv/gate/bin/sluicegate service start" in said
    assert machine.run("/srv/gate/bin/sluicegate service status").returncode == 3
    assert "create team kept" in machine.ok("echo 'teams: [{name: kept}]' | /srv/gate/bin/sluicegate apply -f -")
