"""What a worker knows of OpenID providers: discovery, keys, the code for an ID token, and whether that token is good.

OpenID Connect Core and Discovery 1.0; RFC 7636 (PKCE), RFC 9207 (whose answer it is), RFC 9700 (current practice). The
talking is next door (`oidc_client`, loaded when somebody signs in). A provider is asked one thing once at a time,
however many wait for it, and one that does not answer is left alone for some seconds.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from urllib.parse import urlencode, urlsplit, urlunsplit

import anyio
import anyio.to_thread

from gateway.errors import SluicegateError
from gateway.late import importing
from gateway.policy.sign_on import groups_in
from gateway.store.sign_on import KnownProvider
from gateway.store.sign_on_documents import is_secure

if TYPE_CHECKING:
    from joserfc.jwk import KeySet

    from gateway.api.oidc_client import OidcClient

PATIENCE_S: Final = 10.0
"""For one answer of a provider."""
METADATA_S: Final = 600.0
KEYS_S: Final = 3600.0
"""How long keys are believed that the provider may have withdrawn; an unknown one is asked for at once."""
AWAY_S: Final = 10.0
"""How long a provider that has not answered is not asked again."""
ALGORITHMS: Final = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519")
)
"""Signatures by a key that only the provider has: neither `none` nor anything with the shared secret."""


class ProviderAway(SluicegateError):
    """It does not answer, or not as an OpenID provider does."""

    status, code, retryable = 502, "sign_on_provider_away", True


class TokenRefused(SluicegateError):
    """The provider's answer does not prove who it is."""

    status, code = 401, "sign_on_refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Of the discovery document, what we use; `stated` is all of it."""

    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None
    end_session_endpoint: str | None
    algorithms: tuple[str, ...]
    stated: Mapping[str, Any]

    @property
    def urls(self) -> tuple[str, ...]:
        """Where our processes go."""
        found = (self.token_endpoint, self.jwks_uri, self.userinfo_endpoint)
        return tuple(sorted({url for url in found if url}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """Who the provider says has signed in."""

    claims: dict[str, Any]
    id_token: str


def discovery_url(issuer: str) -> str:
    return f"{issuer.rstrip('/')}/.well-known/openid-configuration"


def read_metadata(issuer: str, stated: Any) -> Metadata:
    """Check a discovery document (OpenID Connect Discovery 1.0, 4.3). Raises ProviderAway saying what is wrong."""
    if not isinstance(stated, dict):
        raise ProviderAway("the discovery document is no JSON object", fix="is the issuer right?")
    if stated.get("issuer") != issuer:
        raise ProviderAway(
            f"the provider calls itself {str(stated.get('issuer'))[:200]!r}, not {issuer!r}",
            fix="write the issuer just as the provider does, slash at the end or not included",
        )
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        if not isinstance(stated.get(name), str):
            raise ProviderAway(f"the discovery document names no {name}", fix="is this an OpenID provider?")
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint"):
        url = stated.get(name)
        # A provider elsewhere that sends us to this host's own ports would have us ask what it cannot reach.
        if url is not None and not (isinstance(url, str) and is_secure(url) and _as_safe(url, issuer)):
            raise ProviderAway(f"its {name} is not https", fix="have the provider serve https")
    named = stated.get("id_token_signing_alg_values_supported") or ["RS256"]
    return Metadata(
        authorization_endpoint=stated["authorization_endpoint"],
        token_endpoint=stated["token_endpoint"],
        jwks_uri=stated["jwks_uri"],
        userinfo_endpoint=stated.get("userinfo_endpoint"),
        end_session_endpoint=stated.get("end_session_endpoint"),
        algorithms=tuple(each for each in named if each in ALGORITHMS),
        stated=stated,
    )


def _as_safe(url: str, issuer: str) -> bool:
    return not issuer.startswith("https:") or url.startswith("https:")


Told = TypeVar("Told")


class Fetched(Generic[Told]):
    """What a provider says at one place. Who asks while it is being asked waits for that answer; an answer is believed
    for `believed_s`, that there was none for `AWAY_S`."""

    def __init__(self, believed_s: float) -> None:
        self._believed_s = believed_s
        self._turn = anyio.Lock()
        self._told: Told | None = None
        self._asked_at_s = 0.0
        self._told_at_s = 0.0
        self._failure: ProviderAway | None = None
        self._failed_at_s = 0.0

    async def get(self, ask: Callable[[], Awaitable[Told]], *, newer: bool = False) -> Told:
        """`newer`: no answer to a question that was asked before this one. Raises ProviderAway."""
        since_s = time.monotonic()
        found = self._known(since_s if newer else None)
        if found is not None:
            return found
        async with self._turn:
            found = self._known(since_s if newer else None)
            if found is not None:
                return found
            asked_at_s = time.monotonic()
            try:
                told = await ask()
            except ProviderAway as error:
                self._failure, self._failed_at_s = error, time.monotonic()
                raise
            self._told, self._told_at_s, self._asked_at_s = told, time.monotonic(), asked_at_s
            self._failure = None
        return told

    def _known(self, since_s: float | None) -> Told | None:
        """Raises ProviderAway where there was no answer a moment ago."""
        now_s = time.monotonic()
        fits = self._told_at_s + self._believed_s > now_s and (since_s is None or self._asked_at_s >= since_s)
        if self._told is not None and fits:
            return self._told
        if self._failure is not None and self._failed_at_s + AWAY_S > now_s:
            raise ProviderAway(self._failure.message, fix=self._failure.fix)
        return None


class _Known:
    """Of one issuer."""

    def __init__(self) -> None:
        self.metadata: Fetched[Metadata] = Fetched(METADATA_S)
        self.keys: Fetched[KeySet] = Fetched(KEYS_S)


class Providers:
    """What a worker knows of each provider. To be used on its event loop."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._client: OidcClient | None = None

    def forget(self, provider: KnownProvider) -> None:
        """Believe nothing of before, nor that it did not answer."""
        self._known.pop(provider.issuer, None)

    async def metadata(self, provider: KnownProvider) -> Metadata:
        """Raises ProviderAway."""

        async def ask() -> Metadata:
            stated = await (await self.client()).stated(provider, discovery_url(provider.issuer))
            return read_metadata(provider.issuer, stated)

        return await self._of(provider).metadata.get(ask)

    async def keys(self, provider: KnownProvider, metadata: Metadata, *, newer: bool = False) -> "KeySet":
        """`newer` than what is known. Raises ProviderAway."""

        async def ask() -> "KeySet":
            return await (await self.client()).keys(provider, metadata)

        return await self._of(provider).keys.get(ask, newer=newer)

    async def authorization_url(
        self, provider: KnownProvider, *, redirect_uri: str, state: str, nonce: str, verifier: str, **more: str
    ) -> str:
        """Where the browser goes to sign in. Raises ProviderAway."""
        metadata, client = await self.metadata(provider), await self.client()
        return await client.authorization_url(
            provider, metadata, redirect_uri=redirect_uri, state=state, nonce=nonce, verifier=verifier, **more
        )

    async def exchange(
        self, provider: KnownProvider, *, code: str, redirect_uri: str, nonce: str, verifier: str
    ) -> Proven:
        """The code for who it is. Raises ProviderAway, TokenRefused."""
        metadata, client = await self.metadata(provider), await self.client()
        token = await client.token(provider, metadata, code=code, redirect_uri=redirect_uri, verifier=verifier)
        id_token = token.get("id_token")
        if not isinstance(id_token, str):
            raise TokenRefused("the provider gave no ID token", fix="its scopes need `openid`")
        claims = await self._verified(provider, metadata, id_token, token.get("access_token"), nonce)
        if groups_in(claims, provider.groups_claim) is None and metadata.userinfo_endpoint:
            claims |= await client.userinfo(provider, metadata.userinfo_endpoint, token, claims["sub"])
        return Proven(claims=claims, id_token=id_token)

    async def _verified(
        self, provider: KnownProvider, metadata: Metadata, id_token: str, access_token: Any, nonce: str
    ) -> dict[str, Any]:
        """The claims of an ID token that is good. Raises ProviderAway, TokenRefused."""
        if not metadata.algorithms:  # joserfc would take its own list
            raise TokenRefused(
                "the provider signs ID tokens by no algorithm that is taken here",
                fix=f"have it sign by one of {', '.join(sorted(ALGORITHMS))}",
            )
        client = await self.client()
        try:
            token = client.opened(metadata, id_token, await self.keys(provider, metadata))
        except TokenRefused:  # the provider may have new keys
            token = client.opened(metadata, id_token, await self.keys(provider, metadata, newer=True))
        return client.claims(provider, token, access_token, nonce)

    async def client(self) -> "OidcClient":
        """Loaded when it is first asked for."""
        if self._client is None:
            self._client = await anyio.to_thread.run_sync(_load_client)
        return self._client

    def _of(self, provider: KnownProvider) -> _Known:
        return self._known.setdefault(provider.issuer, _Known())


def _load_client() -> "OidcClient":
    with importing():
        from gateway.api.oidc_client import OidcClient
    return OidcClient()


def sign_out_url(provider: KnownProvider, metadata: Metadata, *, id_token: str | None, back: str) -> str | None:
    """Where the browser goes to end the session at the provider too (OpenID Connect RP-Initiated Logout 1.0)."""
    if metadata.end_session_endpoint is None:
        return None
    hint = {} if id_token is None else {"id_token_hint": id_token}
    asked = urlencode({**hint, "client_id": provider.client_id, "post_logout_redirect_uri": back})
    parts = urlsplit(metadata.end_session_endpoint)
    return urlunsplit(parts._replace(query=f"{parts.query}&{asked}" if parts.query else asked))
