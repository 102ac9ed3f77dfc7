"""`POST /api/v1/routes/{route}/explain`: what would happen to a request, without sending, counting or reserving it."""

from typing import Annotated, Any, Final, Literal

import orjson
from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.caller import Desk, permit
from gateway.errors import NotFound
from gateway.policy.explanation import Explanation, LimitNeed, Question, TargetExplained
from gateway.policy.model import Dialect, Metric, Window
from gateway.policy.quota import LimitState, shown
from gateway.policy.roles import Permission
from gateway.store.config.editing import Editing
from gateway.store.config.limits import Limits
from gateway.store.config.routes import Routes
from gateway.store.config.teams import Apps, Keys

router = APIRouter(prefix="/api/v1")

MICROS_PER_USD: Final = 1_000_000
Tokens = Annotated[int, Field(ge=0, le=10**12)]


class ExplainRequest(BaseModel):
    """A request to be imagined. All is optional: what is left out stays open in the answer, or is as usual."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"app": "indexer", "input_tokens": 1200, "output_tokens": 400},
                {
                    "key": "indexer/ci",
                    "dialect": "openai",
                    "body": {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100},
                },
                {"host": "crm.internal", "path": "/v2/customers", "method": "GET", "app": "indexer"},
            ]
        },
    )

    app: str | None = None
    """Whose limits and permissions count."""
    key: str | None = None
    """`app/name`; settles `app` too."""
    dialect: Dialect | None = None
    """Left out: what `path` says, else that of the route's first target."""
    method: Annotated[str, Field(pattern=r"^[A-Z]{1,20}$")] = "POST"
    host: Annotated[str | None, Field(max_length=253)] = None
    path: Annotated[str | None, Field(max_length=2048, pattern=r"^/[!-~]*$")] = None
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    """Left out: what `body` says, else the route's `max_output_tokens`."""
    body: dict[str, Any] | None = None
    """A sample in the dialect, of which the bounds are read."""


class LimitRoom(BaseModel):
    """One limit that applies. Amounts in the metric's unit; cost in USD."""

    limit: str | None
    """null: a limit that your role does not show."""
    metric: Metric
    window: Window | None
    used: int | float | None
    reserved: int | float | None
    at_most: int | float | None
    need: int | float | None
    """What the request would reserve; null where its price is not known."""
    admits: bool | None
    """Whether there is room now; null while the keeper is away."""


class TargetAnswer(BaseModel):
    target: str
    provider: str
    model: str | None
    state: Literal["ready", "half_open", "cooling", "down"]
    reasons: list[str]
    """Why it stands here, the weightiest first."""
    zone: str | None
    tags: list[str]
    weight: int
    in_flight: int
    ttft_ms: float | None
    cost_bound_usd: float | None
    credential: str | None
    credentials_aside: list[str]
    limits: list[LimitRoom]
    admits: bool | None
    """Whether all limits have room for it on this target."""
    cooling_in: list[str] | None
    """Workers of this node that avoid it now; null while the keeper is away."""


class Skipped(BaseModel):
    target: str
    reason: str


class AnsweringWorker(BaseModel):
    """Who answered. Health, load and latency are each worker's own; limits are those of all."""

    pid: int
    generation: int
    workers: list[str] | None
    """All workers of this node; null while the keeper is away."""


class ExpectedAnswer(BaseModel):
    """What the caller would get, as far as it can be told before an upstream is asked."""

    status: int | None
    """200: a target would be asked. null: it cannot be told while the keeper is away."""
    code: str | None
    target: str | None
    reason: str


class ExplainAnswer(BaseModel):
    route: str
    dialect: Dialect
    claimed: bool
    """Whether such a request comes to this route."""
    match: str
    allowed: bool | None
    """Whether the app may call it; null: no app was named."""
    access: str
    input_tokens: int
    output_tokens: int
    attempts: int
    """At most, retries included."""
    outcome: ExpectedAnswer
    targets: list[TargetAnswer]
    """In the order in which they would be tried."""
    skipped: list[Skipped]
    worker: AnsweringWorker


@router.api_route(
    "/routes/{ref:path}/explain", methods=["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"], include_in_schema=False
)
def explain_no_other_way(ref: str) -> None:
    """Names of routes may hold slashes: without this, these methods would be about a route named `…/explain`."""
    raise HTTPException(405, headers={"allow": "POST"})


@router.post("/routes/{ref:path}/explain", tags=["routes"])
def explain_route(
    ref: str, body: ExplainRequest, desk: Annotated[Desk, permit(Permission.SERVICES_READ)]
) -> ExplainAnswer:
    """Match, access, the order of targets with reasons, limits with their room, the most it may cost.

    One worker answers, with what it knows of health, load and latency; `cooling_in` names the workers that avoid a
    target. Nothing is sent, counted or reserved. Team roles ask about their own apps, and see no limits but their own.
    """
    with desk.reading() as editing:
        route = Routes(editing).get(ref)
        app, key = _caller(editing, body)
        found = desk.services.explain(
            Question(
                route=route.name,
                app=app,
                key=key,
                dialect=body.dialect,
                method=body.method,
                host=body.host,
                path=body.path,
                input_tokens=body.input_tokens,
                output_tokens=body.output_tokens,
                body=None if body.body is None else orjson.dumps(body.body),
            )
        )
        limits = {need.limit.id: need.limit.name for target in found.targets for need in target.limits}
        visible = {id_ for id_ in limits if _visible(editing, id_)}
    states = {id_: desk.services.limit_state_if_there(id_) for id_ in limits}
    health = desk.services.health_if_there()
    whole = desk.caller.may(Permission.CONFIGURATION_READ)
    targets = [_target(one, states, visible, health, whole=whole) for one in found.targets]
    return ExplainAnswer(
        route=route.name,
        dialect=found.dialect,
        claimed=found.claimed,
        match=found.match,
        allowed=found.allowed,
        access=found.access,
        input_tokens=found.input_tokens,
        output_tokens=found.output_tokens,
        attempts=found.attempts,
        outcome=_outcome(found, targets),
        targets=targets,
        skipped=[Skipped(target=name, reason=reason) for name, reason in found.skipped],
        worker=AnsweringWorker(
            pid=found.pid,
            generation=found.generation,
            workers=None if health is None else [one["worker"] for one in health["workers"]],
        ),
    )


