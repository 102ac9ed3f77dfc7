"""Lists and sums of the ledger: against plain Python over the same rows, and by index however many rows there are."""

import itertools
import random
import re
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from sqlalchemy import Engine, text

from gateway.dataplane.spool import Spool
from gateway.errors import BadRequest, NotFound
from gateway.policy.records import CLOSED, Record, payload_of, record_of
from gateway.policy.usage import LedgerRow
from gateway.settings import Settings
from gateway.store import keeper_ledger
from gateway.store.database import make_engine, read_session
from gateway.store.ingest import ingest
from gateway.store.keeper_ledger import BATCH_S, SpoolLedger
from gateway.store.ledger import LedgerFilter, export_order, get_row, list_ledger, usage
from gateway.store.ledger_files import Format
from gateway.store.reporter_main import HEAD, Frame
from gateway.store.sql_thread import write_transaction
from tests.integration.keeper.conftest import new_row

BEGIN = datetime(2026, 11, 23, 10, 30, tzinfo=UTC)
SUMS = ("requests", "input_tokens", "output_tokens", "cost_usd_micros")


@pytest.fixture
def engine(migrated_url: str) -> Iterator[Engine]:
    engine = make_engine(Settings(database=migrated_url).database_url)
    yield engine
    engine.dispose()


def record(row: LedgerRow, *charges: int) -> Record:
    return record_of(payload_of(CLOSED, row, charges, 1))


def some_rows(count: int, seed: int = 1, hours: int = 6) -> list[LedgerRow]:
    """Over so many hours, several at the very same nanosecond."""
    dice = random.Random(seed)
    rows = []
    for _ in range(count):
        at = BEGIN + timedelta(seconds=dice.randrange(0, hours * 3600, 7))
        rows.append(
            new_row(
                started_at_ns=int(at.timestamp()) * 1_000_000_000,
                team=dice.choice(["search", "ads"]),
                app=dice.choice(["indexer", "ranker", "bids"]),
                key=dice.choice(["ci", None]),
                route=dice.choice(["chat", "embed"]),
                status=dice.choice([200, 200, 429]),
                outcome=dice.choice(["completed", "completed", "refused"]),
                input_tokens=dice.choice([None, dice.randrange(1_000)]),
                output_tokens=dice.randrange(1_000),
                cost_usd_micros=dice.choice([None, dice.randrange(1_000)]),
            )
        )
    return rows


def put(engine: Engine, rows: list[LedgerRow]) -> int:
    with write_transaction(engine) as connection:
        return len(ingest(connection, "node", "incarnation", [record(row) for row in rows]).records)


def newest_first(rows: list[LedgerRow]) -> list[str]:
    return [row.id for row in sorted(rows, key=lambda row: (row.started_at_ns, row.id), reverse=True)]


@pytest.mark.parametrize("ascending", [False, True])
def test_pages_hold_every_row_once_and_in_order(engine: Engine, ascending: bool) -> None:
    rows = some_rows(300)
    put(engine, rows)
    for wanted, matching in (
        (LedgerFilter(), rows),
        (LedgerFilter(app="ranker"), [row for row in rows if row.app == "ranker"]),
        (LedgerFilter(team="ads", status=429), [row for row in rows if row.team == "ads" and row.status == 429]),
    ):
        expected = newest_first(matching)
        if ascending:
            expected.reverse()
        found: list[str] = []
        cursor = None
        with read_session(engine) as session:
            while True:
                page = list_ledger(session, wanted, cursor=cursor, limit=37, ascending=ascending)
                found += [row.id for row in page.rows]
                cursor = page.next_cursor
                if cursor is None:
                    break
        assert found == expected


def test_a_row_is_found_by_its_id_and_as_it_was(engine: Engine) -> None:
    row = new_row(
        stream=True, estimated=True, ttft_ms=12.5, client_ip="::1", user="www-data", admit_ms=0.25, connect_ms=0.0,
        longest_gap_ms=80.5, events=12, attempt_log="[]",
    )  # fmt: skip
    put(engine, [row])
    with read_session(engine) as session:
        assert get_row(session, row.id) == row
        with pytest.raises(NotFound):
            get_row(session, "no-such-request")
        with pytest.raises(BadRequest):
            list_ledger(session, LedgerFilter(), cursor="not ours")
        with pytest.raises(BadRequest):
            usage(session, ["colour"])


