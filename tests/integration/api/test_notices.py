"""Notices on their way: a mail server, webhooks, budgets at their thresholds, keepers that die."""

import base64
import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support import live, mailbox
from tests.support.certificates import Certificates, make_certificates
from tests.support.provider import Provider

KEY = "sk-test-notices-0123456789"
TEAM_MAIL, OWNER_MAIL, OPS_MAIL = "search@example.com", "ai@example.com", "ops@example.com"
WITHIN_S = 15.0


def yaml_for(provider_url: str) -> str:
    """Each call uses 12 input and 6 output tokens or some such: what counts is that ten of them are a budget."""
    return f"""
providers:
  - {{name: vendor, dialect: openai, base_url: "{provider_url}/v1"}}
routes:
  - {{name: chat, targets: [{{provider: vendor, model: m}}], max_output_tokens: 1, service: {{owner: {OWNER_MAIL}}}}}
  - {{name: other, targets: [{{provider: vendor, model: m}}], service: {{owner: Mia}}}}
teams:
  - {{name: search, apps: [{{name: indexer, routes: [chat], keys: [{{name: ci, value: {KEY}}}]}}]}}
"""


class Post:
    """What the three ways of delivery need, and how they are set."""

    def __init__(self, stack: ExitStack, certificates: Certificates) -> None:
        self.mail = stack.enter_context(mailbox.mailbox("starttls", certificates))
        self.hook = stack.enter_context(mailbox.receiver())
        self.platform_hook = stack.enter_context(mailbox.receiver())
        self.platform_secret = "whsec_" + base64.b64encode(b"p" * 32).decode()
        self.env = {
            "SLUICEGATE_SMTP": f"127.0.0.1:{self.mail.port}",
            "SSL_CERT_FILE": str(certificates.authority),
            "SLUICEGATE_SMTP_USER": mailbox.USER,
            "SLUICEGATE_SMTP_PASSWORD": mailbox.PASSWORD,
            "SLUICEGATE_SMTP_FROM": "gateway@example.com",
            "SLUICEGATE_NOTICE_EMAILS": json.dumps([OPS_MAIL]),
            "SLUICEGATE_NOTICE_WEBHOOK": self.platform_hook.url,
            "SLUICEGATE_NOTICE_WEBHOOK_SECRET": self.platform_secret,
            "SLUICEGATE_PUBLIC_URL": "https://ai.example.com",
        }


@pytest.fixture
def post(tmp_path: Path) -> Iterator[Post]:
    with ExitStack() as stack:
        yield Post(stack, make_certificates(tmp_path / "mail"))


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as found:
        yield found


def name_contacts(running: live.Live, post: Post) -> str:
    """The team's address, webhook and secret."""
    contact = {"emails": [TEAM_MAIL], "webhook": post.hook.url}
    running.api.put("/api/v1/teams/search/contact", json=contact).raise_for_status()
    return str(running.api.post("/api/v1/teams/search/contact/secret").json()["secret"])


def call(running: live.Live) -> httpx2.Response:
    return httpx2.post(
        f"{running.url}/v1/chat/completions",
        json={"model": "chat", "max_tokens": 1, "messages": [{"role": "user", "content": "hello"}]},
        headers={"authorization": f"Bearer {KEY}"},
        timeout=10,
    )


def tokens_of_a_call(running: live.Live) -> int:
    answer = call(running)
    usage = answer.json()["usage"]
    return int(usage["total_tokens"])


def notices(running: live.Live) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = running.api.get("/api/v1/notices").json()["items"]
    return items


