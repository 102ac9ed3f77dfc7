"""Ledger and usage by REST: filters, paging, order, and each team its own."""

from datetime import UTC, datetime, timedelta

import httpx2
import pytest

from gateway.policy.roles import Role
from gateway.policy.usage import LedgerRow
from gateway.store.database import write_session
from tests.integration.api.rows import insert_rows
from tests.integration.api.served import ServedApi

NOW = datetime.now(UTC).replace(microsecond=0)
COUNT = 250


def row(number: int) -> LedgerRow:
    started = NOW - timedelta(minutes=number)
    return LedgerRow(
        id=f"{COUNT - number:026x}",
        started_at_ns=int(started.timestamp()) * 1_000_000_000,
        team="search" if number % 2 else "ads",
        app="indexer" if number % 2 else "banner",
        key="ci",
        route="chat",
        target="openai/gpt-5-mini",
        provider="openai",
        dialect="openai",
        model="gpt-5-mini",
        status=200 if number % 10 else 429,
        outcome="completed" if number % 10 else "refused",
        input_tokens=10,
        output_tokens=5,
        cost_usd_micros=100 if number % 5 else None,
        ttft_ms=float(number),
        latency_ms=2.0 * number,
        attempts=1,
        process="python3" if number % 7 == 0 else None,
        user="mia" if number % 7 == 0 else None,
        container="box" if number % 14 == 0 else None,
    )


@pytest.fixture
def gateway(api: ServedApi) -> ServedApi:
    with write_session(api.engine) as session:
        insert_rows(session, [row(number) for number in range(COUNT)])
    with api.client() as owner:
        for team in ("search", "ads"):
            owner.post("/api/v1/teams", json={"name": team}).raise_for_status()
    return api


def walk(client: httpx2.Client, **query: object) -> list[dict[str, object]]:
    """All pages of the ledger."""
    rows: list[dict[str, object]] = []
    cursor = None
    while True:
        page = client.get("/api/v1/ledger", params={**query, **({"cursor": cursor} if cursor else {})})
        assert page.status_code == 200, page.text
        rows += page.json()["items"]
        cursor = page.json()["next_cursor"]
        if cursor is None:
            return rows


def test_pages_cover_every_row_once_in_either_order(gateway: ServedApi) -> None:
    with gateway.client(Role.VIEWER) as viewer:
        newest = walk(viewer, limit=40)
        oldest = walk(viewer, limit=70, order="asc")
        assert [each["id"] for each in newest] == [row(number).id for number in range(COUNT)]
        assert oldest == newest[::-1]
        assert len(viewer.get("/api/v1/ledger").json()["items"]) == 100
        first = newest[0]
        assert first["started_at"] == NOW.isoformat(timespec="microseconds").replace("+00:00", "Z")
        assert first["cost_usd_micros"] is None
        assert viewer.get(f"/api/v1/ledger/{first['id']}").json() == first
        assert viewer.get("/api/v1/ledger/unknown").status_code == 404


def test_filters_compose(gateway: ServedApi) -> None:
    with gateway.client() as owner:
        since, until = NOW - timedelta(minutes=100), NOW - timedelta(minutes=50)
        found = walk(owner, app="indexer", **{"from": since.isoformat(), "to": until.isoformat()})
        assert [each["id"] for each in found] == [row(number).id for number in range(51, 101) if number % 2]
        assert len(walk(owner, outcome="refused")) == COUNT // 10
        assert len(walk(owner, status=429, team="ads")) == COUNT // 10
        assert walk(owner, route="nothing") == []
        assert len(walk(owner, status_class=4)) == COUNT // 10
        assert len(walk(owner, status_class=2, min_latency_ms=400)) == 45
        assert {each["cost_usd_micros"] for each in walk(owner, min_cost_usd_micros=100)} == {100}
        assert walk(owner, min_cost_usd_micros=101) == []
        assert [each["id"] for each in walk(owner, id_prefix=row(3).id[:25])] == [
            each.id for each in map(row, range(COUNT)) if each.id[:25] == row(3).id[:25]
        ]
        for name, found in (("process", "python3"), ("user", "mia"), ("container", "box")):
            assert {each[name] for each in walk(owner, **{name: found})} == {found}
            assert walk(owner, **{name: "nobody"}) == []
        assert owner.get("/api/v1/ledger", params={"id_prefix": "%"}).status_code == 422
        assert owner.get("/api/v1/ledger", params={"outcome": "lucky"}).status_code == 422
        assert owner.get("/api/v1/ledger", params={"from": "yesterday"}).status_code == 422
        assert owner.get("/api/v1/ledger", params={"cursor": "!"}).status_code == 400
        for extreme in ("0001-01-01T00:00:00+23:00", "9999-12-31T23:59:59-23:00", "1969-12-31T23:59:59Z"):
            assert owner.get("/api/v1/ledger", params={"from": extreme, "to": extreme}).status_code == 200


