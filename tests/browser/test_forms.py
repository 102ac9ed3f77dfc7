"""What platform teams edit in the console, at once or by the draft: limits, apps, teams, headers, providers, rules."""

from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.browser.conftest import CONFIGURATION, PASSWORD, sign_in_as
from tests.browser.looking import ready, wrong_with
from tests.support.live import Live

pytestmark = [pytest.mark.timeout(120), pytest.mark.serial]

HTTP = """
  - {{name: crm, dialect: http, base_url: "{url}"}}
"""
CRM_ROUTE = """
  - {name: crm, match: {host: crm.internal}, targets: [{provider: crm}]}
"""


@pytest.fixture(autouse=True)
def as_at_first(running: Live) -> None:
    """No draft, and the configuration of conftest with an HTTP route, whatever the test before has left."""
    url = running.api.get("/api/v1/providers/mock").json()["base_url"].removesuffix("/v1")
    if running.api.get("/api/v1/draft").json()["exists"]:
        running.api.delete("/api/v1/draft").raise_for_status()
    document = CONFIGURATION.format(url=url)
    document = document.replace("\nroutes:", HTTP.format(url=url).rstrip() + "\nroutes:" + CRM_ROUTE.rstrip())
    running.api.post("/api/v1/apply", content=document, params={"prune": "true"}).raise_for_status()


def get(running: Live, path: str) -> Any:
    return running.api.get(f"/api/v1/{path}").raise_for_status().json()


def edit(page: Page, path: str) -> Locator:
    page.goto(path)
    page.get_by_role("complementary").get_by_role("button", name="Edit", exact=True).click()
    return page.get_by_role("dialog")


def choose(dialog: Locator, field: str, option: str) -> None:
    dialog.get_by_role("combobox", name=field, exact=True).click()
    dialog.page.get_by_role("option", name=option, exact=True).click()


def write_tag(dialog: Locator, field: str, *tags: str) -> None:
    for tag in tags:
        dialog.get_by_role("combobox", name=field).fill(tag)
        dialog.get_by_role("combobox", name=field).press("Enter")


def publish(page: Page, changes: str = "1 change") -> None:
    page.goto("/console/publish")
    page.get_by_role("button", name=f"Publish {changes}").click()
    page.get_by_role("dialog").get_by_role("button", name=f"Publish {changes}").click()
    expect(page.get_by_role("heading", name="Nothing is drafted")).to_be_visible()


def test_a_limit_is_edited_at_once_and_by_the_draft(page: Page, running: Live) -> None:
    page.goto("/console/limits")
    page.get_by_role("link", name="month-budget").click()
    drawer = page.get_by_role("complementary", name="Limit month-budget")
    expect(drawer).to_contain_text("$50.00 a month")
    drawer.get_by_role("button", name="Edit").click()
    dialog = page.get_by_role("dialog")
    save = dialog.get_by_role("button", name="Save month-budget")
    expect(save).to_be_disabled()
    dialog.get_by_label("At most").fill("75.5")
    dialog.get_by_role("button", name="And only of").click()
    choose(dialog, "And only of", "A route")
    choose(dialog, "Which route", "chat")
    save.press("Enter")
    expect(dialog).to_have_count(0)
    limit = get(running, "limits/month-budget")
    assert (limit["at_most"], limit["metric"], limit["window"]) == (75.5, "cost_usd", "month")
    assert {kind: name for kind, name in limit["scope"].items() if name} == {"team": "search", "route": "chat"}

    drawer.get_by_role("button", name="Edit").click()
    dialog.get_by_role("button", name="Take “A route” away").click()
    dialog.get_by_text("When it cannot be counted").click()
    dialog.get_by_label("Let requests pass that have no price").check()
    dialog.get_by_role("button", name="Save to draft").click()
    expect(drawer).to_contain_text("The draft changes it.")
    assert get(running, "limits/month-budget")["unpriced"] == "refuse"
    publish(page)
    limit = get(running, "limits/month-budget")
    assert (limit["unpriced"], limit["scope"]["route"], limit["scope"]["team"]) == ("admit", None, "search")


