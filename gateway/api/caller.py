"""Who calls, and whether they may: bearer token or session cookie, one declared permission an endpoint.

A handler asks for `Annotated[Desk, permit(Permission.…)]`. The desk is the caller's place of work: it opens the one
transaction of the request, commits it before the answer is sent, and then nudges the keeper.
"""

import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from fastapi import Depends, Query, Request
from sqlalchemy.orm import Session

from gateway.api.services import Services, services_of
from gateway.errors import Forbidden, Unauthenticated
from gateway.policy.roles import Authority, Permission
from gateway.store import audit, identity, presence
from gateway.store.config.editing import Editing
from gateway.store.database import read_session, write_session
from gateway.store.identity import Caller, Method
from gateway.store.login_sessions import Visitor

SESSION_COOKIE: Final = "sluicegate_session"
HOST_PREFIX: Final = "__Host-"
"""Of cookies over TLS (RFC 6265bis 4.1.3.2): a browser takes them from this very host over TLS alone, so that no
neighbour below the same domain, and nobody on the way of a plain request, plants one."""
FORWARDING_HEADERS: Final = (
    "forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-server", "x-real-ip",
    "x-client-ip", "true-client-ip", "cf-connecting-ip",
)  # fmt: skip
"""Any of them says that a proxy passed the request on."""
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})


class NotSignedIn(Unauthenticated):
    code = "unauthenticated"


class CrossOrigin(Forbidden):
    """A session cookie came along with a request that another site made the browser send."""

    code = "cross_origin"


class SecondFactorRequired(Forbidden):
    """The caller's role takes a second factor, and the session was begun without one."""

    code = "second_factor_required"


class _RolledBack(Exception):
    """Ends a dry run's transaction without a trace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """One authenticated and permitted request: who asks, and the way into the database."""

    services: Services
    caller: Caller
    address: str
    """The client's."""
    dry_run: bool
    """Everything is checked and answered as if done, and nothing is kept."""

    @property
    def authority(self) -> Authority:
        prefixed = self.caller.team_id is not None and self.services.settings.team_names == "prefixed"
        return replace(self.caller.authority, names_prefixed=True) if prefixed else self.caller.authority

    @property
    def actor(self) -> str:
        return self.caller.authority.actor

    @property
    def team_id(self) -> int | None:
        """The team that the caller is confined to; None = sees all."""
        return self.caller.authority.team_id

    @contextmanager
    def read(self) -> Iterator[Session]:
        with read_session(self.services.engine) as session:
            yield session

    @contextmanager
    def reading(self) -> Iterator[Editing]:
        """The configuration, as far as this caller may see it."""
        with self.read() as session:
            yield self._editing(session)

    @contextmanager
    def changing(self) -> Iterator[Editing]:
        """The same in one write transaction."""
        with self.change() as session:
            yield self._editing(session)

    def require_confirmed(self) -> None:
        """Before a deed that outlives the session that does it. Raises ConfirmItIsYou."""
        presence.require(self.caller, datetime.now(UTC))

    def _editing(self, session: Session) -> Editing:
        return Editing(session=session, authority=self.authority, sealer=self.services.sealer)

    @contextmanager
    def change(self) -> Iterator[Session]:
        """One write transaction, in its turn (`audit.lock`). The keeper hears of it after the commit, so that it finds
        what it looks for. Raises NotSignedIn where session or token has been ended since the request was admitted."""
        try:
            with write_session(self.services.engine) as session:
                audit.come_from(session, self.address)
                audit.lock(session)
                if not identity.still_stands(session, self.caller):
                    raise NotSignedIn("the session or token has just been ended", fix="sign in again")
                yield session
                session.flush()
                if self.dry_run:
                    raise _RolledBack
        except _RolledBack:
            return
        self.services.nudge()


class Permit:
    """Dependency that admits callers whose role has one permission. `confirmed`: and who have shown lately who they
    are (`store.presence`)."""

    def __init__(self, permission: Permission, *, confirmed: bool = False) -> None:
        self.permission = permission
        self.confirmed = confirmed

    def __call__(self, request: Request, services: Annotated[Services, Depends(services_of)]) -> Desk:
        return Desk(services=services, caller=self.admit(request), address=client_address(request), dry_run=False)

    def admit(self, request: Request) -> Caller:
        """Who asks, if they may. Blocks (SQL). Raises NotSignedIn, CrossOrigin, SecondFactorRequired, Forbidden,
        ConfirmItIsYou."""
        caller = authenticate(request)
        if self.permission is not Permission.SESSION and lacks_second_factor(request, caller):
            raise SecondFactorRequired(
                f"the role {caller.role} may do nothing here without a second factor",
                fix="set up an authenticator app or a passkey under /console/account",
            )
        if not caller.may(self.permission):
            if caller.scopes is not None:
                raise Forbidden(
                    "the token's scopes do not cover this", fix=f"make one with the scope {self.permission}"
                )
            raise Forbidden(
                f"the role {caller.role} may not do this", fix=f"it takes a role with the permission {self.permission}"
            )
        if self.confirmed:
            presence.require(caller, datetime.now(UTC))
        return caller


class PermitChange(Permit):
    """The same for endpoints that change something and can be tried with `?dry_run=true`."""

    def __call__(
        self,
        request: Request,
        services: Annotated[Services, Depends(services_of)],
        dry_run: Annotated[bool, Query(description="Check and answer as if done, keep nothing")] = False,
    ) -> Desk:
        return Desk(services=services, caller=self.admit(request), address=client_address(request), dry_run=dry_run)