def test_requests_in_flight_need_the_keeper(gateway: ServedApi) -> None:
    with gateway.client() as owner:
        assert owner.get("/api/v1/ledger", params={"open": "true"}).status_code == 503


def test_usage_adds_up_by_every_group(gateway: ServedApi) -> None:
    with gateway.client(Role.VIEWER) as viewer:
        total = viewer.get("/api/v1/usage").json()["items"]
        assert len(total) == 1
        assert total[0]["requests"] == COUNT
        assert total[0]["input_tokens"] == 10 * COUNT
        assert total[0]["cost_usd_micros"] == 100 * (COUNT - COUNT // 5)
        assert total[0]["unpriced"] == COUNT // 5
        by_app = viewer.get("/api/v1/usage", params={"group_by": "team,app"}).json()["items"]
        assert [(each["team"], each["app"], each["requests"]) for each in by_app] == [
            ("ads", "banner", COUNT // 2),
            ("search", "indexer", COUNT // 2),
        ]
        hours = viewer.get("/api/v1/usage", params={"group_by": "hour", "limit": 2}).json()
        assert len(hours["items"]) == 2
        seen = hours["items"]
        while hours["next_cursor"]:
            hours = viewer.get(
                "/api/v1/usage", params={"group_by": "hour", "limit": 2, "cursor": hours["next_cursor"]}
            ).json()
            seen += hours["items"]
        assert sum(each["requests"] for each in seen) == COUNT
        assert [each["hour"] for each in seen] == sorted(each["hour"] for each in seen)
        span = {"from": (NOW - timedelta(minutes=9)).isoformat(), "to": NOW.isoformat()}
        assert viewer.get("/api/v1/usage", params=span).json()["items"][0]["requests"] == 9
        assert viewer.get("/api/v1/usage", params={"group_by": "colour"}).status_code == 400
        assert viewer.get("/api/v1/usage", params={"cursor": "!"}).status_code == 400


@pytest.mark.parametrize("role", [Role.TEAM_MEMBER, Role.TEAM_ADMIN])
def test_each_team_sees_its_own_rows_and_sums(gateway: ServedApi, role: Role) -> None:
    with gateway.client(role, "search") as member:
        rows = walk(member, limit=1000)
        assert {each["team"] for each in rows} == {"search"}
        assert len(rows) == COUNT // 2
        assert walk(member, team="ads") == []
        assert walk(member, app="banner") == []
        theirs = member.get(f"/api/v1/ledger/{row(0).id}")
        nothing = member.get(f"/api/v1/ledger/{'0' * 26}")
        assert theirs.status_code == nothing.status_code == 404
        assert theirs.json()["detail"].replace(row(0).id, "") == nothing.json()["detail"].replace("0" * 26, "")
        by_team = member.get("/api/v1/usage", params={"group_by": "team"}).json()["items"]
        assert [each["team"] for each in by_team] == ["search"]
        assert member.get("/api/v1/usage", params={"team": "ads"}).json()["items"] == []
        routes = member.get("/api/v1/telemetry/routes", params={"window": "60m"}).json()["items"]
        assert len(routes) == 1
        assert 20 <= routes[0]["requests"] <= 30  # those of the last hour, less what the tests have taken since


def test_telemetry_tells_what_the_ledger_knows_and_what_nobody_does(gateway: ServedApi) -> None:
    with gateway.client() as owner:
        found = owner.get("/api/v1/telemetry/routes", params={"window": "60m"}).json()["items"]
        assert len(found) == 1
        figures = found[0]
        assert (figures["route"], figures["target"]) == ("chat", "openai/gpt-5-mini")
        assert 40 <= figures["requests"] <= 61  # the last hour, less what the tests have taken since
        assert figures["ttft_ms"]["count"] == figures["requests"]
        assert figures["ttft_ms"]["p50"] == pytest.approx(figures["requests"] / 2, abs=2)
        assert figures["rtt_ms"] is None
        assert figures["retransmits"] is None
        assert figures["sources"]["kernel"] == "none: the keeper is away"  # by which the agent would be heard
        for bad, status in (("0s", 400), ("61m", 400), ("x", 422)):
            assert owner.get("/api/v1/telemetry/routes", params={"window": bad}).status_code == status
