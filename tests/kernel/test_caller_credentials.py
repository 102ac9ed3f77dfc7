"""An interception rule lets programs in by what the kernel says of them, and nobody who only looks like them
(gateway/policy/callers.py, dataplane/intercepted/whose.py)."""

import contextlib
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.lab import Lab, gateway
from tests.support.lab.gateway import Gateway
from tests.support.own_cgroup import cgroup_root, remove_cgroup
from tests.support.provider import Provider

pytestmark = pytest.mark.timeout(150)
DIRECT, UPSTREAM, CRM = "10.9.2.2", "10.9.2.5", "10.9.2.6"
EXACT, PATH, PLACES = 8011, 8012, 8013
USER, OTHER = 64341, 64342
CONTAINER = "beef" * 16
UNIT = "sgtest-indexer.service"
PYTHON = str(Path(sys.executable).resolve())
ASK = f"""
import ctypes, http.client, json, os, socket, subprocess, sys, time
HOST, PORT = "{DIRECT}", int(sys.argv[1])
def connected(sock=None):
    made = http.client.HTTPConnection(HOST, PORT, timeout=10)
    made.sock = sock or socket.create_connection((HOST, PORT), timeout=10)
    return made
def ask(connection, **headers):
    body = json.dumps({{"model": "chat", "messages": [{{"role": "user", "content": "hello"}}]}})
    connection.request("POST", "/v1/chat/completions", body, {{"content-type": "application/json", **headers}})
    answer = connection.getresponse()
    answer.read()
    return [answer.status, answer.headers["x-sluicegate-route"]]
def say(what):
    print(json.dumps(what), flush=True)
"""
SIMPLY = "say(ask(connected()))"
OURS, PASSED = [200, "chat"], [200, None]
"""The route has served it; it was passed on to where it was going, as nobody's."""


def yaml(program: Path) -> str:
    digest = hashlib.sha256(program.read_bytes()).hexdigest()

    def rule(name: str, port: int, callers: str) -> str:
        return f"""
  - name: {name}
    destinations: {{cidrs: ["10.9.2.0/28"], ports: [{port}]}}
    sources: {{cidrs: ["10.9.1.0/24"], local: true}}
    app: indexer
    callers: [{callers}]"""

    return f"""
providers:
  - {{name: api, dialect: openai, base_url: "http://{UPSTREAM}/v1", credentials: [{{name: main, value: sk-companys}}]}}
  - {{name: crm, dialect: http, base_url: "http://{CRM}"}}
routes:
  - {{name: chat, targets: [{{provider: api, model: gpt-real}}]}}
  - {{name: crm, match: {{host: crm.internal, path: /v2/}}, targets: [{{provider: crm}}]}}
teams:
  - {{name: search, apps: [{{name: indexer, routes: "*"}}, {{name: unit, routes: "*"}}, {{name: box, routes: "*"}}]}}
interception:
{rule("exact", EXACT, f'{{executable: "{program}", sha256: "{digest}", user: {USER}}}')}
{rule("path", PATH, f'{{executable: "{program}", app: indexer}}')}
{rule("places", PLACES, f'{{unit: {UNIT}, app: unit}}, {{container: "{CONTAINER[:12]}", app: box}}')}
"""


class Scene:
    def __init__(self, running: Gateway, program: Path) -> None:
        self.running, self.lab, self.program = running, running.lab, program
        for host, port in ((DIRECT, EXACT), (DIRECT, PATH), (DIRECT, PLACES), (UPSTREAM, 80), (CRM, 80)):
            self.lab.keep(Provider(hosts=(host,), port=port, enter=self.lab.server.enter))
        self._before = running.settled_rows()

    def said(self, program: Path | str, port: int, code: str = SIMPLY, *arguments: str, **how: Any) -> Any:
        """What a program that runs Python says."""
        how.setdefault("user", USER)
        done = self.lab.router.run(str(program), "-c", ASK + code, str(port), *arguments, **how)
        return json.loads(done.stdout.splitlines()[-1])

    def row(self) -> dict[str, Any]:
        return self.running.wait_for_ledger(self._before + 1)[-1]

    def no_row(self) -> None:
        time.sleep(0.6)
        assert len(self.running.ledger_rows()) == self._before


