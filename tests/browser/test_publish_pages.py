"""Drafts, versions, routes, providers and prices as operators use them, in a real browser against the real gateway."""

import re
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import CONFIGURATION, call
from tests.browser.looking import ready, wrong_with
from tests.support.live import Live

pytestmark = [pytest.mark.timeout(120), pytest.mark.serial]

KEY = "sk-sg-browser-tests-0123456789abcdef"


@pytest.fixture(autouse=True)
def as_at_first(running: Live) -> None:
    """No draft, and the configuration of conftest, whatever the test before has left."""
    url = running.api.get("/api/v1/providers/mock").json()["base_url"].removesuffix("/v1")
    if running.api.get("/api/v1/draft").json()["exists"]:
        running.api.delete("/api/v1/draft").raise_for_status()
    running.api.post(
        "/api/v1/apply", content=CONFIGURATION.format(url=url), params={"prune": "true"}
    ).raise_for_status()


def route(running: Live, name: str = "chat") -> Any:
    return running.api.get(f"/api/v1/routes/{name}").json()


def draft(running: Live, kind: str, name: str, **patch: Any) -> None:
    running.api.patch(f"/api/v1/draft/entries/{kind}/{name}", json=patch).raise_for_status()


def open_form(page: Page, path: str) -> None:
    page.goto(path)
    page.get_by_role("button", name="Edit", exact=True).click()


def set_retries(page: Page, retries: int) -> None:
    page.get_by_text("How it waits, retries").click()
    page.get_by_label("Retries").fill(str(retries))


def test_a_change_is_drafted_compared_published_and_rolled_back(page: Page, running: Live) -> None:
    page.goto("/console/publish/versions")
    page.get_by_role("button", name="Keep what is in force").first.click()
    page.get_by_label("Note").fill("before the change")
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("cell", name="before the change").first).to_be_visible()
    before = page.get_by_role("table", name="Versions").locator("tbody tr").first.get_by_role("link").inner_text()

    open_form(page, "/console/routes/chat")
    set_retries(page, 4)
    page.get_by_role("button", name="Save to draft").click()
    bar = page.get_by_text("1 unpublished change")
    expect(bar).to_be_visible()
    assert route(running)["retries"] == 1
    page.get_by_role("link", name="Review and publish").first.click()
    expect(page.get_by_text("retries: 1 → 4")).to_be_visible()
    page.get_by_role("button", name="Show YAML of route chat").click()
    expect(page.get_by_role("group", name="YAML of route chat").get_by_text("retries: 4")).to_be_visible()
    expect(page.get_by_text("Would now be refused")).to_be_visible()
    page.get_by_role("button", name="Publish 1 change").click()
    page.get_by_label("Note").fill("more patience")
    page.get_by_role("dialog").get_by_role("button", name="Publish 1 change").click()
    expect(page.get_by_role("heading", name="Nothing is drafted")).to_be_visible()
    assert route(running)["retries"] == 4

    page.goto(f"/console/publish/versions/{before}")
    expect(page.get_by_text("retries: 4 → 1")).to_be_visible()
    page.get_by_role("button", name=f"Roll back to version {before}").click()
    expect(page.get_by_role("dialog").get_by_text("in force in every worker within a second")).to_be_visible()
    page.get_by_role("button", name="Roll back 1 change").click()
    expect(page.get_by_role("cell", name="more patience").first).to_be_visible()
    assert route(running)["retries"] == 1


def test_the_dry_run_says_who_would_be_refused(page: Page, running: Live) -> None:
    for _ in range(3):
        assert call(running, KEY).status_code == 200
    running.until(lambda: len(running.api.get("/api/v1/ledger").json()["items"]) >= 3, 10)
    draft(running, "app", "indexer", routes=["draft"])
    page.goto("/console/publish")
    refused = page.get_by_role("table", name="What would be different")
    expect(refused.get_by_text("the app indexer may not call chat")).to_be_visible()
    page.get_by_role("button", name="Publish 1 change").click()
    expect(
        page.get_by_role("dialog").get_by_text(re.compile(r"\d+ requests of the last hour would now be refused"))
    ).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Discard the draft").click()
    page.get_by_role("button", name="Discard 1 change").click()
    expect(page.get_by_role("heading", name="Nothing is drafted")).to_be_visible()


def test_two_admins_editing_one_route_see_each_other(context: BrowserContext, running: Live) -> None:
    page = context.new_page()  # in which Chromium may complain about answers of 412
    open_form(page, "/console/routes/chat")
    set_retries(page, 7)
    running.api.patch("/api/v1/routes/chat", json={"retries": 3, "max_output_tokens": 99}).raise_for_status()
    page.get_by_role("button", name="Save chat").click()
    both = page.get_by_role("group", name="retries")
    expect(both.get_by_role("group", name="Yours")).to_contain_text("7")
    expect(both.get_by_role("group", name="Theirs")).to_contain_text("3")
    assert not wrong_with(page)
    page.get_by_role("button", name="Save yours over it").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert (route(running)["retries"], route(running)["max_output_tokens"]) == (7, 99), "what they changed stays"

    open_form(page, "/console/routes/chat")
    set_retries(page, 8)
    draft(running, "route", "chat", retries=5)
    page.get_by_role("button", name="Save to draft").click()
    expect(page.get_by_role("group", name="retries").get_by_role("group", name="Theirs")).to_contain_text("5")
    page.get_by_role("button", name="Take theirs").click()
    expect(page.get_by_label("Retries")).to_have_value("5")


