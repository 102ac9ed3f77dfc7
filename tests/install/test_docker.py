"""`docker-compose.yml` for real: a Docker engine of the test's own, images made from a Debian that debootstrap brings,
a request through all of it, a restart, an upgrade under load, and what each container may do.

Image registries cannot be asked, so that PostgreSQL, Prometheus and Valkey come from Debian's packages under the same
users and paths (tests/support/docker). `DOCKER_HOST` and `SLUICEGATE_TEST_BASE` (an image) spare engine and base.
"""

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.docker_engine import Engine
from tests.support.ports import free_port

pytestmark = [pytest.mark.long, pytest.mark.timeout(2400)]

ROOT = Path(__file__).parents[2]
SUPPORT = ROOT / "tests/support/docker"
COMPOSE = "sluicegate-test"
COMPOSE_VERSION = "v2.39.4"
YAML = """
providers: [{name: local, dialect: openai, base_url: "http://provider:9200/v1"}]
routes: [{name: chat, targets: [{provider: local, model: tiny}]}]
teams: [{name: search, apps: [{name: indexer, routes: [chat], keys: [{name: ci, value: sk-docker-test-1}]}]}]
prices: [{provider: local, model: "*", input: 1000000, output: 2000000}]
limits: [{name: few, scope: {team: search}, metric: requests, window: lifetime, at_most: 1000}]
"""
KEY = {"authorization": "Bearer sk-docker-test-1"}


def compose_command(folder: Path) -> list[str] | None:
    """Compose 2 or newer: the plugin, the program by itself, or built from its Go module (Debian 12 has version 1)."""
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]):
            said = subprocess.run([*command, "version", "--short"], capture_output=True, text=True)
            if said.returncode == 0 and not said.stdout.startswith(("1.", "docker-compose version 1")):
                return command
    if not shutil.which("go"):
        return None
    built = folder / "docker-compose"
    module = "github.com/docker/compose/v2"
    (folder / "go.mod").write_text("module x\n\ngo 1.24\n")
    subprocess.run(["go", "get", f"{module}@{COMPOSE_VERSION}"], cwd=folder, check=True, capture_output=True)
    build = ["go", "build", "-mod=mod", "-o", str(built), f"{module}/cmd"]
    subprocess.run(build, cwd=folder, check=True, capture_output=True)
    return [str(built)]


class Docker:
    """`docker-compose.yml` on an engine, under ports and image names of the test's own."""

    def __init__(self, engine: Engine, compose: list[str]) -> None:
        self.compose_command = compose
        self.port, self.prometheus_port = free_port(), free_port()
        own = {
            "SLUICEGATE_IMAGE": "sluicegate:test",
            "POSTGRES_IMAGE": "sluicegate-test-postgres",
            "PROMETHEUS_IMAGE": "sluicegate-test-prometheus",
            "VALKEY_IMAGE": "sluicegate-test-valkey",
            "SLUICEGATE_PUBLISH": f"127.0.0.1:{self.port}",
            "PROMETHEUS_PUBLISH": f"127.0.0.1:{self.prometheus_port}",
        }
        self.engine = Engine(engine.env | own, engine.base)

    def __call__(self, *words: str, within_s: float = 300) -> str:
        return self.engine(*words, within_s=within_s)

    def compose(self, *words: str, stdin: str = "", code: int = 0, within_s: float = 300, **env: str) -> str:
        command = [*self.compose_command, "-f", str(ROOT / "docker-compose.yml"), "-p", COMPOSE, *words]
        return self.engine.run(command, stdin=stdin, code=code, within_s=within_s, **env)

    def sluicegate(self, *words: str, stdin: str = "") -> str:
        return self.compose("exec", "-T", "gateway", "sluicegate", *words, stdin=stdin)

    def inspect(self, service: str) -> dict[str, Any]:
        container = self.compose("ps", "-q", "-a", service).strip()
        found: dict[str, Any] = json.loads(self("inspect", container))[0]
        return found

    def build(self, tag: str, *options: str) -> None:
        certificates = os.environ.get("SSL_CERT_FILE")
        trusted = ["--secret", f"id=ca,src={certificates}"] if certificates else []
        base = ["--build-arg", f"BASE={self.engine.base}"]
        self("build", "-q", *base, *trusted, *options, "-t", tag, str(ROOT), within_s=1800)

    def ask(self, **options: Any) -> httpx2.Response:
        body = {"model": "chat", "messages": [{"role": "user", "content": "Say hello."}], **options}
        return httpx2.post(f"http://127.0.0.1:{self.port}/v1/chat/completions", json=body, headers=KEY, timeout=60)

    def rows(self) -> list[dict[str, Any]]:
        lines = self.sluicegate("ledger", "list", "--json", "--limit", "1000").splitlines()
        return [json.loads(line) for line in lines]

    def wait_for_rows(self, count: int) -> list[dict[str, Any]]:
        until_s = time.monotonic() + 30
        while len(found := self.rows()) < count:
            assert time.monotonic() < until_s, f"{len(found)} of {count} rows"
        assert len(found) == count
        return found


