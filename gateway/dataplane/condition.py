"""What a worker tells the keeper of itself, once a second: what it avoids, what it holds, what it had to turn away.

Read from state that the data plane keeps anyway; no request does anything for it.
"""

import asyncio
from typing import TYPE_CHECKING, Any, Final

from gateway.dataplane.keeper_link import KeeperLink

if TYPE_CHECKING:
    from gateway.dataplane.plane import Plane

PAUSE_S: Final = 1.0


def condition_of(plane: "Plane", now_s: float) -> dict[str, Any]:
    """The message. `cooling`: targets that get no request but a trial; `aside`: (provider, credential) that were
    refused or limited; `closed`: rows that this worker has ended; `connections`: of clients; `bodies_lost`: recorded
    ones that found no place, by why, since its start."""
    return {
        "type": "condition",
        "cooling": [*{*plane.health.cooling_targets(now_s), *_down(plane)}],
        "aside": plane.health.credentials_aside(now_s),
        "closed": plane.spool.closed,
        "connections": len(plane.connections),
        "bodies_lost": dict(plane.recorder.lost),
    }


def _down(plane: "Plane") -> list[str]:
    """Targets of providers that active checks found down, asked for or not."""
    down = plane.health.down
    if not down:
        return []
    targets = (target for route in plane.snapshot.routes.values() for target in route.targets)
    return [target.name for target in targets if target.provider.name in down]


def tell_rejected(plane: "Plane", link: KeeperLink) -> None:
    """Requests without a row since the last time. While the keeper is away they wait here."""
    if plane.counted and link.connected:
        link.tell_rejected(dict(plane.counted))
        plane.counted.clear()


async def report(plane: "Plane", link: KeeperLink) -> None:
    """For ever."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(PAUSE_S)
        tell_rejected(plane, link)
        link.send(condition_of(plane, loop.time()))
