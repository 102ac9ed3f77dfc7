"""Talking to an OpenID provider, by Authlib and joserfc. Loaded when somebody signs in (`gateway.late`).

Everything has a bound: time, size, no redirect is followed.
"""

import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote_plus

import anyio
import httpx2
import orjson
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from authlib.oauth2.auth import encode_client_secret_basic
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from gateway.api.oidc import PATIENCE_S, Metadata, ProviderAway, TokenRefused
from gateway.store.sign_on import KnownProvider

LARGEST_ANSWER: Final = 1024 * 1024
LEEWAY_S: Final = 60
"""How much clocks may differ."""


class OidcClient:
    """Keeps nothing: what is remembered, and for how long, is `oidc.Providers`' business."""

    async def stated(self, provider: KnownProvider, url: str, *, authorization: str | None = None) -> Any:
        """What is there, as JSON. Raises ProviderAway."""
        headers = {"accept": "application/json", **({"authorization": authorization} if authorization else {})}
        body = bytearray()
        try:
            with anyio.fail_after(PATIENCE_S):
                async with (
                    _client(provider) as client,
                    client.stream("GET", url, withhold_token=True, headers=headers) as answer,
                ):
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
            raise _away(url, error) from None

    async def keys(self, provider: KnownProvider, metadata: Metadata) -> KeySet:
        """Raises ProviderAway."""
        stated = await self.stated(provider, metadata.jwks_uri)
        try:
            return KeySet.import_key_set(stated)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise ProviderAway(f"its keys cannot be read: {error}", fix="is its jwks_uri right?") from None

    async def authorization_url(
        self,
        provider: KnownProvider,
        metadata: Metadata,
        *,
        redirect_uri: str,
        state: str,
        nonce: str,
        verifier: str,
        **more: str,
    ) -> str:
        async with _client(provider, redirect_uri=redirect_uri) as client:
            url, _ = client.create_authorization_url(
                metadata.authorization_endpoint, state=state, code_verifier=verifier, nonce=nonce, **more
            )
        return str(url)

    async def token(
        self, provider: KnownProvider, metadata: Metadata, *, code: str, redirect_uri: str, verifier: str
    ) -> dict[str, Any]:
        """The token endpoint's answer. Raises ProviderAway; TokenRefused with its error code in `fields["error"]`."""
        method = _client_authentication(provider, metadata)
        async with _client(provider, redirect_uri=redirect_uri, token_endpoint_auth_method=method) as client:
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
                raise _away(metadata.token_endpoint, error) from None
        return token

    def opened(self, metadata: Metadata, id_token: str, keys: KeySet) -> jwt.Token:
        """An ID token that is signed by one of the keys. Raises TokenRefused."""
        registry = JWSRegistry(algorithms=list(metadata.algorithms), strict_check_header=False)
        try:
            return jwt.decode(id_token, keys, registry=registry)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise _not_good(error) from None

    def claims(self, provider: KnownProvider, token: jwt.Token, access_token: Any, nonce: str) -> dict[str, Any]:
        """Those of an ID token that is good (OpenID Connect Core 3.1.3.7). Raises TokenRefused."""
        options = {
            "iss": {"essential": True, "value": provider.issuer},
            "aud": {"essential": True, "value": provider.client_id},
        }
        asked = {"nonce": nonce, "client_id": provider.client_id, "access_token": access_token}
        try:
            claims = CodeIDToken(token.claims, token.header, options, asked)
            claims.validate(now=int(time.time()), leeway=LEEWAY_S)
        except (JoseError, AuthlibBaseError, ValueError, TypeError, KeyError) as error:
            raise _not_good(error) from None
        if not (isinstance(claims["sub"], str) and 0 < len(claims["sub"]) <= 255):
            raise TokenRefused("the provider's ID token names nobody", fix="ask an owner")
        return dict(claims)

    async def userinfo(
        self, provider: KnownProvider, url: str, token: Mapping[str, Any], subject: str
    ) -> dict[str, Any]:
        """Raises ProviderAway; TokenRefused where it is about somebody else (OpenID Connect Core 5.3.2)."""
        stated = await self.stated(provider, url, authorization=f"Bearer {token.get('access_token')}")
        if not isinstance(stated, dict) or stated.get("sub") != subject:
            raise TokenRefused("the provider's userinfo is about somebody else", fix="sign in again")
        return stated


def _client(provider: KnownProvider, **options: Any) -> AsyncOAuth2Client:
    return AsyncOAuth2Client(
        client_id=provider.client_id,
        client_secret=provider.client_secret,
        scope=provider.scopes,
        code_challenge_method="S256",
        timeout=PATIENCE_S,
        follow_redirects=False,
        **options,
    )


def _not_good(error: Exception) -> TokenRefused:
    return TokenRefused(
        f"the provider's ID token is not good: {error}", fix="sign in again; where it stays so, ask an owner"
    )


def _away(url: str, error: Exception) -> ProviderAway:
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