def permit(permission: Permission) -> Any:
    """Dependency of a handler that reads: its `Desk`, for callers whose role has the permission."""
    return Depends(Permit(permission))


def permit_change(permission: Permission, *, confirmed: bool = False) -> Any:
    """Dependency of a handler that changes something: the same, with `?dry_run`. `confirmed`: what outlives the session
    that does it."""
    return Depends(PermitChange(permission, confirmed=confirmed))


def authenticate(request: Request) -> Caller:
    """Who sent the request. Blocks (SQL): call it in a thread. Raises NotSignedIn, CrossOrigin."""
    services = services_of(request)
    now = datetime.now(UTC)
    scheme, _, credential = request.headers.get("authorization", "").partition(" ")
    if credential:
        if scheme.lower() != "bearer":
            raise NotSignedIn(f"the scheme {scheme[:20]!r} is not supported", fix="send `Authorization: Bearer TOKEN`")
        with read_session(services.engine) as session:
            caller = identity.caller_by_token(session, credential.strip(), now)
        if caller is None:
            raise NotSignedIn(
                "the token is unknown, revoked or expired", fix="make one with `sluicegate token create --role ROLE`"
            )
        return caller
    cookie, only_former = session_cookie(request)
    if not cookie:
        raise NotSignedIn(
            "no token and no session", fix="send `Authorization: Bearer TOKEN`, or sign in at POST /api/v1/session"
        )
    if request.method not in SAFE_METHODS and not same_origin(request):
        raise CrossOrigin(
            "this request does not come from the console's own pages",
            fix="call the API from a script with a token instead of a session cookie",
        )
    with read_session(services.engine) as session:
        caller = identity.caller_by_session(session, cookie, now, only_former=only_former)
    if caller is None:
        raise NotSignedIn("the session has ended", fix="sign in again")
    if identity.session_needs_touch(caller, now):
        with write_session(services.engine) as session:
            identity.touch_session(session, caller, now)
    return caller


def lacks_second_factor(request: Request, caller: Caller) -> bool:
    """Whether the caller's role takes a second factor that their session was begun without. Tokens are not asked."""
    return caller.method is Method.PASSWORD and caller.role in services_of(request).settings.require_second_factor


def visitor_of(request: Request) -> Visitor:
    """Who signs in: from where, with what, and with which session already."""
    return Visitor(
        address=client_address(request),
        user_agent=request.headers.get("user-agent", ""),
        cookie=session_cookie(request)[0],
    )


def cookie_name(request: Request, name: str) -> str:
    """How a cookie of ours is called on the browser's side of this connection."""
    return HOST_PREFIX + name if is_https(request) else name


def session_cookie(request: Request) -> tuple[str | None, bool]:
    """The session's secret, if any, and whether it came by the name that sessions had over TLS before they had the
    prefix: good for those that began then, seven days at the most."""
    named = request.cookies.get(cookie_name(request, SESSION_COOKIE))
    if named or not is_https(request):
        return named, False
    return request.cookies.get(SESSION_COOKIE), True


def same_origin(request: Request) -> bool:
    """Whether a page of ours sent the request: by `Sec-Fetch-Site` where the browser says so, else by `Origin`.

    A client that says neither is no browser of today and has no business with a session cookie.
    """
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() == own_host(request)


def own_origin(request: Request) -> str:
    """Scheme and host as the browser knows us: `https://gateway.example.com`."""
    return f"{'https' if is_https(request) else 'http'}://{own_host(request)}"


def own_host(request: Request) -> str:
    """What the browser has in its address bar: as the settings say, or through as many proxies as may be believed."""
    settings = services_of(request).settings
    if settings.console_url is not None:
        return urlsplit(settings.console_url).netloc
    return (_forwarded(request, "x-forwarded-host") or request.headers.get("host", "")).lower()


def is_https(request: Request) -> bool:
    """Whether the browser's side of the connection is TLS, here or at a trusted proxy."""
    settings = services_of(request).settings
    if settings.console_url is not None:
        return settings.console_url.startswith("https:")
    return (_forwarded(request, "x-forwarded-proto") or request.url.scheme) == "https"


def client_address(request: Request) -> str:
    """The caller's address: the peer's, or what the outermost trusted proxy saw."""
    return _forwarded(request, "x-forwarded-for") or (request.client.host if request.client else "")


def _forwarded(request: Request, name: str) -> str | None:
    """What the outermost proxy that is believed wrote; what stands before it anybody may have sent, also in a line of
    its own (RFC 9110 5.2: lines of one name are one list)."""
    hops = services_of(request).settings.trusted_hops
    parts = [part.strip() for line in request.headers.getlist(name) for part in line.split(",") if part.strip()]
    return parts[-min(hops, len(parts))] if hops and parts else None


def client_is_local(request: Request) -> bool:
    """Whether the request comes from this host itself and not through a proxy on it.

    Both ends have to be loopback: the socket's peer, and the client that a PROXY preamble names. Either alone may be
    claimed by anyone who reaches the port, or is the load balancer's own.
    """
    if any(name in request.headers for name in FORWARDING_HEADERS):
        return False
    peer = request.scope.get("sluicegate.peer") or (request.client.host if request.client else "")
    return request.client is not None and _is_loopback(peer) and _is_loopback(request.client.host)


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
