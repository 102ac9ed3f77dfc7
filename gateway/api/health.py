"""`/healthz`, `/readyz` and `/metrics`: what monitoring asks. None of them touches SQL unless a token is shown."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, PlainTextResponse
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from gateway.api.caller import authenticate, client_is_local
from gateway.api.problems import problem_response
from gateway.api.services import Services, services_of
from gateway.errors import Forbidden
from gateway.policy.roles import Permission, may

router = APIRouter(tags=["health"])

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class Alive(BaseModel):
    status: str


class Ready(BaseModel):
    status: str
    generation: int
    """Of the configuration in force in the worker that answered."""


@router.get("/healthz")
async def healthz() -> Alive:
    """200 as long as the process answers."""
    return Alive(status="alive")


@router.get("/readyz", response_model=Ready)
async def readyz(request: Request, services: Annotated[Services, Depends(services_of)]) -> Response:
    """200 once this worker has a configuration and a keeper; else 503 saying what is missing."""
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
    return JSONResponse({"status": "ready", "generation": services.generation()})


@router.get("/metrics", response_class=PlainTextResponse)
async def metrics(request: Request, services: Annotated[Services, Depends(services_of)]) -> Response:
    """Prometheus text; asked from this host, or with a token that may read metrics."""
    if not client_is_local(request):
        caller = await run_in_threadpool(authenticate, request)
        if not may(caller.role, Permission.METRICS_READ):
            raise Forbidden(f"the role {caller.role} may not read metrics", fix="use a viewer's token")
    return Response(await services.metrics(), media_type=METRICS_TYPE)
