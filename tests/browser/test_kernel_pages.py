"""Kernel and Discovery in a real browser: without an agent, and with one that measures and finds without a kernel."""

import math
import re
import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import call, sign_in_as
from tests.browser.looking import ready, wrong_with
from tests.support.fake_agent import FakeAgent, finding, second
from tests.support.live import Live

pytestmark = [pytest.mark.timeout(90), pytest.mark.serial]

CHAT = ("chat", "mock/gpt-mock")
FEATURES = {
    "routes": None,
    "callers": None,
    "denials": None,
    "discovery": None,
    "trace": "bcc is not on this host (No module named 'bcc'): apt-get install python3-bpfcc",
}


@pytest.fixture
def agent(running: Live) -> Iterator[FakeAgent]:
    with FakeAgent(running.data / "agent.sock") as agent:
        agent.send({"type": "probes", "state": "here", "reason": None, "features": FEATURES})
        yield agent


def slow_provider(at_s: float) -> dict[str, object]:
    """A second of a route whose provider takes 200 ms, over a network of 2 ms; seven segments were sent again."""
    swing = 30 * math.sin(at_s / 40)
    return second(
        {
            "rtt": [2.0 + swing / 40] * 8 + [5.0],
            "client_rtt": [0.3] * 5,
            "first_byte": [200.0 + swing] * 3 + [320.0 + swing],
            "client_first_byte": [202.0 + swing] * 3 + [322.0 + swing],
            "gap": [30.0] * 60 + [140.0],
        },
        {"bytes_in": 48_000, "bytes_out": 2_100, "retransmits": 1 if int(at_s) % 9 == 0 else 0},
        open_now=4,
    )


def measure(agent: FakeAgent, seconds: int) -> None:
    """The last so many seconds of two routes, and what the programs cost."""
    now_s = time.time()
    quick = second({"rtt": [0.2], "first_byte": [1.1], "client_first_byte": [1.4]}, {"bytes_in": 900}, open_now=1)
    for back in range(seconds, -1, -1):
        at_s = now_s - back
        agent.measure([CHAT, ("embed", "mock/tiny")], slow_provider(at_s), quick, at_s=at_s)
    tell_costs(agent, 1)


def tell_costs(agent: FakeAgent, times: int) -> None:
    programs = {
        "routes.on_incoming": [0.002 * times, 5_000 * times],
        "callers.on_connect": [0.0001 * times, 40 * times],
    }
    agent.send({"type": "costs", "programs": programs, "lost": {"routes.connections": 3, "discovery.seen": 0}})


def test_kernel_says_what_is_missing_and_what_to_do(page: Page, running: Live) -> None:
    running.row(call(running, running.key("ci")).headers["x-request-id"])
    page.goto("/console/kernel")
    ready(page)
    notice = page.get_by_role("note")
    expect(notice).to_contain_text("not measured")
    expect(notice).to_contain_text("sluicegate doctor")
    row = page.get_by_role("row", name=re.compile("chat → mock.gpt-mock"))
    expect(row).to_contain_text("unknown: not measured")
    row.click()
    drawer = page.get_by_role("complementary", name=re.compile("Kernel figures"))
    expect(drawer).to_contain_text("Too little was measured")
    expect(drawer).to_contain_text("Nothing was measured in this time")
    assert not wrong_with(page, "/console/kernel")


