"""Flows in a real browser: a platform with much to show, one with nothing, by mouse, by keyboard and on a phone."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from gateway.settings import Settings
from gateway.store.database import make_engine
from tests.browser.conftest import call
from tests.browser.looking import ready, wrong_with
from tests.support import busy
from tests.support.fake_agent import FakeAgent
from tests.support.live import Live

pytestmark = [pytest.mark.timeout(120), pytest.mark.serial]


@pytest.fixture(scope="module")
def filled(running: Live) -> Live:
    engine = make_engine(Settings(data=running.data).database_url)
    busy.fill(engine, requests=1_500, days=6)
    engine.dispose()
    return running


@pytest.fixture
def agent(running: Live) -> Iterator[FakeAgent]:
    with FakeAgent(running.data / "agent.sock") as agent:
        agent.send({"type": "probes", "state": "here", "reason": None, "features": {}})
        yield agent


def test_flows_says_what_is_missing_before_anything_flows(page: Page, running: Live) -> None:
    page.goto("/console/flows")
    ready(page)
    expect(page.get_by_text("Nothing flows yet")).to_be_visible()
    expect(page.get_by_role("note")).to_contain_text("sluicegate doctor")
    assert not wrong_with(page, "/console/flows")
    assert call(running, running.key("ci")).status_code == 200
    # The live feed brings it in.
    source = page.get_by_role("button", name=re.compile("^key ci, indexer, 18 tokens"))
    expect(source).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^mock, 18 tokens, 100 % of all"))).to_be_visible()


def test_flows_draws_five_columns_narrows_and_leads_on(page: Page, filled: Live, agent: FakeAgent) -> None:
    page.goto("/console/flows?range=7d")
    ready(page)
    expect(page.get_by_role("note")).to_have_count(0)
    for name in ("python3, indexer-7f9c", "storefront", "chat", "gpt-5-mini", "openai"):
        expect(page.get_by_role("button", name=re.compile(f"^{name}, .*tokens"))).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^refused here"))).to_be_visible()
    # What goes past is beneath, with those who do.
    expect(page.get_by_role("button", name=re.compile("^cursor, lea, goes past the gateway"))).to_be_visible()
    expect(page.get_by_text("what goes past it has no known tokens")).to_be_visible()

    storefront = page.get_by_role("button", name=re.compile("^storefront, "))
    storefront.click()
    expect(page).to_have_url(re.compile(r"[?&]app=storefront"))
    expect(page.get_by_role("button", name=re.compile("^review-bot, "))).to_have_count(0)
    expect(storefront).to_have_attribute("aria-pressed", "true")
    link = page.get_by_role("link", name="These requests in Traffic")
    expect(link).to_have_attribute("href", re.compile("app=storefront"))
    page.get_by_role("button", name="Take away the filter App").click()
    expect(page.get_by_role("button", name=re.compile("^review-bot, "))).to_be_visible()

    page.get_by_text("Bytes", exact=True).click()
    expect(page).to_have_url(re.compile(r"[?&]measure=bytes"))
    expect(page.get_by_text(re.compile("MiB through the gateway.*MiB past it"))).to_be_visible()
    page.get_by_text("Table", exact=True).click()
    table = page.get_by_role("table", name="Paths")
    expect(table.get_by_role("row", name=re.compile("python3.*indexer.*embed"))).to_be_visible()


def test_flows_goes_by_keyboard(page: Page, filled: Live) -> None:
    page.goto("/console/flows?range=7d&measure=requests")
    ready(page)
    page.get_by_role("button", name=re.compile("^assistant, ")).focus()
    page.keyboard.press("ArrowRight")
    focused = page.evaluate("document.activeElement.dataset.node")
    assert focused.startswith("2/")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.dataset.node").startswith("1/")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"[?&]app="))


def test_flows_folds_the_tail_and_unfolds_it(page: Page, filled: Live) -> None:
    engine = make_engine(Settings(data=filled.data).database_url)
    busy.fill(engine, requests=1_200, days=2, more_apps=60, seed=11)
    engine.dispose()
    page.goto("/console/flows?range=7d")
    ready(page)
    apps = page.locator('[data-node^="1/"]')
    expect(apps).to_have_count(11)
    others = page.locator('[data-node="1/others through"]')
    expect(others).to_contain_text(re.compile(r"\d+ others"))
    others.click()
    expect(page).to_have_url(re.compile("show=20"))
    expect(apps).to_have_count(21)


@pytest.mark.parametrize("query", ["range=7d", "range=7d&view=table", "range=30d&measure=bytes&app=storefront"])
def test_flows_is_usable_by_everybody(page: Page, filled: Live, agent: FakeAgent, query: str) -> None:
    assert not wrong_with(page, f"/console/flows?{query}")


def test_flows_on_a_phone_are_lists_that_narrow(page: Page, filled: Live) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto("/console/flows?range=7d")
    ready(page)
    page.get_by_role("region", name="Apps").get_by_role("button", name=re.compile("storefront")).click()
    expect(page).to_have_url(re.compile("app=storefront"))
    expect(page.get_by_role("region", name="Apps").get_by_role("button")).to_have_count(1)