def test_a_limit_takes_another_name_and_goes(page: Page, running: Live) -> None:
    before = get(running, "limits/parallel")
    dialog = edit(page, "/console/limits/parallel")
    dialog.get_by_role("textbox", name="Name", exact=True).fill("at-once")
    expect(dialog.get_by_text("no draft renames")).to_be_visible()
    expect(dialog.get_by_role("button", name="Save to draft")).to_have_count(0)
    dialog.get_by_role("button", name="Save parallel").click()
    expect(page).to_have_url(f"{running.url}/console/limits/at-once")
    assert get(running, "limits/at-once")["id"] == before["id"]
    page.get_by_role("complementary").get_by_role("button", name="Remove").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Nothing holds key indexer/ci to 20 at once any more")
    dialog.get_by_role("button", name="Remove at-once").click()
    expect(page.get_by_role("link", name="at-once")).to_have_count(0)
    assert running.api.get("/api/v1/limits/at-once").status_code == 404


def test_an_app_is_edited_at_once_and_by_the_draft(page: Page, running: Live) -> None:
    running.api.post("/api/v1/teams", json={"name": "sales"}).raise_for_status()
    dialog = edit(page, "/console/apps/indexer")
    choose(dialog, "Team", "sales")
    dialog.get_by_label("May call all routes").check()
    dialog.get_by_text("Advanced: web pages, forward proxy").click()
    dialog.get_by_label("Web pages may use its keys").check()
    expect(dialog.get_by_role("button", name="Save indexer")).to_be_disabled()
    write_tag(dialog, "Origins", "https://app.example")
    write_tag(dialog, "May reach through the forward proxy", "*.example.com:443")
    dialog.get_by_role("button", name="Save indexer").click()
    expect(dialog).to_have_count(0)
    app = get(running, "apps/indexer")
    assert (app["team"], app["routes"], app["egress"]) == ("sales", "*", ["*.example.com:443"])
    assert (app["cors"]["origins"], app["cors"]["max_age"]) == (["https://app.example"], 600)

    dialog = edit(page, "/console/apps/indexer")
    dialog.get_by_label("May call all routes").uncheck()
    choose(dialog, "May call", "chat")
    page.keyboard.press("Escape")
    dialog.get_by_text("Advanced: web pages, forward proxy").click()
    dialog.get_by_label("Web pages may use its keys").uncheck()
    dialog.get_by_role("button", name="Save to draft").click()
    expect(page.get_by_role("complementary")).to_contain_text("The draft changes it.")
    assert get(running, "apps/indexer")["routes"] == "*"
    publish(page)
    app = get(running, "apps/indexer")
    assert (app["routes"], app["cors"], app["egress"]) == (["chat"], None, ["*.example.com:443"])


def test_a_team_admin_edits_an_app_without_drafts(chromium: Browser, running: Live) -> None:
    ada = {"name": "ada", "role": "team-admin", "team": "search", "password": PASSWORD}
    running.api.post("/api/v1/users", json=ada).raise_for_status()
    context = chromium.new_context(base_url=running.url)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("response", lambda response: complaints.append(response.url) if response.status >= 400 else None)
    sign_in_as(page, "ada", PASSWORD)
    page.get_by_role("heading", name="Catalogue", level=1).wait_for()
    dialog = edit(page, "/console/apps/indexer")
    dialog.get_by_role("textbox", name="App").fill("search.crawler")
    dialog.get_by_text("Advanced: web pages, forward proxy").click()
    expect(dialog.get_by_label("Web pages may use its keys")).to_be_visible()
    expect(dialog.get_by_label("Its networks"), "which are not a team's to change").to_have_count(0)
    expect(dialog.get_by_role("button", name="Save to draft")).to_have_count(0)
    expect(dialog.get_by_text("What the ledger has stays under the old one.")).to_be_visible()
    dialog.get_by_role("button", name="Save indexer").click()
    expect(page).to_have_url(f"{running.url}/console/apps/search.crawler")
    expect(page.get_by_role("complementary").get_by_text("ci", exact=True)).to_be_visible()
    assert get(running, "apps/search.crawler")["routes"] == ["chat"]
    context.close()
    assert not complaints
    running.api.patch("/api/v1/apps/search.crawler", json={"name": "indexer"}).raise_for_status()


