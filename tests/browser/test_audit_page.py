"""The audit log in a real browser: who, what, from where, before and after; filters in the address; tampering shown."""

import json
import re

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import text

from gateway.settings import Settings
from gateway.store.database import make_engine
from tests.browser.looking import ready, wrong_with
from tests.support.live import Live

pytestmark = [pytest.mark.timeout(120), pytest.mark.serial]


def test_each_change_is_shown_with_its_difference(page: Page, running: Live) -> None:
    running.api.post("/api/v1/teams", json={"name": "audited"}).raise_for_status()
    running.api.patch("/api/v1/teams/audited", json={"name": "renamed"}).raise_for_status()
    page.goto("/console/audit")
    ready(page)
    row = page.get_by_role("row", name=re.compile("Update team audited"))
    expect(row).to_contain_text("127.0.0.1")
    expect(row).to_contain_text("name")
    row.click()
    expect(page).to_have_url(re.compile(r"/console/audit/\d+"))
    drawer = page.get_by_role("complementary", name="Audit entry")
    expect(drawer.locator("dd[data-side=before]")).to_have_text("before: audited")
    expect(drawer.locator("dd[data-side=after]")).to_have_text("after: renamed")
    assert not wrong_with(page)
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile(r"/console/audit$"))

    page.get_by_role("button", name="Add filter").click()
    page.get_by_label("What").first.click()
    page.get_by_role("option", name="Name").click()
    page.get_by_label("Is").fill("audited")
    page.get_by_role("button", name="Show these entries").click()
    expect(page).to_have_url(re.compile(r"/console/audit\?name=audited"))
    expect(page.locator("tbody tr[data-id]")).to_have_count(2)

    with page.expect_download() as saving:
        page.get_by_role("link", name="Export as JSON lines").click()
    lines = [json.loads(line) for line in saving.value.path().read_text().splitlines()]
    assert [each["action"] for each in lines] == ["create", "update"]
    page.goto("/console/audit?actor=user:nobody")
    ready(page)
    expect(page.get_by_text("No entry fits these filters")).to_be_visible()


def test_the_log_is_verified_and_a_forged_entry_shown(page: Page, running: Live) -> None:
    page.goto("/console/audit")
    ready(page)
    page.get_by_role("button", name="Verify the log").click()
    expect(page.get_by_role("status").filter(has_text="each as it was written")).to_be_visible()
    assert not wrong_with(page)
    engine = make_engine(Settings(data=running.data).database_url)
    try:
        with engine.begin() as connection:
            connection.execute(text("UPDATE audit_entry SET actor = 'user:' || actor WHERE seq = 3"))
        page.get_by_role("button", name="Verify the log").click()
        expect(page.get_by_text("entry 3 is not as it was written")).to_be_visible()
        page.get_by_role("status").get_by_role("link", name="Entry 3").click()
        expect(page).to_have_url(re.compile(r"/console/audit/3"))
        assert not wrong_with(page)
    finally:
        with engine.begin() as connection:
            connection.execute(text("UPDATE audit_entry SET actor = substr(actor, 6) WHERE seq = 3"))
        engine.dispose()
