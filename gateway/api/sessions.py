"""`/api/v1/session`: sign in by password, code or passkey; who am I, sign out, change the own password."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field, SecretStr

from gateway.api.caller import (
    SESSION_COOKIE,
    CrossOrigin,
    Desk,
    cookie_name,
    is_https,
    lacks_second_factor,
    own_origin,
    permit,
    same_origin,
    visitor_of,
)
from gateway.api.services import Services, services_of
from gateway.errors import BadRequest
from gateway.policy.roles import Permission, Role
from gateway.store import account, identity, passkeys, signing_in, tickets
from gateway.store.document import Document
from gateway.store.identity import ABSOLUTE_LIMIT, Caller, Method
from gateway.store.login_sessions import SignedIn
from gateway.store.member_documents import Password
from gateway.store.passkeys import Site
from gateway.store.signing_in import CodeNeeded
from gateway.store.team_names import OF_TEAM
from gateway.store.tickets import LONGEST_TICKET, Purpose

router = APIRouter(prefix="/api/v1/session", tags=["session"])

Myself = Annotated[Desk, permit(Permission.SESSION)]
TicketText = Annotated[str, Field(min_length=1, max_length=LONGEST_TICKET)]


class SignIn(Document):
    username: str = Field(min_length=1, max_length=256)
    password: SecretStr = Field(min_length=1, max_length=512)


class CodeSignIn(Document):
    ticket: TicketText
    """Of the answer to the password."""
    code: SecretStr = Field(min_length=1, max_length=64)
    """The authenticator app's, or a recovery code."""


class PasskeySignIn(Document):
    ticket: TicketText
    credential: dict[str, Any]
    """What `navigator.credentials.get()` gave, by its `toJSON()`."""


class PasswordChange(Document):
    current: SecretStr = Field(default=SecretStr(""), max_length=512)
    """Not asked of users without a password, who have just signed in otherwise."""
    new: Password


class Session(Document):
    """Who the caller is, and what they may do."""

    username: str
    """Of a token, its name."""
    kind: str
    """`user` or `token`."""
    role: Role
    team: str | None
    names_begin_with: str
    """What the caller has to begin names of apps, users and tokens with; empty where they are free."""
    permissions: list[Permission]
    second_factor_due: bool
    """The role takes a second factor, and this session was begun without one: nothing else is permitted before."""
    method: Method | None
    """How the session was begun; null for tokens."""
    expires_at: datetime | None


class SecondStep(Document):
    """The password was right; `POST /api/v1/session/code` or a passkey is to follow."""

    ticket: str
    code: bool
    """There is an authenticator app to ask; a recovery code does in any case."""
    passkey: bool
    """There is a passkey, which does for both steps."""
    expires_at: datetime


class PasskeyCeremony(Document):
    """What the browser needs to ask an authenticator."""

    ticket: str
    options: dict[str, Any]
    """For `PublicKeyCredential.parseRequestOptionsFromJSON()` resp. `parseCreationOptionsFromJSON()`."""


async def hashing_turn() -> AsyncIterator[None]:
    """Dependency: passwords are hashed for two callers at once; the others wait without holding a handler's thread."""
    yield


HashingTurn = Depends(hashing_turn, scope="function", max_concurrency=2)


def from_own_page(request: Request) -> None:
    """Dependency of what signs in: another site does not sign its victim in. Raises CrossOrigin."""
    if "origin" in request.headers and not same_origin(request):
        raise CrossOrigin("this sign-in does not come from the console's own page", fix="open the console itself")


def set_session_cookie(request: Request, response: Response, cookie: str) -> None:
    response.set_cookie(
        cookie_name(request, SESSION_COOKIE),
        cookie,
        max_age=int(ABSOLUTE_LIMIT.total_seconds()),
        path="/",
        secure=is_https(request),
        httponly=True,
        samesite="lax",
    )
    _drop_former_name(request, response)


def drop_session_cookie(request: Request, response: Response) -> None:
    name = cookie_name(request, SESSION_COOKIE)
    response.delete_cookie(name, path="/", secure=is_https(request), httponly=True, samesite="lax")
    _drop_former_name(request, response)


def _drop_former_name(request: Request, response: Response) -> None:
    if is_https(request) and SESSION_COOKIE in request.cookies:
        response.delete_cookie(SESSION_COOKIE, path="/", secure=True, httponly=True, samesite="lax")


