"""`GET /api/v1/telemetry/…`: what each route and target did in the last seconds, and the health of upstreams.

Requests, errors and time to first token come from the ledger. Connect time, RTT, retransmits, gaps between tokens and
bytes come from the kernel's probes, which the agent loads: without it they are null, and `sources` says so.
"""

import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel

from gateway.api.caller import Desk, permit
from gateway.api.kernel_view import Distribution, KernelView, view_of
from gateway.errors import BadRequest
from gateway.policy.roles import Permission
from gateway.store.kernel_series import Measured
from gateway.store.route_figures import RouteFigures, percentile, route_figures

router = APIRouter(prefix="/api/v1/telemetry", tags=["telemetry"])

LONGEST_WINDOW_S: Final = 3600
CALLERS: Final = 10
NO_KEEPER: Final = "none: the keeper is away"
NOT_FOR_TEAMS: Final = "none: these figures are of all teams together"
KERNEL: Final = "the agent's probes"


class Sources(BaseModel):
    requests: str
    """Where `requests`, `errors` and `ttft_ms` come from."""
    kernel: str
    """Where all else comes from, or why it is null."""


def kernel_source(told: Mapping[str, Any]) -> str:
    """Where the kernel's figures come from, or why there are none; `told` by the keeper (`store.keeper_kernel`)."""
    if told["reason"]:
        return str(told["reason"])
    degraded = told["features"].get("routes")
    return (
        KERNEL
        if degraded is None
        else f"the kernel's list of sockets, once a second, as programs cannot be loaded: {degraded}"
    )


class RouteCaller(BaseModel):
    """Who made requests. `process`, `user` and `container` are the kernel's word on intercepted ones of this host."""

    app: str | None
    process: str | None
    user: str | None
    container: str | None
    requests: int


class RouteTelemetry(KernelView):
    """One route and target. Times in milliseconds; null = not measured, never 0."""

    route: str
    target: str | None
    requests: int
    errors: int
    ttft_ms: Distribution | None
    """From the request's head to the first token, by the gateway's own clock."""
    callers: list[RouteCaller]
    """Those with the most requests, at most ten."""
    sources: Sources


class RouteTelemetryList(BaseModel):
    items: list[RouteTelemetry]
    next_cursor: str | None
    """Always null: one page holds all routes."""


def seconds_of(window: str) -> int:
    """Raises BadRequest."""
    seconds = int(window[:-1]) * (60 if window.endswith("m") else 1)
    if not 0 < seconds <= LONGEST_WINDOW_S:
        raise BadRequest(f"the window {window} is not above 0 and up to 1 h", fix="write e.g. 60s or 5m")
    return seconds


Window = Annotated[str, Query(pattern=r"^[0-9]{1,4}[sm]$", description="E.g. 60s or 5m, at most an hour")]


@router.get("/routes")
def get_route_telemetry(
    desk: Annotated[Desk, permit(Permission.USAGE_READ)], window: Window = "60s"
) -> RouteTelemetryList:
    """Routes that had requests or traffic within the window. Team roles get those of their own requests."""
    seconds = seconds_of(window)
    team = desk.caller.team
    with desk.read() as session:
        found = route_figures(session, time.time_ns() - seconds * 1_000_000_000, team)
    measured: dict[tuple[str, str], Measured] = {}
    kernel = NOT_FOR_TEAMS
    if team is None:
        told = desk.services.kernel_if_there(window_s=seconds)
        kernel = NO_KEEPER
        if told is not None:
            measured = {(route, target): Measured.of(plain) for route, target, plain in told["series"]}
            kernel = kernel_source(told)
    known = {(figures.route, figures.target or ""): figures for figures in found}
    for route, target in measured:
        known.setdefault((route, target), RouteFigures(route, target))
    items = [
        RouteTelemetry(
            **view_of(measured.get(names)),
            route=figures.route,
            target=figures.target,
            requests=figures.requests,
            errors=figures.errors,
            ttft_ms=distribution(figures.ttft_ms),
            callers=[
                RouteCaller(**caller._asdict(), requests=count)
                for caller, count in figures.callers.most_common(CALLERS)
            ],
            sources=Sources(requests="ledger", kernel=kernel),
        )
        for names, figures in sorted(known.items())
    ]
    return RouteTelemetryList(items=items, next_cursor=None)


class ProviderHealth(BaseModel):
    """The active check of one provider (`health:` in its configuration)."""

    provider: str
    healthy: bool
    since: datetime
    """When it became so, or was first looked at."""
    checked_at: datetime | None
    status: int | None
    """Of the last answer; null where none came."""
    latency_ms: float | None
    reason: str
    """What was wrong with the last check; empty = nothing."""


class CredentialAside(BaseModel):
    provider: str
    credential: str


class WorkerHealth(BaseModel):
    """What one worker has learnt from its own requests; each finds out for itself."""

    worker: str
    pid: int
    cooling: list[str]
    """Targets (`provider/model`) that get no request but a trial."""
    aside: list[CredentialAside]
    """Credentials that were refused or limited."""


class UpstreamHealth(BaseModel):
    providers: list[ProviderHealth]
    checked_by: str | None
    """The worker that asks for this node."""
    workers: list[WorkerHealth]


@router.get("/health")
def get_upstream_health(desk: Annotated[Desk, permit(Permission.CONFIGURATION_READ)]) -> UpstreamHealth:
    """Of this node: active checks, and what each worker avoids by itself (as of the last second). 503 while the keeper
    is away."""
    found = desk.services.health()
    return UpstreamHealth(
        providers=[ProviderHealth.model_validate(one) for one in found["providers"]],
        checked_by=found["checked_by"],
        workers=[
            WorkerHealth(
                worker=one["worker"],
                pid=one["pid"],
                cooling=one["cooling"],
                aside=[CredentialAside(provider=provider, credential=name) for provider, name in one["aside"]],
            )
            for one in found["workers"]
        ],
    )


def distribution(ascending: Sequence[float]) -> Distribution | None:
    if not ascending:
        return None
    p50, p95, p99 = (round(percentile(ascending, share), 3) for share in (0.5, 0.95, 0.99))
    return Distribution(p50=p50, p95=p95, p99=p99, count=len(ascending))
