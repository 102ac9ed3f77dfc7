"""Ledger rows and ended flows of what was captured name process, user and container (intercepted/whose.py)."""

import contextlib
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.lab import Lab, gateway
from tests.support.lab.gateway import Gateway
from tests.support.lab.lab import CONTAINER4
from tests.support.own_cgroup import cgroup_root, remove_cgroup
from tests.support.provider import Provider

pytestmark = pytest.mark.timeout(150)
DIRECT, UPSTREAM = "10.9.2.2", "10.9.2.5"
SPLICE, METER = 8001, 8002
ONE_USER, OTHER_USER = 64331, 64332
CONTAINER = "c0ffee" * 10 + "c0ff"
RULE = """
  - name: {name}
    destinations: {{cidrs: ["10.9.2.0/28"], ports: [{port}]}}
    sources: {{cidrs: ["10.9.1.0/24"], local: true}}
    app: indexer
    unmatched: {name}
"""
YAML = f"""
providers:
  - {{name: api, dialect: openai, base_url: "http://{UPSTREAM}/v1", credentials: [{{name: main, value: sk-companys}}]}}
routes:
  - {{name: chat, targets: [{{provider: api, model: gpt-real}}]}}
teams:
  - {{name: search, apps: [{{name: indexer, routes: [chat]}}]}}
interception:
{RULE.format(name="splice", port=SPLICE)}{RULE.format(name="meter", port=METER)}
"""
BODY = '{"model": "MODEL", "messages": [{"role": "user", "content": "hello"}]}'
PYTHON = """
import json, sys, urllib.request
for _ in range(int(sys.argv[3])):
    request = urllib.request.Request(sys.argv[1], sys.argv[2].encode(), {"content-type": "application/json"})
    json.load(urllib.request.urlopen(request, timeout=10))
"""


class Scene:
    def __init__(self, running: Gateway) -> None:
        self.running, self.lab = running, running.lab
        for host, port in ((DIRECT, SPLICE), (DIRECT, METER), (UPSTREAM, 80)):
            self.lab.keep(Provider(hosts=(host,), port=port, enter=self.lab.server.enter))
        self._before = running.settled_rows()

    def rows(self, count: int) -> list[dict[str, Any]]:
        return self.running.wait_for_ledger(self._before + count)[self._before :]

    def named_row(self, act: Callable[[], object]) -> dict[str, Any]:
        """That of a request which names somebody, at the fifth time at the latest: on a busy machine an answer may take
        longer than anybody waits for it."""
        for time_ in range(1, 6):
            act()
            row = self.rows(time_)[-1]
            if row["process"] is not None:
                return row
        raise AssertionError(f"five requests in a row name nobody: {self.running.rule('splice')}")

    def url(self, port: int) -> str:
        return f"http://{DIRECT}:{port}/v1/chat/completions"

    def python(self, port: int = SPLICE, times: int = 1, model: str = "chat", **how: Any) -> None:
        body = BODY.replace("MODEL", model)
        self.lab.router.run(sys.executable, "-c", PYTHON, self.url(port), body, str(times), **how)

    def curl(self, **how: Any) -> None:
        body, kind = BODY.replace("MODEL", "chat"), "content-type: application/json"
        self.lab.router.run("curl", "-sSf", "-H", kind, "-d", body, self.url(SPLICE), **how)


def wait_for_probes(running: Gateway) -> None:
    running.until(lambda: running.api.get("/api/v1/discoveries").json()["reason"] is None, 20)


@pytest.fixture(scope="module")
def _running() -> Iterator[Gateway]:
    with Lab() as lab, gateway(lab, YAML, probes=True) as running:
        wait_for_probes(running)
        yield running


@pytest.fixture
def scene(_running: Gateway) -> Iterator[Scene]:
    with _running.lab.scope():
        yield Scene(_running)


def named(row: dict[str, Any]) -> tuple[Any, Any, Any]:
    return row["process"], row["user"], row["container"]


