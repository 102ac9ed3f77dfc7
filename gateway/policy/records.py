"""Records of a spool segment: how ledger rows lie in the file between a worker and the keeper.

A segment is pre-allocated zeros. A record is an 8-byte head (payload length and CRC-32 of the payload, little-endian),
then the payload, padded to 8 bytes. Length 0: writing has not come here yet. Length `END_MARK`: the segment ends here,
the next one goes on. The checksum tells a record torn by a crash or a power loss, in whatever order its bytes reached
the file.

A payload is the JSON array `[kind, row values in the order of LEDGER_FIELDS, charges, number, bounds]`; `number` counts
the close records of the incarnation; `bounds` are the tokens in and out and the cost that an open request can reach.
New ledger fields are appended to the order, new elements to the array, so that records of another release can be read:
what is missing keeps its default, what is unknown is dropped.

Pure: bytes and values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
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

_NUL: Final = rb"\u0000"
OPENED_BEGIN: Final = b'[%d,["' % OPENED
"""How each open record begins: an id is hex digits, and the first of LEDGER_FIELDS."""

_values_of = attrgetter(*LEDGER_FIELDS)

FIGURES: Final = (
    "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens", "cost_usd_micros",
    "latency_ms", "ttft_ms", "overrun",
)  # fmt: skip
"""What a close record made by RecordForms has of its own, in the order of LEDGER_FIELDS."""
_FIGURE_PLACES: Final = dict.fromkeys(FIGURES, "%d") | {
    "cost_usd_micros": "%b",
    "latency_ms": "%b",
    "ttft_ms": "%b",
}


@dataclass(slots=True)
class Record:
    """A record as it lies in the file: `values` in the order of LEDGER_FIELDS, `charges` as `Charges`."""

    closed: bool
    values: list[Any]
    charges: list[int]
    number: int
    """How many requests of this incarnation had ended, this one included."""
    bounds: list[int | None] | None = None
    """Of an open request: the tokens in, tokens out and cost that it reserved."""

    @property
    def request_id(self) -> str:
        return str(self.values[0])


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
    """The request's id of an open record: nearly all of those are superseded before anybody reads the rest."""
    begin = len(OPENED_BEGIN)
    return payload[begin : payload.index(b'"', begin)].decode()


def mend(record: Record) -> None:
    """Bring the figures of a record within what a SQL integer holds."""
    record.values[:] = [_mended_value(value) for value in record.values]
    record.charges[:] = [_mended_value(amount) for amount in record.charges]


def record_bytes(payload_bytes: int) -> int:
    """What a payload takes in the segment, head and padding included."""
    return (payload_bytes + HEAD_BYTES + 7) & ~7


def record_of(payload: bytes) -> Record:
    """Raises ValueError when the payload is none of ours. A row of another release is brought to our fields."""
    return _record(orjson.loads(payload), nul=payload.find(_NUL) >= 0)


def records_of(payloads: Sequence[bytes]) -> list[Record]:
    """`record_of` each, decoded in one go. Raises ValueError or TypeError when any is none of ours."""
    joined = b",".join(payloads)
    nul = joined.find(_NUL) >= 0
    found = [_record(parts, nul=nul) for parts in orjson.loads(b"[%b]" % joined)]
    if len(found) != len(payloads):
        raise ValueError("a payload holds more than one record")
    return found


def _record(parts: list[Any], *, nul: bool) -> Record:
    """`nul`: a text may hold U+0000, which PostgreSQL's cannot."""
    kind, values, numbers, number, *rest = parts
    if len(values) != len(LEDGER_FIELDS):
        values = list(_values_of(LedgerRow(**dict(zip(LEDGER_FIELDS, values, strict=False)))))
    if nul:
        values = [value.replace("\0", "") if isinstance(value, str) else value for value in values]
    return Record(kind == CLOSED, values, numbers, number, rest[0] if rest else None)


class RecordForms:
    """Open and close records of calls that differ in nothing but figures, each made by one substitution: an eighth of
    what encoding a row costs. `row` holds what they share; `accounts` are (account, window start) of what is charged.
    """

    __slots__ = ("closed", "opened")

    def __init__(self, row: LedgerRow, accounts: Sequence[tuple[int, int]]) -> None:
        """Raises ValueError where the shared values leave no room, or are none that JSON can hold."""
        opened = _form(row, {"id": "%b", "started_at_ns": "%b", "stream": "%b"})
        completed = {"outcome": str(Outcome.COMPLETED), "attempts": 1, "status": 200, "upstream_status": 200}
        closed = _form(LedgerRow(**vars(row) | completed), {"id": "%b", "started_at_ns": "%b"} | _FIGURE_PLACES)
        charges = ",".join([f"{account},{start},%d" for account, start in accounts]).encode()
        self.opened: Final = b"[%d,%b,[%b],%%d,[%%d,%%d,%%b]]" % (OPENED, opened, charges)
        """`% (id, start as text, b"true" or b"false" for stream, what is reserved of each account, number of closed
        ones, bounds of tokens in and out, cost bound as text)`. A cost that is not known is b"null"."""
        self.closed: Final = b"[%d,%b,[%b],%%d,null]" % (CLOSED, closed, charges)
        """`% (id, start, the FIGURES in their order: cost and times as text; what each account is charged, number)`."""
        if len(self.closed) + 32 * (len(FIGURES) + len(accounts)) > MAX_PAYLOAD_BYTES:
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
        head_at, add = RECORD_HEAD.unpack_from, payloads.append  # this loop runs twice a request
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
            add(payload)
            at += (length + HEAD_BYTES + 7) & ~7
            self.position = begin + at
        return payloads, True

    def _torn(self, payloads: list[bytes], at: int) -> tuple[list[bytes], bool]:
        if payloads:
            return payloads, False
        raise TornRecord(f"torn record at {self.position}")


def _form(row: LedgerRow, varying: Mapping[str, str]) -> bytes:
    """The row's values as JSON, with a place for each of the `varying` ones. Raises ValueError."""
    values = [f"\ue000{name}" if name in varying else getattr(row, name) for name in LEDGER_FIELDS]
    try:
        text = orjson.dumps(values)
    except TypeError as error:
        raise ValueError(str(error)) from error
    text = text.replace(b"%", b"%%")
    for name, place in varying.items():
        quoted = '"%s"' if place == "%b" and name == "id" else "%s"
        text = text.replace(f'"\ue000{name}"'.encode(), (quoted % place).encode())
    return text


def _mended(kind: int, row: LedgerRow, charges: Charges, number: int) -> bytes:
    """Texts cut and made valid UTF-8, figures kept within what a SQL integer holds."""
    values = [_mended_value(value) for value in _values_of(row)]
    amounts = [_mended_value(amount) for amount in charges[: 3 * MOST_CHARGES]]
    return orjson.dumps((kind, values, amounts, number, None))


def _mended_value(value: Any) -> Any:
    if isinstance(value, str):
        return value[:LONGEST_TEXT].encode("utf-8", "replace").decode()
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-MOST_SQL_INTEGER, min(MOST_SQL_INTEGER, value))
    return value