@pytest.fixture(scope="module")
def docker(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Docker:
    """An engine with the images."""
    compose = compose_command(tmp_path_factory.mktemp("compose"))
    if compose is None:
        pytest.skip("needs Compose 2 or newer, or Go to build it")
    docker = Docker(engine, compose)
    for server in ("postgres", "prometheus", "valkey"):
        file = ["-f", str(SUPPORT / "servers.Dockerfile"), "--target", server, "-t", f"sluicegate-test-{server}"]
        docker("build", "-q", "--build-arg", f"BASE={engine.base}", *file, str(SUPPORT), within_s=900)
    docker.build("sluicegate:test")
    docker.build("sluicegate:next", "--label", "upgraded=yes")
    return docker


@pytest.fixture(scope="module")
def up(docker: Docker) -> Iterator[Docker]:
    """Everything that starts by default, a provider beside it, and the first owner."""
    try:
        docker.compose("up", "--detach", "--wait", within_s=600)
        script = f"{SUPPORT / 'provider.py'}:/provider.py:ro"
        place = ["--network", f"{COMPOSE}_edge", "--network-alias", "provider", "--name", f"{COMPOSE}-provider"]
        docker("run", "-d", *place, "-v", script, "--entrypoint", "python3", "sluicegate:test", "/provider.py")
        docker.sluicegate("apply", "-f", "-", stdin=YAML)
        yield docker
    except BaseException:
        print(docker.compose("logs", "--tail", "60"))
        raise
    finally:
        docker("rm", "-f", f"{COMPOSE}-provider")
        docker.compose("--profile", "*", "down", "--volumes", "--timeout", "30")


def test_from_nothing_to_a_request_a_restart_and_an_upgrade(up: Docker) -> None:
    password = up.sluicegate("user", "bootstrap").strip()
    assert len(password) >= 16, "made, shown once"
    assert up.sluicegate("user", "bootstrap") == ""
    signed_in = httpx2.post(
        f"http://127.0.0.1:{up.port}/api/v1/session", json={"username": "admin", "password": password}
    )
    assert signed_in.status_code < 300, signed_in.text

    assert up.ask().json()["choices"][0]["message"]["content"] == "Hello."
    row = up.wait_for_rows(1)[0]
    assert (row["app"], row["status"], row["input_tokens"], row["output_tokens"]) == ("indexer", 200, 11, 7)
    assert row["cost_usd_micros"] == 11 + 14

    up.compose("restart", "gateway")
    up.compose("up", "--detach", "--wait")
    assert up.ask().status_code == 200
    up.wait_for_rows(2)

    streamed: list[str] = []
    thread = threading.Thread(target=lambda: streamed.append(up.ask(stream=True).text))
    thread.start()
    time.sleep(1)  # an answer is in progress
    up.compose("up", "--detach", "--wait", SLUICEGATE_IMAGE="sluicegate:next")
    thread.join(60)
    assert "19 " in streamed[0], "the answer in progress came to its end before the old version went"
    assert "data: [DONE]" in streamed[0]
    assert up.inspect("gateway")["Config"]["Labels"]["upgraded"] == "yes"
    assert up.ask().status_code == 200
    assert [row["outcome"] for row in up.wait_for_rows(4)] == ["completed"] * 4
    usage = json.loads(up.sluicegate("usage", "--group-by", "team", "--json"))
    assert [(each["team"], each["requests"]) for each in usage] == [("search", 4)]


def test_prometheus_reads_it_with_a_token_of_its_own(up: Docker) -> None:
    up.ask()
    until_s = time.monotonic() + 90
    query = {"query": "sum(sluicegate_requests_total)"}
    while True:
        said = httpx2.get(f"http://127.0.0.1:{up.prometheus_port}/api/v1/query", params=query).json()
        if said["data"]["result"]:
            break
        assert time.monotonic() < until_s, said
        time.sleep(1)
    assert float(said["data"]["result"][0]["value"][1]) >= 1
    assert httpx2.get(f"http://127.0.0.1:{up.port}/metrics").status_code in (401, 403), "nobody else without one"


def test_what_the_containers_may_do(up: Docker) -> None:
    for service in ("secrets", "gateway", "postgres", "prometheus-token", "prometheus"):
        found = up.inspect(service)
        host = found["HostConfig"]
        assert not host["Privileged"]
        assert host["CapDrop"] == ["ALL"]
        assert not host["CapAdd"]
        assert host["ReadonlyRootfs"]
        assert "no-new-privileges:true" in host["SecurityOpt"]
        assert host["LogConfig"]["Config"]["max-size"]
        assert host["Memory"] > 0
        assert host["PidsLimit"] > 0
        assert not any("assword" in each and "FILE" not in each.upper() for each in found["Config"]["Env"])
    status = up.compose("exec", "-T", "gateway", "cat", "/proc/1/status")
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status
    assert up.compose("exec", "-T", "gateway", "id", "-u").strip() == "10001"
    assert up.inspect("gateway")["State"]["Health"]["Status"] == "healthy"
    assert up.inspect("gateway")["Config"]["StopTimeout"] == 45
    published = [each[0]["HostIp"] for each in up.inspect("gateway")["HostConfig"]["PortBindings"].values()]
    assert published == ["127.0.0.1"]


def test_what_is_in_the_image(docker: Docker) -> None:
    whole, base = [
        int(docker("image", "inspect", "-f", "{{.Size}}", image)) / 1e6
        for image in ("sluicegate:test", docker.engine.base)
    ]
    assert whole - base < 350, "megabytes that we add"
    tools = "for each in gcc cc node npm pip pip3 curl; do command -v $each && exit 1; done; exit 0"
    docker("run", "--rm", "--entrypoint", "sh", "sluicegate:test", "-c", tools)
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", "sluicegate:test")
    assert "BEGIN CERTIFICATE" not in history
    left = "ls -A /run/secrets /etc/pip.conf /root/.npmrc /root/.cache 2>/dev/null | head"
    assert docker("run", "--rm", "--user", "0", "--entrypoint", "sh", "sluicegate:test", "-c", left).strip() == ""


def test_unhealthy_is_said(up: Docker) -> None:
    up.compose("exec", "-T", "gateway", "healthy")
    up.compose("exec", "-T", "-e", "SLUICEGATE_LISTEN=0.0.0.0:9", "gateway", "healthy", code=1)


def test_profiles(up: Docker) -> None:
    up.compose("--profile", "valkey", "up", "--detach", "--wait", "valkey", SLUICEGATE_IMAGE="sluicegate:next")
    assert "NOAUTH" in up.compose("exec", "-T", "valkey", "valkey-cli", "get", "x"), "it has a password"
