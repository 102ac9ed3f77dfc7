"""One reader of the live feed within a worker: bounded, and honest about what it has lost."""

import asyncio
from collections import deque
from typing import Any, Final

HELD: Final = 1_000
"""What a slow reader may fall behind before it loses the oldest events."""

Event = dict[str, Any]


def gap(reason: str) -> Event:
    """Tells a reader that events are missing between the ones before and after."""
    return {"type": "gap", "reason": reason}


class EventReader:
    """`put` never waits; `next` does."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque()
        self._arrived = asyncio.Event()
        self._lost = False

    def put(self, event: Event) -> None:
        if len(self._events) == HELD:
            self._events.popleft()
            self._lost = True
        self._events.append(event)
        self._arrived.set()

    async def next(self) -> Event:
        """The oldest event that waits; a `gap` first where some were lost."""
        while not self._events:
            self._arrived.clear()
            await self._arrived.wait()
        if self._lost:
            self._lost = False
            return gap("the reader was too slow")
        return self._events.popleft()


def number_of(event: Event) -> tuple[str, int]:
    """Epoch and number of an event's id; ("", 0) where it has none."""
    epoch, _, number = str(event.get("id") or "").partition("-")
    return (epoch, int(number)) if number.isdecimal() else ("", 0)
