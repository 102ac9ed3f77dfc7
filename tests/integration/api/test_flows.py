"""Flows and first tokens by REST: what adds up to what, whose it is, and what goes past the gateway."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from gateway.policy.roles import Role
from gateway.policy.usage import LedgerRow
from gateway.store import findings, flow_rollup
from gateway.store.database import write_session
from gateway.store.retention import forget_usage
from tests.integration.api.rows import insert_rows
from tests.integration.api.served import ServedApi

NOW = datetime.now(UTC).replace(microsecond=0)
COUNT = 400
CLOSE = 360
HOURS_APART, HOURS_FAR_APART = 0.25, 15
"""Rows reach four weeks back: weeks, the days and hours at their ends, and parts of hours."""


def row(number: int) -> LedgerRow:
    hours = HOURS_APART * (min(number, CLOSE) + 0.5) + HOURS_FAR_APART * max(0, number - CLOSE)
    started = NOW - timedelta(hours=hours)
    local = number % 4 == 0
    refused = number % 20 == 7
    return LedgerRow(
        id=f"{COUNT - number:026x}",
        started_at_ns=int(started.timestamp()) * 1_000_000_000,
        team="search" if number % 2 else "ads",
        app="indexer" if number % 2 else "banner",
        key=None if local else "ci",
        route="chat",
        target=None if refused else "openai/gpt-5-mini",
        provider=None if refused else "openai",
        dialect="openai",
        status=429 if refused else 200,
        outcome="refused" if refused else "completed",
        input_tokens=None if refused else 10,
        output_tokens=None if refused else 5,
        cost_usd_micros=None if refused else 100,
        ttft_ms=None if refused else 100.0 + number,
        latency_ms=900.0,
        attempts=1,
        process="python3" if local else None,
        user="mia" if local else None,
    )


def finding(**fields: Any) -> findings.Finding:
    told = {
        "process": "node", "executable": "/usr/bin/node", "uid": 7, "user": "joe", "cgroup": None, "unit": None,
        "container": None, "client": None, "provider": "anthropic", "host": "api.anthropic.com", "address": None,
        "port": 443, "evidence": "sni", "first_seen_s": NOW.timestamp(), "last_seen_s": NOW.timestamp(),
        "connections": 2, "bytes": 5_000, **fields,
    }  # fmt: skip
    return findings.finding_of(told)


def find(api: ServedApi, *found: findings.Finding) -> None:
    with write_session(api.engine) as session:
        findings.write(session.connection(), "node", {findings.fingerprint("node", one): one for one in found})


@pytest.fixture
def gateway(api: ServedApi) -> ServedApi:
    with write_session(api.engine) as session:
        insert_rows(session, [row(number) for number in range(COUNT)])
    with api.client() as owner:
        for team in ("search", "ads"):
            owner.post("/api/v1/teams", json={"name": team}).raise_for_status()
    return api


def flows(client: httpx2.Client, hours: float, **query: object) -> dict[str, Any]:
    span = {"from": (NOW - timedelta(hours=hours)).isoformat(), "to": NOW.isoformat()}
    answer = client.get("/api/v1/flows", params={**span, **query})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("hours", [0.1, 0.6, 3.2, 30, 71.9, 99.9, 250, 690])
def test_paths_add_up_to_the_rows_of_any_time(gateway: ServedApi, hours: float) -> None:
    since_ns = int((NOW - timedelta(hours=hours)).timestamp()) * 1_000_000_000
    rows = [row(number) for number in range(COUNT) if row(number).started_at_ns >= since_ns]
    with gateway.client(Role.VIEWER) as viewer:
        paths = flows(viewer, hours)["paths"]
    assert sum(path["requests"] for path in paths) == len(rows)
    for name in ("input_tokens", "output_tokens", "cost_usd_micros"):
        assert sum(path[name] for path in paths) == sum(getattr(each, name) or 0 for each in rows)
    refused = [each for each in rows if each.outcome == "refused"]
    assert sum(path["refused"] for path in paths) == sum(path["errors"] for path in paths) == len(refused)
    local = {path["process"]: path for path in paths if path["app"] == "banner"}
    if len(rows) > 5:
        assert local["python3"]["user"] == "mia"
        assert local["python3"]["key"] is None
        assert local[None]["key"] == "ci"


def test_what_has_no_room_is_summed(gateway: ServedApi) -> None:
    with gateway.client() as owner:
        whole = flows(owner, 99)
        first = flows(owner, 99, limit=1, measure="requests")
        assert whole["others"] is None
        assert len(first["paths"]) == 1
        assert first["paths"][0]["requests"] == max(path["requests"] for path in whole["paths"])
        assert first["others"]["paths"] == len(whole["paths"]) - 1
        everything = sum(path["requests"] for path in whole["paths"])
        assert first["paths"][0]["requests"] + first["others"]["requests"] == everything
        assert owner.get("/api/v1/flows", params={"measure": "joy"}).status_code == 422
        assert owner.get("/api/v1/flows", params={"from": NOW.isoformat(), "to": NOW.isoformat()}).status_code == 400


def test_filters_narrow_and_an_empty_one_asks_for_those_without(gateway: ServedApi) -> None:
    with gateway.client() as owner:
        for hours in (0.6, 99):
            assert {path["process"] for path in flows(owner, hours, process="python3")["paths"]} == {"python3"}
            assert {path["process"] for path in flows(owner, hours, process="")["paths"]} == {None}
        assert {path["app"] for path in flows(owner, 99, app="indexer", target="")["paths"]} == {"indexer"}
        assert flows(owner, 99, provider="nobody")["paths"] == []


def test_first_tokens_are_of_all_answers(gateway: ServedApi) -> None:
    with gateway.client() as owner:
        span = {"from": (NOW - timedelta(hours=50)).isoformat(), "to": NOW.isoformat()}
        (found,) = owner.get("/api/v1/first-tokens", params=span).json()["items"]
        times = sorted(row(number).ttft_ms or 0 for number in range(200) if row(number).ttft_ms)
        assert found["count"] == pytest.approx(len(times), abs=8)  # whole hours
        assert found["p95"] == pytest.approx(times[int(0.95 * len(times))], rel=0.125)
        by_provider = owner.get("/api/v1/first-tokens", params={**span, "group_by": "provider,day"}).json()["items"]
        assert {each["provider"] for each in by_provider} == {"openai"}
        assert sum(each["count"] for each in by_provider) == found["count"]
        hourly = owner.get("/api/v1/first-tokens", params={**span, "group_by": "hour"}).json()["items"]
        assert sum(each["count"] for each in hourly) == found["count"]
        assert len(hourly) > 48
        assert owner.get("/api/v1/first-tokens", params={"group_by": "colour"}).status_code == 400

        compared = flows(owner, 24)["first_tokens"]
        assert compared["all"]["p95"] < compared["all"]["before"]["p95"]  # older rows took longer
        assert compared["targets"] == {"openai/gpt-5-mini": compared["all"]}
        assert compared["routes"] == {"chat": compared["all"]}


def test_the_kernels_bytes_are_shared_out_by_tokens(gateway: ServedApi) -> None:
    with write_session(gateway.engine) as session:
        carried = {("chat", "openai/gpt-5-mini"): 100_000, ("other", "x/y"): 7, ("none", "x/y"): 0}
        flow_rollup.add_bytes(session.connection(), int(NOW.timestamp()), carried)
    with gateway.client() as owner:
        paths = flows(owner, 24, measure="bytes")["paths"]
        known = [path for path in paths if path["target"] is not None]
        assert sum(path["bytes"] for path in known) == pytest.approx(100_000, abs=len(known))
        assert all(path["bytes_estimated"] for path in known)
        assert {path["bytes"] for path in paths if path["target"] is None} == {None}
    with gateway.client(Role.TEAM_MEMBER, "search") as member:
        assert {path["bytes"] for path in flows(member, 24)["paths"]} == {None}


def test_what_goes_past_is_of_its_time_and_of_no_team(gateway: ServedApi) -> None:
    yesterday_s = (NOW - timedelta(hours=30)).timestamp()
    find(gateway, finding(first_seen_s=yesterday_s, last_seen_s=yesterday_s, bytes=1_000_000), finding(user="eve"))
    find(gateway, finding())
    with gateway.client() as owner:
        past = flows(owner, 24)["past"]
        figures = {each["user"]: (each["bytes"], each["connections"]) for each in past}
        assert figures == {"joe": (5_000, 2), "eve": (5_000, 2)}
        longer = {each["user"]: each["bytes"] for each in flows(owner, 72)["past"]}
        assert longer == {"joe": 1_005_000, "eve": 5_000}
        assert [each["user"] for each in flows(owner, 24, process="node", user="eve")["past"]] == ["eve"]
        assert flows(owner, 24, app="indexer")["past"] == []

        eve = next(each for each in past if each["user"] == "eve")
        decided = owner.post(f"/api/v1/discoveries/{eve['finding']}/action", json={"action": "deny"})
        assert decided.status_code == 200, decided.text
        owner.post("/api/v1/denials", json={"executable": "/opt/foo", "provider": "xai"}).raise_for_status()
        denied = {each["process"]: each for each in flows(owner, 24)["past"] if each["state"] == "deny"}
        assert denied["node"]["finding"] == eve["finding"]
        assert denied["foo"]["finding"] is None
        assert denied["foo"]["provider"] == "xai"
        assert flows(owner, 24)["kernel"]
    with gateway.client(Role.TEAM_ADMIN, "search") as member:
        mine = flows(member, 99)
        assert {path["team"] for path in mine["paths"]} == {"search"}
        assert mine["past"] == []
        assert mine["kernel"] is None
        assert flows(member, 99, team="ads")["paths"] == []


def test_sums_go_when_their_time_is_over(gateway: ServedApi) -> None:
    find(gateway, finding(last_seen_s=(NOW - timedelta(days=3)).timestamp(), first_seen_s=0))
    cutoff = NOW.replace(minute=0, second=0) - timedelta(days=2)
    forget_usage(gateway.engine, int(cutoff.timestamp()))
    with gateway.engine.connect() as connection:
        for table in ("flow_sum", "first_token_sum", "past_sum"):
            oldest = connection.execute(text(f"SELECT min(at_s) FROM {table}")).scalar_one()
            assert oldest is None or oldest >= cutoff.timestamp() - 86_400
        past = connection.execute(text("SELECT count(*) FROM past_sum")).scalar_one()
    assert past == 0