def test_a_team_is_added_renamed_and_removed(page: Page, running: Live) -> None:
    page.goto("/console/apps")
    page.get_by_role("navigation", name="Teams & keys").get_by_role("link", name="Teams").click()
    ready(page)
    current = page.get_by_role("navigation", name="Pages").get_by_role("link", name="Teams & keys")
    expect(current).to_have_attribute("aria-current", "page")
    page.get_by_role("button", name="Add a team").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Name").fill("sales")
    dialog.get_by_role("button", name="Add sales").click()
    drawer = page.get_by_role("complementary")
    expect(drawer).to_contain_text("none: it can call nothing yet")
    drawer.get_by_role("button", name="Edit").click()
    dialog.get_by_role("textbox", name="Name").fill("revenue")
    dialog.get_by_role("button", name="Save sales").press("Enter")
    expect(page).to_have_url(f"{running.url}/console/teams/revenue")
    expect(page.get_by_role("table", name="Teams").get_by_role("link", name="revenue")).to_be_visible()
    drawer.get_by_role("button", name="Remove").click()
    dialog.get_by_role("button", name="Remove revenue").click()
    expect(page.get_by_role("table", name="Teams").get_by_role("link", name="revenue")).to_have_count(0)
    assert [team["name"] for team in get(running, "teams")["items"]] == ["search"]
    page.goto("/console/teams/search")
    expect(page.get_by_role("complementary")).to_contain_text("$50.00 a month")


def test_header_rules_of_a_route(page: Page, running: Live) -> None:
    dialog = edit(page, "/console/routes/crm")
    dialog.get_by_text("Advanced: header rules").click()
    dialog.get_by_role("button", name="Change a request header").click()
    dialog.get_by_label("Request header 1: name").fill("X-Tenant")
    dialog.get_by_label("Request header 1: value").fill("acme")
    dialog.get_by_role("button", name="Change a request header").click()
    dialog.get_by_label("Request header 2: name").fill("x-tenant")
    expect(dialog.get_by_text("There is such a rule above")).to_be_visible()
    expect(dialog.get_by_role("button", name="Save crm")).to_be_disabled()
    choose(dialog, "Request header 2: deed", "Remove")
    dialog.get_by_role("button", name="Change an answer header").click()
    choose(dialog, "Answer header 1: deed", "Add")
    dialog.get_by_label("Answer header 1: name").fill("x-served-by")
    dialog.get_by_label("Answer header 1: value").fill("sluicegate")
    dialog.get_by_role("button", name="Save crm").click()
    expect(dialog).to_have_count(0)
    route = get(running, "routes/crm")
    assert route["request_headers"] == {"remove": ["x-tenant"], "set": {"x-tenant": "acme"}, "add": {}}
    assert route["response_headers"] == {"remove": [], "set": {}, "add": {"x-served-by": "sluicegate"}}

    dialog = edit(page, "/console/routes/crm")
    dialog.get_by_role("button", name="Take Request header 1 away").click()
    dialog.get_by_label("Request header 1: value").fill("other")
    dialog.get_by_role("button", name="Save to draft").click()
    expect(dialog).to_have_count(0)
    page.goto("/console/publish")
    expect(page.get_by_text("request_headers.set.x-tenant: acme → other")).to_be_visible()
    publish(page)
    assert get(running, "routes/crm")["request_headers"] == {"remove": [], "set": {"x-tenant": "other"}, "add": {}}


