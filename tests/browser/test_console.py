"""The console as people use it: each main task in a real browser against the real gateway."""

import re

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Response, expect

from tests.browser.conftest import PASSWORD, call, sign_in
from tests.browser.looking import ready, too_much, wrong_with
from tests.support.live import Live

pytestmark = [pytest.mark.timeout(90), pytest.mark.serial]

PAGES = {
    "overview": "/console/",
    "flows": "/console/flows",
    "requests": "/console/requests",
    "kernel": "/console/kernel",
    "discoveries": "/console/discoveries",
    "denials": "/console/discoveries/denials",
    "alerts": "/console/discoveries/alerts",
    "coverage": "/console/discoveries/tls",
    "limits": "/console/limits",
    "limit": "/console/limits/month-budget",
    "routes": "/console/routes",
    "route": "/console/routes/chat",
    "providers": "/console/providers",
    "provider": "/console/providers/mock",
    "apps": "/console/apps",
    "app": "/console/apps/indexer",
    "teams": "/console/teams",
    "team": "/console/teams/search",
    "catalogue": "/console/catalogue",
    "service": "/console/catalogue/chat",
    "access requests": "/console/access-requests",
    "notices": "/console/access-requests/notices",
    "usage": "/console/usage",
    "account": "/console/account",
    "prices": "/console/prices",
    "overrides": "/console/prices?show=overrides",
    "price table": "/console/prices?show=table",
    "explain": "/console/explain?route=chat",
    "publish": "/console/publish",
    "yaml": "/console/publish/yaml",
    "versions": "/console/publish/versions",
    "users": "/console/users",
    "tokens": "/console/tokens",
    "lost": "/console/no/such/page",
}


def number(page: Page, name: str) -> Locator:
    """A number of the overview, by its name."""
    return page.locator(f"xpath=//div[text()='{name}']/following-sibling::div[1]")


def test_wrong_password_is_refused_and_the_right_one_leads_on(chromium: Browser, running: Live) -> None:
    context = chromium.new_context(base_url=running.url)
    page = context.new_page()
    page.goto("/console/requests?range=7d")
    page.get_by_role("button", name="Sign in").wait_for()
    page.get_by_label("User").fill("admin")
    page.get_by_role("textbox", name="Password").fill("not this one")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_role("textbox", name="Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Traffic")).to_be_visible()
    assert page.url.endswith("/console/requests?range=7d"), "the address that one wanted to go to is lost"
    session = next(cookie for cookie in context.cookies() if cookie["httpOnly"])
    assert session["sameSite"] == "Lax"
    context.close()


def test_whoever_is_not_signed_in_is_led_to_do_so_without_a_failed_request(chromium: Browser, running: Live) -> None:
    context = chromium.new_context(base_url=running.url)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("response", lambda response: complaints.append(response.url) if response.status >= 400 else None)
    for _ in range(2):  # the second time the page comes from the browser's cache
        page.goto("/console/limits")
        page.get_by_role("button", name="Sign in").wait_for()
    sign_in(page, PASSWORD)
    page.get_by_role("heading", name="Overview").wait_for()
    page.reload()
    page.get_by_role("heading", name="Overview").wait_for()
    context.close()
    assert not complaints


def test_signing_out_ends_the_session(chromium: Browser, running: Live) -> None:
    context = chromium.new_context(base_url=running.url)
    page = context.new_page()
    sign_in(page, PASSWORD)
    page.get_by_role("heading", name="Overview").wait_for()
    cookies = {cookie["name"]: cookie["value"] for cookie in context.cookies()}
    page.get_by_role("button", name="Signed in as admin").click()
    page.get_by_role("menuitem", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert httpx2.get(running.url + "/api/v1/session", cookies=cookies).status_code == 401
    context.close()


def test_overview_shows_a_request_that_was_just_made(page: Page, running: Live) -> None:
    page.goto("/console/")
    ready(page)
    assert call(running, running.key("ci")).status_code == 200
    # 11 input tokens at 1 $ and 7 output tokens at 4 $ a million: 39 micro-USD, which the live feed brings in.
    expect(number(page, "Requests")).to_have_text("1")
    expect(number(page, "Spend")).to_have_text("$0.000039")
    expect(number(page, "Tokens")).to_have_text("18")
    expect(number(page, "Errors")).to_have_text("0 %")


def test_a_request_opens_in_a_drawer_with_its_own_address(page: Page, running: Live) -> None:
    answers = [call(running, running.key("ci")) for _ in range(3)]
    ids = [answer.headers["x-request-id"] for answer in answers]
    running.row(ids[-1])
    page.goto("/console/requests")
    ready(page)
    page.locator(f"tr[data-id='{ids[1]}'] td").nth(1).click()
    expect(page).to_have_url(re.compile(f"/console/requests/{ids[1]}$"))
    drawer = page.get_by_role("complementary", name="Request")
    expect(drawer.get_by_text("mock/gpt-mock")).to_be_visible()
    expect(drawer.get_by_role("row", name="Input 11")).to_be_visible()
    expect(drawer.get_by_role("row", name="Output 7")).to_be_visible()
    page.locator(f"tr[data-id='{ids[1]}']").focus()
    page.keyboard.press("ArrowDown")
    expect(page).to_have_url(re.compile(f"/console/requests/{ids[0]}$"))
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile("/console/requests$"))
    page.goto(f"/console/requests/{ids[2]}")
    expect(drawer.get_by_text(ids[2])).to_be_visible()


