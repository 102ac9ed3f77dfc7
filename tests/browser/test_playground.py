"""The playground in a real browser: streamed, side by side, stopped, refused; its code runs."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect

from tests.browser.conftest import PASSWORD
from tests.browser.looking import ready, wrong_with
from tests.support import live
from tests.support.live import Live
from tests.support.provider import Behaviour, Provider

pytestmark = [pytest.mark.timeout(120), pytest.mark.serial]

CONFIGURATION = """
providers:
  - {{name: quick, dialect: openai, base_url: "{url}/v1", credentials: [{{name: main, value: sk-of-the-provider}}]}}
  - {{name: cheap, dialect: openai, base_url: "{url}/v1", credentials: [{{name: main, value: sk-of-the-provider}}]}}
  - {{name: claude, dialect: anthropic, base_url: "{url}", credentials: [{{name: main, value: sk-of-the-provider}}]}}
  - {{name: google, dialect: gemini, base_url: "{url}", credentials: [{{name: main, value: sk-of-the-provider}}]}}
  - {{name: local, dialect: ollama, base_url: "{url}"}}
  - {{name: plain, dialect: http, base_url: "{url}"}}
routes:
  - name: chat
    targets:
      - {{provider: quick, model: gpt-mock}}
      - {{provider: cheap, model: gpt-small}}
      - {{provider: claude, model: haiku}}
  - {{name: flash, targets: [{{provider: google, model: flash}}]}}
  - {{name: llama, targets: [{{provider: local, model: llama}}]}}
  - {{name: crm, match: {{path: /crm/}}, targets: [{{provider: plain}}]}}
  - {{name: wiki, match: {{host: wiki.internal}}, targets: [{{provider: plain}}]}}
teams:
  - name: search
    apps:
      - {{name: indexer, routes: "*", keys: [{{name: ci, value: sk-sg-playground-0123456789abcdef}}]}}
      - {{name: poor, routes: [chat]}}
prices:
  - {{provider: quick, model: gpt-mock, input: 1000000, output: 4000000}}
limits:
  - {{name: few, scope: {{app: poor}}, metric: requests, window: hour, at_most: 1}}
