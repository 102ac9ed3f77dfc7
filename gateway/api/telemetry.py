"""`GET /api/v1/telemetry/routes`: what each route and target did in the last seconds.

Requests, errors and time to first token come from the ledger. Connect time, RTT, retransmits, gaps between tokens and
bytes come from the kernel's probes, which the agent loads: without it they are null, and `sources` says so.
"""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel

from gateway.api.caller import Desk, permit
from gateway.errors import BadRequest
from gateway.policy.roles import Permission
from gateway.store.route_figures import percentile, route_figures

router = APIRouter(prefix="/api/v1/telemetry", tags=["telemetry"])

LONGEST_WINDOW_S: Final = 3600
NO_KERNEL: Final = "none: the agent is not connected"


class Distribution(BaseModel):
    p50: float
    p95: float
    p99: float
    count: int


class Sources(BaseModel):
    requests: str
    """Where `requests`, `errors` and `ttft_ms` come from."""
    kernel: str
    """Where all else comes from, or why it is null."""


class RouteTelemetry(BaseModel):
    """One route and target. Times in milliseconds; null = not measured, never 0."""

    route: str
    target: str | None
    requests: int
    errors: int
    connect_ms: Distribution | None
    rtt_ms: Distribution | None
    client_rtt_ms: Distribution | None
    ttft_ms: Distribution | None
    token_gap_ms: Distribution | None
    retransmits: int | None
    resets: int | None
    open_connections: int | None
    bytes_in: int | None
    bytes_out: int | None
    sources: Sources


class RouteTelemetryList(BaseModel):
    items: list[RouteTelemetry]
    next_cursor: str | None
    """Always null: one page holds all routes."""


@router.get("/routes")
def get_route_telemetry(
    desk: Annotated[Desk, permit(Permission.USAGE_READ)],
    window: Annotated[str, Query(pattern=r"^[0-9]{1,4}[sm]$", description="E.g. 60s or 5m, at most an hour")] = "60s",
) -> RouteTelemetryList:
    """Routes that had requests within the window. Team roles get those of their own requests."""
    seconds = int(window[:-1]) * (60 if window.endswith("m") else 1)
    if not 0 < seconds <= LONGEST_WINDOW_S:
        raise BadRequest(f"the window {window} is not above 0 and up to 1 h", fix="write e.g. 60s or 5m")
    with desk.read() as session:
        found = route_figures(session, time.time_ns() - seconds * 1_000_000_000, desk.caller.team)
    items = [
        RouteTelemetry(
            route=figures.route,
            target=figures.target,
            requests=figures.requests,
            errors=figures.errors,
            connect_ms=None,
            rtt_ms=None,
            client_rtt_ms=None,
            ttft_ms=distribution(figures.ttft_ms),
            token_gap_ms=None,
            retransmits=None,
            resets=None,
            open_connections=None,
            bytes_in=None,
            bytes_out=None,
            sources=Sources(requests="ledger", kernel=NO_KERNEL),
        )
        for figures in found
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
