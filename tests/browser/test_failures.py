"""What cannot be had is said, with a way to try again: no page is blank, waits for ever, or shows a false nought."""

import re
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Request, Route, expect

from tests.browser.conftest import PASSWORD, call
from tests.browser.looking import ready, wrong_with
from tests.browser.test_console import PAGES
from tests.support.live import Live

pytestmark = [pytest.mark.timeout(120), pytest.mark.serial]

Way = Literal["refused", "broken", "silent"]
"""Answers 403, answers 500, never answers."""
OF_EVERY_PAGE: Final = ("/session", "/events", "/draft", "/access-requests/pending", "/health")
"""What the frame asks for on all pages. Who is signed in: below; of the feed the top bar tells."""
ITS_OWN: Final = {
    "/draft": ("overview", "publish"),
    "/access-requests/pending": ("overview",),
    "/health": ("overview", "health"),
}
"""Where that is tried."""
MORE: Final = {
    "interception": "/console/interception",
    "connections": "/console/interception/connections",
    "authority": "/console/interception/authority",
    "playground": "/console/playground",
    "health": "/console/health",
    "settings": "/console/settings",
    "backups": "/console/backups",
    "audit": "/console/audit",
    "sign-on": "/console/sign-on",
    "start": "/console/start",
}
WHERE: Final = {**PAGES, **MORE}
PAST_ALL_PATIENCE_S: Final = 31
"""Beyond the console's own (web/src/api/client.ts), and all that it tries again by itself."""

QUIET_S: Final = 0.2
"""Nothing has been asked for so long: what a page reads it has read."""

CLAIMS: Final = """() => [...document.querySelectorAll("main *")]
    .filter(each => each.children.length === 0 && each.checkVisibility())
    .map(each => each.textContent.trim())
    .filter(text => /^(\\$?0(\\.0+)?( %)?|(no|none|nothing|nobody)\\b.*)$/i.test(text))"""
"""Noughts, and texts that say that there is nothing."""


@pytest.fixture
def context(chromium: Browser, running: Live, signed_in: list[dict[str, object]]) -> Iterator[BrowserContext]:
    running.row(call(running, running.key("ci")).headers["x-request-id"])
    made = chromium.new_context(base_url=running.url, viewport={"width": 1440, "height": 900}, reduced_motion="reduce")
    made.set_default_timeout(8_000)
    made.add_cookies(signed_in)  # type: ignore[arg-type]  # as they came from `cookies()`
    yield made
    made.close()


class Fault:
    """Lets what a page reads from one path of the API fail, until it is mended."""

    def __init__(self, page: Page, path: str, way: Way) -> None:
        self.times = 0
        self.way = way
        self._page = page
        self._pattern = re.compile(re.escape(path) + r"(\?|$)")
        page.route(self._pattern, self._fail)

    def _fail(self, route: Route) -> None:
        if route.request.method != "GET":
            route.fallback()
            return
        self.times += 1
        if self.way != "silent":
            status = 403 if self.way == "refused" else 500
            told = {"detail": f"the test says {status}", "fix": "mend the test", "request_id": "0" * 26}
            route.fulfill(status=status, json=told, content_type="application/problem+json")

    def mend(self) -> None:
        self._page.unroute(self._pattern)


def asked_by(page: Page, path: str) -> list[str]:
    """The paths of the API that the page at `path` reads; when this returns they have been answered."""
    asked: list[str] = []
    waiting: set[Request] = set()
    page.on("request", lambda request: asked.append(urlsplit(request.url).path) if request.method == "GET" else None)
    page.on("request", lambda request: None if request.url.endswith("/events") else waiting.add(request))
    page.on("requestfinished", lambda request: waiting.discard(request))
    page.on("requestfailed", lambda request: waiting.discard(request))
    page.goto(path)
    ready(page)
    quiet_since_s = time.monotonic()
    while time.monotonic() - quiet_since_s < QUIET_S:
        page.wait_for_timeout(25)
        if waiting:
            quiet_since_s = time.monotonic()
    return sorted({each for each in asked if each.startswith("/api/")})


