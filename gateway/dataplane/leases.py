"""What a worker may spend of each limit without asking: leases, and the reservations taken from them.

The protocol is docs/quotas.md. Everything here that decides is synchronous: on one event loop that makes it atomic.
Nothing is held while the keeper is asked, so a request that waits never makes another one be refused.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from gateway.dataplane.lease import Lease, LeasePlan, Reservation
from gateway.errors import LimitsUnavailable
from gateway.policy.model import Limit, WhenUnknown, Window
from gateway.policy.quota import (
    COST_INDEX,
    METRIC_INDEX,
    NOTHING,
    SLOT_INDEX,
    Amounts,
    AmountVector,
    LimitState,
    account_of,
    limit_exceeded,
    price_unknown,
    request_exceeds_limit,
)
from gateway.policy.usage import Charges
from gateway.policy.windows import window_end_s, window_start_s

ASK_TIMEOUT_S: Final = 1.0
"""How long a request waits for the authority, reconnecting included."""
ROUNDS_BEFORE_ALL: Final = 3
"""After so many answers that were spent by others before we came, every limit is asked for at once."""
MAX_PLANS: Final = 4096
PAST_KEPT_S: Final = 60
SMALLEST_WISH: Final = 64
"""A worker wishes for one part in so many of a limit, or four such requests."""
WISH_GROWS_WITHIN_S: Final = 0.25
WISH_SHRINKS_AFTER_S: Final = 2.0

LeaseKey = tuple[int, int]
"""Account number (`quota.account_of`) and window start."""


class Authority(Protocol):
    """Who grants: the keeper, through `KeeperLink`."""

    @property
    def connected(self) -> bool: ...

    def attach(self, book: "LeaseBook") -> None:
        """`book` takes what the authority sends, and tells its leases when a connection begins."""

    def send(self, message: dict[str, Any]) -> None:
        """Queue a frame; without a connection it is dropped (the next hello tells everything)."""

    async def wait_connected(self, deadline_s: float) -> bool:
        """Whether a connection stands, at the latest at `deadline_s` (event-loop time). Gives up at once when the
        authority has been away for longer than `ASK_TIMEOUT_S`."""


class _Claim:
    """A request that waits for the authority: `take` is called the moment its answer is read."""

    __slots__ = ("answer", "deltas", "leases", "taken")

    def __init__(
        self, leases: Sequence[Lease], deltas: Sequence[int], answer: "asyncio.Future[dict[str, Any]]"
    ) -> None:
        self.leases = leases
        self.deltas = deltas
        self.answer = answer
        self.taken = False


class LeaseBook:
    """All leases of one worker."""

    def __init__(self, link: Authority, clock: Callable[[], float] = time.time) -> None:
        self._authority = link
        self._clock = clock
        self._plans: dict[int, LeasePlan] = {}
        self._leases: dict[LeaseKey, Lease] = {}
        self._current: dict[int, Lease] = {}
        self._claims: dict[int, _Claim] = {}
        self._next_seq = 0
        self._returns: dict[LeaseKey, int] = {}
        self._flushing = False
        link.attach(self)

    # -- for the exchange -------------------------------------------------------------------------------------------

    def try_reserve(self, limits: tuple[Limit, ...], need: Amounts, now_s: float) -> Reservation | None:
        """Reserve from what is leased, with no I/O. None: the authority must be asked (`reserve`).

        Raises RequestExceedsLimit, and BadRequest `price_unknown`."""
        plan = self.plan_of(limits, now_s)
        vector = need.needed()
        amounts = [vector[code] for code in plan.codes]
        if plan.counts_cost and need.cost_microusd is None:
            _check_priced(limits)
        fits = True
        for lease, at_most, amount in zip(plan.leases, plan.at_mosts, amounts, strict=True):
            if amount > lease.available:
                fits = False
            if amount > at_most:
                raise _exceeds(limits, amounts)
        if not fits:
            return None
        for lease, amount in zip(plan.leases, amounts, strict=True):
            lease.available -= amount
        return Reservation(limits, need, plan.leases, plan.codes, amounts)

    async def reserve(self, limits: tuple[Limit, ...], need: Amounts, now_s: float) -> Reservation:
        """Reserve, asking the authority where the leases do not reach.

        Raises LimitExceeded, LimitsUnavailable, RequestExceedsLimit, and BadRequest `price_unknown`."""
        reservation = self.try_reserve(limits, need, now_s)
        if reservation is not None:
            return reservation
        plan = self._plans[id(limits)]
        vector = need.needed()
        amounts = [vector[code] for code in plan.codes]
        await self._acquire(limits, plan.leases, amounts)
        return Reservation(limits, need, plan.leases, plan.codes, amounts)

    async def move(
        self, reservation: Reservation, limits: tuple[Limit, ...], need: Amounts, now_s: float
    ) -> Reservation:
        """The reservation for another target: what both share is kept and adjusted by the difference (in the window
        it was admitted in), what only the old target needed is released. Raises like `reserve`; then `reservation`
        stands as it was."""
        plan = self.plan_of(limits, now_s)
        if plan.counts_cost and need.cost_microusd is None:
            _check_priced(limits)
        held = {
            lease.account: (lease, amount)
            for lease, amount in zip(reservation.leases, reservation.amounts, strict=True)
        }
        vector = need.needed()
        amounts = [vector[code] for code in plan.codes]
        if any(amount > at_most for amount, at_most in zip(amounts, plan.at_mosts, strict=True)):
            raise _exceeds(limits, amounts)
        leases = [held[lease.account][0] if lease.account in held else lease for lease in plan.leases]
        deltas = [
            amount - held[lease.account][1] if lease.account in held else amount
            for lease, amount in zip(leases, amounts, strict=True)
        ]
        if not _take(leases, deltas):
            await self._acquire(limits, leases, deltas)
        moved = Reservation(limits, need, leases, plan.codes, amounts)
        kept = {lease.account for lease in leases}
        for lease, amount in zip(reservation.leases, reservation.amounts, strict=True):
            if lease.account not in kept:
                self._free(lease, amount, 0)
        for lease, delta in zip(leases, deltas, strict=True):
            if delta < 0 and lease.tight:
                self._give_back(lease)
        reservation.settled = ()
        return moved

    def settle(self, reservation: Reservation, used: Amounts) -> Charges:
        """End the reservation: what was used is charged, the rest is free again. Returns the close record's charges.

        A cost that is not known is charged as it was reserved."""
        settled = reservation.settled
        if settled is not None:
            return settled
        vector: AmountVector = used.settled()
        cost_known = used.cost_microusd is not None
        charges: list[int] = []
        for lease, code, amount in zip(reservation.leases, reservation.codes, reservation.amounts, strict=True):
            actual = vector[code] if cost_known or code != COST_INDEX else amount
            lease.used += actual
            lease.available += amount - actual
            if lease.tight:
                self._give_back(lease)
            if actual:
                charges += (lease.account, lease.window_start_s, actual)
        settled = reservation.settled = tuple(charges)
        return settled

    def plan_of(self, limits: tuple[Limit, ...], now_s: float) -> LeasePlan:
        """The leases of these limits at this time."""
        plan = self._plans.get(id(limits))
        if plan is None or plan.limits is not limits or not plan.from_s <= now_s < plan.until_s:
            plan = self._make_plan(limits, now_s)
        return plan

    def settle_at(self, plan: LeasePlan, amounts: Sequence[int], vector: AmountVector) -> Sequence[int]:
        """`settle` for amounts that were taken by `LeasePlan.take`. Returns what each account is charged."""
        charged = plan.amounts_of(vector)
        for lease, amount, actual in zip(plan.leases, amounts, charged):  # noqa: B905 - as many as were taken
            lease.used += actual
            lease.available += amount - actual
            if lease.tight:
                self._give_back(lease)
        return plan.charges(charged) if plan.counts_slots else charged

    def release(self, reservation: Reservation) -> Charges:
        """End a reservation for which no upstream was asked: nothing is charged."""
        return self.settle(reservation, NOTHING)

    # -- for the authority ------------------------------------------------------------------------------------------

    def view(self) -> list[list[int]]:
        """`[limit, window start, granted]` of each lease, for the hello of a new connection.

        What was on its way when the last connection ended is settled by this: the authority takes our word."""
        self._returns.clear()
        for lease in self._leases.values():
            lease.tight = False
        return [[lease.account, lease.window_start_s, lease.granted] for lease in self._leases.values()]

    def disconnected(self) -> None:
        """Nothing that was asked for will be answered on that connection; nothing need be given back on it."""
        for claim in self._claims.values():
            if not claim.answer.done():
                claim.answer.set_result({"lost": True})
        self._claims.clear()
        for lease in self._leases.values():
            lease.tight = False

    def on_granted(self, message: dict[str, Any]) -> None:
        """The answer to an ask: the leases grow, and the claim that asked is served before anybody else."""
        for account, start_s, delta, tight, settled in message["leases"]:
            lease = self._leases.get((account, start_s))
            if lease is not None:
                lease.available += delta
                lease.granted += delta
                if tight is not None:
                    lease.tight = bool(tight)
                lease.settled = max(lease.settled, settled)
        claim = self._claims.pop(message["seq"], None)
        if claim is not None and not claim.answer.done():
            if not message["refused"] and not message["unavailable"]:
                claim.taken = _take(claim.leases, claim.deltas)
            claim.answer.set_result(message)
        for account, start_s, *_ in message["leases"]:
            lease = self._leases.get((account, start_s))
            if lease is not None and lease.tight:
                self._give_back(lease)

    def on_recall(self, keys: Sequence[Sequence[int]]) -> list[list[int]]:
        """Give back all idle parts and go tight: `[limit, start, returned, used, reserved, was tight]` for each."""
        answers = []
        for account, start_s in keys:
            lease = self._leases.get((account, start_s))
            if lease is None:
                answers.append([account, start_s, 0, 0, 0, 1])
                continue
            idle = lease.take_idle()
            idle += self._returns.pop((account, start_s), 0)
            answers.append([account, start_s, idle, lease.used, lease.reserved, int(lease.tight)])
            lease.tight = True
        return answers

    def on_report(self, keys: Sequence[Sequence[int]]) -> list[list[int]]:
        """`[limit, start, used, reserved]` of each lease that exists."""
        found = [self._leases.get((account, start_s)) for account, start_s in keys]
        return [[lease.account, lease.window_start_s, lease.used, lease.reserved] for lease in found if lease]

    # -- within -----------------------------------------------------------------------------------------------------

    async def _acquire(self, limits: tuple[Limit, ...], leases: Sequence[Lease], deltas: Sequence[int]) -> None:
        """Take `deltas` from `leases`, all or none, asking until the authority grants or refuses."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + ASK_TIMEOUT_S
        rounds = 0
        waited = False
        while not _take(leases, deltas):
            lacking = [i for i, lease in enumerate(leases) if lease.available < deltas[i]]
            now_s = self._clock()
            for i in lacking:
                if deltas[i] > 0 and leases[i].settled + deltas[i] > limits[i].at_most:
                    raise self._refusal(limits[i], leases[i], deltas[i], now_s)
            if loop.time() >= deadline_s or not await self._authority.wait_connected(deadline_s):
                return self._admit_without(limits, leases, deltas, lacking)
            lacking = [i for i, lease in enumerate(leases) if lease.available < deltas[i]]
            rounds += 1
            if rounds > ROUNDS_BEFORE_ALL:
                lacking = list(range(len(leases)))
            if not lacking:
                continue
            asked = [lease.asking for lease in map(leases.__getitem__, lacking) if lease.asking and not lease.tight]
            if len(asked) == len(lacking) and not waited:
                # Others have asked already, for much more than they need: at the beginning of a window hundreds would.
                waited = True
                await asyncio.wait(asked, timeout=deadline_s - loop.time())
                continue
            claim = _Claim(leases, deltas, loop.create_future())
            message = await self._ask(claim, lacking, limits, deadline_s, now_s)
            if claim.taken:
                return None
            if message is None or message.get("unavailable"):
                return self._admit_without(limits, leases, deltas, lacking)
            for account, start_s, used, reserved, at_most in message.get("refused", ()):
                for i in lacking:
                    lease = leases[i]
                    if lease.account == account and lease.window_start_s == start_s:
                        state = LimitState(
                            used=used, reserved=reserved, at_most=at_most, resets_at_s=lease.window_end_s
                        )
                        raise limit_exceeded(limits[i], state, deltas[i], self._clock())
        return None

    async def _ask(
        self, claim: _Claim, lacking: Sequence[int], limits: Sequence[Limit], deadline_s: float, now_s: float
    ) -> dict[str, Any] | None:
        """One question and its answer; None when none came in time."""
        self._next_seq += 1
        seq = self._next_seq
        items = []
        for i in lacking:
            lease, need = claim.leases[i], max(0, claim.deltas[i])
            idle = lease.take_idle()
            items.append(
                [
                    lease.account,
                    lease.window_start_s,
                    need,
                    _wish(lease, need, now_s),
                    idle + self._returns.pop((lease.account, lease.window_start_s), 0),
                    -lease.available,
                ]
            )
        self._claims[seq] = claim
        for i in lacking:
            claim.leases[i].asking = claim.answer
        self._authority.send({"type": "ask", "seq": seq, "items": items})
        try:
            async with asyncio.timeout_at(deadline_s):
                return await claim.answer
        except TimeoutError:
            return None
        except asyncio.CancelledError:
            if claim.taken:
                for lease, delta in zip(claim.leases, claim.deltas, strict=True):
                    self._free(lease, delta, 0)
            raise
        finally:
            self._claims.pop(seq, None)
            claim.answer.cancel()  # of one that was not answered: whoever waits for it asks for itself
            for i in lacking:
                if claim.leases[i].asking is claim.answer:
                    claim.leases[i].asking = None

    def _admit_without(
        self, limits: Sequence[Limit], leases: Sequence[Lease], deltas: Sequence[int], lacking: Sequence[int]
    ) -> None:
        """The authority is away: admit where every lacking limit says so, as a debt that the next lease covers."""
        for i in lacking:
            if limits[i].when_unavailable is not WhenUnknown.ADMIT:
                raise LimitsUnavailable(
                    f"limit {limits[i].name} cannot be checked: its authority does not answer",
                    fix="retry shortly; the gateway's operator finds the cause with `sluicegate doctor`",
                    retry_after_s=1.0,
                    limit=limits[i].name,
                )
        for lease, delta in zip(leases, deltas, strict=True):
            lease.available -= delta

    def _refusal(self, limit: Limit, lease: Lease, need: int, now_s: float) -> Exception:
        state = LimitState(
            used=lease.settled, reserved=lease.reserved, at_most=limit.at_most, resets_at_s=lease.window_end_s
        )
        return limit_exceeded(limit, state, need, now_s)

    def _make_plan(self, limits: tuple[Limit, ...], now_s: float) -> LeasePlan:
        if len(self._plans) >= MAX_PLANS:
            self._plans.clear()
        plan = LeasePlan(limits, tuple([self._lease_of(limit, now_s) for limit in limits]))
        self._plans[id(limits)] = plan
        return plan

    def _lease_of(self, limit: Limit, now_s: float) -> Lease:
        """The lease of the window that holds `now_s`. A clock that steps back stays in the window it was in."""
        window = Window.LIFETIME if METRIC_INDEX[limit.metric] == SLOT_INDEX else limit.window
        start_s = window_start_s(window, now_s)
        account = account_of(limit.id, limit.metric)
        lease = self._current.get(account)
        if lease is None or start_s > lease.window_start_s or now_s >= lease.window_end_s or window is not lease.window:
            lease = self._leases.get((account, start_s))
            if lease is None:
                self._forget_past(now_s)
                lease = self._leases[account, start_s] = Lease(account, start_s, limit.at_most)
            lease.window, lease.window_end_s = window, window_end_s(window, start_s)
            self._current[account] = lease
        if limit.at_most < lease.at_most:  # lowered: what is idle was granted under another limit
            self._give_back(lease)
            lease.take_idle()  # without a connection too: the next hello tells it
        lease.at_most = limit.at_most
        return lease

    def _forget_past(self, now_s: float) -> None:
        """Drop leases of windows that ended a while ago: nobody grants from those any more."""
        if len(self._leases) > 2 * len(self._current) + 64:
            gone = [key for key, lease in self._leases.items() if lease.window_end_s + PAST_KEPT_S < now_s]
            for key in gone:
                del self._leases[key]

    def _free(self, lease: Lease, amount: int, actual: int) -> None:
        lease.used += actual
        lease.available += amount - actual
        if lease.tight:
            self._give_back(lease)

    def _give_back(self, lease: Lease) -> None:
        """Return the idle part; what is given back within one turn of the event loop travels in one frame."""
        if lease.available <= 0 or not self._authority.connected:
            return
        idle = lease.take_idle()
        key = (lease.account, lease.window_start_s)
        self._returns[key] = self._returns.get(key, 0) + idle
        if not self._flushing:
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush_returns)

    def _flush_returns(self) -> None:
        self._flushing = False
        if self._returns:
            leases = [[account, start_s, amount] for (account, start_s), amount in self._returns.items()]
            self._returns.clear()
            self._authority.send({"type": "give", "leases": leases})


