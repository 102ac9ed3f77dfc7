"""apply, export, key, token, user, usage: on the host, and over the REST API of a running gateway."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from gateway.settings import Settings
from gateway.store import migrate
from gateway.store.database import make_engine
from tests.support import live
from tests.support.cli import Cli

YAML = """\
providers:
  - name: local
    dialect: openai
    base_url: http://127.0.0.1:9/v1
    credentials: [{name: main, value: "${LOCAL_SECRET}"}]
routes:
  - name: chat
    targets: [{provider: local, model: small}]
teams:
  - name: search
    apps:
      - name: indexer
        routes: [chat]
        keys: [{name: ci}]
limits:
  - {name: budget, scope: {team: search}, metric: cost_usd, window: month, at_most: 50}
"""
SECRET = "p4ss-${dollar}-word"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "sluicegate.yaml"
    path.write_text(YAML)
    return str(path)


def test_apply_tells_each_change_and_a_second_time_there_is_none(cli: Cli, file: str) -> None:
    planned = cli("apply", "-f", file, "--dry-run", LOCAL_SECRET=SECRET).ok()
    assert "create provider local" in planned.out
    assert cli("key", "list", "--json").ok().out.strip() == "[]", "a dry run changed something"

    done = cli("apply", "-f", file, LOCAL_SECRET=SECRET).ok()
    assert set(planned.out.splitlines()) <= set(done.out.splitlines())
    made = done.last_line.removeprefix("key indexer/ci: ")
    assert made.startswith("sk-sg-")

    again = cli("apply", "-f", file, LOCAL_SECRET=SECRET).ok()
    assert again.out == ""
    assert "nothing to change" in again.err


def test_what_export_writes_changes_nothing_and_holds_no_secret(cli: Cli, file: str, tmp_path: Path) -> None:
    made = cli("apply", "-f", file, LOCAL_SECRET=SECRET).ok().last_line.split()[-1]
    exported = tmp_path / "exported.yaml"
    cli("export", "-o", str(exported)).ok()
    text = exported.read_text()
    assert cli("export").ok().out == text
    assert "indexer" in text
    assert SECRET not in text
    assert made not in text
    assert cli("apply", "-f", str(exported), "--prune").ok().out == ""


def test_bad_input_names_file_line_field_and_remedy_and_changes_nothing(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(
        YAML.replace("provider: local, model", "provider: lokal, model").replace("window: month", "windo: 1")
    )
    said = cli("apply", "-f", str(path), LOCAL_SECRET=SECRET)
    assert said.code == 1
    assert said.out == ""
    assert f"{path}:16: limits.0.windo" in said.err
    said = cli("apply", "-f", str(path))
    assert f"{path}:5: providers.0.credentials.0.value: ${{LOCAL_SECRET}} is not set" in said.err
    assert "Traceback" not in said.err
    assert cli("export").ok().out.strip() in ("", "{}")


def test_stdin_and_prune(cli: Cli, file: str) -> None:
    cli("apply", "-f", file, LOCAL_SECRET=SECRET).ok()
    pruned = cli("apply", "-f", "-", "--prune", stdin="providers: []").ok()
    assert "delete team search" in pruned.out
    assert cli("key", "list", "--json").ok().out.strip() == "[]"


def test_a_key_is_shown_once_alone_on_the_last_line_and_can_be_revoked(cli: Cli, file: str) -> None:
    cli("apply", "-f", file, LOCAL_SECRET=SECRET).ok()
    key = cli("key", "create", "--app", "indexer", "--name", "batch", "--expires", "30d").ok()
    assert key.last_line.startswith("sk-sg-")
    assert " " not in key.last_line
    listed = {item["name"]: item for item in json.loads(cli("key", "list", "--json").ok().out)}
    assert set(listed) == {"ci", "batch"}
    expires = datetime.fromisoformat(listed["batch"]["expires_at"])
    assert abs(expires - datetime.now(UTC) - timedelta(days=30)) < timedelta(minutes=2)
    assert key.last_line not in cli("key", "list").ok().out
    cli("key", "revoke", "indexer/batch").ok()
    assert [item["name"] for item in json.loads(cli("key", "list", "--json", "--app", "indexer").ok().out)] == ["ci"]
    assert cli("key", "revoke", "indexer/batch").code == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["key", "create", "--app", "nobody"], "no app"),
        (["key", "create", "--app", "indexer", "--expires", "yesterday"], "not a point in time"),
        (["key", "create", "--app", "indexer", "--expires", "2020-01-01"], "in the past"),
        (["token", "create", "--role", "team-member"], "belongs to a team"),
        (["token", "create", "--role", "team-member", "--team", "nobody"], "no team"),
        (["usage", "--group-by", "colour"], "cannot group by"),
        (["apply", "-f", "/nowhere/sluicegate.yaml"], "No such file"),
    ],
)
def test_refusals_say_why_on_stderr(sqlite_cli: Cli, words: list[str], complaint: str) -> None:
    said = sqlite_cli(*words)
    assert said.code == 1
    assert complaint in said.err
    assert said.out == ""
    assert "Traceback" not in said.err


def test_passwords(sqlite_cli: Cli) -> None:
    made = sqlite_cli("user", "bootstrap").ok()
    assert len(made.last_line) == 20
    assert sqlite_cli("user", "bootstrap").ok().out == "", "an owner is made only once"
    assert sqlite_cli("user", "passwd", SLUICEGATE_ADMIN_PASSWORD="a long enough one").ok().out == ""
    assert len(sqlite_cli("user", "passwd", "admin").ok().last_line) == 20
    assert "no user" in sqlite_cli("user", "passwd", "nobody").err


def test_an_installer_brings_an_older_database_up_to_date(sqlite_cli: Cli) -> None:
    """`user bootstrap` comes before the new release is started for the first time. All else leaves that to `serve`."""
    sqlite_cli("user", "bootstrap").ok()
    engine = make_engine(Settings(data=sqlite_cli.data).database_url)
    migrate.downgrade(engine, "0006")
    assert "run `sluicegate serve`" in sqlite_cli("user", "passwd", "admin").err
    assert sqlite_cli("user", "bootstrap").ok().out == "", "there is an owner"
    migrate.check(engine)
    engine.dispose()
    assert len(sqlite_cli("user", "passwd", "admin").ok().last_line) == 20


def test_over_the_rest_api(tmp_path: Path, file: str) -> None:
    """The same commands, and changes made on the host are in force within a second."""
    with live.gateway(tmp_path, "providers: []") as running:
        there = Cli(tmp_path / "unused", env={"SLUICEGATE_URL": running.url, "SLUICEGATE_TOKEN": running.token})
        done = there("apply", "-f", file, LOCAL_SECRET=SECRET).ok()
        key = done.last_line.split()[-1]
        assert there("apply", "-f", file, LOCAL_SECRET=SECRET).ok().out == ""
        assert there("export").ok().out == Cli(running.data)("export").ok().out
        bad = tmp_path / "bad.yaml"
        bad.write_text(YAML.replace("dialect: openai", "dialect: opanai"))
        said = there("apply", "-f", str(bad), LOCAL_SECRET=SECRET)
        assert f"{bad}:3: providers.0.dialect" in said.err

        def models(status: int) -> bool:
            return (
                httpx2.get(f"{running.url}/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == status
            )

        running.until(lambda: models(200), 1.5)
        created = there("key", "create", "--app", "indexer").ok().last_line
        assert created.startswith("sk-sg-")
        Cli(running.data)("key", "revoke", "indexer/ci").ok()
        running.until(lambda: models(401), 1.5)

        token = there("token", "create", "--role", "viewer", "--name", "reader").ok().last_line
        assert there("usage", SLUICEGATE_TOKEN=token).code == 0
        refused = there("key", "create", "--app", "indexer", SLUICEGATE_TOKEN=token)
        assert refused.code == 1
        assert refused.err.startswith("error: ")
        there("token", "revoke", "reader").ok()
        assert there("usage", SLUICEGATE_TOKEN=token).code == 1
        assert "no token" in there("export", SLUICEGATE_TOKEN="").err
    assert "is the gateway running" in there("export").err
    assert not (tmp_path / "unused").exists()


def test_a_token_is_confined_to_scopes(sqlite_cli: Cli) -> None:
    beyond = sqlite_cli("token", "create", "--role", "viewer", "--scope", "audit:read")
    assert beyond.code == 1
    assert "a viewer may not audit:read" in beyond.err
    made = sqlite_cli("token", "create", "--role", "viewer", "--scope", "usage:read", "--scope", "services:read").ok()
    assert "confined to services:read, usage:read" in made.err
    assert "\tservices:read usage:read\t" in sqlite_cli("token", "list").ok().out