def signature(secret: str, sent: mailbox.Post) -> str:
    """As a receiver works it out (standardwebhooks.com)."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{sent.headers['webhook-id']}.{sent.headers['webhook-timestamp']}.".encode() + sent.content
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def test_a_budget_is_told_of_once_a_threshold_by_mail_and_signed_webhook(
    tmp_path: Path, provider: Provider, post: Post, database_url: str
) -> None:
    with live.gateway(tmp_path, yaml_for(provider.url), workers=2, database_url=database_url, env=post.env) as running:
        secret = name_contacts(running, post)
        each = tokens_of_a_call(running)
        limit = {
            "name": "tokens", "scope": {"app": "indexer"}, "metric": "total_tokens", "window": "lifetime",
            "at_most": each * 10,
        }  # fmt: skip
        running.api.post("/api/v1/limits", json=limit).raise_for_status()
        running.until(lambda: call(running).status_code == 200, 5)

        def told() -> list[int]:
            return sorted(each["document"]["threshold"] for each in notices(running) if each["kind"] == "budget")

        def call_until(threshold: int) -> None:
            """Calls until all that is left of the budget is less than the threshold leaves, or a call is refused."""
            while running.api.get("/api/v1/limits/tokens/state").json()["used"] < each * threshold / 10:
                if call(running).status_code == 429:
                    break
            running.until(lambda: threshold in told(), WITHIN_S)

        call_until(50)
        running.until(lambda: len(post.mail.mails) == 1 and len(post.hook.posts) == 1, WITHIN_S)
        (mail,), (hook,) = post.mail.mails, post.hook.posts
        assert (mail["To"], mail["From"]) == (TEAM_MAIL, "gateway@example.com")
        assert "50 %" in str(mail["Subject"])
        assert "https://ai.example.com/console/usage" in str(mail.get_payload())
        assert hook.body["type"] == "notice.budget"
        assert (hook.body["data"]["limit"], hook.body["data"]["threshold"]) == ("tokens", 50)
        assert hook.headers["webhook-signature"] == signature(secret, hook)
        # The keeper dies, and its successor tells nothing twice.
        running.keeper().kill()
        running.until(lambda: running.api.get("/api/v1/limits/tokens/state").status_code == 200, 10)
        call_until(80)
        call_until(100)
        assert call(running).status_code == 429
        running.until(lambda: len(post.mail.mails) == 3 and len(post.hook.posts) == 3, WITHIN_S)
        assert told() == [50, 80, 100]
        assert [each.body["data"]["threshold"] for each in post.hook.posts] == [50, 80, 100]
        assert "used up" in str(post.mail.mails[-1]["Subject"])
        assert len({mail["Message-ID"] for mail in post.mail.mails}) == 3
        # A whole restart tells nothing again.
        assert running.stop() == 0
        running.start()
        assert call(running).status_code == 429
        running.until(lambda: running.api.get("/api/v1/limits/tokens/state").status_code == 200, 10)
        with httpx2.Client() as waiting:
            for _ in range(20):
                waiting.get(running.url + "/readyz")
        assert told() == [50, 80, 100]
        assert (len(post.mail.mails), len(post.hook.posts)) == (3, 3)
        assert all(delivery["state"] == "sent" for notice in notices(running) for delivery in notice["deliveries"])


def test_whoever_decides_is_told_and_then_the_team(tmp_path: Path, provider: Provider, post: Post) -> None:
    with live.gateway(tmp_path, yaml_for(provider.url), workers=1, env=post.env) as running:
        name_contacts(running, post)
        token = running.api.post("/api/v1/tokens", json={"role": "team-member", "team": "search"}).json()["token"]
        body = {"app": "search.answers", "new_app": True, "routes": ["chat", "other"], "reason": "because\nof tests"}
        with httpx2.Client(base_url=running.url, headers={"authorization": f"Bearer {token}"}) as member:
            request = member.post("/api/v1/access-requests", json=body).json()
            running.until(lambda: len(post.mail.mails) == 2 and len(post.platform_hook.posts) == 1, WITHIN_S)
            assert sorted(post.mail.to) == [OWNER_MAIL, OPS_MAIL]
            text = str(post.mail.mails[0].get_payload())
            assert f"https://ai.example.com/console/access-requests/{request['id']}" in text
            (hook,) = post.platform_hook.posts
            assert hook.headers["webhook-signature"] == signature(post.platform_secret, hook)
            assert hook.body["data"]["routes"] == ["chat", "other"]
            # Whom the platform has told is not the team's to read.
            assert member.get("/api/v1/notices").json()["items"][0]["deliveries"] == []
            denied = running.api.post(f"/api/v1/access-requests/{request['id']}/deny", json={"reason": "not yet"})
            denied.raise_for_status()
            running.until(lambda: TEAM_MAIL in post.mail.to and len(post.hook.posts) == 1, WITHIN_S)
            assert post.hook.posts[0].body["data"]["decision_reason"] == "not yet"
            assert len(post.platform_hook.posts) == 1


def test_what_cannot_be_delivered_is_tried_again_under_the_same_id(
    tmp_path: Path, provider: Provider, post: Post
) -> None:
    post.mail.refusing = True
    post.hook.statuses = [503, 302]
    with live.gateway(tmp_path, yaml_for(provider.url), workers=1, env=post.env) as running:
        name_contacts(running, post)
        body = {"app": "indexer", "routes": ["other"], "reason": "a test"}
        request = running.api.post("/api/v1/access-requests", json=body).json()
        running.api.post(f"/api/v1/access-requests/{request['id']}/approve", json={}).raise_for_status()

        def delivery(channel: str) -> dict[str, Any]:
            approved = next(each for each in notices(running) if each["kind"] == "access-approved")
            return next(each for each in approved["deliveries"] if each["channel"] == channel)

        running.until(lambda: delivery("email")["attempts"] >= 1 and delivery("email")["error"], WITHIN_S)
        assert "451" in delivery("email")["error"]
        assert delivery("email")["state"] == "waiting"
        post.mail.refusing = False
        running.until(lambda: delivery("webhook")["state"] == "sent", WITHIN_S)
        assert len({each.headers["webhook-id"] for each in post.hook.posts}) == 1
        assert len(post.hook.posts) == 3
        running.until(lambda: delivery("email")["state"] == "sent", 2 * WITHIN_S)
        assert post.mail.to.count(TEAM_MAIL) == 1


def test_two_gateways_on_one_database_tell_everything_once(
    tmp_path: Path, provider: Provider, post: Post, postgres_url: str
) -> None:
    """Each has a keeper that sees the same budgets, the same ends of access, and the same deliveries."""
    (tmp_path / "second").mkdir()
    with (
        live.gateway(tmp_path, yaml_for(provider.url), database_url=postgres_url, env=post.env) as first,
        live.beside(first, tmp_path / "second", env=post.env) as second,
    ):
        both = (first, second)
        name_contacts(first, post)
        bound = tokens_of_a_call(first) * 8
        limit = {
            "name": "tokens", "scope": {"app": "indexer"}, "metric": "total_tokens", "window": "lifetime",
            "at_most": bound,
        }  # fmt: skip
        first.api.post("/api/v1/limits", json=limit).raise_for_status()
        for running in both:
            running.until(lambda running=running: running.api.get("/api/v1/limits/tokens/state").is_success, 5)

        def told() -> Counter[str]:
            items = first.api.get("/api/v1/notices", params={"limit": 1000}).json()["items"]
            return Counter(str(item["document"].get("threshold", item["kind"])) for item in items)

        for threshold in (50, 80, 100):
            for number in range(200):
                share = first.api.get("/api/v1/limits/tokens/state").json()["used"] / bound
                refused = share * 100 < threshold and call(both[number % 2]).status_code == 429
                if share * 100 >= threshold or (refused and share > 0.8):
                    break
                time.sleep(0.1 if refused else 0)  # the other node holds what is left, for a moment
            first.until(lambda: told()[str(threshold)] == 1, WITHIN_S, lambda: str(told()))  # noqa: B023
        # Requests that are asked for through one, decided through the other, and that end by themselves.
        soon = (datetime.now(UTC) + timedelta(seconds=10)).isoformat()
        for number in range(6):
            body = {"app": f"new-{number}", "new_app": True, "team": "search", "routes": ["other"], "reason": "a test"}
            request = both[number % 2].api.post("/api/v1/access-requests", json=body).json()
            approval = both[1 - number % 2].api.post(
                f"/api/v1/access-requests/{request['id']}/approve", json={"expires_at": soon}
            )
            approval.raise_for_status()

        access = {"access-requested": 6, "access-approved": 6, "access-expired": 6}
        first.until(lambda: told() == {**access, "50": 1, "80": 1, "100": 1}, 2 * WITHIN_S, lambda: str(told()))

        def settled() -> bool:
            return all(sent["state"] == "sent" for notice in notices(first) for sent in notice["deliveries"])

        first.until(settled, WITHIN_S)
        time.sleep(2)  # whoever would tell once more has had the time
        ids = Counter(mail["Message-ID"] for mail in post.mail.mails)
        assert set(ids.values()) == {1}
        # The team's address hears of 12 decisions and ends and 3 thresholds, the platform's of 6 requests.
        assert Counter(post.mail.to) == {TEAM_MAIL: 15, OPS_MAIL: 6}
        hooks = Counter(sent.headers["webhook-id"] for sent in post.hook.posts)
        assert (len(hooks), set(hooks.values())) == (15, {1})
        assert len(post.platform_hook.posts) == 6
        assert told() == {**access, "50": 1, "80": 1, "100": 1}
