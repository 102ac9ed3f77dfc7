"""The keeper's part in recorded bodies: they go when their time has come, and the oldest make room for new ones."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from gateway.settings import Settings
from gateway.store import bodies

log = logging.getLogger(__name__)

LOOK_PAUSE_S: Final = 5.0
"""Workers write no more than they may, whatever happens here: this only makes room for what comes."""
EXPIRE_EVERY: Final = 12
"""Looks."""
FULL: Final = 0.9
"""Of what bodies may take: from here on the oldest go…"""
ROOMY: Final = 0.8
"""…until no more is left."""


class KeeperBodies:
    """`run` goes on until it is cancelled."""

    def __init__(self, settings: Settings) -> None:
        self._folder = settings.bodies_folder
        self._most_bytes = settings.bodies_max_bytes
        self._keep_days: Mapping[int, int] = {}
        self.size = 0
        """Bytes on the disk when last looked."""

    def configured(self, document: Mapping[str, Any]) -> None:
        """A new snapshot's document (`codec.document`)."""
        self._keep_days = {row[0]: row[-2]["keep_days"] for row in document["routes"] if row[-2] is not None}

    async def run(self) -> None:
        looks = 0
        while True:
            if self._folder.is_dir():
                try:
                    await asyncio.to_thread(self._look, expire=looks % EXPIRE_EVERY == 0)
                except OSError as error:
                    log.warning("recorded bodies wait for their removal", extra={"error": str(error)})
            looks += 1
            await asyncio.sleep(LOOK_PAUSE_S)

    def _look(self, *, expire: bool) -> None:
        if expire:
            expired = bodies.expire(self._folder, datetime.now(UTC).date(), self._keep_days)
            if expired:
                log.info("recorded bodies have expired", extra={"bytes": expired})
        self.size = bodies.size_of(self._folder)
        if self.size > FULL * self._most_bytes:
            removed = bodies.make_room(self._folder, int(ROOMY * self._most_bytes))
            self.size -= removed
            log.warning("the oldest recorded bodies made room for new ones", extra={"bytes": removed})
