"""The attempts of one request, as the ledger tells of them where there was more than one, or where one failed.

Of the ordinary request, whose only attempt was answered, the row's own figures say the same (`admit_ms`, `connect_ms`,
`ttft_ms`, `latency_ms`): it has no list. A row holds the list as JSON text, so that neither spool nor SQL need know its
shape. Pure.
"""

from collections.abc import Sequence
from typing import Any, Final, TypedDict, cast

import orjson

MOST_TOLD: Final = 16
"""The first of a request's attempts and its last one: a row stays within a record of the spool."""


class Attempt(TypedDict):
    """Times in milliseconds from the request's arrival, but for `connect_ms`, which is a duration. None = not known."""

    target: str
    started_ms: float
    connect_ms: float | None
    """Look-up, TCP, TLS. 0: a connection was at hand; None: none came about."""
    first_byte_ms: float | None
    """When the first of its answer came: of a stream the first event, else its body."""
    ended_ms: float
    status: int | None
    """The target's own."""
    error_code: str | None
    """`connect_failed`, `upstream_timeout`, `upstream_failed` (it broke off), `client_gone`, or the row's own."""


def attempts_text(attempts: Sequence[Attempt]) -> str:
    """As a row holds them."""
    return orjson.dumps(attempts).decode()


def attempts_of(text: str | None) -> list[Attempt] | None:
    """None where there is no list. Raises ValueError for what no row holds."""
    return None if text is None else cast("list[Attempt]", orjson.loads(text))


def told(fields: dict[str, Any]) -> dict[str, Any]:
    """A row's fields by name, its attempts as a list: changed in place."""
    fields["attempt_log"] = attempts_of(fields["attempt_log"])
    return fields