"""


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Live]:
    folder = tmp_path_factory.mktemp("playground")
    with live.gateway(folder, CONFIGURATION.format(url=provider.url)) as gateway:
        owner = {"name": "admin", "role": "owner", "password": PASSWORD}
        assert gateway.api.post("/api/v1/users", json=owner).status_code == 201
        yield gateway


def opened(page: Page, search: str = "") -> None:
    page.goto("/console/playground" + search)
    ready(page)


def send(page: Page) -> None:
    page.get_by_role("button", name=re.compile("^Send")).click()


def answer(page: Page, title: str) -> Locator:
    return page.get_by_role("region", name=title, exact=True)


def figure(answer: Locator, name: str) -> Locator:
    return answer.locator(f"xpath=.//dt[text()='{name}']/following-sibling::dd")


def test_two_targets_side_by_side_with_what_each_cost(page: Page, running: Live, tmp_path: Path) -> None:
    opened(page, "?route=chat&app=indexer")
    expect(page.get_by_role("region", name="chat, as the route decides")).to_contain_text("The answer appears here")
    page.get_by_role("button", name="Compare with another target").click()
    expect(page).to_have_url(re.compile("beside=cheap"))
    page.get_by_role("combobox", name="Target").click()
    page.get_by_role("option", name="quick/gpt-mock").click()
    send(page)
    quick, cheap = answer(page, "quick/gpt-mock"), answer(page, "cheap/gpt-small")
    for side, target in ((quick, "quick/gpt-mock"), (cheap, "cheap/gpt-small")):
        expect(side.get_by_text("Completed")).to_be_visible()
        expect(figure(side, "Served by")).to_have_text(target)
        expect(figure(side, "Tokens out")).to_contain_text(re.compile(r"^[1-9]"))
        expect(figure(side, "First token")).to_contain_text(re.compile("^[0-9.]+ ms"))
        expect(side.get_by_role("log")).to_contain_text(re.compile(r"\w+"))
    expect(figure(quick, "Cost")).to_contain_text("$")
    expect(figure(cheap, "Cost")).to_contain_text("unknown: no price is known for this model")
    rows = {row["target"]: row for row in running.ledger()}
    assert {row["key"] for row in rows.values()} == {"playground"}
    assert rows["quick/gpt-mock"]["stream"]
    quick.get_by_role("link", name="Its request in the ledger").click()
    expect(page).to_have_url(re.compile("/console/requests/" + rows["quick/gpt-mock"]["id"]))
    page.go_back()
    ready(page)
    assert not wrong_with(page, pictures=tmp_path)


@pytest.mark.parametrize(
    ("route", "dialect"),
    [("chat", "openai"), ("chat", "mistral"), ("chat", "anthropic"), ("flash", "gemini"), ("llama", "ollama")],
)
@pytest.mark.parametrize("streamed", [True, False], ids=["streamed", "whole"])
def test_every_dialect_is_spoken_and_its_code_runs(
    page: Page, running: Live, tmp_path: Path, route: str, dialect: str, streamed: bool
) -> None:
    opened(page, f"?route={route}&app=indexer&dialect={dialect}")
    page.get_by_label("System prompt").fill('Answer in "one" word, it\'s enough')
    page.get_by_label("Temperature").fill("0.5")
    if not streamed:
        page.get_by_role("switch", name="Streamed").click()
    send(page)
    side = answer(page, f"{route}, as the route decides")
    expect(side.get_by_text("Completed")).to_be_visible()
    said = side.get_by_role("log").inner_text().strip()
    assert said
    assert not said.startswith("{")
    row = running.ledger()[-1]
    assert (row["dialect"], bool(row["stream"]), row["outcome"]) == (dialect, streamed, "completed")

    environment = {**os.environ, "SLUICEGATE_KEY": running.key("ci")}
    for language, command in (("curl", ["bash"]), ("Python", [sys.executable, "-"])):
        page.get_by_text(language, exact=True).click()
        code = page.get_by_label(f"{language} code", exact=True).inner_text()
        assert "sk-sg" not in code
        ran = subprocess.run(
            command, input=code, env=environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert ran.returncode == 0, ran.stderr
        assert said[:20] in ran.stdout if language == "Python" else ran.stdout, ran.stdout
    page.get_by_text("Node", exact=True).click()
    script = tmp_path / "call.mjs"
    script.write_text(page.get_by_label("Node code", exact=True).inner_text())
    node = Path(sys.executable).parent / "node"
    subprocess.run([node, "--check", script], check=True, timeout=30)


def test_stopping_it_cancels_upstream(page: Page, running: Live, provider: Provider) -> None:
    opened(page, "?route=chat&app=indexer&dialect=openai")
    provider.behave(Behaviour(gap_s=0.5))
    send(page)
    side = answer(page, "chat, as the route decides")
    expect(side.get_by_text("Answering")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    provider.forget()
    expect(side.get_by_text(re.compile("Client left|Stopped by you")).first).to_be_visible()
    expect(side.get_by_text("Client left")).to_be_visible()
    assert running.ledger()[-1]["outcome"] == "client_gone"


def test_a_refusal_says_which_limit_and_when_to_try_again(context: BrowserContext) -> None:
    page = context.new_page()  # Chromium tells its console of every answer of 400 and above: this one is wanted
    opened(page, "?route=chat&app=poor&dialect=openai")
    send(page)
    side = answer(page, "chat, as the route decides")
    expect(side.get_by_text("Completed")).to_be_visible()
    send(page)
    refusal = side.get_by_role("alert")
    expect(refusal).to_contain_text("429")
    expect(refusal).to_contain_text("few")
    expect(refusal).to_contain_text(re.compile("try again in [0-9]+ (min|s)"))
    expect(figure(side, "Cost")).to_contain_text("unknown: nothing went upstream")


def test_http_routes_take_any_request(page: Page, running: Live) -> None:
    opened(page, "?route=crm&app=indexer")
    page.get_by_label("Path").fill("/crm/customers?limit=2")
    send(page)
    side = answer(page, "crm, as the route decides")
    expect(side.get_by_text("Completed")).to_be_visible()
    assert running.ledger()[-1]["route"] == "crm"
    opened(page, "?route=wiki&app=indexer")
    expect(page.get_by_text("claims the host")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("^Send"))).to_be_disabled()
    expect(page.get_by_label("curl code", exact=True)).to_contain_text("wiki.internal")


def test_its_key_is_in_memory_alone_and_no_cookie_goes_along(page: Page, running: Live, provider: Provider) -> None:
    opened(page, "?route=chat&app=indexer&dialect=openai")
    with page.expect_request(lambda request: "/openai/v1/" in request.url) as sent:
        send(page)
    headers = sent.value.all_headers()
    assert "cookie" not in headers
    key = headers["authorization"].removeprefix("Bearer ")
    expect(answer(page, "chat, as the route decides").get_by_text("Completed")).to_be_visible()
    kept = page.evaluate(
        "JSON.stringify([localStorage, sessionStorage, document.cookie, location.href, document.body.innerHTML])"
    )
    assert key not in kept
    assert httpx2.get(running.url + "/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == 200
