"""The authority over limits: grants in SQL, each checked in its own transaction (docs/quotas.md).

Invariant: `settled + Σ max(0, granted - ingested) ≤ at_most` over all leases of an account whenever a grant commits;
only a lowered limit and the overrun of an answer beyond its own reservation may stand above it. Many nodes share one
PostgreSQL: the account's row is locked from the check to the commit. Everything here runs in the keeper's SQL thread.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, Table, delete, select, tuple_, update

from gateway.policy.model import Metric, Window
from gateway.policy.quota import METRICS_KEPT, LimitState, account_of, limit_of
from gateway.policy.windows import NEVER_S, window_end_s, window_start_s
from gateway.store.base import Base
from gateway.store.ledger_models import LeaseEntry, LimitAccount
from gateway.store.models import LimitRule
from gateway.store.statements import Statement

LeaseKey = tuple[int, int]
"""Account number (`quota.account_of`) and window start."""

ACCOUNT: Final[Table] = Base.metadata.tables[LimitAccount.__tablename__]
LEASE: Final[Table] = Base.metadata.tables[LeaseEntry.__tablename__]
CONTENDED_NS: Final = 2_000_000_000
"""How long after another node's recall nothing but needs is granted."""
PAST_KEPT_S: Final = 600
"""How long accounts and leases of ended windows stay, for requests that end late."""


_READ_TEXT: Final = "SELECT settled, recall_ns FROM limit_account WHERE account = ? AND window_start_s = ?"
_READ: Final = Statement(_READ_TEXT)
_READ_LOCKED: Final = Statement(_READ_TEXT, lock=True)
_OPEN_ACCOUNT: Final = Statement(
    "INSERT INTO limit_account (account, window_start_s, settled, recall_ns) VALUES (?, ?, 0, 0) ON CONFLICT DO NOTHING"
)
_AT_MOST: Final = Statement("SELECT at_most, metric FROM limit_rule WHERE id = ?")
_LEASES: Final = Statement(
    "SELECT incarnation, granted, ingested, node FROM lease WHERE account = ? AND window_start_s = ?"
)
_GRANT: Final = Statement(
    "INSERT INTO lease (incarnation, account, window_start_s, node, granted, ingested, recalled_ns)"
    " VALUES (?, ?, ?, ?, ?, 0, 0)"
    " ON CONFLICT (incarnation, account, window_start_s) DO UPDATE SET granted = excluded.granted"
)
_LOWER: Final = Statement(
    "UPDATE lease SET granted = ? WHERE incarnation = ? AND account = ? AND window_start_s = ? AND granted > ?"
)


@dataclass(frozen=True, slots=True)
class AskItem:
    """One limit that a worker lacks. `debt` is what it has spent beyond its lease."""

    key: LeaseKey
    need: int
    wish: int
    debt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """All limits that one request lacks: granted together or not at all."""

    incarnation: str
    seq: int
    items: tuple[AskItem, ...]

    @property
    def keys(self) -> frozenset[LeaseKey]:
        return frozenset(item.key for item in self.items)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseGrant:
    """A lease grows by `amount`. `tight`: nothing but this one reservation was to be had."""

    key: LeaseKey
    amount: int
    tight: bool
    settled: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """One limit that did not reach. `hopeless`: what is settled alone leaves no room, so no recall can help."""

    key: LeaseKey
    settled: int
    outstanding: int
    elsewhere: int
    """Part of `outstanding` that is leased by other nodes."""
    at_most: int
    need: int
    leases: Mapping[str, Sequence[int]] = field(repr=False)

    def figures(self, in_flight: Mapping[str, tuple[int, int]]) -> tuple[int, int]:
        """`(used, reserved)`, see `figures`."""
        return figures(self.settled, self.leases, in_flight)

    @property
    def hopeless(self) -> bool:
        return self.settled + self.need > self.at_most


@dataclass(slots=True)
class Decision:
    """`short` empty: granted."""

    ask: Ask
    grants: list[LeaseGrant] = field(default_factory=list)
    short: list[Shortage] = field(default_factory=list)


