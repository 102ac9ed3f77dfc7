"""The portal as two people live it: an app team asks, an owner decides, a key is made, and both see spend move."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from tests.browser.conftest import call, sign_in_as
from tests.browser.looking import ready, wrong_with
from tests.support.live import Live

pytestmark = [pytest.mark.timeout(120), pytest.mark.serial]

PASSWORD = "a brook beside the mill"
OPENAPI = {
    "openapi": "3.1.0",
    "info": {"title": "CRM", "version": "2"},
    "paths": {
        "/v2/customers/{id}": {
            "get": {
                "summary": "One customer",
                "parameters": [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}],
            }
        }
    },
}


MICROS = re.compile(r"\(([\d,]+) micro-USD\)")
"""What a sum says when the pointer rests on it."""


def micros_of(place: Locator) -> int:
    """The sum that stands there, in micro-USD."""
    found = MICROS.search(place.get_by_title(MICROS).get_attribute("title") or "")
    assert found is not None
    return int(found[1].replace(",", ""))


def told(running: Live, method: str, path: str, **body: Any) -> Any:
    answer = running.api.request(method, f"/api/v1/{path}", json=body)
    assert answer.is_success, answer.text
    return answer.json() if answer.content else None


@pytest.fixture(scope="module")
def services(running: Live) -> None:
    """Routes that are said something of, a team whose member and admin sign in, and an HTTP service."""
    chat = {
        "title": "General chat",
        "description": "For answers in products and tools.\n\nNot for personal data.",
        "owner": "ai-platform@example.com",
        "documentation": "https://wiki.example.com/chat",
        "access": "approval",
    }
    told(running, "PATCH", "routes/chat", service=chat)
    told(running, "PATCH", "routes/draft", service={"title": "Drafts", "access": "open"})
    host = running.api.get("/api/v1/providers/mock").json()["base_url"].removesuffix("/v1")
    told(running, "POST", "providers", name="crm", dialect="http", base_url=host)
    told(running, "POST", "routes", name="crm", match={"path": "/v2/"}, targets=[{"provider": "crm"}], auth="key")
    told(running, "PUT", "service-openapi/crm", **OPENAPI)
    told(running, "PATCH", "apps/indexer", routes=["crm"])
    for name, role in (("mia", "team-member"), ("ada", "team-admin")):
        told(running, "POST", "users", name=name, role=role, team="search", password=PASSWORD)


@pytest.fixture(scope="module")
def member_cookies(chromium: Browser, running: Live, services: None) -> list[Any]:
    context = chromium.new_context(base_url=running.url)
    page = context.new_page()
    sign_in_as(page, "mia", PASSWORD)
    page.get_by_role("heading", name="Catalogue", level=1).wait_for()
    cookies = list(context.cookies())
    context.close()
    return cookies


@pytest.fixture
def member(chromium: Browser, running: Live, member_cookies: list[Any]) -> Iterator[Page]:
    """A page of Mia's, a member of the team search. No script error and no failed request is tolerated."""
    context: BrowserContext = chromium.new_context(
        base_url=running.url, viewport={"width": 1440, "height": 900}, color_scheme="light", reduced_motion="reduce"
    )
    context.set_default_timeout(8_000)
    context.add_cookies(member_cookies)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    context.close()
    assert not complaints, complaints


