"""install.sh under a real systemd (as PID 1 of a container): the unit's confinement holds, and everything works."""

import io
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pyarrow.parquet
import pytest

from tests.support.docker_engine import Engine
from tests.support.ports import free_port

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
NAME = "sluicegate-systemd"
MACHINE = """
ARG BASE
FROM ${BASE}
RUN apt-get update \\
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \\
        systemd systemd-sysv dbus util-linux iproute2 \\
    && systemctl mask systemd-udevd.service systemd-udev-trigger.service getty.target console-getty.service \\
    && systemctl set-default multi-user.target
STOPSIGNAL SIGRTMIN+3
CMD ["/sbin/init"]
"""
CAPABILITIES = "SYS_ADMIN SYS_PTRACE NET_ADMIN SYS_NICE SYS_TIME SYSLOG IPC_LOCK LINUX_IMMUTABLE DAC_READ_SEARCH"
YAML = """
providers: [{name: local, dialect: openai, base_url: "http://127.0.0.1:9200/v1"}]
routes: [{name: chat, targets: [{provider: local, model: tiny}]}]
teams: [{name: search, apps: [{name: indexer, routes: [chat], keys: [{name: ci, value: sk-systemd-test-1}]}]}]
"""


class Machine:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"

    def run(self, command: str, *, stdin: bytes | str = "", code: int = 0, within_s: float = 600) -> str:
        trust = "/etc/ssl/certs/ca-certificates.crt"
        env = [f"{name}={trust}" for name in ("SSL_CERT_FILE", "PIP_CERT", "NODE_EXTRA_CA_CERTS")]
        options = [word for each in env for word in ("-e", each)]
        return self.engine(
            "exec", "-i", *options, NAME, "bash", "-c", command, stdin=stdin, code=code, within_s=within_s
        )

    def main_pid(self, unit: str = "sluicegate") -> str:
        return self.run(f"systemctl show -p MainPID --value {unit}").strip()

    def wait_ready(self) -> None:
        until_s = time.monotonic() + 120
        while True:
            try:
                if httpx2.get(self.url + "/readyz", timeout=5).status_code == 200:
                    return
            except httpx2.HTTPError:
                pass
            assert time.monotonic() < until_s, self.run("journalctl -u sluicegate --no-pager -n 50")
            time.sleep(0.2)

    def ask(self) -> httpx2.Response:
        body = {"model": "chat", "messages": [{"role": "user", "content": "Say hello."}]}
        key = {"authorization": "Bearer sk-systemd-test-1"}
        return httpx2.post(self.url + "/v1/chat/completions", json=body, headers=key, timeout=30)

    def rows(self, count: int) -> list[dict[str, object]]:
        until_s = time.monotonic() + 30
        while True:
            rows = [json.loads(line) for line in self.run("sluicegate ledger list --json").splitlines()]
            if len(rows) >= count:
                return rows
            assert time.monotonic() < until_s, rows


@pytest.fixture(scope="module")
def machine(engine: Engine) -> Iterator[Machine]:
    """A Debian that systemd runs, on this host's network, with the checkout in /root/sluicegate."""
    engine("build", "-q", "--build-arg", f"BASE={engine.base}", "-t", NAME, "-", stdin=MACHINE, within_s=900)
    caps = [word for each in CAPABILITIES.split() for word in ("--cap-add", each)]
    free = ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--network", "host"]
    places = ["--tmpfs", "/run", "--tmpfs", "/run/lock", "-v", "/sys/fs/cgroup:/sys/fs/cgroup", "--cgroupns", "host"]
    trust = os.environ.get("SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt")
    places += ["-v", f"{trust}:/etc/ssl/certs/ca-certificates.crt:ro", "-e", "container=docker"]
    engine("run", "-d", "--name", NAME, *caps, *free, *places, NAME)
    machine = Machine(engine)
    try:
        state = ""
        until_s = time.monotonic() + 60
        while state not in ("running", "degraded"):
            if time.monotonic() > until_s:
                pytest.skip(f"systemd does not come up in a container here: {state!r}")
            time.sleep(0.5)
            state = machine.run("systemctl is-system-running || true").strip()
        listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        files = subprocess.run(listed, cwd=ROOT, check=True, capture_output=True).stdout
        tar = ["tar", "-c", "--null", "--files-from=-"]
        packed = subprocess.run(tar, cwd=ROOT, input=files, check=True, capture_output=True).stdout
        machine.run("mkdir /root/sluicegate && tar -x -C /root/sluicegate", stdin=packed)
        yield machine
    finally:
        engine("rm", "-f", NAME)