@dataclass(slots=True)
class _Account:
    settled: int
    recall_ns: int
    at_most: int | None
    """None: the limit is gone from the configuration, or counts something else now."""
    leases: dict[str, list[int]]
    """incarnation → [granted, ingested, 1 if on another node]"""

    def outstanding(self) -> int:
        return sum([max(0, granted - ingested) for granted, ingested, _ in self.leases.values()])

    def elsewhere(self) -> int:
        return sum([max(0, granted - ingested) for granted, ingested, foreign in self.leases.values() if foreign])


def write_views(connection: Connection, views: Iterable[tuple[str, LeaseKey, int]]) -> None:
    """Make leases `granted` what their workers say: `(incarnation, key, granted)`. Only ever frees."""
    _LOWER.run_each(connection, [(granted, incarnation, *key, granted) for incarnation, key, granted in views])


def follow_recall(connection: Connection, node: str, marks: Mapping[LeaseKey, int]) -> None:
    """This node has given back what was idle when the marks were seen."""
    for (account, start_s), mark_ns in marks.items():
        connection.execute(
            update(LEASE)
            .where(LEASE.c.node == node, LEASE.c.account == account, LEASE.c.window_start_s == start_s)
            .values(recalled_ns=mark_ns)
        )


def decide(
    connection: Connection, node: str, asks: Sequence[Ask], *, workers: int, slices: bool, now_ns: int
) -> list[Decision]:
    """Grant each ask, in order, as a whole or not at all.

    `workers`: live ones of this node; slices shrink with them. Without `slices` only the needs are granted: what one
    ask was given beyond its need would be missing to the next one, which is refused for good."""
    keys = sorted({item.key for ask in asks for item in ask.items})
    accounts = _read_accounts(connection, node, keys, lock=True)
    changed: dict[tuple[str, LeaseKey], int] = {}
    decisions = []
    for ask in asks:
        decision = Decision(ask)
        decisions.append(decision)
        for item in ask.items:
            shortage = _shortage(accounts[item.key], ask.incarnation, item)
            if shortage is not None:
                decision.short.append(shortage)
        if not decision.short:
            decision.grants = [
                _grant(accounts[item.key], ask.incarnation, item, workers, slices, now_ns) for item in ask.items
            ]
            for item in ask.items:
                account = accounts[item.key]
                if account.at_most is not None:
                    changed[ask.incarnation, item.key] = account.leases[ask.incarnation][0]
    _write_granted(connection, node, changed)
    return decisions


def mark_recall(connection: Connection, keys: Iterable[LeaseKey], now_ns: int) -> None:
    """Ask the keepers of the other nodes, which poll for this, to recall what is idle."""
    for account, start_s in sorted(keys):
        connection.execute(
            update(ACCOUNT)
            .where(ACCOUNT.c.account == account, ACCOUNT.c.window_start_s == start_s)
            .values(recall_ns=now_ns)
        )


def recalls_since(connection: Connection, after_ns: int) -> dict[LeaseKey, int]:
    """Accounts that some node wants recalled, with their marks."""
    rows = connection.execute(
        select(ACCOUNT.c.account, ACCOUNT.c.window_start_s, ACCOUNT.c.recall_ns).where(ACCOUNT.c.recall_ns > after_ns)
    )
    return {(row.account, row.window_start_s): row.recall_ns for row in rows}


def recall_followed(connection: Connection, node: str, keys: Iterable[LeaseKey], mark_ns: int) -> bool:
    """Whether every other node that holds something of these accounts has followed the mark."""
    waiting = connection.execute(
        select(LEASE.c.incarnation)
        .where(
            tuple_(LEASE.c.account, LEASE.c.window_start_s).in_(list(keys)),
            LEASE.c.node != node,
            LEASE.c.granted > LEASE.c.ingested,
            LEASE.c.recalled_ns < mark_ns,
        )
        .limit(1)
    ).first()
    return waiting is None


