"""The certificate of our own listener: read and proved by the supervisor, used by the workers.

Workers get it as a memory file that the supervisor filled once it had proved chain and key: files that are half
replaced, or gone, when a worker starts again cannot keep it from serving.
"""

import os
import ssl
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from gateway.errors import SluicegateError

ALPN: Final = ("http/1.1",)
MOST_BYTES: Final = 1024 * 1024

Stamp = tuple[tuple[int, int, int], ...]
"""Inode, size and change time of each file."""


class CertificateFiles(Protocol):
    """The part of the settings that is about the certificate."""

    @property
    def tls_cert(self) -> Path | None: ...

    @property
    def tls_key(self) -> Path | None: ...


class CertificateRefused(SluicegateError):
    """Chain and key cannot be served."""

    code = "certificate_refused"

    def __init__(self, message: str) -> None:
        super().__init__(message, fix="name a PEM chain, leaf first, and its unencrypted key: --tls-cert and --tls-key")


def load_certificate(settings: CertificateFiles) -> int | None:
    """A descriptor of a memory file with chain and key; None where no TLS is asked for. Raises CertificateRefused."""
    if settings.tls_cert is None:
        return None
    key = settings.tls_key or settings.tls_cert
    pem = b""
    for path in (settings.tls_cert, key) if key != settings.tls_cert else (settings.tls_cert,):
        try:
            pem += path.read_bytes() + b"\n"
        except OSError as error:
            raise CertificateRefused(f"{path} cannot be read: {error.strerror}") from None
    if len(pem) > MOST_BYTES:
        raise CertificateRefused("chain and key together have more than 1 MiB")
    descriptor = os.memfd_create("sluicegate-tls", os.MFD_CLOEXEC)
    os.write(descriptor, pem)
    try:
        context_of(descriptor)
    except (ssl.SSLError, OSError, ValueError) as error:
        os.close(descriptor)
        reason = getattr(error, "reason", None) or str(error)
        raise CertificateRefused(f"{settings.tls_cert} and {key} do not make a usable pair ({reason})") from None
    return descriptor


def server_context(alpn: Sequence[str] = ALPN) -> ssl.SSLContext:
    """TLS 1.2 or newer, no certificate yet. `alpn`: protocols, the preferred first."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(list(alpn))
    return context


def context_of(descriptor: int) -> ssl.SSLContext:
    """With the certificate of `load_certificate`. Raises ssl.SSLError."""
    context = server_context()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=_no_password)
    return context


def _no_password() -> str:
    """Without it OpenSSL would ask on the terminal."""
    raise ValueError("the key is encrypted, which nobody can answer here")


def stamp_of(settings: CertificateFiles) -> Stamp:
    """Tells whether the files have changed; missing ones are all zeros."""
    return tuple(_stamp(path) for path in (settings.tls_cert, settings.tls_key) if path is not None)


def _stamp(path: Path) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)
