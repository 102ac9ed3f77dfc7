"""`sluicegate trace`: sessions that get what happens on this host, each through a filter of its own.

    ← {"type": "trace", "id", "session", "kind", "filters": {…}}     answered with {"session"}, or with an error
    ← {"type": "untrace", "session"}                                 whoever traced has left
    → {"type": "trace", "session", "events": [event], "lost": n}     what came since the last one

Events are told in batches. `lost` counts, since the session began, what the kernel's buffer had no room for, and what
came faster than it can be told.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.probes.feature import Tell
from gateway.probes.owners import Owners
from gateway.probes.program import Program, ProgramRefused
from gateway.probes.scope import Scope
from gateway.probes.toolchain import BccMissing, load_bcc
from gateway.probes.trace_filter import Test, filter_of
from gateway.probes.trace_packets import Dns, Http
from gateway.probes.trace_sources import Connects, Event, Execs, Source

FLUSH_S: Final = 0.05
EXPIRE_S: Final = 1.0
MOST_SESSIONS: Final = 16
MOST_WAITING: Final = 2000
"""Events of a session that wait to be told: 40,000 a second pass."""


@dataclass(slots=True, eq=False)
class Session:
    """Somebody who traces."""

    number: int
    source: Source
    fits: Test
    lost_before: int
    """By the source, when it began."""
    waiting: list[Event] = field(default_factory=list)
    overrun: int = 0
    told_lost: int = 0

    def take(self, event: Event) -> None:
        if self.fits(event):
            if len(self.waiting) < MOST_WAITING:
                self.waiting.append(event)
            else:
                self.overrun += 1

    def news(self) -> dict[str, Any] | None:
        """What is to be told; None = nothing."""
        lost = self.overrun + self.source.lost - self.lost_before
        if not self.waiting and lost == self.told_lost:
            return None
        events, self.waiting, self.told_lost = self.waiting, [], lost
        return {"type": "trace", "session": self.number, "events": events, "lost": lost}


class Trace:
    """A `Feature`."""

    name = "trace"
    kinds = frozenset(("trace", "untrace"))

    def __init__(self, tell: Tell, scope: Scope) -> None:
        self._tell = tell
        owners = Owners()
        self.sources: dict[str, Source] = {kind.kind: kind(owners, scope) for kind in (Execs, Connects, Dns, Http)}
        self._sessions: dict[int, Session] = {}
        self._traced = asyncio.Event()

    @property
    def programs(self) -> Sequence[Program]:
        return [source.program for source in self.sources.values() if source.program is not None]

    def load(self) -> None:
        """Programs come with the first session."""
        load_bcc()

    def lost(self) -> Mapping[str, int]:
        return {kind: source.lost for kind, source in self.sources.items()}

    def hear(self, message: dict[str, Any], descriptors: list[int]) -> None:
        if message["type"] == "untrace":
            session = self._sessions.pop(message["session"], None)
            if session is not None:
                session.source.remove(session.take)
            return
        answer: dict[str, Any] = {"type": "answer", "id": message["id"]}
        try:
            self._begin(int(message["session"]), str(message.get("kind")), message.get("filters") or {})
            answer["said"] = {"session": message["session"]}
        except (BccMissing, ProgramRefused, OSError, ValueError, TypeError, AttributeError) as error:
            answer["error"] = str(error)
        self._tell(answer, ())

    def _begin(self, number: int, kind: str, filters: Mapping[str, Any]) -> None:
        if kind not in self.sources:
            raise ValueError(f"nothing is called {kind!r}: trace {', '.join(self.sources)}")
        if len(self._sessions) >= MOST_SESSIONS:
            raise ValueError(f"{MOST_SESSIONS} traces run already")
        source = self.sources[kind]
        session = Session(number, source, filter_of(kind, filters), source.lost)
        source.add(session.take)
        self._sessions[number] = session
        self._traced.set()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        expired_s = loop.time()
        while True:
            if not self._sessions:
                self._traced.clear()
                await self._traced.wait()
            await asyncio.sleep(FLUSH_S)
            if loop.time() - expired_s >= EXPIRE_S:
                expired_s = loop.time()
                for source in self.sources.values():
                    if source.program is not None:
                        source.expire()
            for session in self._sessions.values():
                news = session.news()
                if news is not None:
                    self._tell(news, ())
