"""`/healthz`, `/readyz` and `/metrics`: what monitoring asks. None of them touches SQL unless a token is shown."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client.exposition import choose_encoder
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from gateway.api.caller import authenticate, client_is_local
from gateway.api.problems import problem_response
from gateway.api.services import Services, services_of
from gateway.errors import Forbidden
from gateway.policy.roles import Permission

router = APIRouter(tags=["health"])

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS_TYPE: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"


class Alive(BaseModel):
    status: str


class Ready(BaseModel):
    status: str
    """`ready`, or `degraded`: it serves, and will not for ever."""
    generation: int
    """Of the configuration in force in the worker that answered."""
    degraded: list[str]
    """Why, in words; empty when all is well."""


@router.get("/healthz")
async def healthz() -> Alive:
    """200 as long as the process answers."""
    return Alive(status="alive")


@router.get("/readyz", response_model=Ready)
async def readyz(request: Request, services: Annotated[Services, Depends(services_of)]) -> Response:
    """200 while this worker can serve: it has a configuration and a keeper, limits can be decided, rows have room. Else
    503 with `missing`, in words; so also while it drains."""
    missing = services.missing()
    if missing:
        return problem_response(
            request,
            status=503,
            code="not_ready",
            detail="; ".join(missing),
            fix="wait a moment; if it stays so, look at `sluicegate doctor`",
            headers={"retry-after": "1"},
            missing=missing,
        )
    degraded = services.degraded()
    status = "degraded" if degraded else "ready"
    return JSONResponse({"status": status, "generation": services.generation(), "degraded": degraded})


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request, services: Annotated[Services, Depends(services_of)]) -> Response:
    """Prometheus text, or OpenMetrics where it is accepted; from this host, or with a token that may read metrics."""
    if not client_is_local(request):
        caller = await run_in_threadpool(authenticate, request)
        if not caller.may(Permission.METRICS_READ):
            raise Forbidden(f"this {caller.role} may not read metrics", fix="use a viewer's token")
    _, content_type = choose_encoder(request.headers.get("accept", ""))
    openmetrics = content_type.startswith("application/openmetrics-text")
    text = await services.metrics(openmetrics=openmetrics)
    return Response(text, media_type=OPENMETRICS_TYPE if openmetrics else METRICS_TYPE)
