"""Talking to an OpenID provider: discovery, keys, the code for an ID token, and whether that token is good.

OpenID Connect Core and Discovery 1.0, by Authlib and joserfc; RFC 7636 (PKCE), RFC 9207 (whose answer it is), RFC 9700
(current practice). Everything has a bound: time, size, no redirect is followed.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote_plus

import anyio
import httpx2
import orjson
from authlib.common.errors import AuthlibBaseError
from authlib.common.urls import add_params_to_uri
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oauth2.auth import encode_client_secret_basic
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from gateway.errors import SluicegateError
from gateway.policy.sign_on import groups_in
from gateway.store.sign_on import KnownProvider
from gateway.store.sign_on_documents import is_secure

PATIENCE_S: Final = 10.0
"""For one answer of a provider."""
LARGEST_ANSWER: Final = 1024 * 1024
METADATA_S: Final = 600.0
KEYS_S: Final = 3600.0
"""How long keys are believed that the provider may have withdrawn; an unknown one is asked for at once."""
LEEWAY_S: Final = 60
"""How much clocks may differ."""
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


@dataclass(slots=True)
class _Kept:
    metadata: Metadata | None = None
    metadata_at_s: float = 0.0
    keys: KeySet | None = None
    keys_at_s: float = 0.0


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


class Providers:
    """What a worker knows of each provider. To be used on its event loop."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    async def metadata(self, provider: KnownProvider, *, anew: bool = False) -> Metadata:
        """Raises ProviderAway."""
        kept = self._kept.setdefault(provider.issuer, _Kept())
        if kept.metadata is None or anew or time.monotonic() - kept.metadata_at_s > METADATA_S:
            async with self._client(provider) as client:
                kept.metadata = read_metadata(provider.issuer, await fetch_json(client, discovery_url(provider.issuer)))
            kept.metadata_at_s = time.monotonic()
        return kept.metadata

    async def keys(self, provider: KnownProvider, metadata: Metadata, *, anew: bool = False) -> KeySet:
        """Raises ProviderAway."""
        kept = self._kept.setdefault(provider.issuer, _Kept())
        if kept.keys is None or anew or time.monotonic() - kept.keys_at_s > KEYS_S:
            async with self._client(provider) as client:
                stated = await fetch_json(client, metadata.jwks_uri)
            try:
                kept.keys = KeySet.import_key_set(stated)
            except (JoseError, ValueError, KeyError, TypeError) as error:
                raise ProviderAway(f"its keys cannot be read: {error}", fix="is its jwks_uri right?") from None
            kept.keys_at_s = time.monotonic()
        return kept.keys

    async def authorization_url(
        self, provider: KnownProvider, *, redirect_uri: str, state: str, nonce: str, verifier: str, **more: str
    ) -> str:
        """Where the browser goes to sign in. Raises ProviderAway."""
        metadata = await self.metadata(provider)
        async with self._client(provider, redirect_uri=redirect_uri) as client:
            url, _ = client.create_authorization_url(
                metadata.authorization_endpoint, state=state, code_verifier=verifier, nonce=nonce, **more
            )
        return str(url)

    async def exchange(
        self, provider: KnownProvider, *, code: str, redirect_uri: str, nonce: str, verifier: str
    ) -> Proven:
        """The code for who it is. Raises ProviderAway, TokenRefused."""
        metadata = await self.metadata(provider)
        token = await self.token(provider, metadata, code=code, redirect_uri=redirect_uri, verifier=verifier)
        id_token = token.get("id_token")
        if not isinstance(id_token, str):
            raise TokenRefused("the provider gave no ID token", fix="its scopes need `openid`")
        claims = await self._verified(provider, metadata, id_token, token.get("access_token"), nonce)
        if groups_in(claims, provider.groups_claim) is None and metadata.userinfo_endpoint:
            claims |= await self._userinfo(provider, metadata.userinfo_endpoint, token, claims["sub"])
        return Proven(claims=claims, id_token=id_token)

    async def token(
        self, provider: KnownProvider, metadata: Metadata, *, code: str, redirect_uri: str, verifier: str
    ) -> dict[str, Any]:
        """The token endpoint's answer. Raises ProviderAway; TokenRefused with its error code in `fields["error"]`."""
        method = _client_authentication(provider, metadata)
        async with self._client(provider, redirect_uri=redirect_uri, token_endpoint_auth_method=method) as client:
            client.register_client_auth_method(("client_secret_basic", _basic))
            try:
                with anyio.fail_after(PATIENCE_S):
                    token: dict[str, Any] = await client.fetch_token(
                        metadata.token_endpoint, grant_type="authorization_code", code=code, code_verifier=verifier,
                        redirect_uri=redirect_uri,
                    )  # fmt: skip
            except AuthlibBaseError as error:
                said = f": {error.description}" if error.description else ""
                raise TokenRefused(
                    f"the provider refused the code: {error.error}{said}",
                    fix="sign in again; where it stays so, the client id or secret is wrong (the console's test says)",
                    error=str(error.error),
                ) from None
            except (httpx2.HTTPError, TimeoutError, ValueError) as error:
                raise away(metadata.token_endpoint, error) from None
        return token

    async def _verified(
        self, provider: KnownProvider, metadata: Metadata, id_token: str, access_token: Any, nonce: str
    ) -> dict[str, Any]:
        """The claims of an ID token that is good (OpenID Connect Core 3.1.3.7). Raises TokenRefused."""
        if not metadata.algorithms:  # joserfc would take its own list
            raise TokenRefused(
                "the provider signs ID tokens by no algorithm that is taken here",
                fix=f"have it sign by one of {', '.join(sorted(ALGORITHMS))}",
            )
        registry = JWSRegistry(algorithms=list(metadata.algorithms), strict_check_header=False)
        try:
            try:
                decoded = jwt.decode(id_token, await self.keys(provider, metadata), registry=registry)
            except (JoseError, ValueError):  # the provider may have new keys
                decoded = jwt.decode(id_token, await self.keys(provider, metadata, anew=True), registry=registry)
            options = {
                "iss": {"essential": True, "value": provider.issuer},
                "aud": {"essential": True, "value": provider.client_id},
            }
            asked = {"nonce": nonce, "client_id": provider.client_id, "access_token": access_token}
            claims = CodeIDToken(decoded.claims, decoded.header, options, asked)
            claims.validate(now=int(time.time()), leeway=LEEWAY_S)
        except (JoseError, AuthlibBaseError, ValueError, TypeError, KeyError) as error:
            raise TokenRefused(
                f"the provider's ID token is not good: {error}", fix="sign in again; where it stays so, ask an owner"
            ) from None
        if not (isinstance(claims["sub"], str) and 0 < len(claims["sub"]) <= 255):
            raise TokenRefused("the provider's ID token names nobody", fix="ask an owner")
        return dict(claims)

    async def _userinfo(
        self, provider: KnownProvider, url: str, token: Mapping[str, Any], subject: str
    ) -> dict[str, Any]:
        """Raises ProviderAway; TokenRefused where it is about somebody else (OpenID Connect Core 5.3.2)."""
        async with self._client(provider) as client:
            stated = await fetch_json(client, url, authorization=f"Bearer {token.get('access_token')}")
        if not isinstance(stated, dict) or stated.get("sub") != subject:
            raise TokenRefused("the provider's userinfo is about somebody else", fix="sign in again")
        return stated

    def _client(self, provider: KnownProvider, **options: Any) -> AsyncOAuth2Client:
        return AsyncOAuth2Client(
            client_id=provider.client_id,
            client_secret=provider.client_secret,
            scope=provider.scopes,
            code_challenge_method="S256",
            timeout=PATIENCE_S,
            follow_redirects=False,
            **options,
        )