def test_filters_stand_in_the_address_and_compose(page: Page, running: Live) -> None:
    refused = call(running, running.key("ci"), model="draft")
    assert refused.status_code == 403
    running.row(refused.headers["x-request-id"])
    page.goto("/console/requests?outcome=refused&app=indexer")
    ready(page)
    expect(page.locator("tbody tr[data-id]")).to_have_count(1)
    expect(page.locator("tbody")).to_contain_text("Refused")
    page.get_by_role("button", name="Take away the filter Outcome").click()
    expect(page).to_have_url(re.compile(r"/requests\?app=indexer$"))
    expect(page.locator("tbody")).to_contain_text("Completed")
    page.goto("/console/requests?app=nobody")
    expect(page.get_by_text("No request fits these filters")).to_be_visible()


def test_a_key_is_made_shown_once_used_and_revoked(page: Page, running: Live) -> None:
    page.goto("/console/apps/indexer")
    ready(page)
    page.get_by_role("button", name="Make a key").click()
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    assert page.url.endswith("/console/apps/indexer"), "Esc closed the drawer along with the dialog over it"
    page.get_by_role("button", name="Make a key").click()
    page.get_by_role("textbox", name="Name").fill("laptop")
    page.get_by_role("button", name="Make the key").click()
    key = page.get_by_test_id("secret").inner_text().strip()
    page.get_by_role("button", name="I have it, close").click()
    assert key not in page.content(), "the key is still in the page"
    running.until(lambda: call(running, key).status_code == 200, 2)
    page.get_by_role("button", name="Revoke laptop").click()
    dialog = page.get_by_role("dialog", name="Revoke laptop?")
    expect(dialog).to_contain_text(re.compile(r"refused within a second.*It made \d+ requests? in the last 24 hours"))
    dialog.get_by_role("button", name="Revoke laptop").click()
    expect(page.get_by_role("button", name="Revoke laptop")).to_have_count(0)
    running.until(lambda: call(running, key).status_code == 401, 2)


def test_an_app_of_a_new_team_is_made(page: Page, running: Live) -> None:
    page.goto("/console/apps")
    ready(page)
    page.get_by_role("button", name="Add an app").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("App").fill("triage")
    dialog.get_by_label("Team").fill("support")
    page.keyboard.press("Tab")
    dialog.get_by_label("May call all routes").check()
    page.get_by_role("button", name="Add triage").click()
    expect(page).to_have_url(re.compile("/console/apps/triage$"))
    app = running.api.get("/api/v1/apps/triage").json()
    assert (app["team"], app["routes"]) == ("support", "*")


