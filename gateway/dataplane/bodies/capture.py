"""The copies that one exchange takes of its bodies while they pass, each bounded.

Nothing of this exists for requests of routes without `capture`. For those with it the answer is one that copies what it
writes, so that every dialect, HTTP routes and errors of our own are recorded at the one place that all of them pass.
"""

import logging
import os
import re
from typing import TYPE_CHECKING, Final

from gateway.dataplane.relay import ClientAnswer
from gateway.policy.body_kinds import Shape, shape_of
from gateway.policy.capture import MARGIN_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gateway.dataplane.bodies.recorder import Recorder
    from gateway.dataplane.request import RequestBody
    from gateway.policy.capture import Capture
    from gateway.policy.model import Route
    from gateway.policy.snapshot import Snapshot

log = logging.getLogger("sluicegate.bodies")

_TYPE: Final = re.compile(rb"^content-type:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
_CODING: Final = re.compile(rb"^content-encoding:[ \t]*([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


class Copy:
    """The beginning of one body."""

    __slots__ = ("_lent", "_recorder", "_room", "busy", "held_bytes", "pieces", "shape", "size", "tunnel")

    def __init__(self, recorder: "Recorder", most_bytes: int) -> None:
        """`most_bytes` 0: it is counted and not kept."""
        self._recorder = recorder
        self._room = most_bytes + MARGIN_BYTES if most_bytes else 0
        self._lent: int | None = None
        """Descriptor of the file from which the `held_bytes` are still to be read."""
        self.busy = False
        """There was no memory for more of it."""
        self.held_bytes = 0
        """What it has of the recorder's memory."""
        self.pieces: list[bytes] = []
        self.shape = Shape()
        self.size = 0
        self.tunnel = False

    def describe(self, content_type: bytes, coding: bytes) -> None:
        """What its head says of it. What is no text is not kept."""
        self.shape = shape_of(content_type, coding)
        if self.shape.why_not is not None:
            self._room = 0

    def add(self, piece: bytes) -> None:
        self.size += len(piece)
        if self._room <= 0 or not piece:
            return
        if len(piece) > self._room:
            piece = piece[: self._room]
        if self._hold(len(piece)):
            self.pieces.append(piece)

    def add_body(self, body: "RequestBody") -> None:
        """What is still there of a request's body that was not taken piece by piece. A file is lent, to be read by the
        recorder's thread: the disk may be slow."""
        if self._room > 0 and not body.in_file:
            self.add(body.beginning(self._room))
        elif self._room > 0 and self._hold(min(self._room, body.size)):
            self._lent = self._recorder.lend(body)
            self.busy = self._lent is None
        self.size = max(self.size, body.size)

    def fetch(self) -> None:
        """Read what was lent. In the recorder's thread. Raises OSError."""
        descriptor, offset = self._lent, 0
        if descriptor is None:
            return
        while offset < self.held_bytes and (piece := os.pread(descriptor, self.held_bytes - offset, offset)):
            self.pieces.append(piece)
            offset += len(piece)

    def close(self) -> bool:
        """Give back what was lent. Whether anything was."""
        if self._lent is None:
            return False
        os.close(self._lent)
        self._lent = None
        return True

    def _hold(self, size: int) -> bool:
        if not self._recorder.hold(size):
            self.busy, self._room = True, 0
            return False
        self.held_bytes += size
        self._room -= size
        return True


class BodyCapture:
    """Of one exchange."""

    __slots__ = ("_recorder", "answer", "choice", "id", "key", "request", "request_taken", "route", "secrets")

    def __init__(self, recorder: "Recorder", route: "Route", choice: "Capture", key: bytes, request_id: str) -> None:
        self._recorder = recorder
        self.route = route
        self.choice = choice
        self.key = key
        self.id = request_id
        self.request = Copy(recorder, choice.max_bytes if choice.request else 0)
        self.answer = Copy(recorder, choice.max_bytes if choice.response else 0)
        self.request_taken = False
        """Its pieces were added while they went upstream."""
        self.secrets: list[bytes] = []
        """Texts that may not be written whatever they look like: the caller's key, the provider's credentials."""

    def add_request(self, piece: bytes) -> None:
        self.request_taken = True
        self.request.add(piece)

    def end(self, headers: "Iterable[tuple[bytes, bytes]]", body: "RequestBody", status: int) -> None:
        """The request is settled and its body still there: the recorder's thread has the rest to do."""
        try:
            self._complete(headers, body, status)
        except Exception:  # whatever it is, the request's own end goes on
            log.exception("bodies of a request may lack something", extra={"request_id": self.id})
            self._recorder.lose("fault")
        self._recorder.take(self)

    def _complete(self, headers: "Iterable[tuple[bytes, bytes]]", body: "RequestBody", status: int) -> None:
        self.request.tunnel = self.answer.tunnel = status == 101
        named = dict(headers)
        self.request.describe(named.get(b"content-type", b""), named.get(b"content-encoding", b""))
        if not self.request_taken:
            self.request.add_body(body)
        for name in (b"authorization", b"x-api-key", b"x-goog-api-key", b"proxy-authorization"):
            self.secrets += named.get(name, b"").split()
        for target in self.route.targets:
            self.secrets += [each.secret.encode() for each in target.provider.credentials]


class CapturedAnswer(ClientAnswer):
    """A `ClientAnswer` that keeps a copy of the payload. No lane goes past it."""

    def __init__(self, instead_of: ClientAnswer, copy: Copy) -> None:
        vars(self).update(vars(instead_of))
        self._copy = copy

    @property
    def takes_chunks(self) -> bool:
        return False  # what flows past `write` would not be seen

    def whole(self, status: int, lines: list[bytes], body: bytes) -> None:
        self._describe(lines)
        if not self.head_only and status not in (204, 304):
            self._copy.add(body)
        super().whole(status, lines, body)

    def start(self, status: int, lines: list[bytes], length: int | None) -> bytes:
        self._describe(lines)
        return super().start(status, lines, length)

    def write(self, payload: bytes, head: bytes = b"", framed: bytes | None = None) -> None:
        if not self.head_only:
            self._copy.add(payload)
        super().write(payload, head, framed)

    def _describe(self, lines: list[bytes]) -> None:
        head = b"".join(lines)
        kind, coding = _TYPE.search(head), _CODING.search(head)
        self._copy.describe(kind[1] if kind else b"", coding[1] if coding else b"")


def capture_of(recorder: "Recorder", route: "Route", snapshot: "Snapshot", request_id: str) -> BodyCapture | None:
    """What takes the copies for a request on a route with `capture`; None where it is not in the sample."""
    choice = route.capture
    if choice is None or not choice.takes(request_id):
        return None
    if snapshot.body_key is None:
        recorder.lose("key")
        return None
    return BodyCapture(recorder, route, choice, snapshot.body_key, request_id)
