"""Provider credentials, the certificate authority's key, the secrets of authenticator apps, of sign-on and its sessions
at rest: AES-256-GCM, its key not in the database.

The key is `SLUICEGATE_SEALING_KEY`, else the file `sealing.key` (0600) in the data folder, made at first use. Either
holds base64 of 32 bytes; several, separated by white space or commas, are the present key first and former ones after
it, so that a rotation may be interrupted anywhere. Each ciphertext names its key and is bound to its credential: moved
to another row it does not open.
"""

import base64
import binascii
import hashlib
import hmac
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from gateway.errors import SluicegateError
from gateway.settings import Settings
from gateway.store import audit
from gateway.store.body_models import BodyKey
from gateway.store.database import write_session
from gateway.store.draft_models import DraftSecret
from gateway.store.factor_models import Totp
from gateway.store.models import CertificateAuthority, Credential, ProviderSecret
from gateway.store.portal_models import TeamContact
from gateway.store.sign_on_models import SignOnSecret, SignOnSession

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12

SealedRow: TypeAlias = (
    Credential
    | ProviderSecret
    | CertificateAuthority
    | DraftSecret
    | Totp
    | BodyKey
    | SignOnSecret
    | SignOnSession
    | TeamContact
)


class SealingKeyError(SluicegateError):
    """The sealing key is missing, malformed, or not the one that a credential was sealed with."""

    status, code = 500, "sealing_key"


@dataclass(frozen=True, slots=True)
class Sealed:
    key_id: str
    ciphertext: bytes
    """Nonce, ciphertext and tag."""


@dataclass(frozen=True, slots=True)
class _Key:
    id: str
    secret: bytes = field(repr=False)


class Sealer:
    """Seals with the first of its keys, opens with any. Safe to share between threads."""

    def __init__(self, read_keys: Callable[[], Sequence[bytes]]) -> None:
        """`read_keys` is asked again when a ciphertext names an unknown key: another process may have rotated."""
        self._read_keys = read_keys
        self._keys = _identified(read_keys())

    def __repr__(self) -> str:
        return f"Sealer(key_id={self.key_id!r})"

    @property
    def key_id(self) -> str:
        return self._keys[0].id

    def seal(self, secret: str, provider_id: int, name: str) -> Sealed:
        """With the first key as it stands now: sealed with one that was rotated away, the secret would be lost. Call it
        while holding `audit.lock`, which a rotation takes too."""
        self._keys = _identified(self._read_keys())
        key, nonce = self._keys[0], os.urandom(NONCE_BYTES)
        ciphertext = AESGCM(key.secret).encrypt(nonce, secret.encode(), _identity(provider_id, name))
        return Sealed(key.id, nonce + ciphertext)

    def open(self, sealed: Sealed, provider_id: int, name: str) -> str:
        """The secret. Raises SealingKeyError."""
        key = self._find(sealed.key_id)
        nonce, ciphertext = sealed.ciphertext[:NONCE_BYTES], sealed.ciphertext[NONCE_BYTES:]
        try:
            return AESGCM(key.secret).decrypt(nonce, ciphertext, _identity(provider_id, name)).decode()
        except InvalidTag:
            raise SealingKeyError(
                f"the credential {name!r} was altered in the database", fix="give its secret again"
            ) from None

    def open_row(self, row: SealedRow) -> str:
        assert row.sealed is not None, "a row without a secret was asked for it"
        assert row.sealing_key_id is not None
        return self.open(Sealed(row.sealing_key_id, row.sealed), *sealed_to(row))

    def seal_row(self, row: SealedRow, secret: str) -> None:
        sealed = self.seal(secret, *sealed_to(row))
        row.sealed, row.sealing_key_id = sealed.ciphertext, sealed.key_id

    def references(self, secret: str) -> list[str]:
        """What stands for this secret in an export: says nothing about it, but tells whether another is the same.
        One for each key; the first is what an export writes."""
        return [
            hmac.new(key.secret, b"sluicegate reference\0" + secret.encode(), hashlib.sha256).hexdigest()[:32]
            for key in self._keys
        ]

    def _find(self, key_id: str) -> _Key:
        for attempt in range(2):
            for key in self._keys:
                if key.id == key_id:
                    return key
            if attempt == 0:
                self._keys = _identified(self._read_keys())
        raise SealingKeyError(
            f"the database was sealed with the key {key_id}, this is {self.key_id}",
            fix="restore the file sealing.key that belongs to the database, or give the credentials again",
        )


