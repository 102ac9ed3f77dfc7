"""`/api/v1/denials`: who may not reach what, in this host's kernel."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Response

from gateway.api.caller import Desk, permit, permit_change
from gateway.api.paging import DEFAULT_LIMIT, Cursor, ExpectedVersion, ListLimit, Page, id_after, page_by_id, set_etag
from gateway.policy.roles import Permission
from gateway.store.config.denials import Denials, made_up_name
from gateway.store.discovery_documents import DenialCreate, DenialView

router = APIRouter(prefix="/api/v1", tags=["interception"])

Reading = Annotated[Desk, permit(Permission.CONFIGURATION_READ)]
Changing = Annotated[Desk, permit_change(Permission.CONFIGURATION_WRITE)]


@router.get("/denials")
def list_denials(desk: Reading, limit: ListLimit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[DenialView]:
    """In the order in which they were made, each as it stands in the kernel of the node that answers."""
    with desk.reading() as editing:
        page = page_by_id(Denials(editing).list(after_id=id_after(cursor), limit=limit + 1), limit)
    if not page.items:
        return page
    standing = desk.services.enforcement(with_rules=False)
    return Page(items=[standing.of_denial(item) for item in page.items], next_cursor=page.next_cursor)


@router.post("/denials", status_code=201)
def create_denial(body: DenialCreate, desk: Changing, response: Response) -> DenialView:
    """Refused at once with EPERM on this host, with a reset where this host forwards; in force within a second."""
    with desk.changing() as editing:
        created = Denials(editing).create(body.document(made_up_name(), datetime.now(UTC)))
    set_etag(response, created)
    return created


@router.get("/denials/{ref}")
def get_denial(ref: str, desk: Reading, response: Response) -> DenialView:
    with desk.reading() as editing:
        found = Denials(editing).get(ref)
    set_etag(response, found)
    return desk.services.enforcement(with_rules=False).of_denial(found)


@router.delete("/denials/{ref}", status_code=204)
def delete_denial(ref: str, desk: Changing, version: ExpectedVersion) -> None:
    """Connections are let through again within a second; the finding that it was made for is observed again."""
    with desk.changing() as editing:
        Denials(editing).delete(ref, version)
