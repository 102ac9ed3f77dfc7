"""The settings that the supervisor itself needs, without what reads and checks settings (25 MB of imports)."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.logs import LogFormat

HANDED_DOWN: Final = "SLUICEGATE_HANDED_DOWN"
"""The variable by which a process gets exactly its parent's settings (`Settings.to_hand_down`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """Meanings: `gateway.settings.Settings`."""

    data: Path
    listen: str
    workers: int
    drain: float
    tls_cert: Path | None
    tls_key: Path | None
    log_level: str
    log_format: LogFormat
    otel: bool
    whole: str
    """All settings, as they are handed down."""

    @classmethod
    def handed_down(cls) -> "ServeSettings":
        """What `sluicegate serve` left in the environment."""
        return cls._of(os.environ.pop(HANDED_DOWN))

    def to_hand_down(self) -> dict[str, str]:
        return {HANDED_DOWN: self.whole}

    def read_again(self) -> "ServeSettings":
        """As variables and `sluicegate.toml` say now. Raises ValueError when they are not valid."""
        from gateway.settings import Settings

        present = Settings(**json.loads(self.whole))
        return self._of(present.read_again().to_hand_down()[HANDED_DOWN])

    @classmethod
    def _of(cls, whole: str) -> "ServeSettings":
        plain = json.loads(whole)
        return cls(
            data=Path(plain["data"]),
            listen=plain["listen"],
            workers=plain["workers"],
            drain=plain["drain"],
            tls_cert=_path(plain["tls_cert"]),
            tls_key=_path(plain["tls_key"]),
            log_level=plain["log_level"],
            log_format=LogFormat(plain["log_format"]),
            otel=plain["otel"],
            whole=whole,
        )


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)