def bury(connection: Connection, incarnation: str) -> None:
    """A worker is dead and its spool is in SQL: what it had not spent is free again."""
    connection.execute(delete(LEASE).where(LEASE.c.incarnation == incarnation))


def incarnations_of(connection: Connection, node: str) -> set[str]:
    """Workers of this node that hold leases."""
    return set(connection.execute(select(LEASE.c.incarnation).where(LEASE.c.node == node).distinct()).scalars())


def keys_of(connection: Connection, node: str) -> set[LeaseKey]:
    """Accounts of which this node's workers hold leases."""
    rows = connection.execute(select(LEASE.c.account, LEASE.c.window_start_s).where(LEASE.c.node == node).distinct())
    return {(row.account, row.window_start_s) for row in rows}


def forget_past(connection: Connection, now_s: float) -> None:
    """Delete accounts and leases of windows that ended a while ago, and those of limits that are gone."""
    for window in Window:
        if window is Window.LIFETIME:
            continue
        ids = select(LimitRule.id).where(LimitRule.window == window.value)
        oldest_s = window_start_s(window, now_s - PAST_KEPT_S)
        for table in (LEASE, ACCOUNT):
            connection.execute(
                delete(table).where(
                    table.c.window_start_s > 0,
                    table.c.window_start_s < oldest_s,
                    (table.c.account // METRICS_KEPT).in_(ids),
                )
            )
    for table in (LEASE, ACCOUNT):
        connection.execute(delete(table).where((table.c.account // METRICS_KEPT).not_in(select(LimitRule.id))))


def limit_window(connection: Connection, limit_id: int, now_s: float) -> tuple[LeaseKey, int, int] | None:
    """The limit's account at this time, its `at_most`, and when it resets; None when there is no such limit."""
    rule = connection.execute(
        select(LimitRule.metric, LimitRule.window, LimitRule.at_most).where(LimitRule.id == limit_id)
    ).first()
    if rule is None:
        return None
    window = Window.LIFETIME if rule.metric == Metric.CONCURRENT_REQUESTS else Window(rule.window)
    start_s = window_start_s(window, now_s)
    return (account_of(limit_id, Metric(rule.metric)), start_s), rule.at_most, window_end_s(window, start_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitUse:
    """How far a limit's present window is used up."""

    limit_id: int
    name: str
    key: LeaseKey
    at_most: int
    ratio: float
    """What is settled, as a share of what is allowed; 0 for concurrent requests, which settle nothing."""
    concurrent: bool


def limit_uses(connection: Connection, now_s: float) -> list[LimitUse]:
    """All limits, by id."""
    settled: dict[LeaseKey, int] = {
        (row.account, row.window_start_s): row.settled
        for row in connection.execute(select(LimitAccount.account, LimitAccount.window_start_s, LimitAccount.settled))
    }
    uses = []
    for rule in connection.execute(
        select(LimitRule.id, LimitRule.name, LimitRule.metric, LimitRule.window, LimitRule.at_most).order_by(
            LimitRule.id
        )
    ):
        concurrent = rule.metric == Metric.CONCURRENT_REQUESTS
        window = Window.LIFETIME if concurrent else Window(rule.window)
        key = (account_of(rule.id, Metric(rule.metric)), window_start_s(window, now_s))
        uses.append(
            LimitUse(
                limit_id=rule.id,
                name=rule.name,
                key=key,
                at_most=rule.at_most,
                ratio=settled.get(key, 0) / max(1, rule.at_most),
                concurrent=concurrent,
            )
        )
    return uses


def limit_state(
    connection: Connection,
    node: str,
    limit_id: int,
    now_s: float,
    in_flight: Mapping[LeaseKey, Mapping[str, tuple[int, int]]],
) -> LimitState | None:
    """The limit as it stands. `in_flight`: `(used, reserved)` of each live worker of this node by incarnation, taken at
    one moment in each worker, so that a request is counted once: as used or as reserved. What other nodes hold counts
    as reserved."""
    window = limit_window(connection, limit_id, now_s)
    if window is None:
        return None
    key, at_most, resets_at_s = window
    account = _read_accounts(connection, node, [key], lock=False)[key]
    used, reserved = figures(account.settled, account.leases, in_flight.get(key, {}))
    return LimitState(used=used, reserved=reserved, at_most=at_most, resets_at_s=min(resets_at_s, NEVER_S))


def figures(
    settled: int, leases: Mapping[str, Sequence[int]], in_flight: Mapping[str, tuple[int, int]]
) -> tuple[int, int]:
    """Used and reserved: what is settled in SQL, plus what live workers have used since, plus what they reserve; a
    lease whose worker does not answer counts as reserved."""
    used, reserved = settled, 0
    for incarnation, (granted, ingested, _foreign) in leases.items():
        live = in_flight.get(incarnation)
        if live is None:
            reserved += max(0, granted - ingested)
        else:
            used += max(0, live[0] - ingested)
            reserved += live[1]
    return used, reserved


def _read_accounts(
    connection: Connection, node: str, keys: Sequence[LeaseKey], *, lock: bool
) -> dict[LeaseKey, _Account]:
    """All that a decision needs. With `lock`, missing accounts are made and all are locked, in the order of keys."""
    accounts = {}
    for key in keys:
        row: Sequence[int] | None = (_READ_LOCKED if lock else _READ).run(connection, *key).first()
        if row is None and lock:
            _OPEN_ACCOUNT.run(connection, *key)
            row = _READ_LOCKED.run(connection, *key).first()
        settled, recall_ns = row or (0, 0)
        rule = _AT_MOST.run(connection, limit_of(key[0])).first()
        at_most = (
            rule.at_most if rule is not None and account_of(limit_of(key[0]), Metric(rule.metric)) == key[0] else None
        )
        leases = {
            lease.incarnation: [lease.granted, lease.ingested, int(lease.node != node)]
            for lease in _LEASES.run(connection, *key)
        }
        accounts[key] = _Account(settled=settled, recall_ns=recall_ns, at_most=at_most, leases=leases)
    return accounts


def _shortage(account: _Account, incarnation: str, item: AskItem) -> Shortage | None:
    if account.at_most is None:
        return None
    outstanding = account.outstanding()
    granted, ingested, _ = account.leases.get(incarnation, (0, 0, 0))
    grown = max(0, granted + item.need + item.debt - ingested) - max(0, granted - ingested)
    if account.settled + outstanding + grown <= account.at_most or not item.need:
        return None
    return Shortage(
        key=item.key,
        settled=account.settled,
        outstanding=outstanding,
        elsewhere=account.elsewhere(),
        at_most=account.at_most,
        need=item.need,
        leases={incarnation: tuple(lease) for incarnation, lease in account.leases.items()},
    )


def _grant(account: _Account, incarnation: str, item: AskItem, workers: int, slices: bool, now_ns: int) -> LeaseGrant:
    """What is needed, and of what is then free a slice: no more than half of this worker's share. No slice while some
    node is recalling."""
    if account.at_most is None:
        return LeaseGrant(key=item.key, amount=item.need + item.debt, tight=False, settled=0)
    lease = account.leases.setdefault(incarnation, [0, 0, 0])
    lease[0] += item.need + item.debt
    free = account.at_most - account.settled - account.outstanding()
    extra = min(item.wish, free // (2 * max(1, workers))) if slices else 0
    if account.recall_ns > now_ns - CONTENDED_NS:
        extra = 0
    tight = extra < max(1, item.need)
    if tight:
        extra = 0
    lease[0] += extra
    return LeaseGrant(key=item.key, amount=item.need + item.debt + extra, tight=tight, settled=account.settled)


def _write_granted(connection: Connection, node: str, changed: Mapping[tuple[str, LeaseKey], int]) -> None:
    _GRANT.run_each(connection, [(incarnation, *key, node, granted) for (incarnation, key), granted in changed.items()])
