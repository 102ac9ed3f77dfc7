"""Read the ledger's newest requests, and judge them under a document that is not in force (`policy.replay`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from gateway.policy.codec import decode_snapshot, encode_snapshot
from gateway.policy.model import Metric
from gateway.policy.quota import account_of
from gateway.policy.replay import Past, Replay, replay
from gateway.policy.snapshot import Snapshot
from gateway.policy.usage import Usage
from gateway.policy.windows import window_start_s
from gateway.store.apply import rehearse
from gateway.store.compiler import compile_snapshot
from gateway.store.config.editing import Editing
from gateway.store.ledger import unix_ns
from gateway.store.ledger_models import LedgerEntry, LimitAccount
from gateway.store.prices import PriceBook

MOST_ROWS: Final = 10_000
_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    replay: Replay
    first_at_s: float | None
    """Of the oldest request that was judged; None = there was none."""
    whole: bool
    """Whether these are all requests of the time asked for; else the newest `MOST_ROWS`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What has been, read without keeping anybody from writing."""

    rows: Sequence[Past]
    before: bytes
    used: Mapping[int, int]


def look_back(editing: Editing, book: PriceBook, since: datetime, until: datetime) -> Seen:
    """Requests that began between the two, and the configuration in force. The session is one that reads."""
    session = editing.session
    before = encode_snapshot(compile_snapshot(session, editing.sealer, book))
    return Seen(
        rows=_newest(session, unix_ns(since), unix_ns(until)),
        before=before,
        used=_used(session, decode_snapshot(before), until.timestamp()),
    )


def snapshot_under(editing: Editing, text: str, file: str, book: PriceBook) -> bytes:
    """The snapshot that a document would make. Needs a write transaction, and leaves nothing in it: as short as it can
    be, for others wait. Raises Invalid where the document does not apply."""
    _, found = rehearse(
        editing,
        text,
        file=file,
        environment={},
        prune=True,
        look=lambda: encode_snapshot(compile_snapshot(editing.session, editing.sealer, book)),
    )
    return found


def judge(seen: Seen, after: bytes) -> Rehearsed:
    """The requests under that snapshot. Needs no database."""
    rows = seen.rows[-MOST_ROWS:]
    return Rehearsed(
        replay=replay(rows, decode_snapshot(seen.before), decode_snapshot(after), seen.used),
        first_at_s=rows[0].at_s if rows else None,
        whole=len(seen.rows) <= MOST_ROWS,
    )


def _newest(session: Session, since_ns: int, until_ns: int) -> list[Past]:
    """One more than `MOST_ROWS` where there are more, in the order of their start."""
    columns = LedgerEntry.__table__.c
    query = (
        select(
            columns.id, columns.started_at_ns, columns.latency_ms, columns.app, columns.key, columns.route,
            columns.target, columns.dialect, columns.outcome, columns.error_code, columns.input_tokens,
            columns.cached_tokens, columns.cache_write_tokens, columns.output_tokens, columns.reasoning_tokens,
        )
        .where(columns.started_at_ns >= since_ns, columns.started_at_ns < until_ns)
        .order_by(columns.started_at_ns.desc(), columns.id.desc())
        .limit(MOST_ROWS + 1)
    )  # fmt: skip
    found = [
        Past(
            id=row.id,
            at_s=row.started_at_ns / _NS,
            lasted_s=(row.latency_ms or 0.0) / 1000,
            app=row.app,
            key=row.key,
            route=row.route,
            target=row.target,
            dialect=row.dialect,
            outcome=row.outcome,
            error_code=row.error_code,
            usage=Usage(
                row.input_tokens or 0,
                row.cached_tokens or 0,
                row.cache_write_tokens or 0,
                row.output_tokens or 0,
                row.reasoning_tokens or 0,
            ),
        )
        for row in session.execute(query)
    ]
    found.reverse()
    return found


def _used(session: Session, snapshot: Snapshot, now_s: float) -> dict[int, int]:
    """What each limit has been charged in its present window, by id."""
    accounts = {
        account_of(limit.id, limit.metric): (int(limit.id), window_start_s(limit.window, now_s))
        for limit in snapshot.limits
        if limit.metric is not Metric.CONCURRENT_REQUESTS
    }
    found: dict[int, int] = {}
    for row in _charged(session, sorted({start for _, start in accounts.values()})):
        limit = accounts.get(row.account)
        if limit is not None and limit[1] == row.window_start_s:
            found[limit[0]] = row.settled
    return found


def _charged(session: Session, starts: Sequence[int]) -> list[LimitAccount]:
    return list(session.scalars(select(LimitAccount).where(LimitAccount.window_start_s.in_(starts))))
