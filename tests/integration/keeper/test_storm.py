"""Several worker processes at once, with and without kills: what each wrote down is held against limits and ledger."""

import asyncio
import itertools
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.policy.model import Limit, Metric
from gateway.policy.quota import Amounts
from tests.integration.keeper import spender
from tests.integration.keeper.conftest import Ground, workers

SLOTS = 5


@dataclass
class Told:
    """What a spender wrote down of one request."""

    tokens: int
    asked_ns: int
    admitted_ns: int
    opened: bool = False
    settling_ns: int | None = None
    settled_ns: int | None = None
    used: int | None = None


@dataclass
class Story:
    requests: dict[str, Told] = field(default_factory=dict)
    refusals: list[tuple[int, int, int, str, str]] = field(default_factory=list)
    """from, to, tokens, code, limit"""


class Storm:
    """Spender processes on one ground."""

    def __init__(
        self, ground: Ground, limits: list[Limit], folder: Path, seconds: float, tokens: tuple[int, int]
    ) -> None:
        self.ground = ground
        self.limits = limits
        self.folder = folder
        self.until_s = time.monotonic() + seconds
        self.tokens = tokens
        self.running: list[subprocess.Popen[bytes]] = []
        self._numbers = itertools.count()

    def start(self) -> None:
        number = next(self._numbers)
        plan = {
            "limits": [
                {
                    "id": each.id,
                    "name": each.name,
                    "metric": each.metric,
                    "window": each.window,
                    "at_most": each.at_most,
                }
                for each in self.limits
            ],
            "log": str(self.folder / f"spender-{number}.log"),
            "seed": number,
            "clients": 4,
            "until_s": self.until_s,
            "tokens": self.tokens,
        }
        file = self.folder / f"plan-{number}.json"
        file.write_text(json.dumps(plan))
        self.running.append(
            subprocess.Popen(
                [sys.executable, spender.__file__, file], env=os.environ | self.ground.settings.to_hand_down()
            )
        )

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        process.kill()
        process.wait(10)
        self.running.remove(process)

    def story(self) -> Story:
        story = Story()
        for log in sorted(self.folder.glob("spender-*.log")):
            for line in log.read_text().splitlines():
                kind, *words = line.split(" ")
                if kind == "R":
                    story.requests[words[0]] = Told(int(words[3]), int(words[1]), int(words[2]))
                elif kind == "O":
                    story.requests[words[0]].opened = True
                elif kind == "S":
                    story.requests[words[0]].settling_ns = int(words[1])
                elif kind == "C":
                    story.requests[words[0]].settled_ns = int(words[1])
                    story.requests[words[0]].used = int(words[2])
                else:
                    story.refusals.append((int(words[0]), int(words[1]), int(words[2]), words[3], words[4]))
        return story


def surely_held(story: Story, amount_of: str) -> list[tuple[int, int]]:
    """`(time, change)` of what was held at least: from the admission's end until the settlement's beginning."""
    changes = []
    for told in story.requests.values():
        held = 1 if amount_of == "slots" else told.tokens
        kept = 0 if amount_of == "slots" else told.used if told.used is not None else told.tokens
        changes.append((told.admitted_ns, held))
        if told.settling_ns is not None:
            changes.append((told.settling_ns, kept - held))
    return sorted(changes)


def held_at_most(story: Story, amount_of: str) -> list[tuple[int, int]]:
    """`(time, change)` of what was held at most: from the ask until after the settlement."""
    changes = []
    for told in story.requests.values():
        held = 1 if amount_of == "slots" else told.tokens
        kept = 0 if amount_of == "slots" else told.used if told.used is not None else told.tokens
        changes.append((told.asked_ns, held))
        if told.settled_ns is not None:
            changes.append((told.settled_ns, kept - held))
    return sorted(changes)


def assert_never_over(changes: list[tuple[int, int]], at_most: int) -> None:
    load = 0
    for _, change in changes:
        load += change
        assert load <= at_most


def most_held_between(changes: list[tuple[int, int]], since: int, until: int) -> int:
    load = most = 0
    for at, change in changes:
        if at > until:
            break
        if at >= since:
            most = max(most, load)
        load += change
        if at >= since:
            most = max(most, load)
    return max(most, load)


