"""Asks of workers, decided in batches; where a limit is near, idle parts are recalled first (docs/quotas.md "Recall").

A refusal is strict: it is given only when, at a moment after the ask came, settled + in flight + need was above the
limit. Two rounds give that: after the first, no worker reserves from the account without asking; what was free when the
second began is in the keeper's hands when it ends. If meanwhile an older ask was granted a slice, one more follows.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.store import leases
from gateway.store.keeper_sessions import Session, Sessions
from gateway.store.leases import Ask, AskItem, Decision, LeaseKey, Shortage
from gateway.store.sql_thread import SqlThread, write_transaction

log = logging.getLogger(__name__)

MOST_ASKS_AT_ONCE: Final = 256
MOST_ROUNDS: Final = 5
ELSEWHERE_TIMEOUT_S: Final = 0.6
"""How long other nodes may take to follow a recall; a dead node's leases stay outstanding."""
ELSEWHERE_POLL_S: Final = 0.03

Waiting = tuple[Session, Ask]
InFlight = dict[LeaseKey, dict[str, tuple[int, int]]]


class Grants:
    """The authority's two queues: asks that are decided at once, and those for which idle parts must be recalled."""

    def __init__(self, engine: Engine, sql: SqlThread, sessions: Sessions, node: str) -> None:
        self._engine = engine
        self._sql = sql
        self._sessions = sessions
        self._node = node
        self._asked: deque[Waiting] = deque()
        self._short: deque[Waiting] = deque()
        self._has_asked = asyncio.Event()
        self._has_short = asyncio.Event()
        self._recalling: frozenset[LeaseKey] = frozenset()
        self.refused_accounts: set[int] = set()
        """Of limits that a worker was refused by, for whoever takes them out (`keeper_watch`)."""

    def ask(self, session: Session, message: dict[str, Any]) -> None:
        """A worker's ask; its idle parts of these limits come along."""
        items = []
        for account, start_s, need, wish, returned, debt in message["items"]:
            session.give_back((account, start_s), returned)
            items.append(AskItem((account, start_s), need, wish, debt))
        self._asked.append((session, Ask(incarnation=session.incarnation, seq=message["seq"], items=tuple(items))))
        self._has_asked.set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._run_asked())
            tasks.create_task(self._run_short())

    async def flush(self) -> None:
        """Write what workers gave back. Raises SQLAlchemyError; then it is tried again with the next transaction."""
        if self._sessions.any_dirty():
            await self._sql.run(self._write_views, list(self._sessions.workers.values()))

    async def forget_past(self) -> None:
        """Drop what is kept of leases that SQL has no more: windows that are long over, limits that are gone."""
        sessions = list(self._sessions.workers.values())
        for session, keys in zip(sessions, await self._sql.run(self._forgotten, sessions), strict=True):
            for key in keys:
                session.returned.pop(key, None)
                session.confirmed_tight.discard(key)

    async def _run_asked(self) -> None:
        while True:
            await self._has_asked.wait()
            self._has_asked.clear()
            while self._asked:
                batch: list[Waiting] = []
                while self._asked and len(batch) < MOST_ASKS_AT_ONCE:
                    waiting = self._asked.popleft()
                    # Behind those that wait for the same limit already, or it would be spent before their eyes.
                    if self._recalling.isdisjoint(waiting[1].keys):
                        batch.append(waiting)
                    else:
                        self._short.append(waiting)
                        self._has_short.set()
                for waiting, decision in await self._decide(batch, slices=True):
                    hopeless = [shortage for shortage in decision.short if shortage.hopeless]
                    if hopeless:
                        self._refuse(waiting[0], decision, hopeless, {})
                    else:
                        self._short.append(waiting)
                        self._has_short.set()

    async def _run_short(self) -> None:
        while True:
            await self._has_short.wait()
            self._has_short.clear()
            while self._short:
                batch = [self._short.popleft() for _ in range(min(len(self._short), MOST_ASKS_AT_ONCE))]
                self._recalling = frozenset().union(*[ask.keys for _, ask in batch])
                try:
                    await self._decide_strictly(batch)
                finally:
                    self._recalling = frozenset()

    async def _decide_strictly(self, batch: list[Waiting]) -> None:
        left = batch
        in_flight: InFlight = {}
        for _ in range(MOST_ROUNDS):
            keys = {key for _, ask in left for key in ask.keys}
            loosened = self._sessions.loosened
            in_flight, were_tight = await self._sessions.recall(keys)
            short = await self._decide(left, slices=False)
            left = [waiting for waiting, _ in short]
            if not left:
                return
            if were_tight and loosened == self._sessions.loosened:
                break
        if any(shortage.elsewhere for _, decision in short for shortage in decision.short):
            await self._recall_elsewhere({s.key for _, decision in short for s in decision.short})
            short = await self._decide(left, slices=False)
        if not short:
            return
        for (session, _), decision in short:
            self._refuse(session, decision, decision.short, in_flight)

    async def _decide(self, batch: list[Waiting], *, slices: bool) -> list[tuple[Waiting, Decision]]:
        """Decide in SQL, answer those that are granted; returns the others."""
        batch = [waiting for waiting in batch if self._sessions.workers.get(waiting[1].incarnation) is waiting[0]]
        if not batch:
            return []
        decisions = await self._decide_or_try_again(batch, slices)
        if decisions is None:
            self._unavailable(batch)
            return []
        short = []
        for waiting, decision in zip(batch, decisions, strict=True):
            if decision.short:
                short.append((waiting, decision))
                continue
            session = waiting[0]
            for grant in decision.grants:
                session.grew(grant.key, tight=grant.tight)
            session.send(
                {
                    "type": "granted",
                    "seq": decision.ask.seq,
                    "leases": [[*g.key, g.amount, int(g.tight), g.settled] for g in decision.grants],
                    "refused": [],
                    "unavailable": False,
                }
            )
        return short

    async def _decide_or_try_again(self, batch: list[Waiting], slices: bool) -> list[Decision] | None:
        """The decisions, or None where the database is away. A connection that turns out to be dead is made anew."""
        for attempt in range(2):
            try:
                return await self._sql.run(self._decide_in_sql, list(self._sessions.workers.values()), batch, slices)
            except SQLAlchemyError as error:
                for session, ask in batch:  # whether it was committed is not known: what we hold is what counts
                    session.dirty.extend(ask.keys)
                if attempt or not (isinstance(error, DBAPIError) and error.connection_invalidated):
                    log.warning("limits cannot be decided", extra={"error": str(error)[:300]})
                    return None
        return None

    def _refuse(self, session: Session, decision: Decision, short: list[Shortage], in_flight: InFlight) -> None:
        """Settled figures go along: they make the worker's own refusals exact."""
        self.refused_accounts.update([each.key[0] for each in short])
        session.send(
            {
                "type": "granted",
                "seq": decision.ask.seq,
                "leases": [[*each.key, 0, None, each.settled] for each in decision.short],
                "refused": [[*each.key, *each.figures(in_flight.get(each.key, {})), each.at_most] for each in short],
                "unavailable": False,
            }
        )

    def _unavailable(self, batch: list[Waiting]) -> None:
        for session, ask in batch:
            session.send({"type": "granted", "seq": ask.seq, "leases": [], "refused": [], "unavailable": True})

    async def _recall_elsewhere(self, keys: set[LeaseKey]) -> None:
        """Other nodes hold some of it: mark the accounts and wait until their keepers have followed."""
        mark_ns = time.time_ns()
        try:
            await self._sql.run(self._mark, keys, mark_ns)
            deadline_s = asyncio.get_running_loop().time() + ELSEWHERE_TIMEOUT_S
            while asyncio.get_running_loop().time() < deadline_s:
                await asyncio.sleep(ELSEWHERE_POLL_S)
                if await self._sql.run(self._followed, keys, mark_ns):
                    return
        except SQLAlchemyError as error:
            log.warning("other nodes cannot be asked", extra={"error": str(error)[:300]})

    # -- in the SQL thread ------------------------------------------------------------------------------------------

    def _decide_in_sql(self, sessions: list[Session], batch: list[Waiting], slices: bool) -> list[Decision]:
        with self._telling_views(sessions) as connection:
            decisions = leases.decide(
                connection,
                self._node,
                [ask for _, ask in batch],
                workers=len(sessions),
                slices=slices,
                now_ns=time.time_ns(),
            )
        for (session, _), decision in zip(batch, decisions, strict=True):
            for grant in decision.grants:
                session.granted[grant.key] = session.granted.get(grant.key, 0) + grant.amount
        return decisions

    def _write_views(self, sessions: list[Session]) -> None:
        with self._telling_views(sessions):
            pass

    @contextmanager
    def _telling_views(self, sessions: list[Session]) -> Iterator[Connection]:
        """A transaction that begins with what workers gave back. In the SQL thread, where every grant that was
        committed is in `granted`: the view of another moment would take a grant back that is on its way."""
        taken = [(session, key) for session in sessions for key in _drained(session.dirty)]
        try:
            with write_transaction(self._engine) as connection:
                leases.write_views(
                    connection, [(session.incarnation, key, session.held(key)) for session, key in taken]
                )
                yield connection
        except BaseException:
            for session, key in taken:
                session.dirty.append(key)
            raise

    def _forgotten(self, sessions: list[Session]) -> list[list[LeaseKey]]:
        with self._engine.begin() as connection:
            kept = leases.keys_of(connection, self._node)
        forgotten = []
        for session in sessions:
            gone = [key for key in session.granted if key not in kept]
            for key in gone:
                del session.granted[key]
            forgotten.append(gone)
        return forgotten

    def _mark(self, keys: set[LeaseKey], mark_ns: int) -> None:
        with write_transaction(self._engine) as connection:
            leases.mark_recall(connection, keys, mark_ns)

    def _followed(self, keys: set[LeaseKey], mark_ns: int) -> bool:
        with self._engine.begin() as connection:
            return leases.recall_followed(connection, self._node, keys, mark_ns)


def _drained(queue: deque[LeaseKey]) -> set[LeaseKey]:
    """What is in the queue now; the event loop may append meanwhile."""
    return {queue.popleft() for _ in range(len(queue))}
