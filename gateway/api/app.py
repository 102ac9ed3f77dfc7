"""The FastAPI application of a worker: REST API, console, health. The data plane is elsewhere (`gateway.dataplane`)."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio.to_thread
from fastapi import Depends, FastAPI
from fastapi.routing import APIRoute

import gateway
from gateway.api import (
    access_requests,
    account,
    alerts,
    audit,
    authority,
    bodies,
    console,
    denials,
    discoveries,
    docs,
    drafts,
    dry_runs,
    events,
    explain,
    flows,
    health,
    installation,
    interception,
    kernel,
    ledger,
    ledger_export,
    limits,
    members,
    openapi,
    overview,
    playground,
    presence,
    price_table,
    problems,
    provider_trials,
    scim,
    service_catalogue,
    service_openapi,
    sessions,
    sign_on,
    sign_on_flow,
    teams,
    telemetry,
    upstreams,
    usage,
    whole,
)
from gateway.api.edge import Edge
from gateway.api.query import refuse_unknown_query
from gateway.api.reports import Reports
from gateway.api.services import Agent, Drain, ProviderTrier, Services, WorkerLink
from gateway.policy.explanation import Explanation, Question
from gateway.policy.snapshot import Snapshot
from gateway.settings import Settings
from gateway.store.database import make_engine

THREADS: Final = 8
"""Handlers at once in a worker. Each is a thread that takes turns with the data plane's event loop."""
ROUTERS: Final = (
    health.router,
    installation.router,
    sessions.router,
    presence.router,
    sign_on_flow.router,
    scim.router,
    sign_on.router,
    account.router,
    explain.router,
    provider_trials.router,
    upstreams.router,
    price_table.router,
    teams.router,
    playground.router,
    service_catalogue.router,
    service_openapi.router,
    access_requests.router,
    limits.router,
    interception.router,
    discoveries.router,
    alerts.router,
    denials.router,
    authority.router,
    members.router,
    drafts.router,
    dry_runs.router,
    whole.router,
    ledger_export.router,  # before the rows, of which none is named `export`
    ledger.router,
    bodies.router,
    usage.router,
    flows.router,
    overview.router,
    telemetry.router,
    kernel.router,
    events.router,
    audit.router,
    docs.router,
    console.router,
)


def create_app(
    settings: Settings,
    link: WorkerLink | None,
    snapshot_generation: Callable[[], int] | None = None,
    drain: Drain | None = None,
    explainer: Callable[[Question], Explanation] | None = None,
    agent: Agent | None = None,
    trials: ProviderTrier | None = None,
    snapshot: Callable[[], Snapshot] | None = None,
) -> FastAPI:
    """The application. `link`: to the keeper, None where there is none (tests, the OpenAPI dump).

    `snapshot_generation` tells which snapshot is in force in the worker (0 = none yet). A worker that drains sets
    `app.state.services.ending`, which ends the live feeds.
    """
    engine = make_engine(settings.database_url, pool_size=THREADS + 2)
    reports = Reports(engine)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        yield
        await reports.reporters.close()
        engine.dispose()

    app = FastAPI(
        title="Sluicegate",
        version=gateway.__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        responses=problems.OPENAPI_RESPONSE,
        dependencies=[Depends(refuse_unknown_query)],
        lifespan=lifespan,
    )
    app.state.services = Services(
        settings=settings,
        engine=engine,
        reports=reports,
        link=link,
        snapshot_generation=snapshot_generation,
        drain=drain,
        explainer=explainer,
        agent=agent,
        trials=trials,
        snapshot=snapshot,
    )
    app.state.examination = installation.Examination()
    app.state.routers = ROUTERS
    for router in ROUTERS:
        app.include_router(router)
    problems.install(app)
    openapi.install(app)
    app.add_middleware(Edge)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name