def test_from_provider_to_first_call_without_leaving_the_browser(page: Page, running: Live) -> None:
    address = running.api.get("/api/v1/providers/mock").json()["base_url"]
    dialog = page.get_by_role("dialog")

    page.goto("/console/providers")
    page.get_by_role("button", name="Add a provider").click()
    dialog.get_by_role("textbox", name="Name", exact=True).fill("second")
    dialog.get_by_label("Address").fill(address)
    dialog.get_by_label("Credential", exact=True).fill("sk-typed-by-hand")
    dialog.get_by_role("button", name="Add second").click()
    expect(page.get_by_role("complementary")).to_contain_text("…hand")

    page.goto("/console/routes")
    page.get_by_role("button", name="Add a route").click()
    dialog.get_by_role("textbox", name="Name", exact=True).fill("fast")
    dialog.get_by_role("combobox", name="Provider of target 1").click()
    page.get_by_role("option", name="second").click()
    dialog.get_by_label("Model of target 1").fill("gpt-mock")
    dialog.get_by_role("button", name="Add fast").click()
    expect(page).to_have_url(re.compile("/console/routes/fast$"))

    page.goto("/console/limits")
    page.get_by_role("button", name="Add a limit").click()
    dialog.get_by_role("textbox", name="Name", exact=True).fill("fast-daily")
    dialog.get_by_role("combobox", name="For").click()
    page.get_by_role("option", name="A route").click()
    dialog.get_by_role("combobox", name="Which route").click()
    page.get_by_role("option", name="fast").click()
    dialog.get_by_label("At most").fill("1")
    dialog.get_by_role("combobox", name="Of").click()
    page.get_by_role("option", name="Requests", exact=True).click()
    dialog.get_by_role("combobox", name="In").click()
    page.get_by_role("option", name="A day").click()
    dialog.get_by_role("button", name="Add fast-daily").click()
    expect(page.get_by_text("1 request a day for route fast")).to_be_visible()

    # Its app has a budget in USD, which an answer without a price could not be held against.
    price = {"provider": "second", "model": "gpt-mock", "input": 1000000, "output": 4000000}
    running.api.post("/api/v1/prices", json=price).raise_for_status()
    running.api.patch("/api/v1/apps/indexer", json={"routes": ["chat", "fast"]}).raise_for_status()
    key = running.key("ci")
    running.until(lambda: call(running, key, model="fast").status_code == 200, 2)
    assert call(running, key, model="fast").status_code == 429
    expect(page.get_by_text("Refusing")).to_be_visible()


def test_limits_show_what_is_used_and_left(page: Page, running: Live) -> None:
    running.row(call(running, running.key("ci")).headers["x-request-id"])
    page.goto("/console/limits")
    ready(page)
    meter = page.get_by_role("meter", name=re.compile("month-budget"))
    expect(meter).to_have_attribute("aria-valuemax", "50")
    used = running.api.get("/api/v1/limits/month-budget/state").json()["used"]
    assert 0 < used < 1
    expect(page.get_by_text("$50.00 a month for team search")).to_be_visible()
    expect(page.get_by_text("resets in").first).to_be_visible()


def test_the_palette_finds_and_goes(page: Page) -> None:
    page.goto("/console/")
    ready(page)
    page.keyboard.press("Control+k")
    page.get_by_role("textbox", name="Search").fill("indexer")
    expect(page.get_by_role("button", name="indexer App of search")).to_be_visible()
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/console/apps/indexer"))


def test_an_open_page_outlives_a_restart_of_the_gateway(context: BrowserContext, running: Live) -> None:
    page = context.new_page()  # not `page`: refused connections are what this is about
    page.goto("/console/")
    ready(page)
    expect(page.get_by_role("status")).to_have_text(re.compile("Live"))
    before = int(number(page, "Requests").inner_text())
    assert running.stop() == 0
    expect(page.get_by_role("status")).to_have_text("Feed cut")
    running.start()
    expect(page.get_by_role("status")).to_have_text(re.compile("Live"), timeout=10_000)
    assert call(running, running.key("ci")).status_code == 200
    expect(number(page, "Requests")).to_have_text(str(before + 1), timeout=8_000)


def test_dark_is_chosen_and_kept(page: Page) -> None:
    page.goto("/console/")
    ready(page)
    page.get_by_role("button", name="Use dark colours").click()
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(10, 17, 19)"
    page.reload()
    ready(page)
    assert page.evaluate(background) == "rgb(10, 17, 19)"


@pytest.mark.parametrize("name", PAGES)
def test_every_page_is_accessible_and_fits_a_phone(page: Page, running: Live, name: str) -> None:
    running.row(call(running, running.key("ci")).headers["x-request-id"])
    # A range holds from page to page, and what somebody else put into the address harms none.
    path = PAGES[name]
    assert not wrong_with(page, f"{path}{'&' if '?' in path else '?'}range=7d&stranger=1")


def test_the_first_page_is_small_and_its_files_are_kept(page: Page) -> None:
    kept: dict[str, str] = {}

    def note(response: Response) -> None:
        if "/assets/" in response.url:
            kept[response.url] = response.headers["cache-control"]

    page.on("response", note)
    assert not too_much(page, "/console/")
    assert kept
    assert all("immutable" in policy for policy in kept.values())
