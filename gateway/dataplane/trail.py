"""What an exchange remembers of its attempts beyond the row's figures: made once it dials or an attempt fails.

Most requests go out at once on a connection from the pool and are answered: they have none, and it costs them nothing.
"""

from typing import Final

from gateway.policy.attempts import MOST_TOLD, Attempt
from gateway.policy.usage import LedgerRow

NONE_YET: Final = -1
"""An attempt dials and has no connection."""


class Trail:
    """Of one exchange. All times are those of `perf_counter_ns`."""

    __slots__ = ("_told", "attempts", "connect_ns")

    def __init__(self) -> None:
        self.connect_ns = 0
        """How long the attempt under way, or the last one, took to connect; 0: a connection was at hand."""
        self.attempts: list[Attempt] = []
        """Those that are to be told of."""
        self._told = 0
        """How many of the row's attempts have been added, those included that are no longer listed."""

    @property
    def connect_ms(self) -> float | None:
        return None if self.connect_ns < 0 else self.connect_ns // 1000 / 1000

    def add(
        self,
        row: LedgerRow,
        arrived_ns: int,
        started_ns: int,
        first_byte_ns: int,
        ended_ns: int,
        status: int | None,
        error_code: str | None,
    ) -> None:
        """The row's newest attempt has ended; added once. `first_byte_ns`: 0 = nothing came of an answer's body."""
        if self._told >= row.attempts:
            return
        self._told = row.attempts
        if len(self.attempts) == MOST_TOLD:
            del self.attempts[-1]
        if not first_byte_ns and status is not None:
            first_byte_ns = ended_ns  # all of the answer was its head
        self.attempts.append(
            {
                "target": row.target or "",
                "started_ms": (started_ns - arrived_ns) // 1000 / 1000,
                "connect_ms": self.connect_ms,
                "first_byte_ms": (first_byte_ns - arrived_ns) // 1000 / 1000 if first_byte_ns else None,
                "ended_ms": (ended_ns - arrived_ns) // 1000 / 1000,
                "status": status,
                "error_code": error_code,
            }
        )