def test_each_row_names_its_own_process_and_user(scene: Scene) -> None:
    """With heads that are the same to the byte, sent often enough to go the express way. On a busy machine some answer
    may take longer than anybody waits for it: that is counted, and such a row names nobody."""
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    before = scene.running.rule("splice")["unattributed"]
    scene.curl(user=ONE_USER)
    scene.python(times=3, user=OTHER_USER)
    scene.python(times=3, user=ONE_USER)
    scene.python(times=3)
    users = [str(ONE_USER)] + [str(OTHER_USER)] * 3 + [str(ONE_USER)] * 3 + ["root"] * 3
    rows = [named(row) for row in scene.rows(10)]
    told = [(who, user) for who, user in zip(rows, users, strict=True) if who[0] is not None]
    assert all(who[1] == user for who, user in told)
    assert rows[0][0] in ("curl", None)
    assert all(str(who[0]).startswith("python") for who, _ in told if who[0] != "curl")
    assert len(told) >= 7
    scene.running.until(lambda: scene.running.rule("splice")["unattributed"] - before == 10 - len(told), 3)


def test_rows_of_what_no_route_claims_have_it_too(scene: Scene) -> None:
    row = scene.named_row(lambda: scene.python(METER, model="gpt-own", user=ONE_USER))
    assert row["route"] == "direct:meter"
    assert row["user"] == str(ONE_USER)
    assert row["process"].startswith("python")


@pytest.fixture
def container() -> Iterator[Path]:
    """A cgroup as Docker names them."""
    folder = cgroup_root() / "docker" / CONTAINER
    made = not folder.parent.exists()
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        remove_cgroup(folder)
        if made:
            folder.parent.rmdir()


def test_a_container_is_named_by_its_id_where_no_runtime_answers(scene: Scene, container: Path) -> None:
    row = scene.named_row(lambda: scene.python(user=ONE_USER, cgroup=container))
    assert row["container"] == CONTAINER[:12]
    assert row["user"] == str(ONE_USER)


def test_a_forwarded_client_is_nobody_of_this_host(scene: Scene) -> None:
    """Although its kernel is ours in this lab, and its process could be found."""
    with scene.lab.client.http(timeout=10) as client:
        body = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
        assert client.post(scene.url(SPLICE), json=body).status_code == 200
    assert named(scene.rows(1)[0]) == (None, None, None)


def test_flows_that_are_passed_on_name_it_as_well(scene: Scene) -> None:
    flows: list[dict[str, Any]] = []

    def there() -> bool:
        scene.python(model="gpt-own", user=OTHER_USER)
        flows[:] = scene.running.api.get("/api/v1/interception/flows", params={"rule": "splice"}).json()["items"]
        return bool(flows) and flows[0]["user"] == str(OTHER_USER)

    scene.running.until(there, 5, lambda: str(flows[:2]))
    assert flows[0]["process"].startswith("python")
    assert str(OTHER_USER) in scene.running.cli("intercept", "flows").stdout


def test_a_container_behind_a_bridge_is_told_apart(container: Path) -> None:
    """It has a network namespace of its own; what comes by the bridge without a process of this host has none."""
    yaml = YAML.replace('"10.9.1.0/24"', '"10.9.1.0/24", "10.9.3.0/24"')
    with Lab(container=True) as lab, gateway(lab, yaml, probes=True) as running:
        wait_for_probes(running)
        scene = Scene(running)
        assert lab.container is not None
        body = BODY.replace("MODEL", "chat")
        command = (sys.executable, "-c", PYTHON, scene.url(SPLICE), body, "1")
        within = lab.container
        row = scene.named_row(lambda: within.run(*command, user=OTHER_USER, cgroup=container))
        assert (row["client_ip"], row["user"], row["container"]) == (CONTAINER4, str(OTHER_USER), CONTAINER[:12])
        assert row["process"].startswith("python")


def test_without_probes_nothing_is_named_and_nobody_waits() -> None:
    with Lab() as lab, gateway(lab, YAML) as running:
        scene = Scene(running)
        scene.python()
        begun_s = time.monotonic()
        for _ in range(5):
            with contextlib.closing(lab.router.http(timeout=10)) as client:
                body = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
                assert client.post(scene.url(SPLICE), json=body).status_code == 200
        assert time.monotonic() - begun_s < 0.4
        assert {named(row) for row in scene.rows(6)} == {(None, None, None)}