def test_an_app_team_asks_an_owner_approves_and_both_see_spend_move(page: Page, member: Page, running: Live) -> None:
    # Mia finds a service and asks that a new app may call it.
    member.goto("/console/")
    ready(member)
    expect(member.get_by_role("heading", name="Catalogue", level=1)).to_be_visible()
    expect(member.get_by_role("navigation", name="Pages").get_by_role("link")).to_have_text(
        [re.compile("Sluicegate"), re.compile("Traffic"), re.compile("Catalogue"), "My apps", "Usage",
         re.compile("Access requests"), re.compile("Playground")]
    )  # fmt: skip
    card = member.get_by_role("listitem").filter(has=member.get_by_role("link", name="General chat"))
    expect(card).to_contain_text("$1.00 in · $4.00 out")
    expect(card).to_contain_text("By approval")
    # An owner has the page open that says what needs a decision.
    page.goto("/console/access-requests?state=pending")
    ready(page)
    expect(page.get_by_text("Nothing to decide")).to_be_visible()

    card.get_by_role("button", name="Ask for access").click()
    dialog = member.get_by_role("dialog", name="Ask for access")
    dialog.get_by_role("combobox", name="For which app").click()
    member.get_by_role("option", name="A new app").click()
    dialog.get_by_label("Name of the new app").fill("answers")
    expect(dialog).to_contain_text("Its whole name: search.answers")
    dialog.get_by_label("What for").fill("Answers beside search results, some 200 calls an hour")
    dialog.get_by_role("button", name="Send the request").click()
    drawer = member.get_by_role("complementary", name=re.compile("Request for access"))
    expect(drawer).to_contain_text("Awaits a decision")

    # It is there by itself, in the list and as a count in the navigation; she approves it.
    row = page.get_by_role("row", name=re.compile("answers"))
    expect(row).to_contain_text("chat")
    expect(page.get_by_title("1 request to decide")).to_be_visible()
    row.click()
    decision = page.get_by_role("complementary", name=re.compile("Request for access"))
    expect(decision).to_contain_text("Answers beside search results")
    decision.get_by_role("button", name="Approve").click()
    form = page.get_by_role("dialog", name=re.compile("Approve"))
    expect(form).to_contain_text("may call chat within a second")
    form.get_by_label("Reason").fill("Welcome")
    form.get_by_role("button", name="Approve").click()
    expect(decision).to_contain_text("Approved")
    expect(page.get_by_title("1 request to decide")).to_have_count(0)

    # Mia sees it by itself, makes a key and calls.
    expect(drawer).to_contain_text("Welcome")
    drawer.get_by_role("link", name="search.answers").first.click()
    app = member.get_by_role("complementary", name="App search.answers")
    app.get_by_role("button", name="Make a key").click()
    member.get_by_role("textbox", name="Name").fill("ci")
    member.get_by_role("dialog").get_by_role("button", name="Make the key").click()
    key = member.get_by_test_id("secret").inner_text()
    member.get_by_role("button", name="I have it, close").click()
    running.until(lambda: call(running, key).status_code == 200, 5)

    # Both have a page open that says what it costs, and see it move with each call, without a reload.
    member.goto("/console/usage")
    page.goto("/console/")
    rows = [
        member.get_by_role("table", name="Usage by app and service").get_by_role(
            "row", name=re.compile("search.answers")
        ),
        page.get_by_role("table", name="Apps by spend").get_by_role("row", name=re.compile("search.answers")),
    ]
    totals = [each.get_by_text("Spend", exact=True).first.locator("xpath=../div[2]") for each in (member, page)]
    for each in (member, page):
        ready(each)
        each.evaluate("() => { window.isTheSamePage = true }")
    one = [micros_of(row) for row in rows]
    assert one[0] == one[1] > 0
    before = [micros_of(total) for total in totals]
    for calls in (2, 3):
        assert call(running, key).status_code == 200
        for row, total, was in zip(rows, totals, before, strict=True):
            expect(row.get_by_title(MICROS)).to_have_attribute(
                "title", re.compile(rf"\({one[0] * calls:,} micro-USD\)")
            )
            moved = was + one[0] * (calls - 1)
            expect(total.get_by_title(MICROS)).to_have_attribute("title", re.compile(rf"\({moved:,} micro-USD\)"))
    for each in (member, page):
        assert each.evaluate("() => window.isTheSamePage")

    # The key gets a new text, and the old one is good for a while.
    member.goto("/console/apps/search.answers")
    ready(member)
    member.get_by_role("button", name="Rotate ci").click()
    member.get_by_role("dialog").get_by_role("button", name="Make a new text").click()
    rotated = member.get_by_test_id("secret").inner_text()
    member.get_by_role("button", name="I have it, close").click()
    running.until(lambda: call(running, rotated).status_code == 200, 5)
    assert call(running, key).status_code == 200
    member.get_by_role("button", name="Refuse it now: the old text of ci").click()
    expect(member.get_by_text("the old text is good until")).to_have_count(0)
    running.until(lambda: call(running, key).status_code == 401, 5)


def test_an_open_service_is_there_at_once(member: Page) -> None:
    member.goto("/console/catalogue/draft")
    ready(member)
    drawer = member.get_by_role("complementary", name="Service draft")
    drawer.get_by_role("button", name="Ask for access").click()
    dialog = member.get_by_role("dialog", name="Ask for access")
    dialog.get_by_role("combobox", name="For which app").click()
    member.get_by_role("option", name="indexer").click()
    dialog.get_by_label("What for").fill("To see how it writes")
    expect(dialog).to_contain_text("access is there at once")
    dialog.get_by_role("button", name="Get access").click()
    expect(member.get_by_role("complementary", name="App indexer")).to_contain_text("draft for good")