def test_kernel_shows_each_route_and_says_who_is_slow(page: Page, running: Live, agent: FakeAgent) -> None:
    running.row(call(running, running.key("ci")).headers["x-request-id"])
    measure(agent, 240)
    page.goto("/console/kernel")
    ready(page)
    expect(page.get_by_role("note")).to_have_count(0)
    row = page.get_by_role("row", name=re.compile("chat → mock.gpt-mock"))
    expect(row).to_contain_text("indexer")
    bytes_in_s = 48_000 / 1024
    expect(row).to_contain_text(f"{bytes_in_s:.0f} KiB")
    expect(page.get_by_text(re.compile("as of (just now|[12] s ago)"))).to_be_visible()

    # Beneath: what works, what mends the rest, what it costs, what was lost.
    probes = page.get_by_role("region", name="Probes on this node")
    expect(probes).to_contain_text("apt-get install python3-bpfcc; sluicegate service stop --agent")
    expect(probes).to_contain_text("routes.connections 3")
    expect(probes).not_to_contain_text("discovery.seen")
    program = page.get_by_role("row", name=re.compile("routes.on_incoming"))
    expect(program).to_contain_text("400 ns")
    for times in range(2, 12):
        tell_costs(agent, times)
        page.wait_for_timeout(300)
    expect(program).to_contain_text(re.compile(r"0\.[1-9] %|[1-9] %"))

    row.click()
    expect(page).to_have_url(re.compile(r"/console/kernel/chat\?target=mock(%2F|/)gpt-mock"))
    drawer = page.get_by_role("complementary", name=re.compile("Kernel figures"))
    expect(drawer).to_contain_text("The provider takes the time")
    expect(drawer).to_contain_text("The network to the provider loses data")
    for title in ("RTT", "First byte", "Token gap", "Retransmits", "Bytes"):
        expect(drawer.get_by_role("figure", name=title).locator("canvas")).to_be_visible()
    drawer.get_by_text("6 h by minute").click()
    expect(drawer.get_by_role("figure", name="RTT")).to_be_visible()
    assert not wrong_with(page, page.url)
    page.keyboard.press("Escape")
    expect(page).to_have_url(re.compile("/console/kernel$"))


def test_kernel_says_when_only_a_part_is_measured(page: Page, agent: FakeAgent) -> None:
    features = {"routes": "routes.on_socket was not loaded: not permitted"}
    agent.send({"type": "probes", "state": "here", "reason": None, "features": features})
    measured = second({"rtt": [2.0]}, {"bytes_in": 900}, open_now=1)
    measured["g"]["sampled"] = 1
    agent.measure([CHAT], measured)
    page.goto("/console/kernel")
    ready(page)
    expect(page.get_by_role("note")).to_contain_text("Only a part of the kernel's figures is measured")
    row = page.get_by_role("row", name=re.compile("chat → mock.gpt-mock"))
    expect(row).to_contain_text("unknown: not measured: the kernel's list of sockets")
    assert not wrong_with(page, "/console/kernel")


def test_a_finding_comes_is_denied_and_let_go(page: Page, running: Live, agent: FakeAgent) -> None:
    page.goto("/console/discoveries")
    ready(page)
    expect(page.get_by_text("Nobody goes past the gateway")).to_be_visible()
    agent.find(finding(), finding(process="node", executable="/opt/node", host="api.mistral.ai", provider="mistral"))
    expect(page.locator("tbody tr[data-id]")).to_have_count(2, timeout=4_000)  # the feed brings them
    row = page.get_by_role("row", name=re.compile("curl"))
    expect(row).to_contain_text("New")
    row.click()
    drawer = page.get_by_role("complementary", name="Finding")
    expect(drawer).to_contain_text("/usr/bin/curl")
    drawer.get_by_text("Deny", exact=True).click()
    drawer.get_by_label("For how long").first.click()
    page.get_by_role("option", name="A day").click()
    drawer.get_by_role("button", name="Deny openai for /usr/bin/curl").click()
    number = page.url.rsplit("/", 1)[1]
    expect(drawer.get_by_role("status")).to_contain_text(f"discovery-{number}")
    expect(drawer).to_contain_text("in force")
    expect(drawer).to_contain_text("for another 23 h")
    expect(row).to_contain_text("Denied")
    agent.until(lambda: len(agent.denials) == 1, 2)
    agent.refused(agent.denials[0]["id"], 3)
    expect(drawer).to_contain_text(re.compile("Connections refused\\s*3"))
    drawer.get_by_role("button", name="Undo: observe").click()
    expect(row).to_contain_text("Observed")
    agent.until(lambda: not agent.denials, 2)

    # Governing makes a rule and charges an app.
    drawer.get_by_text("Govern", exact=True).click()
    drawer.get_by_role("button", name="Govern /usr/bin/curl").click()
    expect(drawer).to_contain_text("Interception rule")
    assert running.api.get(f"/api/v1/discoveries/{number}").json()["rule"] == f"discovery-{number}"
    running.api.post(f"/api/v1/discoveries/{number}/action", json={"action": "ignore"}).raise_for_status()
    expect(row).to_contain_text("Ignored")
    assert not wrong_with(page, page.url)
    page.keyboard.press("Escape")

    # Filters stand in the address.
    page.goto("/console/discoveries?state=new&provider=mistral")
    ready(page)
    expect(page.locator("tbody tr[data-id]")).to_have_count(1)
    page.get_by_role("button", name="Take away the filter Provider").click()
    expect(page).to_have_url(re.compile(r"/discoveries\?state=new$"))
    assert not wrong_with(page, "/console/discoveries")


