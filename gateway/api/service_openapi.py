"""`/api/v1/service-openapi/{route}`: an HTTP route's OpenAPI document, to be read and tried out in the catalogue."""

import time
from typing import Annotated, Any, Final

import anyio.from_thread
import httpx2
from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool

from gateway.api.caller import Desk, permit, permit_change
from gateway.errors import BadRequest, BodyTooLarge, NotFound, UpstreamFailed
from gateway.policy.roles import Permission
from gateway.store.openapi_document import OpenApiDocument, heard, text_of
from gateway.store.service_catalogue import ServiceCatalogue
from gateway.store.service_files import MOST_BYTES, ServiceFiles, ServiceFileView

router = APIRouter(prefix="/api/v1", tags=["portal"])

Reading = Annotated[Desk, permit(Permission.SERVICES_READ)]
Changing = Annotated[Desk, permit_change(Permission.CONFIGURATION_WRITE)]

FETCH_TIMEOUT_S: Final = 10.0
ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "OpenAPI document", "content": {"application/json": {"schema": {}}}}
}
BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "description": "The document as JSON or YAML; left out with `url`",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "application/yaml": {"schema": {"type": "object"}},
        },
    }
}


@router.get("/service-openapi/{ref:path}", response_class=Response, responses=ANSWER)
def get_service_openapi(ref: str, desk: Reading) -> Response:
    """As it was stored, as JSON."""
    with desk.reading() as editing:
        catalogue = ServiceCatalogue(editing, desk.team_id)
        stored = catalogue.openapi(catalogue.get(ref).row.id)
    if stored is None:
        raise NotFound(f"no OpenAPI document is stored for {ref!r}", fix="ask the service's owner for it")
    return Response(stored.content, media_type="application/json")


@router.put("/service-openapi/{ref:path}", openapi_extra=BODY)
async def put_service_openapi(
    ref: str,
    request: Request,
    desk: Changing,
    url: Annotated[
        str | None, Query(max_length=2048, description="Fetch it once from here, a host of the route")
    ] = None,
) -> ServiceFileView:
    """Store the document of an HTTP route: OpenAPI 3, up to 1 MiB. It is checked to be one, and never called by us."""
    sent = await request.body()
    return await run_in_threadpool(_put, desk, ref, sent, url)


def _put(desk: Desk, ref: str, sent: bytes, url: str | None) -> ServiceFileView:
    if url is not None:
        with desk.reading() as editing:
            ServiceFiles(editing).refuse_elsewhere(ref, url)
        sent = _fetch(url)
    if len(sent) > MOST_BYTES:
        raise BodyTooLarge(f"the document has {len(sent)} bytes", fix=f"up to {MOST_BYTES} are stored")
    if not sent.strip():
        raise BadRequest("there is no document", fix="send it as the body, or say with `url` where it is")
    document = _read(desk, sent)
    with desk.changing() as editing:
        return ServiceFiles(editing).put(ref, document, url)


def _read(desk: Desk, sent: bytes) -> OpenApiDocument:
    """By a reporter: what is sent may take long to read, and calls are served here. Raises Invalid, and what
    `Reporters.report` does."""
    question = {"kind": "openapi", "text": text_of(sent)}
    return heard(anyio.from_thread.run(desk.services.reports.reporters.report, question))


@router.delete("/service-openapi/{ref:path}", status_code=204)
def delete_service_openapi(ref: str, desk: Changing) -> None:
    with desk.changing() as editing:
        ServiceFiles(editing).delete(ref)


def _fetch(url: str) -> bytes:
    """At most one byte more than is stored. Raises UpstreamFailed."""
    found = bytearray()
    end_s = time.monotonic() + FETCH_TIMEOUT_S
    try:
        with httpx2.stream("GET", url, timeout=FETCH_TIMEOUT_S, follow_redirects=False) as answer:
            if answer.status_code != 200:
                raise UpstreamFailed(f"{url} answered {answer.status_code}", fix="send the document as the body")
            for piece in answer.iter_bytes():
                found += piece
                if len(found) > MOST_BYTES:
                    break
                if time.monotonic() > end_s:
                    raise UpstreamFailed(f"{url} takes too long", fix="send the document as the body")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise UpstreamFailed(f"{url} could not be read: {reason}", fix="send the document as the body") from None
    return bytes(found[: MOST_BYTES + 1])
