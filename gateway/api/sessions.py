"""`/api/v1/session`: sign in, who am I, sign out, change the own password."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field, SecretStr

from gateway.api.caller import (
    SESSION_COOKIE,
    CrossOrigin,
    Desk,
    client_address,
    is_https,
    permit,
    same_origin,
)
from gateway.api.services import Services, services_of
from gateway.errors import BadRequest
from gateway.policy.roles import PERMISSIONS, Permission, Role
from gateway.store import identity
from gateway.store.document import Document
from gateway.store.identity import ABSOLUTE_LIMIT, Caller
from gateway.store.member_documents import Password

router = APIRouter(prefix="/api/v1/session", tags=["session"])

Myself = Annotated[Desk, permit(Permission.SESSION)]


class SignIn(Document):
    username: str = Field(min_length=1, max_length=256)
    password: SecretStr = Field(min_length=1, max_length=512)


class PasswordChange(Document):
    current: SecretStr = Field(min_length=1, max_length=512)
    new: Password


class Session(Document):
    """Who the caller is, and what they may do."""

    username: str
    """Of a token, its name."""
    kind: str
    """`user` or `token`."""
    role: Role
    team: str | None
    permissions: list[Permission]
    expires_at: datetime | None


async def hashing_turn() -> AsyncIterator[None]:
    """Dependency: passwords are hashed for two callers at once; the others wait without holding a handler's thread."""
    yield


HashingTurn = Depends(hashing_turn, scope="function", max_concurrency=2)


def _session(caller: Caller) -> Session:
    return Session(
        username=caller.name,
        kind="token" if caller.user_id is None else "user",
        role=caller.role,
        team=caller.team,
        permissions=sorted(PERMISSIONS[caller.role]),
        expires_at=caller.expires_at,
    )


@router.post("", status_code=201, dependencies=[HashingTurn])
def create_session(
    body: SignIn, request: Request, response: Response, services: Annotated[Services, Depends(services_of)]
) -> Session:
    """Sign in; the session is the cookie that comes back. Failures are throttled by account and address."""
    if "origin" in request.headers and not same_origin(request):
        raise CrossOrigin("this sign-in does not come from the console's own page", fix="open the console itself")
    caller, cookie = identity.sign_in(
        services.engine, body.username, body.password.get_secret_value(), client_address(request), datetime.now(UTC)
    )
    response.set_cookie(
        SESSION_COOKIE,
        cookie,
        max_age=int(ABSOLUTE_LIMIT.total_seconds()),
        path="/",
        secure=is_https(request),
        httponly=True,
        samesite="lax",
    )
    return _session(caller)


@router.get("")
def get_session(desk: Myself) -> Session:
    """Who am I? 401 where nobody is signed in."""
    return _session(desk.caller)


@router.delete("", status_code=204)
def delete_session(desk: Myself, response: Response) -> None:
    """Sign out. With a token nothing ends."""
    with desk.change() as session:
        identity.sign_out(session, desk.caller)
    response.delete_cookie(SESSION_COOKIE, path="/")


@router.put("/password", status_code=204, dependencies=[HashingTurn])
def change_password(body: PasswordChange, desk: Myself, request: Request) -> None:
    """Set the own password; all other sessions end."""
    if desk.caller.user_id is None:
        raise BadRequest("a token has no password", fix="sign in as the user")
    identity.change_own_password(
        desk.services.engine,
        desk.caller,
        body.current.get_secret_value(),
        body.new.get_secret_value(),
        client_address(request),
        datetime.now(UTC),
    )
