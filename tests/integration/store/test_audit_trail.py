"""What is done to the audit log behind our back is found: the first bad entry, and in words what is wrong with it."""

import pytest
from sqlalchemy import Connection, Engine, text

from gateway.store import audit, audit_trail
from gateway.store.audit_trail import Mark, Verdict
from gateway.store.database import read_session, write_session

COUNT = audit_trail.PIECE + 12
"""More than one piece."""


def record(engine: Engine, name: str, origin: str = "192.0.2.7") -> None:
    with write_session(engine) as session:
        audit.come_from(session, origin)
        audit.record(
            session, actor="user:ann", action="update", kind="route", name=name, before={"w": 1}, after={"w": 2}
        )


@pytest.fixture
def written(engine: Engine) -> Engine:
    for number in range(1, COUNT + 1):
        record(engine, f"r{number}", "" if number % 3 else "192.0.2.7")
    return engine


def verify(engine: Engine, noted: Mark | None = None) -> Verdict:
    with read_session(engine) as session:
        return audit_trail.verify(session, noted)


def change(engine: Engine, *statements: str) -> None:
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def test_an_untouched_log_is_intact_and_says_where_it_ends(written: Engine) -> None:
    found = verify(written)
    assert (found.broken_at, found.problem, found.entries) == (None, None, COUNT)
    assert found.head is not None
    assert found.head.seq == COUNT
    assert audit_trail.mark_from(str(found.head)) == found.head
    record(written, "later")
    assert verify(written, found.head).broken_at is None


REST = "at, actor, action, kind, name, before, after, origin, previous_hash, hash"
TAMPERED: dict[str, tuple[tuple[str, ...], int, str]] = {
    "actor": (("UPDATE audit_entry SET actor = 'user:bob' WHERE seq = 5",), 5, "not as it was written"),
    "after": (("""UPDATE audit_entry SET after = '{}' WHERE seq = 260""",), 260, "not as it was written"),
    "time": (("UPDATE audit_entry SET at = at + 1 WHERE seq = 7",), 7, "not as it was written"),
    "origin": (("UPDATE audit_entry SET origin = '192.0.2.8' WHERE seq = 6",), 6, "not as it was written"),
    "origin removed": (("UPDATE audit_entry SET origin = NULL WHERE seq = 6",), 6, "not as it was written"),
    "origin put in": (("UPDATE audit_entry SET origin = '192.0.2.8' WHERE seq = 5",), 5, "not as it was written"),
    "hash": (("UPDATE audit_entry SET hash = previous_hash WHERE seq = 5",), 5, "not as it was written"),
    "removed": (("DELETE FROM audit_entry WHERE seq = 9",), 9, "entry 9 is missing"),
    "several removed": (("DELETE FROM audit_entry WHERE seq IN (9, 10, 11)",), 9, "entries 9 to 11 are missing"),
    "beginning removed": (("DELETE FROM audit_entry WHERE seq < 4",), 1, "entries 1 to 3 are missing"),
    "removed and closed up": (
        ("DELETE FROM audit_entry WHERE seq = 9", "UPDATE audit_entry SET seq = 9 WHERE seq = 10"),
        9,
        "not as it was written",
    ),
    "put in": (
        (f"INSERT INTO audit_entry (seq, {REST}) SELECT {COUNT + 1}, {REST} FROM audit_entry WHERE seq = 5",),
        COUNT + 1,
        "not as it was written",
    ),
    "swapped": (
        (
            "UPDATE audit_entry SET seq = 9000 WHERE seq = 20",
            "UPDATE audit_entry SET seq = 20 WHERE seq = 21",
            "UPDATE audit_entry SET seq = 21 WHERE seq = 9000",
        ),
        20,
        "not as it was written",
    ),
    "end cut off": ((f"DELETE FROM audit_entry WHERE seq > {COUNT - 2}",), COUNT - 1, f"entry {COUNT} was written"),
    "emptied": (("DELETE FROM audit_entry",), 1, "the log ends at entry 0"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_tampering_is_found(written: Engine, how: str) -> None:
    statements, broken_at, words = TAMPERED[how]
    change(written, *statements)
    found = verify(written)
    assert found.broken_at == broken_at
    assert words in (found.problem or "")


def rehashed(connection: Connection, from_seq: int, to_seq: int) -> None:
    """Forge all that follows, as somebody with the database and this source would."""
    from sqlalchemy.orm import Session

    from gateway.store.models import AuditEntry, Meta

    with Session(connection) as session:
        for seq in range(from_seq, to_seq + 1):
            entry, before = session.get_one(AuditEntry, seq), session.get(AuditEntry, seq - 1)
            entry.previous_hash = audit.FIRST_HASH if before is None else before.hash
            entry.hash = audit.hash_of(entry)
        session.get_one(Meta, 1).audit_hash = session.get_one(AuditEntry, to_seq).hash
        session.commit()


def test_a_log_rewritten_as_a_whole_is_found_by_a_noted_mark_alone(written: Engine) -> None:
    noted = verify(written).head
    record(written, "later")
    change(written, "UPDATE audit_entry SET actor = 'user:bob' WHERE seq = 200")
    with written.connect() as connection:
        rehashed(connection, 200, COUNT + 1)
    assert verify(written).broken_at is None
    found = verify(written, noted)
    assert found.broken_at == COUNT
    assert "not the one that was noted" in (found.problem or "")


def test_a_rewritten_entry_that_keeps_its_chain_breaks_the_next(written: Engine) -> None:
    change(written, "UPDATE audit_entry SET actor = 'user:bob' WHERE seq = 30")
    with written.connect() as connection:
        rehashed(connection, 30, 30)
    found = verify(written)
    assert found.broken_at == 31
    assert "not written behind the entry 30" in (found.problem or "")


def test_what_is_written_after_a_cut_leaves_the_gap_to_be_seen(written: Engine) -> None:
    change(written, f"DELETE FROM audit_entry WHERE seq > {COUNT - 3}")
    record(written, "as if nothing had been")
    found = verify(written)
    assert found.broken_at == COUNT - 2
    assert f"entries {COUNT - 2} to {COUNT} are missing" in (found.problem or "")


def test_a_release_that_knew_of_no_end_may_append_while_this_one_takes_over(written: Engine) -> None:
    change(written, "UPDATE meta SET audit_seq = 4, audit_hash = (SELECT hash FROM audit_entry WHERE seq = 4)")
    assert verify(written).broken_at is None
    record(written, "next")
    assert verify(written).entries == COUNT + 1


def test_a_forged_end_stays_to_be_seen_behind_later_entries(written: Engine) -> None:
    change(written, f"UPDATE audit_entry SET actor = 'user:bob' WHERE seq = {COUNT}")
    with written.connect() as connection:
        noted = connection.execute(text("SELECT audit_hash FROM meta")).scalar_one()
        rehashed(connection, COUNT, COUNT)
        connection.execute(text("UPDATE meta SET audit_hash = :noted"), {"noted": noted})
        connection.commit()
    record(written, "later")
    found = verify(written)
    assert found.broken_at == COUNT + 1
    assert f"not written behind the entry {COUNT}" in (found.problem or "")
