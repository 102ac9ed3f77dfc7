"""Big reports by REST: answered by a process of their own, with the bytes that a worker would have sent itself."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from gateway.api import reporters, reports
from gateway.policy.roles import Role
from gateway.policy.usage import LedgerRow
from gateway.store.database import read_session, write_session
from gateway.store.ledger import fetching, unix_ns
from gateway.store.questions import Question, answer
from tests.integration.api.rows import insert_rows
from tests.integration.api.served import ServedApi

BEGIN = datetime(2026, 10, 1, 10, 20, tzinfo=UTC)
ROWS = 1_500
NAMES = "team,app,key,route,target,provider,model,hour"


def row(number: int) -> LedgerRow:
    return LedgerRow(
        id=f"{number:026x}",
        started_at_ns=unix_ns(BEGIN + timedelta(minutes=17 * number)),
        team="search" if number % 3 else "ads",
        app="indexer",
        key="ci" if number % 2 else None,
        route="chat",
        target="openai/gpt-5-mini",
        provider="openai",
        dialect="openai",
        model="gpt-5-mini",
        status=200 if number % 7 else 502,
        outcome="completed" if number % 7 else "upstream_failed",
        input_tokens=number,
        output_tokens=number % 5 or None,
        cost_usd_micros=number * 3 if number % 4 else None,
        latency_ms=number / 8,
        attempts=1,
        estimated=number % 2 == 0,
        stream=number % 5 == 0,
        client_request_id='a "text" – with é' if number % 11 == 0 else None,
    )


@pytest.fixture
def gateway(api: ServedApi) -> ServedApi:
    with write_session(api.engine) as session:
        insert_rows(session, [row(number) for number in range(ROWS)])
    with api.client() as owner:
        for team in ("search", "ads"):
            owner.post("/api/v1/teams", json={"name": team}).raise_for_status()
    return api


def at_work() -> list[int]:
    """Reporters of this process."""
    found = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "gateway.store.reporter_main"], capture_output=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


def wait_until(held: Callable[[], bool], within_s: float = 10) -> None:
    until = time.monotonic() + within_s
    while not held():
        assert time.monotonic() < until
        time.sleep(0.05)


BIG: list[tuple[str, dict[str, Any]]] = [
    ("usage", {"group_by": NAMES, "limit": 1000}),
    ("usage", {"group_by": "hour,app", "limit": 400}),
    (
        "usage",
        {
            "group_by": "hour,key",
            "limit": 1000,
            "from": (BEGIN + timedelta(minutes=1)).isoformat(),
            "to": (BEGIN + timedelta(days=14, minutes=3)).isoformat(),
        },
    ),
    ("ledger", {"limit": 1000}),
    ("ledger", {"limit": 700, "order": "asc", "status": 200, "app": "indexer"}),
]


@pytest.mark.parametrize(("path", "query"), BIG, ids=lambda value: value if isinstance(value, str) else "")
def test_a_reporter_says_what_the_worker_would(
    gateway: ServedApi, monkeypatch: pytest.MonkeyPatch, path: str, query: dict[str, Any]
) -> None:
    def pages(role: Role, of: str | None = None) -> list[bytes]:
        found = []
        cursor = None
        with gateway.client(role, of) as client:
            while True:
                page = client.get(f"/api/v1/{path}", params={**query, **({"cursor": cursor} if cursor else {})})
                assert page.status_code == 200, page.text
                assert page.headers["content-type"] == "application/json"
                assert int(page.headers["content-length"]) == len(page.content)
                found.append(page.content)
                cursor = page.json()["next_cursor"]
                if cursor is None:
                    return found

    by_reporter = pages(Role.VIEWER), pages(Role.TEAM_MEMBER, "ads")
    assert len(at_work()) == 1, "one is started, and answers one page after another"
    assert sum(len(page) for page in by_reporter[1]) < sum(len(page) for page in by_reporter[0])

    def answer_all_here(engine: Any, question: Question) -> bytes:
        with read_session(engine) as session:
            return answer(question, fetching(session.connection()))

    monkeypatch.setattr(reports, "answer_here", answer_all_here)
    monkeypatch.setattr(gateway.app.state.services.reports, "_heavy", {})
    assert by_reporter == (pages(Role.VIEWER), pages(Role.TEAM_MEMBER, "ads"))


def test_little_is_answered_without_a_process(gateway: ServedApi) -> None:
    with gateway.client() as owner:
        assert len(owner.get("/api/v1/usage", params={"group_by": "day,team", "limit": 1000}).json()["items"]) > 30
        assert len(owner.get("/api/v1/ledger", params={"limit": 100}).json()["items"]) == 100
        assert len(owner.get("/api/v1/ledger", params={"limit": 1000, "status": 502}).json()["items"]) == 215
    assert at_work() == []


def let_go_once_asked(connection: Connection) -> None:
    """Of its lock, when a reporter is there to wait for it."""
    try:
        wait_until(lambda: bool(at_work()), 30)
    finally:
        connection.rollback()


@pytest.mark.parametrize("path", ["ledger", "usage"])
def test_what_reads_long_and_finds_little_is_a_big_one(
    gateway: ServedApi, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    monkeypatch.setattr(reports, "SQLITE_S", 0.0)
    monkeypatch.setattr(reports, "LOOK_EVERY", 20)
    with gateway.client() as owner, gateway.engine.connect() as connection:
        if connection.dialect.name == "postgresql":  # 1,500 rows take no time: somebody else's lock does
            connection.exec_driver_sql("LOCK TABLE ledger, usage_hour, usage_day IN ACCESS EXCLUSIVE MODE")
            threading.Thread(target=let_go_once_asked, args=[connection]).start()
        found = owner.get(f"/api/v1/{path}", params={"model": "none such"})
        assert (found.status_code, found.json()["items"]) == (200, [])
    assert len(at_work()) == 1


def test_it_comes_last_on_its_core(gateway: ServedApi) -> None:
    with gateway.client() as owner:
        owner.get("/api/v1/ledger", params={"limit": 1000}).raise_for_status()
    (pid,) = at_work()
    assert os.getpriority(os.PRIO_PROCESS, pid) == 19


@pytest.fixture
def slow(gateway: ServedApi) -> ServedApi:
    """Whose reporter stands still as if its core were never free."""
    with gateway.client() as owner:
        owner.get("/api/v1/ledger", params={"limit": 1000}).raise_for_status()
    (pid,) = at_work()
    os.kill(pid, signal.SIGSTOP)
    return gateway


def test_who_leaves_ends_the_work(slow: ServedApi) -> None:
    host, port = slow.url.removeprefix("http://").split(":")
    (pid,) = at_work()
    with socket.create_connection((host, int(port))) as client:
        head = f"GET /api/v1/ledger?limit=1000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {slow.token(Role.VIEWER)}"
        client.sendall(head.encode() + b"\r\n\r\n")
        time.sleep(0.5)
        assert at_work() == [pid]
    wait_until(lambda: at_work() == [])
    with slow.client() as owner:
        assert len(owner.get("/api/v1/ledger", params={"limit": 1000}).json()["items"]) == 1000


def test_what_takes_too_long_is_said_to(slow: ServedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporters, "WITHIN_S", 2)
    with slow.client() as owner:
        answer = owner.get("/api/v1/ledger", params={"limit": 1000})
        assert (answer.status_code, answer.json()["code"]) == (503, "report_timed_out"), answer.text
        assert answer.headers["content-type"] == "application/problem+json"
        assert at_work() == []


def test_one_that_died_is_replaced_and_one_that_dies_at_work_is_an_error(gateway: ServedApi) -> None:
    with gateway.client() as owner:
        owner.get("/api/v1/ledger", params={"limit": 1000}).raise_for_status()
        (first,) = at_work()
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: Path(f"/proc/{first}/stat").read_text().split()[2] == "Z")
        owner.get("/api/v1/ledger", params={"limit": 1000}).raise_for_status()
        (second,) = at_work()
        assert second != first
    with gateway.client() as owner, gateway.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE ledger RENAME TO gone")
        connection.commit()
        answer = owner.get("/api/v1/ledger", params={"limit": 1000})
        assert answer.status_code in (500, 503), answer.text
        assert answer.headers["content-type"] == "application/problem+json"


def test_it_ends_when_nobody_asks(gateway: ServedApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporters, "IDLE_S", 0.5)
    with gateway.client() as owner:
        owner.get("/api/v1/ledger", params={"limit": 1000}).raise_for_status()
        assert len(at_work()) == 1
        wait_until(lambda: at_work() == [])
        owner.get("/api/v1/ledger", params={"limit": 1000}).raise_for_status()
