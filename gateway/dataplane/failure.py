"""How an attempt fails before its caller has seen a byte of an answer."""

import enum
from dataclasses import dataclass, field
from typing import Final

from gateway.dataplane.request import Headers
from gateway.errors import UpstreamFailed, UpstreamTimeout


class Fault(enum.Enum):
    CONNECT = enum.auto()
    STATUS = enum.auto()
    BROKEN = enum.auto()
    TIMEOUT = enum.auto()


CODES: Final = {
    Fault.CONNECT: "connect_failed",
    Fault.STATUS: None,
    Fault.BROKEN: UpstreamFailed.code,
    Fault.TIMEOUT: UpstreamTimeout.code,
}
"""What the ledger calls them; of a refusal its status says it all."""


@dataclass(slots=True)
class Failure:
    """One failed attempt."""

    fault: Fault
    reason: str
    sent: bool
    """Whether the upstream may have seen the request."""
    status: int | None = None
    headers: Headers = field(default_factory=list)
    body: bytes = b""


def reason_of(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