def _session(request: Request, caller: Caller) -> Session:
    due = lacks_second_factor(request, caller)
    settings = services_of(request).settings
    return Session(
        username=caller.name,
        kind="token" if caller.user_id is None else "user",
        role=caller.role,
        team=caller.team,
        names_begin_with=caller.team + OF_TEAM if caller.team and settings.team_names == "prefixed" else "",
        permissions=[Permission.SESSION] if due else sorted(caller.permissions),
        second_factor_due=due,
        method=caller.method,
        expires_at=caller.expires_at,
    )


def _enter(request: Request, response: Response, signed_in: SignedIn) -> Session:
    set_session_cookie(request, response, signed_in.cookie)
    return _session(request, signed_in.caller)


@router.post(
    "",
    status_code=201,
    dependencies=[HashingTurn, Depends(from_own_page)],
    responses={202: {"model": SecondStep, "description": "The password was right; a second factor is to follow"}},
)
def create_session(
    body: SignIn, request: Request, response: Response, services: Annotated[Services, Depends(services_of)]
) -> Session | SecondStep:
    """Sign in; the session is the cookie that comes back. Failures are throttled by account and address.

    An account with a second factor is answered 202, and what is to follow.
    """
    at = datetime.now(UTC)
    password = body.password.get_secret_value()
    done = signing_in.with_password(services.engine, body.username, password, visitor_of(request), at)
    if isinstance(done, CodeNeeded):
        text, ticket = tickets.issue(
            services.sealer, Purpose.CODE, at, user_id=done.user_id, user_version=done.user_version
        )
        response.status_code = 202
        found = done.factors
        return SecondStep(ticket=text, code=found.totp, passkey=found.passkeys > 0, expires_at=ticket.expires_at)
    return _enter(request, response, done)


@router.post("/code", status_code=201, dependencies=[Depends(from_own_page)])
def create_session_by_code(
    body: CodeSignIn, request: Request, response: Response, services: Annotated[Services, Depends(services_of)]
) -> Session:
    """The second step: a code of the authenticator app, or a recovery code. Either is good once."""
    code = body.code.get_secret_value()
    at = datetime.now(UTC)
    done = signing_in.with_code(services.engine, services.sealer, body.ticket, code, visitor_of(request), at)
    return _enter(request, response, done)


@router.post("/passkey-options", dependencies=[Depends(from_own_page)])
def begin_passkey_session(request: Request, services: Annotated[Services, Depends(services_of)]) -> PasskeyCeremony:
    """A challenge for whichever passkey the browser has for this host."""
    begun = passkeys.begin_sign_in(services.sealer, Site(origin=own_origin(request)), datetime.now(UTC))
    return PasskeyCeremony(ticket=begun.ticket, options=begun.options)


@router.post("/passkey", status_code=201, dependencies=[Depends(from_own_page)])
def create_session_by_passkey(
    body: PasskeySignIn, request: Request, response: Response, services: Annotated[Services, Depends(services_of)]
) -> Session:
    """Sign in by the answer to the challenge, without user name and password."""
    site = Site(origin=own_origin(request))
    at = datetime.now(UTC)
    done = passkeys.sign_in(
        services.engine, services.sealer, site, body.ticket, body.credential, visitor_of(request), at
    )
    return _enter(request, response, done)


@router.get("")
def get_session(desk: Myself, request: Request) -> Session:
    """Who am I? 401 where nobody is signed in."""
    return _session(request, desk.caller)


@router.delete("", status_code=204)
def delete_session(desk: Myself, request: Request, response: Response) -> None:
    """Sign out. With a token nothing ends."""
    with desk.change() as session:
        identity.sign_out(session, desk.caller)
    drop_session_cookie(request, response)


@router.put("/password", status_code=204, dependencies=[HashingTurn])
def change_password(body: PasswordChange, desk: Myself, request: Request, response: Response) -> None:
    """Set the own password; all other sessions end, and this one gets a new cookie."""
    if desk.caller.user_id is None:
        raise BadRequest("a token has no password", fix="sign in as the user")
    with desk.read() as session:
        account.require_local(session, desk.caller)
    cookie = signing_in.change_own_password(
        desk.services.engine,
        desk.caller,
        body.current.get_secret_value(),
        body.new.get_secret_value(),
        visitor_of(request),
        datetime.now(UTC),
    )
    set_session_cookie(request, response, cookie)
