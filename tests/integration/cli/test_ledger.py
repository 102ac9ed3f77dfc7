"""`sluicegate ledger`: list, export and prune, on the host and over REST."""

import csv
import io
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
import pyarrow.parquet
import pytest

from gateway.cli.ledger_commands import FormatName
from gateway.policy.usage import LedgerRow
from gateway.settings import Settings
from gateway.store import audit_trail, ledger
from gateway.store.database import make_engine, read_session, write_session
from gateway.store.ledger_files import Format
from tests.integration.api.rows import insert_rows
from tests.support import live
from tests.support.cli import Cli

pytestmark = pytest.mark.timeout(600)  # several commands each, on a machine that others may use too
NOW = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
COUNT = 1_200


def row(number: int) -> LedgerRow:
    """One an hour, back in time."""
    return LedgerRow(
        id=f"{COUNT - number:026x}",
        started_at_ns=ledger.unix_ns(NOW - timedelta(hours=number)),
        team="search",
        app="indexer" if number % 2 else "banner",
        route="chat",
        dialect="openai",
        status=200,
        outcome="completed",
        input_tokens=3,
        output_tokens=4,
        cost_usd_micros=number,
        attempts=1,
    )


def fill(data: Path, database: str | None) -> None:
    engine = make_engine(Settings(data=data, database=database).database_url)
    with write_session(engine) as session:
        insert_rows(session, [row(number) for number in range(COUNT)])
    engine.dispose()


@pytest.fixture
def filled(cli: Cli) -> Cli:
    cli("user", "bootstrap").ok()
    fill(cli.data, cli.database)
    return cli


def test_list_and_export_on_the_host(filled: Cli, tmp_path: Path) -> None:
    listed = filled("ledger", "list", "--app", "indexer", "-n", "3", "--json").ok().out.splitlines()
    assert [orjson.loads(line)["cost_usd_micros"] for line in listed] == [1, 3, 5]
    assert filled("ledger", "list", "-n", "5").ok().out.count("\n") == 6

    file = tmp_path / "ledger.parquet"
    said = filled("ledger", "export", "--output", str(file)).ok()
    assert f"{COUNT:,} rows written" in said.err
    assert pyarrow.parquet.read_table(file).column("cost_usd_micros").to_pylist() == list(range(COUNT))[::-1]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in tmp_path.glob("*.part*")] == []

    since = (NOW - timedelta(hours=10)).isoformat()
    out = filled("ledger", "export", "--from", since, "--app", "indexer").ok().out
    assert [row["cost_usd_micros"] for row in csv.DictReader(io.StringIO(out))] == ["9", "7", "5", "3", "1"]


def test_a_refusal_leaves_the_old_file(sqlite_cli: Cli, tmp_path: Path) -> None:
    kept = tmp_path / "kept.csv"
    kept.write_text("mine")
    said = sqlite_cli("ledger", "export", "--output", str(kept))
    assert said.code == 1
    assert "no data folder" in said.err
    sqlite_cli("user", "bootstrap").ok()
    assert sqlite_cli("ledger", "export", "--from", "soon", "--output", str(kept)).code == 1
    assert kept.read_text() == "mine"


def test_prune_takes_rows_and_nothing_else(filled: Cli) -> None:
    since = NOW - timedelta(hours=COUNT + 1)
    before = filled("usage", "--group-by", "app,day", "--from", since.isoformat(), "--json").ok().out
    moment = NOW - timedelta(hours=99)  # half past: the hour itself stays
    asked = ("ledger", "prune", "--before", moment.isoformat())
    gone = COUNT - 100
    assert f"{gone:,} rows" in filled(*asked, "--dry-run").ok().out
    assert filled(*asked).code == 1, "nobody is here to be asked"
    assert len(filled("ledger", "export").ok().out.splitlines()) == COUNT + 1
    assert f"{gone:,} rows removed" in filled(*asked, "--yes").ok().out
    left = list(csv.DictReader(io.StringIO(filled("ledger", "export").ok().out)))
    assert [int(each["cost_usd_micros"]) for each in left] == list(range(100))[::-1]
    assert filled("usage", "--group-by", "app,day", "--from", since.isoformat(), "--json").ok().out == before
    engine = make_engine(Settings(data=filled.data, database=filled.database).database_url)
    with read_session(engine) as session:
        newest = audit_trail.entries(session, limit=1)[0]
        assert (newest.action, newest.kind) == ("prune", "ledger")
        assert audit_trail.verify(session).broken_at is None
    engine.dispose()


def test_over_rest_from_elsewhere(tmp_path: Path) -> None:
    with live.gateway(tmp_path, "teams: [{name: search, apps: [{name: indexer}]}]", workers=1) as running:
        fill(running.data, None)
        elsewhere = Cli(tmp_path / "none", env={"SLUICEGATE_URL": running.url, "SLUICEGATE_TOKEN": running.token})
        for format_ in ("csv", "jsonl", "parquet"):
            here, there = tmp_path / f"here.{format_}", tmp_path / f"there.{format_}"
            elsewhere("ledger", "export", "--app", "indexer", "-o", str(there)).ok()
            Cli(running.data)("ledger", "export", "--app", "indexer", "-o", str(here)).ok()
            assert here.read_bytes() == there.read_bytes()
        listed = elsewhere("ledger", "list", "--from", "1d", "--json").ok().out.splitlines()
        assert len(listed) in (24, 25)
        refused = elsewhere("ledger", "export", SLUICEGATE_TOKEN="wrong")
        assert refused.code == 1
        assert "token" in refused.err


def test_the_help_names_the_formats() -> None:
    assert [str(each) for each in FormatName] == [str(each) for each in Format]
