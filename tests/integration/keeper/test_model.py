"""Hypothesis drives a model of limits beside real books, a real keeper and a real database: same answers, always.

The model is what a caller may rely on: a reservation is admitted if, and only if, `settled + in flight + need ≤
at_most` for each of its limits.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.dataplane.lease import Reservation
from gateway.errors import LimitExceeded, RequestExceedsLimit
from gateway.policy.model import Limit, Metric, Scope
from gateway.policy.quota import Amounts
from gateway.policy.usage import LedgerRow
from gateway.store.keeper import Keeper
from tests.integration.keeper.conftest import Ground, Worker, eventually

WORKERS: Final = 3
METRICS: Final = (Metric.TOTAL_TOKENS, Metric.REQUESTS, Metric.CONCURRENT_REQUESTS)


@dataclass(frozen=True)
class Reserve:
    worker: int
    limits: frozenset[int]
    tokens: int


@dataclass(frozen=True)
class Settle:
    which: int
    percent: int
    """Of the reserved tokens; above 100 is an overrun."""


@dataclass(frozen=True)
class Release:
    which: int


@dataclass(frozen=True)
class Crash:
    worker: int


@dataclass(frozen=True)
class RestartKeeper:
    pass


@dataclass(frozen=True)
class Change:
    limit: int
    at_most: int


Step = Reserve | Settle | Release | Crash | RestartKeeper | Change

RESERVE = st.builds(
    Reserve,
    worker=st.integers(0, WORKERS - 1),
    limits=st.frozensets(st.integers(0, 2), min_size=1),
    tokens=st.integers(1, 60),
)
STEPS = st.lists(
    st.one_of(
        RESERVE,
        RESERVE,
        RESERVE,
        st.builds(Settle, which=st.integers(0, 9), percent=st.sampled_from([0, 30, 100, 100, 140])),
        st.builds(Settle, which=st.integers(0, 9), percent=st.sampled_from([0, 30, 100])),
        st.builds(Release, which=st.integers(0, 9)),
        st.builds(Crash, worker=st.integers(0, WORKERS - 1)),
        st.just(RestartKeeper()),
        st.builds(Change, limit=st.integers(0, 2), at_most=st.integers(1, 120) | st.integers(120, 1_500)),
    ),
    max_size=40,
)
CAPS = st.tuples(
    # Small ones live from single reservations, large ones from slices that are spent without asking.
    st.integers(20, 150) | st.integers(150, 1_500),
    st.integers(1, 12) | st.integers(12, 60),
    st.integers(1, 6) | st.integers(6, 30),
)


@dataclass
class Account:
    """The model of one limit."""

    metric: Metric
    at_most: int
    settled: int = 0
    reserved: int = 0

    def need(self, tokens: int) -> int:
        return tokens if self.metric is Metric.TOTAL_TOKENS else 1

    def charge(self, tokens: int) -> int:
        return {Metric.TOTAL_TOKENS: tokens, Metric.REQUESTS: 1}.get(self.metric, 0)


@dataclass
class Held:
    worker: int
    limits: list[int]
    tokens: int
    reservation: Reservation
    row: LedgerRow


@dataclass
class Stage:
    """Real workers and keeper, kept from one example to the next; limits are new in each."""

    ground: Ground
    workers: list[Worker] = field(default_factory=list)
    keeper: "asyncio.Task[None] | None" = None

    async def begin(self) -> None:
        self.start_keeper()
        for _ in range(WORKERS):
            self.workers.append(await Worker(self.ground.settings).connected())

    def start_keeper(self) -> None:
        self.keeper = asyncio.get_running_loop().create_task(Keeper(self.ground.settings).run())

    async def end_keeper(self) -> None:
        assert self.keeper is not None
        self.keeper.cancel()
        await asyncio.gather(self.keeper, return_exceptions=True)

    async def end(self) -> None:
        for worker in self.workers:
            await worker.die()
        await self.end_keeper()

    async def flush(self) -> None:
        await asyncio.to_thread(self.ground.client.flush)


async def play(stage: Stage, caps: tuple[int, int, int], steps: list[Step]) -> None:
    ground = stage.ground
    limits = [ground.limit(cap, metric) for cap, metric in zip(caps, METRICS, strict=True)]
    model = [Account(metric, cap) for cap, metric in zip(caps, METRICS, strict=True)]
    held: list[Held] = []
    for step in steps:
        match step:
            case Reserve():
                await _reserve(stage, limits, model, held, step)
            case Settle() if held:
                await _settle(stage, model, held.pop(step.which % len(held)), step.percent)
            case Release() if held:
                each = held.pop(step.which % len(held))
                for i in each.limits:
                    model[i].reserved -= model[i].need(each.tokens)
                stage.workers[each.worker].spool.close(
                    each.row, stage.workers[each.worker].book.release(each.reservation)
                )
            case Crash():
                await _crash(stage, model, held, step.worker)
            case RestartKeeper():
                await stage.end_keeper()
                stage.start_keeper()
                for worker in stage.workers:
                    await worker.connected()
            case Change():
                ground.change_limit(limits[step.limit], step.at_most)
                old = limits[step.limit]
                limits[step.limit] = Limit(
                    id=old.id, name=old.name, scope=Scope(), metric=old.metric, window=old.window, at_most=step.at_most
                )
                model[step.limit].at_most = step.at_most
            case _:
                pass
    for limit, account in zip(limits, model, strict=True):
        state = await stage.workers[0].link.limit_state(limit.id)
        assert state is not None
        assert (state.used, state.reserved, state.at_most) == (account.settled, account.reserved, account.at_most)
    while held:
        await _settle(stage, model, held.pop(), 100)
    await stage.flush()
    for limit, account in zip(limits, model, strict=True):
        assert ground.account(limit)[0] == account.settled


async def _reserve(stage: Stage, limits: list[Limit], model: list[Account], held: list[Held], step: Reserve) -> None:
    worker = stage.workers[step.worker]
    chosen = sorted(step.limits)
    accounts = [model[i] for i in chosen]
    needs = [account.need(step.tokens) for account in accounts]
    expected: type[Exception] | None = None
    if any(a.settled + a.reserved + need > a.at_most for a, need in zip(accounts, needs, strict=True)):
        expected = LimitExceeded
    if any(need > account.at_most for account, need in zip(accounts, needs, strict=True)):
        expected = RequestExceedsLimit
    asked = worker.reserve(tuple(limits[i] for i in chosen), Amounts(step.tokens, 0, 0))
    if expected is not None:
        with pytest.raises(expected):
            await asked
        return
    reservation = await asked
    for account, need in zip(accounts, needs, strict=True):
        account.reserved += need
    held.append(Held(step.worker, chosen, step.tokens, reservation, worker.open(reservation)))


async def _settle(stage: Stage, model: list[Account], each: Held, percent: int) -> None:
    used = each.tokens * percent // 100
    for i in each.limits:
        model[i].reserved -= model[i].need(each.tokens)
        model[i].settled += model[i].charge(used)
    stage.workers[each.worker].close(each.reservation, each.row, Amounts(used, 0, 0))
    if used > each.tokens:
        await stage.flush()  # until then the overrun is known to its worker alone


async def _crash(stage: Stage, model: list[Account], held: list[Held], worker: int) -> None:
    """What was in flight is charged as it was reserved."""
    dead = stage.workers[worker]
    await dead.die()
    for each in [each for each in held if each.worker == worker]:
        held.remove(each)
        for i in each.limits:
            model[i].reserved -= model[i].need(each.tokens)
            model[i].settled += model[i].charge(each.tokens)
    lock = stage.ground.settings.spool_folder / f"{dead.link.incarnation}.lock"
    await eventually(lambda: not lock.exists(), "the dead worker's spool is taken", 3)
    stage.workers[worker] = await Worker(stage.ground.settings).connected()


def test_the_real_thing_answers_as_the_model_does(quiet_ground: Ground) -> None:
    with asyncio.Runner() as runner:
        stage = Stage(quiet_ground)
        runner.run(stage.begin())

        @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
        @given(caps=CAPS, steps=STEPS)
        def check(caps: tuple[int, int, int], steps: list[Step]) -> None:
            runner.run(play(stage, caps, steps))

        try:
            check()
        finally:
            runner.run(stage.end())
