"""Records of a spool segment: how ledger rows lie in the file between a worker and the keeper.

A segment is pre-allocated zeros. A record is an 8-byte head (payload length and CRC-32 of the payload, little-endian),
then the payload, padded to 8 bytes. Length 0: writing has not come here yet. Length `END_MARK`: the segment ends here,
the next one goes on. The checksum tells a record torn by a crash or a power loss, in whatever order its bytes reached
the file.

A payload is the JSON array `[kind, row values in the order of LEDGER_FIELDS, charges, number, bounds]`; `number` counts
the close records of the incarnation; `bounds` are the tokens in and out and the cost that an open request can reach.
New ledger fields are appended to the order, new elements to the array, so that records of another release can be read:
what is missing keeps its default, what is unknown is dropped.

Rows that differ in nothing but figures are written against a form: each segment that has such a row defines the form
before it, so a segment is read without any other. The kinds of these records:

    [FORM, form, row values of open ones, row values of closed ones, [account, window start, …], figures of a record]
    [OPENED_BY_FORM, id, form, start, stream, [reserved of each account, …], number, bounds]
    [CLOSED_BY_FORM, form, [the first BY_FORM of FIGURES: the form has the others], [used of each account, …], number]

A form of a release that did not write `figures of a record` has FIRST_BY_FORM of them.

Those of one turn of the worker's event loop are one record: `RUN_BEGIN`, then their payloads, a line each.

Pure: bytes and values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from struct import Struct
from typing import Any, Final
from zlib import crc32

import orjson

from gateway.policy.quota import Amounts
from gateway.policy.usage import LEDGER_FIELDS, Charges, LedgerRow, Outcome

RECORD_HEAD: Final = Struct("<II")
HEAD_BYTES: Final = RECORD_HEAD.size
END_MARK: Final = 0xFFFFFFFF
MAX_PAYLOAD_BYTES: Final = 8 * 1024 - HEAD_BYTES
"""A longer row has its texts cut."""
MAX_RECORD_BYTES: Final = MAX_PAYLOAD_BYTES + HEAD_BYTES
LONGEST_TEXT: Final = 160
"""Characters that a text keeps in a row that would be too long."""

MOST_CHARGES: Final = 64
MOST_SQL_INTEGER: Final = 1 << 62

OPENED: Final = 0
CLOSED: Final = 1
FORM: Final = 2
OPENED_BY_FORM: Final = 3
CLOSED_BY_FORM: Final = 4

RUN_BEGIN: Final = b"[5]\n"

_NUL: Final = rb"\u0000"
OPENING: Final = b"%d%d" % (OPENED, OPENED_BY_FORM)
DEFINING: Final = b"%d" % FORM
"""`payload[KIND_AT] in OPENING` tells an open record, `in DEFINING` a form; all others are close records."""
KIND_AT: Final = 1

_values_of = attrgetter(*LEDGER_FIELDS)

FIGURES: Final = (
    "id", "started_at_ns", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens",
    "cost_usd_micros", "latency_ms", "ttft_ms", "overrun", "admit_ms",
    "connect_ms", "longest_gap_ms", "events", "attempt_log", "client_request_id", "client_ip",
)  # fmt: skip
"""Fields in which rows of one kind may differ."""
BY_FORM: Final = FIGURES.index("admit_ms") + 1
"""So many of them stand in a record by form; the others are the same for all that have a form in common."""
FIRST_BY_FORM: Final = 11
SHARED: Final = tuple([name for name in LEDGER_FIELDS if name not in FIGURES])
_AT: Final = {name: at for at, name in enumerate(LEDGER_FIELDS)}
_shared_of: Final = itemgetter(*[_AT[name] for name in SHARED])
_figures_of: Final = itemgetter(*[_AT[name] for name in FIGURES])
_of_form: Final = itemgetter(*[_AT[name] for name in FIGURES[BY_FORM:]])
_in_order: Final = itemgetter(*[(*SHARED, *FIGURES).index(name) for name in LEDGER_FIELDS])


def row_values(shared: Sequence[Any], figures: Sequence[Any]) -> tuple[Any, ...]:
    """A row's values in the order of LEDGER_FIELDS."""
    ordered: tuple[Any, ...] = _in_order((*shared, *figures))
    return ordered


