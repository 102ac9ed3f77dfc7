"""How app teams come to routes, who decides, what people were told, and where they hear of it."""

from typing import Annotated

from fastapi import APIRouter, Path, Query, Response

from gateway.api.caller import Desk, permit, permit_change
from gateway.api.paging import DEFAULT_LIMIT, Cursor, ExpectedVersion, ListLimit, Page, id_after, set_etag
from gateway.policy.roles import Permission
from gateway.store import notices
from gateway.store.access import AccessRequests, pending_count
from gateway.store.access_documents import (
    AccessApproval,
    AccessAsked,
    AccessDecision,
    AccessRequestView,
    Deed,
    RequestState,
)
from gateway.store.config.editing import Editing
from gateway.store.contacts import Contacts
from gateway.store.notices import NoticeView
from gateway.store.team_contacts import ContactDocument, ContactView, SecretView, TeamContacts, names_webhooks
from gateway.store.views import View

router = APIRouter(prefix="/api/v1", tags=["portal"])

Reading = Annotated[Desk, permit(Permission.SERVICES_READ)]
Asking = Annotated[Desk, permit_change(Permission.ACCESS_REQUEST)]
Deciding = Annotated[Desk, permit_change(Permission.ACCESS_DECIDE)]
ChangingApps = Annotated[Desk, permit_change(Permission.APPS_WRITE)]
Number = Annotated[int, Path(ge=1, le=2**62)]


class PendingView(View):
    pending: int
    """Requests that await a decision; of one's own team for team roles."""


@router.get("/access-requests")
def list_access_requests(
    desk: Reading,
    state: RequestState | None = None,
    app: Annotated[str | None, Query(max_length=128)] = None,
    limit: ListLimit = DEFAULT_LIMIT,
    cursor: Cursor = None,
) -> Page[AccessRequestView]:
    """The newest first. Team roles see those of their team."""
    with desk.reading() as editing:
        found = requests_of(desk, editing).page(state=state, app=app, before_id=_before(cursor), limit=limit + 1)
    items = found[:limit]
    return Page(items=items, next_cursor=str(items[-1].id) if len(found) > limit else None)


@router.get("/access-requests/pending")
def count_access_requests(desk: Reading) -> PendingView:
    """How many await a decision."""
    with desk.read() as session:
        return PendingView(pending=pending_count(session, desk.team_id))


@router.post("/access-requests", status_code=201)
def create_access_request(body: AccessAsked, desk: Asking, response: Response) -> AccessRequestView:
    """Ask that an app may call routes. Where all of them are open, the answer is approved already."""
    with desk.changing() as editing:
        made = requests_of(desk, editing).ask(body)
    set_etag(response, made)
    return made


@router.get("/access-requests/{number}")
def get_access_request(number: Number, desk: Reading, response: Response) -> AccessRequestView:
    with desk.reading() as editing:
        found = requests_of(desk, editing).get(number)
    set_etag(response, found)
    return found


@router.post("/access-requests/{number}/approve")
def approve_access_request(
    number: Number, body: AccessApproval, desk: Deciding, version: ExpectedVersion, response: Response
) -> AccessRequestView:
    """In force in every worker within a second; an app that does not exist is made."""
    with desk.changing() as editing:
        approved = requests_of(desk, editing).approve(number, body, version)
    set_etag(response, approved)
    return approved


@router.post("/access-requests/{number}/deny")
def deny_access_request(
    number: Number, body: AccessDecision, desk: Deciding, version: ExpectedVersion, response: Response
) -> AccessRequestView:
    return _ended(desk, number, Deed.DENY, body, version, response)


@router.post("/access-requests/{number}/revoke")
def revoke_access_request(
    number: Number, body: AccessDecision, desk: Deciding, version: ExpectedVersion, response: Response
) -> AccessRequestView:
    """End an approved one: refused in every worker within a second."""
    return _ended(desk, number, Deed.REVOKE, body, version, response)


@router.post("/access-requests/{number}/withdraw")
def withdraw_access_request(
    number: Number, body: AccessDecision, desk: Asking, version: ExpectedVersion, response: Response
) -> AccessRequestView:
    """The team takes it back, or gives up what it was granted."""
    return _ended(desk, number, Deed.WITHDRAW, body, version, response)


@router.get("/notices")
def list_notices(desk: Reading, limit: ListLimit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[NoticeView]:
    """What people were told of: budgets that run out, access asked for and decided. The newest first; team roles see
    their team's."""
    whole = names_webhooks(desk.caller.authority)
    with desk.read() as session:
        found = notices.listed(session, desk.team_id, before_id=_before(cursor), limit=limit + 1, whole=whole)
    items = found[:limit]
    return Page(items=items, next_cursor=str(items[-1].id) if len(found) > limit else None)


@router.get("/teams/{ref}/contact")
def get_team_contact(ref: str, desk: Reading) -> ContactView:
    """Where the team hears of its notices."""
    with desk.reading() as editing:
        return _contacts(desk, editing).get(ref)


@router.put("/teams/{ref}/contact")
def put_team_contact(ref: str, body: ContactDocument, desk: ChangingApps) -> ContactView:
    """A team admin names addresses; a webhook, to which the gateway connects, is the platform's to name."""
    with desk.changing() as editing:
        return _contacts(desk, editing).put(ref, body)


@router.post("/teams/{ref}/contact/secret", status_code=201)
def create_webhook_secret(ref: str, desk: ChangingApps) -> SecretView:
    """A new secret for the team's webhook, shown in this answer only."""
    with desk.changing() as editing:
        return _contacts(desk, editing).make_secret(ref)


def _contacts(desk: Desk, editing: Editing) -> TeamContacts:
    return TeamContacts(editing, sends_mail=desk.services.settings.smtp is not None)


def _ended(
    desk: Desk, number: int, deed: Deed, body: AccessDecision, version: int | None, response: Response
) -> AccessRequestView:
    with desk.changing() as editing:
        ended = requests_of(desk, editing).end(number, deed, body, version)
    set_etag(response, ended)
    return ended


def requests_of(desk: Desk, editing: Editing) -> AccessRequests:
    return AccessRequests(editing, Contacts.of(desk.services.settings))


def _before(cursor: str | None) -> int | None:
    return id_after(cursor) if cursor is not None else None
