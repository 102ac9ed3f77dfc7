"""A platform that has been busy: ledger rows of a month and findings, put into a gateway's database as the keeper does.

For pages and pictures: many apps, routes, providers and processes, a provider that is failing, one that became slow,
requests that were refused, processes that go past the gateway. Everything follows from one seed.
"""

import random
import time
from collections.abc import Iterator
from typing import Final

from sqlalchemy import Engine, insert, select

from gateway.policy.attempts import Attempt, attempts_text
from gateway.policy.model import Metric, Window
from gateway.policy.quota import account_of
from gateway.policy.records import CLOSED, payload_of, record_of
from gateway.policy.usage import LedgerRow, Outcome
from gateway.policy.windows import window_start_s
from gateway.store import findings, flow_rollup
from gateway.store.ingest import ingest
from gateway.store.ledger_models import LimitAccount
from gateway.store.models import LimitRule
from gateway.store.sql_thread import write_transaction

HOUR_S: Final = 3_600
BATCH: Final = 500

TARGETS: Final = {
    "chat": [("openai", "gpt-5-mini"), ("anthropic", "claude-haiku-4-5")],
    "chat-large": [("anthropic", "claude-sonnet-4-5"), ("openai", "gpt-5")],
    "embed": [("openai", "text-embedding-3-small")],
    "summarise": [("mistral", "mistral-small-latest")],
    "code": [("anthropic", "claude-sonnet-4-5")],
    "draft": [("local", "llama-3.3-70b")],
    "vision": [("google", "gemini-2.5-flash")],
    "translate": [("google", "gemini-2.5-flash"), ("mistral", "mistral-small-latest")],
}
APPS: Final = {
    "indexer": ("search", ["embed", "summarise"], 30),
    "assistant": ("support", ["chat", "chat-large"], 26),
    "ticket-triage": ("support", ["chat", "summarise"], 14),
    "review-bot": ("platform", ["code", "chat-large"], 12),
    "storefront": ("shop", ["chat", "translate", "vision"], 10),
    "newsletter": ("marketing", ["draft", "translate"], 5),
    "notebooks": ("research", ["chat-large", "code", "vision", "draft"], 4),
}
"""Team, routes, weight."""
LOCAL: Final = {
    "indexer": ("python3", "airflow", "indexer-7f9c"),
    "review-bot": ("node", "ci", None),
    "notebooks": ("jupyter-lab", "mia", None),
}
"""Process, user, container of apps that run on this host."""
PRICES: Final = {
    "gpt-5-mini": (250_000, 2_000_000), "gpt-5": (1_250_000, 10_000_000), "claude-haiku-4-5": (1_000_000, 5_000_000),
    "claude-sonnet-4-5": (3_000_000, 15_000_000), "text-embedding-3-small": (20_000, 0),
    "mistral-small-latest": (100_000, 300_000), "gemini-2.5-flash": (300_000, 2_500_000),
}  # fmt: skip
"""Micro-USD a million tokens in and out; what is not here has no price."""
FAILING, SLOWED = "mistral", "google"
PAST: Final = [
    ("python3", "joe", None, "openai", "api.openai.com", 48_000_000),
    ("cursor", "lea", None, "anthropic", "api.anthropic.com", 21_000_000),
    ("node", "ci", "renovate-2b", "openai", "api.openai.com", 3_100_000),
    ("ollama", "mia", None, "ollama", "registry.ollama.ai", 9_000_000),
    ("curl", "root", None, "xai", "api.x.ai", 40_000),
]