def test_installed_confined_and_at_work(machine: Machine) -> None:
    said = machine.run(f"cd /root/sluicegate && ./install.sh --listen 127.0.0.1:{machine.port}", within_s=1200)
    assert "Console" in said
    machine.wait_ready()
    assert machine.run("systemctl is-enabled sluicegate").strip() == "enabled"
    pid = machine.main_pid()

    status = machine.run(f"cat /proc/{pid}/status")
    assert "CapEff:\t0000000000002400" in status, "CAP_NET_BIND_SERVICE, CAP_NET_RAW and no other"
    assert "CapBnd:\t0000000000002400" in status
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    for path in ("/etc", "/opt/sluicegate", "/usr", "/root"):
        assert "Read-only" in machine.run(f"nsenter -t {pid} -m touch {path}/x", code=1)
    machine.run(f"nsenter -t {pid} -m touch /var/lib/sluicegate/x && rm /var/lib/sluicegate/x")

    machine.engine("exec", "-d", NAME, "python3", "/root/sluicegate/tests/support/docker/provider.py")
    machine.run("sluicegate apply -f -", stdin=YAML)
    until_s = time.monotonic() + 10
    while machine.ask().status_code != 200:
        assert time.monotonic() < until_s
    machine.rows(1)

    # What might stumble over the confinement: argon2, pyarrow, exports with a lower priority.
    token = machine.run("sluicegate token create --role viewer").splitlines()[-1]
    asked = {"authorization": f"Bearer {token}"}
    export = httpx2.get(machine.url + "/api/v1/ledger/export?format=parquet", headers=asked, timeout=120)
    assert export.status_code == 200, export.text
    assert pyarrow.parquet.read_table(io.BytesIO(export.content)).num_rows >= 1
    password = said.split("password ")[1].split()[0]
    signed_in = httpx2.post(
        machine.url + "/api/v1/session", json={"username": "admin", "password": password}, timeout=60
    )
    assert signed_in.status_code < 300, signed_in.text

    machine.run("systemctl reload sluicegate")
    time.sleep(2)
    machine.wait_ready()
    assert machine.main_pid() == pid
    count = len(machine.rows(1))
    machine.run(f"kill -9 {pid}")
    time.sleep(2)
    machine.wait_ready()
    assert machine.main_pid() != pid
    assert machine.ask().status_code == 200
    assert len(machine.rows(count + 1)) == count + 1

    the_agent_beside_it(machine)
    assert "ready" in machine.run("sluicegate service status")
    machine.run("sluicegate service stop")
    assert "not running" in machine.run("sluicegate service status", code=3)
    journal = machine.run("journalctl -u sluicegate --no-pager")
    assert "Traceback" not in journal
    machine.run("cd /root/sluicegate && ./install.sh --uninstall --purge")
    assert (
        machine.run("ls /etc/systemd/system/sluicegate*.service /var/lib/sluicegate 2>&1 || true").count("No such") == 2
    )


def the_agent_beside_it(machine: Machine) -> None:
    """Confined, started again when it dies, upgraded in place; without a rule it leaves the kernel alone."""
    assert machine.run("systemctl is-enabled sluicegate-agent").strip() == "enabled"

    def wait_ready() -> None:
        until_s = time.monotonic() + 60
        while "agent    ready" not in machine.run("sluicegate service status"):
            assert time.monotonic() < until_s, machine.run("journalctl -u sluicegate-agent --no-pager -n 50")
            time.sleep(0.5)

    wait_ready()
    pid = machine.main_pid("sluicegate-agent")
    status = machine.run(f"cat /proc/{pid}/status")
    assert "CapEff:\t0000000000001000" in status, "CAP_NET_ADMIN and no other"
    assert "CapBnd:\t0000000000001000" in status
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    assert "Read-only" in machine.run(f"nsenter -t {pid} -m touch /etc/x", code=1)
    machine.run("sluicegate service upgrade --agent", within_s=120)
    assert machine.main_pid("sluicegate-agent") == pid
    machine.run(f"kill -9 {pid}")
    time.sleep(1)
    wait_ready()
    assert machine.main_pid("sluicegate-agent") != pid
    assert "sluicegate" not in machine.run("ip rule; command -v nft >/dev/null && nft list tables || true")
    assert "Traceback" not in machine.run("journalctl -u sluicegate-agent --no-pager")
