"""The spool's two ends against each other: what was appended is read, whatever the chunking, the end, the damage."""

import contextlib
import itertools
import json
import os
import threading
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.dataplane.spool import Spool
from gateway.errors import LedgerUnavailable
from gateway.policy.attempts import MOST_TOLD, Attempt, attempts_of, attempts_text
from gateway.policy.quota import Amounts
from gateway.policy.records import (
    CLOSED,
    FORM,
    HEAD_BYTES,
    MAX_PAYLOAD_BYTES,
    OPENED,
    RECORD_HEAD,
    RUN_BEGIN,
    RecordForms,
    SegmentCutter,
    TornRecord,
    form_of,
    opened_id,
    payload_of,
    record_bytes,
    record_of,
    records_of,
)
from gateway.policy.usage import LEDGER_FIELDS, LedgerRow
from gateway.store.keeper_ledger import SyncDue
from gateway.store.spool_reader import SpoolReader, is_alive, segments_in

_ids = itertools.count()
TEXT = st.text(st.characters(), max_size=40)
SEGMENT = 64 * 1024


def plain(text: str) -> str:
    """As what reaches a row is: UTF-8 without U+0000."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()


def row(**values: object) -> LedgerRow:
    fields = {"id": f"{next(_ids):026x}", "started_at_ns": 5, "dialect": "openai", "team": "t", "app": "a"}
    return LedgerRow(**(fields | values))


def values_of(each: LedgerRow) -> list[object]:
    return [getattr(each, name) for name in LEDGER_FIELDS]


def segment_of(payloads: list[bytes]) -> bytes:
    pieces = []
    for payload in payloads:
        record = RECORD_HEAD.pack(len(payload), crc32(payload)) + payload
        pieces.append(record.ljust(record_bytes(len(payload)), b"\0"))
    return b"".join(pieces)


def payloads_up_to(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=1, max_size=size).filter(lambda payload: not payload.startswith(RUN_BEGIN))


@given(st.lists(payloads_up_to(200), max_size=20), st.data())
def test_records_are_cut_whole_whatever_the_pieces(payloads: list[bytes], data: st.DataObject) -> None:
    segment = segment_of(payloads) + bytes(64)
    cutter = SegmentCutter()
    found: list[bytes] = []
    while len(found) < len(payloads):
        size = data.draw(st.integers(HEAD_BYTES, 400))
        piece = segment[cutter.position : cutter.position + max(size, 256)]
        got, _more = cutter.cut(piece)
        found += got
    assert found == payloads


@given(st.lists(payloads_up_to(80), min_size=1, max_size=8), st.data())
def test_a_torn_tail_ends_the_records_before_it(payloads: list[bytes], data: st.DataObject) -> None:
    """Any byte of the last record wrong or missing: all before it are read, it is not."""
    segment = bytearray(segment_of(payloads))
    last = len(segment_of(payloads[:-1]))
    used = HEAD_BYTES + len(payloads[-1])
    if data.draw(st.booleans()):
        cut_at = data.draw(st.integers(0, used - 1))
        segment[last + cut_at : last + used] = bytes(used - cut_at)
        if bytes(segment) == segment_of(payloads):
            return  # what was cut away were zeros
    else:
        at = last + data.draw(st.integers(0, used - 1))
        segment[at] ^= data.draw(st.integers(1, 255))
    cutter = SegmentCutter()
    found: list[bytes] = []
    for _ in range(3):
        try:
            got, _ = cutter.cut(bytes(segment[cutter.position :]) + bytes(16))
        except TornRecord:
            break
        found += got
    assert found[: len(payloads) - 1] == payloads[:-1]
    assert payloads[-1] not in found[len(payloads) - 1 :]


CHARGES = st.lists(st.tuples(*[st.integers(0, 1 << 60)] * 3), max_size=3)


MILLISECONDS = st.integers(0, 1 << 40).map(lambda us: us / 1000)
ATTEMPTS = st.lists(
    st.fixed_dictionaries(
        {
            "target": TEXT.map(plain),
            "started_ms": MILLISECONDS,
            "connect_ms": st.none() | MILLISECONDS,
            "first_byte_ms": st.none() | MILLISECONDS,
            "ended_ms": MILLISECONDS,
            "status": st.none() | st.integers(100, 599),
            "error_code": st.sampled_from([None, "connect_failed", "upstream_timeout"]),
        }
    ),
    max_size=MOST_TOLD,
)


@given(
    model=TEXT,
    tokens=st.none() | st.integers(0, 1 << 60),
    charges=CHARGES,
    phases=st.tuples(*[st.none() | MILLISECONDS] * 3, st.none() | st.integers(0, 1 << 40)),
    attempts=st.none() | ATTEMPTS,
)
def test_a_row_comes_back_as_it_was(
    model: str,
    tokens: int | None,
    charges: list[tuple[int, int, int]],
    phases: tuple[float | None, ...],
    attempts: list[Attempt] | None,
) -> None:
    named = dict(zip(("admit_ms", "connect_ms", "longest_gap_ms", "events"), phases, strict=True))
    log = None if attempts is None else attempts_text(attempts)
    each = row(model=plain(model), input_tokens=tokens, attempt_log=log, **named)
    record = record_of(payload_of(CLOSED, each, tuple(itertools.chain(*charges)), 7))
    assert record.closed
    assert record.values == values_of(each)
    assert list(record.kind.accounts) == list(itertools.chain(*[charge[:2] for charge in charges]))
    assert record.amounts == [charge[2] for charge in charges]
    assert record.number == 7
    assert attempts_of(record.values[LEDGER_FIELDS.index("attempt_log")]) == attempts


@given(
    model=TEXT.map(lambda text: text.replace("\0", "")),
    request_ids=st.lists(TEXT, max_size=1),
    figures=st.lists(st.integers(0, 1 << 60), min_size=6, max_size=6),
    admitted_us=st.integers(0, 1 << 50),
    amounts=st.lists(st.integers(0, 1 << 60), max_size=3),
)
def test_a_row_by_form_is_the_row_itself(
    model: str, request_ids: list[str], figures: list[int], admitted_us: int, amounts: list[int]
) -> None:
    """Whatever is shared, the short records say what the long ones would."""
    model = model.encode("utf-8", "replace").decode()
    each = row(model=model, client_ip="::1", client_request_id="".join(request_ids).encode("utf-8", "replace").decode())
    accounts = [(at + 1, at * 60) for at in range(len(amounts))]
    charges = tuple(itertools.chain(*[(*account, used) for account, used in zip(accounts, amounts, strict=True)]))
    forms = RecordForms(7, each, accounts)
    number, form = form_of(forms.definition)
    assert number == 7
    opened = forms.opened % (each.id.encode(), b"5", b"true", *amounts, 3, *figures[:2], b"null")
    long = record_of(payload_of(OPENED, row(**vars(each) | {"stream": True}), charges, 3, Amounts(*figures[:2], None)))
    assert record_of(opened, {7: form}) == long
    assert opened_id(opened) == each.id
    ended = {
        "outcome": "completed", "attempts": 1, "status": 200, "upstream_status": 200, "input_tokens": figures[0],
        "cached_tokens": figures[1], "cache_write_tokens": figures[2], "output_tokens": figures[3],
        "reasoning_tokens": figures[4], "cost_usd_micros": 9, "latency_ms": 1.5, "ttft_ms": 0.25, "overrun": figures[5],
        "admit_ms": float(f"{admitted_us}e-3"), "connect_ms": 0.0,
    }  # fmt: skip
    closed = forms.closed % (
        each.id.encode(), b"5", *figures[:5], b"9", b"1500e-3", b"250e-3", figures[5], admitted_us, *amounts, 4
    )  # fmt: skip
    assert records_of([closed], {7: form}) == [record_of(payload_of(CLOSED, row(**vars(each) | ended), charges, 4))]
    with pytest.raises(KeyError):
        records_of([closed], {})


def test_names_that_are_too_long_have_no_form() -> None:
    with pytest.raises(ValueError, match="too long"):
        RecordForms(1, row(model="m" * MAX_PAYLOAD_BYTES), [])


def test_rows_of_another_release() -> None:
    import orjson

    each = row(model="m")
    older = orjson.dumps([CLOSED, values_of(each)[:12], [], 1])
    newer = orjson.dumps([CLOSED, [*values_of(each), "a field to come"], [], 1, None, "more"])
    assert record_of(newer).values == values_of(each)
    assert record_of(older).values[:12] == values_of(each)[:12]
    assert len(record_of(older).values) == len(LEDGER_FIELDS)


def test_records_by_form_of_another_release() -> None:
    """Those of a release that knew nothing of a request's phases, and was killed or replaced before they were read: as
    it wrote them, for a row of 34 fields."""
    opened = [
        "", 0, "openai", "t", "a", "k", "r", "up/m", "up", "m", 0, *[None] * 8, None, 0, "open", None, False, 0, False,
        "mine", "::1", *[None] * 6,
    ]  # fmt: skip
    closed = [*opened]
    closed[10], closed[19:22] = 200, (200, 1, "completed")
    definition = json.dumps([FORM, 3, opened, closed, [9, 60]]).encode()
    number, form = form_of(definition)
    end = b'[4,3,["0e",7,11,1,2,5,3,39,1500e-3,250e-3,0],[39],12]'
    (record,) = records_of([end], {number: form})
    told = dict(zip(LEDGER_FIELDS, record.values, strict=True))
    assert (told["id"], told["started_at_ns"], told["overrun"], told["ttft_ms"]) == ("0e", 7, 0, 0.25)
    assert (told["client_request_id"], told["client_ip"], told["outcome"], told["attempts"]) == (
        "mine", "::1", "completed", 1
    )  # fmt: skip
    assert (record.kind.accounts, record.amounts, record.number) == ((9, 60), [39], 12)
    phases = ("admit_ms", "connect_ms", "longest_gap_ms", "events", "attempt_log")
    assert [told[name] for name in phases] == [None] * 5
    begin = record_of(b'[3,"0f",3,8,true,[40],11,[20,20,null]]', {number: form})
    told = dict(zip(LEDGER_FIELDS, begin.values, strict=True))
    assert (told["id"], told["client_ip"], told["stream"], told["admit_ms"]) == ("0f", "::1", True, None)


def test_a_form_that_promises_more_figures_than_there_are_is_not_read() -> None:
    """Its records would be taken for something else."""
    definition = json.loads(RecordForms(1, row(), []).definition)
    definition[5] += 1
    with pytest.raises(ValueError, match="newer"):
        form_of(json.dumps(definition).encode())


def test_a_list_of_attempts_is_kept_whole_or_not_at_all() -> None:
    attempt = Attempt(
        target="m" * 900, started_ms=1.0, connect_ms=None, first_byte_ms=None, ended_ms=2.0, status=None,
        error_code="connect_failed",
    )  # fmt: skip
    for attempts, kept in (([attempt] * 2, True), ([attempt] * 12, False)):
        each = row(attempt_log=attempts_text(attempts))
        values = record_of(payload_of(CLOSED, each, (), 1)).values
        told = attempts_of(values[LEDGER_FIELDS.index("attempt_log")])
        assert told == (attempts if kept else None)


def test_what_is_too_long_or_no_text_or_too_large_is_mended() -> None:
    for each in (row(model="m" * 50_000), row(model="\ud800"), row(input_tokens=1 << 70)):
        payload = payload_of(CLOSED, each, (), 1)
        assert len(payload) <= MAX_PAYLOAD_BYTES
        assert record_of(payload).request_id == each.id


STEPS = st.lists(
    st.tuples(st.sampled_from(["open", "by form", "close", "refuse", "read", "commit"]), st.integers(0, 1_500)),
    max_size=120,
)


@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_both_ends_agree(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]) -> None:
    """Over several segments: each ended request is read once, in order; what is open is open; all files go at last."""
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, "aa", SEGMENT, 64 * SEGMENT)
    reader = SpoolReader(folder, "aa")
    in_flight: list[LedgerRow] = []
    forms = [RecordForms(at, row(model="m" * at * 600), [(1, 0)]) for at in range(4)]
    rooms: dict[str, tuple[RecordForms, int]] = {}
    ended: list[str] = []
    read: list[str] = []
    for what, size in steps:
        if what == "open":
            each = row(model="m" * size)
            spool.open(each, (1, 0, size))
            in_flight.append(each)
        elif what == "by form":
            each, form = row(), forms[size % len(forms)]
            opened = form.opened % (each.id.encode(), b"5", b"false", size, spool.closed, 1, 1, b"null")
            rooms[each.id] = form, spool.open_by_form(form, opened)
            in_flight.append(each)
        elif what == "close" and in_flight:
            each = in_flight.pop(size % len(in_flight))
            if each.id in rooms:
                form, room = rooms.pop(each.id)
                figures = (0, 0, 0, 0, 0, b"null", b"1", b"1", 0, 12)
                closed = form.closed % (each.id.encode(), b"5", *figures, size, spool.closed + 1)
                spool.close_by_form(form, closed, room)
            else:
                each.attempt_log = "x" * 3 * size if size % 3 == 0 else None  # longer than the room set aside
                spool.close(each, (1, 0, size))
            ended.append(each.id)
        elif what == "refuse":
            each = row(model="m" * size)
            spool.close(each, ())
            ended.append(each.id)
        elif what == "read":
            read += read_some(reader, folder, 3)
        elif what == "commit":
            spool.commit()
    spool.commit()
    while got := read_some(reader, folder, 50):
        read += got
    assert read == ended
    assert set(reader.open) == {each.id for each in in_flight}
    assert reader.recorded == spool.closed == len(ended)
    assert is_alive(folder, "aa")
    spool.dispose()
    assert not is_alive(folder, "aa")
    reader.interrupt()
    last = reader.take_ended(1_000)
    assert sorted(record.request_id for record in last) == sorted(each.id for each in in_flight)
    assert all(record.values[LEDGER_FIELDS.index("outcome")] == "interrupted" for record in last)
    reader.resolve(len(last))
    reader.remove_all()
    assert os.listdir(folder) == []


def read_some(reader: SpoolReader, folder: Path, most: int) -> list[str]:
    reader.add_segments(segments_in(folder).get("aa", set()))
    reader.read(most)
    batch = [record.request_id for record in reader.take_ended(most)]
    reader.resolve(len(batch))
    SyncDue(reader.to_sync(), {}).run()
    reader.remove(reader.removable())
    return batch


def test_records_by_form_are_one_record_at_the_commit(tmp_path: Path) -> None:
    """They survive from then on, not before."""
    spool = Spool(tmp_path, "aa", SEGMENT, 4 * SEGMENT)
    reader = SpoolReader(tmp_path, "aa")
    form = RecordForms(1, row(), [(1, 0)])
    opened = [row() for _ in range(5)]
    for each in opened:
        spool.open_by_form(form, form.opened % (each.id.encode(), b"5", b"false", 1, 0, 1, 1, b"null"))
    read_some(reader, tmp_path, 10)
    assert not reader.open
    spool.commit()
    read_some(reader, tmp_path, 10)
    assert list(reader.open) == [each.id for each in opened]
    segment = (tmp_path / "aa-000000.spool").read_bytes()
    assert segment.count(RUN_BEGIN) == 1
    assert len(SegmentCutter().cut(segment)[0]) == 1 + len(opened)  # the form before them
    spool.dispose()


def test_consumed_segments_make_room_again(tmp_path: Path) -> None:
    """A spool of four segments takes any number of rows while it is read, and refuses when it is not."""
    spool = Spool(tmp_path, "aa", SEGMENT, 4 * SEGMENT)
    reader = SpoolReader(tmp_path, "aa")
    count = 0
    for _ in range(20):
        for _ in range(100):
            each = row()
            spool.open(each, ())
            spool.close(each, ())
        count += len(read_some(reader, tmp_path, 1_000))
    assert count == 2_000
    assert len(list(tmp_path.glob("*.spool"))) <= 4
    held = []
    with pytest.raises(LedgerUnavailable):
        while True:
            held.append(row())
            spool.open(held[-1], ())
    for each in held[:-1]:
        spool.close(each, ())
    assert len(read_some(reader, tmp_path, 10_000)) == len(held) - 1
    spool.dispose()


def test_a_long_request_keeps_its_segment_and_no_other(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "aa", SEGMENT, 64 * SEGMENT)
    reader = SpoolReader(tmp_path, "aa")
    long = row()
    spool.open(long, (1, 0, 5))
    for _ in range(1_000):
        spool.close(row(), ())
    read_some(reader, tmp_path, 10_000)
    assert "aa-000000.spool" in os.listdir(tmp_path)
    assert "aa-000001.spool" not in os.listdir(tmp_path)
    again = SpoolReader(tmp_path, "aa")  # a keeper that starts anew
    again.add_segments(segments_in(tmp_path)["aa"])
    again.read(10_000)
    assert long.id in again.open
    spool.close(long, (1, 0, 5))
    read_some(reader, tmp_path, 10)
    assert "aa-000000.spool" not in os.listdir(tmp_path)
    spool.dispose()


def test_a_segment_that_has_no_size_yet_has_not_ended(tmp_path: Path) -> None:
    (tmp_path / "aa-000000.spool").touch()
    reader = SpoolReader(tmp_path, "aa")
    assert read_some(reader, tmp_path, 10) == []
    payload = payload_of(CLOSED, row(), (), 1)
    (tmp_path / "aa-000000.spool").write_bytes(segment_of([payload]) + bytes(64))
    assert len(read_some(reader, tmp_path, 10)) == 1


def test_no_file_is_seen_before_it_has_its_size(tmp_path: Path) -> None:
    """However slowly blocks are allocated: looked at all the time while segments are made."""
    sizes: set[int] = set()
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            for path in tmp_path.glob("*.spool"):
                with contextlib.suppress(FileNotFoundError):
                    sizes.add(path.stat().st_size)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        spool = Spool(tmp_path, "aa", 4 << 20, 1 << 30)
        for _ in range(12):
            for _ in range(600):
                spool.close(row(model="m" * 6_000), ())
    finally:
        ended.set()
        looking.join()
    spool.dispose()
    assert sizes == {4 << 20}
