"""Leases, recall and refusals with a real keeper: cases of docs/quotas.md, one by one."""

import asyncio
import random
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from gateway.errors import BadRequest, LimitExceeded, LimitsUnavailable, RequestExceedsLimit
from gateway.policy.model import Limit, Metric, WhenUnknown, Window
from gateway.policy.quota import Amounts, account_of
from gateway.store import migrate
from gateway.store.database import write_session
from gateway.store.keeper import Keeper
from gateway.store.models import LimitRule
from tests.integration.keeper.conftest import Ground, eventually, workers

ONE = Amounts(10, 0, 0)


def test_every_unit_of_a_limit_can_be_reserved_from_workers_with_idle_slices(ground: Ground) -> None:
    """Four workers lease slices; then one alone takes all that is left, to the last token."""

    async def run() -> None:
        limit = ground.limit(1_000)
        async with workers(ground, 4) as made:
            for worker in made:
                worker.book.settle(await worker.reserve((limit,), ONE), Amounts(5, 0, 0))
            held = [await made[0].reserve((limit,), ONE) for _ in range(98)]
            with pytest.raises(LimitExceeded) as refusal:
                await made[1].reserve((limit,), ONE)
            assert refusal.value.fields["used"] + refusal.value.fields["reserved"] == 1_000
            made[0].book.release(held.pop())
            held.append(await made[2].reserve((limit,), ONE))

    asyncio.run(run())


