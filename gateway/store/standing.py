"""What the overview asks of SQL beside usage: limits near their end, what is undecided, models without a price."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Integer, and_, case, cast, func, select
from sqlalchemy.orm import Session

from gateway.policy.forecast import Forecast, forecast
from gateway.policy.model import Metric, Window
from gateway.policy.quota import METRIC_INDEX, METRICS_KEPT
from gateway.policy.windows import window_end_s, window_start_s
from gateway.store.config.discoveries import state_now
from gateway.store.config.limits import Limits
from gateway.store.discovery_models import Discovery
from gateway.store.flow_models import DAY_S
from gateway.store.flow_rollup import FLOW_SUM
from gateway.store.ledger_models import LimitAccount
from gateway.store.models import InterceptionRule, LimitRule

LONG_WINDOWS: Final = (Window.HOUR, Window.DAY, Window.WEEK, Window.MONTH, Window.LIFETIME)
"""Whoever looks at a page can do something about these; a minute's limit is whole again before they have read it."""
MOST_UNPRICED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitStanding:
    """A limit in its present window, as far as requests have ended. Cost in micro-USD."""

    name: str
    metric: Metric
    window: Window
    used: int
    at_most: int
    start_s: int
    end_s: int
    forecast: Forecast | None


@dataclass(frozen=True, slots=True)
class Unpriced:
    provider: str
    target: str
    requests: int


def fullest_limits(
    session: Session, limits: Limits, team_id: int | None, now_s: float, count: int
) -> list[LimitStanding]:
    """Those of which the greatest part is used, of windows of an hour and longer."""
    starts = {window: window_start_s(window, now_s) for window in LONG_WINDOWS}
    account = LimitRule.id * METRICS_KEPT + case(
        *[(LimitRule.metric == metric.value, number) for metric, number in METRIC_INDEX.items()], else_=-1
    )
    start = case(*[(LimitRule.window == window.value, at_s) for window, at_s in starts.items()], else_=-1)
    filled: ColumnElement[Any] = func.coalesce(LimitAccount.settled, 0) * 1.0 / LimitRule.at_most
    query = (
        select(LimitRule.id, LimitRule.name, LimitRule.metric, LimitRule.window, LimitRule.at_most)
        .add_columns(func.coalesce(LimitAccount.settled, 0))
        .outerjoin(LimitAccount, and_(LimitAccount.account == account, LimitAccount.window_start_s == start))
        .where(LimitRule.window.in_([window.value for window in LONG_WINDOWS]))
        .where(LimitRule.metric != Metric.CONCURRENT_REQUESTS.value, LimitRule.at_most > 0)
        .order_by(filled.desc(), LimitRule.id)
        .limit(count)
    )
    if team_id is not None:
        query = query.where(LimitRule.id.in_(limits.visible(select(LimitRule.id), team_id)))
    found = []
    for _, name, metric, written, at_most, used in session.execute(query):
        window = Window(written)
        start_s = starts[window]
        end_s = window_end_s(window, start_s)
        found.append(
            LimitStanding(
                name=name,
                metric=Metric(metric),
                window=window,
                used=used,
                at_most=at_most,
                start_s=start_s,
                end_s=end_s,
                forecast=forecast(used, at_most, start_s, end_s, now_s),
            )
        )
    return found


def findings_by_state(session: Session) -> dict[str, int]:
    rows = session.execute(select(state_now, func.count()).select_from(Discovery).group_by(state_now))
    return {str(state): count for state, count in rows}


def unpriced_targets(session: Session, team: str | None, now_s: float) -> Sequence[Unpriced]:
    """Whose answers of today and yesterday used tokens that nobody knows the price of, the busiest first."""
    table = FLOW_SUM.c
    requests = cast(func.sum(table.unpriced), Integer)
    query = (
        select(table.provider, table.target, requests)
        .where(table.step_s == DAY_S, table.at_s >= int(now_s) // DAY_S * DAY_S - DAY_S, table.unpriced > 0)
        .group_by(table.provider, table.target)
        .order_by(requests.desc())
        .limit(MOST_UNPRICED)
    )
    if team is not None:
        query = query.where(table.team == team)
    return [Unpriced(*row) for row in session.execute(query)]


def has_rules(session: Session) -> bool:
    return session.scalar(select(InterceptionRule.id).limit(1)) is not None
