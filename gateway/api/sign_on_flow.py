"""Signing in at an identity provider: `/api/v1/sign-on/options`, `start`, `callback`, and out again.

Authorization code with PKCE, state and nonce. What has to be remembered between `start` and `callback` is in a sealed
cookie of the browser that began: another browser cannot end it, and it is good once and for ten minutes.
"""

import hashlib
import hmac
import html
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import quote, urlencode

import anyio.to_thread
import orjson
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel
from starlette.responses import HTMLResponse, RedirectResponse, Response

from gateway.api.caller import Desk, cookie_name, is_https, own_origin, permit, visitor_of
from gateway.api.oidc import ProviderAway, TokenRefused, sign_out_url
from gateway.api.problems import MEDIA_TYPE
from gateway.api.services import Services, services_of
from gateway.api.sessions import drop_session_cookie, set_session_cookie
from gateway.errors import NotFound, SluicegateError
from gateway.policy.roles import Permission
from gateway.store import audit, identity, sign_on, tickets
from gateway.store.database import read_session, write_session
from gateway.store.login_sessions import SignedIn
from gateway.store.sealing import Sealed, Sealer, SealingKeyError
from gateway.store.sign_on import KnownProvider
from gateway.store.sign_on_documents import SignInOptions
from gateway.store.sign_on_entry import Person, Refusal, enter
from gateway.store.sign_on_models import SignOnSession
from gateway.store.tickets import Purpose, Ticket, TicketRefused

router = APIRouter(prefix="/api/v1/sign-on", tags=["sign-on"])

COOKIE: Final = "sluicegate_sign_on"
CALLBACK: Final = "/api/v1/sign-on/callback"
LOGIN: Final = "/console/login"
BACK: Final[dict[str, Any]] = {"description": "Back to the console"}
PAGE: Final[dict[str, Any]] = {
    "description": "A page for people that says why, or a problem",
    "content": {
        kind: {"schema": {"type": kind_of}} for kind, kind_of in (("text/html", "string"), (MEDIA_TYPE, "object"))
    },
}
GOOD_FOR: Final = timedelta(minutes=10)
SEALED_AS: Final = "/sign-on attempt"
OWN_PAGE: Final = re.compile(r"/console(?:/[^\\\x00-\x1f]*|\?[^\\\x00-\x1f]*)?")
LONGEST_PAGE: Final = 1024

ServicesHere = Annotated[Services, Depends(services_of)]
Result = TypeVar("Result")


class SignedOut(BaseModel):
    url: str | None
    """Where the browser is to go to end its session at the provider too; null = nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What `start` has begun."""

    provider: str
    state: str
    nonce: str
    verifier: str
    redirect_uri: str
    next: str
    expires_at: float

    def sealed(self, sealer: Sealer) -> str:
        done = sealer.seal(orjson.dumps(asdict(self)).decode(), 0, SEALED_AS)
        return f"{done.key_id}.{urlsafe_b64encode(done.ciphertext).decode().rstrip('=')}"

    @classmethod
    def opened(cls, sealer: Sealer, text: str) -> "Attempt | None":
        """None: none of ours."""
        key_id, _, ciphertext = text.partition(".")
        try:
            sealed = Sealed(key_id, urlsafe_b64decode(ciphertext + "=" * (-len(ciphertext) % 4)))
            return cls(**orjson.loads(sealer.open(sealed, 0, SEALED_AS)))
        except (ValueError, TypeError, SealingKeyError):
            return None


@router.get("/options")
def sign_in_options(services: ServicesHere) -> SignInOptions:
    """What the sign-in page offers. Open to everyone."""
    with read_session(services.engine) as session:
        return sign_on.options(session)


