"""A large ledger made in SQL: rows of the last 90 days as a platform of 200 apps has them, with the hours' sums.

Rows go in by one INSERT within the database, its indexes made anew afterwards: ten million take some three minutes.
Four fifths of each day's requests fall into the half of it that ends at this time of day, so that the newest hours are
full ones; few apps make most of the traffic. Everything follows from the row's number: two runs make the same ledger.
"""

import itertools
import time
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection, Engine, text

from gateway.policy.usage import LEDGER_FIELDS
from gateway.probes.histogram import lower_ns
from gateway.store.flow_models import EVERY_TEAM, STEPS_S
from gateway.store.flow_rollup import ANSWERED, PATH, PATH_SUMS
from gateway.store.ingest import LEDGER
from gateway.store.ledger_models import DAY_S, HOUR_S
from gateway.store.rollup import FAILED, NAMES, SUMS
from gateway.store.sql_thread import write_transaction

DAYS: Final = 90
TEAMS, APPS, ROUTES, PROVIDERS, MODELS = 25, 200, 40, 6, 12
UNPRICED_ROUTES: Final = 3
"""The last so many, whose models have no price."""
ROUTES_AN_APP: Final = 3
DAY_NS: Final = 24 * HOUR_S * 1_000_000_000

# The moduli are primes, so that names, outcomes and sizes do not go in step.
_SPREAD: Final = f"(n * 7919 % 100003) * (n * 7919 % 100003) / 100003 * {APPS} / 100003"
_CHOSEN_ROUTE: Final = "CASE WHEN n * 31 % 101 < 60 THEN 0 WHEN n * 31 % 101 < 90 THEN 1 ELSE 2 END"
_NUMBERS: Final = f"n, {_SPREAD} AS app, {_CHOSEN_ROUTE} AS choice, n * 15485863 % 997 AS fate"
_ROUTE: Final = f"((app * 7 + choice) % {ROUTES})"
_SECOND: Final = f"(CASE WHEN n % 19 = 0 THEN {ROUTES // 2} ELSE 0 END)"
"""One of 19 goes to the route's second target."""
_PROVIDER: Final = f"'provider-' || (({_ROUTE} + {_SECOND}) % {PROVIDERS})"
_MODEL: Final = f"'model-' || (({_ROUTE} + {_SECOND}) % {MODELS})"
_REFUSED: Final = "fate < 20"
_BROKEN: Final = "fate >= 20 AND fate < 35"
_GONE: Final = "fate >= 35 AND fate < 40"
_SERVED: Final = "fate >= 35"
_INPUT: Final = "(40 + n * 31 % 3989)"
_OUTPUT: Final = "(1 + n * 17 % 887)"

_ROW: Final = {
    "started_at_ns": "{start} + n / {per_day} * {day_ns} + CASE WHEN n % {per_day} * 5 < {per_day}"
    " THEN n % {per_day} * {slow_ns} ELSE {day_ns} / 2 + (n % {per_day} - {per_day} / 5) * {quick_ns} END",
    "team": f"'team-' || (app % {TEAMS})",
    "app": "'app-' || app",
    "key": "CASE WHEN n % 7 = 0 THEN 'second' ELSE 'first' END",
    "route": f"'route-' || {_ROUTE}",
    "target": f"CASE WHEN {_REFUSED} THEN NULL ELSE {_PROVIDER} || '/' || {_MODEL} END",
    "provider": f"CASE WHEN {_REFUSED} THEN NULL ELSE {_PROVIDER} END",
    "dialect": "'openai'",
    "model": f"CASE WHEN {_REFUSED} THEN NULL ELSE {_MODEL} END",
    "status": f"CASE WHEN {_REFUSED} THEN 429 WHEN {_BROKEN} THEN 502 ELSE 200 END",
    "input_tokens": f"CASE WHEN {_SERVED} THEN {_INPUT} END",
    "cached_tokens": f"CASE WHEN {_SERVED} AND n % 3 = 0 THEN {_INPUT} / 2 END",
    "output_tokens": f"CASE WHEN {_SERVED} THEN {_OUTPUT} END",
    "cost_usd_micros": f"CASE WHEN {_SERVED} AND {_ROUTE} < {ROUTES - UNPRICED_ROUTES}"
    f" THEN ({_INPUT} * 250 + {_OUTPUT} * 2000 + 500) / 1000 END",
    "latency_ms": f"CASE WHEN {_REFUSED} THEN 0.4 ELSE 400.0 + n * 13 % 5009 END",
    "ttft_ms": f"CASE WHEN {_SERVED} AND n % 10 < 7 THEN 90.0 + n * 7 % 613 END",
    "upstream_status": f"CASE WHEN {_REFUSED} THEN NULL WHEN {_BROKEN} THEN 500 ELSE 200 END",
    "attempts": f"CASE WHEN {_REFUSED} THEN 0 WHEN {_BROKEN} OR n % 19 = 0 THEN 2 ELSE 1 END",
    "outcome": f"CASE WHEN {_REFUSED} THEN 'refused' WHEN {_BROKEN} THEN 'upstream_failed'"
    f" WHEN {_GONE} THEN 'client_gone' ELSE 'completed' END",
    "error_code": f"CASE WHEN {_REFUSED} THEN 'limit_exceeded' WHEN {_BROKEN} THEN 'upstream_error' END",
    "estimated": f"({_GONE})",
    "overrun": "0",
    "stream": "(n % 10 < 7)",
    "client_ip": "'10.9.' || (app % 250) || '.' || (n % 251)",
    "admit_ms": f"CASE WHEN NOT ({_REFUSED}) THEN 0.1 + n * 3 % 401 / 1000.0 END",
    "connect_ms": f"CASE WHEN NOT ({_REFUSED}) THEN CASE WHEN n % 50 = 0 THEN 12.5 ELSE 0.0 END END",
    "longest_gap_ms": f"CASE WHEN {_SERVED} AND n % 10 < 7 THEN 20.0 + n * 11 % 709 END",
    "events": f"CASE WHEN {_SERVED} AND n % 10 < 7 THEN {_OUTPUT} END",
    "bytes_in": "400 + n * 31 % 15000",
    "bytes_out": "900 + n * 17 % 20000",
}


