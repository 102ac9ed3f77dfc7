"""`GET /api/v1/telemetry` and `/series`: what probes run and cost, and the kernel's figures over time.

Single seconds of the last hour are in the keeper's memory, minutes of 30 days and hours of a year in SQL.
"""

import time
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel

from gateway.api.caller import Desk, permit
from gateway.api.kernel_view import KernelView, view_of
from gateway.api.ledger import Time
from gateway.api.telemetry import NO_KEEPER, RouteTelemetry, Window, get_route_telemetry, kernel_source
from gateway.errors import BadRequest
from gateway.policy.roles import Permission
from gateway.store.kernel_history import read_steps
from gateway.store.kernel_models import HOUR_S, MINUTE_S
from gateway.store.kernel_series import Measured

router = APIRouter(prefix="/api/v1/telemetry", tags=["telemetry"])

STEPS: Final = {"1s": 1, "1m": MINUTE_S, "1h": HOUR_S}
LONGEST_S: Final = {1: 3600, MINUTE_S: 7 * 86400, HOUR_S: 366 * 86400}
"""What one question may ask for, by step."""
LONGEST_OF_ALL_S: Final = 600
"""The same of single seconds where no route and target is named."""


class ProgramCost(BaseModel):
    """A program in the kernel. Cost since the keeper started."""

    program: str
    run_seconds: float
    runs: int


class Telemetry(BaseModel):
    """Probes, and the routes as of the last seconds."""

    source: str
    """Where the kernel's figures come from, or why there are none."""
    features: dict[str, str | None]
    """What probes are used for: null = works, else why it does not."""
    programs: list[ProgramCost]
    lost: dict[str, int]
    """What maps and buffers had no room for, by what it was."""
    routes: list[RouteTelemetry]


class SeriesPoint(KernelView):
    """A step in time. Steps in which nothing happened are left out."""

    at: datetime
    """When the step began."""
    route: str
    target: str


class SeriesList(BaseModel):
    step: str
    source: str
    items: list[SeriesPoint]
    next_cursor: str | None
    """Always null."""


@router.get("")
def get_telemetry(desk: Annotated[Desk, permit(Permission.USAGE_READ)], window: Window = "60s") -> Telemetry:
    """What the probes of this node see, what they are and what they cost."""
    routes = get_route_telemetry(desk, window).items
    told = desk.services.kernel_if_there(window_s=0)
    if told is None:
        return Telemetry(source=NO_KEEPER, features={}, programs=[], lost={}, routes=routes)
    return Telemetry(
        source=kernel_source(told),
        features=told["features"],
        programs=[
            ProgramCost(program=name, run_seconds=cost[0], runs=cost[1])
            for name, cost in sorted(told["programs"].items())
        ],
        lost=told["lost"],
        routes=routes,
    )


@router.get("/series")
def get_series(
    desk: Annotated[Desk, permit(Permission.CONFIGURATION_READ)],
    step: Annotated[str, Query(pattern="^(1s|1m|1h)$", description="Length of a step: 1s, 1m or 1h")] = "1s",
    from_: Annotated[Time | None, Query(alias="from", description="Default: what one question may ask for")] = None,
    to: Annotated[Time | None, Query(description="Default: now")] = None,
    route: str | None = None,
    target: str | None = None,
) -> SeriesList:
    """The kernel's figures by step, oldest first: seconds of the last hour (of this node), minutes of 30 days, hours of
    a year (of all nodes together)."""
    step_s = STEPS[step]
    now_s = time.time()
    longest_s = LONGEST_S[step_s]
    if step_s == 1 and (route is None or target is None):
        longest_s = LONGEST_OF_ALL_S
    to_s = now_s if to is None else to.timestamp()
    from_s = to_s - longest_s if from_ is None else from_.timestamp()
    if not 0 < to_s - from_s <= longest_s:
        raise BadRequest(
            f"steps of {step} are shown for at most {longest_s} s at once",
            fix="ask for less, in longer steps" + (", or for one route and target" if step_s == 1 else ""),
        )
    if step_s == 1:
        named: dict[str, Any] = {} if route is None or target is None else {"route": route, "target": target}
        told = desk.services.kernel(since_s=from_s, **named)
        points = [
            (at_s - 1, each_route, each_target, Measured.of(plain))
            for at_s, came in told["seconds"]
            if at_s <= to_s
            for each_route, each_target, plain in came
            if route in (None, each_route) and target in (None, each_target)
        ]
        return _listed(step, kernel_source(told), points)
    with desk.read() as session:
        steps = read_steps(session, step_s, int(from_s), int(to_s) + 1, route, target)
    return _listed(step, "SQL", [(at_s, *names, measured) for (at_s, names), measured in steps.items()])


def _listed(step: str, source: str, points: list[tuple[float, str, str, Measured]]) -> SeriesList:
    items = [
        SeriesPoint(at=datetime.fromtimestamp(at_s, UTC), route=route, target=target, **view_of(measured))
        for at_s, route, target, measured in points
    ]
    return SeriesList(step=step, source=source, items=items, next_cursor=None)