@router.get("/start", response_class=RedirectResponse, status_code=302, responses={303: BACK})
async def start_sign_on(
    request: Request,
    services: ServicesHere,
    provider: Annotated[str, Query(max_length=128, description="By name")],
    next: Annotated[str, Query(max_length=LONGEST_PAGE, description="Page of the console to go to")] = "/console/",  # noqa: A002
    fresh: Annotated[bool, Query(description="Have the provider ask who it is, even if it knows")] = False,
) -> Response:
    """Send the browser to the provider. Where that does not answer, back to the sign-in page, which says so."""
    page = next if OWN_PAGE.fullmatch(next) else "/console/"
    try:
        known = await _in_thread(partial(_known, services, provider))
        attempt = Attempt(
            provider=known.name,
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(64),
            redirect_uri=own_origin(request) + CALLBACK,
            next=page,
            expires_at=(datetime.now(UTC) + GOOD_FOR).timestamp(),
        )
        url = await services.sign_on_providers.authorization_url(
            known,
            redirect_uri=attempt.redirect_uri,
            state=attempt.state,
            nonce=attempt.nonce,
            verifier=attempt.verifier,
            **({"prompt": "login"} if fresh else {}),
        )
        await _note_endpoints(services, known)
    except (ProviderAway, NotFound) as error:
        return _to_login(error.code, provider, page)
    answer = RedirectResponse(url, status_code=302)
    answer.set_cookie(
        cookie_name(request, COOKIE),
        await _in_thread(partial(attempt.sealed, services.sealer)),
        max_age=int(GOOD_FOR.total_seconds()),
        path="/",
        secure=is_https(request),
        httponly=True,
        samesite="lax",  # the provider sends the browser back from another site
    )
    return answer


@router.get("/callback", response_class=HTMLResponse, responses={303: BACK, "4XX": PAGE, "5XX": PAGE})
async def end_sign_on(
    request: Request,
    services: ServicesHere,
    state: Annotated[str, Query(max_length=256)] = "",
    code: Annotated[str, Query(max_length=3072)] = "",
    iss: Annotated[str | None, Query(max_length=512)] = None,
    error: Annotated[str, Query(max_length=128)] = "",
    error_description: Annotated[str, Query(max_length=1024)] = "",
) -> Response:
    """Where the provider sends the browser back to. Who may come in gets a session; who may not is told why.

    All of it together fits into a request line, however it is escaped.
    """
    name = cookie_name(request, COOKIE)
    attempt = await _in_thread(partial(Attempt.opened, services.sealer, request.cookies.get(name, "")))
    if attempt is None or not hmac.compare_digest(attempt.state.encode(), state.encode()):
        return _page(400, "This sign-in was not begun here", _BEGIN_AGAIN)
    if attempt.expires_at <= datetime.now(UTC).timestamp():
        return _page(400, "This sign-in took too long", "It has to be done within ten minutes. Begin again.")
    try:
        answer = await _end(request, services, attempt, code=code, iss=iss, error=error, said=error_description)
    except TicketRefused:
        answer = _page(400, "This sign-in was used already", _BEGIN_AGAIN)
    except ProviderAway as problem:
        answer = _to_login(problem.code, attempt.provider, attempt.next)
    except SluicegateError as problem:
        answer = _page(
            problem.status, "You could not be signed in", f"{_sentence(problem.message)} {_sentence(problem.fix)}"
        )
    answer.delete_cookie(name, path="/", secure=is_https(request), httponly=True, samesite="lax")
    return answer


@router.post("/sign-out", response_model=SignedOut)
async def sign_out(request: Request, desk: Annotated[Desk, permit(Permission.SESSION)]) -> Response:
    """End the session here, and say where the browser goes to end the provider's, where one began it."""
    begun = await _in_thread(partial(_end_session, desk))
    url: str | None = None
    if begun is not None:
        provider, id_token = begun
        try:
            metadata = await desk.services.sign_on_providers.metadata(provider)
            url = sign_out_url(provider, metadata, id_token=id_token, back=own_origin(request) + LOGIN)
        except ProviderAway:
            url = None  # signed out here all the same
    answer = Response(orjson.dumps(SignedOut(url=url).model_dump()), media_type="application/json")
    drop_session_cookie(request, answer)
    return answer


