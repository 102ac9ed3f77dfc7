"""Attempts to sign in that meet in the database: each is counted, none waits for ever, none is lost in a fault."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine

from gateway.store import audit, signing_in, throttle
from gateway.store.database import write_session

AT = datetime(2026, 11, 28, tzinfo=UTC)
ROUNDS = 40


def test_successes_and_failures_at_once_do_not_block_each_other(engine: Engine) -> None:
    def admit(account: str, number: int) -> None:
        try:
            with write_session(engine) as session:
                throttle.admit_attempt(session, account, "192.0.2.1", AT + timedelta(hours=number))
        except throttle.TooManyAttempts:
            return

    def succeed(number: int) -> None:
        admit("mia", number)
        with write_session(engine) as session:
            audit.lock(session)  # first, as everywhere
            throttle.forgive(session, "mia", "192.0.2.1")
            audit.record(session, actor="user:mia", action="sign-in", kind="session", name="192.0.2.1")

    def fail(number: int) -> None:
        admit("mia", number)
        signing_in.note_refusal(engine, "mia", "192.0.2.1", known=True, step="password")

    def guess(number: int) -> None:
        admit("nobody", number)
        signing_in.note_refusal(engine, "nobody", "192.0.2.1", known=False, step="password")

    def again(act: Callable[[int], None]) -> None:
        for number in range(ROUNDS):
            act(number)

    acts = (succeed, succeed, fail, guess)
    with ThreadPoolExecutor(len(acts)) as pool:
        assert list(pool.map(again, acts)) == [None] * len(acts)