@dataclass(frozen=True, slots=True)
class Kind:
    """What all requests of one kind have in common: one object for all records of a form."""

    shared: tuple[Any, ...]
    """The values of SHARED."""
    accounts: tuple[int, ...]
    """Account and window start of each charge, flat."""


@dataclass(slots=True)
class Record:
    """A request as a record tells it: its row in two parts, and what it is charged."""

    closed: bool
    kind: Kind
    figures: list[Any]
    """The values of FIGURES."""
    amounts: list[int]
    """How much each account of its kind is charged."""
    number: int
    """How many requests of this incarnation had ended, this one included."""
    bounds: list[int | None] | None = None
    """Of an open request: the tokens in, tokens out and cost that it reserved."""

    @property
    def request_id(self) -> str:
        return str(self.figures[0])

    @property
    def values(self) -> list[Any]:
        """The row in the order of LEDGER_FIELDS."""
        return list(row_values(self.kind.shared, self.figures))

    @values.setter
    def values(self, values: Sequence[Any]) -> None:
        self.kind = Kind(_shared_of(values), self.kind.accounts)
        self.figures = list(_figures_of(values))


@dataclass(frozen=True, slots=True)
class Form:
    """What records written against a form have in common."""

    opened: Kind
    """While they are open, but for `stream`."""
    closed: Kind
    of_opened: tuple[Any, ...]
    """FIGURES from BY_FORM on, while they are open."""
    of_closed: tuple[Any, ...]
    """What follows the figures of a close record: where its release had fewer, their defaults come first."""


_NO_FORMS: Final[Mapping[int, Form]] = {}
_STREAM: Final = SHARED.index("stream")
_NOTHING_YET: Final = [getattr(LedgerRow, name) for name in FIGURES[2:BY_FORM]]
_NO_FIGURES: Final = (None, None, *_NOTHING_YET)
_LOG: Final = _AT["attempt_log"]


class TornRecord(ValueError):
    """The bytes are not a whole record: not written to the end yet, or torn when the writer died."""


def payload_of(kind: int, row: LedgerRow, charges: Charges, number: int, need: Amounts | None = None) -> bytes:
    """One record's payload, never longer than `MAX_PAYLOAD_BYTES`. Never raises: what SQL could not hold is mended."""
    try:
        bounds = None if need is None else (need.input_tokens, need.output_tokens, need.cost_microusd)
        payload = orjson.dumps((kind, _values_of(row), charges, number, bounds))
    except TypeError:
        return _mended(kind, row, charges, number)
    if len(payload) > MAX_PAYLOAD_BYTES:
        return _mended(kind, row, charges, number)
    return payload


def opened_id(payload: bytes) -> str:
    """The request's id of an open record, its first text: nearly all of those are superseded before anybody reads the
    rest."""
    return payload.split(b'"', 2)[1].decode()


def mend(record: Record) -> None:
    """Bring the figures of a record within what a SQL integer holds."""
    record.values = _mended_values(record.values)
    record.amounts = [_mended_value(amount) for amount in record.amounts]


def record_bytes(payload_bytes: int) -> int:
    """What a payload takes in the segment, head and padding included."""
    return (payload_bytes + HEAD_BYTES + 7) & ~7


