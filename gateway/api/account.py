"""`/api/v1/account`: the own second factors, passkeys and sessions.

What weakens or adds a factor takes the password once more (of users without one: that they have just signed in), so
that a session left open, or stolen, does not become somebody else's account.
"""

from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import Field, SecretStr

from gateway.api.caller import Desk, own_origin, permit, visitor_of
from gateway.api.paging import Page
from gateway.api.sessions import HashingTurn, PasskeyCeremony, TicketText, set_session_cookie
from gateway.errors import BadRequest
from gateway.policy.roles import Permission
from gateway.store import account, factors, login_sessions, passkeys, signing_in, throttle
from gateway.store.account_documents import (
    AccountView,
    PasskeyMade,
    PasskeyView,
    RecoveryCodes,
    SessionView,
    TotpBegun,
)
from gateway.store.document import Document
from gateway.store.fields import Name
from gateway.store.identity import Method
from gateway.store.passkeys import Site

router = APIRouter(prefix="/api/v1/account", tags=["account"])

Myself = Annotated[Desk, permit(Permission.SESSION)]
Password = Annotated[SecretStr | None, Field(max_length=512)]


class Confirmed(Document):
    password: Password = None
    """One's own, once more; null where one has none."""


class TotpCode(Document):
    code: str = Field(pattern=r"^[0-9]{6}$")


class NewPasskey(Document):
    ticket: TicketText
    name: Name
    credential: dict[str, Any]
    """What `navigator.credentials.create()` gave, by its `toJSON()`."""


class PasskeyPatch(Document):
    name: Name


def own_desk(desk: Myself) -> Desk:
    """Dependency: the desk of a user. Raises BadRequest for tokens."""
    if desk.caller.user_id is None:
        raise BadRequest("a token has no account", fix="sign in as the user")
    return desk


Own = Annotated[Desk, Depends(own_desk)]


@router.get("")
def get_account(desk: Own) -> AccountView:
    """How one may sign in."""
    with desk.read() as session:
        return account.view(session, desk.caller, desk.services.settings.require_second_factor)


@router.post("/totp", status_code=201, dependencies=[HashingTurn])
def begin_totp(body: Confirmed, desk: Own, request: Request) -> TotpBegun:
    """A secret for an authenticator app. It counts once `/totp/confirm` has seen a code of it."""
    _confirm(desk, body, request)
    with desk.change() as session:
        account.require_local(session, desk.caller)
        begun = factors.begin_totp(session, desk.services.sealer, desk.caller, Site(origin=own_origin(request)).rp_id)
    return TotpBegun(secret=begun.secret, uri=begun.uri)


@router.post("/totp/confirm")
def confirm_totp(body: TotpCode, desk: Own, request: Request, response: Response) -> RecoveryCodes:
    """Put the app in force. All other sessions end; recovery codes come along with the first factor.

    A wrong code counts as a failed sign-in."""
    at, address = datetime.now(UTC), visitor_of(request).address
    signing_in.admit_attempt(desk.services.engine, desk.caller.name, address, at)
    with desk.change() as session:
        codes = factors.confirm_totp(session, desk.services.sealer, desk.caller, body.code, at)
        throttle.forgive(session, desk.caller.name, address)
        cookie = login_sessions.raise_to(session, desk.caller, Method.TOTP)
    set_session_cookie(request, response, cookie)
    return RecoveryCodes(recovery_codes=codes)


@router.post("/totp/remove", status_code=204, dependencies=[HashingTurn])
def remove_totp(body: Confirmed, desk: Own, request: Request) -> None:
    _confirm(desk, body, request)
    with desk.change() as session:
        factors.remove_totp(session, desk.caller)
        account.require_factor_left(session, desk.caller, desk.services.settings.require_second_factor)


@router.post("/recovery-codes", status_code=201, dependencies=[HashingTurn])
def create_recovery_codes(body: Confirmed, desk: Own, request: Request) -> RecoveryCodes:
    """Ten others; those before are worth nothing any more."""
    _confirm(desk, body, request)
    with desk.change() as session:
        return RecoveryCodes(recovery_codes=factors.new_codes(session, desk.caller))


@router.get("/passkeys")
def list_passkeys(desk: Own) -> Page[PasskeyView]:
    with desk.read() as session:
        return Page(items=passkeys.list_own(session, desk.caller), next_cursor=None)


@router.post("/passkey-options", dependencies=[HashingTurn])
def begin_passkey(body: Confirmed, desk: Own, request: Request) -> PasskeyCeremony:
    """What the browser needs to have a passkey made."""
    _confirm(desk, body, request)
    site = Site(origin=own_origin(request))
    with desk.read() as session:
        account.require_local(session, desk.caller)
        begun = passkeys.begin_registration(session, desk.services.sealer, desk.caller, site, datetime.now(UTC))
    return PasskeyCeremony(ticket=begun.ticket, options=begun.options)


@router.post("/passkeys", status_code=201)
def create_passkey(body: NewPasskey, desk: Own, request: Request, response: Response) -> PasskeyMade:
    """Keep it. With the first factor come recovery codes, and all other sessions end."""
    site, at = Site(origin=own_origin(request)), datetime.now(UTC)
    ticket, checked = passkeys.check_registration(
        desk.services.sealer, desk.caller, site, body.ticket, body.credential, at
    )
    with desk.change() as session:
        made = passkeys.finish_registration(session, desk.caller, site, ticket, checked, body.name, at)
        cookie = login_sessions.raise_to(session, desk.caller, Method.PASSKEY) if made.recovery_codes else None
    if cookie is not None:
        set_session_cookie(request, response, cookie)
    return made


@router.patch("/passkeys/{id}")
def rename_passkey(id: int, body: PasskeyPatch, desk: Own) -> PasskeyView:  # noqa: A002  the path's word
    with desk.change() as session:
        return passkeys.rename(session, desk.caller, id, body.name)


@router.post("/passkeys/{id}/remove", status_code=204, dependencies=[HashingTurn])
def remove_passkey(id: int, body: Confirmed, desk: Own, request: Request) -> None:  # noqa: A002
    _confirm(desk, body, request)
    with desk.change() as session:
        passkeys.remove(session, desk.caller, id)
        account.require_factor_left(session, desk.caller, desk.services.settings.require_second_factor)


@router.get("/sessions")
def list_sessions(desk: Own) -> Page[SessionView]:
    """Where one is signed in, the last used first."""
    with desk.read() as session:
        return Page(items=login_sessions.list_own(session, desk.caller, datetime.now(UTC)), next_cursor=None)


@router.delete("/sessions", status_code=204)
def end_other_sessions(desk: Own) -> None:
    """All but this one."""
    with desk.change() as session:
        login_sessions.end_others(session, desk.caller)


@router.delete("/sessions/{id}", status_code=204)
def end_session(id: int, desk: Own) -> None:  # noqa: A002
    with desk.change() as session:
        login_sessions.end_own(session, desk.caller, id)


def _confirm(desk: Desk, body: Confirmed, request: Request) -> None:
    """Raises SignInRefused, SignInAgain, TooManyAttempts."""
    password = body.password.get_secret_value() if body.password is not None else None
    signing_in.confirm_presence(desk.services.engine, desk.caller, password, visitor_of(request), datetime.now(UTC))
