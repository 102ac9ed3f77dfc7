"""The keeper's part in calls within TLS: whom operators chose goes to the probes, what those read goes to the findings.

→ {"type": "tls_watched", …}    of the setting `tls_watched`
← "tls_calls", "tls_coverage"   as in `gateway.probes.tls`

How far processes are read is kept for a while after their end: many a program runs for a moment.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from gateway.settings import Settings
from gateway.store import tls_calls
from gateway.store.keeper_agent import AgentFeed, Message
from gateway.store.keeper_alerts import watched_message
from gateway.store.sql_thread import SqlThread, write_transaction

log = logging.getLogger(__name__)

WRITE_PAUSE_S: Final = 1.0
MOST_COVERED: Final = 256
"""Processes; the probes tell of no more."""
MOST_ENDED: Final = 64
Who = tuple[str | None, ...]


class KeeperTls:
    """`run` is its one task. Used from the keeper's event loop."""

    def __init__(self, settings: Settings, engine: Engine, sql: SqlThread, agent: AgentFeed, node: str) -> None:
        self._engine = engine
        self._sql = sql
        self._node = node
        self._calls = tls_calls.Calls()
        self._chosen = list(settings.tls_watched)
        self._coverage: list[dict[str, Any]] = []
        self._ended: OrderedDict[Who, dict[str, Any]] = OrderedDict()
        self._missing: str | None = None
        self._troubled = False
        agent.follow("tls_calls", lambda message: self._calls.add(message["items"]))
        agent.follow("tls_coverage", self._take_coverage)
        agent.follow("probes", self._take_probes)
        agent.follow("lost", lambda _: self._forget())
        agent.tell(watched_message(settings.tls_watched) | {"type": "tls_watched"})

    def report(self) -> dict[str, Any]:
        """Who is chosen, and how far each process is read (`store.enforcement`)."""
        coverage = [*self._coverage, *reversed(self._ended.values())]
        return {"chosen": self._chosen, "coverage": coverage, "missing": self._missing}

    async def run(self) -> None:
        """For ever. Raises nothing but CancelledError: the rest of the keeper does not hang on this."""
        while True:
            await asyncio.sleep(WRITE_PAUSE_S)
            if self._calls:
                await self._write()

    async def _write(self) -> None:
        """Trouble is logged when it begins, not while it lasts."""
        taken, unplaced = self._calls.take(), self._calls.unplaced
        try:
            left = await self._sql.run(self._write_in_sql, taken)
        except (SQLAlchemyError, OSError) as error:
            if not self._troubled:
                log.error("calls within TLS wait", extra={"error": str(error)[:500]})
            self._troubled, left = True, taken
        else:
            self._troubled = False
        self._calls.put_back(left)
        if self._calls.unplaced > unplaced:
            log.warning("calls within TLS belong to no finding", extra={"calls": self._calls.unplaced - unplaced})

    def _write_in_sql(self, taken: Mapping[tls_calls.Caller, tls_calls.Sum]) -> dict[tls_calls.Caller, tls_calls.Sum]:
        with write_transaction(self._engine) as connection:
            return tls_calls.write(connection, self._node, taken)

    def _take_coverage(self, message: Message) -> None:
        """Those of which the same is to be said are said to be so many."""
        groups: dict[tuple[Any, ...], dict[str, Any]] = {}
        for item in message["items"][:MOST_COVERED]:
            try:
                read = tls_calls.coverage_item(item)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                log.warning("coverage is not understood", extra={"error": repr(error)})
                continue
            known = groups.setdefault((*_who(read), read["state"], read["reason"]), read)
            if known is not read:
                known["running"] += 1
        for item in self._coverage:
            self._ended[_who(item)] = {**item, "running": 0}
        self._coverage = list(groups.values())
        for item in self._coverage:
            self._ended.pop(_who(item), None)
        while len(self._ended) > MOST_ENDED:
            self._ended.popitem(last=False)

    def _take_probes(self, message: Message) -> None:
        self._missing = message.get("features", {}).get("tls")
        if message["state"] != "here":
            self._forget()

    def _forget(self) -> None:
        self._coverage = []
        self._ended.clear()


def _who(item: Mapping[str, Any]) -> Who:
    return item["process"], item["executable"], item["user"], item["container"]
