"""From nothing to a governed first call in the browser: a key that is refused, one that is taken, a call."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import PASSWORD, sign_in
from tests.browser.looking import ready, too_much, wrong_with
from tests.support import live
from tests.support.live import Live
from tests.support.provider import Provider

pytestmark = [pytest.mark.timeout(120), pytest.mark.serial]


@dataclass(frozen=True, slots=True)
class Fresh:
    gateway: Live
    provider: Provider


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fresh]:
    folder: Path = tmp_path_factory.mktemp("fresh")
    with Provider() as provider, live.gateway(folder, "providers: []\n") as gateway:
        owner = {"name": "admin", "role": "owner", "password": PASSWORD}
        assert gateway.api.post("/api/v1/users", json=owner).status_code == 201
        yield Fresh(gateway, provider)


@pytest.fixture(scope="module")
def running(fresh: Fresh) -> Live:
    return fresh.gateway


def test_what_a_newcomer_sees_first_is_small(chromium: Browser, fresh: Fresh) -> None:
    signing_in = chromium.new_context(base_url=fresh.gateway.url)
    page = signing_in.new_page()
    sign_in(page, PASSWORD)
    expect(page).to_have_url(re.compile("/console/start$"))
    context = chromium.new_context(base_url=fresh.gateway.url, storage_state=signing_in.storage_state())
    page = context.new_page()
    assert not too_much(page, "/console/", leads_to="/console/start")
    context.close()
    signing_in.close()


def test_a_newcomer_gets_to_a_governed_first_call(chromium: Browser, fresh: Fresh) -> None:
    context = chromium.new_context(base_url=fresh.gateway.url, viewport={"width": 1440, "height": 900})
    context.set_default_timeout(10_000)
    page = context.new_page()
    sign_in(page, PASSWORD)
    expect(page).to_have_url(re.compile("/console/start$"))
    expect(page.get_by_role("heading", name="First run")).to_be_visible()
    assert not wrong_with(page)

    # It may be left, and gone on with.
    page.get_by_role("button", name="Skip, I know the way").click()
    page.get_by_role("link", name="Go on with the three first steps").click()

    # A key that the provider refuses: that is said, with what to do, and can be put right.
    fresh.provider.behave(
        path="/v1/models", body=b'{"object": "list", "data": [{"id": "gpt-mock", "object": "model"}]}'
    )
    fresh.provider.demand_authorization("authorization", "Bearer sk-right", "/v1/models")
    page.get_by_role("radio", name="OpenAI-compatible").click()
    page.get_by_label("Address").fill(f"{fresh.provider.url}/v1")
    secret = page.get_by_role("textbox", name="API key")
    secret.fill("sk-wrong")
    page.get_by_role("button", name="Check own and go on").click()
    expect(page.get_by_role("alert")).to_contain_text("The key is refused", timeout=25_000)
    assert not wrong_with(page)
    secret.fill("sk-right")
    page.get_by_role("button", name="Check own and go on").click()
    expect(page.get_by_text("own takes the key and lists 1 model")).to_be_visible(timeout=25_000)

    page.get_by_role("combobox", name="Model of own").fill("gpt-mock")
    page.get_by_role("button", name="Make route chat, app first-app and its key").click()
    snippet = page.get_by_label("first call", exact=True)
    expect(snippet).to_contain_text("SLUICEGATE_KEY=sk-")
    expect(page.get_by_role("status").filter(has_text="Waiting for the first call")).to_be_visible()
    key = re.search(r"SLUICEGATE_KEY=(\S+)", snippet.inner_text())
    assert key is not None
    limits = {limit["name"]: limit for limit in fresh.gateway.api.get("/api/v1/limits").json()["items"]}
    assert limits["first-app-month"]["at_most"] == 10

    # A call from a terminal lights it up.
    url, headers = fresh.gateway.url + "/v1/chat/completions", {"authorization": f"Bearer {key[1]}"}
    question = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
    # A new key is known in every worker within a second.
    fresh.gateway.until(lambda: httpx2.post(url, headers=headers, json=question, timeout=10).status_code == 200, 5)
    expect(page.get_by_text("It has arrived")).to_be_visible()
    expect(page.get_by_role("status").filter(has_text="own/gpt-mock")).to_contain_text("Completed")
    assert not wrong_with(page)
    page.get_by_role("link", name="Look at it in Traffic").click()
    expect(page).to_have_url(re.compile(r"/console/requests/[0-9a-f]{26}"))
    context.close()


def test_what_exists_is_gone_on_with_and_a_call_can_be_made_from_the_page(page: Page, fresh: Fresh) -> None:
    page.goto("/console/start")
    ready(page)
    expect(page.get_by_text("own is there")).to_be_visible()
    expect(page.get_by_label("first call", exact=True)).not_to_contain_text("export")
    page.get_by_role("button", name="Make another key").click()
    expect(page.get_by_label("first call", exact=True)).to_contain_text("SLUICEGATE_KEY=sk-")
    page.goto("/console/")
    ready(page)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