def test_a_crowd_at_the_beginning_of_a_window_asks_once(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> None:
        limits = (ground.limit(1_000_000), ground.limit(1_000_000, Metric.REQUESTS))
        asks = 0
        async with workers(ground, 1) as (worker,):
            send = worker.link.send

            def counting(message: dict[str, Any]) -> None:
                nonlocal asks
                asks += message["type"] == "ask"
                send(message)

            monkeypatch.setattr(worker.link, "send", counting)
            held = await asyncio.gather(*[worker.reserve(limits, ONE) for _ in range(300)])
            assert asks == 1
            for reservation in held:
                worker.book.release(reservation)

    asyncio.run(run())


def test_one_reservation_as_large_as_the_limit_fits_while_idle_slices_are_out(ground: Ground) -> None:
    async def run() -> None:
        limit = ground.limit(10_000)
        async with workers(ground, 3) as made:
            for worker in made:
                worker.book.release(await worker.reserve((limit,), ONE))
            whole = await made[2].reserve((limit,), Amounts(10_000, 0, 0))
            with pytest.raises(LimitExceeded):
                await made[0].reserve((limit,), ONE)
            made[2].book.release(whole)
            await made[0].reserve((limit,), ONE)

    asyncio.run(run())


def test_concurrent_requests_are_slots(ground: Ground) -> None:
    async def run() -> None:
        limit = ground.limit(5, Metric.CONCURRENT_REQUESTS)
        async with workers(ground, 2) as made:
            held = [await made[i % 2].reserve((limit,), ONE) for i in range(5)]
            assert [reservation.charges() for reservation in held] == [()] * 5
            with pytest.raises(LimitExceeded) as refusal:
                await made[0].reserve((limit,), ONE)
            assert refusal.value.retry_after_s == 1.0
            assert refusal.value.fields["resets_at"] is None
            for turn in range(20):  # one ends, one begins, on whichever worker
                made[turn % 2].book.settle(held.pop(0), Amounts(1, 1, 1)) if turn % 2 == 0 else None
                if turn % 2 == 0:
                    held.append(await made[1].reserve((limit,), ONE))
                    held[-1], made_of_last = held[-1], made[1]
                    made_of_last.book.settle(held.pop(), ONE)
                    held.append(await made[0].reserve((limit,), ONE))

    asyncio.run(run())


def test_all_limits_of_a_request_or_none(ground: Ground) -> None:
    async def run() -> None:
        wide, narrow = ground.limit(1_000), ground.limit(2, Metric.REQUESTS)
        async with workers(ground, 2) as made:
            for worker in made:
                worker.book.settle(await worker.reserve((wide, narrow), ONE), ONE)
            with pytest.raises(LimitExceeded) as refusal:
                await made[0].reserve((wide, narrow), ONE)
            assert refusal.value.fields["limit"] == narrow.name
            state = await made[0].link.limit_state(wide.id)
            assert state is not None
            assert (state.used, state.reserved) == (20, 0)
            await made[1].reserve((wide,), Amounts(980, 0, 0))

    asyncio.run(run())


def test_overrun_is_a_debt_that_the_next_reservation_covers(ground: Ground) -> None:
    async def run() -> None:
        limit = ground.limit(1_000)
        async with workers(ground, 1) as (worker,):
            reservation = await worker.reserve((limit,), Amounts(100, 0, 0))
            assert reservation.overrun_tokens(Amounts(100, 750, 0)) == 750
            row = worker.open(reservation)
            worker.close(reservation, row, Amounts(100, 750, 0))
            await worker.reserve((limit,), Amounts(150, 0, 0))
            with pytest.raises(LimitExceeded):
                await worker.reserve((limit,), Amounts(1, 0, 0))

    asyncio.run(run())


def test_used_up_limits_are_refused_without_asking_until_they_are_raised(ground: Ground) -> None:
    async def run() -> None:
        limit = ground.limit(100, window=Window.MONTH)
        async with workers(ground, 1) as (worker,):
            reservation = await worker.reserve((limit,), Amounts(100, 0, 0))
            worker.close(reservation, worker.open(reservation), Amounts(100, 0, 0))
            await asyncio.to_thread(ground.client.flush)
            with pytest.raises(LimitExceeded):
                await worker.reserve((limit,), ONE)
            ground.kill_keeper()
            await eventually(lambda: not worker.link.connected, "loss of the keeper")
            before = time.monotonic()
            with pytest.raises(LimitExceeded) as refusal:
                await worker.reserve((limit,), ONE)
            assert time.monotonic() - before < 0.1
            assert refusal.value.fields | {"resets_at": ""} == {
                "limit": limit.name,
                "metric": "total_tokens",
                "used": 100,
                "reserved": 0,
                "at_most": 100,
                "need": 10,
                "resets_at": "",
            }
            assert refusal.value.retry_after_s is not None
            ground.start_keeper()
            ground.change_limit(limit, 110)
            raised = Limit(
                id=limit.id, name=limit.name, scope=limit.scope, metric=limit.metric, window=limit.window, at_most=110
            )
            await worker.connected()
            await worker.reserve((raised,), ONE)

    asyncio.run(run())


def test_a_used_up_lifetime_limit_is_not_worth_a_retry(ground: Ground) -> None:
    async def run() -> None:
        limit = ground.limit(2_000_000, Metric.COST_USD)
        async with workers(ground, 1) as (worker,):
            reservation = await worker.reserve((limit,), Amounts(1, 1, 1_500_000))
            worker.close(reservation, worker.open(reservation), Amounts(1, 1, 1_500_000))
            with pytest.raises(LimitExceeded) as refusal:
                await worker.reserve((limit,), Amounts(1, 1, 600_000))
            assert not refusal.value.retryable
            assert refusal.value.retry_after_s is None
            fields = refusal.value.fields
            assert (fields["used"], fields["at_most"], fields["need"]) == (1.5, 2.0, 0.6)

    asyncio.run(run())


def test_what_cannot_ever_fit_is_a_bad_request(ground: Ground) -> None:
    async def run() -> None:
        tokens, money = ground.limit(100), ground.limit(100, Metric.COST_USD)
        async with workers(ground, 1) as (worker,):
            with pytest.raises(RequestExceedsLimit):
                await worker.reserve((tokens,), Amounts(101, 0, 0))
            with pytest.raises(BadRequest) as refusal:
                await worker.reserve((money,), Amounts(1, 0, None))
            assert refusal.value.code == "price_unknown"

    asyncio.run(run())


def test_an_unpriced_request_is_charged_once_its_cost_is_known(ground: Ground) -> None:
    async def run() -> None:
        limit = ground.limit(1_000, Metric.COST_USD, unpriced=WhenUnknown.ADMIT)
        async with workers(ground, 1) as (worker,):
            reservation = await worker.reserve((limit,), Amounts(1, 0, None))
            worker.close(reservation, worker.open(reservation), Amounts(1, 0, 600))
            await asyncio.to_thread(ground.client.flush)
            assert ground.account(limit)[0] == 600
            with pytest.raises(LimitExceeded):
                await worker.reserve((limit,), Amounts(1, 0, 500))

    asyncio.run(run())


def test_moving_to_another_target_keeps_what_both_share(ground: Ground) -> None:
    async def run() -> None:
        shared, first, second = ground.limit(100), ground.limit(100), ground.limit(100)
        async with workers(ground, 2) as made:
            book = made[0].book
            reservation = await made[0].reserve((shared, first), Amounts(60, 0, 0))
            moved = await book.move(reservation, (shared, second), Amounts(80, 0, 0), time.time())
            await made[1].reserve((first,), Amounts(100, 0, 0))
            with pytest.raises(LimitExceeded):
                await made[1].reserve((shared,), Amounts(21, 0, 0))
            await made[1].reserve((shared,), Amounts(20, 0, 0))
            with pytest.raises(LimitExceeded):
                await book.move(moved, (shared, second), Amounts(90, 0, 0), time.time())
            smaller = await book.move(moved, (shared, second), Amounts(10, 0, 0), time.time())
            await made[1].reserve((shared, second), Amounts(70, 0, 0))
            assert book.settle(moved, ONE) == ()
            charges = (account_of(shared.id, shared.metric), 0, 10, account_of(second.id, second.metric), 0, 10)
            assert book.settle(smaller, ONE) == book.settle(smaller, ONE) == charges

    asyncio.run(run())


def test_a_lowered_limit_takes_idle_parts_back(ground: Ground) -> None:
    async def run() -> None:
        limit = ground.limit(1_000)
        async with workers(ground, 1) as (worker,):
            held = await worker.reserve((limit,), Amounts(100, 0, 0))
            ground.change_limit(limit, 150)
            lowered = Limit(
                id=limit.id, name=limit.name, scope=limit.scope, metric=limit.metric, window=limit.window, at_most=150
            )
            with pytest.raises(LimitExceeded):
                await worker.reserve((lowered,), Amounts(51, 0, 0))
            await worker.reserve((lowered,), Amounts(50, 0, 0))
            worker.book.release(held)
            await worker.reserve((lowered,), Amounts(100, 0, 0))

    asyncio.run(run())


def test_windows_start_anew(ground: Ground) -> None:
    async def run() -> None:
        limit = ground.limit(3, Metric.REQUESTS, Window.SECOND)
        async with workers(ground, 2) as made:
            admitted: dict[int, int] = {}
            waits: list[float | None] = []
            deadline = time.time() + 3.2
            while time.time() < deadline:
                for worker in made:
                    try:
                        reservation = await worker.reserve((limit,), ONE)
                    except LimitExceeded as refusal:
                        waits.append(refusal.retry_after_s)
                        await asyncio.sleep(0.02)
                        continue
                    (_, window_start, _) = reservation.charges()
                    admitted[window_start] = admitted.get(window_start, 0) + 1
                    worker.book.settle(reservation, ONE)
            assert max(admitted.values()) == 3
            assert all(wait is not None and wait <= 1.0 for wait in waits)
            assert list(admitted.values())[1:-1] == [3] * (len(admitted) - 2)

    asyncio.run(run())


def test_a_keeper_that_is_away_costs_no_more_than_a_second(ground: Ground) -> None:
    async def run() -> None:
        strict = ground.limit(1_000)
        lenient = ground.limit(1_000, when_unavailable=WhenUnknown.ADMIT)
        async with workers(ground, 1) as (worker,):
            worker.book.release(await worker.reserve((strict,), ONE))
            ground.kill_keeper()
            await eventually(lambda: not worker.link.connected, "loss of the keeper")
            worker.book.release(await worker.reserve((strict,), ONE))  # from what is held
            before = time.monotonic()
            with pytest.raises(LimitsUnavailable):
                await worker.reserve((strict,), Amounts(900, 0, 0))
            assert time.monotonic() - before < 1.3
            admitted = await worker.reserve((lenient,), Amounts(900, 0, 0))
            worker.close(admitted, worker.open(admitted), Amounts(900, 0, 0))
            ground.start_keeper()
            await worker.connected()
            with pytest.raises(LimitExceeded):
                await worker.reserve((lenient,), Amounts(101, 0, 0))
            await worker.reserve((lenient,), Amounts(100, 0, 0))
            await worker.reserve((strict,), Amounts(1_000, 0, 0))

    asyncio.run(run())


def test_a_stopped_worker_does_not_hold_up_the_others_for_long(ground: Ground) -> None:
    """It does not answer recalls: what it holds counts as used."""

    async def run() -> None:
        limit = ground.limit(1_000)
        async with workers(ground, 2) as made:
            made[0].book.release(await made[0].reserve((limit,), ONE))
            idle = sum(lease.available for lease in made[0].book._leases.values())
            made[0].link.send = lambda message: None  # type: ignore[method-assign]  # hangs
            before = time.monotonic()
            with pytest.raises(LimitExceeded):
                await made[1].reserve((limit,), Amounts(1_000, 0, 0))
            assert time.monotonic() - before < 1.0
            await made[1].reserve((limit,), Amounts(1_000 - idle, 0, 0))

    asyncio.run(run())


def test_windows_that_are_over_leave_nothing_behind(quiet_ground: Ground) -> None:
    """In SQL, and in a keeper's and a worker's memory, however many windows have passed."""
    ground = quiet_ground

    async def run() -> None:
        keeper = Keeper(ground.settings)
        running = asyncio.get_running_loop().create_task(keeper.run())
        limit, other = ground.limit(100, Metric.REQUESTS, Window.SECOND), ground.limit(100)
        async with workers(ground, 1) as (worker,):
            start_s = time.time() - 10_000
            for second in range(300):
                reservation = await worker.book.reserve((limit, other), Amounts(0, 0, 0), start_s + second)
                worker.book.settle(reservation, Amounts(0, 0, 0))
            assert len(ground.rows("SELECT * FROM lease")) > 200  # all that the keeper has not tidied at its start
            await keeper._tidy()
            assert len(ground.rows("SELECT * FROM lease")) <= 1
            assert len(ground.rows("SELECT * FROM limit_account")) <= 1
            (session,) = keeper._sessions.workers.values()
            assert len(session.granted) <= 1
            assert len(session.returned) <= 1
            assert len(worker.book._leases) < 150
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(3))
def test_reservations_that_fit_together_are_all_admitted_at_once(ground: Ground, seed: int) -> None:
    """Asked for at the same moment on several workers, while slices lie idle: parts that add up to the whole limit."""

    async def run() -> None:
        dice = random.Random(seed)
        async with workers(ground, 3) as made:
            for _ in range(12):
                limit = ground.limit(1_000)
                idle = [await worker.reserve((limit,), Amounts(dice.randint(1, 9), 0, 0)) for worker in made]
                cuts = sorted(dice.sample(range(1, 1_000), dice.randint(1, 12)))
                parts = [to - since for since, to in pairwise([0, *cuts, 1_000])]
                for worker, reservation in zip(made, idle, strict=True):
                    worker.book.release(reservation)
                asked = [(dice.choice(made), part) for part in parts]
                held = await asyncio.gather(
                    *[worker.reserve((limit,), Amounts(part, 0, 0)) for worker, part in asked], return_exceptions=True
                )
                assert [each for each in held if isinstance(each, BaseException)] == []
                with pytest.raises(LimitExceeded):
                    await made[0].reserve((limit,), Amounts(1, 0, 0))

    asyncio.run(run())


