"""The own account in a real browser: password and code, passkeys of a virtual authenticator, sessions."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyotp
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser.conftest import sign_in_as
from tests.browser.looking import ready, wrong_with
from tests.support import live
from tests.support.live import Live

pytestmark = [pytest.mark.timeout(120), pytest.mark.serial]

PICTURES: Path | None = None
"""A folder that gets pictures of the pages that are looked at."""

Visit = Callable[[], Page]


@pytest.fixture
def visit(chromium: Browser, running: Live) -> Iterator[Visit]:
    with visiting(chromium, running) as found:
        yield found


@contextmanager
def visiting(chromium: Browser, running: Live, *, refused: tuple[int, ...] = (401, 409)) -> Iterator[Visit]:
    """Pages of browsers that know nothing yet, at a host name that passkeys may be made for. They must not complain but
    of what is `refused` on purpose (and of nobody being signed in)."""
    opened: list[BrowserContext] = []
    complaints: list[str] = []

    def complain(message: str) -> None:
        if not re.search(f"status of ({'|'.join(map(str, refused))})", message):
            complaints.append(message)

    def open_page() -> Page:
        context = chromium.new_context(
            base_url=running.url.replace("127.0.0.1", "localhost"),
            viewport={"width": 1440, "height": 900},
            color_scheme="light",
            reduced_motion="reduce",
        )
        context.set_default_timeout(10_000)
        opened.append(context)
        page = context.new_page()
        page.on("console", lambda message: complain(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complain(str(error)))
        return page

    yield open_page
    for context in opened:
        context.close()
    assert not complaints, complaints


def make_user(running: Live, name: str, role: str = "viewer") -> str:
    password = f"{name} walks along the river"
    running.api.post("/api/v1/users", json={"name": name, "role": role, "password": password}).raise_for_status()
    return password


def enter(page: Page, name: str, password: str) -> None:
    """By password alone, to the account's page by the user's menu."""
    sign_in_as(page, name, password)
    page.get_by_role("button", name=f"Signed in as {name}").click()
    page.get_by_role("menuitem", name="Account").click()
    page.get_by_role("heading", name="Account").wait_for()


def set_up_app(page: Page, password: str) -> tuple[str, list[str]]:
    """The app's secret, and the recovery codes."""
    page.get_by_role("button", name="Set up an app").click()
    page.get_by_label("Your password").fill(password)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("img", name="QR code of the key")).to_be_visible()
    secret = page.get_by_test_id("totp-secret").locator("code").inner_text()
    page.get_by_role("textbox", name="Code").fill(pyotp.TOTP(secret).at(datetime.now(UTC)))
    page.get_by_role("button", name="Turn it on").click()
    shown = page.get_by_test_id("recovery-codes").locator("li")
    expect(shown).to_have_count(10)
    codes = shown.all_inner_texts()
    page.get_by_role("button", name="I have them, close").click()
    return secret, codes


def give_authenticator(page: Page) -> None:
    """A virtual one (WebAuthn 11), which is there, keeps passkeys, and verifies its user without asking."""
    protocol = page.context.new_cdp_session(page)
    protocol.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
        "automaticPresenceSimulation": True,
    }
    protocol.send("WebAuthn.addVirtualAuthenticator", {"options": options})


def test_an_app_is_set_up_and_its_code_is_asked_for(visit: Visit, running: Live) -> None:
    password = make_user(running, "mia")
    page, elsewhere = visit(), visit()
    sign_in_as(elsewhere, "mia", password)
    elsewhere.get_by_role("heading", name="Overview").wait_for()
    enter(page, "mia", password)
    _, codes = set_up_app(page, password)
    assert codes[0] not in page.content()
    expect(page.get_by_text("10 of 10 left")).to_be_visible()
    expect(page.get_by_role("table", name="Sessions").locator("tbody tr[data-id]")).to_have_count(1)
    elsewhere.goto("/console/limits")
    expect(elsewhere.get_by_role("button", name="Sign in", exact=True)).to_be_visible()
    sign_in_as(elsewhere, "mia", password)
    code = elsewhere.get_by_role("textbox", name="Code")
    expect(code).to_be_focused()
    code.fill("000000")
    elsewhere.get_by_role("button", name="Sign in", exact=True).click()
    expect(elsewhere.get_by_role("alert")).to_contain_text("wrong or was used before")
    elsewhere.get_by_role("button", name="Use a recovery code").click()
    elsewhere.get_by_role("textbox", name="Recovery code").fill(codes[3])
    elsewhere.get_by_role("button", name="Sign in", exact=True).click()
    elsewhere.get_by_role("heading", name="Overview").wait_for()
    page.reload()
    expect(page.get_by_text("9 of 10 left")).to_be_visible()


