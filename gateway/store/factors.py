"""Second factors: codes of an authenticator app, and the recovery codes that stand in for a lost one.

A user with an authenticator app or a passkey does not get in by the password alone. Recovery codes are made along with
the first of them and go with the last. Each change is audited in the caller's transaction.
"""

import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pyotp
from sqlalchemy import CursorResult, Delete, Update, delete, func, select, update
from sqlalchemy.orm import Session

from gateway.errors import Conflict, Invalid
from gateway.store import audit, passwords
from gateway.store.factor_models import Passkey, RecoveryCode, Totp
from gateway.store.identity import Caller, Method
from gateway.store.sealing import Sealer

ISSUER: Final = "Sluicegate"
STEP_S: Final = 30
STEPS_AROUND: Final = (-1, 0, 1)
"""Whose codes are accepted: clocks are half a minute off, and people type slowly (RFC 6238 5.2)."""
RECOVERY_CODES: Final = 10
RECOVERY_LETTERS: Final = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: none looks like another."""
RECOVERY_GROUPS: Final = 4
"""Of four letters: 80 bits, so that one SHA-256 is enough."""

_CODE: Final = re.compile(r"[0-9]{6}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Factors:
    """What a user has beside a password."""

    totp: bool = False
    passkeys: int = 0
    recovery_codes: int = 0

    @property
    def any(self) -> bool:
        """Whether the password alone does not let the user in."""
        return self.totp or self.passkeys > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolment:
    secret: str
    uri: str


def held(session: Session, user_id: int) -> Factors:
    return held_by(session, [user_id])[user_id]


def held_by(session: Session, user_ids: Sequence[int]) -> dict[int, Factors]:
    """Of each of the users."""
    confirmed = select(Totp.user_id).where(Totp.user_id.in_(user_ids), Totp.confirmed_at.is_not(None))
    apps = set(session.scalars(confirmed))
    counts: list[dict[int, int]] = []
    for kind in (Passkey, RecoveryCode):
        counted = select(kind.user_id, func.count()).where(kind.user_id.in_(user_ids)).group_by(kind.user_id)
        counts.append(dict(session.execute(counted).all()))
    passkeys, codes = counts
    return {
        each: Factors(totp=each in apps, passkeys=passkeys.get(each, 0), recovery_codes=codes.get(each, 0))
        for each in user_ids
    }


def begin_totp(session: Session, sealer: Sealer, caller: Caller, host: str) -> Enrolment:
    """A secret for an authenticator app, of no effect until `confirm_totp`. `host` tells it from other gateways'."""
    assert caller.user_id is not None
    audit.lock(session)  # a rotation of the sealing key does not come between, either
    row = session.get(Totp, caller.user_id)
    if row is not None and row.confirmed_at is not None:
        raise Conflict("an authenticator app is set up already", fix="remove that one first")
    if row is None:
        row = Totp(user_id=caller.user_id)
        session.add(row)
    secret = pyotp.random_base32()
    row.last_step = 0
    sealer.seal_row(row, secret)
    uri = pyotp.TOTP(secret).provisioning_uri(name=caller.name, issuer_name=f"{ISSUER} {host}" if host else ISSUER)
    return Enrolment(secret=secret, uri=uri)


def confirm_totp(session: Session, sealer: Sealer, caller: Caller, code: str, at: datetime) -> list[str]:
    """Put the app in force once it has shown a right code. Returns recovery codes where there are none yet.

    Raises Conflict where nothing was begun, Invalid for a wrong code.
    """
    assert caller.user_id is not None
    row = session.get(Totp, caller.user_id, with_for_update=True)
    if row is None or row.confirmed_at is not None:
        raise Conflict("there is no authenticator app to confirm", fix="begin to set one up")
    step = _matching_step(sealer.open_row(row), code, at)
    if step is None:
        problem, remedy = "this is not the app's present code", "wait for its next code; check that its clock is right"
        raise Invalid(problem, fix=remedy, errors=[{"field": "code", "problem": problem, "remedy": remedy}])
    row.confirmed_at, row.last_step = at, step
    session.flush()
    _note(session, caller, "add", "authenticator app")
    return codes_for_first(session, caller)