@pytest.fixture(scope="module")
def program() -> Iterator[Path]:
    """The one that is let in: an interpreter of its own, which others cannot write to."""
    folder = Path(tempfile.mkdtemp(prefix="sg-callers-"))
    folder.chmod(0o755)
    made = Path(shutil.copy(PYTHON, folder / "indexer"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def _running(program: Path) -> Iterator[Gateway]:
    with Lab() as lab, gateway(lab, yaml(program), probes=True) as running:
        running.until(lambda: running.rule("path")["reason"] is None, 20)  # the probes are there
        yield running


@pytest.fixture
def scene(_running: Gateway, program: Path) -> Iterator[Scene]:
    with _running.lab.scope():
        yield Scene(_running, program)


@pytest.mark.parametrize("port", [EXACT, PATH])
def test_the_genuine_program_needs_no_key(scene: Scene, port: int) -> None:
    assert scene.said(scene.program, port) == OURS
    row = scene.row()
    assert (row["app"], row["key"], row["process"], row["user"]) == ("indexer", None, "indexer", str(USER))


def test_who_is_not_let_in_is_as_anybody_without_a_key(scene: Scene) -> None:
    """Passed on; where a route claims the host, answered 401."""
    assert scene.said(PYTHON, EXACT) == PASSED
    crm = 'c = connected(); c.request("GET", "/v2/x", headers={"host": "crm.internal"}); say(c.getresponse().status)'
    assert scene.said(PYTHON, EXACT, crm) == 401
    assert scene.said(scene.program, EXACT, crm) == 200
    with scene.lab.client.http(timeout=10) as client:  # forwarded, though its kernel is ours
        body = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
        answer = client.post(f"http://{DIRECT}:{EXACT}/v1/chat/completions", json=body)
        assert (answer.status_code, answer.headers.get("x-sluicegate-route")) == (200, None)
    assert scene.row()["route"] == "crm"


def test_argv_and_comm_prove_nothing(scene: Scene) -> None:
    renamed = "assert not ctypes.CDLL(None).prctl(15, b'indexer', 0, 0, 0)\n" + SIMPLY
    disguised = f"os.execv({PYTHON!r}, [{str(scene.program)!r}, '-c', {ASK + renamed!r}, sys.argv[1]])"
    for port in (EXACT, PATH):
        assert scene.said(PYTHON, port, disguised) == PASSED
    scene.no_row()


def test_a_copy_elsewhere_is_not_the_program(scene: Scene) -> None:
    """By whatever name; nor is a link to it, if that is another file."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        copy = shutil.copy(scene.program, Path(folder) / "indexer")
        for port in (EXACT, PATH):
            assert scene.said(copy, port) == PASSED
    scene.no_row()


def test_another_file_at_its_path_has_another_hash(scene: Scene) -> None:
    """And is the program where no hash is asked for: who may write there decides that."""
    kept = scene.program.with_name("kept")
    scene.program.rename(kept)
    try:
        scene.program.write_bytes(kept.read_bytes() + b"\0")
        scene.program.chmod(0o755)
        assert scene.said(scene.program, EXACT) == PASSED
        scene.no_row()
        assert scene.said(scene.program, PATH) == OURS
    finally:
        kept.replace(scene.program)
    assert scene.said(scene.program, EXACT) == OURS


def test_the_program_of_another_user_is_another_caller(scene: Scene) -> None:
    assert scene.said(scene.program, EXACT, user=OTHER) == PASSED
    scene.no_row()


def test_who_becomes_the_program_after_connecting_is_refused(scene: Scene) -> None:
    after = "s = socket.socket(fileno=int(sys.argv[2])); s.setblocking(True); say(ask(connected(s)))"
    become = f"""
sock = socket.create_connection((HOST, PORT), timeout=10)
sock.set_inheritable(True)
os.execv({str(scene.program)!r}, ["indexer", "-c", {ASK + after!r}, sys.argv[1], str(sock.fileno())])
"""
    for attempt in range(20):  # the kernel tells of the new executable before it tells of the execution
        pause = f"time.sleep({attempt % 10 / 5000})\nos.execv"
        code = become.replace("os.execv", pause)
        assert scene.said(PYTHON, (EXACT, PATH)[attempt % 2], code) == PASSED
    scene.no_row()


def test_a_socket_that_somebody_else_holds_too_is_refused(scene: Scene) -> None:
    """The program itself connects it, and another one, which gave it the socket, speaks."""
    connect = "s = socket.socket(fileno=int(sys.argv[2])); s.connect((HOST, PORT)); print(1, flush=True); time.sleep(5)"
    share = f"""
sock = socket.socket()
child = subprocess.Popen([{str(scene.program)!r}, "-c", {ASK + connect!r}, sys.argv[1], str(sock.fileno())],
                         pass_fds=[sock.fileno()], stdout=subprocess.PIPE)
child.stdout.readline()
say(ask(connected(sock)))
child.kill()
"""
    for port in (EXACT, PATH):
        for _ in range(3):  # it is looked for each time, however much that takes
            assert scene.said(PYTHON, port, share) == PASSED
    scene.no_row()


def test_another_file_bound_over_it_is_refused(scene: Scene) -> None:
    """In namespaces of one's own, which any user may make."""
    script = f'mount --bind {PYTHON} {scene.program} && exec {scene.program} -c "$0" {PATH}'
    done = scene.lab.router.run("unshare", "-Urm", "sh", "-c", script, ASK + SIMPLY, user=USER, check=False)
    if done.returncode and "unshare" in done.stderr:
        pytest.skip(f"no namespaces for users here: {done.stderr}")
    assert json.loads(done.stdout) == PASSED, done.stderr
    scene.no_row()


@contextlib.contextmanager
def folders(*names: str, owner: int = 0) -> Iterator[Path]:
    """Nested cgroups; all but the innermost belong to `owner`, and so does what it makes there."""
    made: list[Path] = []
    folder = cgroup_root()
    try:
        for name in names:
            folder /= name
            if not folder.exists():
                folder.mkdir()
                made.append(folder)
                shutil.chown(folder, owner, owner)
                shutil.chown(folder / "cgroup.procs", owner, owner)
        yield folder
    finally:
        for each in reversed(made):
            remove_cgroup(each)


@pytest.mark.parametrize(
    ("names", "app"), [(("system.slice", UNIT), "unit"), (("docker", CONTAINER), "box")], ids=["unit", "container"]
)
def test_units_and_containers_are_let_in(scene: Scene, names: tuple[str, ...], app: str) -> None:
    with folders(*names) as folder:
        assert scene.said(PYTHON, PLACES, cgroup=folder) == OURS
    assert scene.row()["app"] == app


@pytest.mark.parametrize("name", [UNIT, f"docker-{CONTAINER}.scope"])
def test_cgroups_that_a_user_has_named_so_are_nobody(scene: Scene, name: str) -> None:
    """As whoever signs in by systemd may, in the part of the tree that is his."""
    with folders("sgtest-user.slice", name, owner=USER) as folder:
        assert scene.said(PYTHON, PLACES, cgroup=folder) == PASSED
    scene.no_row()


def test_what_is_taken_back_is_taken_back_from_open_connections(scene: Scene) -> None:
    """And given again; a rule goes through REST, export and apply as it is."""
    api, rule = scene.running.api, "/api/v1/interception-rules/path"
    before = api.get(rule).json()["callers"]
    assert before[0]["executable"] == str(scene.program)
    code = "c = connected()\nsay(ask(c))\nsys.stdin.readline()\nsay(ask(c))"
    command = [str(scene.program), "-c", ASK + code, str(PATH)]
    process = scene.lab.router.popen(command, stdin=-1, stdout=-1, text=True, user=USER)
    assert json.loads(process.stdout.readline()) == OURS
    assert api.patch(rule, json={"callers": [{"user": "nobody"}]}).status_code == 200
    time.sleep(1)
    assert json.loads(process.communicate("\n", timeout=10)[0]) == PASSED
    assert api.patch(rule, json={"callers": before}).status_code == 200
    time.sleep(1)
    assert scene.said(scene.program, PATH) == OURS
    exported = scene.running.cli("export").stdout
    assert f"executable: {scene.program}" in exported
    file = scene.lab.folder / "exported.yaml"
    file.write_text(exported)
    assert "change" not in scene.running.cli("apply", "-f", str(file), "--dry-run").stdout.lower().replace(
        "no change", ""
    )
    refused = api.delete("/api/v1/apps/box")
    assert (refused.status_code, "places" in refused.text) == (409, True)


@pytest.mark.parametrize(
    ("callers", "field"),
    [
        ([{"user": "x", "app": "nobody"}], "callers.0.app"),
        ([{"user": "x"}, {"sha256": "abc"}], "callers.1.sha256"),
        ([{"executable": "bin/indexer"}], "callers.0.executable"),
        ([{"app": "indexer"}], "callers.0"),
    ],
)
def test_what_is_wrong_is_named(scene: Scene, callers: list[dict[str, str]], field: str) -> None:
    answer = scene.running.api.patch("/api/v1/interception-rules/path", json={"callers": callers})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


def test_without_probes_nobody_is_let_in_and_the_rule_says_so(program: Path) -> None:
    with Lab() as lab, gateway(lab, yaml(program)) as running:
        scene = Scene(running, program)
        assert scene.said(program, PATH) == PASSED
        assert "nobody is let in by `callers`: probes are turned off" in str(running.rule("path")["reason"])
