"""The keeper's part in the portal for app teams: access that ends by itself, budgets that reach a threshold, notices in
the live feed and on their way.

Each keeper of a fleet does this; what only one may do is decided in SQL (`AccessRequests.end_expired` finds a request
once, under the audit log's lock).
"""

import asyncio
import logging
from typing import Any, Final

from sqlalchemy import Engine

from gateway.policy.roles import Authority, Role
from gateway.settings import Settings
from gateway.store import budget_notices, notices
from gateway.store.access import AccessRequests, any_expired
from gateway.store.budget_notices import Reached, reached
from gateway.store.config.editing import Editing
from gateway.store.contacts import Contacts
from gateway.store.database import read_session, write_session
from gateway.store.keeper_events import EventFeed
from gateway.store.keeper_notices import KeeperNotices, in_words
from gateway.store.leases import LimitUse
from gateway.store.sealing import Sealer
from gateway.store.sql_thread import SqlThread

log = logging.getLogger(__name__)

PAUSE_S: Final = 0.5
FAILED_PAUSE_S: Final = 5.0
MOST_KNOWN: Final = 10_000
KEEPER: Final = Authority(actor="gateway", role=Role.OWNER)
"""In whose name the keeper changes what has ended by itself."""


class KeeperPortal:
    """`run` is its one task. Used from the keeper's event loop."""

    def __init__(
        self, settings: Settings, engine: Engine, sealer: Sealer, sql: SqlThread, reading: SqlThread, feed: EventFeed
    ) -> None:
        self._contacts = Contacts.of(settings)
        self._engine = engine
        self._sealer = sealer
        self._sql = sql
        self._reading = reading
        self._feed = feed
        self._notices = KeeperNotices(settings, engine, sealer, sql, reading)
        self._now = asyncio.Event()
        self._reached: dict[str, Reached] = {}
        """Thresholds of limits that SQL has not heard of from here, by what makes each unique."""
        self._known: set[str] = set()
        """Those that it has."""
        self._told: int | None = None
        """The newest notice that the feed has had."""

    def look_now(self) -> None:
        """Something has changed in SQL."""
        self._now.set()

    def limits_seen(self, uses: list[LimitUse], refused: set[int]) -> None:
        """How far limits are used now. Costs nothing where no threshold is new."""
        present = {each.once: each for each in reached(uses, refused)}
        if len(self._known) > MOST_KNOWN:
            self._known &= present.keys()  # of windows that have ended
        self._reached.update({once: each for once, each in present.items() if once not in self._known})

    async def run(self) -> None:
        """For ever. Raises nothing but CancelledError: the rest of the keeper does not hang on this."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._notices.run())
            tasks.create_task(self._look_for_ever())

    async def _look_for_ever(self) -> None:
        while True:
            try:
                await self._look()
            except Exception as error:  # noqa: BLE001 - the keeper ends with this task
                log.error("the portal's work waits", extra={"error": in_words(error)})
                await asyncio.sleep(FAILED_PAUSE_S)
            try:
                async with asyncio.timeout(PAUSE_S):
                    await self._now.wait()
            except TimeoutError:
                pass
            self._now.clear()

    async def _look(self) -> None:
        if self._reached:
            due, self._reached = self._reached, {}
            try:
                await self._sql.run(self._tell_of, list(due.values()))
            except Exception:
                self._reached = due | self._reached
                raise
            self._known |= due.keys()
        overdue, events = await self._reading.run(self._read)
        self._feed.add(events)
        if overdue:
            await self._sql.run(self._end_expired)
            self._now.set()

    def _read(self) -> tuple[bool, list[dict[str, Any]]]:
        with read_session(self._engine) as session:
            if self._told is None:
                self._told = notices.newest_id(session)
            events = notices.events_after(session, self._told)
            if events:
                self._told = events[-1]["notice"]
            return any_expired(session), events

    def _tell_of(self, due: list[Reached]) -> None:
        with write_session(self._engine) as session:
            written = [budget_notices.write(session, self._contacts, each) for each in due]
            if any(written):
                notices.forget_oldest(session)

    def _end_expired(self) -> None:
        with write_session(self._engine) as session:
            editing = Editing(session=session, authority=KEEPER, sealer=self._sealer)
            if AccessRequests(editing, self._contacts).end_expired():
                notices.forget_oldest(session)
