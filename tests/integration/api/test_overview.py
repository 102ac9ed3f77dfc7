"""What the overview says: limits near their end with a forecast, what needs somebody, and each team its own."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import insert

from gateway.policy.model import Metric, Window
from gateway.policy.quota import account_of
from gateway.policy.roles import Role
from gateway.policy.usage import LedgerRow
from gateway.policy.windows import window_start_s
from gateway.store.base import Base
from gateway.store.database import write_session
from gateway.store.ledger_models import LimitAccount
from tests.integration.api.rows import insert_rows
from tests.integration.api.served import ServedApi
from tests.integration.api.test_flows import find, finding

NOW = datetime.now(UTC).replace(microsecond=0)
LIMITS: list[dict[str, Any]] = [
    {"name": "full", "scope": {"team": "search"}, "metric": "cost_usd", "window": "month", "at_most": 50},
    {"name": "half", "scope": {"team": "ads"}, "metric": "requests", "window": "lifetime", "at_most": 100},
    {"name": "empty", "scope": {}, "metric": "total_tokens", "window": "day", "at_most": 1000},
    {"name": "quick", "scope": {}, "metric": "requests", "window": "minute", "at_most": 1},
    {"name": "slots", "scope": {}, "metric": "concurrent_requests", "at_most": 1},
]


def use(api: ServedApi, owner: httpx2.Client, name: str, amount: int) -> None:
    """Charge a limit in its present window."""
    limit = owner.get(f"/api/v1/limits/{name}").json()
    account = account_of(limit["id"], Metric(limit["metric"]))
    start_s = window_start_s(Window(limit["window"]), NOW.timestamp())
    with write_session(api.engine) as session:
        table = Base.metadata.tables[LimitAccount.__tablename__]
        row = {"account": account, "window_start_s": start_s, "settled": amount, "recall_ns": 0}
        session.execute(insert(table).values(row))


@pytest.fixture
def gateway(api: ServedApi) -> ServedApi:
    with api.client() as owner:
        for team in ("search", "ads"):
            owner.post("/api/v1/teams", json={"name": team}).raise_for_status()
        for limit in LIMITS:
            owner.post("/api/v1/limits", json=limit).raise_for_status()
        use(api, owner, "full", 49_000_000)
        use(api, owner, "half", 50)
        use(api, owner, "quick", 1)
    return api


def overview(client: httpx2.Client) -> dict[str, Any]:
    answer = client.get("/api/v1/overview")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_limits_stand_by_how_full_they_are_with_a_forecast(gateway: ServedApi) -> None:
    with gateway.client(Role.VIEWER) as viewer:
        told = overview(viewer)
    full, half, empty = told["limits"]
    assert [full["name"], half["name"], empty["name"]] == ["full", "half", "empty"]
    assert (full["used"], full["at_most"], full["window"]) == (49.0, 50.0, "month")
    began = datetime.fromisoformat(full["started_at"])
    ends = datetime.fromisoformat(full["resets_at"])
    assert began.day == ends.day == 1
    if NOW - began > (ends - began) * 0.05:
        assert full["expected"] >= 49
        gone = full["gone_at"]
        assert (gone is not None) == (full["expected"] > 50)
        assert gone is None or began < datetime.fromisoformat(gone) < ends
    assert half["resets_at"] is None
    assert half["expected"] is None
    assert empty["used"] == 0
    assert {"need": "limit", "subject": "full", "count": 98, "why": None} in told["needs"]
    assert "half" not in [need["subject"] for need in told["needs"]]


def test_what_needs_somebody(gateway: ServedApi) -> None:
    find(gateway, finding(), finding(user="eve"))
    rows = [
        LedgerRow(
            id=f"{number:026x}", started_at_ns=int((NOW - timedelta(hours=age)).timestamp()) * 1_000_000_000,
            dialect="openai", team="ads", app="banner", route="draft", target="local/llama", provider="local",
            status=200, outcome="completed", input_tokens=5, output_tokens=5,
        )
        for number, age in ((1, 0.1), (2, 0.2), (3, 24 * 5))
    ]  # fmt: skip
    with write_session(gateway.engine) as session:
        insert_rows(session, rows)
    with gateway.client() as owner:
        told = overview(owner)
        needs = {need["need"]: need for need in told["needs"]}
        assert needs["findings"]["count"] == 2
        assert (needs["unpriced"]["subject"], needs["unpriced"]["count"]) == ("local/llama", 2)
        assert told["gate"]["findings"] == {"new": 2}
        assert told["gate"]["trouble"]
        assert told["gate"]["rules"] == 0
    with gateway.client(Role.TEAM_ADMIN, "search") as member:
        mine = overview(member)
        assert [need["need"] for need in mine["needs"]] == ["limit"]
        assert [limit["name"] for limit in mine["limits"]] == ["full"]
        assert mine["gate"] is None


def test_a_rule_that_is_not_armed_is_told(sqlite_api: ServedApi) -> None:
    with sqlite_api.client() as owner:
        rule = {"name": "direct", "destinations": {"hosts": ["api.openai.com"]}, "mode": "observe"}
        owner.post("/api/v1/interception-rules", json=rule).raise_for_status()
        told = overview(owner)
        (need,) = told["needs"]
        assert (need["need"], need["subject"]) == ("rule", "direct")
        assert need["why"]
        assert (told["gate"]["rules"], told["gate"]["armed"]) == (1, 0)
