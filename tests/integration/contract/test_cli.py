"""contract.md, "Install and first use", "sluicegate.yaml", "apply": the command, on its host and over REST."""

import re
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from ruamel.yaml import YAML

from tests.support.cli import COMMAND, Cli, Said
from tests.support.live import Live
from tests.support.provider import Provider

MESSAGES = [{"role": "user", "content": "hi"}]

SUGARED = """\
providers:
  - name: openai
    dialect: openai              # openai | anthropic | gemini | mistral | ollama | http
    base_url: https://api.openai.com/v1
    credentials:
      - {name: main, value: "${OPENAI_API_KEY}"}     # several
  - name: local
    dialect: openai
    base_url: UP/v1
  - name: claude
    dialect: anthropic
    base_url: https://api.anthropic.com
    credentials: [{name: main, value: "${ANTHROPIC_API_KEY}"}]
  - {name: crm, dialect: http, base_url: "http://10.0.0.7:8000"}

routes:
  - name: chat
    strategy: ordered
    targets:
      - {provider: openai, model: gpt-5-mini, weight: 3}
      - {provider: claude, model: claude-haiku-4-5}
    retries: 2
    timeout: {connect: 2s, first_byte: 30s, idle: 60s, total: 10m}
  - name: crm
    match: {host: crm.internal, path: /v2/}
    targets: [{provider: crm}]
  - {name: small, targets: [{provider: local, model: m}]}

teams:
  - name: search
    apps:
      - name: indexer
        routes: [chat, crm, small]
        keys: [{name: ci, value: "${INDEXER_KEY}"}]  # without value: made, and printed once

prices:
  - {provider: local, model: "*", input: 100000, output: 400000}

limits:
  - {name: month-budget, scope: {team: search}, metric: cost_usd, window: month, at_most: 50}
  - {name: burst, scope: {app: indexer, route: chat}, metric: total_tokens, window: minute, at_most: 100000}
  - {name: parallel, scope: {key: ci}, metric: concurrent_requests, at_most: 20}

interception:
  - name: openai-direct
    destinations: {hosts: [api.openai.com], cidrs: [], ports: [80, 443]}
    sources: {cidrs: ["10.9.0.0/16"], users: [], cgroups: [], local: true}
    mode: govern
    on_failure: open
    tls: passthrough
    source_address: gateway
    unmatched: splice
    credential: provider
    app: indexer
"""
ENV = {"OPENAI_API_KEY": "sk-o-contract", "ANTHROPIC_API_KEY": "sk-a-contract", "INDEXER_KEY": "sk-indexer-contract"}
NAMED = ("openai", "local", "claude", "crm", "chat", "small", "search", "indexer", "month-budget", "burst", "parallel",
         "openai-direct")  # fmt: skip


@pytest.fixture(scope="module")
def cli_provider() -> Iterator[Provider]:
    with Provider() as running:
        yield running


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """`serve` on a data folder that did not exist: nothing is prepared for it."""
    running = Live(tmp_path_factory.mktemp("cli"), workers=1, database_url=None, env={})
    try:
        running.start()
        yield running
    finally:
        running.finish()


@pytest.fixture(scope="module")
def cli(served: Live) -> Cli:
    return Cli(served.data)


@pytest.fixture(scope="module")
def applied(cli: Cli, cli_provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Said, Said]:
    """The contract's own example: tried dry, then applied."""
    file = tmp_path_factory.mktemp("yaml") / "sluicegate.yaml"
    file.write_text(SUGARED.replace("UP", cli_provider.url))
    dry = cli("apply", "-f", str(file), "--dry-run", **ENV).ok()
    assert "openai" not in cli("export").ok().out, "the dry run changed something"
    return file, dry, cli("apply", "-f", str(file), **ENV).ok()


def test_the_data_folder_is_made_0700(served: Live) -> None:
    assert stat.S_IMODE(served.data.stat().st_mode) == 0o700
    loose = [path for path in served.data.rglob("*") if path.stat().st_mode & 0o077 and not path.is_symlink()]
    assert not loose


def test_the_contracts_example_applies_and_names_each_create(applied: tuple[Path, Said, Said], cli: Cli) -> None:
    file, dry, done = applied
    for name in NAMED:
        assert re.search(rf"(?m)^create .*\b{name}\b", done.out), name
    assert dry.out.splitlines() == done.out.splitlines()
    again = cli("apply", "-f", str(file), **ENV).ok()
    assert "create" not in again.out + again.err
    for secret in ENV.values():
        assert secret not in done.out + done.err


