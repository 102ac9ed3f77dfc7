"""The key pair of recorded bodies: made with the first route that records any, its private half sealed.

Workers seal each body to the public half (`policy.body_records`). Who reads bodies opens the private half with the
sealing key; a rotation of that key seals it anew, so that bodies recorded before stay readable.
"""

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.store.body_models import BodyKey
from gateway.store.sealing import Sealer


def ensure(session: Session, sealer: Sealer) -> None:
    """Make it if there is none. Call it while holding `audit.lock`; the caller commits."""
    if session.scalar(select(BodyKey.id)) is not None:
        return
    private = X25519PrivateKey.generate()
    row = BodyKey(id=1, public=private.public_key().public_bytes_raw())
    sealer.seal_row(row, private.private_bytes_raw().hex())
    session.add(row)
    session.flush()


def private_key(session: Session, sealer: Sealer) -> bytes | None:
    """The private half, None where no route has ever recorded bodies. Raises SealingKeyError."""
    row = session.scalars(select(BodyKey)).one_or_none()
    return None if row is None else bytes.fromhex(sealer.open_row(row))
