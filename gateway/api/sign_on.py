"""`/api/v1/sign-on`: identity providers, whom their groups admit, and a test that asks them for real.

Only an owner may change it: who settles which group is an owner, or who says who is in a group, could be one.
"""

from functools import partial
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Request, Response

from gateway.api.caller import Desk, own_origin, permit, permit_change
from gateway.api.oidc_trial import try_provider
from gateway.api.paging import ExpectedVersion, Page, set_etag
from gateway.api.sign_on_flow import CALLBACK, note_endpoints
from gateway.policy.roles import Permission
from gateway.store import scim_admission, sign_on
from gateway.store.config.editing import Editing
from gateway.store.sign_on import KnownProvider
from gateway.store.sign_on_documents import (
    SignOnDocument,
    SignOnProviderDocument,
    SignOnProviderPatch,
    SignOnProviderView,
    SignOnTrial,
    SignOnView,
)

router = APIRouter(prefix="/api/v1/sign-on", tags=["sign-on"])

Reading = Annotated[Desk, permit(Permission.SIGN_ON_READ)]
Changing = Annotated[Desk, permit_change(Permission.SIGN_ON_WRITE, confirmed=True)]


def _policy(editing: Editing, request: Request) -> SignOnView:
    document, version = sign_on.policy(editing.session)
    origin = own_origin(request)
    return SignOnView(
        rules=document.rules,
        default=document.default,
        passwords=document.passwords,
        redirect_uri=origin + CALLBACK,
        scim_url=f"{origin}/scim/v2",
        version=version,
    )


@router.get("")
def get_sign_on(desk: Reading, request: Request, response: Response) -> SignOnView:
    """Which group comes in as what, for all providers and SCIM."""
    with desk.reading() as editing:
        view = _policy(editing, request)
    set_etag(response, view)
    return view


@router.put("")
def set_sign_on(
    body: SignOnDocument, desk: Changing, request: Request, response: Response, version: ExpectedVersion
) -> SignOnView:
    """Replaced as a whole. Users that SCIM manages follow at once. Of others, whom the rules admit no more, or as
    something else, is signed out; so is who came by password and may do so no more."""
    with desk.changing() as editing:
        sign_on.set_policy(editing, body, version)
        scim_admission.settle_all(editing.session, editing.authority.actor)
        view = _policy(editing, request)
    set_etag(response, view)
    return view


@router.get("/providers")
def list_sign_on_providers(desk: Reading) -> Page[SignOnProviderView]:
    """All of them: they are few."""
    with desk.read() as session:
        return Page(items=sign_on.list_providers(session), next_cursor=None)


@router.post("/providers", status_code=201)
def create_sign_on_provider(body: SignOnProviderDocument, desk: Changing, response: Response) -> SignOnProviderView:
    """The secret is sealed, and in no answer."""
    with desk.changing() as editing:
        created = sign_on.create_provider(editing, body)
    set_etag(response, created)
    return created


@router.get("/providers/{ref}")
def get_sign_on_provider(ref: str, desk: Reading, response: Response) -> SignOnProviderView:
    with desk.read() as session:
        found = sign_on.get_provider(session, ref)
    set_etag(response, found)
    return found


@router.patch("/providers/{ref}")
def update_sign_on_provider(
    ref: str, body: SignOnProviderPatch, desk: Changing, version: ExpectedVersion, response: Response
) -> SignOnProviderView:
    """Another issuer is another provider: everybody comes anew. Disabling signs its people out."""
    with desk.changing() as editing:
        changed = sign_on.update_provider(editing, ref, body, version)
    set_etag(response, changed)
    return changed


@router.delete("/providers/{ref}", status_code=204)
def delete_sign_on_provider(ref: str, desk: Changing, version: ExpectedVersion) -> None:
    """Signs its people out. Their accounts stay."""
    with desk.changing() as editing:
        sign_on.delete_provider(editing, ref, version)


@router.post("/providers/{ref}/test")
async def test_sign_on_provider(
    ref: str, request: Request, desk: Annotated[Desk, permit(Permission.SIGN_ON_READ)]
) -> SignOnTrial:
    """Ask it for real: discovery, keys, client id and secret, redirect URI; each with what is wrong and what to do."""
    known = await anyio.to_thread.run_sync(partial(_known, desk, ref))
    providers = desk.services.sign_on_providers
    trial = await try_provider(providers, known, own_origin(request) + CALLBACK)
    if trial.findings[0].ok:
        named = (await providers.metadata(known)).urls
        if set(named) != set(known.endpoints):
            await anyio.to_thread.run_sync(partial(note_endpoints, desk.services, known, named))
    return trial


def _known(desk: Desk, reference: str) -> KnownProvider:
    with desk.read() as session:
        return sign_on.known_provider(session, desk.services.sealer, reference, enabled_only=False)
