"""What a route records of its requests' bodies: nothing, unless its operator has turned that on."""

import zlib
from dataclasses import dataclass
from typing import Final

MOST_BYTES: Final = 1024 * 1024
"""Of one body: what `max_bytes` may say."""
MARGIN_BYTES: Final = 8 * 1024
"""Looked at beyond `max_bytes`, so that what begins before the cut is found whole."""
MOST_PATTERNS: Final = 32
LONGEST_PATTERN: Final = 500
LONGEST_KEEP_DAYS: Final = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """One route's choice."""

    request: bool = True
    response: bool = True
    sample: float = 1.0
    """Share of the requests, above 0 and at most 1."""
    max_bytes: int = 64 * 1024
    """Kept of one body; what is longer is cut."""
    keep_days: int = 7
    redact: tuple[str, ...] = ()
    """Regular expressions (RE2) of the operator's, beside what is redacted anyway (`redaction`)."""
    visible_to_team: bool = False
    """Whether people of the app's team may read them, too."""

    def takes(self, request_id: str) -> bool:
        """Whether this request is in the sample. Decided by its id alone, so that it can be told later why not."""
        return self.sample >= 1.0 or zlib.crc32(request_id.encode()) < self.sample * 2**32