def test_what_both_sides_have_changed_is_chosen_on_the_page(page: Page, running: Live) -> None:
    draft(running, "limit", "month-budget", at_most=25)
    running.api.patch("/api/v1/limits/month-budget", json={"at_most": 60}).raise_for_status()
    page.goto("/console/publish")
    expect(page.get_by_role("button", name="Publish 1 change")).to_be_disabled()
    page.get_by_role("button", name="Keep the draft's").click()
    expect(page.get_by_text("at_most: 60 → 25")).to_be_visible()
    page.get_by_role("button", name="Take back limit month-budget").click()
    expect(page.get_by_role("heading", name="Nothing is drafted")).to_be_visible()


def test_the_yaml_editor_tells_the_line(context: BrowserContext) -> None:
    page = context.new_page()  # in which Chromium may complain about an answer of 422
    page.goto("/console/publish/yaml")
    area = page.get_by_label("Configuration as YAML")
    text = area.input_value()
    area.fill(text.replace("model: gpt-mock", "modell: gpt-mock", 1))
    page.get_by_role("button", name="Check and save to draft").click()
    expect(page.get_by_role("alert")).to_contain_text("is not known here")
    line = text.splitlines().index("    model: gpt-mock") + 1
    page.get_by_role("button", name=f"Line {line}", exact=True).first.click()
    chosen = area.evaluate("area => area.value.slice(area.selectionStart, area.selectionEnd)")
    assert chosen.strip() == "modell: gpt-mock"
    assert not wrong_with(page)
    area.fill(text.replace("at_most: 20", "at_most: 21", 1))
    page.get_by_role("button", name="Check and save to draft").click()
    expect(page.get_by_text("at_most: 20 → 21")).to_be_visible()


def test_targets_are_moved_by_keyboard(page: Page, running: Live) -> None:
    targets = [{"provider": "mock", "model": name} for name in ("one", "two", "three")]
    running.api.patch("/api/v1/routes/chat", json={"targets": targets}).raise_for_status()
    open_form(page, "/console/routes/chat")
    page.get_by_role("button", name="Move target 3 up").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Move target 2 up")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("combobox", name="Model of target 1")).to_have_value("three")
    page.get_by_role("button", name="Save chat").press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert [target["model"] for target in route(running)["targets"]] == ["three", "one", "two"]


def test_what_would_happen_to_a_request(page: Page, running: Live) -> None:
    page.goto("/console/routes/chat")
    page.get_by_label("Route chat").get_by_role("button", name="What would happen to a request?").click()
    expect(page.get_by_text("mock/gpt-mock would answer")).to_be_visible()
    page.get_by_role("combobox", name="App").click()
    page.get_by_role("option", name="indexer").click()
    page.get_by_label("Input tokens").fill("1200")
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_role("table", name="Limits that apply on mock/gpt-mock")).to_contain_text("month-budget")
    assert "app=indexer" in page.url
    assert "input=1200" in page.url
    page.goto("/console/explain?route=draft&app=indexer")
    expect(page.get_by_text("Refused: 403 route_not_allowed")).to_be_visible()


def test_a_model_without_price_gets_one(page: Page, running: Live) -> None:
    page.goto("/console/prices")
    expect(page.get_by_text("1 model has no price")).to_be_visible()
    page.get_by_role("button", name="Set price of mock/gpt-unpriced").click()
    page.get_by_role("textbox", name="Input", exact=True).fill("0.5")
    page.get_by_role("textbox", name="Output", exact=True).fill("2")
    page.get_by_role("button", name="Set the price").click()
    expect(page.get_by_text("1 model has no price")).to_have_count(0)
    price = running.api.get("/api/v1/prices/mock/gpt-unpriced").json()
    assert (price["input"], price["output"], price["cached_input"]) == (500_000, 2_000_000, None)
    page.get_by_text("Built-in table").click()
    page.get_by_label("Search the table").fill("gpt-4o-mini")
    expect(page.get_by_role("cell", name="gpt-4o-mini", exact=True).first).to_be_visible()
    page.wait_for_url("**search=gpt-4o-mini**")


def test_a_key_is_tested_for_real(page: Page, running: Live) -> None:
    page.goto("/console/providers/mock")
    page.get_by_role("button", name="Test the key for real").click()
    # The mock lists no models: what it answers is no list, and the page says so rather than that all is well.
    expect(page.get_by_role("status").filter(has_text="No proper answer")).to_be_visible()
    open_form(page, "/console/providers/mock")
    page.get_by_role("combobox", name="Tags").fill("gpu")
    page.get_by_role("combobox", name="Tags").press("Enter")
    page.get_by_role("button", name="Save mock").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert running.api.get("/api/v1/providers/mock").json()["tags"] == ["gpu"]
    assert call(running, KEY).status_code == 200, "a credential whose secret was not written is kept"


FORMS = {
    "/console/routes/chat": "Edit",
    "/console/providers/mock": "Edit",
    "/console/prices": "Set a price",
    "/console/routes": "Add a route",
}


@pytest.mark.parametrize("path", FORMS)
def test_forms_are_for_everybody(page: Page, path: str) -> None:
    page.goto(path)
    ready(page)
    page.get_by_role("button", name=FORMS[path], exact=True).first.click()
    expect(page.get_by_role("dialog").get_by_role("button", name="Save to draft")).to_be_visible()
    if "routes" in path:
        page.get_by_text("How it waits, retries").click()
    assert not wrong_with(page)


def test_a_full_page_is_for_everybody(page: Page, running: Live) -> None:
    draft(running, "route", "chat", retries=4)
    draft(running, "limit", "month-budget", at_most=25)
    running.api.patch("/api/v1/limits/month-budget", json={"at_most": 60}).raise_for_status()
    page.goto("/console/publish")
    page.get_by_role("button", name="Show YAML of route chat").click()
    expect(page.get_by_role("group", name="YAML of route chat")).to_be_visible()
    assert not wrong_with(page)