def configuration(provider_url: str) -> str:
    """sluicegate.yaml that names what the rows name, with two limits for each team and one for each app."""
    providers = [
        f'  - {{name: provider-{i}, dialect: openai, base_url: "{provider_url}/v1",'
        f" credentials: [{{name: main, value: sk-of-provider-{i}}}]}}"
        for i in range(PROVIDERS)
    ]
    routes = [f"  - {{name: route-{i}, targets: [{_target(i)}, {_target(i + ROUTES // 2)}]}}" for i in range(ROUTES)]
    apps = {team: [line for app in range(team, APPS, TEAMS) for line in _app(app)] for team in range(TEAMS)}
    teams = [line for team in range(TEAMS) for line in (f"  - name: team-{team}", "    apps:", *apps[team])]
    limits = [
        f"  - {{name: budget-{team}, scope: {{team: team-{team}}}, metric: cost_usd, window: month, at_most: 5000}}"
        for team in range(TEAMS)
    ]
    limits += [
        f"  - {{name: burst-{app}, scope: {{app: app-{app}}}, metric: requests, window: minute, at_most: 6000}}"
        for app in range(APPS)
    ]
    lists = {"providers": providers, "routes": routes, "teams": teams, "limits": limits}
    return "\n".join(f"{name}:\n" + "\n".join(lines) for name, lines in lists.items())


def _app(i: int) -> list[str]:
    keys = ", ".join(f"{{name: {name}, value: sk-sg-{name}-{i:04}-0123456789}}" for name in ("first", "second"))
    return [f"      - {{name: app-{i}, routes: [{', '.join(_routes_of(i))}], keys: [{keys}]}}"]


def _target(i: int) -> str:
    return f"{{provider: provider-{i % PROVIDERS}, model: model-{i % MODELS}}}"


def _routes_of(app: int) -> list[str]:
    return [f"route-{(app * 7 + choice) % ROUTES}" for choice in range(ROUTES_AN_APP)]


def fill(engine: Engine, rows: int) -> int:
    """Add so many rows to the ledger and their sums to `usage_hour`; both must be empty. Returns the hours' rows."""
    times = _times(rows)
    columns = [name for name in LEDGER_FIELDS if name in _ROW]
    values = ", ".join(_ROW[name].format(**times) for name in columns)
    names = ", ".join(f'"{name}"' for name in columns)
    identity, numbers = _numbered(engine.dialect.name, rows)
    with write_transaction(engine) as connection:
        for index in LEDGER.indexes:
            index.drop(connection)
        made = f"SELECT {identity}, {values} FROM (SELECT {_NUMBERS} FROM {numbers}) AS made"
        connection.execute(text(f"INSERT INTO ledger (id, {names}) {made}".replace(":", "\\:")))
        for index in LEDGER.indexes:
            index.create(connection)
        hours = _add_up(connection)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE" if engine.dialect.name == "postgresql" else "ANALYZE")
    return hours