def _caller(editing: Editing, body: ExplainRequest) -> tuple[str | None, str | None]:
    """Names of app and key. Raises NotFound for what is not there, or belongs to another team."""
    if body.key is not None:
        key = Keys(editing).get(body.key)
        if body.app is not None and Apps(editing).get(body.app).name != key.app:
            raise NotFound(f"app {body.app} has no key {body.key}", fix="leave `app` out, or name one of its keys")
        return key.app, key.name.rpartition("/")[2]
    return (None, None) if body.app is None else (Apps(editing).get(body.app).name, None)


def _visible(editing: Editing, limit_id: int) -> bool:
    try:
        Limits(editing).get(str(limit_id))
    except NotFound:
        return False
    return True


def _target(
    one: TargetExplained,
    states: dict[Any, LimitState | None],
    visible: set[Any],
    health: dict[str, Any] | None,
    *,
    whole: bool,
) -> TargetAnswer:
    limits = [_figure(need, states[need.limit.id], shown_whole=need.limit.id in visible) for need in one.limits]
    cost = one.cost_bound_microusd
    judged = [each.admits for each in limits]
    return TargetAnswer(
        target=one.target,
        provider=one.provider,
        model=one.model,
        state=one.state,
        reasons=list(one.reasons),
        zone=one.zone,
        tags=list(one.tags),
        weight=one.weight,
        in_flight=one.in_flight,
        ttft_ms=one.ttft_ms,
        cost_bound_usd=None if cost is None else cost / MICROS_PER_USD,
        credential=one.credential if whole else None,
        credentials_aside=list(one.credentials_aside) if whole else [],
        limits=limits,
        admits=False if False in judged else None if None in judged else True,
        cooling_in=None
        if health is None
        else [worker["worker"] for worker in health["workers"] if one.target in worker["cooling"]],
    )


def _figure(need: LimitNeed, state: LimitState | None, *, shown_whole: bool) -> LimitRoom:
    limit, metric = need.limit, need.limit.metric
    admits: bool | None
    if need.unpriced:
        admits = limit.unpriced == "admit"
    elif need.need > limit.at_most:
        admits = False
    else:
        admits = None if state is None else state.used + state.reserved + need.need <= limit.at_most
    open_figures = shown_whole and state is not None
    return LimitRoom(
        limit=limit.name if shown_whole else None,
        metric=metric,
        window=None if metric is Metric.CONCURRENT_REQUESTS else limit.window,
        used=shown(metric, state.used) if open_figures and state is not None else None,
        reserved=shown(metric, state.reserved) if open_figures and state is not None else None,
        at_most=shown(metric, limit.at_most) if shown_whole else None,
        need=None if need.unpriced else shown(metric, need.need),
        admits=admits,
    )


def _outcome(found: Explanation, targets: list[TargetAnswer]) -> ExpectedAnswer:
    def refused(status: int, code: str, reason: str) -> ExpectedAnswer:
        return ExpectedAnswer(status=status, code=code, target=None, reason=reason)

    if not found.claimed:
        return refused(404, "route_not_found", f"it does not come to this route: {found.match}")
    if found.allowed is False:
        expired = "expired" in found.access
        return refused(401 if expired else 403, "invalid_api_key" if expired else "route_not_allowed", found.access)
    if not targets:
        return refused(400, "dialect_unsupported", f"no target of the route speaks {found.dialect}")
    possible = [one for one in targets if one.state != "down"]
    if not possible:
        return refused(503, "no_healthy_target", "every target is down")
    for one in possible:
        if one.admits is None:
            return ExpectedAnswer(
                status=None, code=None, target=one.target, reason="the keeper is away: room in limits is not known"
            )
        if one.admits:
            return ExpectedAnswer(status=200, code=None, target=one.target, reason="; ".join(one.reasons))
    named = {need.limit.name: need for target in found.targets for need in target.limits}
    refusing = [each for one in possible for each in one.limits if each.admits is False]
    which = ", ".join(sorted({each.limit or "a limit of the gateway" for each in refusing}))
    waiting_helps = any(
        not named[each.limit].unpriced and named[each.limit].need <= named[each.limit].limit.at_most
        for each in refusing
        if each.limit is not None
    )
    hidden = any(each.limit is None for each in refusing)
    if waiting_helps or hidden:
        return refused(429, "limit_exceeded", f"no room in {which}")
    return refused(400, "request_exceeds_limit", f"it is larger than all of {which}, or its price is not known")
