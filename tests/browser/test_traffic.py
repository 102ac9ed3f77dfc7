"""Traffic: filters that compose, a live list that can be held, and a request whose time and cost can be followed."""

import re
import time

import pytest
from playwright.sync_api import Page, expect

from gateway.settings import Settings
from gateway.store.database import make_engine
from tests.browser.conftest import call
from tests.browser.looking import ready, wrong_with
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
        expect(drawer).to_contain_text("waiting for the first token")
        expect(drawer).to_contain_text("medians of all connections")
        expect(drawer).to_contain_text("2 segments")
        assert not wrong_with(page)
        drawer.get_by_role("link", name="Why this target?").click()
        expect(page).to_have_url(re.compile(r"/explain\?.*route=chat"))


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