def test_no_reservation_beyond_and_no_refusal_within_the_limit(ground: Ground, tmp_path: Path) -> None:
    """Four processes fight for few slots and a budget that runs out."""
    slots = ground.limit(SLOTS, Metric.CONCURRENT_REQUESTS)
    budget = ground.limit(15_000)
    storm = Storm(ground, [slots, budget], tmp_path, 7.0, (1, 400))
    for _ in range(4):
        storm.start()
    for process in storm.running:
        assert process.wait(60) == 0
    story = storm.story()
    assert len(story.requests) > 40
    assert {code for *_, code, _ in story.refusals} <= {"limit_exceeded"}
    for amount_of, limit in (("slots", slots), ("tokens", budget)):
        assert_never_over(surely_held(story, amount_of), limit.at_most)
        most = held_at_most(story, amount_of)
        refusals = [refusal for refusal in story.refusals if refusal[4] == limit.name]
        for since, until, tokens, _, _ in refusals:
            need = 1 if amount_of == "slots" else tokens
            assert most_held_between(most, since, until) + need > limit.at_most
        print(amount_of, "admitted", len(story.requests), "refused", len(refusals))
    assert {refusal[4] for refusal in story.refusals} == {slots.name, budget.name}
    ground.client.flush()
    used = sum(told.used or 0 for told in story.requests.values())
    assert ground.account(budget)[0] == used
    assert ground.rows("SELECT count(*) AS n FROM ledger")[0]["n"] == len(story.requests)


@pytest.mark.parametrize("seed", [1])
def test_kills_lose_nothing_and_overspend_nothing(ground: Ground, tmp_path: Path, seed: int) -> None:
    """Workers and keeper die by kill -9, at random, again and again, and at last all of them."""
    slots = ground.limit(SLOTS, Metric.CONCURRENT_REQUESTS)
    budget = ground.limit(400_000)
    storm = Storm(ground, [slots, budget], tmp_path, 60.0, (1, 400))
    dice = random.Random(seed)
    for _ in range(4):
        storm.start()
    end = time.monotonic() + 16.0
    next_kill = time.monotonic() + 4.0
    keeper_back = 0.0
    kills = {"keeper": 0, "worker": 0}
    while time.monotonic() < end:
        settled, outstanding = ground.account(budget)
        assert settled + outstanding <= budget.at_most
        assert sum(ground.account(slots)) <= SLOTS
        if ground.process is None and time.monotonic() >= keeper_back:
            ground.start_keeper()
        if time.monotonic() >= next_kill:
            next_kill = time.monotonic() + dice.uniform(0.5, 2.5)
            if dice.random() < 0.35 and ground.process is not None:
                ground.kill_keeper()
                keeper_back = time.monotonic() + dice.uniform(0, 0.5)
                kills["keeper"] += 1
            else:
                storm.kill(dice.choice(storm.running))
                storm.start()
                kills["worker"] += 1
        time.sleep(0.02)
    for process in list(storm.running):
        storm.kill(process)
    ground.kill_keeper()
    ground.start_keeper()
    deadline = time.monotonic() + 20
    while list(ground.settings.spool_folder.glob("*.spool")):
        assert time.monotonic() < deadline, "spools of dead workers are not taken"
        time.sleep(0.05)

    story = storm.story()
    print(kills, "admitted", len(story.requests), "refused", len(story.refusals))
    assert kills["keeper"] >= 1
    assert kills["worker"] >= 3
    assert len(story.requests) > 50
    for amount_of, limit in (("slots", slots), ("tokens", budget)):
        if amount_of == "tokens":
            assert_never_over(surely_held(story, amount_of), limit.at_most)
    rows = {row["id"]: row for row in ground.rows("SELECT id, outcome, estimated, input_tokens FROM ledger")}
    opened = {request for request, told in story.requests.items() if told.opened}
    assert opened <= rows.keys() <= story.requests.keys()
    charged = 0
    for request, row in rows.items():
        told = story.requests[request]
        if row["outcome"] == "completed":
            assert told.settling_ns is not None
            assert told.used is None or row["input_tokens"] == told.used
            charged += row["input_tokens"]
        else:
            assert row["outcome"] == "interrupted"
            assert row["estimated"]
            assert told.used is None
            charged += told.tokens
    assert ground.account(budget) == (charged, 0)
    assert ground.account(slots) == (0, 0)

    async def reserve_the_rest() -> None:
        async with workers(ground, 1) as (worker,):
            await worker.reserve((budget,), Amounts(budget.at_most - charged, 0, 0))

    asyncio.run(reserve_the_rest())