def sealed_to(row: SealedRow) -> tuple[int, str]:
    """Provider's id and name that a ciphertext is bound to. No credential's name has a slash, no provider the id 0."""
    match row:
        case Credential():
            return row.provider_id, row.name
        case ProviderSecret():
            return row.provider_id, f"/{row.name}"
        case CertificateAuthority():
            return 0, "/certificate authority"
        case DraftSecret():
            return 0, f"/draft/{row.reference}"
        case Totp():
            return 0, f"/totp {row.user_id}"
        case BodyKey():
            return 0, "/bodies"
        case SignOnSecret():
            return 0, f"/sign-on {row.provider_id}"
        case SignOnSession():
            return 0, f"/sign-on session {row.session_id}"
        case TeamContact():
            return 0, f"/contact/{row.team_id}"


def sealed_rows(session: Session) -> list[SealedRow]:
    """All that is sealed in the database."""
    found: list[SealedRow] = []
    for kind in (Credential, ProviderSecret, CertificateAuthority, DraftSecret, Totp, BodyKey, SignOnSecret):
        found += session.scalars(select(kind))
    found += session.scalars(select(SignOnSession).where(SignOnSession.sealed.is_not(None)))
    return [*found, *session.scalars(select(TeamContact).where(TeamContact.sealed.is_not(None)))]


def load_sealer(settings: Settings) -> Sealer:
    """The installation's sealer; makes the key file where there is none. Raises SealingKeyError."""
    if settings.sealing_key is not None:
        keys = _parse(settings.sealing_key.get_secret_value(), "SLUICEGATE_SEALING_KEY")
        return Sealer(lambda: keys)
    path = key_file(settings)
    if not path.exists():
        _write_key_file(path, [secrets.token_bytes(KEY_BYTES)], replace=False)
    return Sealer(lambda: _read_key_file(path))


def key_file(settings: Settings) -> Path:
    return settings.data / "sealing.key"


def rotate(session: Session, old: Sealer, new: Sealer, actor: str) -> int:
    """Seal every secret anew with `new`'s first key. Returns how many. The caller commits."""
    audit.lock(session)
    rows = sealed_rows(session)
    for row in rows:
        new.seal_row(row, old.open_row(row))
    after = {"key_id": new.key_id, "credentials": len(rows)}
    audit.record(session, actor=actor, action="rotate", kind="sealing key", name=old.key_id, after=after)
    return len(rows)


def rotate_key_file(engine: Engine, settings: Settings, actor: str = "cli") -> int:
    """Make a new key, seal every secret with it, forget the old one. Returns how many secrets.

    Interrupted after any step, the file still opens all that is in the database. Running processes read it anew.
    """
    if settings.sealing_key is not None:
        raise SealingKeyError(
            "the sealing key comes from the environment",
            fix="set SLUICEGATE_SEALING_KEY to `NEW,OLD`, run this again, then to NEW alone",
        )
    old = load_sealer(settings)
    path = key_file(settings)
    fresh = secrets.token_bytes(KEY_BYTES)
    _write_key_file(path, [fresh, *_read_key_file(path)], replace=True)
    new = load_sealer(settings)
    with write_session(engine) as session:
        count = rotate(session, old, new, actor)
    _write_key_file(path, [fresh], replace=True)
    return count


def _identity(provider_id: int, name: str) -> bytes:
    return f"sluicegate credential {provider_id} {name}".encode()


def _identified(keys: Sequence[bytes]) -> list[_Key]:
    return [_Key(hashlib.sha256(b"sluicegate key id\0" + key).hexdigest()[:16], key) for key in keys]


def _parse(text: str, source: str) -> list[bytes]:
    keys = []
    for word in text.replace(",", " ").split():
        try:
            key = base64.b64decode(word, validate=True)
        except binascii.Error:
            key = b""
        if len(key) != KEY_BYTES:
            raise SealingKeyError(
                f"{source} is not base64 of {KEY_BYTES} bytes", fix="make one with `openssl rand -base64 32`"
            )
        keys.append(key)
    if not keys:
        raise SealingKeyError(f"{source} is empty", fix="restore it, or make one with `openssl rand -base64 32`")
    return keys


def _read_key_file(path: Path) -> list[bytes]:
    try:
        return _parse(path.read_text("ascii"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise SealingKeyError(f"{path} cannot be read: {error}", fix="make it readable to the gateway's user") from None


def _write_key_file(path: Path, keys: Sequence[bytes], *, replace: bool) -> None:
    """Whole or not at all; without `replace` the first of several processes wins."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(b"".join(base64.b64encode(key) + b"\n" for key in keys))
            file.flush()
            os.fsync(file.fileno())
        if replace:
            draft.replace(path)
        else:
            try:
                path.hardlink_to(draft)
            except FileExistsError:
                return
    finally:
        draft.unlink(missing_ok=True)