def test_a_passkey_signs_in_without_a_password(visit: Visit, running: Live) -> None:
    password = make_user(running, "tom")
    page = visit()
    give_authenticator(page)
    enter(page, "tom", password)
    page.get_by_role("button", name="Add a passkey").click()
    page.get_by_role("textbox", name="Name").fill("Laptop")
    page.get_by_label("Your password").fill(password)
    page.get_by_role("button", name="Make the passkey").click()
    page.get_by_role("button", name="I have them, close").click()
    keys = page.get_by_role("table", name="Passkeys")
    expect(keys).to_contain_text("Laptop")
    expect(keys).to_contain_text("localhost")
    page.get_by_role("button", name="Rename Laptop").click()
    page.get_by_role("textbox", name="Name").fill("Old laptop")
    page.get_by_role("button", name="Rename it").click()
    expect(keys).to_contain_text("Old laptop")
    page.get_by_role("button", name="Add a passkey").click()
    page.get_by_label("Your password").fill(password)
    page.get_by_role("button", name="Make the passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("has a passkey of yours already")
    page.get_by_role("button", name="Cancel").click()

    page.get_by_role("button", name="Signed in as tom").click()
    page.get_by_role("menuitem", name="Sign out").click()
    page.get_by_role("button", name="Use a passkey").click()
    page.get_by_role("heading", name="Overview").wait_for()
    page.goto("/console/account")
    expect(page.get_by_role("table", name="Sessions")).to_contain_text("Passkey")

    page.get_by_role("button", name="Signed in as tom").click()
    page.get_by_role("menuitem", name="Sign out").click()
    sign_in_as(page, "tom", password)  # with a passkey, the password alone does not do
    expect(page.get_by_text("Your passkey is to follow")).to_be_visible()
    page.get_by_role("button", name="Use a passkey").click()
    page.get_by_role("heading", name="Overview").wait_for()

    page.goto("/console/account")
    page.get_by_role("button", name="Remove Old laptop").click()
    page.get_by_label("Your password").fill(password)
    page.get_by_role("dialog").get_by_role("button", name="Remove Old laptop").click()
    expect(keys).to_have_count(0)
    expect(page.get_by_text("of 10 left")).to_have_count(0)


def test_sessions_are_listed_and_ended(visit: Visit, running: Live) -> None:
    password = make_user(running, "eve")
    page, second, third = visit(), visit(), visit()
    for each in (second, third):
        sign_in_as(each, "eve", password)
        each.get_by_role("heading", name="Overview").wait_for()
    enter(page, "eve", password)
    sessions = page.get_by_role("table", name="Sessions").locator("tbody tr[data-id]")
    expect(sessions).to_have_count(3)
    expect(sessions.first).to_contain_text("This one")
    expect(sessions.first).to_contain_text("Chrome on Linux")
    expect(sessions.first).to_contain_text(re.compile(r"127\.0\.0\.1|::1"))
    sessions.nth(1).get_by_role("button", name="Sign out").click()
    expect(sessions).to_have_count(2)
    page.get_by_role("button", name="Sign out everywhere else").click()
    expect(page.get_by_role("dialog")).to_contain_text("1 other session ends at once")
    page.get_by_role("dialog").get_by_role("button", name="Sign out everywhere else").click()
    expect(sessions).to_have_count(1)
    for each in (second, third):
        each.goto("/console/limits")
        expect(each.get_by_role("button", name="Sign in", exact=True)).to_be_visible()


def test_an_owner_resets_the_factor_of_a_user(visit: Visit, running: Live) -> None:
    password, owners = make_user(running, "kim"), make_user(running, "olga", "owner")
    page, owner = visit(), visit()
    enter(page, "kim", password)
    set_up_app(page, password)
    sign_in_as(owner, "olga", owners)
    owner.get_by_role("heading", name="Overview").wait_for()
    owner.goto("/console/users")
    row = owner.locator("tbody tr", has_text="kim")
    expect(row).to_contain_text("App")
    owner.get_by_role("button", name="What to do with kim").click()
    owner.get_by_role("menuitem", name="Reset second factor").click()
    expect(owner.get_by_role("dialog")).to_contain_text("1 session ends")
    owner.get_by_role("button", name="Reset the second factor").click()
    expect(row).to_contain_text("None")
    page.goto("/console/account")
    sign_in_as(page, "kim", password)
    page.get_by_role("heading", name="Overview").wait_for()


def test_a_role_that_needs_a_second_factor_is_led_to_it(chromium: Browser, tmp_path: Path) -> None:
    required = {"SLUICEGATE_REQUIRE_SECOND_FACTOR": '["operator"]'}
    with live.gateway(tmp_path, "teams: [{name: search}]", workers=2, env=required) as gateway:
        with visiting(chromium, gateway) as visit:
            password = make_user(gateway, "ivy", "operator")
            page = visit()
            sign_in_as(page, "ivy", password)
            page.get_by_role("heading", name="Account").wait_for()
            expect(page.get_by_role("note")).to_contain_text("Your role needs a second factor")
            expect(page.get_by_role("link", name="Routes")).to_have_count(0)
            page.goto("/console/routes")
            page.get_by_role("heading", name="Account").wait_for()
            set_up_app(page, password)
            expect(page.get_by_role("note")).to_have_count(0)
            page.get_by_role("link", name="Routes").click()
            page.get_by_role("heading", name="Routes", exact=True).wait_for()
            page.goto("/console/account")
            page.get_by_role("button", name="Remove the app").click()
            page.get_by_label("Your password").fill(password)
            page.get_by_role("dialog").get_by_role("button", name="Remove the app").click()
            expect(page.get_by_role("alert")).to_contain_text("this is the last one")


def test_the_pages_are_for_everybody(visit: Visit, running: Live) -> None:
    password = make_user(running, "zoe", "owner")
    page = visit()
    give_authenticator(page)
    page.goto("/console/login")
    page.get_by_role("button", name="Sign in", exact=True).wait_for()

    def look(name: str) -> list[str]:
        found = wrong_with(page, pictures=PICTURES / name if PICTURES else None)
        return [f"{name}, {each}" for each in found]

    wrong = look("login") if page.locator("main").count() else ["no main"]
    enter(page, "zoe", password)
    ready(page)
    wrong += look("account-bare")
    page.get_by_role("button", name="Set up an app").click()
    page.get_by_label("Your password").fill(password)
    page.get_by_role("button", name="Go on").click()
    page.get_by_role("img", name="QR code of the key").wait_for()
    wrong += look("account-qr")
    secret = page.get_by_test_id("totp-secret").locator("code").inner_text()
    page.get_by_role("textbox", name="Code").fill(pyotp.TOTP(secret).at(datetime.now(UTC)))
    page.get_by_role("button", name="Turn it on").click()
    page.get_by_test_id("recovery-codes").wait_for()
    wrong += look("account-codes")
    page.get_by_role("button", name="I have them, close").click()
    page.get_by_role("button", name="Add a passkey").click()
    page.get_by_label("Your password").fill(password)
    page.get_by_role("button", name="Make the passkey").click()
    page.get_by_role("table", name="Passkeys").wait_for()
    wrong += look("account")
    wrong += [f"users, {each}" for each in wrong_with(page, "/console/users", pictures=PICTURES and PICTURES / "users")]
    page.get_by_role("button", name="Signed in as zoe").click()
    page.get_by_role("menuitem", name="Sign out").click()
    page.get_by_role("button", name="Sign in", exact=True).wait_for()
    sign_in_as(page, "zoe", password)
    page.get_by_role("textbox", name="Code").wait_for()
    wrong += look("login-code")
    assert not wrong, wrong
