"""Recorded bodies on this node's disk: found and opened, erased before their time, removed when it has come.

A day's folder holds one for each route that recorded (`policy.body_records`); its name says until when it stays, so
that what expires needs no database. Imports little: the reporter reads bodies too.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from gateway.policy.body_records import (
    ERASED,
    FILE_HEAD_BYTES,
    FOLDER,
    HEAD,
    ID_BYTES,
    NAME,
    STATE_AT,
    Bodies,
    NotOurs,
    Opener,
    day_of,
    head_of,
    writer_of,
)

PIECE_BYTES: Final = 1 << 20
_AT: Final = HEAD.size - ID_BYTES
"""Where the id stands in a record."""


class Found(StrEnum):
    KEPT = "kept"
    ERASED = "erased"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    """Sealed to another installation's key."""


@dataclass(frozen=True, slots=True)
class Place:
    """One whole record."""

    path: Path
    offset: int
    length: int
    state: bytes


def read(folder: Path, request_id: str, private: bytes) -> tuple[Found, Bodies | None]:
    """What is recorded of a request. `private`: the installation's body key."""
    place = locate(folder, request_id)
    if place is None:
        return Found.MISSING, None
    if place.state == ERASED:
        return Found.ERASED, None
    try:
        with place.path.open("rb") as file:
            opener = Opener(private, file.read(FILE_HEAD_BYTES))
            file.seek(place.offset)
            return Found.KEPT, opener.open(file.read(place.length), place.offset)
    except FileNotFoundError:
        return Found.MISSING, None
    except NotOurs:
        return Found.UNREADABLE, None


def locate(folder: Path, request_id: str) -> Place | None:
    """Looks through the files of the one worker that served it, of the one day: those first that were not full before
    it came, for as long as clocks are right."""
    try:
        day, begun_ms = day_of(request_id).isoformat(), int(request_id[:12], 16)
    except (ValueError, OverflowError, OSError):
        return None
    likely: list[Path] = []
    others: list[Path] = []
    for route in (folder / day).glob("*-until-*"):
        files = sorted(route.glob(f"{writer_of(request_id)}-*.bodies"), key=lambda path: path.name)
        for at, path in enumerate(files):
            full_before = at + 1 < len(files) and _begun_ms(files[at + 1]) < begun_ms
            (others if full_before else likely).append(path)
    for path in likely + others:
        try:
            place = _locate_in(path, request_id.encode())
        except FileNotFoundError:
            continue
        if place is not None:
            return place
    return None


def erase(folder: Path, request_id: str) -> bool:
    """Overwrite what is recorded of a request. False: there was nothing."""
    place = locate(folder, request_id)
    if place is None or place.state == ERASED:
        return False
    with place.path.open("r+b") as file:
        file.seek(place.offset + STATE_AT)
        file.write(ERASED)
        file.seek(place.offset + HEAD.size)
        file.write(bytes(place.length - HEAD.size))
        file.flush()
        os.fsync(file.fileno())
    return True


def erase_route(folder: Path, route_id: int) -> int:
    """Remove all that was recorded for a route. Returns how many bytes went. A worker that is writing to one of the
    files begins another."""
    return sum(_remove(each) for each in folder.glob(f"*/{route_id}-until-*"))


def expire(folder: Path, today: date, keep_days: Mapping[int, int]) -> int:
    """Remove what has stayed as long as it was to, or as its route says now where that is shorter. Returns how many
    bytes went. `keep_days`: by id of the routes that record today."""
    removed = 0
    for route, day, route_id, until in _folders(folder):
        keep = keep_days.get(route_id)
        if keep is not None:
            until = min(until, day + timedelta(days=keep))
        if today > until:
            removed += _remove(route)
    _remove_empty(folder)
    return removed


def make_room(folder: Path, most_bytes: int) -> int:
    """Remove the oldest files until no more than `most_bytes` are left. Returns how many bytes went."""
    files = sorted(_files(folder), key=lambda each: (each[0].parts[-3], _begun_ms(each[0])))
    total = sum(size for _, size in files)
    removed = 0
    for path, size in files:
        if total - removed <= most_bytes:
            break
        path.unlink(missing_ok=True)
        removed += size
    if removed:
        for route, *_ in _folders(folder):
            _rmdir(route)
        _remove_empty(folder)
    return removed


def size_of(folder: Path) -> int:
    """Bytes of all recorded bodies."""
    return sum(size for _, size in _files(folder))


def size_of_route(folder: Path, route_id: int) -> int:
    return sum(_size(each) for each in folder.glob(f"*/{route_id}-until-*"))


def _locate_in(path: Path, wanted: bytes) -> Place | None:
    """Piece by piece: what else runs in this process goes on meanwhile."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(descriptor).st_size
        offset = FILE_HEAD_BYTES
        while offset < size:
            piece = os.pread(descriptor, PIECE_BYTES + ID_BYTES, offset)
            at = piece.find(wanted)
            while at >= 0:
                place = _place(path, descriptor, offset + at - _AT, size, wanted)
                if place is not None:
                    return place
                at = piece.find(wanted, at + 1)
            offset += PIECE_BYTES
        return None
    finally:
        os.close(descriptor)


def _place(path: Path, descriptor: int, offset: int, size: int, wanted: bytes) -> Place | None:
    if offset < FILE_HEAD_BYTES:
        return None
    head = head_of(os.pread(descriptor, HEAD.size, offset), size - offset)
    if head is None or head.id != wanted:
        return None
    return Place(path, offset, head.length, head.state)


def _begun_ms(path: Path) -> int:
    found = NAME.fullmatch(path.name)
    return int(found[2], 16) if found else 0


def _folders(folder: Path) -> Iterator[tuple[Path, date, int, date]]:
    """Folder, day, route's id, last day."""
    for route in folder.glob("*/*-until-*"):
        found = FOLDER.fullmatch(route.name)
        if found is None:
            continue
        try:
            yield route, date.fromisoformat(route.parent.name), int(found[1]), date.fromisoformat(found[2])
        except ValueError:
            continue


def _files(folder: Path) -> Iterator[tuple[Path, int]]:
    return _sized(folder.glob("*/*/*.bodies"))


def _size(route: Path) -> int:
    return sum(size for _, size in _sized(route.glob("*.bodies")))


def _sized(paths: Iterable[Path]) -> Iterator[tuple[Path, int]]:
    for path in paths:
        try:
            yield path, path.stat().st_size
        except FileNotFoundError:
            continue


def _remove(route: Path) -> int:
    size = _size(route)
    shutil.rmtree(route, ignore_errors=True)
    return size


def _remove_empty(folder: Path) -> None:
    for day in folder.glob("????-??-??"):
        _rmdir(day)


def _rmdir(folder: Path) -> None:
    try:
        folder.rmdir()
    except OSError:
        return  # there is something in it
