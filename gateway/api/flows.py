"""`GET /api/v1/flows`: who calls what by which way, and what goes past us.

`GET /api/v1/first-tokens`: how soon answers begin, as percentiles of all of them.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from gateway.api.caller import Desk, permit
from gateway.api.ledger import Name, Since, Until, hours_between, own_team
from gateway.policy.discovery import State
from gateway.policy.roles import Permission
from gateway.store import flows
from gateway.store.config.denials import Denials

router = APIRouter(prefix="/api/v1", tags=["usage"])

Reading = Annotated[Desk, permit(Permission.USAGE_READ)]

DEFAULT_PATHS = 300
MOST_PATHS = 2_000
MOST_DENIALS = 200


class Measure(StrEnum):
    TOKENS = "tokens"
    COST = "cost"
    REQUESTS = "requests"
    BYTES = "bytes"


class FlowSums(BaseModel):
    requests: int
    errors: int
    """Refused by us, failed upstream, or interrupted."""
    refused: int
    """By us, before anything went upstream."""
    unpriced: int
    """Requests that used tokens whose cost is not known: `cost_usd_micros` lacks them."""
    input_tokens: int
    output_tokens: int
    cost_usd_micros: int


class FlowPath(FlowSums):
    """One way through the gateway. A name is null where its requests had none."""

    process: str | None
    user: str | None
    container: str | None
    team: str | None
    app: str | None
    key: str | None
    route: str | None
    target: str | None
    provider: str | None
    bytes: int | None
    """Both ways; null = nobody counted them."""
    bytes_estimated: bool
    """Its part by tokens of what the kernel counted for route and target."""


class FlowOthers(FlowSums):
    """All paths that found no room."""

    paths: int


class FirstTokens(BaseModel):
    """Milliseconds from a request's arrival to its answer's first token, within an eighth of the truth."""

    p50: float
    p95: float
    p99: float
    count: int


class FirstTokensCompared(FirstTokens):
    before: FirstTokens | None
    """Of as much time before; null = no answers then."""


class FirstTokensOf(BaseModel):
    """By name. Hours at both ends count as whole ones; of a week and more, days."""

    all: FirstTokensCompared | None
    routes: dict[str, FirstTokensCompared]
    targets: dict[str, FirstTokensCompared]
    providers: dict[str, FirstTokensCompared]


class FlowPast(BaseModel):
    """A finding's traffic past the gateway, or a denial's. Hours at both ends count as whole ones."""

    finding: int | None
    """Its id; null = a denial that was made by itself."""
    denial: str | None = None
    """Its name, where there is no finding."""
    process: str | None
    user: str | None
    container: str | None
    unit: str | None
    client: str | None
    provider: str | None
    host: str | None
    state: State
    connections: int
    bytes: int
    calls: int
    """Read within TLS, where the process is chosen for that; else 0, as are tokens."""
    input_tokens: int
    output_tokens: int
    refused: int | None
    """Connections that the kernel has refused since the denial was loaded; null = none is loaded, or not known."""


class Flows(BaseModel):
    from_: datetime = Field(alias="from")
    to: datetime
    paths: list[FlowPath]
    """The largest first."""
    others: FlowOthers | None
    first_tokens: FirstTokensOf
    past: list[FlowPast]
    """Empty for team roles."""
    kernel: str | None
    """Why nothing is found, denied and counted in the kernel of the node that answers; null = all is well."""


class FirstTokenItem(BaseModel):
    team: str | None = None
    route: str | None = None
    target: str | None = None
    provider: str | None = None
    hour: datetime | None = None
    day: datetime | None = None
    p50: float
    p95: float
    p99: float
    count: int


class FirstTokenList(BaseModel):
    items: list[FirstTokenItem]
    next_cursor: str | None
    """Always null."""


def wanted_paths(
    desk: Reading,
    process: Name = None,
    user: Name = None,
    container: Name = None,
    team: Name = None,
    app: Name = None,
    key: Name = None,
    route: Name = None,
    target: Name = None,
    provider: Name = None,
) -> dict[str, str | None]:
    """Dependency: what the picture is confined to, an empty name meaning requests without one."""
    return {
        "process": process,
        "user": user,
        "container": container,
        "team": own_team(desk, team),
        "app": app,
        "key": key,
        "route": route,
        "target": target,
        "provider": provider,
    }


@router.get("/flows", response_model=Flows)
def get_flows(
    desk: Reading,
    only: Annotated[dict[str, str | None], Depends(wanted_paths)],
    since: Since = None,
    until: Until = None,
    measure: Annotated[Measure, Query(description="What the largest paths are the largest by")] = Measure.TOKENS,
    limit: Annotated[int, Query(ge=1, le=MOST_PATHS, description="Paths at most; the rest is summed")] = DEFAULT_PATHS,
) -> Response:
    """Process or client, app, route, target, provider: each way that requests of this time took, and what went past."""
    now = datetime.now(UTC)
    begin, end = flows.default_span(since, until, now)
    denials, kernel = _past_of(desk)
    services = desk.services
    question = flows.flow_question(
        services.engine, begin, end, only, measure=measure, limit=limit, denials=denials, kernel=kernel, now=now
    )
    return services.reports.respond(question, repr(("flows", only, hours_between(begin, end))))


@router.get("/first-tokens", response_model=FirstTokenList)
def get_first_tokens(
    desk: Reading,
    group_by: Annotated[
        str, Query(max_length=256, description=f"Comma list of {', '.join(flows.FIRST_TOKEN_GROUPS)}")
    ] = "",
    since: Since = None,
    until: Until = None,
    team: Name = None,
    route: Name = None,
    target: Name = None,
    provider: Name = None,
) -> Response:
    """Percentiles of the time to the first token, of all answers of this time. Hours at both ends count as whole; of a
    week and more, days."""
    now = datetime.now(UTC)
    begin, end = flows.default_span(since, until, now)
    groups = list(dict.fromkeys(name.strip() for name in group_by.split(",") if name.strip()))
    only = {"team": own_team(desk, team), "route": route, "target": target, "provider": provider}
    services = desk.services
    question = flows.first_token_question(services.engine, groups, begin, end, only, now=now)
    shape = repr(("first tokens", groups, only, hours_between(begin, end)))
    return services.reports.respond(question, shape)


def _past_of(desk: Desk) -> tuple[list[dict[str, Any]] | None, str | None]:
    """Denials as the kernel has them, and why there is nothing of it; None for who may not know of either."""
    if desk.team_id is not None or not desk.caller.may(Permission.CONFIGURATION_READ):
        return None, None
    with desk.reading() as editing:
        written = Denials(editing).list(after_id=0, limit=MOST_DENIALS)
    standing = desk.services.enforcement(with_rules=False)
    found = []
    for view in map(standing.of_denial, written):
        program = (view.executable or "").rpartition("/")[2] or None
        found.append(
            {
                "finding": view.discovery,
                "denial": view.name,
                "process": program,
                "user": view.user,
                "container": view.container,
                "provider": view.provider,
                "host": ", ".join([*view.hosts, *view.cidrs]) or None,
                "state": State.DENY.value,
                "refused": view.denied,
            }
        )
    return found, standing.reason
