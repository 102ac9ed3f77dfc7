"""The overview of a busy platform: figures against the range before, budgets with a forecast, what needs somebody."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from gateway.settings import Settings
from gateway.store.database import make_engine
from tests.browser.conftest import PASSWORD
from tests.browser.looking import ready, wrong_with
from tests.support import busy, live
from tests.support.live import Live
from tests.support.provider import Provider

pytestmark = [pytest.mark.timeout(120), pytest.mark.serial]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder: Path = tmp_path_factory.mktemp("overview")
    with Provider() as provider, live.gateway(folder, busy.configuration(provider.url)) as gateway:
        owner = {"name": "admin", "role": "owner", "password": PASSWORD}
        assert gateway.api.post("/api/v1/users", json=owner).status_code == 201
        engine = make_engine(Settings(data=gateway.data).database_url)
        busy.fill(engine, requests=2_000, days=14)
        busy.charge(engine)
        engine.dispose()
        yield gateway


def test_overview_says_how_it_stands_and_what_needs_somebody(page: Page) -> None:
    page.goto("/console/?range=7d")
    ready(page)
    for name in ("Tokens", "Requests"):
        stat = page.locator(f"xpath=//div[text()='{name}']/..")
        expect(stat).to_contain_text("against the range before")
    expect(page.locator("xpath=//div[text()='First token, p95']/following-sibling::div[1]")).to_have_text(
        re.compile("ms| s")
    )

    needs = page.get_by_role("list", name="What needs you")
    expect(needs).to_contain_text("Limit shop-day is used up")
    expect(needs).to_contain_text("5 processes or clients go past the gateway")
    expect(needs).to_contain_text("Interception rule openai-direct captures nothing")
    expect(needs).to_contain_text("local/llama-3.3-70b answered")

    budgets = page.get_by_role("list", name="Budgets and limits")
    expect(budgets.get_by_role("listitem").first).to_contain_text("shop-day")
    expect(budgets).to_contain_text("Used up: refusing")
    expect(budgets).to_contain_text(re.compile("at this pace|too early to foretell"))
    providers = page.get_by_role("table", name="Providers")
    expect(providers.get_by_role("row", name=re.compile("mistral"))).to_contain_text("% failed")
    gate = page.get_by_role("region", name="At the gate")
    expect(gate).to_contain_text("0 of 1 armed")
    expect(gate).to_contain_text("5 processes or clients, 5 undecided")

    needs.get_by_role("link", name=re.compile("Undecided")).click()
    expect(page).to_have_url(re.compile(r"/discoveries\?.*state=new"))


def test_overview_is_usable_by_everybody(page: Page) -> None:
    assert not wrong_with(page, "/console/?range=30d")