def test_a_limit_whose_metric_is_changed_starts_from_nothing(ground: Ground) -> None:
    """Requests in flight end in what they were admitted for; tokens never become micro-USD."""

    async def run() -> None:
        limit = ground.limit(1_000)
        async with workers(ground, 1) as (worker,):
            await worker.reserve((limit,), Amounts(700, 0, 0))
            in_flight = await worker.reserve((limit,), Amounts(300, 0, 0))
            with write_session(ground.engine) as session:
                session.get_one(LimitRule, limit.id).metric = Metric.REQUESTS.value
            changed = replace(limit, metric=Metric.REQUESTS)
            await worker.reserve((changed,), Amounts(5_000, 0, 0))
            worker.close(in_flight, worker.open(in_flight), Amounts(300, 0, 0))
            await asyncio.to_thread(ground.client.flush)
            state = await worker.link.limit_state(limit.id)
            assert state is not None
            assert (state.used, state.reserved, state.at_most) == (0, 1, 1_000)
            assert ground.account(limit)[0] == 300

    asyncio.run(run())


def test_accounts_survive_the_renumbering_both_ways(ground: Ground) -> None:
    async def run() -> None:
        tokens, requests = ground.limit(1_000), ground.limit(50, Metric.REQUESTS)
        async with workers(ground, 1) as (worker,):
            reservation = await worker.reserve((tokens, requests), Amounts(700, 0, 0))
            worker.close(reservation, worker.open(reservation), Amounts(600, 0, 0))
            await asyncio.to_thread(ground.client.flush)
        before = ground.account(tokens)[0], ground.account(requests)[0]
        assert before == (600, 1)
        ground.kill_keeper()
        migrate.downgrade(ground.engine, "0003")
        rows = ground.rows("SELECT limit_id, settled FROM limit_account ORDER BY limit_id")
        assert [(row["limit_id"], row["settled"]) for row in rows] == [(tokens.id, 600), (requests.id, 1)]
        migrate.upgrade(ground.engine)
        migrate.check(ground.engine)
        assert (ground.account(tokens)[0], ground.account(requests)[0]) == before

    asyncio.run(run())
