"""Notices of budgets: told at 50, 80 and 100 %, once in each window, by whichever keeper sees it first.

A budget is a limit on cost or tokens by day or longer. It is used up where requests are refused, too: what is left may
be too little for any.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session, joinedload

from gateway.policy.model import Metric, Window
from gateway.policy.quota import shown
from gateway.policy.windows import NEVER_S, rfc3339, window_end_s
from gateway.store import notices
from gateway.store.contacts import Contacts
from gateway.store.leases import LimitUse
from gateway.store.models import App, Key, LimitRule
from gateway.store.notices import Kind

THRESHOLDS: Final = (100, 80, 50)
REFUSING_FROM: Final = 0.8
"""From this share on a refusal means that the budget is used up, and not that others hold what is left of it."""
BUDGET_METRICS: Final = frozenset({Metric.COST_USD, Metric.TOTAL_TOKENS, Metric.INPUT_TOKENS, Metric.OUTPUT_TOKENS})
BUDGET_WINDOWS: Final = frozenset({Window.DAY, Window.WEEK, Window.MONTH, Window.LIFETIME})


@dataclass(frozen=True, slots=True)
class Reached:
    """A limit has reached a threshold within the window that began at `start_s`."""

    limit_id: int
    start_s: int
    threshold: int
    ratio: float
    account: int
    """Limit and metric in one (`quota.account_of`)."""
    at_most: int

    @property
    def once(self) -> str:
        """A budget that is raised, or counts something else, is told of anew."""
        return f"budget:{self.account}:{self.at_most}:{self.start_s}:{self.threshold}"


def reached(uses: Iterable[LimitUse], refused: Iterable[int]) -> list[Reached]:
    """The highest threshold of each limit that has reached one. `refused`: limits that have refused a request."""
    refusing = frozenset(refused)
    found = []
    for use in uses:
        if use.concurrent:
            continue
        ratio = use.ratio
        if use.limit_id in refusing and ratio >= REFUSING_FROM:
            ratio = max(ratio, 1.0)
        threshold = next((each for each in THRESHOLDS if ratio * 100 >= each), None)
        if threshold is not None:
            found.append(Reached(use.limit_id, use.key[1], threshold, use.ratio, use.key[0], use.at_most))
    return found


def write(session: Session, contacts: Contacts, what: Reached) -> bool:
    """Whether a notice was written: not for what is no budget, nor for what was told of in this window."""
    rule = session.scalars(
        select(LimitRule)
        .options(joinedload(LimitRule.team), joinedload(LimitRule.app).joinedload(App.team))
        .options(joinedload(LimitRule.key).joinedload(Key.app).joinedload(App.team))
        .where(LimitRule.id == what.limit_id)
    ).one_or_none()
    if rule is None:
        return False
    metric, window = Metric(rule.metric), Window(rule.window)
    if metric not in BUDGET_METRICS or window not in BUDGET_WINDOWS:
        return False
    team = rule.team or (rule.app.team if rule.app is not None else None)
    if team is None and rule.key is not None:
        team = rule.key.app.team
    amount = (
        f"${shown(metric, rule.at_most):,.2f}" if metric is Metric.COST_USD else f"{rule.at_most:,} {_words(metric)}"
    )
    bound = amount if window is Window.LIFETIME else f"{amount} a {window}"
    title = (
        f"Budget {rule.name} is used up: {bound}"
        if what.threshold == THRESHOLDS[0]
        else f"Budget {rule.name}: {what.threshold} % of {bound} is used"
    )
    ends_s = window_end_s(window, what.start_s)
    document = {
        "limit": rule.name,
        "threshold": what.threshold,
        "used_ratio": round(what.ratio, 6),
        "at_most": shown(metric, rule.at_most),
        "metric": metric.value,
        "window": window.value,
        "resets_at": None if ends_s >= NEVER_S else rfc3339(ends_s),
    }
    to = contacts.of_platform() if team is None else contacts.of_team(session, team.id)
    team_id = None if team is None else team.id
    return notices.write(session, Kind.BUDGET, title, document, team_id=team_id, to=to, once=what.once) is not None


def _words(metric: Metric) -> str:
    return metric.value.replace("total_", "").replace("_", " ")