def form_of(payload: bytes) -> tuple[int, Form]:
    """A form and its number. Raises ValueError or TypeError when the payload is none of ours."""
    _, number, opened, closed, accounts, *rest = orjson.loads(payload)
    figures = rest[0] if rest else FIRST_BY_FORM
    if figures > BY_FORM:
        raise ValueError("a form of a newer release")
    nul = payload.find(_NUL) >= 0
    opened, closed = _values(opened, nul=nul), _values(closed, nul=nul)
    kind, kind_closed = (Kind(_shared_of(values), tuple(accounts)) for values in (opened, closed))
    return number, Form(kind, kind_closed, _of_form(opened), (*_NO_FIGURES[figures:BY_FORM], *_of_form(closed)))


def record_of(payload: bytes, forms: Mapping[int, Form] = _NO_FORMS) -> Record:
    """A row of another release is brought to our fields. Raises ValueError when the payload is none of ours, KeyError
    where its form is not among `forms`."""
    return _record(orjson.loads(payload), forms, nul=payload.find(_NUL) >= 0)


def records_of(payloads: Sequence[bytes], forms: Mapping[int, Form] = _NO_FORMS) -> list[Record]:
    """`record_of` each, decoded in one go. Raises ValueError, TypeError or KeyError when any is none of ours."""
    joined = b",".join(payloads)
    nul = joined.find(_NUL) >= 0
    found: list[Record] = []
    for parts in orjson.loads(b"[%b]" % joined):
        if parts[0] == CLOSED_BY_FORM:
            _, number, figures, amounts, count = parts
            form = forms[number]
            figures += form.of_closed
            found.append(Record(True, form.closed, figures, amounts, count))
        else:
            found.append(_record(parts, forms, nul=nul))
    if len(found) != len(payloads):
        raise ValueError("a payload holds more than one record")
    return found


def _record(parts: list[Any], forms: Mapping[int, Form], *, nul: bool) -> Record:
    """`nul`: a text may hold U+0000, which PostgreSQL's cannot."""
    if parts[0] == OPENED_BY_FORM:
        return _opened_by_form(parts, forms)
    kind, values, charges, number, *rest = parts
    values = _values(values, nul=nul)
    accounts = tuple([part for at, part in enumerate(charges) if at % 3 < 2])
    bounds = rest[0] if rest else None
    figures = list(_figures_of(values))
    return Record(kind == CLOSED, Kind(_shared_of(values), accounts), figures, charges[2::3], number, bounds)


def _opened_by_form(parts: list[Any], forms: Mapping[int, Form]) -> Record:
    _, request_id, number, started_at_ns, stream, amounts, count, bounds = parts
    form = forms[number]
    shared = list(form.opened.shared)
    shared[_STREAM] = stream
    figures = [request_id, started_at_ns, *_NOTHING_YET, *form.of_opened]
    return Record(False, Kind(tuple(shared), form.opened.accounts), figures, amounts, count, bounds)


def _values(values: list[Any], *, nul: bool) -> list[Any]:
    if len(values) != len(LEDGER_FIELDS):
        values = list(_values_of(LedgerRow(**dict(zip(LEDGER_FIELDS, values, strict=False)))))
    if nul:
        values = [value.replace("\0", "") if isinstance(value, str) else value for value in values]
    return values


