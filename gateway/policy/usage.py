"""What an answer used, what it costs, and the ledger row that says so."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, TypeAlias

from gateway.policy.model import Price

PER_MILLION: Final = 1_000_000


@dataclass(slots=True)
class Usage:
    """Tokens of one answer. `input_tokens` includes cached and cache-written ones, `output_tokens` includes reasoning
    (contract "Ledger")."""

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0


Figures: TypeAlias = tuple[int, int, int, int, int]
"""The fields of Usage in their order: a tuple takes a fifth of the time to make."""


def cost_microusd(usage: Usage, price: Price) -> int:
    """`(Σ tokens × price + 500000) // 1000000`, once a request: integer micro-USD, half rounded up."""
    cached = price.input if price.cached_input is None else price.cached_input
    written = price.input if price.cache_write is None else price.cache_write
    reasoning = price.output if price.reasoning is None else price.reasoning
    fresh_input = max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens)
    spoken_output = max(0, usage.output_tokens - usage.reasoning_tokens)
    total = (
        fresh_input * price.input
        + usage.cached_tokens * cached
        + usage.cache_write_tokens * written
        + spoken_output * price.output
        + usage.reasoning_tokens * reasoning
        + price.per_request * PER_MILLION
    )
    return (total + PER_MILLION // 2) // PER_MILLION


def cost_bound_microusd(input_tokens: int, output_tokens: int, price: Price) -> int:
    return Rates(price).bound(input_tokens, output_tokens)


class Rates:
    """A price as plain calls need it: the same sums as above, with what never changes worked out beforehand."""

    __slots__ = ("_dearest_input", "_dearest_output", "_fixed", "_price")

    def __init__(self, price: Price) -> None:
        self._price = price
        self._dearest_input = max(price.input, price.cached_input or 0, price.cache_write or 0)
        self._dearest_output = max(price.output, price.reasoning or 0)
        self._fixed = price.per_request * PER_MILLION + PER_MILLION // 2

    def bound(self, input_tokens: int, output_tokens: int) -> int:
        """No answer within these token bounds costs more micro-USD: each token at the dearest price of its kind."""
        return (input_tokens * self._dearest_input + output_tokens * self._dearest_output + self._fixed) // PER_MILLION

    def cost(self, used: Figures) -> int:
        """`cost_microusd`, at once where nothing was cached and nothing reasoned."""
        price = self._price
        tokens_in, cached, stored, tokens_out, reasoning = used
        if cached or stored or reasoning:
            return cost_microusd(Usage(*used), price)
        return (tokens_in * price.input + tokens_out * price.output + self._fixed) // PER_MILLION


class Outcome(StrEnum):
    COMPLETED = "completed"
    CLIENT_GONE = "client_gone"
    UPSTREAM_FAILED = "upstream_failed"
    REFUSED = "refused"
    """By us: route, limit, size, or no target able to serve."""
    INTERRUPTED = "interrupted"
    """The worker died with the request in flight; written by the keeper when it replays the spool."""
    OPEN = "open"
    """In flight; listed only with `?open=true`."""


@dataclass(init=False)
class LedgerRow:
    """One request. Times are Unix nanoseconds and milliseconds; None = unknown, never 0.

    `id` is 26 hex digits that sort by start time: the `x-request-id` of the answer. What is not set stands on the
    class: a row is made for each request, and setting 39 fields would cost it a microsecond.
    """

    id: str
    started_at_ns: int
    dialect: str
    team: str = ""
    app: str = ""
    key: str | None = None
    route: str | None = None
    target: str | None = None
    provider: str | None = None
    model: str | None = None
    """As the provider knows it (the target's); of a refused request what the caller wrote."""
    status: int = 0
    input_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost_usd_micros: int | None = None
    latency_ms: float | None = None
    ttft_ms: float | None = None
    upstream_status: int | None = None
    attempts: int = 0
    outcome: str = Outcome.OPEN
    error_code: str | None = None
    estimated: bool = False
    overrun: int = 0
    """Tokens used beyond the request's own reservation."""
    stream: bool = False
    client_request_id: str | None = None
    client_ip: str | None = None
    process: str | None = None
    user: str | None = None
    container: str | None = None
    host: str | None = None
    """Where the forward proxy went, `HOST:PORT`; None of all other requests, as are the next."""
    bytes_in: int | None = None
    """From the client, within a tunnel."""
    bytes_out: int | None = None
    """To the client."""
    admit_ms: float | None = None
    """From arrival until the first attempt began: caller and route known, limits reserved, a target chosen. None where
    nothing went upstream, or where it was not recorded."""
    connect_ms: float | None = None
    """The last attempt's look-up, TCP and TLS; 0: a connection was at hand. None: none came about, or not recorded."""
    longest_gap_ms: float | None = None
    """The longest time between two reads of a stream's events, from the first on."""
    events: int | None = None
    """Of a stream: those with content."""
    attempt_log: str | None = None
    """`policy.attempts`, where there was more than one attempt or one failed."""

    def __init__(self, *, id: str, started_at_ns: int, dialect: str, **others: Any) -> None:  # noqa: A002
        self.id = id
        self.started_at_ns = started_at_ns
        self.dialect = dialect
        if others:
            self.__dict__.update(others)


LEDGER_FIELDS: Final = tuple(LedgerRow.__dataclass_fields__)


Charges: TypeAlias = tuple[int, ...]
"""What one request takes from its limits, three numbers a limit: account, window start, amount (`reserved` in an open
record, `used` in a close record). The window start is Unix time, 0 for `lifetime`; concurrent requests charge nothing.

Flat, because it is made and written twice a request: as objects the six charges of three limits take 2 µs more."""


def row_from_mapping(values: Mapping[str, Any]) -> LedgerRow:
    """Unknown names are dropped, so that a newer worker's record can be read by an older keeper."""
    return LedgerRow(**{name: values[name] for name in LEDGER_FIELDS if name in values})
