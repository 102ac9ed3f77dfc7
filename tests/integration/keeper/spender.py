"""A worker process that reserves and settles as fast as it can, and writes down what it did: `python spender.py PLAN`.

The plan is JSON: `limits` (fields of Limit), `log`, `seed`, `clients`, `until_s` (CLOCK_MONOTONIC). One line an event
in the log, times in CLOCK_MONOTONIC nanoseconds, written by one system call each, so that kill -9 leaves whole lines:

    R request from to tokens      reserved between `from` and `to`
    O request                     open record is in the spool
    S request at                  about to settle
    C request at tokens           settled, close record is in the spool
    X from to tokens code limit   refused between `from` and `to`
"""

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path

from gateway.dataplane.keeper_link import KeeperLink
from gateway.dataplane.leases import LeaseBook
from gateway.dataplane.spool import Spool
from gateway.errors import SluicegateError
from gateway.policy.model import Limit, LimitId, Metric, Scope, Window
from gateway.policy.quota import Amounts
from gateway.policy.usage import LedgerRow, Outcome
from gateway.settings import Settings

now_ns = time.monotonic_ns


async def spend(plan: dict, settings: Settings) -> None:
    log = os.open(plan["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(*words: object) -> None:
        os.write(log, (" ".join(map(str, words)) + "\n").encode())

    limits = tuple(
        Limit(
            id=LimitId(each["id"]),
            name=each["name"],
            scope=Scope(),
            metric=Metric(each["metric"]),
            window=Window(each["window"]),
            at_most=each["at_most"],
        )
        for each in plan["limits"]
    )
    link = KeeperLink(settings, lambda document: None)
    book = LeaseBook(link)
    spool = Spool(settings.spool_folder, link.incarnation, settings.spool_segment_bytes, settings.spool_max_bytes)
    dice = random.Random(plan["seed"])

    async def client(number: int) -> None:
        turn = 0
        while time.monotonic() < plan["until_s"]:
            turn += 1
            tokens = dice.randint(*plan["tokens"])
            request = f"{time.time_ns():016x}{number:02x}{os.getpid() & 0xFFFFFF:06x}{turn & 0xFF:02x}"
            since = now_ns()
            try:
                reservation = await book.reserve(limits, Amounts(tokens, 0, 0), time.time())
            except SluicegateError as error:
                note("X", since, now_ns(), tokens, error.code, error.fields.get("limit", "-"))
                await asyncio.sleep(dice.random() * 0.02)
                continue
            note("R", request, since, now_ns(), tokens)
            row = LedgerRow(
                id=request, started_at_ns=time.time_ns(), dialect="openai", team="t", app="a", key="k", route="r"
            )
            spool.open(row, reservation.charges())
            note("O", request)
            await asyncio.sleep(dice.random() * 0.02)
            used = dice.randint(0, tokens)
            row.outcome, row.status, row.input_tokens = Outcome.COMPLETED, 200, used
            note("S", request, now_ns())
            spool.close(row, book.settle(reservation, Amounts(used, 0, 0)))
            note("C", request, now_ns(), used)

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(link.run())
        while not link.connected:
            await asyncio.sleep(0.01)
        clients = [tasks.create_task(client(number)) for number in range(plan["clients"])]
        await asyncio.gather(*clients)
        running.cancel()


if __name__ == "__main__":
    asyncio.run(spend(json.loads(Path(sys.argv[1]).read_text()), Settings.handed_down()))