def test_export_applies_without_a_change(applied: tuple[Path, Said, Said], cli: Cli, tmp_path: Path) -> None:
    text = cli("export").ok().out
    assert "sha256:" in text
    for secret in ENV.values():
        assert secret not in text
    document = YAML(typ="safe").load(text)
    assert {"providers", "routes", "teams", "prices", "limits", "interception"} <= set(document)
    file = tmp_path / "exported.yaml"
    file.write_text(text)
    assert cli("apply", "-f", str(file), "--prune").ok().out == ""


def test_a_key_made_for_a_document_is_printed_once(applied: tuple[Path, Said, Said], cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "more.yaml"
    file.write_text("teams: [{name: search, apps: [{name: fresh, routes: [small], keys: [{name: made}]}]}]")
    said = cli("apply", "-f", str(file)).ok()
    key = said.last_line.split()[-1]
    assert len(key) > 20
    assert key not in cli("apply", "-f", str(file)).ok().out
    assert key not in cli("export").ok().out


def test_prune_removes_what_the_document_does_not_name(applied: tuple[Path, Said, Said], cli: Cli) -> None:
    file = applied[0]
    extra = "routes: [{name: surplus, targets: [{provider: local, model: s}]}]\nteams: [{name: surplus-team}]"
    cli("apply", "-f", "-", stdin=extra).ok()
    assert cli("apply", "-f", str(file), **ENV).ok().out == ""
    planned = cli("apply", "-f", str(file), "--prune", "--dry-run", **ENV).ok()
    assert re.search(r"(?m)^delete .*surplus$", planned.out)
    done = cli("apply", "-f", str(file), "--prune", **ENV).ok()
    assert re.search(r"(?m)^delete .*surplus-team", done.out)
    assert "surplus" not in cli("export").ok().out


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("metric: cost_usd", "metric: cost_eur", "limits.0.metric"),
        ("provider: openai, model", "provider: nobody, model", "routes.0.targets.0.provider"),
        ("at_most: 50}", "at_most: -1}", "limits.0.at_most"),
        ("routes: [chat, crm, small]", "routes: [chat, nowhere]", "teams.0.apps.0.routes"),
        ("${OPENAI_API_KEY}", "${NOT_SET_HERE}", "providers.0.credentials.0.value"),
    ],
)
def test_bad_input_names_file_line_field_and_remedy(
    applied: tuple[Path, Said, Said], cli: Cli, tmp_path: Path, old: str, new: str, field: str
) -> None:
    file = tmp_path / "bad.yaml"
    text = applied[0].read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    line = text[: text.index(old)].count("\n") + 1
    said = cli("apply", "-f", str(file), **ENV)
    assert said.code != 0
    assert f"{file}:{line}:" in said.err
    assert field in said.err
    assert "Traceback" not in said.err
    if field.startswith("teams"):
        assert cli("apply", "-f", str(applied[0]), "--dry-run", **ENV).ok().out == "", "bad input changed something"


def test_a_token_stands_alone_on_the_last_line(applied: tuple[Path, Said, Said], cli: Cli, served: Live) -> None:
    for role in ("owner", "team-member"):
        team = ("--team", "search") if role.startswith("team") else ()
        token = cli("token", "create", "--role", role, "--name", f"cli-{role}", *team).ok().last_line
        assert re.fullmatch(r"\S{20,}", token)
        answer = httpx2.get(served.url + "/api/v1/routes", headers={"authorization": f"Bearer {token}"})
        assert answer.status_code == 200
    short = cli("token", "create", "--role", "viewer", "--expires", "2s").ok().last_line
    headers = {"authorization": f"Bearer {short}"}
    served.until(lambda: httpx2.get(served.url + "/api/v1/routes", headers=headers).status_code == 401, 5)


