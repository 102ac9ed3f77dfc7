"""A provider that signs by nothing that we take proves nothing."""

import anyio
import pytest

from gateway.api.oidc import ProviderAway, Providers, TokenRefused, read_metadata
from gateway.store.sign_on import KnownProvider

ISSUER = "https://idp.example"
PROVIDER = KnownProvider(
    id=1, name="corp", label="Corp", issuer=ISSUER, client_id="us", client_secret="of a test", scopes="openid",
    groups_claim="groups", name_claim="preferred_username", provisions=False, endpoints=(),
)  # fmt: skip


def test_a_provider_elsewhere_does_not_lead_to_this_host() -> None:
    stated = {
        "issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/a", "token_endpoint": f"{ISSUER}/t",
        "jwks_uri": "http://127.0.0.1:6379/k",
    }  # fmt: skip
    with pytest.raises(ProviderAway, match="jwks_uri is not https"):
        read_metadata(ISSUER, stated)


def test_without_an_algorithm_of_ours_nobody_is_asked_for_keys() -> None:
    stated = {
        "issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/a", "token_endpoint": f"{ISSUER}/t",
        "jwks_uri": f"{ISSUER}/k", "id_token_signing_alg_values_supported": ["HS256", "none"],
    }  # fmt: skip
    metadata = read_metadata(ISSUER, stated)

    async def verify() -> None:
        await Providers()._verified(PROVIDER, metadata, "a.b.c", None, "nonce")

    with pytest.raises(TokenRefused, match="by no algorithm"):
        anyio.run(verify)
