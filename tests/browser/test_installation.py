"""Health, settings and backups in a real browser."""

import re
import tarfile
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.looking import ready, wrong_with
from tests.support.live import Live

pytestmark = [pytest.mark.timeout(120), pytest.mark.serial]


def test_health_names_what_is_wrong_and_what_mends_it(page: Page, running: Live, tmp_path: Path) -> None:
    running.data.chmod(0o755)
    try:
        page.goto("/console/health")
        parts = page.get_by_role("region", name="Parts")
        expect(parts).to_contain_text("Keeper")
        found = page.get_by_role("region", name="What the doctor finds")
        expect(found).to_contain_text(f"chmod 0700 {running.data}", timeout=60_000)
        expect(found).to_contain_text(re.compile("[0-9]+ to look at"))
        expect(found.get_by_role("listitem").first).to_contain_text(re.compile("To look at|Broken"))  # the worst first
        ready(page)
        assert not wrong_with(page, pictures=tmp_path)
    finally:
        running.data.chmod(0o700)
    page.get_by_role("button", name="Examine it again").click()
    expect(found).not_to_contain_text("chmod 0700", timeout=60_000)
    expect(page.get_by_role("region", name="Versions")).to_contain_text("SQLite")


def test_settings_show_who_said_what(page: Page, running: Live, tmp_path: Path) -> None:
    page.goto("/console/settings")
    ready(page)
    row = page.get_by_role("row", name=re.compile("^listen"))
    expect(row).to_contain_text(f"127.0.0.1:{running.port}")
    expect(row).to_contain_text("Option")
    expect(page.get_by_role("row", name=re.compile("proxy_listen"))).to_have_count(0)
    page.get_by_role("switch", name="Defaults too").click()
    expect(page.get_by_role("row", name=re.compile("proxy_listen"))).to_contain_text("Default")
    assert not wrong_with(page, pictures=tmp_path)


def test_a_backup_is_downloaded(page: Page, tmp_path: Path) -> None:
    page.goto("/console/backups")
    ready(page)
    with page.expect_download(timeout=60_000) as download:
        page.get_by_role("link", name="Download a backup now").click()
    with tarfile.open(download.value.path()) as archive:
        assert "manifest.json" in archive.getnames()
    page.reload()
    expect(page.get_by_role("region", name="Downloaded from here")).to_contain_text("user:admin")
    assert not wrong_with(page, pictures=tmp_path)