def test_keys_and_usage_from_the_command(
    applied: tuple[Path, Said, Said], cli: Cli, served: Live, cli_provider: Provider
) -> None:
    key = cli("key", "create", "--app", "indexer", "--name", "typed").ok().last_line
    assert re.fullmatch(r"\S{20,}", key)
    headers = {"authorization": f"Bearer {key}"}
    served.until(lambda: httpx2.get(served.url + "/v1/models", headers=headers).status_code == 200, 1)
    answer = httpx2.post(
        served.url + "/v1/chat/completions", json={"model": "small", "messages": MESSAGES}, headers=headers
    )
    assert answer.status_code == 200
    assert answer.headers["x-sluicegate-cost-usd"] == "0.000004"  # (11 × 0.1 + 7 × 0.4) micro-USD, rounded
    time.sleep(2)
    used = cli("usage", "--group-by", "app,route", "--json").ok().out
    assert '"indexer"' in used
    assert "indexer" in cli("usage").ok().out
    assert "typed" in cli("key", "list").ok().out
    assert key not in cli("key", "list", "--json").ok().out
    cli("key", "revoke", "indexer/typed").ok()
    served.until(lambda: httpx2.get(served.url + "/v1/models", headers=headers).status_code == 401, 1)


def test_the_same_over_rest(applied: tuple[Path, Said, Said], cli: Cli, served: Live, tmp_path: Path) -> None:
    token = cli("token", "create", "--role", "admin").ok().last_line
    remote = Cli(tmp_path / "nothing-here", env={"SLUICEGATE_URL": served.url, "SLUICEGATE_TOKEN": token})
    assert remote("apply", "-f", str(applied[0]), **ENV).ok().out == ""
    assert "openai-direct" in remote("export").ok().out
    key = remote("key", "create", "--app", "indexer", "--name", "remote").ok().last_line
    assert re.fullmatch(r"\S{20,}", key)
    remote("key", "revoke", "indexer/remote").ok()
    remote("usage").ok()
    assert not (tmp_path / "nothing-here").exists()


def test_backup_while_serving_and_restore(
    applied: tuple[Path, Said, Said], cli: Cli, served: Live, tmp_path: Path
) -> None:
    file = tmp_path / "backup.tar.gz"
    cli("backup", str(file), "--with-key").ok()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    other = Cli(tmp_path / "other")
    other("restore", str(file)).ok()
    assert other("export").ok().out == cli("export").ok().out
    assert (other.data / "sealing.key").read_bytes() == (served.data / "sealing.key").read_bytes()
    assert httpx2.get(served.url + "/readyz").status_code == 200


def test_doctor_finds_nothing_broken(applied: tuple[Path, Said, Said], cli: Cli) -> None:
    cli("doctor").ok()


def test_it_works_on_a_folder_that_nobody_serves(cli_provider: Provider, tmp_path: Path) -> None:
    alone = Cli(tmp_path / "alone")
    file = tmp_path / "a.yaml"
    file.write_text(SUGARED.replace("UP", cli_provider.url))
    alone("apply", "-f", str(file), **ENV).ok()
    assert stat.S_IMODE(alone.data.stat().st_mode) == 0o700


def test_sighup_re_reads_and_sigterm_drains(
    served: Live, applied: tuple[Path, Said, Said], cli_provider: Provider
) -> None:
    """The last test of this module: answers in progress end, and serve exits 0."""
    (served.data / "sluicegate.toml").write_text("max_body_bytes = 1000\n")
    headers = {"authorization": f"Bearer {ENV['INDEXER_KEY']}"}
    large = {"model": "small", "messages": [{"role": "user", "content": "x" * 2000}]}

    def ask() -> int:
        try:
            return httpx2.post(served.url + "/v1/chat/completions", json=large, headers=headers, timeout=20).status_code
        except httpx2.TransportError:
            return 0

    assert ask() == 200
    served.signal(signal.SIGHUP)
    served.until(lambda: ask() == 413, 30)
    cli_provider.behave(gap_s=0.3)
    body = {"model": "small", "messages": MESSAGES, "stream": True}
    with httpx2.stream("POST", served.url + "/v1/chat/completions", json=body, headers=headers, timeout=20) as answer:
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        served.signal(signal.SIGTERM)
        rest = list(lines)
    assert "data: [DONE]" in rest
    assert served._process is not None
    assert served._process.wait(20) == 0


def test_serve_says_why_it_cannot(tmp_path: Path) -> None:
    said = subprocess.run(
        [COMMAND, "serve", "--listen", "nonsense", "--data", tmp_path / "d"], capture_output=True, text=True, timeout=60
    )
    assert said.returncode not in (0, None)
    assert "HOST:PORT" in said.stderr
    assert "Traceback" not in said.stderr
