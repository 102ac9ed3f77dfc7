"""Files of recorded bodies, byte for byte: sealed, bound to their place, readable up to a torn end."""

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from gateway.policy.body_records import (
    ERASED,
    FILE_HEAD_BYTES,
    HEAD,
    STATE_AT,
    Bodies,
    Body,
    BodyWriter,
    NotOurs,
    Opener,
    day_of,
    head_of,
    writer_of,
)

PRIVATE = X25519PrivateKey.generate()
PUBLIC = PRIVATE.public_key().public_bytes_raw()
ID = "019ad0c0ffee" + "abcdef0" + "0000001"


def bodies(text: str) -> Bodies:
    return Bodies(
        id=ID,
        route="chat",
        visible_to_team=False,
        recorded_at_ms=1_764_324_592_123,
        request=Body(text=text, content_type="application/json", size=len(text), redacted={"email": 2}),
        response=Body(why_not="binary", size=17),
    )


def test_what_is_sealed_opens_and_says_nothing_in_clear() -> None:
    writer = BodyWriter(PUBLIC)
    record = writer.record(bodies("the word"), FILE_HEAD_BYTES)
    assert b"the word" not in record
    opener = Opener(PRIVATE.private_bytes_raw(), writer.head)
    assert opener.open(record, FILE_HEAD_BYTES) == bodies("the word")


@pytest.mark.parametrize("wrong", ["place", "key", "id", "bytes", "file"])
def test_what_was_moved_or_altered_does_not_open(wrong: str) -> None:
    writer = BodyWriter(PUBLIC)
    record = bytearray(writer.record(bodies("the word"), 52))
    private = X25519PrivateKey.generate() if wrong == "key" else PRIVATE
    if wrong == "id":
        record[HEAD.size - 1] ^= 1
    elif wrong == "bytes":
        record[-20] ^= 1
    head = BodyWriter(PUBLIC).head if wrong == "file" else writer.head
    with pytest.raises(NotOurs):
        Opener(private.private_bytes_raw(), head).open(bytes(record), 53 if wrong == "place" else 52)


def test_each_file_has_a_key_of_its_own() -> None:
    first, second = (BodyWriter(PUBLIC) for _ in range(2))
    assert first.head != second.head
    assert first.record(bodies("same"), 52)[HEAD.size :] != second.record(bodies("same"), 52)[HEAD.size :]


def test_heads_of_whole_records_alone() -> None:
    record = bytearray(BodyWriter(PUBLIC).record(bodies("x"), 52))
    head = head_of(bytes(record), len(record))
    assert head is not None
    assert (head.length, head.id.decode()) == (len(record), ID)
    assert head_of(bytes(record), len(record) - 1) is None  # torn
    assert head_of(bytes(record[:10]), 10) is None
    record[STATE_AT : STATE_AT + 1] = ERASED
    erased = head_of(bytes(record), len(record))
    assert erased is not None
    assert erased.state == ERASED
    record[0] ^= 1
    assert head_of(bytes(record), len(record)) is None


def test_an_id_tells_day_and_writer() -> None:
    assert (day_of(ID).isoformat(), writer_of(ID)) == ("2025-11-29", "abcdef0")