def test_replaying_a_spool_changes_nothing(engine: Engine) -> None:
    rows = some_rows(50)
    records = [record(row, 7, 0, 3) for row in rows]
    with write_transaction(engine) as connection:
        assert len(ingest(connection, "node", "aa", [*records, *records[:10]]).records) == 50
    with write_transaction(engine) as connection:
        assert ingest(connection, "node", "aa", records).records == []
    with engine.begin() as connection:
        assert connection.execute(text("SELECT settled FROM limit_account")).scalar_one() == 150
        assert connection.execute(text("SELECT ingested FROM lease")).scalar_one() == 150
        assert connection.execute(text("SELECT sum(requests) FROM usage_hour")).scalar_one() == 50


def sums_of(rows: list[LedgerRow], group_by: list[str]) -> dict[tuple[object, ...], Counter[str]]:
    sums: dict[tuple[object, ...], Counter[str]] = {}
    for row in rows:
        at = datetime.fromtimestamp(row.started_at_ns // 1_000_000_000, UTC)
        times = {"day": at.strftime("%Y-%m-%d"), "hour": at.strftime("%Y-%m-%dT%H:00:00Z")}
        group = tuple(times[name] if name in times else getattr(row, name) for name in group_by)
        each = sums.setdefault(group, Counter())
        each["requests"] += 1
        for name in SUMS[1:]:
            each[name] += getattr(row, name) or 0
    return sums


@pytest.mark.parametrize(
    "group_by", [[], ["team"], ["app", "key"], ["day"], ["hour", "route"], ["key", "day", "team"]], ids=",".join
)
def test_usage_is_the_sum_of_the_rows(engine: Engine, group_by: list[str]) -> None:
    """For whole hours, parts of hours, and spans within one hour."""
    rows = some_rows(400)
    put(engine, rows)
    edges: list[datetime | None] = [
        None,
        BEGIN,
        BEGIN + timedelta(minutes=5),
        BEGIN + timedelta(minutes=30),
        BEGIN + timedelta(hours=3, seconds=11),
        BEGIN + timedelta(hours=7),
    ]
    for since, until in itertools.product(edges, edges):
        inside = [
            row
            for row in rows
            if (since is None or row.started_at_ns >= since.timestamp() * 1e9)
            and (until is None or row.started_at_ns < until.timestamp() * 1e9)
        ]
        with read_session(engine) as session:
            items = usage(session, group_by, since, until)
            only_ads = usage(session, [], since, until, team="ads")
        found = {tuple(item[name] for name in group_by): Counter({name: item[name] for name in SUMS}) for item in items}
        assert found == sums_of(inside, group_by)
        ads = [row for row in inside if row.team == "ads"]
        assert sum(item["requests"] for item in only_ads) == len(ads)


DAY_EDGES: list[datetime | None] = [
    None,
    BEGIN + timedelta(minutes=7),
    BEGIN.replace(hour=0, minute=0) + timedelta(days=1),
    BEGIN.replace(hour=0, minute=0) + timedelta(days=1, hours=5, seconds=3),
    BEGIN.replace(hour=23, minute=0) + timedelta(days=1),
    BEGIN.replace(hour=0, minute=0) + timedelta(days=2),
    BEGIN + timedelta(days=3, hours=2),
]


@pytest.mark.parametrize("group_by", [[], ["app", "day"], ["hour"], ["route"]], ids=",".join)
def test_usage_of_days_is_the_sum_of_the_rows(engine: Engine, group_by: list[str]) -> None:
    """Whole days come from the days' sums, the hours at the ends from the hours', what is left from the rows: each row
    counts once wherever the edges are."""
    rows = some_rows(900, hours=90)
    put(engine, rows)
    for since, until in itertools.product(DAY_EDGES, DAY_EDGES):
        inside = [
            row
            for row in rows
            if (since is None or row.started_at_ns >= since.timestamp() * 1e9)
            and (until is None or row.started_at_ns < until.timestamp() * 1e9)
        ]
        with read_session(engine) as session:
            items = usage(session, group_by, since, until)
        found = {tuple(item[name] for name in group_by): Counter({name: item[name] for name in SUMS}) for item in items}
        assert found == sums_of(inside, group_by), (since, until)


FILTERS = [
    LedgerFilter(),
    LedgerFilter(team="search"),
    LedgerFilter(app="indexer"),
    LedgerFilter(route="chat"),
    LedgerFilter(outcome="refused"),
    LedgerFilter(outcome="completed"),
    LedgerFilter(since=BEGIN, until=BEGIN + timedelta(hours=1)),
    LedgerFilter(app="indexer", since=BEGIN, until=BEGIN + timedelta(hours=1)),
]


@pytest.mark.parametrize("wanted", FILTERS, ids=repr)
def test_lists_go_by_index(engine: Engine, wanted: LedgerFilter) -> None:
    """No sorting, no scan of the table: the plan says so."""
    put(engine, some_rows(3_000))
    statements: list[tuple[str, object]] = []
    from sqlalchemy import event

    event.listen(engine, "before_cursor_execute", lambda c, cursor, sql, values, *_: statements.append((sql, values)))
    with read_session(engine) as session:
        page = list_ledger(session, wanted, limit=5)
        list_ledger(session, wanted, limit=5, cursor=page.next_cursor)
    listed = [each for each in statements if "FROM ledger" in each[0]]
    assert len(listed) == 2
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("ANALYZE ledger")
            connection.exec_driver_sql("SET enable_seqscan = off")  # 3,000 rows are too few for its costs to decide
        for sql, values in listed:
            explain = "EXPLAIN QUERY PLAN " if engine.dialect.name == "sqlite" else "EXPLAIN "
            plan = "\n".join(str(row) for row in connection.exec_driver_sql(explain + sql, values))
            assert "ix_ledger_" in plan
            assert "TEMP B-TREE" not in plan
            assert "Sort" not in plan


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_the_first_page_of_ten_million_rows_comes_at_once_and_all_are_exported_in_little_memory(engine: Engine) -> None:
    assert slowest_page_s(engine, 10_000_000) < 0.1
    assert export_peak_mb(engine, 10_000_000, Format.JSONL) < 150
    assert export_peak_mb(engine, 10_000_000, Format.PARQUET) < 450


def export_peak_mb(engine: Engine, count: int, format_: Format) -> float:
    """Resident memory of the process that writes all rows at its highest."""
    url = engine.url.render_as_string(hide_password=False)
    began_s = time.monotonic()
    ours, theirs = socket.socketpair()
    with ours, theirs, subprocess.Popen([sys.executable, "-m", "gateway.store.reporter_main"], stdin=theirs) as process:
        theirs.close()
        ours.sendall(export_order(url, LedgerFilter(), format_) + b"\n")
        lines = size = peak_kb = 0
        with ours.makefile("rb") as frames:
            while True:
                kind, length = HEAD.unpack(frames.read(HEAD.size))
                if kind != Frame.PIECE:
                    break
                piece = frames.read(length)
                lines += piece.count(b"\n")
                size += length
                # Not ru_maxrss: that begins with what the parent had when it started the child.
                status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
                peak_kb = max([peak_kb, *map(int, re.findall(r"VmHWM:\s+(\d+)", status))])
        assert kind == Frame.END
        ours.shutdown(socket.SHUT_RDWR)
        process.wait(10)
    assert process.returncode == 0
    if format_ is not Format.PARQUET:
        assert lines == count + 1 + (format_ is Format.CSV)  # the row that all are copies of
    print(f"{count} rows as {format_}: {size / 1e6:.0f} MB in {time.monotonic() - began_s:.0f} s")
    return peak_kb / 1024


def slowest_page_s(engine: Engine, count: int) -> float:
    """Time of the slowest list over `count` rows spread over a year; made in SQL, copied from one row."""
    put(engine, [new_row(id="0" * 26, started_at_ns=0, input_tokens=1, output_tokens=1)])
    with engine.begin() as connection:
        columns = [
            name for name in LedgerRow.__dataclass_fields__ if name not in ("id", "started_at_ns", "app", "outcome")
        ]
        names = ", ".join(f'"{name}"' for name in columns)
        if engine.dialect.name == "sqlite":
            numbers = (
                f"(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {count}) SELECT n FROM s)"
            )
            identity = "printf('%026x', n)"
        else:
            numbers = f"(SELECT n FROM generate_series(1, {count}) AS n)"
            identity = "lpad(to_hex(n), 26, '0')"
        connection.exec_driver_sql(
            f"INSERT INTO ledger (id, started_at_ns, app, outcome, {names}) SELECT {identity}, n * 3000000000,"
            f" 'app-' || (n * 7919 / 1000) , CASE WHEN n / 100000 = 1 THEN 'refused' ELSE 'completed' END, {names}"
            f" FROM {numbers} AS numbers, (SELECT {names} FROM ledger WHERE id = '{'0' * 26}') AS model"
        )
        connection.exec_driver_sql("ANALYZE ledger" if engine.dialect.name == "postgresql" else "ANALYZE")
    middle = datetime.fromtimestamp(count * 3 // 2, UTC)
    slowest = 0.0
    for wanted in (
        LedgerFilter(),
        LedgerFilter(team="search"),
        LedgerFilter(app="app-7"),
        LedgerFilter(outcome="refused"),
        LedgerFilter(since=middle),
        LedgerFilter(until=middle, route="chat"),
    ):
        with read_session(engine) as session:
            list_ledger(session, wanted, limit=1)
            before = time.perf_counter()
            page = list_ledger(session, wanted, limit=100)
            list_ledger(session, wanted, limit=100, cursor=page.next_cursor)
            slowest = max(slowest, time.perf_counter() - before)
    return slowest


def test_segments_made_between_a_look_and_the_workers_death_are_read(engine: Engine, tmp_path: Path) -> None:
    spool = Spool(tmp_path, "aa", 64 * 1024, 1 << 30)
    ledger = SpoolLedger(engine, tmp_path, "node")
    ledger.look()
    rows = [new_row() for _ in range(1_500)]
    for row in rows:
        spool.close(row, ())
    assert len(list(tmp_path.glob("*.spool"))) > 4
    spool.dispose()
    while ledger.work("aa", connected=False).more:
        pass
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM ledger")).scalar_one() == len(rows)
    assert list(tmp_path.glob("aa*")) == []


def test_a_batch_is_as_big_as_its_time_allows(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quick ones grow, slow ones shrink; what was not full says nothing of a bigger one."""
    took_s = 0.0
    times = itertools.count()
    monkeypatch.setattr(keeper_ledger, "time", SimpleNamespace(monotonic=lambda: took_s * next(times)))
    spool = Spool(tmp_path, "aa", 1 << 20, 1 << 30)
    ledger = SpoolLedger(engine, tmp_path, "node")

    def batches(rows: int) -> list[int]:
        for _ in range(rows):
            spool.close(new_row(), ())
        ledger.look()
        sizes = []
        while size := len(ledger.work("aa", connected=True).new):
            sizes.append(size)
        return sizes

    assert batches(5_000) == [400, 800, 1_600, 1_600, 600]
    took_s = 2 * BATCH_S
    assert batches(3_000) == [1_600, 800, 400, 200]
    assert batches(300) == [100, 100, 100]
    took_s = 0.7 * BATCH_S
    assert batches(200) == [100, 100]
    took_s = 0.0
    assert batches(90) == [90]
    assert batches(250) == [100, 150]
    spool.dispose()


def test_a_dead_workers_lease_counts_until_its_spool_is_in_sql(engine: Engine, tmp_path: Path) -> None:
    with engine.begin() as connection:
        for incarnation in ("aa", "bb"):
            connection.execute(text("INSERT INTO lease VALUES (:of, 8, 0, 'node', 100, 0, 0)"), {"of": incarnation})
    spool = Spool(tmp_path, "aa", 64 * 1024, 1 << 30)
    spool.open(new_row(), (8, 0, 40))
    spool.dispose()

    def held() -> list[str]:
        with engine.begin() as connection:
            return list(connection.execute(text("SELECT incarnation FROM lease ORDER BY 1")).scalars())

    ledger = SpoolLedger(engine, tmp_path, "node")
    ledger.bury_strangers(frozenset())
    assert held() == ["aa"]  # the other one left nothing that could still be charged
    ledger.look()
    ledger.work("aa", connected=False)
    assert held() == []
    with engine.begin() as connection:
        assert connection.execute(text("SELECT settled FROM limit_account")).scalar_one() == 40