class RecordForms:
    """Open and close records of calls that differ in nothing but figures, each made by one substitution. `row` holds
    what they share; `accounts` are (account, window start) of what is charged."""

    __slots__ = ("closed", "defined_in", "definition", "opened", "room")

    def __init__(self, number: int, row: LedgerRow, accounts: Sequence[tuple[int, int]]) -> None:
        """`number` tells the form from all others of the incarnation. Raises ValueError where the shared values leave
        no room, or are none that JSON can hold."""
        completed = {"outcome": str(Outcome.COMPLETED), "attempts": 1, "status": 200, "upstream_status": 200}
        closed = LedgerRow(**vars(row) | completed | {"connect_ms": 0.0})
        amounts = b",".join([b"%d"] * len(accounts))
        try:
            charged = [part for account in accounts for part in account]
            self.definition: Final = orjson.dumps((FORM, number, _values_of(row), _values_of(closed), charged, BY_FORM))
            """The form itself."""
        except TypeError as error:
            raise ValueError(str(error)) from error
        self.opened: Final = b'[%d,"%%b",%d,%%b,%%b,[%b],%%d,[%%d,%%d,%%b]]' % (OPENED_BY_FORM, number, amounts)
        """`% (id, start as text, b"true" or b"false" for stream, what is reserved of each account, number of closed
        ones, bounds of tokens in and out, cost bound as text)`. A cost that is not known is b"null"."""
        self.closed: Final = b'[%d,%d,["%%b",%%b,%%d,%%d,%%d,%%d,%%d,%%b,%%b,%%b,%%d,%%de-3],[%b],%%d]' % (
            CLOSED_BY_FORM,
            number,
            amounts,
        )
        """`% (id, start, the first BY_FORM of FIGURES in their order: cost, latency and ttft as text, admit_ms in whole
        microseconds; what each account is charged, number)`. Such a call had its connection: `connect_ms` is 0."""
        self.defined_in: object = None
        """The segment that had it last."""
        self.room: Final = len(self.definition) + len(self.closed) + 32 * (len(FIGURES) + len(accounts))
        """More than a record and the form before it ever take."""
        if self.room > MAX_PAYLOAD_BYTES:
            raise ValueError("names too long for a prepared record")


class SegmentCutter:
    """Cuts the bytes of one segment into records, from wherever reading stopped."""

    __slots__ = ("ended", "position")

    def __init__(self, position: int = 0) -> None:
        self.position = position
        """Where the next record's head is."""
        self.ended = False
        """The end mark was read: nothing follows in this segment."""

    def cut(self, piece: bytes) -> tuple[list[bytes], bool]:
        """Payloads at the beginning of `piece`, which lies at `position`; then whether more bytes are wanted now (a
        record reaches beyond the piece). Raises TornRecord only where nothing whole precedes the torn record."""
        payloads: list[bytes] = []
        begin, at, last = self.position, 0, len(piece) - HEAD_BYTES
        head_at, add = RECORD_HEAD.unpack_from, payloads.append
        while at <= last:
            length, checksum = head_at(piece, at)
            if not 0 < length <= MAX_PAYLOAD_BYTES:
                if 0 < length < END_MARK:
                    return self._torn(payloads, at)
                self.ended = length == END_MARK
                return payloads, False
            payload = piece[at + HEAD_BYTES : at + HEAD_BYTES + length]
            if crc32(payload) != checksum:
                return (payloads, True) if len(payload) < length else self._torn(payloads, at)
            if payload.startswith(RUN_BEGIN):
                payloads += payload[len(RUN_BEGIN) :].split(b"\n")
            else:
                add(payload)
            at += (length + HEAD_BYTES + 7) & ~7
            self.position = begin + at
        return payloads, True

    def _torn(self, payloads: list[bytes], at: int) -> tuple[list[bytes], bool]:
        if payloads:
            return payloads, False
        raise TornRecord(f"torn record at {self.position}")


def _mended(kind: int, row: LedgerRow, charges: Charges, number: int) -> bytes:
    """Texts cut and made valid UTF-8, figures kept within what a SQL integer holds."""
    values = _mended_values(_values_of(row))
    amounts = [_mended_value(amount) for amount in charges[: 3 * MOST_CHARGES]]
    return orjson.dumps((kind, values, amounts, number, None))


def _mended_values(values: Sequence[Any]) -> list[Any]:
    mended = [_mended_value(value) for value in values]
    if mended[_LOG] != values[_LOG]:
        mended[_LOG] = None  # half a list is none
    return mended


def _mended_value(value: Any) -> Any:
    if isinstance(value, str):
        return value[:LONGEST_TEXT].encode("utf-8", "replace").decode()
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-MOST_SQL_INTEGER, min(MOST_SQL_INTEGER, value))
    return value
