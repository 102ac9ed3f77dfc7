"""`test` of a sign-on provider: everything that can be asked without a person, each step with what it found."""

import secrets
from typing import Any, Final

import anyio
import httpx2

from gateway.api.oidc import (
    ALGORITHMS,
    PATIENCE_S,
    Metadata,
    ProviderAway,
    Providers,
    TokenRefused,
    discovery_url,
)
from gateway.store.sign_on import KnownProvider
from gateway.store.sign_on_documents import SignOnFinding, SignOnTrial

NO_CODE: Final = "sluicegate-test-of-the-client"


async def try_provider(providers: Providers, provider: KnownProvider, redirect_uri: str) -> SignOnTrial:
    """Ask for real: discovery, keys, the client's id and secret, the redirect URI."""
    findings: list[SignOnFinding] = []
    try:
        providers.forget(provider)
        metadata = await providers.metadata(provider)
        _add(findings, True, "Discovery", f"{discovery_url(provider.issuer)} answers as {provider.issuer}")
        _look_at(metadata, provider, findings)
        keys = await providers.keys(provider, metadata)
        _add(
            findings,
            bool(keys.keys),
            "Keys",
            f"{len(keys.keys)} at {metadata.jwks_uri}",
            "the provider must publish one",
        )
        await _try_client(providers, provider, metadata, redirect_uri, findings)
        await _try_redirect(providers, provider, redirect_uri, findings)
    except ProviderAway as error:
        what = "Keys" if findings else "Discovery"
        _add(findings, False, what, error.message, error.fix)
    return SignOnTrial(ok=all(each.ok for each in findings), findings=findings)


def _add(findings: list[SignOnFinding], ok: bool, what: str, found: str, fix: str | None = None) -> None:
    findings.append(SignOnFinding(ok=ok, what=what, found=found, fix=None if ok else fix))


def _look_at(metadata: Metadata, provider: KnownProvider, findings: list[SignOnFinding]) -> None:
    """What its discovery document says of itself."""
    stated = metadata.stated
    flows = stated.get("response_types_supported") or []
    _add(
        findings,
        "code" in flows,
        "Authorization code",
        f"response types: {_listed(flows)}",
        "allow the code flow there",
    )
    challenges = stated.get("code_challenge_methods_supported")
    if challenges is None:
        _add(findings, True, "PKCE", "not stated; we send it in any case")
    else:
        _add(findings, "S256" in challenges, "PKCE", _listed(challenges), "turn S256 on at the provider")
    _add(
        findings,
        bool(metadata.algorithms),
        "Signatures",
        _listed(stated.get("id_token_signing_alg_values_supported") or ["RS256"]),
        f"have it sign ID tokens with one of {_listed(sorted(ALGORITHMS))}",
    )
    scopes = stated.get("scopes_supported")
    if isinstance(scopes, list):
        unknown = [each for each in provider.scopes.split() if each not in scopes]
        known = _listed(provider.scopes.split())
        found = f"it does not know {_listed(unknown)}" if unknown else known
        _add(findings, not unknown, "Scopes", found, f"it knows {_listed(scopes)}")
    claims = stated.get("claims_supported")
    claim = provider.groups_claim.split(".")[0]
    if isinstance(claims, list) and claim not in claims:
        _add(findings, True, "Groups", f"it does not say that it has the claim {claim!r}; a first sign-in will show")
    else:
        _add(findings, True, "Groups", f"from the claim {provider.groups_claim!r}")
    ends = metadata.end_session_endpoint
    _add(findings, True, "Signing out", f"ends the session there too: {ends}" if ends else "ends the session here only")


async def _try_client(
    providers: Providers, provider: KnownProvider, metadata: Metadata, redirect_uri: str, findings: list[SignOnFinding]
) -> None:
    """With a code that cannot be good: whether it is the code that is refused, or the client."""
    try:
        client = await providers.client()
        await client.token(
            provider, metadata, code=NO_CODE, redirect_uri=redirect_uri, verifier=secrets.token_urlsafe(48)
        )
    except TokenRefused as error:
        said = str(error.fields.get("error"))
        refused = said in ("invalid_client", "unauthorized_client")
        found = f"the provider refuses client {provider.client_id!r}: {said}" if refused else "id and secret are taken"
        _add(findings, not refused, "Client", found, "copy client id and secret from the provider again")
    else:
        _add(findings, False, "Client", "the provider takes a code that it never gave", "do not use this provider")


async def _try_redirect(
    providers: Providers, provider: KnownProvider, redirect_uri: str, findings: list[SignOnFinding]
) -> None:
    """Without a person (`prompt=none`) a provider sends an error to the redirect URI, if it knows it."""
    url = await providers.authorization_url(
        provider,
        redirect_uri=redirect_uri,
        state=secrets.token_urlsafe(16),
        nonce=secrets.token_urlsafe(16),
        verifier=secrets.token_urlsafe(48),
        prompt="none",
    )
    answer = await _ask(url)
    if answer is not None and answer.headers.get("location", "").startswith(redirect_uri):
        _add(findings, True, "Redirect URI", f"{redirect_uri} is registered")
    elif answer is not None and answer.status_code == 400:
        _add(findings, False, "Redirect URI", "the provider refuses it", f"register {redirect_uri} there")
    else:
        _add(findings, True, "Redirect URI", f"could not be told; register {redirect_uri}")


async def _ask(url: str) -> Any:
    try:
        async with httpx2.AsyncClient(timeout=PATIENCE_S, follow_redirects=False) as client:
            with anyio.fail_after(PATIENCE_S):
                return await client.get(url)
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError):
        return None


def _listed(words: Any) -> str:
    return ", ".join(str(each) for each in words) if isinstance(words, list) else str(words)
