"""`/api/v1/authority`: the certificate authority that intercepted TLS is terminated with. Its key is never shown."""

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter

from gateway.api.caller import Desk, permit, permit_change
from gateway.policy.roles import Permission
from gateway.store import authority
from gateway.store.authority import AuthorityView, MakeAction
from gateway.store.document import Document

router = APIRouter(prefix="/api/v1", tags=["interception"])

Reading = Annotated[Desk, permit(Permission.CONFIGURATION_READ)]
Changing = Annotated[Desk, permit_change(Permission.AUTHORITY_WRITE)]


class AuthorityRequest(Document):
    action: MakeAction = MakeAction.CREATE


@router.get("/authority")
def get_authority(desk: Reading) -> AuthorityView:
    """Its certificate, whom it may sign for, and whether that is all that interception rules terminate."""
    with desk.read() as session:
        return authority.view(session, datetime.now(UTC))


@router.post("/authority")
def make_authority(body: AuthorityRequest, desk: Changing) -> AuthorityView:
    """`create` where there is none, `renew` with the same key once rules have changed, `replace` key and certificate.

    After the last two, clients must be given the new certificate.
    """
    with desk.changing() as editing:
        return authority.make(editing, body.action, datetime.now(UTC))


@router.delete("/authority", status_code=204)
def delete_authority(desk: Changing) -> None:
    """Forget it with its key. From then on the TLS of all rules passes through."""
    with desk.changing() as editing:
        authority.remove(editing)
