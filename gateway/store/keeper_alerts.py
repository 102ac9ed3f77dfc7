"""The keeper's part in alerts: they go into SQL, the live feed and, where one is set, to a webhook. It also tells the
probes where the gateway has reason to go, as alerts come of what is not among it.

Nothing waits for the webhook: it has a bounded queue and a task of its own.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import httpx2
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.policy.codec import SnapshotDocument
from gateway.settings import Settings
from gateway.store import alerts
from gateway.store.egress_list import egress_list
from gateway.store.keeper_agent import AgentFeed, Message
from gateway.store.keeper_events import EventFeed
from gateway.store.sql_thread import SqlThread, write_transaction

log = logging.getLogger(__name__)

WRITE_PAUSE_S: Final = 0.5
FAILED_PAUSE_S: Final = 5.0
MOST_WAITING: Final = 5_000
"""Alerts that SQL has not taken yet; the oldest go."""
MOST_TO_POST: Final = 1_000
POST_TOGETHER: Final = 100
POST_TIMEOUT_S: Final = 10.0
FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 60.0
TRIES: Final = 8
"""Of one batch; some four minutes."""

Row = dict[str, Any]


class KeeperAlerts:
    """`run` is its one task. Used from the keeper's event loop."""

    def __init__(
        self, settings: Settings, engine: Engine, sql: SqlThread, feed: EventFeed, agent: AgentFeed, node: str
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._sql = sql
        self._feed = feed
        self._agent = agent
        self._node = node
        self._waiting: deque[Row] = deque(maxlen=MOST_WAITING)
        self._arrived = asyncio.Event()
        self._to_post: deque[Row] = deque(maxlen=MOST_TO_POST)
        self._posting = asyncio.Event()
        agent.follow("alerts", self._take)
        agent.tell(watched_message(settings.watched))

    def configured(self, document: SnapshotDocument, sign_on: Sequence[str]) -> None:
        """There is a new configuration. `sign_on`: URLs of identity providers."""
        self._agent.tell(egress_list(self._settings, document, sign_on=sign_on))

    async def run(self) -> None:
        """For ever. Raises nothing but CancelledError: the rest of the keeper does not hang on this."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._write_for_ever())
            if self._settings.alert_webhook:
                tasks.create_task(self._post_for_ever(self._settings.alert_webhook))

    def _take(self, message: Message) -> None:
        for item in message["items"]:
            try:
                self._waiting.append(alerts.columns_of(self._node, item))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                log.warning("an alert is not understood", extra={"error": repr(error)})
        self._arrived.set()

    # -- SQL

    async def _write_for_ever(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), 500))]
                try:
                    numbers = await self._sql.run(self._write, batch)
                except (SQLAlchemyError, OSError) as error:
                    log.error("alerts wait", extra={"error": str(error)[:500]})
                    self._waiting.extendleft(reversed(batch[: MOST_WAITING - len(self._waiting)]))
                    await asyncio.sleep(FAILED_PAUSE_S)
                    continue
                self._tell([_plain(row, number) for row, number in zip(batch, numbers, strict=True)])
            await asyncio.sleep(WRITE_PAUSE_S)

    def _write(self, batch: list[Row]) -> list[int]:
        with write_transaction(self._engine) as connection:
            numbers = alerts.write(connection, batch)
            alerts.forget_oldest(connection)
            return numbers

    def _tell(self, told: list[Row]) -> None:
        self._feed.add([{"type": "alert", **each} for each in told])
        if self._settings.alert_webhook:
            missed = len(self._to_post) + len(told) - MOST_TO_POST
            if missed > 0:
                log.error("the webhook is too slow: alerts are not sent", extra={"alerts": missed})
            self._to_post.extend(told)
            self._posting.set()

    # -- the webhook

    async def _post_for_ever(self, url: str) -> None:
        async with httpx2.AsyncClient(timeout=POST_TIMEOUT_S) as client:
            while True:
                await self._posting.wait()
                self._posting.clear()
                while self._to_post:
                    batch = [self._to_post.popleft() for _ in range(min(len(self._to_post), POST_TOGETHER))]
                    await self._post(client, url, batch)

    async def _post(self, client: httpx2.AsyncClient, url: str, batch: list[Row]) -> None:
        """`{"node", "alerts": [alert]}`; answered by any 2xx. Tried again for whatever else."""
        pause_s, reason = FIRST_RETRY_S, ""
        for _ in range(TRIES):
            try:
                answer = await client.post(url, json={"node": self._node, "alerts": batch})
                if answer.is_success:
                    return
                reason = f"it answered {answer.status_code}"
            except httpx2.HTTPError as error:
                reason = str(error) or type(error).__name__
            await asyncio.sleep(pause_s)
            pause_s = min(LONGEST_RETRY_S, pause_s * 2)
        log.error("alerts did not reach the webhook", extra={"alerts": len(batch), "reason": reason})


def watched_message(entries: Iterable[str]) -> Message:
    """Of the setting `watched`, as the probes get it (`gateway.probes.watching`)."""
    told: dict[str, list[str]] = {"executables": [], "users": [], "containers": []}
    for entry in entries:
        kind, _, name = entry.partition(":")
        if kind in ("user", "container") and name:
            told[f"{kind}s"].append(name)
        else:
            told["executables"].append(entry)
    return {"type": "watched", **told}


def _plain(row: Mapping[str, Any], number: int) -> Row:
    return {"alert": number, **row, "at": row["at"].isoformat()}
