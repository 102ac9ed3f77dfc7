"""The keeper's part in active health checks: it appoints the worker that asks, and tells all who is down."""

import logging
from typing import Any

from gateway.store.keeper_events import EventFeed
from gateway.store.keeper_sessions import Session, Sessions

log = logging.getLogger(__name__)


class ProviderChecks:
    """What the appointed worker said last."""

    def __init__(self, sessions: Sessions, feed: EventFeed) -> None:
        self._sessions = sessions
        self._feed = feed
        self._appointed: Session | None = None
        self.providers: list[dict[str, Any]] = []
        """One for each provider with a check (`dataplane.checks`)."""

    @property
    def down(self) -> list[str]:
        return sorted(one["provider"] for one in self.providers if not one["healthy"])

    def came(self, session: Session) -> None:
        """A worker's connection begins; it starts from what is known."""
        session.send({"type": "down", "providers": self.down})
        session.send({"type": "appointed", "on": False})
        self._appoint()

    def left(self, session: Session) -> None:
        if session is self._appointed:
            self._appointed = None
            self._appoint()

    def take(self, session: Session, providers: list[dict[str, Any]]) -> None:
        """Results; of one that is no longer appointed they come too late."""
        if session is not self._appointed:
            return
        before, known = self.down, {one["provider"] for one in self.providers}
        self.providers = providers
        down = self.down
        if down == before:
            return
        for worker in self._sessions.workers.values():
            worker.send({"type": "down", "providers": down})
        for one in providers:
            if (one["provider"] in down) != (one["provider"] in before) and one["provider"] in known:
                state = "healthy" if one["healthy"] else "unhealthy"
                log.warning("provider is %s", state, extra={"provider": one["provider"], "reason": one["reason"]})
                self._feed.add([{"type": "provider", "provider": one["provider"], "state": state}])

    def report(self) -> dict[str, Any]:
        """What `/api/v1/telemetry/health` shows: the checks, and what each worker avoids by itself."""
        return {
            "providers": self.providers,
            "checked_by": self._appointed.program if self._appointed else None,
            "workers": [
                {
                    "worker": session.program,
                    "pid": session.pid,
                    "cooling": session.condition.get("cooling", []),
                    "aside": session.condition.get("aside", []),
                }
                for session in self._sessions.workers.values()
            ],
        }

    def _appoint(self) -> None:
        if self._appointed is None:
            for session in self._sessions.workers.values():
                if not session.leaves:
                    self._appointed = session
                    session.send({"type": "appointed", "on": True})
                    return