def configuration(provider_url: str) -> str:
    """sluicegate.yaml that names what the rows name, with budgets and an interception rule."""
    targets = {target for each in TARGETS.values() for target in each}
    lines = ["providers:"]
    for name in sorted({provider for provider, _ in targets}):
        dialect = name if name in ("openai", "anthropic", "mistral") else "openai"
        secret = f"credentials: [{{name: main, value: sk-of-{name}}}]"
        lines.append(f'  - {{name: {name}, dialect: {dialect}, base_url: "{provider_url}/v1", {secret}}}')
    lines.append("routes:")
    for route, of in TARGETS.items():
        listed = ", ".join([f"{{provider: {provider}, model: {model}}}" for provider, model in of])
        lines.append(f"  - {{name: {route}, targets: [{listed}]}}")
    lines.append("teams:")
    for team in dict.fromkeys(team for team, _, _ in APPS.values()):
        lines += [f"  - name: {team}", "    apps:"]
        for app, (its, routes, _) in APPS.items():
            if its == team:
                key = f"{{name: prod, value: sk-sg-{app}-0123456789abcdef}}"
                lines.append(f"      - {{name: {app}, routes: [{', '.join(routes)}], keys: [{key}]}}")
    lines.append("limits:")
    for name, (scope, metric, window, at_most, _) in LIMITS.items():
        lines.append(f"  - {{name: {name}, scope: {scope}, metric: {metric}, window: {window}, at_most: {at_most}}}")
    hosts = "{hosts: [api.openai.com], ports: [443]}"
    lines += ["interception:", f"  - {{name: openai-direct, destinations: {hosts}, mode: observe}}"]
    return "\n".join(lines)


LIMITS: Final = {
    "search-month": ("{team: search}", "cost_usd", "month", 40, 0.97),
    "support-month": ("{team: support}", "cost_usd", "month", 400, 0.61),
    "platform-week": ("{team: platform}", "cost_usd", "week", 90, 0.7),
    "shop-day": ("{app: storefront}", "total_tokens", "day", 2_000_000, 1.0),
    "research-month": ("{team: research}", "cost_usd", "month", 120, 0.22),
    "notebooks-hour": ("{app: notebooks}", "requests", "hour", 600, 0.1),
}
"""Scope, metric, window, how much, and the part of it that `charge` says is used."""


def charge(engine: Engine) -> None:
    """Use up the limits of the configuration as far as LIMITS says."""
    with write_transaction(engine) as connection:
        for limit in connection.execute(select(LimitRule.__table__)):
            part = LIMITS[limit.name][-1]
            account, start_s = (
                account_of(limit.id, Metric(limit.metric)),
                window_start_s(Window(limit.window), time.time()),
            )
            row = {"account": account, "window_start_s": start_s, "settled": int(part * limit.at_most), "recall_ns": 0}
            connection.execute(insert(LimitAccount.__table__).values(row))  # type: ignore[arg-type]


def fill(engine: Engine, *, requests: int = 6_000, days: int = 30, more_apps: int = 0, seed: int = 7) -> None:
    """Blocks for about a millisecond for each 20 requests. `more_apps`: so many small ones beside the seven."""
    rows = list(_rows(random.Random(seed), requests, days, more_apps))
    for start in range(0, len(rows), BATCH):
        batch = [record_of(payload_of(CLOSED, row, (), 1)) for row in rows[start : start + BATCH]]
        with write_transaction(engine) as connection:
            ingest(connection, "busy", "busy", batch)
    with write_transaction(engine) as connection:
        carried = {
            (route, f"{provider}/{model}"): 1_000_000 * (1 + at)
            for at, (route, targets) in enumerate(TARGETS.items())
            for provider, model in targets
        }
        flow_rollup.add_bytes(connection, int(time.time()), carried)
        findings.write(connection, "busy", {findings.fingerprint("busy", one): one for one in _findings()})


def _findings() -> Iterator[findings.Finding]:
    now_s = time.time()
    for process, user, container, provider, host, carried in PAST:
        yield findings.finding_of(
            {
                "process": process, "executable": f"/usr/bin/{process}", "uid": 1000, "user": user, "cgroup": None,
                "unit": None, "container": container, "client": None, "provider": provider, "host": host,
                "address": "203.0.113.7", "port": 443, "evidence": "sni", "first_seen_s": now_s - 3 * 86_400,
                "last_seen_s": now_s - 120, "connections": 1 + carried // 1_000_000, "bytes": carried,
            }
        )  # fmt: skip


