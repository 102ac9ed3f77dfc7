"""The shape of a ledger row as the API shows it, and rows as JSON."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel

from gateway.policy.usage import LEDGER_FIELDS, LedgerRow, Outcome

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
COPIED: Final = tuple(name for name in LEDGER_FIELDS if name != "started_at_ns")


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


def row_json(row: LedgerRow) -> dict[str, Any]:
    """A `LedgerRowView` ready for JSON; not made by way of pydantic, because a page may have a thousand."""
    shown = {name: getattr(row, name) for name in COPIED}
    shown["started_at"] = rfc3339_ns(row.started_at_ns)
    return shown


def event_json(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The same from a row's fields, as the keeper's feed carries them."""
    shown = {name: fields.get(name) for name in COPIED}
    shown["started_at"] = rfc3339_ns(fields["started_at_ns"])
    return shown


def rfc3339_ns(at_ns: int) -> str:
    """To the microsecond, UTC."""
    at = EPOCH + timedelta(microseconds=at_ns // 1_000)
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