@pytest.mark.parametrize("way", ["Save crm", "Save to draft"])
def test_what_is_refused_stands_at_its_field(context: BrowserContext, way: str) -> None:
    page = context.new_page()  # in which Chromium may complain about answers of 422
    dialog = edit(page, "/console/routes/crm")
    dialog.get_by_text("Advanced: header rules").click()
    dialog.get_by_role("button", name="Change a request header").click()
    dialog.get_by_label("Request header 1: name").fill("authorization")
    dialog.get_by_label("Request header 1: value").fill("Bearer secret")
    dialog.get_by_role("button", name=way).click()
    expect(dialog.get_by_label("Request header 1: name")).to_have_attribute("aria-invalid", "true")
    expect(dialog.get_by_text("put it into the provider's credentials")).not_to_have_count(0)

    dialog = edit(page, "/console/providers/mock")
    dialog.get_by_label("Address").fill("https://api.example.com/v1")
    dialog.get_by_text("Advanced: proxy, TLS, health check").click()
    dialog.get_by_label("Authorities that are believed").fill("no certificate")
    dialog.get_by_text("Advanced: proxy, TLS, health check").click()
    dialog.get_by_role("button", name=way.replace("crm", "mock")).click()
    expect(dialog.get_by_label("Authorities that are believed"), "what is wrong is opened").to_be_visible()
    expect(dialog.get_by_label("Authorities that are believed")).to_have_attribute("aria-invalid", "true")
    expect(dialog.get_by_label("Authorities that are believed")).to_be_focused()
    assert not wrong_with(page)


def test_how_a_provider_is_reached(page: Page, running: Live) -> None:
    dialog = edit(page, "/console/providers/mock")
    dialog.get_by_text("Advanced: proxy, TLS, health check").click()
    choose(dialog, "Which HTTP proxy", "This one")
    dialog.get_by_label("Its URL").fill("http://proxy.internal:3128")
    dialog.get_by_label("User").fill("sluice")
    dialog.get_by_role("textbox", name="Password").fill("gate-keeper")
    dialog.get_by_label("Ask it again and again").check()
    dialog.get_by_role("textbox", name="Path").fill("/healthz")
    dialog.get_by_label("Every").fill("30")
    dialog.get_by_role("button", name="Save to draft").click()
    expect(page.get_by_role("complementary")).to_contain_text("The draft changes it.")
    page.goto("/console/publish")
    expect(page.get_by_text("gate-keeper")).to_have_count(0)
    publish(page)
    provider = get(running, "providers/mock")
    assert provider["proxy"] == {"url": "http://proxy.internal:3128", "user": "sluice", "has_password": True}
    assert (provider["health"]["path"], provider["health"]["interval"]) == ("/healthz", 30)

    for way in ("Save to draft", "Save mock"):  # without user the password goes, by the draft as at once
        dialog = edit(page, "/console/providers/mock")
        dialog.get_by_text("Advanced: proxy, TLS, health check").click()
        dialog.get_by_label("User").fill("")
        dialog.get_by_label("Ask it again and again").uncheck()
        dialog.get_by_role("button", name=way).click()
        expect(dialog).to_have_count(0)
        if way == "Save to draft":
            running.api.delete("/api/v1/draft").raise_for_status()
    provider = get(running, "providers/mock")
    assert provider["proxy"] == {"url": "http://proxy.internal:3128", "user": None, "has_password": False}
    assert provider["health"] is None


