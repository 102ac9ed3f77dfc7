"""The keeper delivers notices: what waits in SQL is tried, again later where that failed, and given up in the end.

Nothing is lost with a keeper: deliveries stand in SQL. Of several keepers one tries a delivery at a time: whoever puts
its due time off first has it until then. A keeper that dies between sending and writing that down sends once more,
under the same id.
"""

import asyncio
import contextlib
import logging
import time
from datetime import timedelta
from typing import Any, Final

import httpx2
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import joinedload

from gateway.settings import Settings
from gateway.store.database import read_session, write_session
from gateway.store.models import Meta, now
from gateway.store.notice_delivery import NotDelivered, Parcel, mail, post
from gateway.store.notices import Channel, DeliveryState
from gateway.store.portal_models import Notice, NoticeDelivery, TeamContact
from gateway.store.sealing import Sealer, SealingKeyError
from gateway.store.sql_thread import SqlThread

log = logging.getLogger(__name__)

PAUSE_S: Final = 1.0
FAILED_PAUSE_S: Final = 5.0
AT_ONCE: Final = 8
"""Deliveries that are being tried. Each takes its place until its deadline at most, and holds up no other."""
CLAIM_S: Final = 120
"""How long whoever tries a delivery has it: longer than any attempt takes."""
FIRST_RETRY_S: Final = 2
LONGEST_RETRY_S: Final = 3_600
TRIES: Final = 12
"""Some nine hours."""


class KeeperNotices:
    """`run` is its one task. Used from the keeper's event loop."""

    def __init__(self, settings: Settings, engine: Engine, sealer: Sealer, sql: SqlThread, reading: SqlThread) -> None:
        self._settings = settings
        self._engine = engine
        self._sealer = sealer
        self._sql = sql
        self._reading = reading
        self._trying: set[int] = set()
        """Deliveries that are under way."""
        self._ended = asyncio.Event()
        """One of them is over."""

    async def run(self) -> None:
        """For ever. Raises nothing but CancelledError."""
        async with httpx2.AsyncClient(timeout=15.0) as client, asyncio.TaskGroup() as tasks:
            while True:
                self._ended.clear()
                try:
                    due = await self._reading.run(self._due)
                except Exception as error:  # noqa: BLE001 - the keeper ends with this task
                    await self._sql_is_away(error)
                    continue
                for delivery_id in due:
                    if delivery_id not in self._trying and len(self._trying) < AT_ONCE:
                        self._trying.add(delivery_id)
                        tasks.create_task(self._try(client, delivery_id))
                # Others may wait for the place of an attempt that ends.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE_S):
                        await self._ended.wait()

    async def _try(self, client: httpx2.AsyncClient, delivery_id: int) -> None:
        """Raises nothing but CancelledError."""
        try:
            try:
                parcel = await self._sql.run(self._claim, delivery_id)
            except Exception as error:  # noqa: BLE001 - the keeper ends with this task
                await self._sql_is_away(error)
                return
            if parcel is not None:
                await self._write_down(parcel, await self._deliver(client, parcel))
        finally:
            self._trying.discard(delivery_id)
            self._ended.set()

    async def _write_down(self, parcel: Parcel, problem: str | None) -> None:
        """As soon as SQL answers: what is not written down is sent once more."""
        while True:
            try:
                return await self._sql.run(self._settle, parcel, problem)
            except Exception as error:  # noqa: BLE001 - the same
                await self._sql_is_away(error)

    @staticmethod
    async def _sql_is_away(error: Exception) -> None:
        log.error("notices wait", extra={"error": in_words(error)})
        await asyncio.sleep(FAILED_PAUSE_S)

    async def _deliver(self, client: httpx2.AsyncClient, parcel: Parcel) -> str | None:
        """Why not; None: it has arrived."""
        try:
            if parcel.channel == Channel.EMAIL.value:
                await mail(self._settings, parcel)
            else:
                await post(client, self._settings, parcel, int(time.time()))
        except NotDelivered as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one notice, it counts as a try, and the others go on
            problem = in_words(error)
            log.error("notice not delivered", extra={"notice": parcel.notice_id, "error": problem})
            return problem
        return None

    # -- SQL

    def _due(self) -> list[int]:
        query = (
            select(NoticeDelivery.id)
            .where(NoticeDelivery.state == DeliveryState.WAITING.value, NoticeDelivery.due_at <= now())
            .order_by(NoticeDelivery.due_at)
            .limit(AT_ONCE)
        )
        with read_session(self._engine) as session:
            return list(session.scalars(query))

    def _claim(self, delivery_id: int) -> Parcel | None:
        """None where another keeper has it."""
        with write_session(self._engine) as session:
            claimed = session.execute(
                update(NoticeDelivery)
                .where(
                    NoticeDelivery.id == delivery_id,
                    NoticeDelivery.state == DeliveryState.WAITING.value,
                    NoticeDelivery.due_at <= now(),
                )
                .values(due_at=now() + timedelta(seconds=CLAIM_S), attempts=NoticeDelivery.attempts + 1)
                .returning(NoticeDelivery.id)
            ).first()
            if claimed is None:
                return None
            row = session.scalars(
                select(NoticeDelivery)
                .options(joinedload(NoticeDelivery.notice).joinedload(Notice.team))
                .where(NoticeDelivery.id == delivery_id)
            ).one()
            notice = row.notice
            contact = None if notice.team_id is None else session.get(TeamContact, notice.team_id)
            return Parcel(
                delivery_id=row.id,
                notice_id=notice.id,
                channel=row.channel,
                destination=row.destination,
                tried=row.attempts,
                kind=notice.kind,
                title=notice.title,
                team=None if notice.team is None else notice.team.name,
                at=notice.at,
                document=notice.document,
                installation=session.scalars(select(Meta.installation_id)).one(),
                secret=self._secret(row.destination, contact),
            )

    def _secret(self, destination: str, contact: TeamContact | None) -> str | None:
        """What messages to this webhook are signed with: the team's, where it is the team's, else the platform's."""
        if contact is not None and contact.webhook == destination:
            if contact.sealed is None:
                return None
            try:
                return self._sealer.open_row(contact)
            except SealingKeyError as error:
                log.error("webhook secret left out", extra={"team": contact.team_id, "reason": str(error)})
                return None
        secret = self._settings.notice_webhook_secret
        return (
            secret.get_secret_value() if secret is not None and destination == self._settings.notice_webhook else None
        )

    def _settle(self, parcel: Parcel, problem: str | None) -> None:
        pause_s = min(LONGEST_RETRY_S, FIRST_RETRY_S * 3 ** (parcel.tried - 1))
        values: dict[str, Any]
        if problem is None:
            values = {"state": DeliveryState.SENT.value, "error": None}
        elif parcel.tried >= TRIES:
            values = {"state": DeliveryState.FAILED.value, "error": problem}
            log.error("notice given up", extra={"notice": parcel.notice_id, "reason": problem})
        else:
            values = {"error": problem, "due_at": now() + timedelta(seconds=pause_s)}
        with write_session(self._engine) as session:
            session.execute(update(NoticeDelivery).where(NoticeDelivery.id == parcel.delivery_id).values(values))


def in_words(error: Exception) -> str:
    """As it is stored and logged."""
    return f"{type(error).__name__}: {error}"[:500]