def test_discovery_says_why_nothing_can_be_found(page: Page, running: Live) -> None:
    running.until(lambda: running.api.get("/api/v1/discoveries").json()["reason"] is not None, 3)
    page.goto("/console/discoveries")
    ready(page)
    expect(page.get_by_role("note")).to_contain_text("Nothing new is found at present")
    page.goto("/console/discoveries?user=nobody")
    expect(page.get_by_text("No finding fits these filters")).to_be_visible()


def test_a_viewer_sees_and_does_not_decide(chromium: Browser, running: Live, agent: FakeAgent) -> None:
    agent.find(finding(process="wget", executable="/usr/bin/wget"))
    running.until(lambda: "wget" in running.api.get("/api/v1/discoveries").text, 4)
    viewer = {"name": "looker", "role": "viewer", "password": "a viewer's own password"}
    running.api.post("/api/v1/users", json=viewer).raise_for_status()
    context = chromium.new_context(base_url=running.url)
    page = context.new_page()
    sign_in_as(page, viewer["name"], viewer["password"])
    page.get_by_role("link", name="Discovery").click()
    page.get_by_role("link", name="wget").click()
    drawer = page.get_by_role("complementary", name="Finding")
    expect(drawer).to_contain_text("Your role (viewer) sees findings and decides nothing")
    expect(drawer.get_by_role("button", name="Govern /usr/bin/wget")).to_be_disabled()
    context.close()


def test_the_palette_goes_to_both(page: Page) -> None:
    page.goto("/console/")
    ready(page)
    for words, heading in (("Discov", "Discovery"), ("Telem", "Telemetry")):
        page.keyboard.press("Control+k")
        page.get_by_role("textbox", name="Search").fill(words)
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1, name=heading)).to_be_visible()


