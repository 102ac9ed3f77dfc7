"""Health, settings and a backup by REST, of a gateway that runs."""

import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import httpx2
import orjson
import pytest

from tests.support import live
from tests.support.live import Live

CONFIGURATION = """
providers: [{name: mock, dialect: openai, base_url: "http://127.0.0.1:9/v1", credentials: [{name: main, value: sk-x}]}]
teams: [{name: search, apps: [{name: indexer, routes: "*", keys: [{name: ci, value: sk-sg-installation-0123456789}]}]}]
"""
TOML = """
ledger_retention = "400d"
smtp_password = "hush-hush"
alert_webhook = "https://hooks.example.com/services/T0/B0/token"
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("installation")
    (folder / "data").mkdir(mode=0o700)
    (folder / "data/sluicegate.toml").write_text(TOML)
    environment = {"SLUICEGATE_TUNNEL_IDLE": "77"}
    with live.gateway(folder, CONFIGURATION, env=environment) as gateway:
        yield gateway


def test_each_part_says_how_it_is(running: Live) -> None:
    told = running.api.get("/api/v1/health").json()
    states = {part["name"]: part for part in told["parts"]}
    assert {name: part["state"] for name, part in states.items()} == {
        "worker": "ok",
        "keeper": "ok",
        "database": "ok",
        "spool": "ok",
        "agent": "info",
    }
    assert states["agent"]["fix"] == "sudo sluicegate service start --agent"
    assert told["versions"]["database"].startswith("SQLite")
    assert told["versions"]["schema_revision"]


def test_the_doctors_findings_are_those_of_this_gateway(running: Live) -> None:
    answer = running.api.get("/api/v1/health/findings", timeout=60)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    found = {each["subject"]: each for each in told["items"]}
    assert found["data folder"]["verdict"] == "ok"
    assert str(running.data) in found["data folder"]["detail"]
    assert found["credentials"]["verdict"] == "ok"
    assert found["keeper"]["verdict"] == "ok"
    assert running.api.get("/api/v1/health/findings").json()["examined_at"] == told["examined_at"]  # not twice at once
    running.data.chmod(0o755)
    try:
        again = running.api.get("/api/v1/health/findings?again=true", timeout=60).json()
    finally:
        running.data.chmod(0o700)
    found = {each["subject"]: each for each in again["items"]}
    assert (found["data folder"]["verdict"], found["data folder"]["fix"]) == ("warning", f"chmod 0700 {running.data}")


def test_who_stops_the_gateway_does_not_wait_for_the_doctor(tmp_path: Path) -> None:
    def ask() -> int | str:
        try:
            return httpx2.get(f"{url}/api/v1/health/findings", headers=headers, timeout=60).status_code
        except httpx2.TransportError as error:
            return str(error)

    with live.gateway(tmp_path, CONFIGURATION) as gateway, ThreadPoolExecutor(1) as other:
        url, headers = gateway.url, {"authorization": gateway.api.headers["authorization"]}
        answer = other.submit(ask)
        gateway.until(lambda: _doctor_of(gateway), 20)
        assert gateway.stop() == 0
        assert answer.result(20) == 503


def _doctor_of(running: Live) -> bool:
    """Whether it examines this gateway at present."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            asked = b"gateway.cli.doctor_main" in (folder / "cmdline").read_bytes()
            if asked and str(running.data).encode() in (folder / "environ").read_bytes():
                return True
    return False


def test_settings_say_who_set_them_and_no_secret(running: Live) -> None:
    answer = running.api.get("/api/v1/settings")
    told = {each["name"]: each for each in answer.json()["items"]}

    def of(name: str) -> tuple[str | None, str]:
        return told[name]["value"], told[name]["source"]

    assert of("listen") == (f"127.0.0.1:{running.port}", "option")
    assert of("tunnel_idle") == ("77.0", "variable")
    assert told["tunnel_idle"]["where"] == "SLUICEGATE_TUNNEL_IDLE"
    assert of("ledger_retention") == ("400d", "file")
    assert told["ledger_retention"]["where"] == str(running.data / "sluicegate.toml")
    assert of("max_head_bytes") == ("65536", "default")
    assert of("smtp_password") == ("set", "file")
    assert of("alert_webhook") == ("https://hooks.example.com/…", "file")
    assert "hush-hush" not in answer.text
    assert "token" not in (told["alert_webhook"]["value"] or "")
    assert told["drain"]["meaning"].startswith("Seconds that answers in progress")
    assert [name for name, each in told.items() if not each["meaning"]] == []


def test_a_backup_is_whole_restorable_audited_and_without_the_key(running: Live, tmp_path: Path) -> None:
    answer = running.api.get("/api/v1/backup", timeout=60)
    assert answer.status_code == 200
    assert answer.headers["content-disposition"].startswith('attachment; filename="sluicegate-')
    with tarfile.open(fileobj=BytesIO(answer.content)) as archive:
        names = archive.getnames()
        manifest = archive.extractfile("manifest.json")
        assert manifest is not None
        assert orjson.loads(manifest.read())["with_key"] is False
    assert "sealing.key" not in names
    assert any(name.startswith("tables/app/") for name in names)
    told = running.api.get("/api/v1/audit?limit=1").json()["items"][0]
    assert (told["action"], told["kind"]) == ("download", "backup")

    token = running.api.post("/api/v1/tokens", json={"name": "adm", "role": "admin"}).json()["token"]
    refused = httpx2.get(running.url + "/api/v1/backup", headers={"authorization": f"Bearer {token}"})
    assert refused.status_code == 403


def test_another_site_cannot_begin_a_download(running: Live) -> None:
    owner = {"name": "olga", "role": "owner", "password": "water under the bridge"}
    assert running.api.post("/api/v1/users", json=owner).status_code == 201
    with httpx2.Client(base_url=running.url) as browser:
        sign_in = {"username": "olga", "password": "water under the bridge"}
        assert browser.post("/api/v1/session", json=sign_in, timeout=30).status_code == 201
        elsewhere = browser.get("/api/v1/backup", headers={"sec-fetch-site": "cross-site"})
        assert elsewhere.status_code == 403
        assert elsewhere.json()["code"] == "cross_origin"
        assert browser.get("/api/v1/backup", headers={"sec-fetch-site": "same-origin"}, timeout=60).status_code == 200
