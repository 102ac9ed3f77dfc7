"""Where the kernel says which tracepoints it has (tracefs): their numbers, and where in an event each field lies.

Its place is /sys/kernel/tracing, on older hosts below /sys/kernel/debug. Few hosts without systemd have it mounted, and
only who may mount can do so: the agent does at its start, before it gives that up.
"""

import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PLACES: Final = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
FIELD: Final = re.compile(
    r"field:(?P<what>[^;]*?)(?P<name>\w+)(\[[^;]*\])?;\s*offset:(?P<offset>\d+);\s*size:(?P<size>\d+);"
)
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
"""sys/mount.h"""


class TracefsMissing(OSError):
    """Tracepoints cannot be had on this host; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Tracepoint:
    """`category:event`"""

    number: int
    offsets: dict[str, int]
    """Bytes, by field."""


def mounted() -> Path | None:
    """Where tracefs is, if it is anywhere."""
    return next((place for place in PLACES if (place / "events").is_dir()), None)


def mount() -> str | None:
    """See that it is mounted; why not, where it is not. Takes CAP_SYS_ADMIN."""
    if mounted() is not None:
        return None
    place = PLACES[0]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tracefs", bytes(place), b"tracefs", MS_NOSUID | MS_NODEV | MS_NOEXEC, None):
        return f"tracefs cannot be mounted: {os.strerror(ctypes.get_errno())}"
    return None


def tracepoint(name: str) -> Tracepoint:
    """Raises TracefsMissing."""
    place = mounted()
    if place is None:
        raise TracefsMissing(f"tracefs is not mounted: mount -t tracefs tracefs {PLACES[0]}")
    folder = place / "events" / name.replace(":", "/")
    try:
        number = int((folder / "id").read_text(encoding="ascii"))
        text = (folder / "format").read_text(encoding="ascii")
    except OSError as error:
        raise TracefsMissing(f"the tracepoint {name} cannot be read: {error.strerror}") from error
    return Tracepoint(number, {found["name"]: int(found["offset"]) for found in FIELD.finditer(text)})