def let_time_pass(page: Page, seconds: int) -> None:
    """As much as is needed until the page says that something is wrong, at most so much."""
    problem = page.get_by_role("button", name="Try again").first
    for _ in range(seconds):
        page.clock.fast_forward(1_000)
        page.wait_for_timeout(25)  # what was asked for again is answered
        if problem.is_visible():
            return


@pytest.mark.parametrize("name", WHERE)
def test_a_page_says_what_it_could_not_load(context: BrowserContext, name: str) -> None:
    path = WHERE[name]
    page = context.new_page()
    asked = asked_by(page, path)
    claims = Counter(page.evaluate(CLAIMS))
    page.close()
    mine = [
        each
        for each in asked
        if not each.endswith(OF_EVERY_PAGE) or name in ITS_OWN.get(each.removeprefix("/api/v1"), ())
    ]
    for index, each in enumerate(mine):
        way = get_args(Way)[index % len(get_args(Way))]
        page = context.new_page()
        page.clock.install()
        fault = Fault(page, each, way)
        page.goto(path)
        page.get_by_role("heading", level=1).wait_for()
        let_time_pass(page, PAST_ALL_PATIENCE_S + 4)
        problem = f"{path} with {each} {way}"
        assert fault.times, f"{problem}: it was not asked for"
        alert = page.get_by_role("alert").filter(has=page.get_by_role("button", name="Try again"))
        expect(alert.first, problem).to_contain_text("not answered within" if way == "silent" else "The test says")
        expect(page.locator("main").locator("[aria-busy=true], .mantine-Skeleton-root"), problem).to_have_count(0)
        lies = Counter(page.evaluate(CLAIMS)) - claims
        assert not lies, f"{problem}: {dict(lies)}"
        fault.mend()
        again = page.get_by_role("button", name="Try again")
        for _ in range(again.count()):  # several figures may come from one path
            if again.count():
                again.first.click()
                page.wait_for_timeout(200)
        expect(again, problem).to_have_count(0)
        page.close()


@pytest.mark.parametrize("way", get_args(Way))
def test_who_is_signed_in_is_asked_again(context: BrowserContext, way: Way) -> None:
    page = context.new_page()
    page.clock.install()
    fault = Fault(page, "/api/v1/session", way)
    page.goto("/console/limits")
    if way == "silent":
        page.clock.fast_forward(2_000)
        expect(page.get_by_role("status")).to_have_text("Waiting for the gateway…")
    let_time_pass(page, PAST_ALL_PATIENCE_S + 4)
    expect(page.get_by_role("alert")).to_be_visible()
    fault.mend()
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("heading", name="Limits")).to_be_visible()


def test_what_is_shown_stays_when_it_cannot_be_renewed(context: BrowserContext) -> None:
    page = context.new_page()
    page.clock.install()
    page.goto("/console/")
    ready(page)
    expect(page.get_by_role("table", name="Apps by spend")).to_contain_text("indexer")
    fault = Fault(page, "/api/v1/usage", "refused")
    page.clock.fast_forward(61_000)  # the overview asks for its sums each minute
    expect(page.get_by_role("alert")).to_contain_text("Not up to date")
    expect(page.get_by_role("table", name="Apps by spend")).to_contain_text("indexer")
    assert not wrong_with(page)
    fault.mend()
    page.get_by_role("alert").get_by_role("button", name="Try again").click()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_failed_sign_in_can_be_tried_again(chromium: Browser, running: Live) -> None:
    context = chromium.new_context(base_url=running.url)
    page = context.new_page()
    page.goto("/console/login")
    page.route("**/api/v1/session", lambda route: route.abort() if route.request.method == "POST" else route.fallback())
    page.get_by_label("User").fill("admin")
    page.get_by_role("textbox", name="Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("The gateway does not answer")
    page.unroute("**/api/v1/session")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    context.close()