def test_interception_rules_by_the_draft(page: Page, running: Live) -> None:
    page.goto("/console/publish/versions")
    page.get_by_role("button", name="Keep what is in force").first.click()
    page.get_by_label("Note").fill("no rule")
    page.get_by_role("button", name="Keep it").click()
    expect(page.get_by_role("cell", name="no rule").first).to_be_visible()
    before = page.get_by_role("table", name="Versions").locator("tbody tr").first.get_by_role("link").inner_text()

    page.goto("/console/interception")
    page.get_by_role("button", name="Add a rule").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Name").fill("claude-direct")
    dialog.get_by_label("Connections to these hosts").fill("api.anthropic.com")
    dialog.get_by_role("button", name="Save to draft").click()
    expect(dialog).to_have_count(0)
    assert get(running, "interception-rules")["items"] == []
    page.goto("/console/publish")
    expect(page.get_by_text("claude-direct").first).to_be_visible()
    publish(page)
    assert get(running, "interception-rules/claude-direct")["mode"] == "govern"

    dialog = edit(page, "/console/interception/rules/claude-direct")
    dialog.get_by_role("combobox", name="Mode").click()
    page.get_by_role("option", name="Observe: count, touch nothing").click()
    dialog.get_by_label("Ports").fill("443")
    dialog.get_by_role("button", name="Save to draft").click()
    expect(page.get_by_role("complementary")).to_contain_text("The draft changes it.")
    page.goto("/console/publish")
    expect(page.get_by_text("mode: govern → observe")).to_be_visible()
    publish(page)
    rule = get(running, "interception-rules/claude-direct")
    assert (rule["mode"], rule["destinations"]["ports"]) == ("observe", [443])

    page.goto("/console/interception/rules/claude-direct")
    page.get_by_role("complementary").get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Save to draft").click()
    expect(page.get_by_role("complementary")).to_contain_text("The draft removes it.")
    running.api.delete("/api/v1/draft").raise_for_status()
    page.goto(f"/console/publish/versions/{before}")
    page.get_by_role("button", name=f"Roll back to version {before}").click()
    page.get_by_role("button", name="Roll back 1 change").click()
    expect(page.get_by_role("cell", name="no rule").first).to_be_visible()
    assert get(running, "interception-rules")["items"] == []


def test_two_who_edit_one_limit_see_each_other(context: BrowserContext, running: Live) -> None:
    page = context.new_page()  # in which Chromium may complain about answers of 412
    dialog = edit(page, "/console/limits/month-budget")
    dialog.get_by_label("At most").fill("80")
    running.api.patch("/api/v1/limits/month-budget", json={"at_most": 60, "window": "week"}).raise_for_status()
    dialog.get_by_role("button", name="Save month-budget").click()
    both = page.get_by_role("group", name="at_most")
    expect(both.get_by_role("group", name="Theirs")).to_contain_text("60")
    dialog.get_by_role("button", name="Save yours over it").click()
    expect(dialog).to_have_count(0)
    limit = get(running, "limits/month-budget")
    assert (limit["at_most"], limit["window"]) == (80, "week"), "what they changed stays"


FORMS = {
    "/console/limits/month-budget": "When it cannot be counted",
    "/console/apps/indexer": "Advanced: web pages, forward proxy",
    "/console/teams/search": None,
    "/console/routes/crm": "Advanced: header rules",
    "/console/providers/mock": "Advanced: proxy, TLS, health check",
}


@pytest.mark.parametrize("path", FORMS)
def test_forms_are_for_everybody(page: Page, path: str, tmp_path: Path) -> None:
    dialog = edit(page, path)
    expect(dialog.get_by_role("button", name="Save to draft")).to_be_visible()
    if (more := FORMS[path]) is not None:
        dialog.get_by_text(more).click()
    if "providers" in path:
        dialog.get_by_label("Address").fill("https://api.example.com/v1")
        choose(dialog, "Which HTTP proxy", "This one")
        dialog.get_by_label("Ask it again and again").check()
        dialog.get_by_label("Our certificate").fill("-----BEGIN CERTIFICATE-----")
    if "routes" in path:
        for button in ("Change a request header", "Change an answer header"):
            dialog.get_by_role("button", name=button).click()
    if "apps" in path:
        dialog.get_by_label("Web pages may use its keys").check()
    assert not wrong_with(page, pictures=tmp_path)
