"""TLS of captured connections that ends here: a certificate of the local authority for the client, and a session of our
own, verified as a browser would, with the destination.

A client that does not accept our certificate says so by an alert: it is noticed, and where the rule says
`refused_certificate: passthrough` its later connections to that host are passed on untouched.
"""

import asyncio
import logging
import ssl
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from gateway.dataplane.intercepted.flow import Flow
from gateway.policy.interception import RefusedCertificate, Tls

if TYPE_CHECKING:
    from gateway.dataplane.leaves import LeafMinter
    from gateway.dataplane.plane import Plane
    from gateway.policy.model import CertificateAuthority

log = logging.getLogger("sluicegate.dataplane")

HANDSHAKE_S: Final = 15.0
REMEMBERED_S: Final = 24 * 3600.0
MOST_REMEMBERED: Final = 4096
HTTP1: Final = b"http/1.1"
H2: Final = b"h2"
GRPC: Final = b"grpc-exp"
"""Offered by some clients that speak gRPC and nothing else."""
_SPOKEN: Final = (H2.decode(), HTTP1.decode())
"""With clients, as they offer it."""
_REFUSALS: Final = ("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN", "CERTIFICATE_REQUIRED", "ECH_REQUIRED",
                    "UNSUPPORTED_CERTIFICATE", "CERTIFICATE_EXPIRED", "ACCESS_DENIED")  # fmt: skip
"""Parts of the reasons that OpenSSL gives for alerts about certificates (RFC 8446 6.2)."""


class Terminator:
    """Of one worker."""

    def __init__(self, plane: "Plane") -> None:
        self._plane = plane
        self._minter: LeafMinter | None = None
        self._authority: CertificateAuthority | None = None
        self._refused: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        self._grpc: OrderedDict[tuple[str, str, str], float] = OrderedDict()
        """Clients that speak gRPC there."""
        self._upstream: ssl.SSLContext | None = None

    def wants(self, flow: Flow, alpn: tuple[bytes, ...]) -> bool:
        """Whether this connection's TLS is to end here; else it is passed on."""
        if flow.rule.tls is not Tls.TERMINATE or self._plane.snapshot.authority is None:
            return False
        if GRPC in alpn or (alpn and HTTP1 not in alpn and (H2 not in alpn or _remembers(self._grpc, flow))):
            return False  # it speaks something that is not served here
        return not _remembers(self._refused, flow)

    async def context(self, flow: Flow) -> ssl.SSLContext | None:
        """With a certificate for what the client asks for; None where there can be none."""
        from gateway.dataplane.leaves import CannotMint, LeafMinter  # a second's worth of cryptography

        authority = self._plane.snapshot.authority
        assert authority is not None
        try:
            if self._minter is None or self._authority != authority:
                self._minter, self._authority = await asyncio.to_thread(LeafMinter, authority), authority
            return await asyncio.to_thread(self._minter.context, flow.host, _SPOKEN)
        except CannotMint as error:
            log.info("passed on, no certificate", extra={"rule": flow.rule.name, "reason": error.message})
            return None

    async def upstream(self) -> ssl.SSLContext:
        """To speak to destinations with."""
        if self._upstream is None:
            context = await asyncio.to_thread(ssl.create_default_context)
            context.set_alpn_protocols([HTTP1.decode()])
            self._upstream = context
        return self._upstream

    def failed(self, flow: Flow, error: Exception) -> bool:
        """A handshake with a client failed. Whether it was our certificate that it did not want."""
        reason = str(getattr(error, "reason", "") or "")
        refused = any(part in reason for part in _REFUSALS)
        if not refused:
            return False
        log.warning(
            "a client does not accept our certificate: it does not trust the local authority, or pins another one",
            extra={"rule": flow.rule.name, "client": flow.client[0], "host": flow.host, "reason": reason},
        )
        if flow.rule.refused_certificate is RefusedCertificate.PASSTHROUGH:
            _remember(self._refused, flow)
        return True

    def pass_grpc(self, flow: Flow) -> None:
        """This client speaks gRPC there: later connections that offer HTTP/2 alone are passed on untouched."""
        _remember(self._grpc, flow)


def _key(flow: Flow) -> tuple[str, str, str]:
    return (flow.rule.name, flow.client[0], flow.host)


def _remember(known: OrderedDict[tuple[str, str, str], float], flow: Flow) -> None:
    known[_key(flow)] = time.monotonic()
    if len(known) > MOST_REMEMBERED:
        known.popitem(last=False)


def _remembers(known: OrderedDict[tuple[str, str, str], float], flow: Flow) -> bool:
    since_s = known.get(_key(flow))
    return since_s is not None and time.monotonic() - since_s <= REMEMBERED_S
