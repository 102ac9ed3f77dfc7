"""`/api/v1/users` and `/api/v1/tokens`."""

from typing import Annotated

from fastapi import APIRouter, Response

from gateway.api.caller import Desk, permit, permit_change
from gateway.api.paging import DEFAULT_LIMIT, Cursor, ExpectedVersion, ListLimit, Page, id_after, page_by_id, set_etag
from gateway.policy.roles import PERMISSIONS, Permission, Role
from gateway.store import account, members
from gateway.store.document import Document
from gateway.store.member_documents import (
    TokenCreated,
    TokenDocument,
    TokenPatch,
    TokenView,
    UserCreated,
    UserDocument,
    UserPatch,
    UserView,
)

router = APIRouter(prefix="/api/v1")

Reading = Annotated[Desk, permit(Permission.MEMBERS)]
Changing = Annotated[Desk, permit_change(Permission.MEMBERS)]
Granting = Annotated[Desk, permit_change(Permission.MEMBERS, confirmed=True)]
"""What outlives the session that does it."""


class RoleView(Document):
    role: Role
    permissions: list[Permission]
    """What it may: among these a token's scopes are chosen."""


@router.get("/roles", tags=["users"])
def list_roles(desk: Reading) -> list[RoleView]:
    """The roles that you may hand on."""
    return [
        RoleView(role=role, permissions=[each for each in Permission if each in PERMISSIONS[role]])
        for role in Role
        if role in desk.authority.grantable
    ]


@router.get("/users", tags=["users"])
def list_users(desk: Reading, limit: ListLimit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[UserView]:
    """Users whose role you may hand on; a team admin sees the members of the own team."""
    with desk.read() as session:
        found = members.list_users(session, desk.authority, after_id=id_after(cursor), limit=limit + 1)
    return page_by_id(found, limit)


@router.post("/users", tags=["users"], status_code=201)
def create_user(body: UserDocument, desk: Granting, response: Response) -> UserCreated:
    """Without `password` one is made, and shown in this answer only."""
    with desk.change() as session:
        created = members.create_user(session, desk.authority, body)
    set_etag(response, created)
    return created


@router.get("/users/{ref}", tags=["users"])
def get_user(ref: str, desk: Reading, response: Response) -> UserView:
    with desk.read() as session:
        user = members.get_user(session, desk.authority, ref)
    set_etag(response, user)
    return user


@router.patch("/users/{ref}", tags=["users"])
def update_user(ref: str, body: UserPatch, desk: Changing, version: ExpectedVersion, response: Response) -> UserView:
    """A new role, team or password, or disabling, ends the user's sessions."""
    if body.model_fields_set & {"role", "team", "password"} or body.disabled is False:
        desk.require_confirmed()
    with desk.change() as session:
        user = members.update_user(session, desk.authority, ref, body, version)
    set_etag(response, user)
    return user


@router.delete("/users/{ref}", tags=["users"], status_code=204)
def delete_user(ref: str, desk: Changing, version: ExpectedVersion) -> None:
    """The last owner cannot be removed."""
    with desk.change() as session:
        members.delete_user(session, desk.authority, ref, version)


@router.post("/users/{ref}/reset-factors", tags=["users"])
def reset_user_factors(ref: str, desk: Granting) -> UserView:
    """Take the user's authenticator app, passkeys and recovery codes: the password alone lets them in again.

    Their sessions end. For one's own there is `/api/v1/account`.
    """
    with desk.change() as session:
        account.reset_factors(session, desk.authority, ref)
        return members.get_user(session, desk.authority, ref)


@router.delete("/users/{ref}/sessions", tags=["users"], status_code=204)
def end_user_sessions(ref: str, desk: Changing) -> None:
    """Sign the user out everywhere. For oneself there is `/api/v1/account/sessions`."""
    with desk.change() as session:
        account.end_sessions_of(session, desk.authority, ref)


@router.get("/tokens", tags=["tokens"])
def list_tokens(desk: Reading, limit: ListLimit = DEFAULT_LIMIT, cursor: Cursor = None) -> Page[TokenView]:
    """Bearer tokens for this API whose role you may hand on."""
    with desk.read() as session:
        found = members.list_tokens(session, desk.authority, after_id=id_after(cursor), limit=limit + 1)
    return page_by_id(found, limit)


@router.post("/tokens", tags=["tokens"], status_code=201)
def create_token(body: TokenDocument, desk: Granting, response: Response) -> TokenCreated:
    """The token's text is shown in this answer only. Nobody makes a token with a higher role than their own."""
    with desk.change() as session:
        created = members.create_token(session, desk.authority, body)
    set_etag(response, created)
    return created


@router.get("/tokens/{ref}", tags=["tokens"])
def get_token(ref: str, desk: Reading, response: Response) -> TokenView:
    with desk.read() as session:
        token = members.get_token(session, desk.authority, ref)
    set_etag(response, token)
    return token


@router.patch("/tokens/{ref}", tags=["tokens"])
def update_token(ref: str, body: TokenPatch, desk: Changing, version: ExpectedVersion, response: Response) -> TokenView:
    """A token that ends neither extends others nor itself beyond that."""
    if "expires_at" in body.model_fields_set:
        desk.require_confirmed()
    with desk.change() as session:
        token = members.update_token(session, desk.authority, ref, body, version)
    set_etag(response, token)
    return token


@router.delete("/tokens/{ref}", tags=["tokens"], status_code=204)
def delete_token(ref: str, desk: Changing, version: ExpectedVersion) -> None:
    """Revokes it: requests that carry it are refused at once."""
    with desk.change() as session:
        members.delete_token(session, desk.authority, ref, version)
