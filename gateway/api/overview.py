"""`GET /api/v1/overview`: what needs somebody, which limits near their end, and what stands at the gate."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel

from gateway.api.caller import Desk, permit
from gateway.api.interception import get_interception
from gateway.policy.discovery import State
from gateway.policy.model import Metric, Window
from gateway.policy.quota import shown
from gateway.policy.roles import Permission
from gateway.policy.windows import NEVER_S
from gateway.store import standing
from gateway.store.access import pending_count
from gateway.store.config.limits import Limits

router = APIRouter(prefix="/api/v1", tags=["usage"])

NEAR: Final = 0.8
"""Of a limit: from here on somebody should look."""
LIMITS_LOOKED_AT: Final = 50


class Need(StrEnum):
    """Why somebody should look."""

    ACCESS_REQUESTS = "access_requests"
    FINDINGS = "findings"
    """Nobody has decided about `count` processes or clients that go past the gateway."""
    LIMIT = "limit"
    """`subject` is used up, nearly so, or will be before its window ends."""
    UNPRICED = "unpriced"
    """`subject` (a target) answered `count` requests of today and yesterday whose cost nobody knows."""
    CREDENTIAL = "credential"
    """The provider has refused or limited `subject` (`provider/credential`)."""
    TARGET = "target"
    """`subject` gets no request but a trial."""
    PROVIDER = "provider"
    """The active check of `subject` fails."""
    RULE = "rule"
    """The interception rule `subject` is not armed."""
    DATABASE = "database"


class NeedView(BaseModel):
    need: Need
    subject: str | None = None
    count: int | None = None
    why: str | None = None
    """In words, where there is more to say."""


class LimitNear(BaseModel):
    """A limit in its present window, without requests in flight. Amounts in the metric's unit; cost in USD."""

    name: str
    metric: Metric
    window: Window
    used: int | float
    at_most: int | float
    started_at: datetime
    resets_at: datetime | None
    """null = never."""
    expected: int | float | None
    """Used by then, if it goes on as it went in this window; null = too early to tell."""
    gone_at: datetime | None
    """When nothing of it is left at this pace; null = not in this window, or too early to tell."""


class Gate(BaseModel):
    """Of the node that answers; counts of connections since the agent started."""

    rules: int
    armed: int
    captured: int
    passed: int
    """Of these untouched."""
    denied: int
    """By interception rules and denials."""
    findings: dict[str, int]
    """How many by state."""
    trouble: str | None
    """Why nothing is captured, found and denied; null = all is well."""


class Overview(BaseModel):
    needs: list[NeedView]
    """The most pressing first; empty = nobody is needed."""
    limits: list[LimitNear]
    """The fullest first."""
    gate: Gate | None
    """null for team roles."""


@router.get("/overview")
def get_overview(
    desk: Annotated[Desk, permit(Permission.USAGE_READ)], limits: Annotated[int, Query(ge=1, le=20)] = 5
) -> Overview:
    """As it stands. Team roles see what is their team's."""
    now_s = time.time()
    platform = desk.team_id is None and desk.caller.may(Permission.CONFIGURATION_READ)
    with desk.reading() as editing:
        session = editing.session
        near = standing.fullest_limits(session, Limits(editing), desk.team_id, now_s, LIMITS_LOOKED_AT)
        pending = pending_count(session, desk.team_id)
        unpriced = standing.unpriced_targets(session, desk.caller.team, now_s)
        found = standing.findings_by_state(session) if platform else {}
        ruled = platform and standing.has_rules(session)
    gate, needs = None, list[NeedView]()
    if platform:
        needs += _troubles(desk)
        gate = _gate(desk, found, needs, ruled=ruled)
    needs += [_near(limit) for limit in near if _presses(limit)]
    if pending:
        needs.append(NeedView(need=Need.ACCESS_REQUESTS, count=pending))
    if found.get(State.NEW):
        needs.append(NeedView(need=Need.FINDINGS, count=found[State.NEW]))
    needs += [NeedView(need=Need.UNPRICED, subject=one.target, count=one.requests) for one in unpriced]
    return Overview(needs=needs, limits=[_view(limit) for limit in near[:limits]], gate=gate)


def _presses(limit: standing.LimitStanding) -> bool:
    """A lifetime's limit is only told of near its end: nobody knows how long it should last."""
    gone = limit.forecast is not None and limit.forecast.gone_at_s is not None
    return gone or limit.used >= NEAR * limit.at_most


def _near(limit: standing.LimitStanding) -> NeedView:
    return NeedView(need=Need.LIMIT, subject=limit.name, count=round(100 * limit.used / limit.at_most))


def _view(limit: standing.LimitStanding) -> LimitNear:
    ahead = limit.forecast
    return LimitNear(
        name=limit.name,
        metric=limit.metric,
        window=limit.window,
        used=shown(limit.metric, limit.used),
        at_most=shown(limit.metric, limit.at_most),
        started_at=_moment(limit.start_s),
        resets_at=None if limit.end_s == NEVER_S else _moment(limit.end_s),
        expected=None if ahead is None else shown(limit.metric, ahead.expected),
        gone_at=None if ahead is None or ahead.gone_at_s is None else _moment(ahead.gone_at_s),
    )


def _troubles(desk: Desk) -> Iterator[NeedView]:
    """What upstreams and the database lack."""
    for why in desk.services.degraded():
        yield NeedView(need=Need.DATABASE, why=why)
    health = desk.services.health_if_there()
    if health is None:
        return
    for one in health["providers"]:
        if not one["healthy"]:
            yield NeedView(need=Need.PROVIDER, subject=one["provider"], why=one["reason"] or None)
    aside = {tuple(each) for worker in health["workers"] for each in worker["aside"]}
    cooling = {target for worker in health["workers"] for target in worker["cooling"]}
    for provider, credential in sorted(aside):
        yield NeedView(need=Need.CREDENTIAL, subject=f"{provider}/{credential}")
    for target in sorted(cooling):
        yield NeedView(need=Need.TARGET, subject=target)


def _gate(desk: Desk, found: dict[str, int], needs: list[NeedView], *, ruled: bool) -> Gate:
    """Adds the rules that are not armed to `needs`."""
    at_work = desk.services.enforcement(with_rules=False)
    denied = sum(one.denied or 0 for one in at_work.denials.values())
    if not ruled:
        return Gate(
            rules=0, armed=0, captured=0, passed=0, denied=denied, findings=found, trouble=at_work.reason
        )  # fmt: skip
    kernel = get_interception(desk)
    needs += [NeedView(need=Need.RULE, subject=rule.rule, why=rule.reason) for rule in kernel.rules if not rule.armed]
    return Gate(
        rules=len(kernel.rules),
        armed=sum(rule.armed for rule in kernel.rules),
        captured=sum(rule.captured or 0 for rule in kernel.rules),
        passed=sum(rule.passed or 0 for rule in kernel.rules),
        denied=denied + sum(rule.denied or 0 for rule in kernel.rules),
        findings=found,
        trouble=kernel.trouble or at_work.reason,
    )


def _moment(at_s: int) -> datetime:
    return datetime.fromtimestamp(at_s, UTC)
