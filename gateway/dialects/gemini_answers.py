"""What Gemini's answers tell of tokens: plain, streamed as events (`alt=sse`), streamed as a JSON array.

Each event of a stream tells the usage so far, the last one that of the whole (ai.google.dev/api/generate-content).
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import orjson

from gateway.dialects.base import Call
from gateway.dialects.metering import (
    AnswerMeter,
    StreamMeter,
    as_count,
    as_report,
    as_text,
    event_document,
    last_finish,
)
from gateway.dialects.partial_document import PartialDocument
from gateway.policy.usage import Usage
from gateway.wire.json_array import JsonArrayScanner
from gateway.wire.sse import PLAIN_ENDS, split_events

_CANDIDATES: Final = b'"candidates"'
_FINISH: Final = b'"finishReason"'
_BLOCKED: Final = b'"blockReason"'
_USAGE: Final = b'"usageMetadata"'
_SPACE: Final = b" \t\r\n"
_MEMBERS: Final = ("usageMetadata", "modelVersion", "promptFeedback")


def read_usage(report: Mapping[str, Any]) -> Usage | None:
    """`usageMetadata`. The prompt includes what was cached; what built-in tools put into it counts beside it, and so
    do thoughts beside the candidates: the ledger counts both within. None if it counts nothing."""
    prompt, spoken = as_count(report.get("promptTokenCount")), as_count(report.get("candidatesTokenCount"))
    if prompt is None and spoken is None and as_count(report.get("totalTokenCount")) is None:
        return None
    thoughts = as_count(report.get("thoughtsTokenCount")) or 0
    return Usage(
        input_tokens=(prompt or 0) + (as_count(report.get("toolUsePromptTokenCount")) or 0),
        cached_tokens=as_count(report.get("cachedContentTokenCount")) or 0,
        output_tokens=(spoken or 0) + thoughts,
        reasoning_tokens=thoughts,
    )


def finishes(document: Mapping[str, Any]) -> list[str]:
    """Why each candidate that ends here ends; or why the prompt was refused."""
    found: list[str] = []
    candidates = document.get("candidates")
    if isinstance(candidates, list):
        for candidate in candidates:
            reason = candidate.get("finishReason") if isinstance(candidate, dict) else None
            if isinstance(reason, str | int):  # a number where the caller asked for `enum-encoding=int`
                found.append(str(reason))
    blocked = as_report(document.get("promptFeedback")).get("blockReason")
    if isinstance(blocked, str | int):
        found.append(str(blocked))
    return found


class GeminiAnswerMeter(AnswerMeter):
    """Generated content, and embeddings (which mostly tell no usage)."""

    members = _MEMBERS

    def learn(self, document: dict[str, Any]) -> None:
        self.model = as_text(document.get("modelVersion"))
        ends = finishes(document)
        self.finish_reason = ends[0] if ends else None
        report = document.get("usageMetadata")
        if isinstance(report, dict):
            self.usage = read_usage(report)


class _Progress:
    """What the events of a stream have told so far, taken together."""

    __slots__ = ("_choices", "_ends", "finish_reason", "model", "report", "usage")

    def __init__(self, choices: int) -> None:
        self._choices = choices
        self._ends = 0
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.report: dict[str, Any] = {}
        self.usage: Usage | None = None
        """None until an event tells of output: the prompt alone is not what the answer used."""

    def learn(self, document: Mapping[str, Any], finish: str | None = None) -> None:
        """One event. `finish`: why the answer ended, where the event was too long to be decoded."""
        if self.model is None:
            self.model = as_text(document.get("modelVersion"))
        ends = finishes(document) or ([finish] if finish else [])
        if ends:
            self._ends += len(ends)
            if self._ends >= self._choices:
                self.finish_reason = ends[-1]
        report = document.get("usageMetadata")
        if isinstance(report, dict):
            self.report.update(report)
            if ends or "candidatesTokenCount" in report or "thoughtsTokenCount" in report:
                self.usage = read_usage(self.report) or self.usage

    def estimate(self, call: Call, events: int) -> Usage:
        """The input as told, if it was; an output token an event at least."""
        if events == 0:
            return Usage()
        told = read_usage(self.report)
        if told is None:
            return Usage(input_tokens=call.input_estimate, output_tokens=events)
        told.output_tokens = max(told.output_tokens, events)
        return told


class GeminiStreamMeter(StreamMeter):
    """`alt=sse`. Only the first event, those that end a candidate and the last that tells usage are decoded."""

    __slots__ = ("_last", "_progress")

    usage_member: ClassVar[str] = "usageMetadata"

    def __init__(self, call: Call) -> None:
        self._progress = _Progress(call.choices)
        self._last: bytes | None = None
        """The last events that told usage and were not yet decoded."""
        super().__init__(call, lines=2)

    @property
    def usage(self) -> Usage | None:
        self._catch_up()
        return self._progress.usage

    @usage.setter
    def usage(self, told: Usage | None) -> None:
        self._progress.usage = told

    def read_usage(self, report: Mapping[str, Any]) -> Usage | None:
        self._last = None
        self._progress.report.update(report)
        return read_usage(self._progress.report)

    def feed(self, piece: bytes) -> bytes | None:
        if self._held is None and self.model and piece.endswith(PLAIN_ENDS) and not _ends_something(piece):
            self.events += piece.count(_CANDIDATES)
            if piece.find(_USAGE) >= 0:
                self._last = piece
            return None
        return super().feed(piece)

    def read_event(self, event: bytes) -> bool:
        self.events += event.count(_CANDIDATES)
        tells = event.find(_USAGE) >= 0
        if self.model and not _ends_something(event):
            if tells:
                self._last = event
            return False
        document = event_document(event)
        if document is not None:
            if tells:
                self._last = None
            self._progress.learn(document)
            self.model = self._progress.model
            self.finish_reason = self._progress.finish_reason
        return False

    def _read_overlong(self, tail: bytes) -> None:
        events = self.events
        super()._read_overlong(tail)
        self.events = events + 1  # its candidates are what made it long
        self.finish_reason = last_finish(tail[-4096:]) or self.finish_reason

    def _catch_up(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            event = next(event for event in reversed(split_events(last)) if event.find(_USAGE) >= 0)
            document = event_document(event)
            if document is not None:
                self._progress.learn(document)

    def estimate(self) -> Usage:
        self._catch_up()
        return self._progress.estimate(self._call, self.events)


def _ends_something(events: bytes) -> bool:
    return events.find(_FINISH) >= 0 or events.find(_BLOCKED) >= 0


class GeminiArrayMeter:
    """A stream without `alt=sse`: one JSON array, an element an event, in pieces that may end anywhere."""

    __slots__ = ("_call", "_element", "_progress", "_scanner", "events")

    def __init__(self, call: Call) -> None:
        self.events = 0
        self._call = call
        self._element: PartialDocument | None = None
        self._progress = _Progress(call.choices)
        self._scanner = JsonArrayScanner()

    @property
    def usage(self) -> Usage | None:
        return self._progress.usage

    @property
    def finish_reason(self) -> str | None:
        return self._progress.finish_reason

    @property
    def model(self) -> str | None:
        return self._progress.model

    def feed(self, piece: bytes) -> bytes | None:
        if self._scanner.between and self._feed_one(piece):
            return None
        for span in self._scanner.feed(piece):
            if self._element is None:
                self._element = PartialDocument(_MEMBERS)
            self._element.feed(piece[span.start : span.end])
            if span.ends:
                element, self._element = self._element, None
                self._read(element)
        return None

    def _feed_one(self, piece: bytes) -> bool:
        """As most servers send: one element with the comma before it. False: the scanner must look at the piece."""
        text = piece.strip(_SPACE).removeprefix(b",").lstrip(_SPACE)
        if not text.endswith(b"}"):
            return False
        try:
            document = orjson.loads(text)
        except orjson.JSONDecodeError:
            return False
        if not isinstance(document, dict):
            return False
        self._scanner.count += 1
        self._learn(document, None)
        return True

    def _read(self, element: PartialDocument) -> None:
        document = element.close()
        if document is not None:
            self._learn(document, element.finish if element.whole is None else None)
            if element.whole is None:
                self.events += 1  # its candidates are what made it long

    def _learn(self, document: dict[str, Any], finish: str | None) -> None:
        if document.get("candidates"):
            self.events += 1
        self._progress.learn(document, finish)

    def end(self) -> bytes:
        return b""

    def estimate(self) -> Usage:
        return self._progress.estimate(self._call, self.events)

    def last_element(self, element: bytes) -> bytes:
        """What ends the array, as it was passed on so far, with one more element; b"" where it broke off within one."""
        if not self._scanner.opened and not self._scanner.lost:
            return b"[%b]\n" % element
        if not self._scanner.between:
            return b""
        return b"%b\n%b]\n" % (b"," if self._scanner.count else b"", element)