def _rows(dice: random.Random, requests: int, days: int, more_apps: int) -> Iterator[LedgerRow]:
    apps = dict(APPS)
    for number in range(more_apps):
        routes = dice.sample([*TARGETS], 2)
        apps[f"service-{number:03}"] = (f"team-{number % 12}", routes, max(1, 6 - number // 10))
    names, weights = [*apps], [weight for _, _, weight in apps.values()]
    now_ns = time.time_ns()
    for number in range(requests):
        # A working day has its rhythm, and there is more of everything of late.
        hours = days * 24 * (dice.random() ** 1.6)
        if dice.random() > 0.35 and (time.gmtime(now_ns / 1e9 - hours * HOUR_S).tm_hour < 6):
            hours = max(0.05, hours - 7)
        app = dice.choices(names, weights)[0]
        yield _row(dice, number, app, apps[app], now_ns - int(hours * HOUR_S * 1e9), recent=hours < 24)


def _row(
    dice: random.Random, number: int, app: str, of: tuple[str, list[str], int], started_ns: int, *, recent: bool
) -> LedgerRow:
    team, routes, _ = of
    route = routes[0] if dice.random() < 0.65 else dice.choice(routes)
    provider, model = TARGETS[route][0] if dice.random() < 0.85 else TARGETS[route][-1]
    process, user, container = LOCAL.get(app, (None, None, None))
    row = LedgerRow(
        id=f"{started_ns // 1000:016x}{number:010x}", started_at_ns=started_ns, dialect="openai", team=team, app=app,
        key=None if process else ("prod" if dice.random() < 0.8 else "staging"), route=route, process=process,
        user=user, container=container, client_ip=f"10.9.0.{dice.randrange(2, 250)}", stream=dice.random() < 0.6,
    )  # fmt: skip
    if app == "storefront" and dice.random() < 0.06:
        row.status, row.outcome, row.error_code, row.latency_ms = 429, Outcome.REFUSED, "limit_exceeded", 0.6
        row.model = model
        return row
    row.target, row.provider, row.model, row.attempts = f"{provider}/{model}", provider, model, 1
    row.admit_ms, row.connect_ms = round(dice.uniform(0.1, 0.6), 3), 0.0 if dice.random() < 0.9 else 14.2
    failing = recent and provider == FAILING and dice.random() < 0.14
    if failing or dice.random() < 0.004:
        row.status, row.upstream_status, row.outcome, row.attempts = 502, 500, Outcome.UPSTREAM_FAILED, 2
        row.error_code, row.latency_ms = "upstream_error", dice.uniform(200, 4_000)
        row.attempt_log = _two_attempts(row)
        return row
    slow = 2.4 if recent and provider == SLOWED else 1.0
    row.status = row.upstream_status = 200
    row.outcome = Outcome.CLIENT_GONE if dice.random() < 0.01 else Outcome.COMPLETED
    row.input_tokens = int(dice.lognormvariate(6.2, 0.9))
    row.cached_tokens = row.input_tokens // 2 if dice.random() < 0.3 else 0
    row.output_tokens = 0 if route == "embed" else int(dice.lognormvariate(5.2, 0.8)) + 1
    row.reasoning_tokens = row.output_tokens // 3 if model == "gpt-5" else 0
    row.ttft_ms = round(dice.lognormvariate(5.7, 0.45) * slow, 1)
    row.latency_ms = round(row.ttft_ms + row.output_tokens * dice.uniform(6, 14), 1)
    if row.stream:
        row.events, row.longest_gap_ms = row.output_tokens, round(dice.uniform(15, 400), 3)
    if model in PRICES:
        tokens_in, tokens_out = PRICES[model]
        row.cost_usd_micros = (row.input_tokens * tokens_in + row.output_tokens * tokens_out + 500_000) // 1_000_000
    return row


def _two_attempts(row: LedgerRow) -> str:
    """Both on the row's target, which answered 500."""
    assert row.admit_ms is not None
    assert row.latency_ms is not None
    half = (row.latency_ms - row.admit_ms) / 2
    begins = (row.admit_ms, row.admit_ms + half + 60.0)
    return attempts_text([
        Attempt(
            target=row.target or "", started_ms=begin, connect_ms=0.0, first_byte_ms=begin + half - 61,
            ended_ms=begin + half - 60, status=500, error_code=None,
        )
        for begin in begins
    ])  # fmt: skip
