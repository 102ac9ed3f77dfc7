"""What a long session holds of its limits: one request and one slot while it lasts, tokens and cost turn by turn.

Each turn is reserved by itself and settled with what the provider reports at its end, in the window in which it began.
So limits hold within a session, and what it has used so far is charged wherever it breaks off (docs/quotas.md).
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from gateway.dataplane.lease import Reservation
from gateway.dataplane.leases import LeaseBook
from gateway.policy.model import Limit, Metric
from gateway.policy.quota import Amounts
from gateway.policy.usage import Charges

PER_SESSION: Final = frozenset({Metric.REQUESTS, Metric.CONCURRENT_REQUESTS})
MOST_CHARGES: Final = 48
"""As many as a record can hold. Of a longer session, the windows that began first are no longer named: what they count
is no longer in force."""


class SessionQuota:
    """The limits of one session, from its admission on."""

    def __init__(self, book: LeaseBook, admitted: Reservation) -> None:
        """`admitted`: the reservation of the session and its first turn together; it is settled here from now on."""
        self._book = book
        self._limits = turn_limits(admitted.limits)
        self._session = _part(admitted, [limit.metric in PER_SESSION for limit in admitted.limits], admitted.limits)
        self._turn = _part(admitted, [limit.metric not in PER_SESSION for limit in admitted.limits], self._limits)
        self._charges: dict[tuple[int, int], int] = {}
        self._ended = False
        self.overrun = 0
        """Tokens that turns used beyond their reservations."""

    @property
    def in_turn(self) -> bool:
        """Whether the next turn is reserved."""
        return self._turn.settled is None

    def end_turn(self, used: Amounts) -> None:
        """Charge what a turn has used. Without a reservation, which may be on its way, it is an overrun whole."""
        turn = self._turn
        if turn.settled is not None:
            turn = Reservation(turn.limits, Amounts(0, 0, 0), turn.leases, turn.codes, [0] * len(turn.codes))
        self.overrun += turn.overrun_tokens(used)
        self._note(self._book.settle(turn, used))
        self._turn.settled = ()

    def try_turn(self, need: Amounts, now_s: float) -> bool:
        """Reserve the next turn from what is leased; False: `reserve_turn` has to ask. Raises as `try_reserve`."""
        reserved = self._book.try_reserve(self._limits, need, now_s)
        if reserved is None:
            return False
        self._turn = reserved
        return True

    async def reserve_turn(self, need: Amounts, now_s: float) -> None:
        """Reserve the next turn. Raises as `LeaseBook.reserve`."""
        reserved = await self._book.reserve(self._limits, need, now_s)
        if self._ended:
            self._book.release(reserved)
        else:
            self._turn = reserved

    def open_charges(self) -> Charges:
        """The most that the session can be charged if nobody settles it."""
        charges = dict(self._charges)
        _add(charges, self._session.charges())
        if self.in_turn:
            _add(charges, self._turn.charges())
        return _flat(charges)

    def end(self, reservation: Reservation, used: Amounts) -> Charges:
        """Settle all that is held, `used` being what no turn was charged with yet. `reservation`, the one of the
        admission, is marked as settled. Returns the close record's charges."""
        if not self._ended:
            self._ended = True
            self.end_turn(used)
            self._note(self._book.settle(self._session, Amounts(0, 0, 0)))
        charges = reservation.settled = _flat(self._charges)
        return charges

    def _note(self, charges: Charges) -> None:
        _add(self._charges, charges)
        if len(self._charges) > MOST_CHARGES:
            oldest_first = sorted(self._charges, key=lambda key: key[1] or 1 << 62)  # 0: lifetime
            for key in oldest_first[:-MOST_CHARGES]:
                del self._charges[key]


@lru_cache(maxsize=1024)
def turn_limits(limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
    """Those that a turn counts for. The same tuple for the same limits: the lease book knows them by their identity."""
    return tuple(limit for limit in limits if limit.metric not in PER_SESSION)


def _part(whole: Reservation, chosen: Iterable[bool], limits: tuple[Limit, ...]) -> Reservation:
    places = [place for place, wanted in enumerate(chosen) if wanted]
    return Reservation(
        limits,
        whole.need,
        [whole.leases[place] for place in places],
        [whole.codes[place] for place in places],
        [whole.amounts[place] for place in places],
    )


def _add(charges: dict[tuple[int, int], int], more: Charges) -> None:
    for at in range(0, len(more), 3):
        key = (more[at], more[at + 1])
        charges[key] = charges.get(key, 0) + more[at + 2]


def _flat(charges: dict[tuple[int, int], int]) -> Charges:
    return tuple(number for (account, start_s), amount in charges.items() for number in (account, start_s, amount))
