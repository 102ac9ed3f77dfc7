"""`sluicegate audit verify` and `export`: on the gateway's host and over the network."""

import json
from pathlib import Path

from sqlalchemy import text

from gateway.settings import Settings
from gateway.store.database import make_engine
from tests.support import live
from tests.support.cli import Cli


def test_tampering_is_told_with_the_first_bad_entry(cli: Cli, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        cli("token", "create", "--role", "viewer", "--name", name).ok()
    head = cli("audit", "verify").ok()
    assert "intact: 3 entries" in head.err
    assert cli("audit", "verify", "--noted", head.last_line).ok().last_line == head.last_line
    out = tmp_path / "audit.jsonl"
    assert "3 entries written" in cli("audit", "export", "-o", str(out)).ok().err
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert [each["name"] for each in lines] == ["one", "two", "three"]
    assert f"3:{lines[-1]['hash']}" == head.last_line
    assert json.loads(cli("audit", "export", "--name", "two").ok().out)["kind"] == "token"
    engine = make_engine(Settings(data=cli.data, database=cli.database).database_url)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM audit_entry WHERE seq = 2"))
    engine.dispose()
    said = cli("audit", "verify")
    assert said.code == 1
    assert "entry 2 is missing" in said.err
    assert said.last_line == "first bad entry: 2"
    assert json.loads(cli("audit", "verify", "--json").out)["broken_at"] == 2


def test_over_the_network(tmp_path: Path) -> None:
    with live.gateway(tmp_path, "teams: [{name: search}]\n", workers=1) as running:
        far = Cli(tmp_path / "none", env={"SLUICEGATE_URL": running.url, "SLUICEGATE_TOKEN": running.token})
        said = far("audit", "verify").ok()
        assert "intact" in said.err
        lines = [json.loads(line) for line in far("audit", "export", "--kind", "team").ok().out.splitlines()]
        assert [each["name"] for each in lines] == ["search"]
        engine = make_engine(Settings(data=running.data).database_url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE audit_entry SET actor = 'user:nobody' WHERE seq = 1"))
        engine.dispose()
        refused = far("audit", "verify")
        assert refused.code == 1
        assert refused.last_line == "first bad entry: 1"
