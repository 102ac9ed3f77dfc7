"""The gateway's own certificate authority: made on request, permitted to sign for the hosts whose TLS is terminated.

There is at most one. Renewing makes a new certificate of the same name and key: a leaf signed before or after it is
accepted by whoever trusts either, as far as its constraints go. The private key is sealed, and leaves SQL only towards
workers, in the snapshot.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.errors import Conflict, NotFound, SluicegateError
from gateway.policy.authority import Permitted, subject
from gateway.policy.interception import Tls
from gateway.store.config.editing import Editing
from gateway.store.documents import InterceptionDocument
from gateway.store.models import CertificateAuthority, InterceptionRule, Meta
from gateway.store.sealing import SealingKeyError
from gateway.store.views import View

LIFETIME: Final = timedelta(days=3650)
BACKDATED: Final = timedelta(days=1)
"""Clients' clocks may be behind ours."""
EXPIRES_SOON: Final = timedelta(days=60)
KIND: Final = "certificate authority"
_RENEW: Final = "sluicegate ca renew"
_TERMINATE: Final = "set `tls: terminate` in an interception rule that names hosts or networks"


class MakeAction(StrEnum):
    """What is wanted of the authority."""

    CREATE = "create"
    """That there is one: nothing is changed where there is."""
    RENEW = "renew"
    """A new certificate for the hosts as they are now, with the same key."""
    REPLACE = "replace"
    """A new key and certificate: nobody trusts it yet."""


class NothingToSignFor(Conflict):
    """No interception rule terminates TLS, so that there is nothing to constrain an authority to."""

    code = "nothing_to_sign_for"


class PermittedView(View):
    hosts: list[str]
    """Each with all names below it."""
    cidrs: list[str]


class AuthorityView(View):
    certificate: str | None
    """PEM; null, as is all about it but the name, where no authority was made."""
    fingerprint: str | None
    """SHA-256, as `openssl x509 -fingerprint -sha256` writes it."""
    name: str
    """The gateway's own, also where it is yet to be made or was removed."""
    not_before: datetime | None
    expires_at: datetime | None
    created_at: datetime | None
    renewed_at: datetime | None
    permitted: PermittedView
    """Whom it may sign for: clients refuse anything else in its name."""
    wanted: PermittedView
    """Whose TLS interception rules terminate."""
    rules: list[str]
    """Names of those rules."""
    missing: list[str]
    """What is wanted and not permitted: such connections cannot be terminated until it is renewed."""
    surplus: list[str]
    """What is permitted and no longer wanted."""
    covers: bool
    """Whether it is valid now for all that is wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What the interception rules ask for."""

    permitted: Permitted
    rules: tuple[str, ...]
    unusable: tuple[str, ...]
    """Hosts that no certificate can name."""


def view(session: Session, now: datetime) -> AuthorityView:
    """As it stands, or that there is none."""
    row, wanted = _row(session), _wanted(session)
    if row is None:
        missing = [*wanted.unusable, *Permitted().lacks(wanted.permitted)]
        return AuthorityView(
            certificate=None,
            fingerprint=None,
            name=_common_name(_new_name(session)),
            not_before=None,
            expires_at=None,
            created_at=None,
            renewed_at=None,
            permitted=_shown(Permitted()),
            wanted=_shown(wanted.permitted),
            rules=list(wanted.rules),
            missing=missing,
            surplus=[],
            covers=not missing,
        )
    certificate = x509.load_pem_x509_certificate(row.certificate.encode())
    permitted = Permitted.by(certificate)
    missing = [*wanted.unusable, *permitted.lacks(wanted.permitted)]
    return AuthorityView(
        certificate=row.certificate,
        fingerprint=_fingerprint(certificate),
        name=_common_name(certificate.subject),
        not_before=certificate.not_valid_before_utc,
        expires_at=certificate.not_valid_after_utc,
        created_at=row.created_at,
        renewed_at=row.renewed_at,
        permitted=_shown(permitted),
        wanted=_shown(wanted.permitted),
        rules=list(wanted.rules),
        missing=missing,
        surplus=list(wanted.permitted.lacks(permitted)),
        covers=not missing and now < certificate.not_valid_after_utc,
    )


def make(editing: Editing, action: MakeAction, now: datetime) -> AuthorityView:
    """Do what is wanted and return the authority. Audited; workers have it with their next snapshot.

    Raises NothingToSignFor, NotFound where there is none to renew, SealingKeyError where its key does not open.
    """
    editing.lock()
    session = editing.session
    row = _row(session)
    if row is not None and action is MakeAction.CREATE:
        return view(session, now)
    if row is None and action is not MakeAction.CREATE:
        raise NotFound("there is no certificate authority yet", fix="sluicegate ca create")
    permitted = _require_something(_wanted(session))
    before = None if row is None else _audited(row)
    if row is None or action is MakeAction.REPLACE:
        key = ec.generate_private_key(ec.SECP256R1())
        name = _new_name(session)
    else:
        key = _open(editing, row)
        name = x509.load_pem_x509_certificate(row.certificate.encode()).subject
    certificate = _signed(name, key, permitted, now).public_bytes(Encoding.PEM).decode()
    if row is None:
        row = CertificateAuthority(id=1, certificate=certificate)
        session.add(row)
    else:
        row.certificate, row.renewed_at = certificate, now
    with session.no_autoflush:
        editing.sealer.seal_row(row, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode())
    session.flush()
    shown = view(session, now)
    editing.record(action, KIND, shown.name, before, _audited(row))
    return shown


