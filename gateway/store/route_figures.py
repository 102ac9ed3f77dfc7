"""Figures of the last seconds by route and target, from the ledger's newest rows."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.store.ledger_models import LedgerEntry
from gateway.store.rollup import is_error

MOST_ROWS: Final = 50_000
"""Beyond so many requests the newest ones speak for the window."""


class Caller(NamedTuple):
    """Who makes requests: by key, and of intercepted ones of this host by what the kernel says."""

    app: str | None
    process: str | None
    user: str | None
    container: str | None


@dataclass(slots=True)
class RouteFigures:
    """What the ledger knows of one route and target. Times in milliseconds."""

    route: str
    target: str | None
    requests: int = 0
    errors: int = 0
    ttft_ms: list[float] = field(default_factory=list)
    """Of each answer that had a first token, in ascending order."""
    callers: Counter["Caller"] = field(default_factory=Counter)
    """Requests by who made them."""


def route_figures(session: Session, since_ns: int, team: str | None) -> list[RouteFigures]:
    """By route and target; `team` narrows to one team's requests."""
    query = (
        select(
            LedgerEntry.route,
            LedgerEntry.target,
            LedgerEntry.status,
            LedgerEntry.outcome,
            LedgerEntry.ttft_ms,
            LedgerEntry.app,
            LedgerEntry.process,
            LedgerEntry.user,
            LedgerEntry.container,
        )
        .where(LedgerEntry.started_at_ns >= since_ns, LedgerEntry.route.is_not(None))
        .order_by(LedgerEntry.started_at_ns.desc())
        .limit(MOST_ROWS)
    )
    if team is not None:
        query = query.where(LedgerEntry.team == team)
    found: dict[tuple[str, str], RouteFigures] = {}
    for route, target, status, outcome, ttft_ms, *caller in session.execute(query):
        name = route or ""
        figures = found.setdefault((name, target or ""), RouteFigures(name, target))
        figures.requests += 1
        figures.callers[Caller(*caller)] += 1
        figures.errors += is_error(status, outcome)
        if ttft_ms is not None:
            figures.ttft_ms.append(ttft_ms)
    for figures in found.values():
        figures.ttft_ms.sort()
    return [figures for _, figures in sorted(found.items())]


def percentile(ascending: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of at least one value."""
    return ascending[min(len(ascending) - 1, int(share * len(ascending)))]
