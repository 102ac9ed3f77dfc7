"""Sign-on as people do it: set up by an owner, used by who is in a group, refused to who is in none, and told why."""

import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.looking import ready, wrong_with
from tests.support.identity_provider import CLIENT_ID, CLIENT_SECRET, IdentityProvider, identity_provider
from tests.support.live import Live

pytestmark = [pytest.mark.timeout(240), pytest.mark.serial]


@pytest.fixture(scope="module")
def corp(running: Live) -> Iterator[IdentityProvider]:
    accounts = {
        "ann": {"preferred_username": "ann", "groups": ["staff", "everyone-in-the-building"]},
        "eve": {"preferred_username": "eve", "groups": ["visitors"]},
    }
    with identity_provider(running.url, accounts=accounts) as provider:
        yield provider


def test_an_owner_sets_up_a_provider_its_rules_and_scim(page: Page, running: Live, corp: IdentityProvider) -> None:
    page.goto("/console/sign-on")
    ready(page)
    expect(page.get_by_text("No identity provider")).to_be_visible()
    assert not wrong_with(page)
    page.get_by_role("button", name="Add a provider").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text(f"{running.url}/api/v1/sign-on/callback")
    dialog.get_by_role("textbox", name=re.compile("^Name")).fill("Example Corp")
    dialog.get_by_label("Issuer").fill(f"{corp.url}/")
    dialog.get_by_label("Client id").fill(CLIENT_ID)
    dialog.get_by_role("textbox", name="Client secret").fill(CLIENT_SECRET)
    dialog.get_by_role("button", name="Add Example Corp").click()
    drawer = page.get_by_role("complementary", name="Identity provider")
    expect(page).to_have_url(re.compile("/console/sign-on/example-corp"))

    # The test says what is wrong, and then that all is well.
    drawer.get_by_role("button", name="Test it for real").click()
    expect(drawer.get_by_role("list", name="What was found")).to_contain_text("calls itself")
    drawer.get_by_role("button", name="Change").click()
    page.get_by_role("dialog").get_by_label("Issuer").fill(corp.url)
    page.get_by_role("button", name="Change Example Corp").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    drawer.get_by_role("button", name="Test it for real").click()
    expect(drawer).to_contain_text("It works")
    expect(drawer).to_contain_text("is registered")
    assert not wrong_with(page)
    page.keyboard.press("Escape")

    page.get_by_role("button", name="Add a rule").click()
    page.get_by_label("Group of rule 1").fill("staff")
    page.get_by_label("Role of rule 1").first.click()
    page.get_by_role("option", name=re.compile("Team member")).click()
    expect(page.get_by_role("button", name="Save the rules")).to_be_disabled()
    page.get_by_label("Team of rule 1").first.click()
    page.get_by_role("option", name="search").click()
    page.get_by_role("button", name="Save the rules").click()
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)  # what is there is what is wanted
    assert running.api.get("/api/v1/sign-on").json()["rules"] == [
        {"group": "staff", "role": "team-member", "team": "search"}
    ]

    page.get_by_role("button", name="Make a SCIM token").click()
    page.get_by_role("dialog").get_by_role("button", name="Make the token").click()
    secret = page.get_by_test_id("secret").inner_text()
    page.get_by_role("button", name="I have it, close").click()
    headers = {"authorization": f"Bearer {secret}"}
    assert running.api.get("/scim/v2/Users", headers=headers).status_code == 200
    expect(page.get_by_role("link", name="1 token")).to_be_visible()
    assert not wrong_with(page, "/console/sign-on")


def person(chromium: Browser, running: Live) -> Page:
    context = chromium.new_context(base_url=running.url, reduced_motion="reduce")
    context.set_default_timeout(10_000)
    return context.new_page()


def sign_in_at(page: Page, login: str) -> None:
    page.get_by_role("link", name="Sign in with Example Corp").click()
    page.get_by_label("Login").fill(login)
    page.get_by_role("button", name="Continue").click()


def test_somebody_of_a_group_signs_in_and_out(
    chromium: Browser, page: Page, running: Live, corp: IdentityProvider
) -> None:
    theirs = person(chromium, running)
    theirs.goto("/console/usage")
    expect(theirs.get_by_role("link", name="Sign in with Example Corp")).to_be_visible()
    assert not wrong_with(theirs)
    sign_in_at(theirs, "ann")
    expect(theirs).to_have_url(re.compile("/console/usage"))  # where they wanted to go
    ready(theirs)
    theirs.get_by_role("button", name="Signed in as ann").click()
    theirs.get_by_role("menuitem", name="Sign out").click()
    expect(theirs).to_have_url(re.compile(f"^{corp.url}/session/end"))
    assert theirs.request.get("/api/v1/session").status == 401
    theirs.context.close()
    page.goto("/console/users")
    ready(page)
    expect(page.get_by_role("row", name=re.compile("^ann"))).to_contain_text("Example Corp")
    expect(page.get_by_role("row", name=re.compile("^admin"))).to_contain_text("here")
    assert not wrong_with(page)


def test_who_is_refused_is_told_why(chromium: Browser, running: Live, corp: IdentityProvider) -> None:
    theirs = person(chromium, running)
    theirs.goto("/console/")
    sign_in_at(theirs, "eve")
    expect(theirs.get_by_role("heading", name="You may not use this gateway")).to_be_visible()
    expect(theirs.get_by_text("groups that it names: visitors")).to_be_visible()
    theirs.get_by_role("link", name="Back to the sign-in page").click()
    expect(theirs.get_by_role("link", name="Sign in with Example Corp")).to_be_visible()
    theirs.context.close()


def test_a_provider_that_is_down_is_told_on_the_sign_in_page(chromium: Browser, running: Live) -> None:
    down = {"name": "down", "label": "Down Under", "issuer": "http://127.0.0.1:9", "client_id": "x"}
    running.api.post("/api/v1/sign-on/providers", json=down).raise_for_status()
    theirs = person(chromium, running)
    theirs.goto("/console/")
    theirs.get_by_role("link", name="Sign in with Down Under").click()
    expect(theirs.get_by_role("alert")).to_contain_text("Down Under does not answer")
    assert not wrong_with(theirs)
    theirs.context.close()
    running.api.delete("/api/v1/sign-on/providers/down").raise_for_status()


def test_a_token_is_made_with_scopes(page: Page, running: Live) -> None:
    page.goto("/console/tokens")
    ready(page)
    page.get_by_role("button", name="Make a token").first.click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill(f"reader-{time.monotonic_ns()}")
    dialog.get_by_label("Scopes").first.click()
    page.get_by_role("option", name="usage:read").click()
    page.keyboard.press("Escape")
    dialog.get_by_role("button", name="Make the token").click()
    secret = page.get_by_test_id("secret").inner_text()
    headers = {"authorization": f"Bearer {secret}"}
    assert running.api.get("/api/v1/usage", headers=headers).status_code == 200
    assert running.api.get("/api/v1/providers", headers=headers).status_code == 403
    page.get_by_role("button", name="I have it, close").click()
    expect(page.get_by_role("row", name=re.compile("^reader-"))).to_contain_text("usage:read")
    assert not wrong_with(page)
