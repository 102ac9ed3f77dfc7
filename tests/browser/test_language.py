"""Each text of the console is marked for translators: in a language made up for it nothing is left in English."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Response, Route

from tests.browser.conftest import ENVIRONMENT, WEB, call
from tests.browser.looking import ready
from tests.browser.test_console import PAGES
from tests.support.live import Live

LANGUAGE = "en-XA"
"""web/lingui.config.ts"""

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.serial,
]  # the first one builds the console, twice where it was not there

LEFT_IN_ENGLISH = """() => {
    const english = /[A-Za-z]{2,}(?:[,.:;]? [a-z'’]{2,})+/g;
    const data = "code, pre, kbd, script, noscript, .uplot, textarea[aria-hidden], [lang=en]";
    const found = new Set();
    const look = (element, text) => {
        if (element && !element.closest(data)) for (const [words] of text.matchAll(english)) found.add(words);
    };
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    for (let node = walker.nextNode(); node; node = walker.nextNode()) look(node.parentElement, node.data);
    for (const name of ["title", "aria-label", "placeholder"])
        for (const element of document.querySelectorAll(`[${name}]`)) look(element, element.getAttribute(name));
    return [...found];
}"""
"""Two words and more that carry no accent. By a hidden text area Mantine measures how high another has to be;
what is marked as English is the API's."""

ROUTES = re.findall(r'^ +path: "(/[^"$]*)"', (WEB / "src/app/router.tsx").read_text(), re.MULTILINE)
"""Each page that takes no name; those that do are in PAGES."""
WHERE = sorted({*PAGES.values(), *(f"/console{path}" for path in ROUTES)} - {"/console/login"})

OPENERS = ("main header button", "main tbody tr[data-opens=true] a")
"""What opens more texts where a page has it: its form, and the drawer of its first row."""


@pytest.fixture(scope="session")
def in_another_language(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The console built with the pseudo language, whose letters all carry accents."""
    built = tmp_path_factory.mktemp("pseudo")
    for command in (["npm", "run", "texts"], ["npx", "vite", "build", "--outDir", str(built)]):
        subprocess.run(command, cwd=WEB, env=ENVIRONMENT, check=True, timeout=300, capture_output=True)
    return built


@pytest.fixture
def context(chromium: Browser, running: Live, in_another_language: Path) -> Iterator[BrowserContext]:
    """Of a reader of that language: its files come from that build, all else from the gateway."""

    def serve(route: Route) -> None:
        asked = in_another_language / route.request.url.partition("/console/")[2].partition("?")[0]
        route.fulfill(path=asked if asked.is_file() else in_another_language / "index.html")

    context = chromium.new_context(base_url=running.url, viewport={"width": 1440, "height": 900}, locale=LANGUAGE)
    context.route("**/console/**", serve)
    yield context
    context.close()


def test_no_text_of_the_login_is_left_in_english(context: BrowserContext) -> None:
    page = context.new_page()
    page.goto("/console/login")
    ready(page)
    assert page.locator("html").get_attribute("lang") == LANGUAGE
    assert not page.evaluate(LEFT_IN_ENGLISH)


@pytest.mark.parametrize("path", WHERE)
def test_no_text_is_left_in_english(
    context: BrowserContext, running: Live, signed_in: list[dict[str, object]], path: str
) -> None:
    context.add_cookies(signed_in)  # type: ignore[arg-type]  # as they came from `cookies()`
    page = context.new_page()
    said: list[str] = []
    page.on("response", lambda response: said.append(_text(response)) if "/api/" in response.url else None)
    running.row(call(running, running.key("ci")).headers["x-request-id"])
    page.goto(path)
    ready(page)
    assert page.locator("html").get_attribute("lang") == LANGUAGE
    left = set(page.evaluate(LEFT_IN_ENGLISH))
    for opener in OPENERS:
        if page.locator(opener).count():
            page.locator(opener).first.click()
            ready(page)
            left.update(page.evaluate(LEFT_IN_ENGLISH))
            page.keyboard.press("Escape")
    data = _plain("\n".join(said))
    assert not [text for text in sorted(left) if any(_plain(part) not in data for part in re.split("[,:;]", text))]


def _text(response: Response) -> str:
    """The feed never ends, and has no text of its own."""
    return "" if response.url.endswith("/events") else response.text()


def _plain(text: str) -> str:
    return text.lower().replace("`", "").strip(" .,;:")
