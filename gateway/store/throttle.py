"""Sign-in throttling, in SQL so that all workers and nodes count together and a restart forgives nothing.

Three subjects are counted for each failure: account and address together (the guesser), the address (one guesser of
many accounts) and the account (many guessers of one account). Beyond its allowance each further failure doubles the
wait, up to 15 minutes; a quiet day forgives. The pair is strict and the account lax, so that nobody can lock another
out by failing in their name.
"""

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import LargeBinary, delete, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, mapped_column

from gateway.errors import SluicegateError
from gateway.store.base import Base
from gateway.store.models import UtcTime

LONGEST_WAIT: Final = timedelta(minutes=15)
FORGIVEN_AFTER: Final = timedelta(days=1)
NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""Of `blocked_until`: not blocked."""


class TooManyAttempts(SluicegateError):
    status, code, retryable = 429, "too_many_attempts", True


class SignInFailure(Base):
    """Failures of one subject since its last success or quiet day."""

    __tablename__ = "sign_in_failure"

    subject: Mapped[bytes] = mapped_column(LargeBinary(32), primary_key=True)
    """SHA-256 of the subject: people type passwords into name fields."""
    failures: Mapped[int]
    last_failure_at: Mapped[datetime] = mapped_column(UtcTime, index=True)
    blocked_until: Mapped[datetime] = mapped_column(UtcTime)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    digest: bytes
    allowance: int
    """Failures before the first wait."""


def subjects(account: str, address: str) -> tuple[Subject, ...]:
    """Pair, address, account: what one attempt to sign in counts for. Of an IPv6 address its /64: whoever has one of
    these has them all (RFC 6177)."""
    address = _network(address)
    named = ((f"pair\0{account}\0{address}", 5), (f"address\0{address}", 30), (f"account\0{account}", 100))
    return tuple(
        Subject(digest=hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest(), allowance=allowance)
        for text, allowance in named
    )


def _network(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if not isinstance(parsed, ipaddress.IPv6Address) or parsed.ipv4_mapped is not None:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False))


def admit_attempt(session: Session, account: str, address: str, now: datetime) -> None:
    """Count an attempt as failed before its password is looked at, so that parallel guesses all count.

    Raises TooManyAttempts with the time to wait. `forgive` takes the count back after a success.
    """
    counted = subjects(account, address)
    digests = [subject.digest for subject in counted]
    _lock(session, digests)
    found = select(SignInFailure).where(SignInFailure.subject.in_(digests)).order_by(SignInFailure.subject)
    failures = {failure.subject: failure for failure in session.scalars(found.with_for_update())}
    _refuse_until(max(failure.blocked_until for failure in failures.values()), now)
    for subject in counted:
        failure = failures[subject.digest]
        failure.failures = 1 if failure.last_failure_at < now - FORGIVEN_AFTER else failure.failures + 1
        failure.last_failure_at = now
        wait = wait_after(failure.failures - subject.allowance)
        if wait:  # within the allowance nothing is blocked, not even an attempt that began a moment earlier
            failure.blocked_until = now + wait
    _purge(session, now)


def refuse_if_blocked(session: Session, account: str, address: str, now: datetime) -> None:
    """Raises TooManyAttempts. Asked first, because it only reads: a storm of attempts that are refused anyway must not
    queue for the database's one writer."""
    digests = [subject.digest for subject in subjects(account, address)]
    ends = session.scalars(select(SignInFailure.blocked_until).where(SignInFailure.subject.in_(digests))).all()
    _refuse_until(max(ends, default=now), now)


def _refuse_until(end: datetime, now: datetime) -> None:
    if end > now:
        seconds = (end - now).total_seconds()
        raise TooManyAttempts(
            "too many failed attempts to sign in",
            fix=f"wait {max(1, round(seconds))} s and try again",
            retry_after_s=seconds,
        )


def wait_after(excess: int) -> timedelta:
    """No wait within the allowance, then 1 s, 2 s, 4 s … 15 minutes."""
    if excess < 0:
        return timedelta(0)
    return min(LONGEST_WAIT, timedelta(seconds=2 ** min(excess, 20)))


def forgive(session: Session, account: str, address: str, *, attempts: int = 1) -> None:
    """After a success: pair and account start anew; the address, which may own one of many accounts, gets back only
    what the success had cost it: `attempts`, one for each step."""
    pair, from_address, of_account = subjects(account, address)
    _lock(session, [pair.digest, from_address.digest, of_account.digest])
    session.execute(delete(SignInFailure).where(SignInFailure.subject.in_([pair.digest, of_account.digest])))
    session.execute(
        update(SignInFailure)
        .where(SignInFailure.subject == from_address.digest, SignInFailure.failures >= attempts)
        .values(failures=SignInFailure.failures - attempts)
    )


def rewrite(session: Session, account: str, address: str) -> None:
    """Write what is there once more: a transaction of some weight that changes nothing."""
    digests = [subject.digest for subject in subjects(account, address)]
    _lock(session, digests)
    same = update(SignInFailure).where(SignInFailure.subject.in_(digests)).values(failures=SignInFailure.failures)
    session.execute(same)


def forget_all(session: Session) -> None:
    """Nobody waits any longer. For whoever holds the data folder: which failures are an account's own is not to be told
    from digests."""
    session.execute(delete(SignInFailure))


def _purge(session: Session, now: datetime) -> None:
    """Rows that a quiet day has forgiven, but those that somebody else has at hand: it locks in no order, and so must
    wait for nobody."""
    session.flush()
    old = select(SignInFailure.subject).where(SignInFailure.last_failure_at < now - FORGIVEN_AFTER)
    session.execute(delete(SignInFailure).where(SignInFailure.subject.in_(old.with_for_update(skip_locked=True))))


def _lock(session: Session, digests: Sequence[bytes]) -> None:
    """Lock the subjects' rows, and make those that are missing, as of long ago. In one order for all, whatever comes
    and goes meanwhile, so that of two that meet one waits and neither for ever."""
    insert: sqlite.Insert | postgresql.Insert
    insert = (postgresql if session.get_bind().dialect.name == "postgresql" else sqlite).insert(SignInFailure)
    rows = [
        {"subject": one, "failures": 0, "last_failure_at": NEVER, "blocked_until": NEVER} for one in sorted(digests)
    ]
    locked = insert.values(rows).on_conflict_do_update(
        index_elements=[SignInFailure.subject], set_={"failures": SignInFailure.failures}
    )
    session.execute(locked)