def remove(editing: Editing) -> None:
    """Forget the authority and its key: nothing is terminated from now on. Raises NotFound."""
    editing.lock()
    row = _row(editing.session)
    if row is None:
        raise NotFound("there is no certificate authority")
    name = _common_name(x509.load_pem_x509_certificate(row.certificate.encode()).subject)
    before = _audited(row)
    editing.session.delete(row)
    editing.session.flush()
    editing.record("delete", KIND, name, before, None)


def concern(shown: AuthorityView, now: datetime) -> SluicegateError | None:
    """What is wrong with the authority, and what mends it; None where it does what the rules ask for."""
    if shown.expires_at is None:
        if not shown.rules:
            return None
        return SluicegateError(
            f"rules terminate TLS ({', '.join(shown.rules)}), and there is no certificate authority:"
            " their TLS passes through",
            fix="sluicegate ca create",
        )
    if now >= shown.expires_at:
        return SluicegateError(f"the certificate authority expired at {shown.expires_at:%Y-%m-%d}", fix=_RENEW)
    if shown.missing:
        return SluicegateError(
            f"the certificate authority may not sign for {', '.join(shown.missing)}: their TLS passes through",
            fix=f"{_RENEW}, then let clients trust the new certificate",
        )
    if shown.expires_at - now < EXPIRES_SOON:
        return SluicegateError(f"the certificate authority expires at {shown.expires_at:%Y-%m-%d}", fix=_RENEW)
    return None


def _row(session: Session) -> CertificateAuthority | None:
    return session.scalars(select(CertificateAuthority)).one_or_none()


def _wanted(session: Session) -> _Wanted:
    hosts: list[str] = []
    unusable: list[str] = []
    networks: list[str] = []
    rules: list[str] = []
    for row in session.scalars(select(InterceptionRule).order_by(InterceptionRule.id)):
        rule = InterceptionDocument.model_validate({**row.document, "name": row.name})
        if rule.tls is not Tls.TERMINATE:
            continue
        rules.append(rule.name)
        networks += rule.destinations.cidrs
        for host in rule.destinations.hosts:
            try:
                subject(host)
            except ValueError:
                unusable.append(host)
            else:
                hosts.append(host)
    return _Wanted(permitted=Permitted.of(hosts, networks), rules=tuple(rules), unusable=tuple(unusable))


def _require_something(wanted: _Wanted) -> Permitted:
    if wanted.permitted:
        return wanted.permitted
    if wanted.rules:
        raise NothingToSignFor(
            f"no certificate can name what {', '.join(wanted.rules)} intercepts: {', '.join(wanted.unusable)}",
            fix="correct the hosts of the rule",
        )
    raise NothingToSignFor(
        "no interception rule terminates TLS: there is no host that the authority could be confined to", fix=_TERMINATE
    )


def _open(editing: Editing, row: CertificateAuthority) -> ec.EllipticCurvePrivateKey:
    try:
        key = load_pem_private_key(editing.sealer.open_row(row).encode(), None)
    except SealingKeyError as error:
        raise SealingKeyError(error.message, fix=f"{error.fix}; or make a new key: {_RENEW} --new-key") from None
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _new_name(session: Session) -> x509.Name:
    """Tells the authorities of several gateways apart in a trust store."""
    installation = session.scalars(select(Meta.installation_id)).one()
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Sluicegate"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Sluicegate interception {installation[:8]}"),
        ]
    )


def _signed(name: x509.Name, key: ec.EllipticCurvePrivateKey, permitted: Permitted, now: datetime) -> x509.Certificate:
    """Self-signed. The purpose is named too, so that the key is good for nothing but servers: constraints on names say
    nothing about mail or code."""
    key_id = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_SIGNS_CERTIFICATES, critical=True)
        .add_extension(permitted.constraints(), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(key_id, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), critical=False)
        .sign(key, hashes.SHA256())
    )


def _audited(row: CertificateAuthority) -> dict[str, Any]:
    certificate = x509.load_pem_x509_certificate(row.certificate.encode())
    return {
        "fingerprint": _fingerprint(certificate),
        "expires_at": certificate.not_valid_after_utc.isoformat(),
        "permitted": _shown(Permitted.by(certificate)).model_dump(),
    }


def _shown(permitted: Permitted) -> PermittedView:
    return PermittedView(hosts=list(permitted.hosts), cidrs=[str(each) for each in permitted.networks])


def _fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex(":").upper()


def _common_name(name: x509.Name) -> str:
    return str(name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


_SIGNS_CERTIFICATES: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
