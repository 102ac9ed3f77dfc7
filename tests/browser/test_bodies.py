"""Recorded bodies in a real browser: turned on at the route, read in the drawer, erased; what is missing says why."""

import json
import os
from pathlib import Path

import httpx2
import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import call
from tests.browser.looking import ready, wrong_with
from tests.support.live import Live

pytestmark = [pytest.mark.timeout(150), pytest.mark.serial]

PICTURES = Path(os.environ["SLUICEGATE_PICTURES"]) if "SLUICEGATE_PICTURES" in os.environ else None
"""Where to leave screenshots; none are made by default."""
ARABIC = "اكتب إلى bob@example.com من فضلك"


def pictures(name: str) -> Path | None:
    return None if PICTURES is None else PICTURES / name


def ask(running: Live, text: str, *, stream: bool = False) -> str:
    messages = [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": [{"type": "text", "text": text}, {"type": "text", "text": ARABIC}]},
    ]
    answer = httpx2.post(
        running.url + "/v1/chat/completions",
        headers={"authorization": f"Bearer {running.key('ci')}"},
        json={"model": "chat", "max_tokens": 64, "messages": messages, "stream": stream},
        timeout=10,
    )
    assert answer.status_code == 200
    request_id: str = answer.headers["x-request-id"]
    running.row(request_id)
    return request_id


def test_recording_is_turned_on_read_and_erased(page: Page, context: BrowserContext, running: Live) -> None:
    before = call(running, running.key("ci")).headers["x-request-id"]
    running.row(before)
    page.goto(f"/console/requests/{before}")
    ready(page)
    drawer = page.get_by_role("complementary", name="Request")
    expect(drawer).to_contain_text("Not recorded: off for this route")
    drawer.get_by_role("link", name="where the route is").click()

    route = page.get_by_role("complementary", name="Route chat")
    expect(route).to_contain_text("no word of a request or answer is written anywhere")
    route.get_by_role("button", name="Record bodies").click()
    form = page.get_by_role("dialog")
    expect(form).to_contain_text("will lie on this gateway's disk")
    form.get_by_label("Kept for").fill("3")
    assert not wrong_with(page, pictures=pictures("form"))
    form.get_by_label("Also taken out").fill("ACME-[0-9]+")
    form.get_by_role("button", name="Record from now on").click()
    expect(route).to_contain_text("requests and answers")
    expect(route).to_contain_text("3 days")
    assert running.api.get("/api/v1/routes/chat").json()["capture"]["redact"] == ["ACME-[0-9]+"]
    assert not wrong_with(page, pictures=pictures("route"))

    plain = ask(running, "What is order ACME-4711? Card 4111 1111 1111 1111.")
    streamed = ask(running, "Stream, please.", stream=True)
    running.until(lambda: recorded(running, plain) and recorded(running, streamed), 10)
    page.goto(f"/console/requests/{plain}")
    ready(page)
    drawer.get_by_role("button", name="Show request and answer").click()
    request = drawer.get_by_role("region", name="Request")
    expect(request).to_contain_text("What is order [redacted]? Card [card].")
    expect(request).to_contain_text("[email]")
    expect(request).to_contain_text("3 redacted")
    drawer.get_by_role("region", name="Answer").scroll_into_view_if_needed()
    assert not wrong_with(page, pictures=pictures("plain"))
    request.get_by_text("Raw").click()
    shown = request.locator("pre").inner_text()
    assert json.loads(shown)["messages"][0] == {"role": "system", "content": "You are terse."}
    expect(drawer.get_by_role("region", name="Answer").get_by_role("button", name="Copy Answer")).to_be_visible()

    page.goto(f"/console/requests/{streamed}")
    ready(page)
    drawer.get_by_role("button", name="Show request and answer").click()
    answer = drawer.get_by_role("region", name="Answer")
    expect(answer.locator("pre")).not_to_contain_text("data:")
    assert answer.locator("pre").inner_text().strip()
    answer.locator("pre").scroll_into_view_if_needed()
    assert not wrong_with(page, pictures=pictures("streamed"))
    answer.get_by_text("Raw").click()
    expect(answer.locator("pre")).to_contain_text("data: ")

    page.goto("/console/routes/chat")
    ready(page)
    route.get_by_role("button", name="Erase what is recorded").click()
    page.get_by_role("button", name="Erase them").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    other = context.new_page()  # asking for what is not there is an error to the browser's console
    other.goto(f"/console/requests/{plain}")
    other.get_by_role("button", name="Show request and answer").click()
    expect(other.get_by_role("complementary", name="Request")).to_contain_text("No bodies of this request")
    route.get_by_role("button", name="Stop recording").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop recording").click()
    expect(route).to_contain_text("no word of a request or answer is written anywhere")


def recorded(running: Live, request_id: str) -> bool:
    return running.api.get(f"/api/v1/ledger/{request_id}/bodies").status_code == 200