def sign_out_url(provider: KnownProvider, metadata: Metadata, *, id_token: str, back: str) -> str | None:
    """Where the browser goes to end the session at the provider too (OpenID Connect RP-Initiated Logout 1.0)."""
    if metadata.end_session_endpoint is None:
        return None
    asked = {"id_token_hint": id_token, "client_id": provider.client_id, "post_logout_redirect_uri": back}
    return str(add_params_to_uri(metadata.end_session_endpoint, list(asked.items())))


async def fetch_json(client: AsyncOAuth2Client, url: str, *, authorization: str | None = None) -> Any:
    """Raises ProviderAway."""
    headers = {"accept": "application/json", **({"authorization": authorization} if authorization else {})}
    body = bytearray()
    try:
        with anyio.fail_after(PATIENCE_S):
            async with client.stream("GET", url, withhold_token=True, headers=headers) as answer:
                if answer.status_code != 200:
                    raise ProviderAway(f"{url} answered {answer.status_code}", fix="is the issuer right?")
                async for piece in answer.aiter_bytes():
                    body += piece
                    if len(body) > LARGEST_ANSWER:
                        raise ProviderAway(f"{url} answers with more than 1 MiB", fix="is the issuer right?")
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise ProviderAway(f"{url} does not answer with JSON", fix="is the issuer right?") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError) as error:
        raise away(url, error) from None


def away(url: str, error: Exception) -> ProviderAway:
    said = str(error) or type(error).__name__
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        said = f"no answer within {PATIENCE_S:.0f} s"
    return ProviderAway(
        f"{url}: {said}", fix="can this host reach it (name, firewall, proxy, certificate), and is it running?"
    )


def _client_authentication(provider: KnownProvider, metadata: Metadata) -> str:
    if provider.client_secret is None:
        return "none"
    taken = metadata.stated.get("token_endpoint_auth_methods_supported") or ["client_secret_basic"]
    return "client_secret_post" if "client_secret_basic" not in taken else "client_secret_basic"


class _Quoted:
    """A client's id and secret as RFC 6749 2.3.1 wants them in HTTP Basic."""

    def __init__(self, client_id: str, client_secret: str) -> None:
        self.client_id = quote_plus(client_id)
        self.client_secret = quote_plus(client_secret)


def _basic(client: Any, method: str, uri: str, headers: Any, body: Any) -> Any:
    return encode_client_secret_basic(_Quoted(client.client_id, client.client_secret), method, uri, headers, body)
