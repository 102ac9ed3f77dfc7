"""Notices: what people are told once, written in the transaction of what it tells of, delivered by the keeper."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final
from urllib.parse import urlsplit

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, joinedload, selectinload

from gateway.store import audit
from gateway.store.portal_models import Notice, NoticeDelivery
from gateway.store.views import View

MOST_KEPT: Final = 20_000
"""The oldest go."""


class Kind(StrEnum):
    ACCESS_REQUESTED = "access-requested"
    ACCESS_APPROVED = "access-approved"
    ACCESS_DENIED = "access-denied"
    ACCESS_WITHDRAWN = "access-withdrawn"
    ACCESS_EXPIRED = "access-expired"
    ACCESS_REVOKED = "access-revoked"
    BUDGET = "budget"


TO_PLATFORM: Final = frozenset({Kind.ACCESS_REQUESTED, Kind.ACCESS_WITHDRAWN})
"""Of a team, and told to the platform's people: where these went is not the team's to read."""


class Channel(StrEnum):
    EMAIL = "email"
    WEBHOOK = "webhook"


class DeliveryState(StrEnum):
    WAITING = "waiting"
    SENT = "sent"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a notice goes: an address or a URL."""

    channel: Channel
    address: str


class DeliveryView(View):
    channel: Channel
    destination: str
    state: DeliveryState
    attempts: int
    error: str | None
    """Why the last attempt failed."""


class NoticeView(View):
    id: int
    at: datetime
    kind: Kind
    team: str | None
    """null: the platform's alone."""
    title: str
    document: dict[str, Any]
    deliveries: list[DeliveryView]


def write(
    session: Session,
    kind: Kind,
    title: str,
    document: Mapping[str, Any],
    *,
    team_id: int | None,
    to: Iterable[Destination] = (),
    once: str | None = None,
) -> Notice | None:
    """Add a notice; None where one of this `once` is there already. The caller commits."""
    audit.lock(session)  # numbers follow the order of commits, and `once` is looked up by one at a time
    if once is not None and session.scalar(select(Notice.id).where(Notice.once == once)) is not None:
        return None
    notice = Notice(kind=kind.value, team_id=team_id, once=once, title=title, document=dict(document))
    notice.deliveries = [
        NoticeDelivery(channel=each.channel.value, destination=each.address, state=DeliveryState.WAITING.value)
        for each in dict.fromkeys(to)
    ]
    session.add(notice)
    session.flush()
    return notice


def shown_address(channel: Channel, address: str, *, whole: bool) -> str:
    """Of a webhook no more than scheme and host, unless `whole`: what follows is often what lets one in."""
    if whole or channel is not Channel.WEBHOOK:
        return address
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def listed(
    session: Session, team_id: int | None, *, before_id: int | None, limit: int, whole: bool
) -> list[NoticeView]:
    """The newest first; with `team_id` of this team alone, without where others than itself were told. `whole`: with
    all of the webhooks' URLs."""
    query = select(Notice).options(joinedload(Notice.team), selectinload(Notice.deliveries))
    if team_id is not None:
        query = query.where(Notice.team_id == team_id)
    if before_id is not None:
        query = query.where(Notice.id < before_id)
    return [_view(row, team_id, whole) for row in session.scalars(query.order_by(Notice.id.desc()).limit(limit))]


def newest_id(session: Session) -> int:
    return session.scalar(select(func.max(Notice.id))) or 0


def events_after(session: Session, after_id: int, limit: int = 200) -> list[dict[str, Any]]:
    """As the live feed tells them, in order."""
    query = select(Notice).options(joinedload(Notice.team)).where(Notice.id > after_id).order_by(Notice.id).limit(limit)
    return [
        {
            "type": "notice",
            "notice": row.id,
            "kind": row.kind,
            "team": None if row.team is None else row.team.name,
            "title": row.title,
            **row.document,
        }
        for row in session.scalars(query)
    ]


def forget_oldest(session: Session, most: int = MOST_KEPT) -> None:
    """Those that are still on their way stay until they have arrived, or were given up."""
    last = newest_id(session)
    if last > most:
        waiting = select(NoticeDelivery.notice_id).where(NoticeDelivery.state == DeliveryState.WAITING.value)
        session.execute(delete(Notice).where(Notice.id <= last - most, Notice.id.not_in(waiting)))


def _view(row: Notice, team_id: int | None, whole: bool) -> NoticeView:
    shown = row.deliveries if team_id is None or Kind(row.kind) not in TO_PLATFORM else ()
    return NoticeView(
        id=row.id,
        at=row.at,
        kind=Kind(row.kind),
        team=None if row.team is None else row.team.name,
        title=row.title,
        document=row.document,
        deliveries=[_delivery(each, whole) for each in shown],
    )


def _delivery(row: NoticeDelivery, whole: bool) -> DeliveryView:
    channel = Channel(row.channel)
    destination = shown_address(channel, row.destination, whole=whole)
    return DeliveryView(
        channel=channel,
        destination=destination,
        state=DeliveryState(row.state),
        attempts=row.attempts,
        error=None if row.error is None else row.error.replace(row.destination, destination),
    )
