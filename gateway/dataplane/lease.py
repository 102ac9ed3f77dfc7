"""One worker's leases, and what requests hold of them: figures, no I/O. The protocol is docs/quotas.md; who asks and is
granted is `leases.LeaseBook`."""

import asyncio
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from gateway.policy.model import Limit, Window
from gateway.policy.quota import COST_INDEX, METRIC_INDEX, SLOT_INDEX, Amounts, AmountVector
from gateway.policy.usage import Charges
from gateway.policy.windows import NEVER_S


class Lease:
    """One limit in one window, as far as this worker may spend it: `granted` is `available + used + reserved`."""

    __slots__ = (
        "account",
        "asked_at_s",
        "asking",
        "at_most",
        "available",
        "granted",
        "settled",
        "tight",
        "used",
        "window",
        "window_end_s",
        "window_start_s",
        "wish",
    )

    def __init__(self, account: int, start_s: int, at_most: int) -> None:
        self.account = account
        self.window = Window.LIFETIME
        self.window_start_s = start_s
        self.window_end_s = NEVER_S
        self.available = 0
        """May be spent without asking; negative where an answer used more than it had reserved."""
        self.used = 0
        self.granted = 0
        self.tight = False
        """The limit is near: what becomes free goes back at once, and each reservation is asked for."""
        self.at_most = at_most
        self.settled = 0
        """What all workers have used, as last told: it only grows, so a refusal because of it is exact."""
        self.wish = 0
        self.asked_at_s = 0.0
        self.asking: asyncio.Future[dict[str, Any]] | None = None
        """The answer to an ask that is under way."""

    @property
    def reserved(self) -> int:
        """What calls under way may still use: not kept, as two sums a call and limit would be."""
        return self.granted - self.used - self.available

    def take_idle(self) -> int:
        """What is idle is granted no more; returned."""
        idle = max(0, self.available)
        self.available -= idle
        self.granted -= idle
        return idle


class Reservation:
    """What one request holds of its limits: `amounts` of `leases`, whose metrics are `codes` (METRIC_INDEX).

    Settled once; settling again returns the same charges. Only the book changes it."""

    __slots__ = ("amounts", "codes", "leases", "limits", "need", "settled")

    def __init__(
        self,
        limits: tuple[Limit, ...],
        need: Amounts,
        leases: Sequence[Lease],
        codes: Sequence[int],
        amounts: Sequence[int],
    ) -> None:
        self.limits = limits
        self.need = need
        self.leases = leases
        self.codes = codes
        self.amounts = amounts
        self.settled: Charges | None = None

    def charges(self) -> Charges:
        """What the open record carries: the most that this request can be charged, if nobody settles it."""
        charges: list[int] = []
        for lease, code, amount in zip(self.leases, self.codes, self.amounts, strict=True):
            if amount and code != SLOT_INDEX:
                charges += (lease.account, lease.window_start_s, amount)
        return tuple(charges)

    def overrun_tokens(self, used: Amounts) -> int:
        """Tokens used beyond the reservation: what a ledger row calls `overrun`."""
        return max(0, used.tokens - self.need.tokens)


class LeasePlan:
    """The leases of one tuple of limits, in their order, good from `from_s` until the first of their windows ends."""

    __slots__ = (
        "amounts_of", "at_mosts", "codes", "counts_cost", "counts_slots", "from_s", "leases", "limits", "until_s"
    )  # fmt: skip

    def __init__(self, limits: tuple[Limit, ...], leases: tuple[Lease, ...]) -> None:
        self.limits = limits
        self.leases = leases
        self.codes = tuple([METRIC_INDEX[limit.metric] for limit in limits])
        self.amounts_of: Callable[[AmountVector], Sequence[int]] = _picking(self.codes)
        self.at_mosts = tuple([limit.at_most for limit in limits])
        self.counts_cost = COST_INDEX in self.codes
        self.counts_slots = SLOT_INDEX in self.codes
        self.from_s = max((lease.window_start_s for lease in leases), default=0)
        self.until_s = min((lease.window_end_s for lease in leases), default=NEVER_S)

    @property
    def accounts(self) -> list[tuple[int, int]]:
        """(account, window start) of all that is charged: slots are not."""
        return [
            (lease.account, lease.window_start_s)
            for lease, code in zip(self.leases, self.codes, strict=True)
            if code != SLOT_INDEX
        ]

    def charges(self, amounts: Sequence[int]) -> Sequence[int]:
        """Those of `amounts` that belong to `accounts`."""
        if not self.counts_slots:
            return amounts
        return [amount for amount, code in zip(amounts, self.codes, strict=True) if code != SLOT_INDEX]

    def put_back(self, amounts: Sequence[int]) -> None:
        """What `take` reserved is not needed after all, and no time has passed since."""
        for lease, amount in zip(self.leases, amounts, strict=True):
            lease.available += amount

    def take(self, vector: AmountVector) -> Sequence[int] | None:
        """Reserve `vector`, all or nothing. Returns the amount of each lease; None: they do not hold it."""
        amounts = self.amounts_of(vector)
        lacking = False
        for lease, amount in zip(self.leases, amounts):  # noqa: B905 - on every call
            lease.available = left = lease.available - amount
            if left < 0:
                lacking = True
        if lacking:
            self.put_back(amounts)
            return None
        return amounts


def _picking(codes: tuple[int, ...]) -> Callable[[AmountVector], Sequence[int]]:
    """What picks these elements of a vector, in one step where there are several."""
    if len(codes) > 1:
        return itemgetter(*codes)
    return lambda vector: [vector[code] for code in codes]
