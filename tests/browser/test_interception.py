"""Interception in a real browser: without an agent, armed and not, rules made and changed, the authority."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.looking import ready, wrong_with
from tests.support.fake_agent import FakeAgent
from tests.support.live import Live

pytestmark = [pytest.mark.timeout(120), pytest.mark.serial]

RULE = {
    "name": "openai-direct",
    "destinations": {"hosts": ["api.openai.com"], "cidrs": [], "ports": [443]},
    "mode": "govern",
    "app": "indexer",
}


@pytest.fixture
def agent(running: Live) -> Iterator[FakeAgent]:
    with FakeAgent(running.data / "agent.sock") as agent:
        yield agent


@pytest.fixture(autouse=True)
def tidy(running: Live) -> Iterator[None]:
    yield
    running.api.delete("/api/v1/authority")
    for rule in running.api.get("/api/v1/interception-rules").json()["items"]:
        running.api.delete(f"/api/v1/interception-rules/{rule['id']}")


def test_without_an_agent_it_says_what_is_missing(page: Page, tmp_path: Path) -> None:
    page.goto("/console/interception")
    ready(page)
    expect(page.get_by_role("note")).to_contain_text("sudo sluicegate service start --agent")
    expect(page.get_by_text("No rule catches anything")).to_be_visible()
    assert not wrong_with(page, "/console/interception", pictures=tmp_path)


def test_a_rule_is_made_changed_and_removed(page: Page, running: Live) -> None:
    page.goto("/console/interception")
    page.get_by_role("button", name="Add a rule").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("claude-direct")
    dialog.get_by_label("Connections to these hosts").fill("api.anthropic.com, api.openai.com")
    dialog.get_by_text("Of whom: only some connections").click()
    dialog.get_by_label("Of users").fill("batch")
    dialog.get_by_text("TLS, what no route claims").click()
    dialog.get_by_label("Callers that need no key").fill("unit=indexer.service app=indexer")
    assert not wrong_with(page)
    dialog.get_by_role("button", name="Add claude-direct").click()
    drawer = page.get_by_role("complementary", name="Rule")
    expect(drawer).to_contain_text("user batch")
    expect(drawer).to_contain_text("unit=indexer.service app=indexer")
    made = running.api.get("/api/v1/interception-rules/claude-direct").json()
    assert made["destinations"] == {"hosts": ["api.anthropic.com", "api.openai.com"], "cidrs": [], "ports": [80, 443]}
    assert made["sources"]["users"] == ["batch"]

    drawer.get_by_role("button", name="Edit", exact=True).click()
    dialog.get_by_role("combobox", name="Mode").click()
    page.get_by_role("option", name=re.compile("^Deny")).click()
    dialog.get_by_label("Of users").fill("")
    dialog.get_by_role("button", name="Save claude-direct").click()
    expect(drawer).to_contain_text("Deny: refuse connections")
    changed = running.api.get("/api/v1/interception-rules/claude-direct").json()
    assert (changed["mode"], changed["sources"]) == ("deny", None)

    drawer.get_by_role("button", name="Remove").click()
    expect(dialog).to_contain_text("directly, past the gateway")
    dialog.get_by_role("button", name="Remove claude-direct").click()
    expect(page.get_by_text("No rule catches anything")).to_be_visible()


def test_what_is_refused_names_the_field(context: BrowserContext) -> None:
    page = context.new_page()  # Chromium tells its console of every answer of 400 and above: this one is wanted
    page.goto("/console/interception")
    page.get_by_role("button", name="Add a rule").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("odd")
    dialog.get_by_label("And these networks").fill("10.0.0.0/8")
    dialog.get_by_label("Ports").fill("99")
    dialog.get_by_text("TLS, what no route claims").click()
    dialog.get_by_label("Callers that need no key").fill("executable=relative app=indexer")
    dialog.get_by_role("button", name="Add odd").click()
    expect(dialog.get_by_role("alert")).to_contain_text("relative path")


def test_rules_as_they_stand_in_the_kernel(page: Page, running: Live, agent: FakeAgent, tmp_path: Path) -> None:
    for name in ("openai-direct", "claude-direct"):
        assert running.api.post("/api/v1/interception-rules", json={**RULE, "name": name}).status_code == 201
    now = datetime.now(UTC).isoformat()
    agent.armed = {"openai-direct": None, "claude-direct": "no address of api.anthropic.com is known"}
    agent.counts = {
        "openai-direct": {"captured": 1204, "passed": 31, "denied": 2, "bypassed": 0, "unattributed": 1, "open": 7,
                          "last_canary": now, "destinations": ["192.0.2.1/32"]},
    }  # fmt: skip
    agent.standing = {
        "capturing": True,
        "canaries": [{"path": "local-v4", "last_well": now, "trouble": None}],
        "repairs": [{"at": now, "what": "somebody flushed the table sluicegate"}],
    }
    agent.flows = [
        {"rule": "openai-direct", "client": "192.0.2.9", "destination": "192.0.2.1", "port": 443, "protocol": "tls",
         "server_name": "api.openai.com", "encrypted_hello": False, "terminated": False, "bytes_in": 2048,
         "bytes_out": 90_000, "outcome": "passed", "process": "curl", "user": "mia", "container": None,
         "started_at": now, "seconds": 3.5},
    ]  # fmt: skip
    page.goto("/console/interception")
    ready(page)
    expect(page.get_by_text("Capturing")).to_be_visible()
    armed = page.get_by_role("row", name=re.compile("openai-direct"))
    expect(armed).to_contain_text("Armed")
    expect(armed).to_contain_text("1,204")
    expect(page.get_by_role("row", name=re.compile("claude-direct"))).to_contain_text("Not armed")
    expect(page.get_by_text("somebody flushed the table")).to_be_visible()
    agent.counts["openai-direct"]["captured"] = 1300
    expect(armed).to_contain_text("1,300")  # live
    assert not wrong_with(page, pictures=tmp_path / "rules")
    armed.click()
    drawer = page.get_by_role("complementary", name="Rule")
    expect(drawer).to_contain_text("api.openai.com, passed")
    expect(drawer).to_contain_text("192.0.2.1/32")
    assert not wrong_with(page, pictures=tmp_path / "drawer")
    drawer.get_by_role("link", name="All of them").click()
    expect(page).to_have_url(re.compile("connections.*rule=openai-direct"))
    expect(drawer).to_have_count(0)
    expect(page.get_by_role("row", name=re.compile("api.openai.com"))).to_contain_text("curl mia")
    assert not wrong_with(page, pictures=tmp_path / "connections")
    page.goto("/console/interception/rules/claude-direct")
    expect(page.get_by_role("complementary", name="Rule")).to_contain_text("No address of api.anthropic.com is known.")


def test_the_authority_is_made_downloaded_renewed_and_removed(page: Page, running: Live, tmp_path: Path) -> None:
    page.goto("/console/interception/authority")
    ready(page)
    expect(page.get_by_role("button", name="Make the authority")).to_be_disabled()
    rule = {**RULE, "tls": "terminate"}
    assert running.api.post("/api/v1/interception-rules", json=rule).status_code == 201
    page.reload()
    page.get_by_role("button", name="Make the authority").click()
    expect(page.get_by_role("dialog")).to_contain_text("api.openai.com")
    page.get_by_role("dialog").get_by_role("button", name="Make it").click()
    expect(page.get_by_text("Valid for all that rules terminate")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the certificate (PEM)").click()
    assert download.value.suggested_filename == "sluicegate-ca.pem"
    assert Path(download.value.path()).read_text() == running.api.get("/api/v1/authority").json()["certificate"]
    page.get_by_text("Node.js", exact=True).click()
    expect(page.get_by_label("commands for Node.js", exact=True)).to_contain_text("NODE_EXTRA_CA_CERTS")
    assert not wrong_with(page, pictures=tmp_path)

    hosts = {"hosts": ["api.openai.com", "api.mistral.ai"], "cidrs": [], "ports": [443]}
    running.api.patch("/api/v1/interception-rules/openai-direct", json={"destinations": hosts})
    page.reload()
    expect(page.get_by_role("note")).to_contain_text("api.mistral.ai")
    page.get_by_role("button", name="Renew it").click()
    page.get_by_role("dialog").get_by_role("button", name="Renew it").click()
    expect(page.get_by_text("Valid for all that rules terminate")).to_be_visible()
    page.get_by_role("button", name="Remove it").click()
    expect(page.get_by_role("dialog")).to_contain_text("passes through")
    page.get_by_role("dialog").get_by_role("button", name="Remove the authority").click()
    expect(page.get_by_text("There is no certificate authority")).to_be_visible()