async def _end(
    request: Request, services: Services, attempt: Attempt, *, code: str, iss: str | None, error: str, said: str
) -> Response:
    known = await _in_thread(partial(_known, services, attempt.provider))
    metadata = await services.sign_on_providers.metadata(known)
    owes_issuer = metadata.stated.get("authorization_response_iss_parameter_supported") is True
    if (iss is not None and iss != known.issuer) or (iss is None and owes_issuer):
        raise TokenRefused("the answer is another provider's", fix="begin again")
    if error or not code:
        what = f"{error}: {said}" if said else error or "no code"
        raise TokenRefused(f"{known.label} did not sign you in ({what})", fix="try again, or ask who runs it")
    await _in_thread(partial(_spend, services, attempt))
    proven = await services.sign_on_providers.exchange(
        known, code=code, redirect_uri=attempt.redirect_uri, nonce=attempt.nonce, verifier=attempt.verifier
    )
    person = Person.of(proven.claims, known)
    outcome = await _in_thread(partial(_enter, request, services, known, person, proven.id_token))
    if isinstance(outcome, Refusal):
        return _page(403, "You may not use this gateway", f"{_sentence(outcome.reason)} {_sentence(outcome.fix)}")
    answer = RedirectResponse(attempt.next, status_code=303)
    set_session_cookie(request, answer, outcome.cookie)
    return answer


# ---- in a handler's thread


async def _in_thread(work: Callable[[], Result]) -> Result:
    return await anyio.to_thread.run_sync(work)


def _known(services: Services, name: str) -> KnownProvider:
    with read_session(services.engine) as session:
        return sign_on.known_provider(session, services.sealer, name, enabled_only=True)


def _spend(services: Services, attempt: Attempt) -> None:
    """Raises TicketRefused where it was used already."""
    ticket = Ticket(
        purpose=Purpose.SIGN_ON,
        nonce=hashlib.sha256(attempt.state.encode()).digest(),
        expires_at=datetime.fromtimestamp(attempt.expires_at, UTC),
    )
    with write_session(services.engine) as session:
        audit.lock(session)
        tickets.spend(session, ticket, datetime.now(UTC))


def _enter(
    request: Request, services: Services, known: KnownProvider, person: Person, id_token: str
) -> SignedIn | Refusal:
    with write_session(services.engine) as session:
        return enter(session, services.sealer, known, person, id_token, visitor_of(request), datetime.now(UTC))


def _end_session(desk: Desk) -> tuple[KnownProvider, str | None] | None:
    """Sign out here. The provider that began the session, and its ID token; None where it cannot be asked."""
    sealer = desk.services.sealer
    with desk.change() as session:
        begun = session.get(SignOnSession, desk.caller.session_id) if desk.caller.session_id is not None else None
        identity.sign_out(session, desk.caller)
    if begun is None:
        return None
    try:
        id_token = sealer.open_row(begun) if begun.sealed is not None else None
        with desk.read() as session:
            return sign_on.known_provider(session, sealer, str(begun.provider_id), enabled_only=False), id_token
    except (NotFound, SealingKeyError):
        return None


async def _note_endpoints(services: Services, known: KnownProvider) -> None:
    """Where the provider's document leads elsewhere than before, the guard of our connections has to know."""
    named = (await services.sign_on_providers.metadata(known)).urls
    if set(named) != set(known.endpoints):
        await _in_thread(partial(note_endpoints, services, known, named))


def note_endpoints(services: Services, known: KnownProvider, named: tuple[str, ...]) -> None:
    """From a handler's thread."""
    with write_session(services.engine) as session:
        sign_on.note_endpoints(session, known.id, named)
    services.nudge()


# ---- pages


_BEGIN_AGAIN: Final = (
    "It was begun in another browser or window, or is one of before. Nobody was signed in. Begin again from the "
    "sign-in page."
)


def _to_login(problem: str, provider: str, page: str) -> Response:
    """The console says what is wrong: its own words, nothing that stands in an address."""
    asked = {"problem": problem, "provider": provider, **({"next": page} if page != "/console/" else {})}
    return RedirectResponse(f"{LOGIN}?{urlencode(asked, quote_via=quote)}", status_code=303)


def _sentence(text: str) -> str:
    text = text[:1].upper() + text[1:]
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def _page(status: int, title: str, text: str) -> Response:
    """A plain page: no script, no style."""
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)} · Sluicegate</title><main><h1>{html.escape(title)}</h1><p>{html.escape(text)}</p>"
        f'<p><a href="{LOGIN}">Back to the sign-in page</a></p></main></html>',
        status_code=status,
        headers={"content-security-policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'"},
    )
