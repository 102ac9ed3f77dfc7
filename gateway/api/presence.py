"""`/api/v1/session/confirmation`: show again who sits there, for deeds that outlive a session (`store.presence`)."""

from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field, SecretStr, model_validator

from gateway.api.account import Own
from gateway.api.caller import own_origin, visitor_of
from gateway.api.sessions import HashingTurn, TicketText, set_session_cookie
from gateway.store import presence
from gateway.store.document import Document
from gateway.store.fields import refused
from gateway.store.passkeys import Site
from gateway.store.sign_on_documents import SignOnOption
from gateway.store.signing_in import RECENT

router = APIRouter(prefix="/api/v1/session/confirmation", tags=["session"])


class ConfirmationView(Document):
    username: str
    confirmed: bool
    """Whether deeds that ask for it are open now."""
    until: datetime | None
    """How long they are; null = they are not."""
    password: bool
    """Which ways there are."""
    code: bool
    passkey: bool
    provider: SignOnOption | None
    """Where to sign in afresh (`GET /api/v1/sign-on/start?provider=…&fresh=true`); null = not at a provider."""


class ConfirmationDocument(Document):
    """One way of these."""

    password: SecretStr | None = Field(default=None, min_length=1, max_length=512)
    code: SecretStr | None = Field(default=None, min_length=1, max_length=64)
    """The authenticator app's, or a recovery code."""
    ticket: TicketText | None = None
    """Of `POST /api/v1/session/passkey-options`, along with `credential`."""
    credential: dict[str, Any] | None = None
    """What `navigator.credentials.get()` gave, by its `toJSON()`."""

    @model_validator(mode="after")
    def _one_way(self) -> "ConfirmationDocument":
        if sum(each is not None for each in (self.password, self.code, self.ticket)) != 1:
            raise refused("takes one of `password`, `code` and `ticket`", "send one of them", "password")
        if (self.ticket is None) != (self.credential is None):
            raise refused("belongs to a `ticket`", "send both or neither", "credential")
        return self


@router.get("")
def get_confirmation(desk: Own) -> ConfirmationView:
    """Whether deeds that ask for it are open to this session, and how to open them."""
    at = datetime.now(UTC)
    with desk.read() as session:
        ways = presence.ways(session, desk.caller)
    confirmed_at = desk.caller.confirmed_at if presence.is_confirmed(desk.caller, at) else None
    return ConfirmationView(
        username=desk.caller.name,
        confirmed=confirmed_at is not None,
        until=None if confirmed_at is None else confirmed_at + RECENT,
        password=ways.password,
        code=ways.code,
        passkey=ways.passkey,
        provider=ways.provider,
    )


@router.post("", status_code=204, dependencies=[HashingTurn])
def create_confirmation(body: ConfirmationDocument, desk: Own, request: Request, response: Response) -> None:
    """Confirm that it is you, for a quarter of an hour. The session gets a new cookie; failures count as failed
    sign-ins."""
    services, caller, visitor, at = desk.services, desk.caller, visitor_of(request), datetime.now(UTC)
    if body.password is not None:
        cookie = presence.by_password(services.engine, caller, body.password.get_secret_value(), visitor, at)
    elif body.code is not None:
        code = body.code.get_secret_value()
        cookie = presence.by_code(services.engine, services.sealer, caller, code, visitor, at)
    else:
        assert body.ticket is not None
        assert body.credential is not None
        site = Site(origin=own_origin(request))
        cookie = presence.by_passkey(
            services.engine, services.sealer, site, caller, body.ticket, body.credential, visitor, at
        )
    set_session_cookie(request, response, cookie)
