"""Containers of a real engine by what they are: one with a label, or of an image, is let in without a key, another is
not; ledger rows and findings have its name."""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.test_docker import BRIDGE, DIRECT, UPSTREAM, base_image
from tests.support.docker_engine import Engine, docker_of_its_own
from tests.support.lab import Gateway, Lab, gateway
from tests.support.lab.lab import ROUTER_OUT4
from tests.support.own_cgroup import hierarchy
from tests.support.provider import Provider

pytestmark = pytest.mark.timeout(200)
LABEL, IMAGE, PAST = 8031, 8032, 8033
OURS, PASSED = [200, "chat"], [200, None]
YAML = f"""
providers:
  - {{name: api, dialect: openai, base_url: "http://{UPSTREAM}/v1", credentials: [{{name: main, value: sk-companys}}]}}
routes:
  - {{name: chat, targets: [{{provider: api, model: gpt-real}}]}}
teams:
  - {{name: search, apps: [{{name: labelled, routes: "*"}}, {{name: trusted, routes: "*"}}]}}
interception:
  - name: by-label
    destinations: {{cidrs: ["{DIRECT}/32"], ports: [{LABEL}]}}
    sources: {{cidrs: ["10.9.5.0/24"], local: true}}
    app: labelled
    callers: [{{label: "com.example.ai=yes", app: labelled}}]
  - name: by-image
    destinations: {{cidrs: ["{DIRECT}/32"], ports: [{IMAGE}]}}
    sources: {{cidrs: ["10.9.5.0/24"]}}
    app: trusted
    callers: [{{image: "trusted:1", app: trusted}}]
"""
ASK = f"""
import http.client, json, sys, time
made = http.client.HTTPConnection("{DIRECT}", int(sys.argv[1]), timeout=10)
body = json.dumps({{"model": "chat", "messages": [{{"role": "user", "content": "hello"}}]}})
headers = {{"content-type": "application/json", "host": "api.openai.com"}}
made.request("POST", "/v1/chat/completions", body, headers)
answer = made.getresponse()
answer.read()
print(json.dumps([answer.status, answer.headers["x-sluicegate-route"]]))
"""


@dataclass
class Scene:
    running: Gateway
    engine: Engine

    def said(self, port: int, *options: str, image: str | None = None) -> Any:
        repository = Path(sys.executable).parent.parent.parent
        said = self.engine(
            "run", "--rm", "--volume=/usr:/usr:ro", f"--volume={repository}:{repository}:ro", *options,
            image or self.engine.base, sys.executable, "-c", ASK, str(port),
        )  # fmt: skip
        return json.loads(said.splitlines()[-1])


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    if not shutil.which("dockerd"):
        pytest.skip("needs dockerd (apt install docker.io)")
    with Lab() as lab:
        for host, port in ((DIRECT, LABEL), (DIRECT, IMAGE), (DIRECT, PAST), (UPSTREAM, 80)):
            lab.keep(Provider(hosts=(host,), port=port, enter=lab.server.enter))
        lab.server.ip("route", "add", "10.9.5.0/24", "via", ROUTER_OUT4)
        folder = lab.folder / "docker"
        env = {
            "DOCKER_HOST": f"unix://{folder}/docker.sock",
            "SLUICEGATE_CGROUP": str(hierarchy()),  # the engine makes its containers' beside ours
        }
        with (
            gateway(lab, YAML, probes=True, env=env) as running,
            docker_of_its_own(folder, base_image(), prefix=lab.router.prefix(), options=["--bip", BRIDGE]) as engine,
        ):
            lab.router.sysctl("net.bridge.bridge-nf-call-iptables", 1)
            engine("tag", engine.base, "trusted:1")
            running.until(lambda: running.rule("by-label")["reason"] is None, 20)
            yield Scene(running, engine)


def test_by_label(scene: Scene) -> None:
    assert scene.said(LABEL, "--label=com.example.ai=yes", "--name=labelled-one") == OURS
    assert scene.said(LABEL, "--label=com.example.ai=yes", "--network=host") == OURS
    assert scene.said(LABEL, "--label=com.example.ai=no") == PASSED
    assert scene.said(LABEL, "--label=com.example.ai=no", "--network=host") == PASSED
    assert scene.said(LABEL) == PASSED
    assert scene.said(LABEL, image="trusted:1") == PASSED
    row = scene.running.wait_for_ledger(2)[0]
    assert (row["app"], row["key"], row["container"], row["process"]) == ("labelled", None, "labelled-one", "python")


def test_by_image(scene: Scene) -> None:
    before = len(scene.running.ledger_rows())
    assert scene.said(IMAGE, "--label=com.example.ai=yes") == PASSED
    assert scene.said(IMAGE, "--name=of-the-image", image="trusted:1") == OURS
    row = scene.running.wait_for_ledger(before + 1)[-1]
    assert (row["app"], row["container"]) == ("trusted", "of-the-image")


def test_a_finding_has_its_name(scene: Scene) -> None:
    assert scene.said(PAST, "--name=goes-past") == PASSED
    deadline_s = time.monotonic() + 5
    while True:
        items = scene.running.api.get("/api/v1/discoveries?container=goes-past").json()["items"]
        if items:
            break
        assert time.monotonic() < deadline_s, scene.running.api.get("/api/v1/discoveries").json()
        time.sleep(0.1)
    assert [(item["host"], item["process"], item["client"]) for item in items] == [("api.openai.com", "python", None)]