def test_an_http_service_is_tried_out(member: Page) -> None:
    member.goto("/console/catalogue/crm")
    ready(member)
    drawer = member.get_by_role("complementary", name="Service crm")
    drawer.get_by_label("id").fill("42")
    drawer.get_by_role("button", name="Use a key of indexer for ten minutes").click()
    expect(drawer.get_by_label("Key")).not_to_have_value("")
    member.wait_for_timeout(1_000)  # the key is known everywhere within a second
    with member.expect_response(lambda answer: "/v2/customers/42" in answer.url) as answered:
        drawer.get_by_role("button", name="Send GET").click()
    assert answered.value.status == 200
    expect(drawer.get_by_role("figure", name="Answer")).to_contain_text("200")


def test_the_service_of_a_route_is_edited(page: Page, member: Page, running: Live) -> None:
    member.goto("/console/catalogue")
    ready(member)
    page.goto("/console/routes/draft")
    ready(page)
    page.get_by_role("button", name="Edit the service").click()
    form = page.get_by_role("dialog", name="Service draft")
    form.get_by_label("Title").fill("First drafts")
    form.get_by_label("Description").fill("Writes what people then rewrite.")
    form.get_by_role("button", name="Save the service").click()
    expect(page.get_by_role("complementary")).to_contain_text("First drafts")
    member.reload()
    expect(member.get_by_role("link", name="First drafts")).to_be_visible()
    page.get_by_role("button", name="Edit the service").click()
    form.get_by_label("Title").fill("Later drafts")
    form.get_by_role("button", name="Save to draft").click()
    expect(page.get_by_role("complementary")).to_contain_text("The draft changes it.")
    expect(page.get_by_role("complementary")).to_contain_text("First drafts")
    running.api.delete("/api/v1/draft").raise_for_status()


def test_an_openapi_document_is_uploaded(page: Page, member: Page, running: Live) -> None:
    page.goto("/console/routes/crm")
    page.get_by_role("button", name="Upload an OpenAPI document").click()
    form = page.get_by_role("dialog")
    named = {**OPENAPI, "info": {"title": "CRM anew", "version": "3"}}
    document = {"name": "crm.json", "mimeType": "application/json", "buffer": json.dumps(named).encode()}
    page.locator("input[type=file]").set_input_files(document)  # type: ignore[arg-type]
    form.get_by_role("button", name="Put it into the catalogue").click()
    expect(form).to_have_count(0)
    assert told(running, "GET", "service-openapi/crm")["info"]["title"] == "CRM anew"


def test_the_platform_names_a_teams_webhook(page: Page, running: Live, services: None) -> None:
    page.goto("/console/access-requests/notices")
    ready(page)
    page.get_by_role("combobox", name="Who is told in a team").click()
    page.get_by_role("option", name="search").click()
    told_of = page.get_by_role("dialog", name="Team search")
    told_of.get_by_role("button", name="Change who is told").click()
    form = page.get_by_role("dialog", name="Who is told of search")
    form.get_by_label("Webhook").fill("https://hooks.example.com/sluicegate")
    form.get_by_role("button", name="Save").click()
    expect(told_of).to_contain_text("https://hooks.example.com/sluicegate")
    told_of.get_by_role("button", name="Make a signing secret").click()
    page.get_by_role("button", name="Make the secret").click()
    expect(page.get_by_test_id("secret")).to_contain_text("whsec_")
    page.get_by_role("button", name="I have it, close").click()
    expect(told_of).to_contain_text("signed")
    running.api.put("/api/v1/teams/search/contact", json={}).raise_for_status()


@pytest.mark.parametrize(
    "path",
    [
        "/console/catalogue",
        "/console/catalogue/chat",
        "/console/catalogue/crm",
        "/console/usage",
        "/console/apps",
        "/console/access-requests",
        "/console/access-requests/1",
        "/console/access-requests/notices",
    ],
)
def test_an_app_teams_pages_can_be_used_by_everybody(member: Page, path: str, tmp_path: Path) -> None:
    """Those of the platform's people are in test_console."""
    assert not wrong_with(member, path, pictures=tmp_path)
