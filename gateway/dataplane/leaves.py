"""Leaf certificates for intercepted hosts, minted as clients ask for them and kept while they are in use.

All leaves of a worker have one key. A leaf is sent without the authority's certificate: who trusts that has it. Minting
takes some two milliseconds, most of them in OpenSSL's decoders and without the GIL; what is kept is found in some
microseconds. Any thread may ask.
"""

import os
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gateway.certificate import ALPN, server_context
from gateway.errors import SluicegateError
from gateway.policy.authority import Address, Permitted, subject
from gateway.policy.model import CertificateAuthority

LIFETIME: Final = timedelta(days=30)
BACKDATED: Final = timedelta(hours=1)
"""Clients' clocks may be behind ours."""
RENEWED_BEFORE_END: Final = timedelta(days=10)
MOST_KEPT: Final = 512
LONGEST_COMMON_NAME: Final = 64  # RFC 5280 A.1, ub-common-name
ORGANIZATION: Final = "Sluicegate interception"


class CannotMint(SluicegateError):
    """There can be no certificate for this name that clients would accept."""

    code = "cannot_mint"


@dataclass(frozen=True, slots=True)
class _Leaf:
    context: ssl.SSLContext
    good_until: datetime
    """When another one is minted in its place."""


class LeafMinter:
    """Serves TLS in the name of the hosts that one authority may sign for."""

    def __init__(self, authority: CertificateAuthority, clock: Callable[[], float] = time.time) -> None:
        """`clock`: Unix seconds. Raises CannotMint for an authority that cannot sign."""
        self._clock = clock
        try:
            self._issuer = x509.load_pem_x509_certificate(authority.certificate.encode())
            key = load_pem_private_key(authority.key.encode(), None)
            self._permitted = Permitted.by(self._issuer)
            skid = self._issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
        except (ValueError, x509.ExtensionNotFound) as error:
            raise CannotMint(f"the certificate authority is damaged: {error}", fix=_ANEW) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != self._issuer.public_key():
            raise CannotMint("the certificate authority's key does not belong to its certificate", fix=_ANEW)
        self._issuer_key = key
        self._authority_key_id = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(skid)
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._key_id = x509.SubjectKeyIdentifier.from_public_key(self._key.public_key())
        self._key_pem = self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        self._kept: OrderedDict[tuple[str, tuple[str, ...]], _Leaf] = OrderedDict()
        """The least recently used first."""
        self._lock = threading.Lock()

    def context(self, name: str, alpn: Sequence[str] = ALPN) -> ssl.SSLContext:
        """To answer a client that asks for `name` (of its ClientHello, or the address that it connected to) with.

        `alpn`: what may be agreed upon, the preferred first. Raises CannotMint.
        """
        wanted = (name, tuple(alpn))
        now = datetime.fromtimestamp(self._clock(), UTC)
        leaf = self._keep(wanted, None, now) or self._keep(wanted, self._mint(name, alpn, now), now)
        assert leaf is not None
        return leaf.context

    def _keep(self, wanted: tuple[str, tuple[str, ...]], made: _Leaf | None, now: datetime) -> _Leaf | None:
        """The leaf that is kept, `made` where none is that is still good. Nothing is minted under the lock."""
        with self._lock:
            leaf = self._kept.get(wanted)
            if leaf is None or now >= leaf.good_until:
                leaf = made
                if made is None:
                    return None
                self._kept[wanted] = made
                if len(self._kept) > MOST_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(wanted)
            return leaf

    def _mint(self, name: str, alpn: Sequence[str], now: datetime) -> _Leaf:
        try:
            named = subject(name)
        except ValueError as error:
            raise CannotMint(str(error)) from None
        if not self._permitted.covers(named):
            raise CannotMint(
                f"the certificate authority is not permitted to sign for {named}",
                fix="name it in a rule with `tls: terminate`, then `sluicegate ca renew`",
            )
        end = self._issuer.not_valid_after_utc
        if now >= end:
            raise CannotMint(f"the certificate authority expired at {end:%Y-%m-%d}", fix="sluicegate ca renew")
        until = min(now + LIFETIME, end)
        certificate = self._signed(named, max(now - BACKDATED, self._issuer.not_valid_before_utc), until)
        context = _context(certificate.public_bytes(Encoding.PEM) + self._key_pem, alpn)
        return _Leaf(context, until if until == end else until - RENEWED_BEFORE_END)

    def _signed(self, named: str | Address, since: datetime, until: datetime) -> x509.Certificate:
        """As browsers and RFC 5280 want it: the name in the alternative names, for servers only. An address is no
        common name: OpenSSL would take that for a DNS name, and hold it against the constraints."""
        attributes = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANIZATION)]
        if isinstance(named, str) and len(named) <= LONGEST_COMMON_NAME:
            attributes.append(x509.NameAttribute(NameOID.COMMON_NAME, named))
        general: x509.GeneralName = (
            x509.IPAddress(named) if isinstance(named, IPv4Address | IPv6Address) else x509.DNSName(named)
        )
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name(attributes))
            .issuer_name(self._issuer.subject)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(since)
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_SIGNS_HANDSHAKES, critical=True)
            .add_extension(_FOR_SERVERS, critical=False)
            .add_extension(x509.SubjectAlternativeName([general]), critical=False)
            .add_extension(self._key_id, critical=False)
            .add_extension(self._authority_key_id, critical=False)
            .sign(self._issuer_key, hashes.SHA256())
        )


def _context(pem: bytes, alpn: Sequence[str]) -> ssl.SSLContext:
    """Python's `ssl` reads certificates from files only: this one is in memory."""
    descriptor = os.memfd_create("sluicegate-leaf", os.MFD_CLOEXEC)
    try:
        os.write(descriptor, pem)
        context = server_context(alpn)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
    return context


_ANEW: Final = "sluicegate ca renew --new-key"
_FOR_SERVERS: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
_SIGNS_HANDSHAKES: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
