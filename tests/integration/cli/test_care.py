"""doctor, sealing rotate, prices update, top: looking after an installation."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx2
import pytest
import sqlalchemy

from tests.support import live
from tests.support.cli import COMMAND, Cli
from tests.support.ports import free_port
from tests.support.provider import Provider

YAML = """\
providers:
  - {name: local, dialect: openai, base_url: BASE_URL, credentials: [{name: main, value: the-providers-own-secret}]}
routes: [{name: chat, targets: [{provider: local, model: small}]}]
teams: [{name: search, apps: [{name: indexer, routes: [chat], keys: [{name: ci, value: sk-sg-key-number-one}]}]}]
"""


@pytest.fixture
def port(data: Path) -> int:
    chosen = free_port()
    data.mkdir(mode=0o700)
    (data / "sluicegate.toml").write_text(f'listen = "127.0.0.1:{chosen}"\n')
    return chosen


def verdicts(text: str) -> dict[str, str]:
    rows = [line.split("\t") for line in text.splitlines() if "\t" in line]
    return {row[1]: row[0] for row in rows}


def test_doctor_finds_nothing_broken_before_and_after_the_first_use(cli: Cli, port: int) -> None:
    found = verdicts(cli("doctor").ok().out)
    assert found["gateway"] == "warning", "it does not run yet"
    assert found["port"] == "ok"
    cli("apply", "-f", "-", stdin=YAML.replace("BASE_URL", "http://127.0.0.1:9")).ok()
    found = verdicts(cli("doctor").ok().out)
    assert found["database"] == "ok"
    assert found["credentials"] == "ok"
    assert found["packages"] == "ok"


def test_doctor_finds_what_is_broken_and_names_the_cure(sqlite_cli: Cli, port: int) -> None:
    data = sqlite_cli.data
    sqlite_cli("apply", "-f", "-", stdin=YAML.replace("BASE_URL", "http://127.0.0.1:9")).ok()
    (data / "sealing.key").chmod(0o644)
    data.chmod(0o755)
    said = sqlite_cli("doctor")
    assert said.code == 1
    assert f"chmod 0600 {data}/sealing.key" in said.out
    assert f"chmod 0700 {data}" in said.out
    (data / "sealing.key").unlink()
    assert verdicts(sqlite_cli("doctor").out)["credentials"] == "broken"
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", port))
        assert verdicts(sqlite_cli("doctor").out)["port"] == "broken"
    engine = sqlalchemy.create_engine(f"sqlite:///{data}/sluicegate.sqlite")
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    assert verdicts(sqlite_cli("doctor").out)["database"] == "broken"
    assert sqlite_cli("key", "list").code == 1, "commands refuse what they do not understand"
    away = sqlite_cli("doctor", SLUICEGATE_DATABASE="postgresql://127.0.0.1:1/x")
    assert verdicts(away.out)["database"] == "broken"
    assert "Traceback" not in away.out + away.err


def test_the_sealing_key_can_be_rotated_under_traffic(tmp_path: Path, database_url: str) -> None:
    with Provider() as provider:
        yaml = YAML.replace("BASE_URL", provider.url)
        with live.gateway(tmp_path, yaml, database_url=database_url) as running:
            cli = Cli(running.data, database_url)
            headers = {"authorization": f"Bearer {running.key('ci')}"}

            def ask() -> None:
                body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
                answer = httpx2.post(f"{running.url}/v1/chat/completions", json=body, headers=headers)
                assert answer.status_code == 200, answer.text

            ask()
            old = (running.data / "sealing.key").read_text()
            assert "secrets sealed with a new key: 1" in cli("sealing", "rotate").ok().out
            assert (running.data / "sealing.key").read_text() != old
            cli(
                "apply",
                "-f",
                "-",
                stdin=yaml + "limits: [{name: l, scope: {}, metric: requests, window: day, at_most: 9}]",
            ).ok()
            running.until(lambda: running.api.get("/api/v1/limits/l/state").status_code == 200, 2)
            ask()
            assert {request.header("authorization") for request in provider.requests} == {
                "Bearer the-providers-own-secret"
            }
            assert verdicts(cli("doctor").out)["credentials"] == "ok"


def test_a_price_table_that_is_none_is_refused(sqlite_cli: Cli, port: int, tmp_path: Path) -> None:
    wrong = tmp_path / "data.json"
    wrong.write_text('{"prices": "none"}')
    said = sqlite_cli("prices", "update", str(wrong))
    assert said.code == 1
    assert "not a price table" in said.err
    assert not (sqlite_cli.data / "prices.json").exists()
    assert "refused" in sqlite_cli("prices", "update", f"http://127.0.0.1:{port}/data.json").err.lower()


def test_top_shows_requests_as_they_end_and_leaves_no_token(tmp_path: Path) -> None:
    with Provider() as provider:
        yaml = YAML.replace("BASE_URL", provider.url)
        with live.gateway(tmp_path, yaml) as running:
            (running.data / "sluicegate.toml").write_text(f'listen = "127.0.0.1:{running.port}"\n')
            env = {**os.environ, "SLUICEGATE_DATA": str(running.data)}
            top = subprocess.Popen([COMMAND, "top"], stdout=subprocess.PIPE, text=True, env=env)
            assert top.stdout is not None
            try:
                assert top.stdout.readline().startswith("time\t")
                deadline = time.monotonic() + 20
                seen = ""
                body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
                headers = {"authorization": f"Bearer {running.key('ci')}"}
                assert httpx2.post(f"{running.url}/v1/chat/completions", json=body, headers=headers).status_code == 200
                seen = top.stdout.readline()
                assert time.monotonic() < deadline
                assert "\tindexer\tchat\tlocal/small\t200\t" in seen
                top.send_signal(signal.SIGINT)
                assert top.wait(10) in (0, 130)
            finally:
                top.kill()
                top.stdout.close()
                top.wait()
            assert "top-" not in Cli(running.data)("token", "list").ok().out
