"""The large ledger of the measurements (tests/bench/big_ledger.py) is one that the product could have made."""

import time
from collections.abc import Iterator

import pytest
from ruamel.yaml import YAML
from sqlalchemy import Engine, text

from gateway.policy.records import CLOSED, payload_of, record_of
from gateway.policy.usage import LEDGER_FIELDS, LedgerRow
from gateway.settings import Settings
from gateway.store.database import make_engine
from gateway.store.documents import GatewayDocument
from gateway.store.flow_rollup import ANSWERED, PATH
from gateway.store.ingest import ingest
from gateway.store.ledger import LedgerFilter, scan
from gateway.store.rollup import NAMES
from gateway.store.sql_thread import write_transaction
from tests.bench import big_ledger

ROWS = 4_000
SUMMED = {
    "usage_hour": ("hour_s", *NAMES),
    "usage_day": ("day_s", *NAMES),
    "flow_sum": ("step_s", "at_s", *PATH),
    "first_token_sum": ("step_s", "at_s", *ANSWERED, "bucket"),
}
"""Tables of sums and what each row of them is known by."""


@pytest.fixture
def engine(migrated_url: str) -> Iterator[Engine]:
    engine = make_engine(Settings(database=migrated_url).database_url)
    yield engine
    engine.dispose()


def test_the_sums_of_its_hours_are_those_that_the_product_makes_of_its_rows(engine: Engine) -> None:
    assert big_ledger.fill(engine, ROWS) > 500
    rows = [
        LedgerRow(**dict(zip(LEDGER_FIELDS, row, strict=True))) for rows in scan(engine, LedgerFilter()) for row in rows
    ]
    assert len(rows) == ROWS
    made = summed(engine)
    with engine.begin() as connection:
        for table in (*SUMMED, "ledger"):
            connection.execute(text(f"DELETE FROM {table}"))
    with write_transaction(engine) as connection:
        ingest(connection, "node", "incarnation", [record_of(payload_of(CLOSED, row, (), 1)) for row in rows])
    assert summed(engine) == made


def summed(engine: Engine) -> dict[str, list[tuple[object, ...]]]:
    found = {}
    with engine.begin() as connection:
        for table, key in SUMMED.items():
            names = ", ".join(f'"{name}"' for name in key)
            found[table] = [tuple(row) for row in connection.execute(text(f"SELECT * FROM {table} ORDER BY {names}"))]
    return found


def test_its_rows_are_spread_as_a_platforms_are_and_name_what_its_configuration_has(engine: Engine) -> None:
    big_ledger.fill(engine, ROWS)
    rows = [
        LedgerRow(**dict(zip(LEDGER_FIELDS, row, strict=True))) for rows in scan(engine, LedgerFilter()) for row in rows
    ]
    now_s = time.time()
    ages_s = [now_s - row.started_at_ns / 1e9 for row in rows]
    assert 0 <= min(ages_s) < 3600
    assert 88 * 86_400 < max(ages_s) < 92 * 86_400
    assert {row.outcome for row in rows} == {"completed", "refused", "upstream_failed", "client_gone"}
    assert 10 < sum(row.cost_usd_micros is None and bool(row.output_tokens) for row in rows) < ROWS / 5

    document = GatewayDocument.model_validate(YAML(typ="safe").load(big_ledger.configuration("http://127.0.0.1:1")))
    may_call = {(team.name, app.name): set(app.routes) for team in document.teams for app in team.apps}
    targets = {
        (route.name, f"{target.provider}/{target.model}") for route in document.routes for target in route.targets
    }
    assert len(may_call) == big_ledger.APPS
    assert {(row.team, row.app) for row in rows} <= may_call.keys()
    assert all(row.route in may_call[row.team, row.app] for row in rows)
    assert {(row.route, row.target) for row in rows if row.target} <= targets
    assert len({row.app for row in rows}) > big_ledger.APPS * 0.9
