"""Keeping the sums of `flow_models`: called in the transactions that insert what they count."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, Table

from gateway.policy.usage import Outcome
from gateway.probes.histogram import bucket_of
from gateway.store.base import Base
from gateway.store.flow_models import EVERY_TEAM, STEPS_S, FirstTokenSum, FlowSum, PastSum, RouteBytes
from gateway.store.ledger_models import HOUR_S
from gateway.store.rollup import by_hour, is_error, unpriced
from gateway.store.row_groups import RowGroup
from gateway.store.statements import Statement

FLOW_SUM: Final[Table] = Base.metadata.tables[FlowSum.__tablename__]
FIRST_TOKEN_SUM: Final[Table] = Base.metadata.tables[FirstTokenSum.__tablename__]
ROUTE_BYTES: Final[Table] = Base.metadata.tables[RouteBytes.__tablename__]
PAST_SUM: Final[Table] = Base.metadata.tables[PastSum.__tablename__]

WHO: Final = ("process", "user", "container")
PATH: Final = (*WHO, "team", "app", "key", "route", "target", "provider")
"""What makes one path through the gateway."""
PATH_SUMS: Final = (
    "requests", "errors", "refused", "unpriced", "input_tokens", "output_tokens", "cost_usd_micros", "bytes",
)  # fmt: skip
ANSWERED: Final = ("team", "route", "target", "provider")
PAST_SUMS: Final = ("connections", "bytes", "calls", "input_tokens", "output_tokens")


def _adding(table: str, key: Sequence[str], sums: Sequence[str]) -> Statement:
    keys = ", ".join([f'"{name}"' for name in key])
    marks = ", ".join(["?"] * (len(key) + len(sums)))
    added = ", ".join([f"{name} = {table}.{name} + excluded.{name}" for name in sums])
    return Statement(
        f"INSERT INTO {table} ({keys}, {', '.join(sums)}) VALUES ({marks})"  # noqa: S608 - constants
        f" ON CONFLICT ({keys}) DO UPDATE SET {added}"
    )


_ADD_FLOW: Final = _adding("flow_sum", ("step_s", "at_s", *PATH), PATH_SUMS)
_ADD_FIRST_TOKEN: Final = _adding("first_token_sum", ("step_s", "at_s", *ANSWERED, "bucket"), ("answers",))
_ADD_BYTES: Final = _adding("route_bytes", ("step_s", "at_s", "route", "target"), ("bytes",))
_ADD_PAST: Final = _adding("past_sum", ("discovery_id", "step_s", "at_s"), PAST_SUMS)


def add_groups(connection: Connection, groups: Iterable[RowGroup]) -> None:
    """Add rows that are new in the ledger to the sums of their times."""
    paths: dict[tuple[int | str, ...], list[int]] = {}
    answers: Counter[tuple[int | str, ...]] = Counter()
    for group in groups:
        path = [group.shared(name) or "" for name in PATH]
        team, *answered = [group.shared(name) or "" for name in ANSWERED]
        for hour, part in by_hour(group):
            figures = _figures(part)
            buckets = Counter([bucket_of(int(ms * 1_000_000)) for ms in part.column("ttft_ms") if ms is not None])
            for step_s in STEPS_S:
                at_s = hour * HOUR_S // step_s * step_s
                sums = paths.setdefault((step_s, at_s, *path), [0] * len(PATH_SUMS))
                for i, figure in enumerate(figures):
                    sums[i] += figure
                for bucket, count in buckets.items():
                    answers[step_s, at_s, team, *answered, bucket] += count
                    answers[step_s, at_s, EVERY_TEAM, *answered, bucket] += count
    # In one order on every node, so that two keepers never wait for each other's rows.
    _ADD_FLOW.run_each(connection, [(*key, *paths[key]) for key in sorted(paths)])
    _ADD_FIRST_TOKEN.run_each(connection, [(*key, answers[key]) for key in sorted(answers)])


def _figures(part: RowGroup) -> list[int]:
    """In the order of PATH_SUMS."""
    requests = len(part.rows)
    outcome = part.shared("outcome")
    carried = (part.shared("bytes_in") or 0) + (part.shared("bytes_out") or 0)
    return [
        requests,
        requests if is_error(part.shared("status"), outcome) else 0,
        requests if outcome == Outcome.REFUSED else 0,
        unpriced(part),
        *[part.sum_of(name) for name in PATH_SUMS[4:7]],
        carried * requests,
    ]


def add_bytes(connection: Connection, at_s: int, carried: Mapping[tuple[str, str], int]) -> None:
    """By route and target: what the kernel counted about then (Unix time)."""
    counted = sorted((names, count) for names, count in carried.items() if count)
    for step_s in STEPS_S:
        at = at_s // step_s * step_s
        _ADD_BYTES.run_each(connection, [(step_s, at, *names, count) for names, count in counted])


def add_past(connection: Connection, sums: Iterable[tuple[int, float, Sequence[int]]]) -> None:
    """Of findings: id, when (Unix time), and so much more of each of PAST_SUMS."""
    added: dict[tuple[int, int, int], list[int]] = {}
    for finding, at_s, more in sums:
        for step_s in STEPS_S:
            into = added.setdefault((finding, step_s, int(at_s) // step_s * step_s), [0] * len(PAST_SUMS))
            for i, figure in enumerate(more):
                into[i] += figure
    _ADD_PAST.run_each(connection, [(*key, *added[key]) for key in sorted(added)])


def forget(connection: Connection, cutoff_s: int) -> int:
    """Remove sums of steps that began before a full hour: few rows. Returns how many went. A day or week goes with
    its last hour."""
    gone = 0
    for table in (FLOW_SUM, FIRST_TOKEN_SUM, ROUTE_BYTES, PAST_SUM):
        for step_s in STEPS_S:
            ended = (table.c.step_s == step_s) & (table.c.at_s < cutoff_s // step_s * step_s)
            gone += connection.execute(table.delete().where(ended)).rowcount
    return gone