def test_denials_show_their_limits_and_are_removed(page: Page, running: Live, agent: FakeAgent) -> None:
    denial = {"executable": "/usr/bin/curl", "provider": "openai"}
    limit = {"connections": 100, "per": "minute"}
    made = running.api.post(
        "/api/v1/denials", json={**denial, "name": "few", "limit": limit, "expires_in": "2h"}
    ).json()
    more = {"user": "root", "hosts": ["api.mistral.ai"], "limit": {"bytes": 10_000_000, "per": "hour"}}
    assert running.api.post("/api/v1/denials", json={**more, "name": "light"}).status_code == 201
    assert running.api.post("/api/v1/denials", json={**denial, "name": "none"}).status_code == 201
    agent.until(lambda: len(agent.denials) == 3)
    agent.refused(made["id"], 0, used=60, dropped_bytes=0, resets_at_s=time.time() + 45)
    page.goto("/console/discoveries")
    page.get_by_role("navigation", name="Discovery").get_by_text("Denials").click()
    ready(page)
    rows = page.locator("tbody tr[data-id]")
    expect(rows).to_have_count(3)
    few = page.locator("tr[data-id=few]")
    expect(few).to_contain_text("60 of 100 connections a minute")
    expect(few).to_contain_text("Within limit")
    expect(few.get_by_role("meter")).to_have_attribute("aria-valuenow", "60")
    expect(page.locator("tr[data-id=light]")).to_contain_text(re.compile(r"of 9\.5 MiB an hour"))
    expect(page.locator("tr[data-id=none]")).to_contain_text("nothing may pass")
    expect(page.locator("tr[data-id=none]")).to_contain_text("Refusing")
    agent.refused(made["id"], 7, used=100, dropped_bytes=0, resets_at_s=time.time() + 30)
    expect(few).to_contain_text("Refusing", timeout=4_000)
    few.click()
    drawer = page.get_by_role("complementary", name="Denial")
    expect(drawer).to_contain_text("resets in")
    expect(drawer).to_contain_text("1 h 59 min")
    assert not wrong_with(page, page.url)
    drawer.get_by_role("button", name="Remove this denial").click()
    page.get_by_role("button", name="Remove few").click()
    expect(rows).to_have_count(2)
    agent.until(lambda: len(agent.denials) == 2)


def test_alerts_come_by_themselves_and_are_filtered(page: Page, agent: FakeAgent) -> None:
    page.goto("/console/discoveries/alerts")
    ready(page)
    expect(page.get_by_text("No alert in this range")).to_be_visible()
    who = {"pid": 7, "process": "curl", "executable": "/usr/bin/curl", "uid": 33, "user": "www-data", "cgroup": "/"}
    argv = ["curl", "-s", "https://example.org/" + "x" * 200]
    ran = {**who, "kind": "exec", "at_s": time.time(), "argv": argv, "reason": "a watched process", "count": 1}
    went = {
        **ran,
        "kind": "connect",
        "argv": None,
        "destination": "2001:db8::7",
        "port": 443,
        "refused": True,
        "count": 3,
    }
    agent.send({"type": "alerts", "items": [ran, went]})
    rows = page.locator("tbody tr[data-id]")
    expect(rows).to_have_count(2, timeout=5_000)  # the feed brings them
    expect(rows.first).to_contain_text("[2001:db8::7]:443")
    expect(rows.first).to_contain_text("Refused")
    rows.last.click()
    drawer = page.get_by_role("complementary", name="Alert")
    expect(drawer).to_contain_text("x" * 200)
    assert not wrong_with(page, page.url)
    page.goto("/console/discoveries/alerts?refused=true")
    expect(rows).to_have_count(1)
    page.goto("/console/discoveries/alerts?user=nobody")
    expect(page.get_by_text("No alert fits these filters")).to_be_visible()


def test_coverage_within_tls(page: Page, agent: FakeAgent) -> None:
    page.goto("/console/discoveries/tls")
    ready(page)
    expect(page.get_by_text("Nobody is chosen")).to_be_visible()
    who = {"pid": 7, "process": "curl", "executable": "/usr/bin/curl", "user": "mia", "container": None}
    read = {**who, "state": "covered", "reason": None}
    why = "it speaks HTTP/2, which is not read"
    node = {**who, "pid": 9, "process": "node", "executable": "/opt/node", "state": "http2", "reason": why}
    agent.send({"type": "tls_coverage", "items": [read, {**read, "pid": 8}, node]})
    processes = page.get_by_role("list", name="Chosen processes").get_by_role("listitem")
    expect(processes).to_have_count(2, timeout=4_000)
    expect(processes.first).to_contain_text("2 running")
    expect(processes.last).to_contain_text("It speaks HTTP/2, which is not read.")
    agent.send({"type": "tls_coverage", "items": []})
    expect(processes.last).to_contain_text("has ended", timeout=4_000)
    assert not wrong_with(page, "/console/discoveries/tls")
