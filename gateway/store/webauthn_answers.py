"""What browser and authenticator are asked for a passkey, and whether their answer is right (WebAuthn level 3).

Loaded when somebody has, or makes, a passkey (`gateway.late`). Attestation is not asked for: any maker's authenticator
will do. User verification is required.
"""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import webauthn
from webauthn.helpers import base64url_to_bytes
from webauthn.helpers.structs import (
    AuthenticatorSelectionCriteria,
    AuthenticatorTransport,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from gateway.errors import Invalid
from gateway.store.factor_models import Passkey
from gateway.store.passkeys import Site
from gateway.store.tickets import GOOD_FOR

log = logging.getLogger(__name__)

RP_NAME: Final = "Sluicegate"
TIMEOUT_MS: Final = int(GOOD_FOR.total_seconds() * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """A credential that an authenticator has made."""

    credential_id: bytes
    public_key: bytes
    """COSE."""
    sign_count: int
    synced: bool
    transports: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """That an authenticator has signed a challenge."""

    sign_count: int
    synced: bool


def creation_options(
    site: Site, challenge: bytes, *, user_name: str, user_handle: bytes, present: Sequence[Passkey]
) -> dict[str, Any]:
    """`PublicKeyCredentialCreationOptionsJSON`. `present`: none of these authenticators makes another one."""
    options = webauthn.generate_registration_options(
        rp_id=site.rp_id,
        rp_name=RP_NAME,
        user_name=user_name,
        user_id=user_handle,
        challenge=challenge,
        timeout=TIMEOUT_MS,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            require_resident_key=True,
            user_verification=UserVerificationRequirement.REQUIRED,
        ),
        exclude_credentials=[
            PublicKeyCredentialDescriptor(
                id=each.credential_id, transports=[AuthenticatorTransport(name) for name in each.transports]
            )
            for each in present
        ],
    )
    return _as_json(webauthn.options_to_json(options))


def request_options(site: Site, challenge: bytes) -> dict[str, Any]:
    """`PublicKeyCredentialRequestOptionsJSON` for whichever passkey there is."""
    options = webauthn.generate_authentication_options(
        rp_id=site.rp_id,
        challenge=challenge,
        timeout=TIMEOUT_MS,
        user_verification=UserVerificationRequirement.REQUIRED,
    )
    return _as_json(webauthn.options_to_json(options))


def registered(credential: Mapping[str, Any], challenge: bytes, site: Site) -> Registered:
    """What was made in answer to the challenge, here and now. Raises Invalid."""
    try:
        made = webauthn.verify_registration_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
            require_user_verification=True,
        )
        transports = [AuthenticatorTransport(each).value for each in credential["response"].get("transports") or []]
    except Exception as error:  # noqa: BLE001  the library lets through what its parsers raise on what is malformed
        raise Invalid(f"the authenticator's answer cannot be used: {error}", fix="try again") from None
    return Registered(
        credential_id=made.credential_id,
        public_key=made.credential_public_key,
        sign_count=made.sign_count,
        synced=made.credential_backed_up,
        transports=transports,
    )


def signed(
    credential: Mapping[str, Any], challenge: bytes, site: Site, passkey: Passkey, user_handle: bytes
) -> Shown | None:
    """Whether the passkey has signed the challenge, here and now, for a user whom the authenticator has verified. None:
    it has not, or its count of signatures says that it has been copied."""
    try:
        shown = webauthn.verify_authentication_response(
            credential=dict(credential),
            expected_challenge=challenge,
            expected_rp_id=site.rp_id,
            expected_origin=site.origin,
            credential_public_key=passkey.public_key,
            credential_current_sign_count=passkey.sign_count,
            require_user_verification=True,
        )
        handle = credential["response"].get("userHandle")
        if handle is not None and base64url_to_bytes(handle) != user_handle:
            return None
    except Exception as error:  # noqa: BLE001  as above
        log.warning("passkey refused", extra={"passkey": passkey.id, "why": str(error)})
        return None
    return Shown(sign_count=shown.new_sign_count, synced=shown.credential_backed_up)


def _as_json(text: str) -> dict[str, Any]:
    options: dict[str, Any] = json.loads(text)
    return options
