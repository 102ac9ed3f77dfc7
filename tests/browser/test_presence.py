"""A session that was left open: what outlives it asks who sits there, and then goes on with what was wanted."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import update

from gateway.settings import Settings
from gateway.store.database import make_engine, write_session
from gateway.store.models import LoginSession
from tests.browser.conftest import sign_in_as
from tests.browser.looking import wrong_with
from tests.browser.test_account import Visit, give_authenticator, make_user, visiting
from tests.support.identity_provider import CLIENT_ID, CLIENT_SECRET, identity_provider
from tests.support.live import Live

ACCOUNTS = {"liv": {"preferred_username": "liv", "groups": ["staff"]}}

pytestmark = [pytest.mark.timeout(120), pytest.mark.serial]


@pytest.fixture
def visit(chromium: Browser, running: Live) -> Iterator[Visit]:
    with visiting(chromium, running, refused=(401, 403, 404)) as found:  # 404: the provider's page has no icon
        yield found


def time_passes(running: Live) -> None:
    ago = datetime.now(UTC) - timedelta(minutes=16)
    engine = make_engine(Settings(data=running.data).database_url)
    with write_session(engine) as session:
        session.execute(update(LoginSession).values(created_at=ago, confirmed_at=ago))
    engine.dispose()


def want_a_token(page: Page, name: str) -> None:
    page.goto("/console/tokens")
    page.get_by_role("button", name="Make a token").first.click()
    page.get_by_role("textbox", name="Name").fill(name)
    page.get_by_role("button", name="Make the token").click()


def test_the_password_is_asked_and_the_token_is_made(visit: Visit, running: Live) -> None:
    password = make_user(running, "nora", "owner")
    page = visit()
    sign_in_as(page, "nora", password)
    page.get_by_role("heading", name="Overview").wait_for()
    time_passes(running)
    want_a_token(page, "of-nora")
    question = page.get_by_role("dialog", name="Confirm that it is you")
    expect(question.get_by_label("Your password")).to_be_focused()
    assert not wrong_with(page)

    page.keyboard.press("Escape")  # what was filled in is still there
    expect(question).to_have_count(0)
    form = page.get_by_role("dialog", name="Make a token")
    expect(form.get_by_role("alert")).to_contain_text("confirm that it is still you")
    expect(form.get_by_role("textbox", name="Name")).to_have_value("of-nora")

    form.get_by_role("button", name="Make the token").click()
    question.get_by_label("Your password").fill("not it")
    page.keyboard.press("Enter")
    expect(question.get_by_role("alert")).to_contain_text("The password is wrong")
    question.get_by_label("Your password").fill(password)
    page.keyboard.press("Enter")
    secret = page.get_by_test_id("secret").inner_text()
    assert (
        running.api.get("/api/v1/session", headers={"authorization": f"Bearer {secret}"}).json()["username"]
        == "of-nora"
    )
    page.get_by_role("button", name="I have it, close").click()
    page.goto("/console/users")
    expect(page.get_by_role("heading", name="Users")).to_be_visible()


def test_a_passkey_does_too(visit: Visit, running: Live) -> None:
    password = make_user(running, "pia", "owner")
    page = visit()
    give_authenticator(page)
    sign_in_as(page, "pia", password)
    page.get_by_role("heading", name="Overview").wait_for()
    page.goto("/console/account")
    page.get_by_role("button", name="Add a passkey").click()
    page.get_by_label("Your password").fill(password)
    page.get_by_role("button", name="Make the passkey").click()
    page.get_by_role("button", name="I have them, close").click()
    time_passes(running)
    want_a_token(page, "of-pia")
    page.get_by_role("dialog", name="Confirm that it is you").get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_test_id("secret")).to_be_visible()


def test_who_came_from_a_provider_signs_in_there_again(visit: Visit, running: Live) -> None:
    with identity_provider(running.url.replace("127.0.0.1", "localhost"), accounts=ACCOUNTS) as corp:
        document = {"name": "corp", "label": "Example Corp", "issuer": corp.url, "client_id": CLIENT_ID}
        document |= {"client_secret": CLIENT_SECRET, "scopes": "openid profile email groups"}
        running.api.post("/api/v1/sign-on/providers", json=document).raise_for_status()
        rules = [{"group": "staff", "role": "owner"}]
        running.api.put("/api/v1/sign-on", json={"rules": rules}).raise_for_status()
        page = visit()
        page.goto("/console/")
        page.get_by_role("link", name="Sign in with Example Corp").click()
        page.get_by_label("Login").fill("liv")
        page.get_by_role("button", name="Continue").click()
        page.get_by_role("heading", name="Overview").wait_for()
        time_passes(running)
        want_a_token(page, "of-liv")
        question = page.get_by_role("dialog", name="Confirm that it is you")
        with page.context.expect_page() as opened:
            question.get_by_role("link", name="Sign in with Example Corp").click()
        tab = opened.value
        tab.get_by_label("Login").fill("liv")  # it asks, though it knows who that is
        tab.get_by_role("button", name="Continue").click()
        expect(page.get_by_test_id("secret")).to_be_visible()
        if not tab.is_closed():
            expect(tab.get_by_role("heading", name="You are signed in")).to_be_visible()
        page.get_by_role("button", name="I have it, close").click()
        expect(page.get_by_role("row", name=re.compile("^of-liv"))).to_be_visible()