def remove_totp(session: Session, caller: Caller) -> None:
    """Raises Conflict where there is none."""
    if not _touched_one(session, delete(Totp).where(Totp.user_id == caller.user_id, Totp.confirmed_at.is_not(None))):
        raise Conflict("there is no authenticator app to remove", fix="GET /api/v1/account tells what there is")
    _note(session, caller, "remove", "authenticator app")
    drop_orphaned_codes(session, caller)


def accept_code(session: Session, sealer: Sealer, user_id: int, code: str, at: datetime) -> Method | None:
    """Use up a code of the user's: of the app, or a recovery code. None: it is neither, or was used before."""
    if _CODE.fullmatch(plain := code.replace(" ", "")):
        row = session.get(Totp, user_id)
        if row is None or row.confirmed_at is None:
            return None
        step = _matching_step(sealer.open_row(row), plain, at)
        if step is None:
            return None
        taken = update(Totp).where(Totp.user_id == user_id, Totp.last_step < step).values(last_step=step)
        return Method.TOTP if _touched_one(session, taken) else None
    spent = delete(RecoveryCode).where(
        RecoveryCode.user_id == user_id, RecoveryCode.digest == passwords.digest(_normal(code))
    )
    return Method.RECOVERY_CODE if _touched_one(session, spent) else None


def codes_for_first(session: Session, caller: Caller) -> list[str]:
    """Recovery codes along with the first factor; none where there are some."""
    assert caller.user_id is not None
    return [] if held(session, caller.user_id).recovery_codes else new_codes(session, caller)


def new_codes(session: Session, caller: Caller) -> list[str]:
    """Other recovery codes in place of those there are. Raises Conflict without a second factor."""
    assert caller.user_id is not None
    if not held(session, caller.user_id).any:
        raise Conflict("there is no second factor to stand in for", fix="set up an authenticator app or a passkey")
    session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == caller.user_id))
    codes = [_random_code() for _ in range(RECOVERY_CODES)]
    session.add_all(RecoveryCode(user_id=caller.user_id, digest=passwords.digest(_normal(code))) for code in codes)
    session.flush()
    _note(session, caller, "add", "recovery codes")
    return codes


def drop_orphaned_codes(session: Session, caller: Caller) -> None:
    """Without a factor that they stand in for, recovery codes would be passwords that nobody knows of."""
    assert caller.user_id is not None
    if not held(session, caller.user_id).any:
        session.execute(delete(RecoveryCode).where(RecoveryCode.user_id == caller.user_id))


def remove_all(session: Session, user_id: int) -> Factors:
    """Everything beside the password. Returns what there was; auditing it is the caller's."""
    before = held(session, user_id)
    for kind in (Totp, Passkey, RecoveryCode):
        session.execute(delete(kind).where(kind.user_id == user_id))
    return before


def _matching_step(secret: str, code: str, at: datetime) -> int | None:
    """The latest 30 s around `at` of which this is the code."""
    totp = pyotp.TOTP(secret, interval=STEP_S)
    now = int(at.timestamp()) // STEP_S
    matching = [now + around for around in STEPS_AROUND if hmac.compare_digest(totp.generate_otp(now + around), code)]
    return max(matching, default=None)


def _random_code() -> str:
    letters = [secrets.choice(RECOVERY_LETTERS) for _ in range(4 * RECOVERY_GROUPS)]
    return "-".join("".join(letters[at : at + 4]) for at in range(0, len(letters), 4))


def _normal(code: str) -> str:
    """However it was typed (Crockford)."""
    plain = "".join(code.split()).replace("-", "").lower()
    return plain.translate(str.maketrans("oil", "011"))


def _touched_one(session: Session, statement: Update | Delete) -> bool:
    done = session.execute(statement)
    assert isinstance(done, CursorResult)
    return done.rowcount == 1


def _note(session: Session, caller: Caller, action: str, factor: str) -> None:
    after = {"factor": factor}
    audit.record(session, actor=caller.authority.actor, action=action, kind="factor", name=caller.name, after=after)
