"""An operator's catalogue of AI providers, in place of the shipped one: `ai-providers.json` in the data folder.

`{"providers": {NAME: {"title": …, "hosts": […]}}}`, a host with a leading dot standing for all names below it. It is
read again when it changes; without the file the probes keep the catalogue that they are shipped with.
"""

import json
import logging
from pathlib import Path
from typing import Any, Final

log = logging.getLogger(__name__)

FILE: Final = "ai-providers.json"
MOST_BYTES: Final = 4 * 1024 * 1024
MOST_HOSTS: Final = 20_000


class Catalogue:
    """Blocks on the disk: read it in a thread."""

    def __init__(self, data: Path) -> None:
        self._path = data / FILE
        self._seen: tuple[int, int, int] | None = None

    def read_if_changed(self) -> dict[str, dict[str, Any]] | None:
        """What is to be told: a new catalogue, empty (= the shipped one) where the file is gone; None = nothing new. A
        file that is none is logged once, and the one before stays."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            gone, self._seen = self._seen is not None, None
            return {} if gone else None
        mark = (found.st_mtime_ns, found.st_size, found.st_ino)
        if mark == self._seen:
            return None
        self._seen = mark
        try:
            return catalogue_of(self._path.read_bytes())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.error(
                "the catalogue of AI providers is not understood", extra={"file": str(self._path), "error": str(error)}
            )
            return None


def catalogue_of(content: bytes) -> dict[str, dict[str, Any]]:
    """Raises ValueError, KeyError, TypeError and AttributeError for what is none."""
    if len(content) > MOST_BYTES:
        raise ValueError(f"it is larger than {MOST_BYTES} bytes")
    providers = json.loads(content)["providers"]
    found = {
        str(name): {"title": str(each.get("title", name)), "hosts": [_host(host) for host in each["hosts"]]}
        for name, each in providers.items()
    }
    if sum(len(each["hosts"]) for each in found.values()) > MOST_HOSTS:
        raise ValueError(f"it has more than {MOST_HOSTS} hosts")
    return found


def _host(given: Any) -> str:
    if not isinstance(given, str) or not given.isascii() or not given or len(given) > 254 or " " in given:
        raise ValueError(f"{given!r} is no host")
    return given.lower().removesuffix(".")
