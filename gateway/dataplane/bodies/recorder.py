"""Writes what was recorded of bodies: redacted, deflated, sealed, appended to files by day and route.

One thread a worker, behind every request's back: its event loop only puts a reference into a queue. What waits is
bounded, what is written has a bound on the disk and leaves the spool its room; what finds no place is lost and counted,
and no request ever waits or fails for it.
"""

import contextlib
import logging
import queue
import threading
import time
import zlib
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gateway.dataplane.bodies.files import BodyFiles, NoRoom
from gateway.policy.body_kinds import kind_by_bytes
from gateway.policy.body_records import Bodies, Body, day_of, folder_name
from gateway.policy.capture import MARGIN_BYTES
from gateway.wire.body_texts import Kind

if TYPE_CHECKING:
    from gateway.dataplane.bodies.capture import BodyCapture, Copy
    from gateway.dataplane.request import RequestBody
    from gateway.policy.redaction import Redactor

log = logging.getLogger("sluicegate.bodies")

MOST_HELD_BYTES: Final = 64 * 1024 * 1024
"""Of copies that are being taken or wait to be written, in one worker."""
MOST_WAITING: Final = 2_000
MOST_LENT: Final = 32
"""Files of large bodies that wait to be read: descriptors, and room on the disk that their bodies still take."""
LAST_WORDS_S: Final = 2.0
"""How long a worker that ends waits for what is still to be written."""
_REDACTORS: Final = 64
_GZIP_OR_ZLIB: Final = 47


class Recorder:
    """Of one worker. `hold`, `lend`, `lose`, `take` are the event loop's."""

    def __init__(self, folder: Path, writer: str, most_bytes: int, spare_bytes: int) -> None:
        """`writer`: the worker's part of request ids. `most_bytes`: of all bodies on the disk; `spare_bytes`: what must
        stay free there for others."""
        self.lost: Counter[str] = Counter()
        """By why: `memory`, `busy` (too many wait), `disk`, `key`, `fault`. Since the worker's start."""
        self.kept = 0
        self._files = BodyFiles(folder, writer, most_bytes, spare_bytes)
        self._held = self._released = 0  # each has one thread that changes it
        self._lent = self._returned = 0  # the same
        self._waiting: queue.SimpleQueue[BodyCapture | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._redactors: dict[tuple[str, ...], Redactor] = {}
        self._troubled = False

    def hold(self, size: int) -> bool:
        """Whether there is memory for so many bytes more; it is then taken."""
        if self._held - self._released + size > MOST_HELD_BYTES:
            self.lost["memory"] += 1
            return False
        self._held += size
        return True

    def lend(self, body: "RequestBody") -> int | None:
        """A descriptor of the file that the body lies in, until the copy is closed. None where too many wait."""
        if self._lent - self._returned < MOST_LENT:
            with contextlib.suppress(OSError):  # no more files can be opened
                descriptor = body.lend_file()
                self._lent += 1
                return descriptor
        self.lost["busy"] += 1
        return None

    def lose(self, why: str) -> None:
        self.lost[why] += 1

    def take(self, capture: "BodyCapture") -> None:
        """The request is over."""
        if self._waiting.qsize() >= MOST_WAITING:
            self.lost["busy"] += 1
            self._held -= _size(capture)
            self._lent -= capture.request.close()
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="bodies", daemon=True)
            self._thread.start()
        self._waiting.put(capture)

    def close(self) -> None:
        """Write what waits, if that does not take long."""
        if self._thread is not None:
            self._waiting.put(None)
            self._thread.join(LAST_WORDS_S)
            self._thread = None

    # -- in the thread

    def _run(self) -> None:
        while (capture := self._waiting.get()) is not None:
            try:
                self._write(capture)
                self.kept += 1
                self._troubled = False
            except NoRoom as error:
                self._tell("disk", str(error))
            except OSError as error:
                self._tell("disk", error.strerror or str(error))
            except Exception:
                log.exception("bodies of a request are lost", extra={"request_id": capture.id})
                self.lost["fault"] += 1
            finally:
                self._released += _size(capture)
                self._returned += capture.request.close()
        self._files.close()

    def _tell(self, why: str, reason: str) -> None:
        self.lost[why] += 1
        if not self._troubled:
            self._troubled = True
            log.warning("bodies are not recorded for now", extra={"reason": reason})

    def _write(self, capture: "BodyCapture") -> None:
        choice = capture.choice
        capture.request.fetch()
        redactor = self._redactor(choice.redact)
        request = _body(capture.request, choice.max_bytes, redactor, capture.secrets, wanted=choice.request)
        response = _body(capture.answer, choice.max_bytes, redactor, capture.secrets, wanted=choice.response)
        day = day_of(capture.id)
        folder = f"{day.isoformat()}/{folder_name(capture.route.id, day + timedelta(days=choice.keep_days))}"
        bodies = Bodies(
            id=capture.id,
            route=capture.route.name,
            visible_to_team=choice.visible_to_team,
            recorded_at_ms=time.time_ns() // 1_000_000,
            request=request,
            response=response,
        )
        self._files.append(folder, capture.key, bodies)

    def _redactor(self, patterns: tuple[str, ...]) -> "Redactor":
        from gateway.policy.redaction import Redactor  # loads RE2, which workers that record nothing need not

        found = self._redactors.get(patterns)
        if found is None:
            if len(self._redactors) >= _REDACTORS:
                self._redactors.clear()
            found = self._redactors[patterns] = Redactor(patterns)
        return found


def _size(capture: "BodyCapture") -> int:
    return capture.request.held_bytes + capture.answer.held_bytes


def _body(copy: "Copy", most_bytes: int, redactor: "Redactor", secrets: list[bytes], *, wanted: bool) -> Body:
    """The body as it is written."""
    shape = copy.shape
    known = Body(content_type=shape.content_type, size=copy.size)
    why_not = None
    if not wanted:
        why_not = "off"
    elif copy.tunnel:
        why_not = "tunnel"
    elif copy.size == 0:
        why_not = "empty"
    elif shape.why_not is not None:
        why_not = shape.why_not
    elif copy.busy and not copy.pieces:
        why_not = "busy"
    if why_not is not None:
        return replace(known, why_not=why_not)
    raw = b"".join(copy.pieces)
    cut = copy.size > len(raw)
    if shape.packed:
        raw, cut = _unpacked(raw, most_bytes + MARGIN_BYTES)
        if not raw:
            return replace(known, why_not="encoded")
    kind = shape.kind if shape.kind is not None else kind_by_bytes(raw)
    if kind is None or b"\0" in raw:  # UTF-16, or no text whatever its head says: no pattern would see through it
        return replace(known, why_not="binary")
    # Where memory ran out before the bound, there is no margin behind the cut: it is taken from what is there.
    most = min(most_bytes, max(0, len(raw) - MARGIN_BYTES)) if copy.busy else most_bytes
    redacted = redactor.redact(raw, kind, most, secrets)
    return replace(
        known,
        text=redacted.text,
        cut=redacted.cut or cut,
        redacted=redacted.counts,
        stream=kind in (Kind.EVENTS, Kind.LINES),
    )


def _unpacked(raw: bytes, most_bytes: int) -> tuple[bytes, bool]:
    """The beginning of what gzip or zlib packed, as far as it can be read; whether there was more."""
    inflate = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        plain = inflate.decompress(raw, most_bytes)
    except zlib.error:
        return b"", True
    return plain, not inflate.eof
