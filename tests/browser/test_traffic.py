"""Traffic: filters that compose, a live list that can be held, and a request whose time and cost can be followed."""

import re
import time

import pytest
from playwright.sync_api import Page, expect

from gateway.policy.attempts import Attempt, attempts_text
from gateway.policy.usage import LedgerRow
from gateway.settings import Settings
from gateway.store.database import make_engine, write_session
from tests.browser.conftest import call
from tests.browser.looking import ready, wrong_with
from tests.integration.api.rows import insert_rows
from tests.support import busy
from tests.support.fake_agent import FakeAgent, second
from tests.support.live import Live

pytestmark = [pytest.mark.timeout(120), pytest.mark.serial]


def test_a_request_tells_its_time_and_its_cost_as_a_sum(page: Page, running: Live) -> None:
    with FakeAgent(running.data / "agent.sock") as agent:
        agent.send({"type": "probes", "state": "here", "reason": None, "features": {}})
        request_id = call(running, running.key("ci")).headers["x-request-id"]
        running.row(request_id)
        measured = second({"rtt": [2.0], "first_byte": [9.0], "connect": [1.5]}, {"bytes_in": 900, "retransmits": 2})
        agent.measure([("chat", "mock/gpt-mock")], measured, at_s=time.time())
        page.wait_for_timeout(500)
        page.goto(f"/console/requests/{request_id}")
        ready(page)
        drawer = page.get_by_role("complementary", name="Request")
        # 11 tokens at 1 $ and 7 at 4 $ a million make 39 micro-USD.
        expect(drawer.get_by_role("row", name=re.compile("^Input 11 × .1.00 .0.000011"))).to_be_visible()
        expect(drawer.get_by_role("row", name=re.compile("^Output 7 × .4.00 .0.000028"))).to_be_visible()
        expect(drawer.get_by_role("row", name=re.compile("^Charged .0.000039"))).to_be_visible()
        for phase in ("until admitted", "connecting", "waiting for the first token", "answering"):
            expect(drawer).to_contain_text(phase)
        expect(drawer).to_contain_text("medians of all connections")
        expect(drawer).to_contain_text("2 segments")
        assert not wrong_with(page)
        drawer.get_by_role("link", name="Why this target?").click()
        expect(page).to_have_url(re.compile(r"/explain\?.*route=chat"))


def test_a_request_over_two_targets_shows_a_bar_for_each(page: Page, running: Live) -> None:
    attempts = [
        Attempt(
            target="mock/gpt-mock", started_ms=0.4, connect_ms=12.0, first_byte_ms=80.0, ended_ms=81.0, status=503,
            error_code=None,
        ),
        Attempt(
            target="mock/other", started_ms=82.0, connect_ms=None, first_byte_ms=None, ended_ms=182.0, status=None,
            error_code="connect_failed",
        ),
        Attempt(
            target="mock/third", started_ms=190.0, connect_ms=0.0, first_byte_ms=400.0, ended_ms=900.0, status=200,
            error_code=None,
        ),
    ]  # fmt: skip
    usual = {
        "dialect": "openai", "team": "search", "app": "indexer", "route": "chat", "status": 200, "outcome": "completed",
        "latency_ms": 900.0, "target": "mock/third", "provider": "mock", "stream": True, "ttft_ms": 400.0,
    }  # fmt: skip
    now_ns = time.time_ns()
    told = LedgerRow(
        id="f" * 26, started_at_ns=now_ns, attempts=3, admit_ms=0.4, connect_ms=0.0, longest_gap_ms=150.0, events=40,
        attempt_log=attempts_text(attempts), **usual,
    )  # fmt: skip
    before = LedgerRow(id="e" * 26, started_at_ns=now_ns, attempts=2, **usual)
    engine = make_engine(Settings(data=running.data).database_url)
    with write_session(engine) as session:
        insert_rows(session, [told, before])
    engine.dispose()
    drawer = page.get_by_role("complementary", name="Request")
    page.goto(f"/console/requests/{told.id}")
    ready(page)
    lanes = drawer.get_by_role("list", name="Attempts").get_by_role("listitem")
    expect(lanes).to_have_count(3)
    for lane, (target, fate) in enumerate(
        (
            ("mock/gpt-mock", "answered 503 after 80.6 ms"),
            ("mock/other", "no connection, after 100 ms"),
            ("mock/third", "answered 200 after 710 ms"),
        )
    ):
        expect(lanes.nth(lane)).to_contain_text(target)
        expect(lanes.nth(lane)).to_contain_text(fate)
    expect(drawer).to_contain_text("none: a connection was at hand")
    expect(drawer).to_contain_text("150 ms, in 40 events")
    expect(
        drawer.get_by_role("img", name="Admitted after 0.4 ms. First token after 400 ms, end after 900 ms")
    ).to_be_visible()
    assert not wrong_with(page)
    page.goto(f"/console/requests/{before.id}")
    ready(page)
    expect(drawer).to_contain_text("unknown: not recorded of this request")
    expect(drawer).to_contain_text("they were not recorded apart")
    expect(drawer).to_contain_text("2 attempts")
    assert not wrong_with(page)


def test_filters_of_every_kind_compose(page: Page, running: Live) -> None:
    engine = make_engine(Settings(data=running.data).database_url)
    busy.fill(engine, requests=800, days=3)
    engine.dispose()
    rows = page.locator("tbody tr[data-id]")
    for query, there in (
        ("process=python3&container=indexer-7f9c", "indexer"),
        ("user=mia", "notebooks"),
        ("status=4xx", "Refused"),
        ("provider=mistral&latency=300", "mistral/"),
        ("cost=0.005", "anthropic/"),
    ):
        page.goto(f"/console/requests?range=7d&{query}")
        ready(page)
        expect(rows.first).to_contain_text(there)
    page.goto("/console/requests?range=7d&process=python3&latency=99999999")
    expect(page.get_by_text("No request fits these filters")).to_be_visible()
    first = running.ledger()[0]["id"]
    page.goto(f"/console/requests?range=30d&id={first[:20]}")
    ready(page)
    expect(rows).to_have_count(1)


def test_the_live_list_is_held_and_goes_on(page: Page, running: Live) -> None:
    page.goto("/console/requests?live=true")
    ready(page)
    one = call(running, running.key("ci")).headers["x-request-id"]
    expect(page.locator(f"tr[data-id='{one}']")).to_be_visible()
    page.get_by_role("button", name="Hold").click()
    two = call(running, running.key("ci")).headers["x-request-id"]
    running.row(two)
    page.wait_for_timeout(2_500)
    expect(page.locator(f"tr[data-id='{two}']")).to_have_count(0)
    page.get_by_role("button", name="Go on").click()
    expect(page.locator(f"tr[data-id='{two}']")).to_be_visible()
