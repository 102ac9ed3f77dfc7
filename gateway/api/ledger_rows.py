"""The shape of a ledger row as the API shows it, and rows of the live feed as JSON."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel

from gateway.policy.attempts import told
from gateway.policy.usage import LEDGER_FIELDS, Outcome
from gateway.store.report import rfc3339

COPIED: Final = tuple(name for name in LEDGER_FIELDS if name != "started_at_ns")


class AttemptView(BaseModel):
    """One attempt on one target. Times in milliseconds from the request's arrival, but for `connect_ms`."""

    target: str
    started_ms: float
    connect_ms: float | None
    """How long look-up, TCP and TLS took; 0: a connection was at hand; null: none came about."""
    first_byte_ms: float | None
    """When the first of its answer came: of a stream the first event, else its body."""
    ended_ms: float
    status: int | None
    """The target's own."""
    error_code: str | None
    """`connect_failed`, `upstream_timeout`, `upstream_failed` (it broke off), `client_gone`, or the request's own."""


class LedgerRowView(BaseModel):
    """One request. null = not known, never 0."""

    id: str
    """The answer's `x-request-id`."""
    started_at: datetime
    team: str
    app: str
    key: str | None
    route: str | None
    target: str | None
    provider: str | None
    dialect: str
    model: str | None
    status: int
    input_tokens: int | None
    """Cached and cache-written ones included."""
    cached_tokens: int | None
    cache_write_tokens: int | None
    output_tokens: int | None
    """Reasoning included."""
    reasoning_tokens: int | None
    cost_usd_micros: int | None
    latency_ms: float | None
    ttft_ms: float | None
    upstream_status: int | None
    attempts: int
    outcome: Outcome
    error_code: str | None
    estimated: bool
    overrun: int
    """Tokens beyond the request's own reservation."""
    stream: bool
    client_request_id: str | None
    client_ip: str | None
    process: str | None
    user: str | None
    container: str | None
    host: str | None
    """Where the forward proxy went; null of all other requests, as are the next."""
    bytes_in: int | None
    bytes_out: int | None
    admit_ms: float | None
    """From the request's arrival until its first attempt began: caller and route known, limits reserved, a target
    chosen. null where nothing went upstream; null, as the next, of rows from before it was recorded."""
    connect_ms: float | None
    """The last attempt's look-up, TCP and TLS; 0: a connection was at hand; null: none came about."""
    longest_gap_ms: float | None
    """Of a stream: the longest time between two reads of its events, from the first on."""
    events: int | None
    """Of a stream: those with content."""
    attempt_log: list[AttemptView] | None
    """The attempts in their order (beyond 16 the first 15 and the last) where there was more than one or one failed;
    else the figures of the row say it all."""


def event_json(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A `LedgerRowView` ready for JSON, of a row's fields as the keeper's feed carries them."""
    shown = {name: fields.get(name) for name in COPIED}
    shown["started_at"] = rfc3339(fields["started_at_ns"])
    return told(shown)
