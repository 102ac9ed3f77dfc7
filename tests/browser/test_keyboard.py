"""The main tasks without a mouse: palette, forms, rows, drawers. Nothing here clicks or gets the focus from outside."""

import re

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import call
from tests.browser.looking import ready
from tests.support.live import Live

pytestmark = [pytest.mark.timeout(90), pytest.mark.serial]

TABS_AT_MOST = 60


@pytest.fixture
def page(page: Page) -> Page:
    page.goto("/console/")
    ready(page)
    return page


def focused(page: Page) -> str:
    """What has the focus, as a screen reader would name it."""
    return str(
        page.evaluate("""() => {
            const at = document.activeElement;
            const label = at.getAttribute("aria-label") || at.labels?.[0]?.innerText || at.innerText;
            return (label || at.id || at.tagName).trim().split("\\n")[0].replace(/\\s*\\*$/, "");
        }""")
    )


def tab_to(page: Page, name: str) -> None:
    """Tab until `name` has the focus, which has to be seen."""
    passed: list[str] = []
    for _ in range(TABS_AT_MOST):
        page.keyboard.press("Tab")
        passed.append(focused(page))
        if passed[-1] == name:
            outline = page.evaluate("""() => {
                const seen = getComputedStyle(document.activeElement);
                return seen.outlineStyle !== "none" || seen.borderColor || seen.boxShadow !== "none";
            }""")
            assert outline, f"the focus on {name} is not to be seen"
            return
    raise AssertionError(f"{name} is not reached by Tab: {passed}")


def search(page: Page, key: str, words: str) -> None:
    """In the palette, whose code is loaded when it is first asked for."""
    page.keyboard.press(key)
    expect(page.get_by_role("textbox", name="Search")).to_be_focused()
    page.keyboard.type(words)


def choose(page: Page, option: str) -> None:
    """In the list of a select that has the focus."""
    page.keyboard.press("Enter")
    page.get_by_role("option", name=option, exact=True).wait_for()
    page.keyboard.press("Home")
    for _ in range(20):
        active = page.evaluate("document.querySelector('[role=option][data-combobox-selected]')?.innerText")
        if active == option:
            page.keyboard.press("Enter")
            return
        page.keyboard.press("ArrowDown")
    raise AssertionError(f"no {option} among the options")


def test_a_limit_is_made_from_the_palette(page: Page, running: Live) -> None:
    search(page, "Control+k", "add a limit")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Add a limit")).to_be_visible()
    expect(page.get_by_role("textbox", name="Name", exact=True)).to_be_focused()
    page.keyboard.type("by-keyboard")
    tab_to(page, "For")
    choose(page, "An app")
    tab_to(page, "Which app")
    choose(page, "indexer")
    tab_to(page, "At most")
    page.keyboard.type("7")
    page.keyboard.press("Enter")  # sends the form off from any field of text
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_text("$7.00 a month for app indexer")).to_be_visible()
    limit = running.api.get("/api/v1/limits/by-keyboard").json()
    assert (limit["scope"]["app"], limit["at_most"], limit["metric"]) == ("indexer", 7, "cost_usd")
    running.api.delete("/api/v1/limits/by-keyboard").raise_for_status()


def test_a_form_is_left_by_escape_and_nothing_is_made(page: Page, running: Live) -> None:
    page.goto("/console/routes")
    ready(page)
    tab_to(page, "Skip to the page")
    page.keyboard.press("Enter")
    tab_to(page, "Add a route")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Add a route")).to_be_visible()
    page.keyboard.type("half-typed")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Add a route")).to_be_focused()
    assert running.api.get("/api/v1/routes/half-typed").status_code == 404


def test_rows_are_walked_opened_and_left(page: Page, running: Live) -> None:
    ids = [call(running, running.key("ci")).headers["x-request-id"] for _ in range(3)]
    for each in ids:
        running.row(each)
    search(page, "/", "traffic")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/console/requests$"))
    ready(page)
    row = page.locator("tbody tr[tabindex='0']")
    for _ in range(TABS_AT_MOST):
        page.keyboard.press("Tab")
        if row.evaluate("row => row === document.activeElement"):
            break
    expect(row).to_be_focused()
    page.keyboard.press("Enter")
    drawer = page.get_by_role("complementary", name="Request")
    expect(drawer).to_be_focused()
    expect(page).to_have_url(re.compile(f"/console/requests/{ids[2]}$"))
    tab_to(page, "Close (Esc)")
    page.keyboard.press("Escape")
    expect(drawer).to_have_count(0)
    first = page.locator(f"tr[data-id='{ids[2]}']")
    expect(first).to_be_focused()
    page.keyboard.press("ArrowDown")
    expect(page.locator(f"tr[data-id='{ids[1]}']")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(f"/console/requests/{ids[0]}$"))
    page.keyboard.press("Escape")
    expect(page.locator(f"tr[data-id='{ids[0]}']")).to_be_focused()


def test_the_palette_leads_to_the_page_itself(page: Page) -> None:
    search(page, "Control+k", "limits")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("/console/limits$"))
    expect(page.locator("main")).to_be_focused()
    tab_to(page, "Add a limit")


def test_a_question_is_answered_without_a_mouse(context: BrowserContext, running: Live) -> None:
    page = context.new_page()
    page.goto("/console/apps/indexer")
    ready(page)
    running.api.post("/api/v1/keys", json={"app": "indexer", "name": "spare"}).raise_for_status()
    expect(page.get_by_role("button", name="Revoke spare")).to_be_visible()
    tab_to(page, "Revoke spare")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Keep it")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="Revoke spare")).to_be_focused()
    page.keyboard.press("Enter")
    tab_to(page, "Revoke spare")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Revoke spare")).to_have_count(0)