def _take(leases: Sequence[Lease], deltas: Sequence[int]) -> bool:
    """Reserve all or nothing of what is available now."""
    for lease, delta in zip(leases, deltas, strict=True):
        if delta > 0 and delta > lease.available:
            return False
    for lease, delta in zip(leases, deltas, strict=True):
        lease.available -= delta
    return True


def _wish(lease: Lease, need: int, now_s: float) -> int:
    """How much to lease beyond the need: doubled while asks come quickly, halved when they are rare, at least a small
    part of the limit, so that a worker has something to spend when the authority goes away."""
    since_s = now_s - lease.asked_at_s
    lease.asked_at_s = now_s
    if since_s < WISH_GROWS_WITHIN_S:
        lease.wish = min(lease.at_most, lease.wish * 2)
    elif since_s > WISH_SHRINKS_AFTER_S:
        lease.wish //= 2
    lease.wish = max(lease.wish, 4 * need, lease.at_most // SMALLEST_WISH)
    return lease.wish


def _check_priced(limits: Sequence[Limit]) -> None:
    for limit in limits:
        if METRIC_INDEX[limit.metric] == COST_INDEX and limit.unpriced is not WhenUnknown.ADMIT:
            raise price_unknown(limit)


def _exceeds(limits: Sequence[Limit], amounts: Sequence[int]) -> Exception:
    for limit, amount in zip(limits, amounts, strict=True):
        if amount > limit.at_most:
            return request_exceeds_limit(limit, amount)
    raise AssertionError("no amount exceeds its limit")