def _times(rows: int) -> dict[str, int]:
    """What the moments of the rows are worked out from, so that the last one is now."""
    per_day = max(5, -(-rows // DAYS))
    slow, day_ns = per_day // 5, DAY_NS
    slow_ns, quick_ns = day_ns // 2 // (slow + 1), day_ns // 2 // (per_day - slow + 1)
    at = rows % per_day
    last_ns = at * slow_ns if at * 5 < per_day else day_ns // 2 + (at - slow) * quick_ns
    start = time.time_ns() - rows // per_day * day_ns - last_ns
    return {"start": start, "per_day": per_day, "day_ns": day_ns, "slow_ns": slow_ns, "quick_ns": quick_ns}


def _numbered(dialect: str, rows: int) -> tuple[str, str]:
    """A row's id by its number, and where the numbers come from."""
    if dialect == "postgresql":
        return "lpad(to_hex(n), 26, '0')", f"(SELECT n FROM generate_series(1::bigint, {rows}) AS n) AS numbers"
    counted = f"WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {rows}) SELECT n FROM s"
    return "printf('%026x', n)", f"({counted}) AS numbers"


def _add_up(connection: Connection) -> int:
    """The sums as `store.rollup` makes them of the same rows (tests/unit/bench compares them). Returns their number."""
    failed = ", ".join(f"'{outcome}'" for outcome in sorted(FAILED))
    hour = f"started_at_ns / {HOUR_S * 1_000_000_000} * {HOUR_S}"
    kept = ", ".join(f'"{name}"' for name in NAMES)
    names = ", ".join(f"coalesce(\"{name}\", '')" for name in NAMES)
    used = "coalesce(input_tokens, 0) + coalesce(output_tokens, 0) > 0"
    sums = [
        "count(*)",
        f"sum(CASE WHEN outcome IN ({failed}) OR status >= 400 THEN 1 ELSE 0 END)",
        f"sum(CASE WHEN cost_usd_micros IS NULL AND {used} THEN 1 ELSE 0 END)",
        *[f"coalesce(sum({name}), 0)" for name in SUMS[3:]],
    ]
    groups = ", ".join(str(1 + i) for i in range(len(NAMES) + 1))
    _add_up_flows(connection, dict(zip(("requests", "errors", "unpriced"), sums, strict=False)))
    hours = connection.exec_driver_sql(
        f"INSERT INTO usage_hour (hour_s, {kept}, {', '.join(SUMS)})"
        f" SELECT {hour}, {names}, {', '.join(sums)} FROM ledger GROUP BY {groups} ORDER BY 1"
    ).rowcount
    connection.exec_driver_sql(
        f"INSERT INTO usage_day (day_s, {kept}, {', '.join(SUMS)})"
        f" SELECT hour_s / {DAY_S} * {DAY_S}, {kept}, {', '.join([f'sum({name})' for name in SUMS])}"
        f" FROM usage_hour GROUP BY {groups} ORDER BY 1"
    )
    return hours


def _add_up_flows(connection: Connection, counts: dict[str, str]) -> None:
    """The same of `store.flow_rollup`, each step from the one before. As there, rows of one time lie together."""
    carried = "coalesce(sum(coalesce(bytes_in, 0) + coalesce(bytes_out, 0)), 0)"
    sums = counts | {"refused": "sum(CASE WHEN outcome = 'refused' THEN 1 ELSE 0 END)", "bytes": carried}
    figures = [sums.get(name, f"coalesce(sum({name}), 0)") for name in PATH_SUMS]
    buckets = " ".join([f"WHEN ttft_ms < {lower_ns(number + 1) / 1e6} THEN {number}" for number in range(60, 96)])
    _add_up_steps(connection, "flow_sum", PATH, "", PATH_SUMS, figures)
    bucket = f", CASE {buckets} END AS bucket"
    _add_up_steps(connection, "first_token_sum", ANSWERED, bucket, ("answers",), ["count(*)"])
    key = "route, target, provider, bucket"
    connection.exec_driver_sql(
        f"INSERT INTO first_token_sum (step_s, at_s, team, {key}, answers)"
        f" SELECT step_s, at_s, '{EVERY_TEAM}', {key}, sum(answers) FROM first_token_sum"
        f" GROUP BY step_s, at_s, {key} ORDER BY step_s, at_s"
    )


def _add_up_steps(
    connection: Connection, table: str, key: Sequence[str], more: str, kept: Sequence[str], figures: Sequence[str]
) -> None:
    hour_s = STEPS_S[0]
    hour = f"started_at_ns / {hour_s * 1_000_000_000} * {hour_s}"
    columns = ", ".join([f'"{name}"' for name in (*key, *(["bucket"] if more else []))])
    names = ", ".join(f"coalesce(\"{name}\", '')" for name in key)
    groups = ", ".join(str(2 + i) for i in range(len(key) + 1 + bool(more)))
    answered = "WHERE ttft_ms IS NOT NULL" if more else ""
    connection.exec_driver_sql(
        f"INSERT INTO {table} (step_s, at_s, {columns}, {', '.join(kept)})"
        f" SELECT {hour_s}, {hour}, {names}{more}, {', '.join(figures)} FROM ledger {answered}"
        f" GROUP BY {groups} ORDER BY 2"
    )
    for shorter_s, step_s in itertools.pairwise(STEPS_S):
        connection.exec_driver_sql(
            f"INSERT INTO {table} (step_s, at_s, {columns}, {', '.join(kept)})"
            f" SELECT {step_s}, at_s / {step_s} * {step_s}, {columns}, {', '.join([f'sum({name})' for name in kept])}"
            f" FROM {table} WHERE step_s = {shorter_s} GROUP BY {groups} ORDER BY 2"
        )
