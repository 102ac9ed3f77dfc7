"""`docs/app-teams.md` does what it says: its snippets run in their order, and so does the code in the catalogue."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.store.models import now
from gateway.store.notice_delivery import Parcel, signed
from tests.support import live
from tests.support.provider import Provider

GUIDE = Path(__file__).parents[3] / "docs" / "app-teams.md"
SNIPPET = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
DIALECTS = ("openai", "anthropic", "gemini", "mistral", "ollama")


def snippets(*languages: str) -> list[tuple[str, str]]:
    return [(language, code) for language, code in SNIPPET.findall(GUIDE.read_text()) if language in languages]


def yaml_for(url: str) -> str:
    providers = "\n".join(f'  - {{name: {dialect}, dialect: {dialect}, base_url: "{url}"}}' for dialect in DIALECTS)
    routes = "\n".join(f"  - {{name: by-{each}, targets: [{{provider: {each}, model: m}}]}}" for each in DIALECTS)
    names = ", ".join(f"by-{dialect}" for dialect in DIALECTS)
    return f"""
providers:
  - {{name: vendor, dialect: openai, base_url: "{url}/v1"}}
  - {{name: crm, dialect: http, base_url: "{url}"}}
{providers}
routes:
  - {{name: chat, targets: [{{provider: vendor, model: gpt-mock}}]}}
  - {{name: crm, match: {{path: /v2/}}, targets: [{{provider: crm}}]}}
{routes}
teams:
  - name: search
    apps:
      - {{name: indexer, routes: [{names}, crm], keys: [{{name: ci, value: sk-test-guide-0123456789}}]}}
limits:
  - {{name: search-month, scope: {{team: search}}, metric: cost_usd, window: month, at_most: 50, unpriced: admit}}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[live.Live]:
    with (
        Provider() as provider,
        live.gateway(tmp_path_factory.mktemp("guide"), yaml_for(provider.url), workers=1) as gateway,
    ):
        yield gateway


def environment(running: live.Live, **more: str) -> dict[str, str]:
    return {**os.environ, "GATEWAY": running.url, **more}


def run(command: list[str], variables: dict[str, str]) -> str:
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_guides_snippets_run_in_their_order(running: live.Live, tmp_path: Path) -> None:
    """As one shell: what a snippet sets, those after it use. Each curl must succeed."""
    member = running.api.post("/api/v1/tokens", json={"role": "team-member", "team": "search"}).json()["token"]
    pieces = ["set -euo pipefail", 'curl() { command curl --fail-with-body "$@"; }']
    for number, (language, code) in enumerate(snippets("bash", "python")):
        if language == "bash":
            pieces.append(code)
        else:
            script = tmp_path / f"snippet{number}.py"
            script.write_text(code)
            pieces.append(f"{sys.executable} {script}")
    said = run(["bash", "-c", "\n".join(pieces)], environment(running, TOKEN=member, ADMIN_TOKEN=running.token))
    assert '"chat"' in said
    (grant,) = running.api.get("/api/v1/apps/search.answers").json()["granted"]
    assert (grant["route"], grant["expires_at"]) == ("chat", "2099-12-31T00:00:00Z")
    (key,) = running.api.get("/api/v1/keys", params={"app": "search.answers"}).json()["items"]
    assert key["previous_until"] is None
    running.until(lambda: len(running.api.get("/api/v1/ledger?app=search.answers").json()["items"]) == 2, 5)
    assert running.api.get("/api/v1/teams/search/contact").json()["signed"] is True


def test_the_guides_document_is_taken(running: live.Live) -> None:
    ((_, code),) = snippets("yaml")
    answer = running.api.post("/api/v1/apply", content=code, params={"dry_run": "true"})
    assert answer.status_code == 200, answer.text
    assert [change["text"] for change in answer.json()["changes"]] == ["update route chat (service)"]


def test_the_guides_check_of_signatures_is_right() -> None:
    code = next(code for _, code in snippets("python") if "is_from_gateway" in code)
    names: dict[str, Any] = {}
    exec(code, names)
    secret = "whsec_MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="
    parcel = Parcel(
        delivery_id=7, notice_id=3, channel="webhook", destination="https://x", tried=1, kind="budget", title="x",
        team="search", at=now(), document={}, installation="i", secret=secret,
    )  # fmt: skip
    headers = signed(parcel, b"{}", int(time.time()))
    assert names["is_from_gateway"](secret, headers, b"{}")
    assert not names["is_from_gateway"](secret, headers, b"{ }")
    old = signed(parcel, b"{}", int(time.time()) - 3600)
    assert not names["is_from_gateway"](secret, old, b"{}")


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_catalogues_code_calls_the_service(running: live.Live, dialect: str) -> None:
    item = running.api.get(f"/api/v1/catalogue/by-{dialect}").json()
    assert dialect in item["dialects"]
    for example in item["examples"]:
        if example["dialect"] == dialect:
            run_example(running, example)


def test_the_catalogues_code_calls_an_http_service(running: live.Live) -> None:
    examples = running.api.get("/api/v1/catalogue/crm").json()["examples"]
    assert [example["language"] for example in examples] == ["curl", "python", "node"]
    for example in examples:
        run_example(running, example)


def run_example(running: live.Live, example: dict[str, Any]) -> None:
    before = len(running.api.get("/api/v1/ledger").json()["items"])
    code = example["code"]
    commands = {
        "curl": ["bash", "-c", code.replace("curl ", "curl -sS --fail-with-body ", 1)],
        "python": [sys.executable, "-c", code],
        "node": [str(Path(sys.executable).parent / "node"), "--input-type=module", "-e", code],
    }
    said = run(commands[example["language"]], environment(running, SLUICEGATE_KEY=running.key("ci")))
    assert said.strip()

    def recorded() -> bool:
        rows = running.api.get("/api/v1/ledger").json()["items"]
        return len(rows) == before + 1 and rows[0]["outcome"] == "completed"

    running.until(recorded, 5)
