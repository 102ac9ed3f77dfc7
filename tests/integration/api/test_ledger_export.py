"""The ledger as a file, by REST: every row that fits in each format, each team its own, at the reader's pace."""

import csv
import io
import os
import socket
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pyarrow
import pyarrow.parquet
import pytest

from gateway.policy.roles import Role
from gateway.policy.usage import LedgerRow
from gateway.store import ledger, ledger_files
from gateway.store.database import write_session
from tests.integration.api.rows import insert_rows
from tests.integration.api.served import ServedApi

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
COUNT = 12_345
"""Neither a whole number of reads nor of anything else."""


def row(number: int) -> LedgerRow:
    return LedgerRow(
        id=f"{number:026x}",
        started_at_ns=ledger.unix_ns(BEGIN) + number * 1_234_567_000,
        team="search" if number % 3 else "ads",
        app="indexer",
        route="chat",
        target="openai/gpt-5-mini",
        provider="openai",
        dialect="openai",
        model="gpt-5-mini",
        status=200,
        outcome="completed",
        input_tokens=number,
        cost_usd_micros=number * 7 if number % 5 else None,
        latency_ms=number / 8,
        attempts=1,
        estimated=number % 2 == 0,
        bytes_in=number,
        client_request_id={0: "=1+1", 1: '@SUM("a,b")\n', 2: None}[number % 3],
    )


@pytest.fixture
def gateway(api: ServedApi) -> ServedApi:
    with write_session(api.engine) as session:
        insert_rows(session, [row(number) for number in range(COUNT)])
    with api.client() as owner:
        for team in ("search", "ads"):
            owner.post("/api/v1/teams", json={"name": team}).raise_for_status()
    return api


def download(gateway: ServedApi, role: Role = Role.VIEWER, of: str | None = None, /, **query: Any) -> bytes:
    with gateway.client(role, of) as client:
        answer = client.get("/api/v1/ledger/export", params=query)
    assert answer.status_code == 200, answer.text
    return answer.content


def test_jsonl_is_what_the_list_shows(gateway: ServedApi) -> None:
    lines = [orjson.loads(line) for line in download(gateway, format="jsonl").splitlines()]
    assert [line["id"] for line in lines] == [f"{number:026x}" for number in range(COUNT)]
    with gateway.client() as owner:
        newest = owner.get("/api/v1/ledger", params={"limit": 1000}).json()["items"]
    assert lines[-1000:] == newest[::-1]


def test_csv_has_every_column_and_runs_no_formula(gateway: ServedApi) -> None:
    rows = list(csv.DictReader(io.StringIO(download(gateway).decode(), newline="")))
    assert len(rows) == COUNT
    assert list(rows[0]) == list(ledger_files.COLUMNS)
    assert rows[7]["started_at"] == "2026-11-01T00:00:08.641969Z"
    assert (rows[7]["input_tokens"], rows[7]["cost_usd_micros"], rows[7]["estimated"]) == ("7", "49", "false")
    assert rows[5]["cost_usd_micros"] == "", "not known is not 0"
    assert rows[3]["client_request_id"] == "'=1+1"
    assert rows[4]["client_request_id"] == '\'@SUM("a,b")\n'
    assert rows[5]["client_request_id"] == ""


def test_parquet_has_types(gateway: ServedApi) -> None:
    table = pyarrow.parquet.read_table(io.BytesIO(download(gateway, format="parquet")))
    assert table.num_rows == COUNT
    assert table.schema.field("started_at").type == pyarrow.timestamp("us", tz="UTC")
    assert table.schema.field("cost_usd_micros").type == pyarrow.int64()
    assert table.schema.field("estimated").type == pyarrow.bool_()
    assert table.column("bytes_in").to_pylist()[:3] == [0, 1, 2]
    assert table.column("input_tokens").to_pylist() == list(range(COUNT))
    assert table.column("cost_usd_micros").to_pylist()[:6] == [None, 7, 14, 21, 28, None]
    assert table.column("started_at")[7].as_py() == BEGIN + timedelta(microseconds=7 * 1_234_567)
    assert table.column("client_request_id")[3].as_py() == "=1+1"


def test_filters_and_times(gateway: ServedApi) -> None:
    since, until = BEGIN + timedelta(minutes=1), BEGIN + timedelta(minutes=2)
    asked = {"format": "jsonl", "from": since.isoformat(), "to": until.isoformat(), "team": "ads"}
    found = [orjson.loads(line)["input_tokens"] for line in download(gateway, **asked).splitlines()]
    expected = [n for n in range(0, COUNT, 3) if since <= BEGIN + timedelta(microseconds=n * 1_234_567) < until]
    assert found == expected
    assert download(gateway, format="csv", app="nobody").decode().splitlines() == [",".join(ledger_files.COLUMNS)]
    assert pyarrow.parquet.read_table(io.BytesIO(download(gateway, format="parquet", app="nobody"))).num_rows == 0


def test_a_team_gets_its_own_rows(gateway: ServedApi) -> None:
    for query in ({}, {"team": "ads"}):
        lines = download(gateway, Role.TEAM_MEMBER, "ads", format="jsonl", **query).splitlines()
        assert len(lines) == len(range(0, COUNT, 3))
        assert {orjson.loads(line)["team"] for line in lines} == {"ads"}
    assert download(gateway, Role.TEAM_MEMBER, "ads", format="jsonl", team="search") == b""


def exports() -> list[int]:
    """Processes of this test that write an export."""
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "gateway.store.reporter_main"], capture_output=True)
    return [int(pid) for pid in found.stdout.split()]


def test_a_reader_that_leaves_ends_it_and_a_slow_one_costs_no_memory(gateway: ServedApi) -> None:
    host, port = gateway.url.removeprefix("http://").split(":")
    head = (
        f"GET /api/v1/ledger/export HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {gateway.token(Role.VIEWER)}\r\n\r\n"
    )
    with write_session(gateway.engine) as session:
        insert_rows(session, [row(number) for number in range(COUNT, 5 * COUNT)])  # more than sockets and pipes hold
    slow = []
    for _ in range(2):
        reader = socket.create_connection((host, int(port)))
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader.sendall(head.encode())
        assert reader.recv(20).startswith(b"HTTP/1.1 200")
        slow.append(reader)
    running = exports()
    assert len(running) == 2, "each waits for its reader"
    with gateway.client() as owner:
        refused = owner.get("/api/v1/ledger/export")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
        time.sleep(1)
        assert exports() == running
        for reader in slow:
            reader.close()
        until = time.monotonic() + 10
        while exports():
            assert time.monotonic() < until, "nobody reads, and still it runs"
            time.sleep(0.05)
        while owner.get("/api/v1/ledger/export", params={"app": "nobody"}).status_code != 200:
            assert time.monotonic() < until, "its place is free a moment after its process has gone"
            time.sleep(0.05)


def test_what_cannot_be_read_is_an_error_and_not_an_empty_file(sqlite_api: ServedApi, tmp_path: Path) -> None:
    with sqlite_api.client() as owner:
        owner.get("/api/v1/teams").raise_for_status()
        with sqlite_api.engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE ledger RENAME TO gone")
        for format_ in ("csv", "jsonl", "parquet"):
            answer = owner.get("/api/v1/ledger/export", params={"format": format_})
            assert (answer.status_code, answer.json()["code"]) == (500, "export_failed"), answer.text
        assert owner.get("/api/v1/ledger/export", params={"format": "xlsx"}).status_code == 422
