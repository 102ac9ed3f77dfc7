"""Real containers of a Docker engine, with bridge netfilter on: an unchanged program in one is governed."""

import io
import json
import shutil
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.docker_engine import Engine, docker_of_its_own
from tests.support.lab import Gateway, Lab, gateway
from tests.support.lab.lab import ROUTER_OUT4
from tests.support.lab.world import HOST
from tests.support.provider import Provider

DIRECT, DIRECT6, UPSTREAM = "10.9.2.2", "fd09:2::2", "10.9.2.5"
BRIDGE, NETWORK, NETWORK6 = "10.9.5.1/24", "10.9.6.0/24", "fd09:6::/64"
YAML = f"""
providers:
  - name: openai
    dialect: openai
    base_url: http://{UPSTREAM}/v1
    credentials: [{{name: main, value: sk-companys}}]
routes:
  - {{name: gpt-small, targets: [{{provider: openai, model: gpt-5-mini}}]}}
teams:
  - {{name: search, apps: [{{name: indexer, routes: [gpt-small]}}]}}
limits:
  - {{name: burst, scope: {{app: indexer}}, metric: requests, window: day, at_most: 4}}
interception:
  - name: openai-direct
    destinations: {{hosts: [{HOST}], ports: [80]}}
    sources: {{cidrs: ["10.9.5.0/24", "{NETWORK}", "{NETWORK6}"]}}
    app: indexer
"""
PROGRAM = """
import json, sys
import openai
client = openai.OpenAI(base_url=sys.argv[1], api_key="sk-the-programs-own", max_retries=0, timeout=10)
said = []
for _ in range(int(sys.argv[2])):
    try:
        asked = [{"role": "user", "content": "hello"}]
        said.append(client.chat.completions.create(model="gpt-small", messages=asked).usage.total_tokens)
    except openai.APIStatusError as error:
        said.append([error.status_code, error.code])
print(json.dumps(said))
"""


@dataclass
class Scene:
    lab: Lab
    gateway: Gateway
    engine: Engine
    direct: Provider
    upstream: Provider

    def run(self, requests: int, *, network: str = "bridge", address: str = DIRECT) -> Any:
        """The program in a new container, which finds `HOST` at this address."""
        repository = Path(sys.executable).parent.parent.parent
        said = self.engine(
            "run", "--rm", f"--network={network}", f"--add-host={HOST}:{address}",
            "--volume=/usr:/usr:ro", f"--volume={repository}:{repository}:ro",
            self.engine.base, sys.executable, "-c", PROGRAM, f"http://{HOST}/v1", str(requests),
        )  # fmt: skip
        return json.loads(said.splitlines()[-1])


def base_image() -> bytes:
    """Nothing but what leads to /usr, which is mounted: containers start in a second."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name in ("bin", "lib", "lib64", "sbin"):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, f"usr/{name}"
            tar.addfile(link)
        for name in ("etc", "tmp", "usr"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
    return packed.getvalue()


@pytest.fixture(scope="module")
def running() -> Iterator[Scene]:
    if not shutil.which("dockerd"):
        pytest.skip("needs dockerd (apt install docker.io)")
    with Lab() as lab:
        lab.hosts({HOST: [DIRECT, DIRECT6]})
        make = lambda *hosts: lab.keep(Provider(hosts=hosts, port=80, enter=lab.server.enter))  # noqa: E731
        direct, upstream = make(DIRECT, DIRECT6), make(UPSTREAM)
        lab.server.ip("route", "add", "10.9.5.0/24", "via", ROUTER_OUT4)
        with (
            gateway(lab, YAML) as started,  # before the engine, whose bridges come later
            docker_of_its_own(
                lab.folder / "docker",
                base_image(),
                prefix=lab.router.prefix(),
                options=["--bip", BRIDGE, "--ip6tables", "--experimental"],
            ) as engine,
        ):
            for family in ("ip", "ip6"):  # as it is wherever br_netfilter is loaded; a lab's routers have it off
                lab.router.sysctl(f"net.bridge.bridge-nf-call-{family}tables", 1)
            engine("network", "create", "--ipv6", f"--subnet={NETWORK}", f"--subnet={NETWORK6}", "own")
            yield Scene(lab, started, engine, direct, upstream)


@pytest.fixture
def scene(running: Scene) -> Scene:
    for provider in (running.direct, running.upstream):
        provider.forget()
    return running


def test_containers_are_governed_limited_and_survive_us(scene: Scene) -> None:
    """On the engine's own bridge, and on a network that was made by hand, over IPv6 too."""
    assert scene.run(1) == [18]
    assert scene.run(1, network="own") == [18]
    assert scene.run(3, network="own", address=DIRECT6) == [18, 18, [429, "limit_exceeded"]]
    assert scene.direct.requests == []
    assert {one.header("authorization") for one in scene.upstream.requests} == {"Bearer sk-companys"}
    rows = scene.gateway.wait_for_ledger(5)
    assert [row["app"] for row in rows] == ["indexer"] * 5
    assert [row["client_ip"].rpartition(".")[0] or row["client_ip"][:8] for row in rows] == [
        "10.9.5", "10.9.6", "fd09:6::", "fd09:6::", "fd09:6::",
    ]  # fmt: skip
    doctor = scene.gateway.cli("doctor", check=False).stdout
    assert "docker0" in next(line for line in doctor.splitlines() if line.split("\t")[1:2] == ["bridges"])

    scene.gateway.kill_everything()
    assert scene.run(1) == [18]
    assert scene.run(1, network="own", address=DIRECT6) == [18]
    assert {one.header("authorization") for one in scene.direct.requests} == {"Bearer sk-the-programs-own"}
    assert len(scene.direct.requests) == 2
